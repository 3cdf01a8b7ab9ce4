"""More faults: what MongoDB answers to the change stream, collections that go, documents that nobody can read."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pymongo.errors import OperationFailure

from tests.ledger.ledger import Findings
from tests.ledger.leftovers import about_changes, check_log
from tests.ledger.measured import metrics
from tests.ledger.replica_set import ReplicaSet
from tests.ledger.result import WARNINGS_PER_FAULT, Figures, Result, Size, common, result
from tests.ledger.shapes import FATAL, POISON, foreign_comment, resumable_shapes
from tests.ledger.stage import Stage, stage
from tests.real.processes import Process

PAUSE_SECONDS = 0.1
GOOD = 5
"""Documents that follow a bad one."""
QUIET_SECONDS = 3.0
INDEX_BUILD_IN_PROGRESS = 12587


async def errors(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """MongoDB fails the stream's commands in every shape that a stream outlives, `size.times` rounds of them."""
    rng = random.Random(seed)
    shapes = resumable_shapes()
    with members.alone() as alone:
        async with stage(alone, folder, seed=seed, servers=1) as on:
            await on.people()
            order = iter([shape for _ in range(size.times) for shape in rng.sample(sorted(shapes), len(shapes))])

            async def fail() -> None:
                commands = rng.choice((["getMore"], ["getMore", "aggregate"]))
                alone.fail(commands, times=rng.randrange(1, 4), appName="copydesk", **shapes[next(order)])
                await asyncio.sleep(PAUSE_SECONDS)

            faults = size.times * len(shapes)
            await on.during(on.write(size.writes, size.per_second, bare=True), fail, times=faults)
            closed = sum(len(each.log.closes) for each in (*on.editors, *on.probes))
            findings = await on.reckon(warnings=3 * faults)
            figures = {**common(findings), "errors": faults, "shapes": len(shapes), "sockets closed": closed}
            never = {"resets": findings.counts["resets"], "sockets closed": closed}
            return result(findings, figures, never=never, bounds={})


