"""Clients that send fuzzed frames and messages, and hold the server to its answers. For a process of their own.

A finding is named with its seed: the same seed sends the same bytes again.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, Self

from tests.security import frame_sequences
from tests.security.message_mutations import message
from tests.security.wire import CLOSE, NO_CODE, PING, PONG, TEXT, Heard, WrongFrame, frame, handshake, split

PATH = "/api/v1/realtime"
LANES = 12
PATIENCE_SECONDS = 30.0
EXAMPLES = 10


class Work(NamedTuple):
    """What one fuzzer is to do; small enough to be handed to another process."""

    port: int
    seed: int
    count: int
    seconds: float
    """It stops after these, done or not."""
    tokens: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


class Tally(NamedTuple):
    """What was done, and what went wrong."""

    sent: int
    connections: int
    ends: dict[str, int]
    """How connections ended, by what they were sent last, and by close code."""
    wrong: list[str]
    """At most `EXAMPLES`, each with its seed."""
    wrongs: int
    seconds: float


class Fuzzer:
    """One kind of fuzzing, in several lanes at once."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.sent = self.connections = self.wrongs = 0
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def run(self, once: Callable[[random.Random], Awaitable[None]]) -> Tally:
        """Call `once` for one connection after the other."""
        begun = time.monotonic()

        async def lane() -> None:
            while self.sent < self.work.count and time.monotonic() - begun < self.work.seconds:
                self.connections += 1
                seed = f"{self.work.seed}-{self.connections}"
                try:
                    await once(random.Random(seed))
                except (AssertionError, WrongFrame, TimeoutError, OSError, asyncio.IncompleteReadError) as problem:
                    self.wrongs += 1
                    if len(self.wrong) < EXAMPLES:
                        self.wrong.append(f"{seed}: {type(problem).__name__}: {str(problem)[:500]}")

        await asyncio.gather(*(lane() for _ in range(LANES)))
        seconds = time.monotonic() - begun
        return Tally(self.sent, self.connections, dict(self.ends), self.wrong, self.wrongs, seconds)

    # -- frames -------------------------------------------------------------------------------------------------------

    async def frames(self, rng: random.Random) -> None:
        """One connection: harmless sequences, a mark to see that they were read, and something that ends it."""
        harmless = [frame_sequences.harmless(rng, number) for number in range(min(60, int(rng.expovariate(1 / 9))))]
        make = rng.choice((frame_sequences.fatal,) * 6 + (frame_sequences.wild, frame_sequences.wild))
        make = frame_sequences.cut_off if rng.random() < 0.1 else make
        last = make(rng)
        mark = rng.randbytes(8)
        data = handshake(self.work.port, PATH) + b"".join(sequence.data for sequence in harmless)
        data += frame(PING, mark) + last.data
        async with _Socket(self.work.port) as socket:
            await socket.send(data, rng)
            await socket.answered()
            heard = await socket.until(lambda heard: Heard(PONG, mark) in heard)
            replies = [json.loads(one.data)["id"] for one in heard[: heard.index((PONG, mark))] if one.opcode == TEXT]
            expected = [number for sequence in harmless for number in sequence.replies]
            assert replies == expected, f"replies {replies} in place of {expected}"
            if not last.ends and rng.random() < 0.5:
                socket.cut()
                code = 0
            else:
                if not last.ends:
                    socket.finish()
                code = await socket.end()
            assert not last.ends or code in last.ends, f"{last.name}: ended with {code}"
        self.sent += len(harmless) + 1
        self.ends[f"{last.name} {code if last.ends else 'any'}"] += 1

    # -- messages -----------------------------------------------------------------------------------------------------

    async def messages(self, rng: random.Random) -> None:
        """One connection: hello, messages of which at most two cannot be read, and a mark; then perhaps a third."""
        work = self.work
        async with _Socket(work.port) as socket:
            hello = json.dumps({"op": "hello", "id": -7, "token": rng.choice(work.tokens)})
            sent, unreadable = 0, 0
            expected: Counter[int] = Counter({-7: 1, -8: 1})
            data = handshake(work.port, PATH) + frame(TEXT, hello.encode())
            for number in range(1000, 1000 + rng.randint(1, 60)):
                made = message(rng, number, topics=work.topics, tokens=work.tokens)
                if made.unreadable and unreadable == 2:
                    continue
                sent += 1
                unreadable += made.unreadable
                if made.reply_to is not None:
                    expected[made.reply_to] += 1
                data += frame(TEXT, made.text.encode(), mask=rng.randbytes(4))
            data += frame(TEXT, b'{"op":"unsubscribe","id":-8,"topic":"projects"}')
            await socket.send(data, rng)
            await socket.answered()
            heard = await socket.until(lambda heard: _answered(heard) >= expected)
            assert _answered(heard) == expected, f"{_answered(heard) - expected} replied too often"
            if rng.random() < 0.3:
                third = "too long" if rng.random() < 0.2 else "unreadable"
                text = b" " * 70_000 if third == "too long" else b"[]"
                await socket.send(frame(TEXT, text) * (1 if third == "too long" else 3 - unreadable), rng)
                code = await socket.end()
                assert code == (1009 if third == "too long" else 4400), f"ended with {code}"
            elif rng.random() < 0.5:
                await socket.send(frame(CLOSE, b"\x03\xe8"), rng)
                code = await socket.end()
                assert code == 1000, f"ended with {code}"
            else:
                socket.cut()
                code = 0
        self.sent += sent
        self.ends[str(code)] += 1


