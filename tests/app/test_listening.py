"""Stopping without breaking off a request, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from app.listening import ListeningServer, admit_nobody

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


class Gate:
    """A handler that says when it runs, and answers when it is told to."""

    def __init__(self) -> None:
        self.entered, self.opened = asyncio.Event(), asyncio.Event()


class GateHandler(RequestHandler):
    def initialize(self, gate: Gate) -> None:
        self.gate = gate

    async def get(self) -> None:
        self.gate.entered.set()
        await self.gate.opened.wait()
        self.write("done")


class EchoHandler(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class Listening:
    """A server on a free port."""

    def __init__(self, kind: type[HTTPServer]) -> None:
        self.gate = Gate()
        self.server = kind(Application([("/", GateHandler, {"gate": self.gate}), ("/echo", EchoHandler)]))
        bound = socket.create_server(("127.0.0.1", 0))
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        self.server.add_sockets([bound])

    async def request(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which a request was sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(REQUEST)
        return reader, writer

    async def close(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()


@pytest.fixture
def listening(io_loop: IOLoop) -> Iterator[Listening]:
    """The server under test."""
    made = Listening(ListeningServer)
    yield made
    io_loop.run_sync(made.close)


@pytest.fixture
def plain(io_loop: IOLoop) -> Iterator[Listening]:
    """Tornado's own."""
    made = Listening(HTTPServer)
    yield made
    io_loop.run_sync(made.close)


async def finished(listening: Listening) -> None:
    """Wait until no answer is due."""
    assert isinstance(listening.server, ListeningServer)
    async with asyncio.timeout(20):  # which lets nothing else run first
        await listening.server.finished()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer on a connection that stays."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert head.startswith(b"HTTP/1.1 200 ")
    return await reader.readexactly(4)


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_a_request_that_runs_when_the_server_stops_is_waited_for(listening: Listening) -> None:
    reader, writer = await listening.request()
    await listening.gate.entered.wait()

    listening.server.stop_listening()
    waiting = asyncio.create_task(finished(listening))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", listening.port)
    assert not waiting.done()

    listening.gate.opened.set()
    assert await read_answer(reader) == b"done"
    await waiting
    await leave(writer)


async def test_a_connection_that_only_the_system_has_accepted_is_served(listening: Listening) -> None:
    listening.gate.opened.set()
    client = _sent_without_letting_the_loop_run(listening)

    listening.server.stop_listening()
    await finished(listening)
    await listening.server.close_all_connections()

    reader, writer = await asyncio.open_connection(sock=client)
    assert await read_answer(reader) == b"done"
    await leave(writer)


async def test_without_that_it_would_be_reset(plain: Listening) -> None:
    client = _sent_without_letting_the_loop_run(plain)
    plain.server.stop()
    reader, writer = await asyncio.open_connection(sock=client)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 20)
    writer.close()


async def test_who_connects_while_the_door_is_being_closed_is_refused_and_not_reset() -> None:
    door = socket.create_server(("127.0.0.1", 0))
    address = door.getsockname()
    admit_nobody(door)
    knocking = asyncio.create_task(asyncio.open_connection(*address))
    await asyncio.sleep(0)  # the first packet is on its way, and is dropped
    door.setblocking(False)
    with pytest.raises(BlockingIOError):
        door.accept()
    door.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.wait_for(knocking, 20)


async def test_a_kept_connection_without_a_request_is_not_waited_for(listening: Listening) -> None:
    listening.gate.opened.set()
    reader, writer = await listening.request()
    await read_answer(reader)
    listening.server.stop_listening()
    await finished(listening)
    await leave(writer)


async def test_the_second_request_on_a_kept_connection_is_waited_for(listening: Listening) -> None:
    listening.gate.opened.set()
    reader, writer = await listening.request()
    await read_answer(reader)
    listening.gate.opened.clear()
    listening.gate.entered.clear()
    writer.write(REQUEST)
    await listening.gate.entered.wait()

    listening.server.stop_listening()
    waiting = asyncio.create_task(finished(listening))
    await asyncio.sleep(0)
    assert not waiting.done()
    listening.gate.opened.set()
    assert await read_answer(reader) == b"done"
    await waiting
    await leave(writer)


