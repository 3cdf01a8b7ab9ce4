"""Frames and handshakes as they are on the wire, right and wrong (RFC 6455, 5.2)."""

from __future__ import annotations

import struct
from typing import NamedTuple

FINAL = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NO_CODE = 1005
"""What a close frame without a code counts as (RFC 6455, 7.1.5)."""


def frame(opcode: int, data: bytes, *, mask: bytes | None = bytes(4), first: int = FINAL) -> bytes:
    """One frame. `mask` None: without one; `first`: other bits beside the opcode than the final one."""
    bit = 0 if mask is None else 0x80
    if len(data) < 126:
        head = struct.pack(">BB", first | opcode, bit | len(data))
    elif len(data) < 65536:
        head = struct.pack(">BBH", first | opcode, bit | 126, len(data))
    else:
        head = struct.pack(">BBQ", first | opcode, bit | 127, len(data))
    return head + data if mask is None else head + mask + masked(mask, data)


def masked(mask: bytes, data: bytes) -> bytes:
    """The data under the mask; once more, and it is as it was."""
    keys = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(keys)).to_bytes(len(data))


def handshake(port: int, path: str) -> bytes:
    """A good one."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


class Heard(NamedTuple):
    """One frame of the server's."""

    opcode: int
    data: bytes

    @property
    def code(self) -> int:
        """Of a close frame."""
        return struct.unpack(">H", self.data[:2])[0] if self.data else NO_CODE


class WrongFrame(Exception):  # noqa: N818 - says what it is
    """The server itself broke a rule."""


def split(data: bytes) -> tuple[list[Heard], bytes]:
    """What the server sent, as frames, and the begin of one that is not complete. Raises `WrongFrame`."""
    frames: list[Heard] = []
    at = 0
    while len(data) - at >= 2:
        first, length = data[at], data[at + 1]
        head = 2
        if first not in (FINAL | TEXT, FINAL | CLOSE, FINAL | PONG) or length & 0x80:
            raise WrongFrame(data[at : at + 20])
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) - at < 2 + size:
                break
            head += size
            length = int.from_bytes(data[at + 2 : at + head])
        if len(data) - at < head + length:
            break
        if frames and frames[-1].opcode == CLOSE:
            raise WrongFrame(b"after a close frame: " + data[at : at + 200])
        frames.append(Heard(first & 0x0F, data[at + head : at + head + length]))
        at += head + length
    return frames, data[at:]
