"""The faults, one function each: break something in its own way while people work, then reckon.

Each has a short form for every change and a full form for `torture.py`; only the sizes differ.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from app.position import Position, PositionCodec
from tests.ledger.editors import ReconnectingEditor
from tests.ledger.feed_rows import drops, errors, fatal, poison
from tests.ledger.inbox_rows import inboxes
from tests.ledger.more_rows import injected, overwritten, posts, slow, storm
from tests.ledger.partition_row import partition
from tests.ledger.replica_set import ReplicaSet
from tests.ledger.reset_row import resets
from tests.ledger.result import WARNINGS_PER_FAULT, Result, Size, common, result
from tests.ledger.stage import Stage, stage
from tests.ledger.writers import request

Row = Callable[[ReplicaSet, Path, int, Size], Awaitable[Result]]


# -- MongoDB ----------------------------------------------------------------------------------------------------------


async def _unnoticed(
    members: ReplicaSet, folder: Path, seed: int, size: Size, fault: Callable[[], None], *, most_silence: float
) -> Result:
    """A fault of MongoDB that nobody may notice but by the silence."""
    async with stage(members, folder, seed=seed) as on:
        await on.people()
        pause = size.writes / size.per_second / (size.times + 1)

        async def break_it() -> None:
            await asyncio.sleep(pause)
            await asyncio.to_thread(fault)

        await on.during(on.write(size.writes, size.per_second, bare=True), break_it, times=size.times)
        closed = _closed(on)
        findings = await on.reckon(warnings=WARNINGS_PER_FAULT * size.times)
        figures = {**common(findings), "sockets closed": closed}
        never = {"resets": findings.counts["resets"], "sockets closed": closed}
        return result(findings, figures, never=never, bounds={"longest silence, s": most_silence})


def _closed(on: Stage) -> int:
    return sum(len(each.log.closes) for each in (*on.editors, *on.probes))


async def step_downs(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """The primary gives way to another member."""
    return await _unnoticed(members, folder, seed, size, members.step_down, most_silence=6.0)


async def kills(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """The primary dies without a word, and comes back when another has taken over."""

    def kill() -> None:
        members.until_whole()
        dead = members.primary()
        dead.kill()
        members.primary()
        dead.start()

    try:
        return await _unnoticed(members, folder, seed, size, kill, most_silence=6.0)
    finally:
        members.until_whole()


async def hang(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """The primary stops answering but keeps its connections."""
    noticed: list[float] = []
    async with stage(members, folder, seed=seed) as on:
        await on.people()
        writing = asyncio.ensure_future(on.write(size.writes, size.per_second, bare=True))
        try:
            await asyncio.sleep(size.writes / size.per_second / 4)
            frozen = await asyncio.to_thread(members.primary)
            frozen.hold()
            begun = time.monotonic()
            try:
                while time.monotonic() - begun < size.seconds:
                    if not noticed and not await _ready(on):
                        noticed.append(time.monotonic() - begun)
                    await asyncio.sleep(0.1)
            finally:
                frozen.release()
            await writing
        finally:
            writing.cancel()
            await asyncio.wait({writing})
        closed = _closed(on)
        findings = await on.reckon(warnings=4 * WARNINGS_PER_FAULT)
        # Where the stream found another primary before it was stale there was nothing to notice.
        figures = {
            **common(findings),
            "sockets closed": closed,
            "stale after, s": round(noticed[0], 1) if noticed else 0,
        }
        never = {"resets": findings.counts["resets"], "sockets closed": closed}
        bounds = {"longest silence, s": 8.0, "stale after, s": 7.0}
        return result(findings, figures, never=never, bounds=bounds)


async def _ready(on: Stage) -> bool:
    answers = [await request(on.http, door, "GET", "/readyz", token=None) for door in on.doors]
    return all(answer is not None and answer.code == 200 for answer in answers)


# -- connections ------------------------------------------------------------------------------------------------------


async def cuts(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """Sockets are cut at random; their editors come back to either process, some with positions that are no good."""
    rng = random.Random(seed)
    forged = 0
    async with stage(members, folder, seed=seed) as on:
        await on.people()
        stranger = PositionCodec(secrets=(b"x" * 32,), epoch=b"stranger")

        def forging(editor: ReconnectingEditor) -> Callable[[str], str]:
            def forge(position: str) -> str:
                nonlocal forged
                chance = rng.random()
                forged += chance < 0.15
                if chance < 0.05 and editor.log.old_positions:
                    editor.log.went_back(time.time())
                    return rng.choice(editor.log.old_positions)
                if chance < 0.10:
                    return stranger.encode(Position(int(time.time()), 1, 1))
                if chance < 0.15:
                    place = rng.randrange(len(position))
                    return position[:place] + rng.choice("ABCDEFGHabcdefgh01234567") + position[place + 1 :]
                return position

            return forge

        for editor in on.editors:
            editor.forge = forging(editor)
        pause = size.writes / size.per_second / (size.times + 1)

        async def cut() -> None:
            await asyncio.sleep(pause)
            rng.choice(on.editors).cut()

        await on.during(on.write(size.writes, size.per_second), cut, times=size.times)
        for editor in on.editors:
            editor.forge = lambda position: position
        findings = await on.reckon(warnings=WARNINGS_PER_FAULT)
        figures = {
            **common(findings),
            "connections": findings.counts["connections"],
            "spoilt positions": forged,
            "not resumed": findings.counts["not resumed"],
            "entries of the change log told again": findings.counts["told again"],
        }
        return result(findings, figures, never={}, bounds={})


# -- servers ----------------------------------------------------------------------------------------------------------


async def restarts(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """One of two servers behind nginx is stopped or killed, in turn, and started again."""
    rng = random.Random(seed)
    stops: list[float] = []
    exits: list[int] = []
    async with stage(members, folder, seed=seed, behind_nginx=True) as on:
        await on.people()
        if size.times == 1:
            # The short form does not wait until the mark of a key lapses whose process was killed.
            on.patience_seconds = 15.0
        numbers = iter(range(2 * size.times))

        async def restart() -> None:
            process = rng.choice(on.processes)
            if next(numbers) % 2:
                await asyncio.to_thread(process.kill)
            else:
                begun = time.monotonic()
                exits.append(await asyncio.to_thread(process.stop))
                stops.append(time.monotonic() - begun)
            await asyncio.to_thread(process.start)

        await on.during(on.write(size.writes, size.per_second), restart, times=2 * size.times)
        closes = [code for each in (*on.editors, *on.probes) for code in each.log.closes]
        findings = await on.reckon(warnings=WARNINGS_PER_FAULT * size.times, usage=False)
        figures = {
            **common(findings),
            "stops": len(stops),
            "kills": size.times,
            "longest stop, s": round(max(stops), 1),
            "closed with 4000": closes.count(4000),
        }
        never = {"exits with an error": sum(code != 0 for code in exits), "no 4000": 0 if 4000 in closes else 1}
        return result(findings, figures, never=never, bounds={"longest stop, s": 10.0})


ROWS: dict[str, Row] = {
    "step-downs": step_downs,
    "kills": kills,
    "hang": hang,
    "partition": partition,
    "errors": errors,
    "fatal": fatal,
    "drops": drops,
    "poison": poison,
    "cuts": cuts,
    "restarts": restarts,
    "slow": slow,
    "posts": posts,
    "history lost by injection": injected,
    "history lost for real": overwritten,
    "resets": resets,
    "storm": storm,
    "inboxes": inboxes,
}

SHORT: dict[str, Size] = {
    "step-downs": Size(writes=900, per_second=150, times=2),
    "kills": Size(writes=700, per_second=100, times=1),
    "hang": Size(writes=700, per_second=80, times=1, seconds=6),
    "partition": Size(writes=600, per_second=50, times=1, seconds=1),
    "errors": Size(writes=300, per_second=100, times=1),
    "fatal": Size(writes=150, per_second=50, times=1),
    "drops": Size(writes=0, per_second=0, times=1),
    "poison": Size(writes=0, per_second=0, times=1),
    "cuts": Size(writes=900, per_second=150, times=50),
    "restarts": Size(writes=600, per_second=60, times=1),
    "slow": Size(writes=150, per_second=50, times=4),
    "posts": Size(writes=60, per_second=0, times=0),
    "history lost by injection": Size(writes=100, per_second=50, times=1),
    "history lost for real": Size(writes=100, per_second=50, times=1),
    "resets": Size(writes=60, per_second=30, times=60),
    "storm": Size(writes=60, per_second=10, times=80),
    "inboxes": Size(writes=300, per_second=50, times=2, seconds=2),
}

FULL: dict[str, Size] = {
    "step-downs": Size(writes=100_000, per_second=300, times=20),
    "kills": Size(writes=25_000, per_second=150, times=10),
    "hang": Size(writes=9_000, per_second=100, times=1, seconds=40),
    "partition": Size(writes=15_000, per_second=50, times=5, seconds=15),
    "errors": Size(writes=6_000, per_second=100, times=20),
    "fatal": Size(writes=2_000, per_second=50, times=5),
    "drops": Size(writes=0, per_second=0, times=20),
    "poison": Size(writes=0, per_second=0, times=20),
    "cuts": Size(writes=40_000, per_second=200, times=1000),
    "restarts": Size(writes=30_000, per_second=120, times=20),
    "slow": Size(writes=1_500, per_second=50, times=20),
    "posts": Size(writes=10_000, per_second=0, times=0),
    "history lost by injection": Size(writes=3_000, per_second=50, times=3),
    "history lost for real": Size(writes=3_000, per_second=50, times=3),
    "resets": Size(writes=1_000, per_second=30, times=500),
    "storm": Size(writes=120, per_second=1, times=2_000),
    "inboxes": Size(writes=30_000, per_second=50, times=30, seconds=17),
}