async def fatal(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """MongoDB answers the stream with every code that no position survives, `size.times` rounds of them."""
    with members.alone() as alone:
        async with stage(alone, folder, seed=seed, servers=1) as on:
            await on.people(streaming=0)
            topics = [f"project:{on.open_project}", f"project:{on.private_project}"]
            codes = iter(FATAL * size.times)
            losses, slowest = 0, 0.0

            async def all_live_again() -> bool:
                return all(
                    topic in editor.log.live and len(editor.log.of("reset", topic)) >= losses
                    for editor in on.editors
                    for topic in topics
                )

            async def lose() -> None:
                nonlocal losses, slowest
                # Twice, because the driver resumes once by itself.
                alone.fail(
                    ["getMore", "aggregate"],
                    times=2,
                    errorCode=next(codes),
                    errorLabels=["NonResumableChangeStreamError"],
                    appName="copydesk",
                )
                losses += 1
                begun = time.monotonic()
                await on.until(all_live_again, "everybody to be live again")
                slowest = max(slowest, time.monotonic() - begun)

            times = len(FATAL) * size.times
            await on.during(on.write(size.writes, size.per_second), lose, times=times)
            reasons = {
                entry.reason for editor in on.editors for topic in topics for entry in editor.log.of("reset", topic)
            }
            findings = await on.settle(logged=False)
            subscriptions = len(topics) * len(on.editors)
            resets = sum(len(editor.log.of("reset", topic)) for editor in on.editors for topic in topics)
            figures: Figures = {
                "losses": times,
                "subscriptions": subscriptions,
                "resets": resets,
                "live again after, s": round(slowest, 1),
            }
            never = {
                "resets too many or too few": abs(resets - times * subscriptions),
                "without a reason": len(reasons & {""}),
            }
            return result(findings, figures, never=never, bounds={"live again after, s": 5.0})


async def drops(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """A collection is dropped, renamed, loses its images, or the whole database goes; `size.times` each."""
    with members.alone() as alone:
        async with stage(alone, folder, seed=seed, servers=1) as on:
            viewers = [on.editor(f"member-{number}", "member", ["projects"]) for number in range(5)]
            on.editors += viewers
            for each in viewers:
                each.start()
            await on.until(lambda: _live(on), "everybody to be connected")
            database: Any = on.database
            slowest: dict[str, float] = {}

            async def rename() -> None:
                await database.projects.rename("projects_of_yesterday", dropTarget=True)

            async def without_images() -> None:
                await database.command("collMod", "projects", changeStreamPreAndPostImages={"enabled": False})

            ways: dict[str, Callable[[], Awaitable[Any]]] = {
                "drop": lambda: database.drop_collection("projects"),
                "rename": rename,
                "dropDatabase": lambda: database.client.drop_database(database.name),
                "collMod": without_images,
            }
            for number in range(size.times):
                for name, way in ways.items():
                    await _insist(way)
                    project = f"after-{name}-{number}"
                    begun = time.monotonic()
                    await database.projects.insert_one({"_id": project, "name": project})
                    await on.until(lambda project=project: _seen(on, project), f"{project} to be seen")
                    slowest[name] = max(slowest.get(name, 0.0), time.monotonic() - begun)
            log = (folder / "server-0.log").read_text(encoding="utf-8")
            findings = Findings()
            findings.add("traceback", "in the log", log.count('"exception"'))
            figures: Figures = {"faults": size.times * len(ways)}
            figures |= {f"next insert seen after {name}, s": round(worst, 1) for name, worst in slowest.items()}
            bounds = {f"next insert seen after {name}, s": 5.0 for name in ways}
            return result(findings, figures, never={}, bounds=bounds)


async def _insist(way: Callable[[], Awaitable[Any]]) -> None:
    """MongoDB refuses while it builds an index, which Copydesk had it do after the fault before this one."""
    while True:
        try:
            await way()
        except OperationFailure as refusal:
            if refusal.code != INDEX_BUILD_IN_PROGRESS:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def _live(on: Stage) -> bool:
    return all(each.settled for each in on.editors)


async def _seen(on: Stage, project: str) -> bool:
    return all(
        "projects" in each.log.stores and project in each.log.stores["projects"].of("project") for each in on.editors
    )


async def poison(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """Another program writes what nobody can read, or more than a change may hold; five good ones follow each."""
    with members.alone() as alone:
        async with stage(alone, folder, seed=seed, servers=1) as on:
            await on.people(streaming=0, probes=0)
            topic, comments = f"project:{on.open_project}", on.database.comments
            bad = expected = 0
            missing: list[str] = []

            async def good_ones(after: str) -> None:
                nonlocal expected
                ids = [f"good-{bad}-{number}" for number in range(GOOD)]
                await comments.insert_many([{**foreign_comment(on.open_project, one), "_id": one} for one in ids])
                expected += GOOD * len(on.editors)
                try:
                    await on.until(lambda: _hold(on, topic, ids), f"the good ones after {after}")
                except AssertionError as problem:
                    missing.append(str(problem))

            for number in range(size.times):
                for kind, make in POISON.items():
                    bad += 1
                    await comments.insert_one(make(on.open_project, f"bad-{number}-{kind}"))
                    await good_ones(f"{number}-{kind}")
            # With both images, a change of so large a document has more than 16 MB.
            large = f"{on.open_project}-large"
            await comments.insert_one(foreign_comment(on.open_project, "large", junk="x" * 9_000_000))
            for number in range(size.times):
                bad += 1
                await comments.update_one({"_id": large}, {"$set": {"body": f"Changed {number}"}})
                await good_ones(f"{number}-oversized")
            process = on.processes[0]
            begun = _processor_seconds(process)
            await asyncio.sleep(QUIET_SECONDS)
            idle = (_processor_seconds(process) - begun) / QUIET_SECONDS
            reported = sum(
                count
                for name, count in (await metrics(on.http, process)).items()
                if name.startswith("copydesk_malformed_documents")
            )
            lines = (folder / "server-0.log").read_text(encoding="utf-8").splitlines()
            said = about_changes(lines)
            # All else that a busy machine makes a process say has its own bound.
            findings = check_log(set(lines) - set(said), warnings=WARNINGS_PER_FAULT)
            for one in missing:
                findings.add("lost", one)
            # What is too large is found in a batch, and once more alone.
            noise = max(0, len(said) - len(POISON) * size.times - 2 * size.times)
            findings.add("noise", "\n".join(line[:300] for line in said), noise)
            resets = sum(len(editor.log.of("reset", topic)) for editor in on.editors)
            figures: Figures = {
                "bad ones": bad,
                "good ones told": expected,
                "counted as malformed": int(reported),
                "lines about them": len(said),
                "resets": resets,
                "idle, share of a core": round(idle, 3),
            }
            return result(findings, figures, never={"resets": resets}, bounds={"idle, share of a core": 0.1})


async def _hold(on: Stage, topic: str, ids: list[str]) -> bool:
    return all(editor.log.holds(topic, one) for editor in on.editors for one in ids)


def _processor_seconds(process: Process) -> float:
    """What the process has used of the processors, as the system counts it."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
