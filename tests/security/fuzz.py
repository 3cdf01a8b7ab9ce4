"""Fuzzed frames and messages against a real server, and a colleague beside who must not notice any of it.

`python -m tests.security.fuzz --frames 1000000 --messages 100000 --seed 1` is the full form; 0 where all held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient

from app import commands, mongod
from app.settings import Settings
from tests.editor import Editor
from tests.ledger import leftovers, measured
from tests.ledger.leftovers import Usage
from tests.real.processes import Process
from tests.security import fuzzers
from tests.security.fuzzers import Tally, Work

SECRET = "s" * 32
WRITES_PER_SECOND = 10
POOL = 40
"""More files and threads than at the start: Motor's 32 threads with a connection each, and those of argon2."""
WARNINGS = 0
UNLIMITED = {
    f"max_{name}": "1000000"
    for name in (
        "connection_rate", "connections_per_address", "connections_per_user", "messages_per_second",
        "topics_per_second_per_user", "requests_per_second_per_user", "requests_per_second_per_address",
        "idempotency_keys_per_hour_per_user",
    )
}  # fmt: skip
"""Limits that would hide what is looked for."""
FREE_SECONDS = 30.0


class ObservedProcess(Process):
    """A server that can be asked what it holds."""

    program = "tests/security/observed_run.py"

    def __init__(self, folder: Path, *, faults: str = "", **settings: str) -> None:
        self._report = folder / "held.json"
        self._faults = faults
        super().__init__(log=folder / "server.log", **settings)

    def start(self) -> None:
        self._environment |= {"OBSERVED_TO": str(self._report), "OBSERVED_FAULTS": self._faults}
        super().start()

    async def held(self) -> dict[str, int]:
        """Tasks, and objects of connections, by name."""
        self._report.unlink(missing_ok=True)
        self.signal(signal.SIGUSR2)
        async with asyncio.timeout(30):
            while True:
                with suppress(FileNotFoundError):
                    counts: dict[str, int] = json.loads(self._report.read_text(encoding="utf-8"))
                    return counts
                await asyncio.sleep(0.01)


@dataclass
class Outcome:
    """What a run found, and its figures."""

    faults: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


class Colleague:
    """Somebody who works on while others fuzz: writes comments, and is told of each, in order."""

    def __init__(self, editor: Editor, url: str, token: str, project: str) -> None:
        self._editor, self._url, self._token, self._project = editor, url, token, project
        self.written: list[str] = []
        self.seconds: list[float] = []
        """From each write to its event."""
        self._stopped = asyncio.Event()

    async def work(self) -> None:
        """Until `stop`."""
        client = AsyncHTTPClient()
        while not self._stopped.is_set():
            begun = time.monotonic()
            answer = await client.fetch(
                f"{self._url}/api/v1/projects/{self._project}/comments",
                method="POST",
                headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
                body=json.dumps({"body": f"comment {len(self.written)}"}),
            )
            await self._editor.socket.write_message('{"op": "pong"}')
            self.written.append(json.loads(answer.body)["id"])
            with suppress(TimeoutError, AssertionError):
                await self._editor.until(lambda: self._heard_of(self.written[-1]), 5)
            self.seconds.append(time.monotonic() - begun)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), max(0.0, begun + 1 / WRITES_PER_SECOND - time.monotonic()))

    def stop(self) -> None:
        """End after the write that is under way."""
        self._stopped.set()

    def faults(self) -> list[str]:
        """What was not as it should be."""
        pushes = self._editor.pushes.get(f"project:{self._project}", [])
        return colleague_faults(self.written, pushes, closed=self._editor.closed.done())

    def _heard_of(self, comment: str) -> bool:
        last = self._editor.pushes.get(f"project:{self._project}", [])[-5:]
        return any(event["id"] == comment for push in last for event in push.get("events", ()))


def colleague_faults(written: list[str], pushes: list[Mapping[str, Any]], *, closed: bool) -> list[str]:
    """Pure: comments written over REST, and everything heard of their topic."""
    events = [event for push in pushes for event in push.get("events", ())]
    told = [event["id"] for event in events if event["kind"] == "comment"]
    numbers = [push["seq"] for push in pushes if "seq" in push and push["push"] == "events"]
    found = []
    if told != written:
        found.append(f"colleague: told of {len(told)} comments, in order: {told == sorted(told)}, of {len(written)}")
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        found.append("colleague: frames are missing")
    if {push["push"] for push in pushes} - {"snapshot", "live", "events"}:
        found.append("colleague: a topic was reset or taken away")
    if closed:
        found.append("colleague: the connection was closed")
    return found


async def fuzz(
    folder: Path,
    uri: str,
    database: str,
    *,
    frames: int,
    messages: int,
    seed: int,
    seconds: float = 3600.0,
    faults: str = "",
) -> Outcome:
    """The whole run, on a server of its own; `seconds` bounds each kind."""
    process = await asyncio.to_thread(
        lambda: ObservedProcess(
            folder,
            faults=faults,
            mongodb_uri=uri,
            mongodb_database=database,
            auth_secret=SECRET,
            log_format="json",
            ping_seconds="5",
            drain_seconds="0",
            **UNLIMITED,
        )
    )
    try:
        return await _fuzz(process, frames=frames, messages=messages, seed=seed, seconds=seconds)
    finally:
        await asyncio.to_thread(process.stop)


