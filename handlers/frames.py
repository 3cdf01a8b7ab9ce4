"""WebSocket frames where Tornado's own protocol class is less strict, or says less, than the RFC asks for."""

from __future__ import annotations

from asyncio import Future

from tornado.websocket import WebSocketProtocol13

from app.protocol import CloseCode

_TEXT = 0x1


class FrameProtocol(WebSocketProtocol13):
    """Text that is not UTF-8 is answered with close code 1007 (RFC 6455, 8.1); Tornado would cut the connection."""

    def _handle_message(self, opcode: int, data: bytes) -> Future[None] | None:
        if opcode == _TEXT:
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                self.close(int(CloseCode.BAD_UTF8))
                return None
        return super()._handle_message(opcode, data)
