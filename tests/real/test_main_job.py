"""The main job on a real process: `run.py`, two editors who signed in, a comment over REST, and another program."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httputil import parse_cookie

from tests.editor import Editor

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A `run.py` with demo users."""

    def __init__(self, popen: subprocess.Popen[str], url: str) -> None:
        self.popen, self.url = popen, url

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait; the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout=15)


def _start(data_dir: Path) -> Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COPYDESK_")}
    popen = subprocess.Popen(
        [sys.executable, "run.py", "--demo", "--port", "0", "--data-dir", str(data_dir)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert popen.stdout is not None
    line = popen.stdout.readline()
    assert line.startswith("listening on http://"), line
    return Process(popen, line.removeprefix("listening on ").strip())


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A running server; ended with the test if the test did not end it."""
    running = _start(tmp_path)
    yield running
    if running.popen.poll() is None:
        running.stop()
    if running.popen.stdout is not None:
        running.popen.stdout.close()
    AsyncHTTPClient().close()


async def _fetch(url: str, method: str = "GET", body: Any = None, **headers: str) -> HTTPResponse:
    return await AsyncHTTPClient().fetch(
        url,
        method=method,
        headers={"Content-Type": "application/json", **headers},
        body=None if body is None else json.dumps(body),
        raise_error=False,
    )


async def _signed_in(process: Process, user: str) -> tuple[Editor, dict[str, str]]:
    """An editor with a session cookie, as a browser has it, and the headers of that browser."""
    answer = await _fetch(
        f"{process.url}/api/v1/session", "POST", {"username": user, "password": f"{user}-demo"}, Origin=process.url
    )
    assert answer.code == 201, answer.body
    name, value = next(iter(parse_cookie(answer.headers["Set-Cookie"]).items()))
    browser = {"Cookie": f"{name}={value}", "Origin": process.url}
    return await Editor.connect(process.url, headers=browser), browser


async def test_a_comment_and_a_foreign_write_arrive_at_the_other_editor(process: Process, tmp_path: Path) -> None:
    alice, alices_browser = await _signed_in(process, "alice")
    bob, bobs_browser = await _signed_in(process, "bob")
    project = f"{process.url}/api/v1/projects/demo-spring"
    for editor in (alice, bob):
        await editor.subscribe("project:demo-spring")

    posted = await _fetch(f"{project}/comments", "POST", {"body": "Over REST"}, **alices_browser)
    assert posted.code == 201, posted.body
    over_rest = json.loads(posted.body)["id"]
    # The way another program of the same machine finds the embedded MongoDB.
    port = (tmp_path / "mongod.port").read_text().strip()
    with pymongo.MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}/?directConnection=true") as other_program:
        other_program.copydesk.comments.insert_one(
            {
                "_id": "from-outside",
                "project_id": "demo-spring",
                "body": "From another program",
                "author": "import",
                "created_at": datetime.now(UTC),
            }
        )
    for comment in (over_rest, "from-outside"):
        event = await bob.until_event("project:demo-spring", kind="comment", id=comment)
        read = await _fetch(f"{project}/comments/{comment}", **bobs_browser)
        assert event["doc"] == json.loads(read.body)
        assert await alice.until_event("project:demo-spring", kind="comment", id=comment) == event
    await alice.close()
    await bob.close()


async def test_ctrl_c_ends_it_cleanly_and_a_second_start_finds_its_data(tmp_path: Path) -> None:
    first = _start(tmp_path)
    editor, browser = await _signed_in(first, "bob")
    made = await _fetch(f"{first.url}/api/v1/projects", "POST", {"name": "Kept"}, **browser)
    project = json.loads(made.body)["id"]
    assert await asyncio.to_thread(first.stop) == 0
    assert (await asyncio.wait_for(editor.closed, 10))[0] == 4000
    await editor.close()

    second = _start(tmp_path)
    try:
        editor, browser = await _signed_in(second, "bob")
        found = await _fetch(f"{second.url}/api/v1/projects/{project}", **browser)
        assert json.loads(found.body)["name"] == "Kept"
        await editor.close()
    finally:
        assert await asyncio.to_thread(second.stop) == 0
        for process in (first, second):
            if process.popen.stdout is not None:
                process.popen.stdout.close()
        AsyncHTTPClient().close()


async def test_a_server_that_is_told_to_end_sends_its_clients_elsewhere(process: Process) -> None:
    editor, _ = await _signed_in(process, "bob")
    await editor.subscribe("projects")
    assert await asyncio.to_thread(process.stop, signal.SIGTERM) == 0
    assert (await asyncio.wait_for(editor.closed, 10))[0] == 4000
    assert 0 <= (await editor.next_push("drain"))["reconnect_in_ms"] <= 8000
    await editor.close()
