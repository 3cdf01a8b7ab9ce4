"""Bytes past Tornado's buffer: in order with what it writes itself, and never onto a stream that is busy or gone."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, SSLIOStream

from handlers import straight

BLOCK = b"x" * 400_000
"""More than the buffers of the two sockets take."""


class Ends:
    """A stream, and the socket at its other end."""

    def __init__(self) -> None:
        ours, self.client = socket.socketpair()
        for end in (ours, self.client):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setblocking(False)
        self.stream = IOStream(ours)

    async def read(self, size: int) -> bytes:
        """So many bytes as the client gets them."""
        data = b""
        while len(data) < size:
            loop = asyncio.get_running_loop()
            data += await asyncio.wait_for(loop.sock_recv(self.client, size - len(data)), 20)
        return data


@pytest.fixture
def ends(io_loop: IOLoop) -> Iterator[Ends]:
    async def make() -> Ends:
        return Ends()

    async def close() -> None:
        made.stream.close()
        made.client.close()

    made = io_loop.run_sync(make)
    yield made
    io_loop.run_sync(close)


async def test_a_socket_with_room_takes_it_all_at_once(ends: Ends) -> None:
    assert straight.send(ends.stream, b"one") == 3
    assert not ends.stream.writing()
    assert await ends.read(3) == b"one"


async def test_a_full_socket_says_how_much_it_took_and_then_nothing(ends: Ends) -> None:
    taken = straight.send(ends.stream, BLOCK)
    assert 0 < taken < len(BLOCK)
    while straight.send(ends.stream, BLOCK):
        pass
    assert not ends.stream.closed()


async def test_nothing_overtakes_what_tornado_writes_itself(ends: Ends) -> None:
    # A pong or a close frame is Tornado's, and may wait in its buffer.
    written = ends.stream.write(BLOCK)
    assert straight.send(ends.stream, b"y") == 0
    assert await ends.read(len(BLOCK)) == BLOCK
    await written
    assert straight.send(ends.stream, b"y") == 1
    assert await ends.read(1) == b"y"


async def test_the_stream_goes_on_where_the_socket_stopped(ends: Ends) -> None:
    data = bytes(range(256)) * 2000
    taken = straight.send(ends.stream, data)
    written = ends.stream.write(memoryview(data)[taken:])
    assert await ends.read(len(data)) == data
    await written


async def test_a_closed_stream_takes_nothing(ends: Ends) -> None:
    ends.stream.close()
    assert straight.send(ends.stream, b"into the void") == 0


async def test_a_gone_peer_is_left_for_the_stream_to_find_out(ends: Ends) -> None:
    ends.client.close()
    assert straight.send(ends.stream, b"into the void") == 0
    assert not ends.stream.closed()


async def test_what_is_encrypted_never_passes_the_stream_by(ends: Ends) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        context = ssl.create_default_context()
        stream = SSLIOStream(context.wrap_socket(ours, server_hostname="x", do_handshake_on_connect=False))
        assert not straight.can_take(stream)
        assert straight.can_take(ends.stream)
        stream.close()


def test_tornado_keeps_what_it_has_not_sent_where_this_looks_for_it() -> None:
    """Read these methods again when this fails: who writes past a stream relies on all of it."""
    assert inspect.getsource(IOStream.writing).rstrip().endswith("return bool(self._write_buffer)")
    write = inspect.getsource(IOStream.write)
    # Bytes go into the buffer, and to the socket within the same call: there is no third place where they wait.
    assert "self._write_buffer.append(data)" in write
    assert "self._handle_write()" in write
    # And its own way to the socket is no shorter yet.
    assert "Future()" in write
