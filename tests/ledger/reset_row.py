"""One more fault: everybody has to read again at the same moment, and the process stays there for the others."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from app.live import RESET_SPREAD_SECONDS
from models.snapshot import INBOX_ENTRIES
from tests.ledger import ledger
from tests.ledger.ledger import Findings
from tests.ledger.measured import percentile
from tests.ledger.replica_set import ReplicaSet
from tests.ledger.result import Figures, Result, Size, result
from tests.ledger.shapes import foreign_comment
from tests.ledger.stage import Stage, stage

MENTIONS = 30
"""Entries of the inbox that everybody reads again; each reads for themselves, unlike a project, which is read once."""
CALM_SECONDS = 2.0
BUCKET_SECONDS = 0.1
PROFILE_BYTES = 32 * 2**20


async def resets(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """MongoDB says that history is lost while `size.times` clients listen to two projects and an inbox each."""
    with members.alone() as alone:
        async with stage(alone, folder, seed=seed, servers=1) as on:
            topics = [f"project:{on.open_project}", f"project:{on.private_project}", "inbox"]
            on.editors += [on.editor(f"member-{number}", "member", topics) for number in range(size.times)]
            for editor in on.editors:
                editor.start()
            await on.until(lambda: _settled(on), "everybody to be connected")
            await on.database.comments.insert_many(
                [foreign_comment(on.open_project, number, body="Look, @member") for number in range(MENTIONS)]
            )
            await on.until(lambda: _told(on), "everybody to be told of what they are mentioned in")
            await on.database.create_collection("system.profile", capped=True, size=PROFILE_BYTES)
            # The worker reads entries in other ways.
            whole = {"command.find": "notifications", "command.limit": INBOX_ENTRIES}
            await on.database.command({"profile": 1, "filter": {**whole, "command.readConcern.level": "snapshot"}})
            writing = asyncio.ensure_future(on.write(size.writes, size.per_second))
            try:
                with _probing(on) as calm:
                    await asyncio.sleep(CALM_SECONDS)
                with _probing(on) as crowded:
                    alone.fail(
                        ["getMore", "aggregate"],
                        times=2,
                        errorCode=286,
                        errorLabels=["NonResumableChangeStreamError"],
                        appName="copydesk",
                    )
                    begun = time.monotonic()
                    await on.until(lambda: _read_again(on, topics), "everybody to have read again")
                    live = time.monotonic() - begun
                await writing
            finally:
                writing.cancel()
                await asyncio.wait({writing})
            await on.database.command({"profile": 0})
            read_at = [entry async for entry in on.database["system.profile"].find({}, {"ts": 1, "millis": 1})]
            moments = sorted((one["ts"] - timedelta(milliseconds=one["millis"])).timestamp() for one in read_at)
            findings = await on.settle(logged=False)
            findings.merge(await _inboxes(on))
            resets = sum(len(editor.log.of("reset", topic)) for editor in on.editors for topic in topics)
            closed = sum(len(editor.log.closes) for editor in on.editors)
    over = moments[-1] - moments[0] if moments else 0.0
    buckets = Counter(int((moment - moments[0]) / BUCKET_SECONDS) for moment in moments)
    figures: Figures = {
        "subscriptions": len(topics) * size.times,
        "resets": resets,
        "inboxes read": len(moments),
        "read over, s": round(over, 2),
        "most within 0.1 s": max(buckets.values(), default=0),
        "all live after, s": round(live, 1),
        "GET, median and p99 before, ms": _milliseconds(calm),
        "GET, median and p99 meanwhile, ms": _milliseconds(crowded),
        "sockets closed": closed,
    }
    never = {
        "resets too many or too few": abs(resets - len(topics) * size.times),
        "inboxes read too often or not": abs(len(moments) - size.times),
        # Drawn evenly from this span, so many of them fill more than half of it.
        "not spread": int(over < size.times * RESET_SPREAD_SECONDS / 2),
        "sockets closed": closed,
    }
    return result(findings, figures, never=never, bounds={"all live after, s": 10.0})


async def _settled(on: Stage) -> bool:
    return all(editor.settled for editor in on.editors)


async def _told(on: Stage) -> bool:
    return all(len(editor.log.stores["inbox"].of("notification")) == MENTIONS for editor in on.editors)


async def _read_again(on: Stage, topics: list[str]) -> bool:
    return all(topic in editor.log.live and editor.log.of("reset", topic) for editor in on.editors for topic in topics)


async def _inboxes(on: Stage) -> Findings:
    """Every tab holds what a fresh read gives."""
    findings = Findings()
    answer = await on.call("GET", "/notifications?limit=200", user="member")
    fresh = {one["id"]: one for one in answer["items"]}
    for editor in on.editors:
        findings.merge(ledger.check_converged(editor.log.name, editor.log.stores["inbox"].of("notification"), fresh))
    return findings


@contextmanager
def _probing(on: Stage) -> Iterator[list[float]]:
    """How long one request after the other takes meanwhile, in seconds; from a thread, as this loop is busy as well."""
    took: list[float] = []
    over = threading.Event()
    door, headers = on.doors[0], {"Authorization": f"Bearer {on.token('alice')}"}

    def probe() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
        while not over.wait(0.01):
            begun = time.monotonic()
            connection.request("GET", "/api/v1/projects", headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            took.append(time.monotonic() - begun)
        connection.close()

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def _milliseconds(took: list[float]) -> str:
    return f"{1000 * percentile(took, 0.5):.0f} and {1000 * percentile(took, 0.99):.0f}"