async def _fuzz(process: ObservedProcess, *, frames: int, messages: int, seed: int, seconds: float) -> Outcome:
    outcome = Outcome()
    token = _token("colleague")
    watched, busy = [await _project(process.url, token, name) for name in ("Watched", "Busy")]
    editor = await Editor.connect(process.url, token)
    colleague = Colleague(editor, process.url, token, watched)
    tokens = tuple(_token(f"fuzzer{number}") for number in range(5))
    work = Work(process.port, seed, 200, seconds, tokens, (f"project:{busy}",))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        # What comes with the first of each kind and stays, such as threads, is no leak.
        await loop.run_in_executor(pool, fuzzers.fuzz_messages, work)
        await editor.subscribe(f"project:{watched}")
        before = await _settled(process, Usage(files=0, threads=0, connections=1, subscriptions=1))
        held, memory = await process.held(), measured.resident_bytes(process)
        working = asyncio.ensure_future(colleague.work())
        for name, run, count in (
            ("frames", fuzzers.fuzz_frames, frames),
            ("messages", fuzzers.fuzz_messages, messages),
        ):
            tally = await loop.run_in_executor(pool, run, work._replace(count=count))
            _take(outcome, name, tally)
            if tally.sent < count:
                outcome.faults.append(f"{name}: {tally.sent} of {count} in {tally.seconds:.0f} s")
        colleague.stop()
        await working
    after = await _settled(process, before)
    findings = leftovers.check_usage(before, after, pool=POOL)
    findings.merge(leftovers.check_log(log_lines(process), warnings=WARNINGS))
    outcome.faults += [*colleague.faults(), *findings.examples, *held_faults(held, await _freed(process, held))]
    outcome.figures |= {
        "writes beside": len(colleague.written),
        "slowest event, seconds": round(max(colleague.seconds), 3),
        "p99 event, seconds": round(measured.percentile(colleague.seconds, 0.99), 3),
        "files": (before.files, after.files),
        "threads": (before.threads, after.threads),
        "mebibytes": (memory >> 20, measured.resident_bytes(process) >> 20),
    }
    await editor.close()
    return outcome


def log_lines(process: Process) -> list[str]:
    """What the server logged, but for what it has to say at its start about these settings and this machine."""
    lines = process.log.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if '"event": "start_up"' not in line]


def held_faults(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Pure: what a server holds more of. A task or two may be under way: a lease's, a heartbeat's."""
    allowed = {"tasks": 3}
    return [
        f"held: {count - before.get(name, 0)} more {name} than before"
        for name, count in after.items()
        if count > before.get(name, 0) + allowed.get(name, 0)
    ]


async def _settled(process: Process, before: Usage) -> Usage:
    """What the process has, when the others are gone, or after `FREE_SECONDS`."""
    until = time.monotonic() + FREE_SECONDS
    while True:
        usage = await measured.usage(AsyncHTTPClient(), process)
        if (usage.connections <= before.connections and usage.subscriptions <= before.subscriptions) or (
            time.monotonic() > until
        ):
            return usage
        await asyncio.sleep(0.1)


async def _freed(process: ObservedProcess, before: Mapping[str, int]) -> dict[str, int]:
    until = time.monotonic() + FREE_SECONDS / 3
    while True:
        held = await process.held()
        if not held_faults(before, held) or time.monotonic() > until:
            return held
        await asyncio.sleep(0.2)


def _take(outcome: Outcome, name: str, tally: Tally) -> None:
    outcome.faults += [f"{name}: {wrong}" for wrong in tally.wrong]
    outcome.figures |= {
        name: tally.sent,
        f"{name}: connections": tally.connections,
        f"{name}: per second": round(tally.sent / tally.seconds) if tally.seconds else 0,
        f"{name}: wrong answers": tally.wrongs,
        f"{name}: ends": dict(sorted(tally.ends.items())),
    }


def _token(user: str) -> str:
    settings = Settings(auth_secret=SECRET)
    return commands.token(settings, sub=user, roles=(), ttl_seconds=24 * 3600, name=None, email=None)


async def _project(url: str, token: str, name: str) -> str:
    answer = await AsyncHTTPClient().fetch(
        f"{url}/api/v1/projects",
        method="POST",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        body=json.dumps({"name": name}),
    )
    made: str = json.loads(answer.body)["id"]
    return made


def main() -> int:
    """Run what was asked for, on a MongoDB of its own; 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="sequences of frames")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most, for each of the two")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="copydesk-fuzz-") as folder:
        database = mongod.start(Path(folder) / "data", say=lambda _text: None)
        try:
            run = fuzz(
                Path(folder),
                database.uri,
                "fuzz",
                frames=given.frames,
                messages=given.messages,
                seed=given.seed,
                seconds=given.seconds,
            )
            outcome = asyncio.run(run)
        finally:
            database.stop()
    for name, value in outcome.figures.items():
        print(f"{name}: {value}")
    print("\n".join(outcome.faults) or "nothing found")
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
