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


async def answered(listening: Listening) -> None:
    """Wait until no answer is due."""
    assert isinstance(listening.server, ListeningServer)
    async with asyncio.timeout(20):  # which lets nothing else run first
        await listening.server.answered()


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
    waiting = asyncio.create_task(answered(listening))
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
    await answered(listening)
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
    await answered(listening)
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
    waiting = asyncio.create_task(answered(listening))
    await asyncio.sleep(0)
    assert not waiting.done()
    listening.gate.opened.set()
    assert await read_answer(reader) == b"done"
    await waiting
    await leave(writer)


async def test_a_connection_on_which_nothing_comes_is_not_waited_for_long(listening: Listening) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    listening.server.stop_listening()
    await answered(listening)
    await leave(writer)


async def test_a_client_that_leaves_is_not_waited_for(listening: Listening) -> None:
    _reader, writer = await listening.request()
    await listening.gate.entered.wait()
    await leave(writer)
    listening.server.stop_listening()
    await answered(listening)
    listening.gate.opened.set()


async def test_a_websocket_is_not_waited_for(listening: Listening) -> None:
    client = await websocket_connect(f"ws://127.0.0.1:{listening.port}/echo")
    listening.server.stop_listening()
    await answered(listening)
    await client.write_message("still there")
    assert await client.read_message() == "still there"
    client.close()
    assert await client.read_message() is None


def _sent_without_letting_the_loop_run(listening: Listening) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", listening.port))
    client.sendall(REQUEST)
    return client
