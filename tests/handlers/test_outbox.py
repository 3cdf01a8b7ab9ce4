"""What waits for one client, on a real pair of sockets with small buffers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

from handlers.outbox import LITTLE, Outbox

MAX = 1_000_000
BLOCK = b"x" * 200_000
"""More than the buffers of the two sockets take."""


class Wire:
    """An outbox, and the other end that reads when it is told to."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setblocking(False)
        self.stream, self.client = IOStream(ours), theirs
        self.now, self.given_up = 0.0, 0
        self.stuck: set[Any] = set()
        self.outbox = Outbox(
            self.stream, max_bytes=lambda: MAX, too_slow=self._give_up, stuck=self.stuck, clock=lambda: self.now
        )

    def _give_up(self) -> None:
        self.given_up += 1

    async def read(self, size: int) -> bytes:
        """So many bytes as the client gets them."""
        data = b""
        while len(data) < size:
            data += await asyncio.wait_for(
                asyncio.get_running_loop().sock_recv(self.client, min(65536, size - len(data))), 20
            )
        return data

    def close(self) -> None:
        self.outbox.shut()
        self.stream.close()
        self.client.close()


@pytest.fixture
def wire(io_loop: IOLoop) -> Iterator[Wire]:
    async def make() -> Wire:
        return Wire()

    made = io_loop.run_sync(make)
    yield made

    async def close() -> None:
        made.close()

    io_loop.run_sync(close)


async def test_what_the_socket_takes_at_once_never_waits(wire: Wire) -> None:
    wire.outbox.send(b"one")
    wire.outbox.send(b"two")
    assert (wire.outbox.pending_bytes, wire.outbox.blocked_seconds) == (0, 0.0)
    assert await wire.read(6) == b"onetwo"


async def test_everything_arrives_in_order_though_the_client_reads_late(wire: Wire) -> None:
    frames = [bytes([number]) * 30_000 for number in range(25)]
    for frame in frames:
        wire.outbox.send(frame)
    assert 0 < wire.outbox.pending_bytes < MAX
    assert await wire.read(25 * 30_000) == b"".join(frames)
    assert await wire.outbox.room()
    wire.outbox.send(b"end")
    assert await wire.read(3) == b"end"
    assert wire.given_up == 0


async def test_one_byte_too_much_gives_the_client_up_once(wire: Wire) -> None:
    wire.outbox.send(BLOCK)
    wire.outbox.send(b"y" * (MAX - wire.outbox.pending_bytes))
    assert (wire.given_up, wire.outbox.pending_bytes) == (0, MAX)
    wire.outbox.send(b"z")
    wire.outbox.send(b"z")
    assert wire.given_up == 1
    assert wire.outbox.pending_bytes <= len(BLOCK)
    assert not await wire.outbox.room()


async def test_time_counts_from_the_oldest_byte_that_waits(wire: Wire) -> None:
    wire.outbox.send(BLOCK)
    wire.now = 10.0
    wire.outbox.send(BLOCK)
    assert wire.outbox.blocked_seconds == 10.0
    assert wire.stuck == {wire.outbox}
    wire.now = 15.0
    while wire.outbox.pending_bytes > len(BLOCK):
        await wire.read(1000)
    # The second block has been waiting since 10, though it is on its way only now.
    assert wire.outbox.blocked_seconds == 5.0
    while wire.outbox.pending_bytes:
        await wire.read(1000)
    assert wire.outbox.blocked_seconds == 0.0
    assert wire.stuck == set()


async def test_who_is_given_up_waits_no_more(wire: Wire) -> None:
    wire.outbox.send(BLOCK)
    wire.outbox.give_up()
    assert wire.given_up == 1
    wire.outbox.shut()
    assert wire.stuck == set()


async def test_room_is_there_once_little_waits(wire: Wire) -> None:
    wire.outbox.send(BLOCK)
    waiting = [asyncio.ensure_future(wire.outbox.room()) for _ in range(3)]
    await asyncio.sleep(0)
    assert wire.outbox.pending_bytes > LITTLE
    assert not any(waiter.done() for waiter in waiting)
    await wire.read(len(BLOCK))
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_who_waits_for_room_is_told_when_the_connection_is_over(wire: Wire) -> None:
    wire.outbox.send(BLOCK)
    waiting = asyncio.ensure_future(wire.outbox.room())
    await asyncio.sleep(0)
    wire.client.close()
    assert await waiting is False
    wire.outbox.send(b"into the void")
    wire.stream.close()
    wire.outbox.send(b"into the void")
    assert wire.given_up == 0
