"""RFC 6455: the Autobahn cases against our handler, what they leave out, and what Tornado does without us."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from kosoku import FailureError, run_fuzzingclient
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from app.protocol import MAX_MESSAGE_BYTES
from handlers.frames import may_be_sent
from handlers.realtime import RealtimeHandler
from tests.conftest import Copydesk
from tests.handlers.raw_socket import RawSocket, started_with
from tests.security.wire import frame, handshake

NOT_OFFERED = ["12.*", "13.*"]
"""Compression: never negotiated, so there is nothing to ask."""
OVER_64_KIB = ["9.1.2", "9.1.3", "9.1.4", "9.1.5", "9.1.6", "9.2.2", "9.2.3", "9.2.4", "9.2.5", "9.2.6",
               "9.3.*", "9.4.*", "9.5.*", "9.6.*"]  # fmt: skip
"""Messages of 256 KiB to 16 MiB."""
DEVIATIONS = {"6.4.3": "NON-STRICT", "6.4.4": "NON-STRICT"}
"""What is not as strict as it might be. The reasons stand in docs/decisions."""
PASSED = ("OK", "INFORMATIONAL")
PATH = "/api/v1/echo"


class EchoHandler(RealtimeHandler):
    """Our handler and our frames; in place of the conversation, the echo that the cases ask for."""

    def open(self, *arguments: str, **options: str) -> None:
        super().open(*arguments, **options)
        if self._hello_timer is not None:
            self._hello_timer.cancel()

    async def on_message(self, message: str | bytes) -> None:
        opcode, data = (0x2, message) if isinstance(message, bytes) else (0x1, message.encode())
        self.put(frame(opcode, data, mask=None))


class PlainHandler(WebSocketHandler):
    """The same without anything of ours."""

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


@pytest.fixture
def echo(copydesk: Copydesk) -> Copydesk:
    """A server with one more route."""
    application: Any = copydesk.server._http.request_callback
    rule = next(rule for rule in application.wildcard_router.rules if rule.target is RealtimeHandler)
    application.add_handlers(r".*", [(PATH, EchoHandler, rule.target_kwargs)])
    return copydesk


@pytest.fixture
def sockets(io_loop: IOLoop) -> Iterator[list[RawSocket]]:
    """Raw sockets that end with the test."""
    opened: list[RawSocket] = []
    yield opened
    for one in opened:
        io_loop.run_sync(one.close)


async def deviations(url: str, *, only: list[str] | None = None, without: list[str]) -> tuple[int, dict[str, str]]:
    """How many cases were run, and those that did not pass in every respect, with how they ended."""
    try:
        results = await run_fuzzingclient(url, only, without, concurrency=8)
    except FailureError as failure:
        results = failure.results
    found = {}
    for result in results:
        verdicts = [
            verdict for verdict in (result.behavior.value, result.behavior_close.value) if verdict not in PASSED
        ]
        if verdicts:
            found[result.case_id] = verdicts[0]
    return len(results), found


# -- the Autobahn cases ------------------------------------------------------------------------------------------------


async def test_every_case_that_fits_our_limits_passes(echo: Copydesk) -> None:
    url = echo.url.replace("http", "ws") + PATH
    assert await deviations(url, without=[*NOT_OFFERED, *OVER_64_KIB]) == (261, DEVIATIONS)


@started_with(max_messages_per_second=100_000)
async def test_every_case_passes_with_wider_limits(echo: Copydesk) -> None:
    application: Any = echo.server._http.request_callback
    application.settings["websocket_max_message_size"] = 2**24 + 1
    url = echo.url.replace("http", "ws") + PATH
    ran, found = await deviations(url, only=OVER_64_KIB, without=[])
    assert (ran > 30, found) == (True, {})


async def test_the_cases_can_fail() -> None:
    server = HTTPServer(Application([("/", PlainHandler)]))
    socket, port = bind_unused_port()
    server.add_socket(socket)
    ran, found = await deviations(f"ws://127.0.0.1:{port}/", only=["7.9.*", "1.1.1"], without=[])
    server.stop()
    await server.close_all_connections()
    # Where this fails because Tornado refuses such codes by itself, `close_fault` in handlers/frames.py can go.
    assert (ran, found) == (10, {f"7.9.{number}": "FAILED" for number in range(1, 10)})


# -- what the cases leave out ------------------------------------------------------------------------------------------


async def ends(server: Copydesk, sockets: list[RawSocket], *frames: bytes, path: str = PATH) -> int | None:
    """The close code that follows these bytes; None where the connection is cut without one."""
    socket = await RawSocket.open(server)
    sockets.append(socket)
    assert (await socket.request(server, path=path)).status == 101
    socket.writer.write(b"".join(frames))
    try:
        return await socket.close_code()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


HELLO = frame(1, b"hello")
BROKEN: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "a frame without a mask": (1002, (frame(1, b"hello", mask=None),)),
    "an empty frame without a mask": (1002, (frame(1, b"", mask=None),)),
    "a ping without a mask": (1002, (frame(9, b"x", mask=None),)),
    "a close without a mask": (1002, (frame(8, b"\x03\xe8", mask=None),)),
    "a pong without a mask after a good frame": (1002, (HELLO, frame(10, b"", mask=None))),
    "a continuation without a mask": (1002, (frame(1, b"he", first=0), frame(0, b"llo", mask=None))),
    "a part without a mask whose rest has one": (1002, (frame(1, b"he", first=0, mask=None), frame(0, b"llo"))),
    "a long frame without a mask, before it is all there": (1002, (frame(1, bytes(60_000), mask=None)[:100],)),
    "a reserved bit": (1002, (frame(1, b"x", first=0xC0),)),
    "all reserved bits in a ping": (1002, (frame(9, b"x", first=0xF0),)),
    "opcode 3": (1002, (frame(3, b"x"),)),
    "opcode 15": (1002, (frame(15, b""),)),
    "an unknown opcode in parts": (1002, (frame(5, b"x", first=0), frame(0, b"y"))),
    "a ping in parts": (1002, (frame(9, b"x", first=0),)),
    "a ping of 126 bytes": (1002, (frame(9, bytes(126)),)),
    "a continuation of nothing": (1002, (frame(0, b"x"),)),
    "a message inside another": (1002, (frame(1, b"x", first=0), frame(1, b"y"))),
    "5 as two bytes": (1002, (b"\x81\xfe\x00\x05" + bytes(4) + b"hello",)),
    "5 as eight bytes": (1002, (b"\x81\xff" + struct.pack(">Q", 5) + bytes(4) + b"hello",)),
    "65,535 as eight bytes": (1002, (b"\x81\xff" + struct.pack(">Q", 65535),)),
    "a length of 2**63": (1002, (b"\x81\xff" + struct.pack(">Q", 2**63),)),
    "a length of 2**62": (1009, (b"\x81\xff" + struct.pack(">Q", 2**62),)),
    "one byte over the limit": (1009, (frame(1, bytes(MAX_MESSAGE_BYTES + 1)),)),
    "one byte over the limit in parts": (
        1009,
        (frame(1, b"x" * MAX_MESSAGE_BYTES, first=0), frame(0, b"x")),
    ),
    "text that is not UTF-8": (1007, (frame(1, b"\xff"),)),
    "text that is not UTF-8, before its end": (1007, (frame(1, b"a\xff", first=0),)),
    "a surrogate over two parts": (1007, (frame(1, b"\xed", first=0), frame(0, b"\xa0"))),
    "text that ends inside a character": (1007, (frame(1, b"\xc3"),)),
    "a close of one byte": (1002, (frame(8, b"\x03"),)),
    "a close with a reason that is not UTF-8": (1007, (frame(8, b"\x03\xe8\xff"),)),
}


async def test_what_breaks_a_rule_is_told_so(echo: Copydesk, sockets: list[RawSocket]) -> None:
    expected = {name: code for name, (code, _) in BROKEN.items()}
    for path in (PATH, RealtimeHandler.route):
        found = {name: await ends(echo, sockets, *frames, path=path) for name, (_, frames) in BROKEN.items()}
        assert found == expected


async def test_every_close_code_is_echoed_or_refused(echo: Copydesk, sockets: list[RawSocket]) -> None:
    for code in (0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535):
        answer = await ends(echo, sockets, frame(8, struct.pack(">H", code)))
        assert answer == (code if may_be_sent(code) else 1002), code
    assert [code for code in range(65536) if may_be_sent(code)] == [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, *range(3000, 5000)
    ]  # fmt: skip


async def test_what_is_close_to_broken_is_read(echo: Copydesk, sockets: list[RawSocket]) -> None:
    socket = await RawSocket.open(echo)
    sockets.append(socket)
    await socket.request(echo, path=PATH)
    e_acute = "é".encode()
    socket.writer.write(
        frame(1, e_acute[:1], first=0)
        + frame(9, b"\xff" * 125)
        + frame(0, b"", first=0)
        + frame(0, e_acute[1:])
        + frame(1, b"")
        + frame(2, b"\xff", first=0)
        + frame(0, b"\xfe")
        + frame(1, b"x" * MAX_MESSAGE_BYTES)
        + frame(8, b"")
    )
    heard = [await socket.frame() for _ in range(6)]
    assert heard == [
        (10, b"\xff" * 125), (1, e_acute), (1, b""), (2, b"\xff\xfe"), (1, b"x" * MAX_MESSAGE_BYTES), (8, b"")
    ]  # fmt: skip


async def test_nothing_follows_a_close_frame_and_what_comes_after_it_is_not_heard(
    echo: Copydesk, sockets: list[RawSocket]
) -> None:
    for broken in (frame(1, b"\xff"), frame(1, b"x", mask=None), frame(8, b"\x00\x00")):
        socket = await RawSocket.open(echo)
        sockets.append(socket)
        await socket.request(echo, path=PATH)
        socket.writer.write(broken + 100 * HELLO + frame(9, b""))
        assert (await socket.frame())[0] == 8
        # The end of our data comes with the close frame; the client may go on talking without a reset.
        assert await asyncio.wait_for(socket.reader.read(), 20) == b""
        socket.writer.write(100 * HELLO)
        await socket.writer.drain()
        socket.writer.write_eof()
    await asyncio.wait_for(echo.server.connections.emptied(), 20)


async def test_a_flood_of_frames_is_cut_off_and_told_why(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    for flood in (frame(9, b""), frame(0, b"", first=0)):
        socket = await RawSocket.open(copydesk)
        sockets.append(socket)
        await socket.request(copydesk)
        socket.writer.write(frame(1, b"", first=0) + 5000 * flood)
        while (heard := await socket.frame())[0] == 10:
            pass
        assert (heard[0], b'"rate_limited"' in heard[1], b'"retry_after_ms"' in heard[1]) == (1, True, True)
        assert await socket.close_code() == 4008


# -- Tornado without us ------------------------------------------------------------------------------------------------


async def plain(meet: Callable[[int], Awaitable[Any]]) -> Any:
    """What becomes of a meeting with Tornado alone, at a port."""
    server = HTTPServer(Application([("/", PlainHandler)]))
    socket, port = bind_unused_port()
    server.add_socket(socket)
    try:
        return await meet(port)
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (frame(1, b"hello", mask=None), frame(1, b"hello", mask=None)),
        (b"\x81\xfe\x00\x05" + bytes(4) + b"hello", frame(1, b"hello", mask=None)),
        (frame(8, b"\x00\x00"), frame(8, b"\x00\x00", mask=None)),
        (frame(1, b"\xff"), b""),
        (frame(3, b""), b""),
    ],
    ids=["no mask", "a long length", "a reserved close code", "no UTF-8", "an unknown opcode"],
)
async def test_tornado_alone_is_laxer(sent: bytes, answer: bytes) -> None:
    """Where this fails after an update of Tornado, it has learned something: take that out of handlers/frames.py."""

    async def meet(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(handshake(port, "/"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        answer_read = await asyncio.wait_for(reader.readexactly(len(answer)) if answer else reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        return answer_read

    assert await plain(meet) == answer
