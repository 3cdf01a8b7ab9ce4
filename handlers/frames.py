"""RFC 6455 where Tornado's frame reader is laxer: what breaks a rule is answered with a close code, then ignored.

Tornado 6.6.1 takes frames without a mask (5.1), echoes close codes that nobody may send (7.4), takes lengths that are
longer than they need to be (5.2), and hangs up without a word on most other faults, so that a client cannot tell them
from a lost network. Its reader has no public place to put that right. Three of its methods are overridden here, and
nothing else of ours knows them; setup.cfg therefore names the versions that this was written for, and
tests/security/test_rfc6455.py tells when Tornado does by itself what is done here.
"""

from __future__ import annotations

import asyncio
import codecs
import socket
import struct
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, NoReturn, cast

from tornado.websocket import WebSocketProtocol13

from app.allowance import Pace
from app.protocol import CloseCode

PROTOCOL_ERROR = 1002
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
# https://www.iana.org/assignments/websocket/ without those that are never on the wire (RFC 6455, 7.4.1).
_REGISTERED_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})
_DISCARDED_AT_ONCE = 64 * 1024
_READ_AHEAD = 4096
"""Most messages fit, and none is held back longer than it takes to look at those before it."""


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry this code (RFC 6455, 7.4)."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999


def header_fault(first: int, second: int, *, inside_message: bool) -> bool:
    """Whether the first two bytes of a client's frame break RFC 6455 (5.1, 5.2, 5.4, 5.5). No extension is in use."""
    final, reserved, opcode = first & 0x80, first & 0x70, first & 0x0F
    masked, length = second & 0x80, second & 0x7F
    if reserved or not masked or opcode not in _OPCODES:
        return True
    if opcode & 0x8:
        return not final or length > 125 or (opcode == CLOSE and length == 1)
    return (opcode == CONTINUATION) != inside_message


def close_fault(payload: bytes) -> int | None:
    """The code to answer a close frame with where its payload breaks RFC 6455 (5.5.1, 7.4); None where it does not."""
    if payload and not may_be_sent(struct.unpack(">H", payload[:2])[0]):
        return PROTOCOL_ERROR
    return None if _is_utf8(payload[2:]) else int(CloseCode.BAD_UTF8)


class StrictFrames(WebSocketProtocol13):
    """The server's side of one connection. `fail` is to send a close frame, if none was sent, and nothing after it."""

    # With these among Tornado's own, an instance's dictionary would take five times the memory.
    __slots__ = ("_ahead", "_fail", "_failed", "_next_read", "_pace", "_text", "_text_checked")

    def __init__(self, template: WebSocketProtocol13, *, fail: Callable[[int], None], pace: Pace) -> None:
        """`template` is what Tornado would use; `pace` is that of frames of all kinds."""
        super().__init__(template.handler, mask_outgoing=False, params=template.params)
        self._fail, self._pace = fail, pace
        self._next_read: Literal["header", "length", "other"] = "other"
        self._failed = False
        self._ahead = b""
        """What came with what was asked for."""
        # Made for the first message that comes in fragments; few clients send any.
        self._text: codecs.IncrementalDecoder | None = None
        self._text_checked = 0

    async def _receive_frame(self) -> None:
        """One frame. Tornado's method reads its first two bytes, then the longer length where there is one."""
        self._next_read = "header"
        await super()._receive_frame()
        if self._failed or not self._good_so_far():
            await self._hang_up(int(CloseCode.BAD_UTF8))

    async def _read_bytes(self, n: int) -> bytes:
        if len(self._ahead) < n:
            await self._read_ahead(n)
        data, self._ahead = self._ahead[:n], self._ahead[n:]
        self._wire_bytes_in += n
        reading, self._next_read = self._next_read, "other"
        if reading == "header":
            await self._check_header(data)
        elif reading == "length":
            (length,) = struct.unpack(">H" if n == 2 else ">Q", data)
            if length < (126 if n == 2 else 65536) or length >= 2**63:
                await self._hang_up(PROTOCOL_ERROR)
            await self._check_length(length)
        return data

    async def _read_ahead(self, n: int) -> None:
        """At least so many bytes. Tornado asks for a frame piece by piece.

        Where it leaves a piece with the stream, that takes the socket out of the event loop and puts it back for the
        next: most of what the answer to a ping would cost.
        """
        parts, missing = [self._ahead], n - len(self._ahead)
        while missing > 0:
            parts.append(await self.stream.read_bytes(max(missing, _READ_AHEAD), partial=True))
            missing -= len(parts[-1])
        self._ahead = b"".join(parts)

    async def _check_header(self, data: bytes) -> None:
        first, second = data
        if self._pace.take() > 0:
            await self._hang_up(int(CloseCode.TRY_LATER))
        if header_fault(first, second, inside_message=self._fragmented_message_buffer is not None):
            await self._hang_up(PROTOCOL_ERROR)
        if second & 0x7F > 125:
            self._next_read = "length"
        else:
            await self._check_length(second & 0x7F)

    async def _check_length(self, length: int) -> None:
        if length + len(self._fragmented_message_buffer or b"") > self.params.max_message_size:
            await self._hang_up(int(CloseCode.TOO_BIG))

    def _good_so_far(self) -> bool:
        """Whether the text of an unfinished message is UTF-8 up to here: broken text need not be waited for."""
        buffer: bytearray | None = self._fragmented_message_buffer
        # Tornado's annotation knows of nothing but None.
        if buffer is None or cast("int | None", self._fragmented_message_opcode) != TEXT:
            self._text = None
            self._text_checked = 0
            return True
        if self._text is None:
            self._text = codecs.getincrementaldecoder("utf-8")()
        try:
            self._text.decode(bytes(buffer[self._text_checked :]))
        except UnicodeDecodeError:
            return False
        self._text_checked = len(buffer)
        return True

    def _handle_message(self, opcode: int, data: bytes) -> Future[None] | None:
        fault: int | None = None
        if opcode == TEXT and not _is_utf8(data):
            fault = int(CloseCode.BAD_UTF8)
        elif opcode == CLOSE:
            fault = close_fault(data)
        if fault is None:
            return super()._handle_message(opcode, data)
        self._failed = True
        self._fail(fault)
        return None

    async def _hang_up(self, code: int) -> NoReturn:
        """Fail the connection (RFC 6455, 7.1.7): close frame, end of our data, and what still comes goes nowhere.

        Closing at once would answer what the client is still sending with a reset, and that can overtake the close
        frame. Ends with `StreamClosedError`, when the client hangs up or Tornado's wait of 5 seconds for that is over.
        """
        self._failed = True
        self._fail(code)
        if not self.stream.closed() and not self.stream.writing():
            with suppress(OSError):
                self.stream.socket.shutdown(socket.SHUT_WR)
        while True:
            await self.stream.read_bytes(_DISCARDED_AT_ONCE, partial=True)
            await asyncio.sleep(0)  # a read that finds data does not wait, and others want their turn


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
