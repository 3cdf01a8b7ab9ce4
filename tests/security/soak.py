"""Editors who join and leave for minutes while others write: what the server holds must stay level.

`python -m tests.security.soak` is the full form: 8 minutes, 500 editors, 50 writes a second; 0 where nothing grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pymongo
from tornado.httpclient import AsyncHTTPClient

from app import commands, mongod
from app.settings import Settings
from tests.ledger import leftovers, measured
from tests.security.fuzz import SECRET, UNLIMITED, ObservedProcess, log_lines
from tests.security.wire import CLOSE, TEXT, frame, handshake

PATH = "/api/v1/realtime"
STAY_SECONDS = (20.0, 80.0)
PONG_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
PROJECTS = 10
BLOCKS = 12
STUDENT = 1.812
"""The 95 % quantile, one-sided, of Student's distribution with `BLOCKS` - 2 degrees of freedom."""
ALLOWED = {"mebibytes": 16.0, "files": 25.0, "threads": 8.0, "tasks": 40.0, "RealtimeHandler": 25.0, "Outbox": 25.0}
"""By which each may grow in a run, at most. The number of editors itself goes up and down by some."""


class Fit(NamedTuple):
    """A straight line through what was measured, over the whole of the run."""

    mean: float
    growth: float
    """From the begin to the end."""
    more_or_less: float
    """Half of the interval in which the growth lies, with a confidence of 95 % for either end."""

    @property
    def at_most(self) -> float:
        """By which it grew, with a confidence of 95 %."""
        return self.growth + self.more_or_less


def fit(values: Sequence[float]) -> Fit:
    """Pure: least squares through the means of `BLOCKS` blocks.

    Neighbours resemble each other, so that single values would pretend to know more than they do. `ValueError` for
    fewer than two values in a block.
    """
    size = len(values) // BLOCKS
    if size < 2:
        raise ValueError(f"{len(values)} values are too few")
    blocks = [fmean(values[index * size : (index + 1) * size]) for index in range(BLOCKS)]
    mean, middle = fmean(blocks), (BLOCKS - 1) / 2
    spread = sum((index - middle) ** 2 for index in range(BLOCKS))
    slope = sum((index - middle) * (block - mean) for index, block in enumerate(blocks)) / spread
    rest = sum((block - mean - slope * (index - middle)) ** 2 for index, block in enumerate(blocks))
    return Fit(mean, slope * BLOCKS, STUDENT * sqrt(rest / (BLOCKS - 2) / spread) * BLOCKS)


def growth_faults(fits: Mapping[str, Fit], allowed: Mapping[str, float]) -> list[str]:
    """Pure: what grew, or cannot be said to have stayed level."""
    return [
        f"{name}: grew by {fits[name].growth:.1f} ± {fits[name].more_or_less:.1f}, where {most:g} are fair"
        for name, most in allowed.items()
        if fits[name].at_most > most
    ]


# -- editors, in a process of their own --------------------------------------------------------------------------------


class Coming(NamedTuple):
    """Who comes, until they are told to stop."""

    port: int
    editors: int
    seed: int
    stay: tuple[float, float]
    tokens: tuple[str, ...]
    topics: tuple[str, ...]


class Gone(NamedTuple):
    """What editors saw."""

    joins: int
    frames: int
    wrong: list[str]