def fuzz_frames(work: Work) -> Tally:
    """Blocks until it is done."""
    fuzzer = Fuzzer(work)
    return asyncio.run(fuzzer.run(fuzzer.frames))


def fuzz_messages(work: Work) -> Tally:
    """Blocks until it is done."""
    fuzzer = Fuzzer(work)
    return asyncio.run(fuzzer.run(fuzzer.messages))


def _answered(heard: list[Heard]) -> Counter[int]:
    """The ids of replies; each message of the server is JSON."""
    messages = [json.loads(one.data) for one in heard if one.opcode == TEXT]
    assert all(("push" in one) != ("id" in one) for one in messages)
    return Counter(one["id"] for one in messages if "id" in one)


class _Socket:
    """A TCP connection, and what came over it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._heard: list[Heard] = []
        self._rest = b""
        self._finished = False

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.cut()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, data: bytes, rng: random.Random) -> None:
        """In one piece or in several. The server may hang up meanwhile."""
        cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 0, 1, 3))))
        with suppress(OSError):
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                self._writer.write(data[start:end])
                await asyncio.sleep(0)
            # Without waiting until all is gone: the server may be waiting for us to read.

    async def answered(self) -> None:
        """Past the answer to the handshake."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def until(self, enough: Callable[[list[Heard]], bool]) -> list[Heard]:
        """What was heard so far, as soon as it is enough. `AssertionError` where the server hangs up before."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not enough(self._heard):
                assert await self._read(), f"the server hung up after {self._heard[-3:]}"
        return self._heard

    async def end(self) -> int:
        """The close code, when the server has ended its side; 0 without a close frame."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                while await self._read():
                    pass
        if not self._heard or self._heard[-1].opcode != CLOSE:
            return 0
        return self._heard[-1].code if self._heard[-1].data else NO_CODE

    def finish(self) -> None:
        """Say that nothing more will come."""
        self._finished = True
        with suppress(OSError):
            self._writer.write_eof()

    def cut(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()

    async def _read(self) -> bool:
        data = await self._reader.read(65536)
        if self._heard and self._heard[-1].opcode == CLOSE and data:
            raise WrongFrame(b"after a close frame: " + data[:200])
        frames, self._rest = split(self._rest + data)
        self._heard += frames
        if frames and frames[-1].opcode == CLOSE and not self._finished:
            # The answer that a client owes (RFC 6455, 5.5.1); without it the server would wait for 5 seconds.
            with suppress(OSError):
                self._writer.write(frame(CLOSE, frames[-1].data[:2]))
        return bool(data)