async def test_a_connection_on_which_nothing_comes_is_not_waited_for_long(listening: Listening) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    listening.server.stop_listening()
    await finished(listening)
    await leave(writer)


async def test_a_client_that_leaves_is_not_waited_for(listening: Listening) -> None:
    _reader, writer = await listening.request()
    await listening.gate.entered.wait()
    await leave(writer)
    listening.server.stop_listening()
    await finished(listening)
    listening.gate.opened.set()


async def test_a_websocket_is_not_waited_for(listening: Listening) -> None:
    client = await websocket_connect(f"ws://127.0.0.1:{listening.port}/echo")
    listening.server.stop_listening()
    await finished(listening)
    await client.write_message("still there")
    assert await client.read_message() == "still there"
    client.close()
    assert await client.read_message() is None


def _sent_without_letting_the_loop_run(listening: Listening) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", listening.port))
    client.sendall(REQUEST)
    return client


# -- connections that only take up room -------------------------------------------------------------------------------


async def until_waiting(listening: Listening, count: int) -> ListeningServer:
    """Wait until so many connections wait for a request."""
    server = listening.server
    assert isinstance(server, ListeningServer)
    async with asyncio.timeout(20):
        while len(server._awaiting) != count:  # noqa: ASYNC110 - asks what tells nobody
            await asyncio.sleep(0.01)
    return server


async def until_read(server: ListeningServer) -> None:
    """Wait until part of a head has been read."""
    async with asyncio.timeout(20):
        while not any(connection.stream._read_buffer_size for connection in server._awaiting):  # noqa: ASYNC110 - asks what tells nobody
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("first", [b"", REQUEST], ids=["new", "kept"])
async def test_a_head_that_trickles_in_is_cut_off_in_time_and_an_idle_connection_is_not(
    listening: Listening, first: bytes
) -> None:
    listening.gate.opened.set()
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", listening.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    if first:
        writer.write(first)
        await read_answer(reader)
    server = await until_waiting(listening, 2)
    now = [1000.0]
    server.clock = lambda: now[0]
    writer.write(REQUEST[:-2])
    await until_read(server)
    server.sweep()
    for _ in range(10):
        now[0] += 1.0
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0)
        server.sweep()
    assert len(server._awaiting) == 2
    now[0] += 0.1
    server.sweep()
    assert await asyncio.wait_for(reader.read(), 20) == b""
    idle_writer.write(REQUEST)
    assert await read_answer(idle_reader) == b"done"
    assert not server._trickling
    for one in (writer, idle_writer):
        await leave(one)


async def test_a_head_in_two_pieces_is_served_and_the_time_begins_anew_with_each_request(listening: Listening) -> None:
    listening.gate.opened.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    server = await until_waiting(listening, 1)
    now = [1000.0]
    server.clock = lambda: now[0]
    for _ in range(3):
        writer.write(REQUEST[:10])
        await until_read(server)
        server.sweep()
        now[0] += 9.0
        server.sweep()
        writer.write(REQUEST[10:])
        assert await read_answer(reader) == b"done"
        await until_waiting(listening, 1)
    await leave(writer)


async def test_where_descriptors_run_out_idle_connections_make_room_and_then_new_ones_are_closed(
    listening: Listening,
) -> None:
    kept = [await asyncio.open_connection("127.0.0.1", listening.port) for _ in range(2)]
    busy_reader, busy_writer = await listening.request()
    await listening.gate.entered.wait()
    server = await until_waiting(listening, 2)
    now = server.clock() + 5.0
    server.clock = lambda: now
    server.crowded = lambda _descriptor: True
    reader, writer = await listening.request()
    for idle, _ in kept:
        assert await asyncio.wait_for(idle.read(), 20) == b""
    refused, refused_writer = await asyncio.open_connection("127.0.0.1", listening.port)
    assert await asyncio.wait_for(refused.read(), 20) == b""
    listening.gate.opened.set()
    assert await read_answer(busy_reader) == b"done"
    assert await read_answer(reader) == b"done"
    for one in (*(idle_writer for _, idle_writer in kept), busy_writer, writer, refused_writer):
        await leave(one)
