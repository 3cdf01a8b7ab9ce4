"""The process around the server: when it ends, and with which exit code."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from app import process
from app.settings import Settings
from tests.conftest import Copydesk


class Server:
    """Starts at once, and does nothing."""

    url = "http://127.0.0.1:0"

    def __init__(self) -> None:
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.stops = 0

    async def start(self) -> None:
        pass

    async def stop(self, *, drain_seconds: float = 0.0) -> None:
        self.stops += 1


async def test_a_server_that_failed_ends_its_process_with_an_error() -> None:
    server = Server()
    server.failed.set_result(RuntimeError("the feed died"))
    assert await process._serve_on(Settings(auth_secret="s" * 32), server, asyncio.Queue()) == 1
    assert server.stops == 1


async def test_a_server_that_is_told_to_end_ends_its_process_without_one() -> None:
    server, signals = Server(), asyncio.Queue[signal.Signals]()
    running = asyncio.ensure_future(process._serve_on(Settings(auth_secret="s" * 32), server, signals))
    await signals.put(signal.SIGTERM)
    assert await running == 0
    assert server.stops == 1


async def test_a_feed_that_dies_fails_the_whole_server(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(_changes: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(copydesk.server._relay, "_publish", break_down)
    await copydesk.database.comments.insert_one({"_id": "c"})
    error = await asyncio.wait_for(asyncio.shield(copydesk.server.failed), 20)
    assert str(error) == "a defect"


BEFORE_THE_LOOP = """
import asyncio, gc
from app import process
from app.settings import Settings

def run(serving):
    serving.close()
    print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0])
    return 0

asyncio.run = run
process.serve(Settings(auth_secret="s" * 32), None)
"""


def test_a_server_does_not_search_for_cycles_in_what_was_imported() -> None:
    """In a process of its own: what is frozen here could not be searched for leaks by other tests."""
    told = subprocess.run([sys.executable, "-c", BEFORE_THE_LOOP], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", str(process.COLLECT_AFTER)]
