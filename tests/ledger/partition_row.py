"""One more fault: the primary is cut off from the other members, and from everybody, without any connection closing.

It runs in a process with a network of its own (`tests.ledger.network`), whose result comes back as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from tests.ledger import ledger
from tests.ledger.ledger import Findings
from tests.ledger.measured import metrics
from tests.ledger.network import Network, inside
from tests.ledger.replica_set import Member, ReplicaSet, replica_set
from tests.ledger.result import WARNINGS_PER_FAULT, Figures, Result, Size, common, result
from tests.ledger.stage import Stage, stage

MEMBERS = 3
FROM_MEMBERS, FROM_ALL = "cut off from the members", "cut off from everybody"
DOOMED = 20
"""Writes with `w: 1` on a primary that has lost the others: MongoDB takes them back."""


async def partition(_members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """The primary is cut off for `size.seconds`, `size.times` in each of both ways."""
    command = inside(__name__, str(folder), str(seed), json.dumps(size))
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        told, _ = await running.communicate()
    except BaseException:
        running.kill()  # and with it everything in its namespaces
        raise
    assert running.returncode == 0, f"{command} ended with {running.returncode}"
    made = json.loads(told)
    return Result(findings=Findings(examples=made.pop("examples")), **made)


async def _partition(folder: Path, seed: int, size: Size) -> Result:
    network = Network(MEMBERS)
    doomed: list[str] = []
    cuts: list[tuple[str, float, float]] = []
    ways: dict[str, Callable[[int], None]] = {FROM_MEMBERS: network.cut_from_others, FROM_ALL: network.cut_off}
    turns = iter([way for _ in range(size.times) for way in ways])
    times = len(ways) * size.times
    with replica_set(folder / "members", MEMBERS, places=network.places) as members:
        async with stage(members, folder, seed=seed) as on:
            await on.people()
            pause = max(0.0, size.writes / size.per_second / (times + 1) - size.seconds)

            async def cut() -> None:
                await asyncio.sleep(pause)
                await asyncio.to_thread(members.until_whole)
                primary = await asyncio.to_thread(members.primary)
                way, before, begun = next(turns), await _reopenings(on), time.time()
                await asyncio.to_thread(ways[way], members.members.index(primary))
                try:
                    if way == FROM_MEMBERS:
                        doomed.extend(await asyncio.to_thread(_write_in_vain, on, primary))
                    # Nobody tells a stream of it that reads from the lost primary: it has to find out.
                    await on.until(lambda: _all_moved(on, before), "every process to read from another member")
                    await asyncio.sleep(begun + size.seconds - time.time())
                finally:
                    await asyncio.to_thread(network.heal)
                cuts.append((way, begun, time.time()))

            await on.during(on.write(size.writes, size.per_second, bare=True), cut, times=times)
            closed = sum(len(each.log.closes) for each in (*on.editors, *on.probes))
            await asyncio.to_thread(members.until_whole)
            findings = await on.reckon(warnings=WARNINGS_PER_FAULT * times)
            kept = {one["_id"] async for one in on.database.comments.find({"_id": {"$in": doomed}}, {"_id": 1})}
            told = {event.key[0] for editor in on.editors for entry in editor.log.entries for event in entry.events}
            silences = _silences(on, cuts)
    taken_back = set(doomed) - kept
    figures = {
        **common(findings),
        "sockets closed": closed,
        "careless writes taken back": len(taken_back),
        **silences,
    }
    never = {
        "resets": findings.counts["resets"],
        "sockets closed": closed,
        "told though taken back": len(told & taken_back),
    }
    # For how long MongoDB commits nothing is its own affair.
    return result(findings, figures, never=never, bounds={"told after its writer knew, s": 4.0})


async def _reopenings(on: Stage) -> list[float]:
    """How often the stream of each process was opened again."""
    said = [await metrics(on.http, process) for process in on.processes]
    return [sum(n for name, n in one.items() if name.startswith("copydesk_stream_reopenings")) for one in said]


async def _all_moved(on: Stage, before: list[float]) -> bool:
    return all(now > then for now, then in zip(await _reopenings(on), before, strict=True))


def _silences(on: Stage, cuts: list[tuple[str, float, float]]) -> Figures:
    """Of the editors in the open project and of the writers, for each way the longest."""
    topic = f"project:{on.open_project}"
    writes = [write for writer in on.writers for write in writer.writes]
    longest: Figures = {}
    for way, begun, ended in cuts:
        for name, seconds in (
            (f"silence, {way}, s", max(ledger.longest_silence(one.log, topic, begun, ended) for one in on.editors)),
            (f"pause of the writers, {way}, s", ledger.longest_pause(writes, begun, ended)),
        ):
            longest[name] = max(float(longest.get(name, 0.0)), round(seconds, 1))
    return longest


def _write_in_vain(on: Stage, primary: Member) -> list[str]:
    """Comments of a careless program, and those of them that it was told are written."""
    written = []
    with suppress(PyMongoError), primary.client() as client:
        comments = client[on.database_name].get_collection("comments", write_concern=WriteConcern(w=1))
        for number in range(DOOMED):
            name = f"doomed-{time.time()}-{number}"
            document = {"_id": name, "project_id": on.open_project, "body": name, "author": "careless", "version": 1}
            comments.insert_one({**document, "created_at": datetime.now(UTC)})
            written.append(name)
    return written


if __name__ == "__main__":
    found = asyncio.run(_partition(Path(sys.argv[1]), int(sys.argv[2]), Size(*json.loads(sys.argv[3]))))
    told = {"figures": found.figures, "broken": found.broken, "late": found.late}
    json.dump({**told, "examples": found.findings.examples}, sys.stdout)