class Progress:
    """What the two processes tell each other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.joins = context.Value("q", 0)
        self.over = context.Event()


_progress: Progress
"""Handed over when the process begins; it cannot be pickled later."""


def begin(progress: Progress) -> None:
    """In the new process."""
    global _progress  # noqa: PLW0603 - an initializer of a pool has no other way
    _progress = progress


def come_and_go(coming: Coming) -> Gone:
    """Blocks until it is over."""
    return asyncio.run(_come_and_go(coming))


async def _come_and_go(coming: Coming) -> Gone:
    rng = random.Random(coming.seed)
    joins = frames = 0
    wrong: list[str] = []

    async def one() -> None:
        nonlocal joins, frames
        await asyncio.sleep(rng.uniform(0, coming.stay[1]))
        while not _progress.over.is_set():
            try:
                seen = await _stay(coming, rng)
                frames += seen
                joins += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError, AssertionError) as problem:
                wrong.append(f"{type(problem).__name__}: {problem}")
                await asyncio.sleep(1)

    await asyncio.gather(*(one() for _ in range(coming.editors)))
    return Gone(joins, frames, wrong)


async def _stay(coming: Coming, rng: random.Random) -> int:
    """One visit; how many frames with events came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", coming.port)
    try:
        hello = {"op": "hello", "id": 1, "token": rng.choice(coming.tokens)}
        join = {"op": "subscribe", "id": 2, "topic": rng.choice(coming.topics)}
        also = {"op": "subscribe", "id": 3, "topic": rng.choice(("projects", "inbox"))}
        commands_ = b"".join(frame(TEXT, json.dumps(one).encode()) for one in (hello, join, also))
        writer.write(handshake(coming.port, PATH) + commands_)
        heard = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while heard.count(b'"push":"live"') < 2:
                data = await reader.read(65536)
                assert data, f"hung up after {heard[-200:]!r}"
                heard = heard[-200_000:] + data
        with _progress.joins:
            _progress.joins.value += 1
        count = 0
        stay = rng.uniform(*coming.stay)
        leaving = time.monotonic() + stay
        while (left := leaving - time.monotonic()) > 0 and not _progress.over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, PONG_SECONDS)):
                    while data := await reader.read(65536):
                        count += data.count(b'"push":"events"')
                        heard = data
                    raise AssertionError(f"hung up after {heard[-200:]!r}")
            writer.write(frame(TEXT, b'{"op":"pong"}'))
        if rng.random() < 0.5:
            writer.write(frame(CLOSE, b"\x03\xe8"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await reader.read(65536):
                    pass
        return count
    finally:
        writer.transport.abort()


# -- the run -----------------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """How large a run is."""

    editors: int = 500
    writes_per_second: float = 50.0
    seconds: float = 480.0
    warm_seconds: float = 90.0
    """At the begin, when pools and rings fill up; before what is measured."""
    every_seconds: float = 4.0
    """What is held is looked at so often, and"""
    every_joins: int = 0
    """not before so many more have joined."""
    seed: int = 1
    stay: tuple[float, float] = STAY_SECONDS


class Result(NamedTuple):
    """What a run found."""

    faults: list[str]
    fits: dict[str, Fit]
    figures: dict[str, Any]


async def soak(
    folder: Path, uri: str, database: str, shape: Shape, *, faults: str = "", allowed: Mapping[str, float] = ALLOWED
) -> Result:
    """The whole run, on a server of its own."""
    process = await asyncio.to_thread(
        lambda: ObservedProcess(
            folder,
            faults=faults,
            mongodb_uri=uri,
            mongodb_database=database,
            auth_secret=SECRET,
            log_format="json",
            drain_seconds="0",
            # So that the ring of recent changes is full when measuring begins.
            history_seconds=str(max(1, int(shape.warm_seconds / 2))),
            **UNLIMITED,
        )
    )
    try:
        return await _soak(process, uri, database, shape, allowed)
    finally:
        await asyncio.to_thread(process.stop)


async def _soak(
    process: ObservedProcess, uri: str, database: str, shape: Shape, allowed: Mapping[str, float]
) -> Result:
    settings = Settings(auth_secret=SECRET)
    tokens = tuple(
        commands.token(settings, sub=f"editor{number}", roles=(), ttl_seconds=24 * 3600, name=None, email=None)
        for number in range(50)
    )
    projects = [await _post(process, tokens[0], "/projects", {"name": f"Project {n}"}) for n in range(PROJECTS)]
    threads = [
        (project, await _post(process, tokens[0], f"/projects/{project}/comments", {"body": f"Thread {n}"}))
        for project in projects
        for n in range(10)
    ]
    topics = tuple(f"project:{project}" for project in projects)
    coming = Coming(process.port, shape.editors, shape.seed, shape.stay, tokens, topics)
    samples: dict[str, list[float]] = {}
    progress = Progress()
    with (
        ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=begin, initargs=(progress,)
        ) as pool,
        pymongo.MongoClient[dict[str, Any]](uri) as client,
    ):
        busy = _cpu_seconds(process)
        editors = pool.submit(come_and_go, coming)
        writes = _write(
            process, client[database], tokens[0], threads, per_second=shape.writes_per_second, editors=editors
        )
        writing = asyncio.ensure_future(writes)
        started = time.monotonic()
        begun = started + shape.warm_seconds
        for number in range(round(shape.seconds / shape.every_seconds)):
            await asyncio.sleep(max(0.0, begun + number * shape.every_seconds - time.monotonic()))
            while progress.joins.value < number * shape.every_joins:
                assert not editors.done(), "nobody comes any more"
                await asyncio.sleep(0.02)
            held = await _held(process)
            for name in allowed:
                samples.setdefault(name, []).append(held.get(name, 0))
        progress.over.set()
        gone: Gone = await asyncio.wrap_future(editors)
        busy, seconds = _cpu_seconds(process) - busy, time.monotonic() - started
        written = await writing
    fits = {name: fit(values) for name, values in samples.items()}
    log = leftovers.check_log(log_lines(process), warnings=0)
    wrong = [*growth_faults(fits, allowed), *log.examples, *(f"an editor: {one}" for one in gone.wrong[:5])]
    figures = {
        "editors": shape.editors, "seconds": round(seconds), "joins": gone.joins, "writes": written,
        "writes per second": round(written / seconds, 1), "frames with events": gone.frames,
        "server, CPU seconds": round(busy, 1),
        "editors that met something wrong": len(gone.wrong), "samples": len(next(iter(samples.values()))),
    }  # fmt: skip
    return Result(wrong, fits, figures)


def _cpu_seconds(process: ObservedProcess) -> float:
    """That the process had so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _held(process: ObservedProcess) -> dict[str, float]:
    system = Path(f"/proc/{process.pid}")
    return {
        **await process.held(),
        "mebibytes": measured.resident_bytes(process) / 2**20,
        "files": len(list((system / "fd").iterdir())),
        "threads": len(list((system / "task").iterdir())),
    }


async def _write(
    process: ObservedProcess,
    database: Any,
    token: str,
    threads: list[tuple[str, str]],
    *,
    per_second: float,
    editors: Future[Gone],
) -> int:
    """Until the editors are gone: a fifth over REST, the rest as another program does it. How many writes were done.

    Comments are edited and not added, so that it is the server that grows, if anything does, and not its snapshots.
    """
    begun = time.monotonic()
    written = 0
    while not editors.done():
        project, comment = threads[written % len(threads)]
        body = f"Edited {written}"
        if written % 5 == 0:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            path = f"{process.url}/api/v1/projects/{project}/comments/{comment}"
            await AsyncHTTPClient().fetch(path, method="PATCH", headers=headers, body=json.dumps({"body": body}))
        else:
            change = {"$set": {"body": body}, "$inc": {"version": 1}}
            await asyncio.to_thread(database.comments.update_one, {"_id": comment}, change)
        written += 1
        await asyncio.sleep(max(0.0, begun + written / per_second - time.monotonic()))
    return written


async def _post(process: ObservedProcess, token: str, path: str, body: Any) -> str:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = await AsyncHTTPClient().fetch(
        f"{process.url}/api/v1{path}", method="POST", headers=headers, body=json.dumps(body)
    )
    made: str = json.loads(answer.body)["id"]
    return made


def table(fits: Mapping[str, Fit]) -> str:
    """For people."""
    rows = [
        f"| {name} | {one.mean:.1f} | {one.growth:+.2f} ± {one.more_or_less:.2f} | {ALLOWED[name]:g} |"
        for name, one in fits.items()
    ]
    return "\n".join(["| held | mean | growth over the run (95 %) | allowed |", "| --- | --- | --- | --- |", *rows])


def main() -> int:
    """Run what was asked for, on a MongoDB of its own; 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Shape()
    parser.add_argument("--editors", type=int, default=usual.editors)
    parser.add_argument("--writes", type=float, default=usual.writes_per_second, help="a second")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="that are measured")
    parser.add_argument("--faults", default="", help="to plant, as tests/security/observed_run.py knows them")
    given = parser.parse_args()
    shape = usual._replace(editors=given.editors, writes_per_second=given.writes, seconds=given.seconds)
    with tempfile.TemporaryDirectory(prefix="copydesk-soak-") as folder:
        database = mongod.start(Path(folder) / "data", say=lambda _text: None)
        try:
            result = asyncio.run(soak(Path(folder), database.uri, "soak", shape, faults=given.faults))
        finally:
            database.stop()
    for name, value in result.figures.items():
        print(f"{name}: {value}")
    print(table(result.fits))
    print("\n".join(result.faults) or "nothing grew")
    return int(bool(result.faults))


if __name__ == "__main__":
    sys.exit(main())
