"""A flood from one client beside editors who work: how much slower do the others' answers get?

    python -m tests.security.flood [--kind requests|heads|pipelined] [--seconds 10] [--connections 50]

*requests*: one user asks without a pause, on all connections. *heads*: requests whose heads trickle in, a byte a second
(Slowloris). *pipelined*: one request behind the other on each connection, without waiting for the answers.

Prints the 99th percentile of the others without and with the flood, and their ratio; the exit code says whether it is
at most 2, or the flooded one below `FLOOR_MS`, where the scheduler of a busy machine decides.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from app import commands, mongod
from app.settings import Settings
from tests.real.processes import Process

SECRET = "7c0e1b9a4d2f8356" * 2
EDITORS = 5
PAUSE = 0.05
RATIO = 2.0
FLOOR_MS = 10.0
PIPELINED = 10_000
"""Requests on one connection."""
SETTLE_SECONDS = 3.0
"""For the flood to use up what it may send at once."""


class Outcome(NamedTuple):
    """What was measured; times in milliseconds."""

    alone_ms: float
    flooded_ms: float
    refused: int
    served: int

    @property
    def ratio(self) -> float:
        return self.flooded_ms / self.alone_ms

    @property
    def good(self) -> bool:
        return self.ratio <= RATIO or self.flooded_ms <= FLOOR_MS


class Client:
    """One kept connection of one user."""

    def __init__(self, port: int, user: str) -> None:
        token = commands.token(
            Settings(auth_secret=SECRET), sub=user, roles=[], ttl_seconds=3600, name=None, email=None
        )
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> int:
        """The status of one answer; its connection is opened again where it was closed."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\n".encode() + self._head)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
        await reader.readexactly(int(length or b"0"))
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def p99(port: int, seconds: float) -> float:
    """Of several editors who look at something again and again, in milliseconds."""
    took: list[float] = []

    async def work(number: int) -> None:
        client = Client(port, f"editor{number}")
        await client.get("/api/v1/projects")  # makes the user known
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            begun = time.perf_counter()
            status = await client.get("/api/v1/projects")
            took.append(time.perf_counter() - begun)
            assert status == 200, status
            await asyncio.sleep(PAUSE)
        client.close()

    await asyncio.gather(*(work(number) for number in range(EDITORS)))
    return sorted(took)[max(0, int(len(took) * 0.99) - 1)] * 1000


async def measure(
    port: int, *, seconds: float, connections: int, settle: float = SETTLE_SECONDS, kind: str = "requests"
) -> Outcome:
    """First without the flood, then with it."""
    await p99(port, min(1.0, seconds))
    alone = await p99(port, seconds)
    flood = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.security.flood", "--flood", str(port), "--connections", str(connections)),
        *("--kind", kind),
        *("--seconds", str(seconds + settle + 2.0)),
        stdout=asyncio.subprocess.PIPE,
    )
    await asyncio.sleep(settle)
    flooded = await p99(port, seconds)
    said, _ = await flood.communicate()
    served, refused = json.loads(said)
    return Outcome(alone, flooded, refused, served)


Count = Callable[[int], None]
"""Told the status of each answer."""


async def one_after_the_other(port: int, until: float, count: Count) -> None:
    """A client of the user who floods, on a connection of its own."""
    client = Client(port, "flooder")
    while time.monotonic() < until:
        try:
            count(await client.get("/api/v1/projects"))
        except (OSError, asyncio.IncompleteReadError):
            client.close()
    client.close()


async def byte_by_byte(port: int, until: float, count: Count) -> None:
    """A head that never ends; where the server ends it, the next one. That counts as refused."""
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Slow: ".encode())
            while time.monotonic() < until and not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(1.0)
            if reader.at_eof():
                count(429)
            writer.close()
        except OSError:
            count(429)


async def pipelined(port: int, until: float, count: Count) -> None:
    """Two kinds of requests in turn. Answers that come in another order are counted as 500."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    pair = "".join(f"GET /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n" for path in ("config", "nothing"))
    writer.write(pair.encode() * (PIPELINED // 2))
    expected = itertools.cycle((200, 404))
    try:
        while time.monotonic() < until:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or b"0"))
            status, wanted = int(head.split(b" ", 2)[1]), next(expected)
            count(200 if status == wanted else 429 if status == 429 else 500)
    except (OSError, asyncio.IncompleteReadError):
        count(429)
    writer.close()


KINDS = {"requests": one_after_the_other, "heads": byte_by_byte, "pipelined": pipelined}
"""One connection of each kind of flood."""


async def attack(port: int, *, seconds: float, connections: int, kind: str = "requests") -> None:
    """The flood itself; prints how many requests were served and refused."""
    counts = Counter[int]()
    until = time.monotonic() + seconds

    def count(status: int) -> None:
        counts[status] += 1

    try:
        async with asyncio.timeout(seconds + 1.0):
            await asyncio.gather(*(KINDS[kind](port, until, count) for _ in range(connections)))
    except TimeoutError:
        pass  # an answer that is kept back for longer than the flood lasts
    assert not counts[500], "answers came in another order than their questions"
    print(json.dumps([counts[200], counts[429]]))


def main() -> int:
    """Run it on a server and a MongoDB of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--kind", choices=sorted(KINDS), default="requests")
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.flood is not None:
        asyncio.run(attack(chosen.flood, seconds=chosen.seconds, connections=chosen.connections, kind=chosen.kind))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        running = mongod.start(Path(folder))
        process = Process(mongodb_uri=running.uri, auth_secret=SECRET, drain_seconds="0")
        try:
            outcome = asyncio.run(
                measure(process.port, seconds=chosen.seconds, connections=chosen.connections, kind=chosen.kind)
            )
        finally:
            process.stop()
            running.stop()
    print(f"p99 of {EDITORS} editors alone {outcome.alone_ms:.1f} ms, beside the flood {outcome.flooded_ms:.1f} ms:")
    print(f"ratio {outcome.ratio:.2f}; of the flood {outcome.served} were served and {outcome.refused} refused")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
