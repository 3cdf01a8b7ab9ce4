"""Fuzzed sequences of frames: some that a server has to bear, some that it has to refuse by name. Pure."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from tests.security.wire import BINARY, CLOSE, CONTINUATION, FINAL, NO_CODE, PING, PONG, TEXT, frame

VALID_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
INVALID_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 32768, 65535)
LIMIT = 64 * 1024
BROKEN_UTF8 = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80", b"a\xc3(")
# More than once: what most clients send.
SIZES = (0, 1, 2, 10, 10, 10, 100, 100, 124, 125, 126, 127, 128, 1000, 4096)
LONG_SIZES = (65_000, 65_535, LIMIT)


class Sequence(NamedTuple):
    """Bytes that a client sends."""

    name: str
    data: bytes
    ends: frozenset[int] = frozenset()
    """Close codes, one of which has to follow. None: the connection goes on."""
    replies: tuple[int, ...] = ()
    """Ids of commands that are answered."""


def harmless(rng: random.Random, number: int) -> Sequence:
    """What every server has to read, and go on; its id where it has one is `number`."""
    kind = rng.randrange(4)
    if kind == 0:
        controls = b"".join(_control(rng) for _ in range(rng.randint(1, 5)))
        return Sequence("controls", controls)
    size = rng.choice(SIZES) if rng.random() < 0.995 else rng.choice(LONG_SIZES)
    if kind == 1:
        return Sequence("pong", _message(rng, TEXT, b'{"op":"pong"}'.ljust(size)))
    # Characters of one to four bytes, so that fragments end inside of them.
    text = "".join(rng.choice("aß€😀\u202e\u0301") for _ in range(min(size, 200)))
    body = json.dumps({"op": "fuzz", "id": number, "text": text}, ensure_ascii=kind == 2)
    return Sequence("command", _message(rng, TEXT, body.encode().ljust(size)), replies=(number,))


def fatal(rng: random.Random) -> Sequence:
    """What ends a connection, and how."""
    name, make = rng.choice(_FATAL)
    data, code = make(rng)
    return Sequence(name, data, frozenset({code}))


def wild(rng: random.Random) -> Sequence:
    """Noise, or something good with a few bits turned: nobody can say how it ends, but end it must."""
    if rng.random() < 0.3:
        return Sequence("noise", rng.randbytes(rng.choice((1, 2, 3, 10, 100, 1000))))
    data = bytearray(b"".join(harmless(rng, 0).data for _ in range(rng.randint(1, 3))))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(min(len(data), rng.choice((2, 14, 10_000))))] ^= 1 << rng.randrange(8)
    return Sequence("turned bits", bytes(data))


def cut_off(rng: random.Random) -> Sequence:
    """Something that ends in the middle of a frame or of a message."""
    data = rng.choice((harmless(rng, 0).data, _message(rng, TEXT, bytes(LIMIT)), b"\x81\xff" + rng.randbytes(8)))
    return Sequence("cut off", data[: rng.randrange(1, len(data) + 1)])


# -- parts -------------------------------------------------------------------------------------------------------------


def _mask(rng: random.Random) -> bytes:
    return rng.choice((bytes(4), b"\xff\xff\xff\xff", rng.randbytes(4)))


def _control(rng: random.Random) -> bytes:
    data = rng.randbytes(rng.choice((0, 1, 4, 124, 125)))
    return frame(rng.choice((PING, PONG)), data, mask=_mask(rng))


def _message(rng: random.Random, opcode: int, data: bytes) -> bytes:
    """In one frame, or in parts of any size, also empty ones, with control frames in between."""
    if rng.random() < 0.4:
        return frame(opcode, data, mask=_mask(rng))
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 6)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    sent = []
    for index, piece in enumerate(pieces):
        first = FINAL if index == len(pieces) - 1 else 0
        sent.append(frame(CONTINUATION if index else opcode, piece, mask=_mask(rng), first=first))
        if not first and rng.random() < 0.3:
            sent.append(_control(rng))
    return b"".join(sent)


def _open_message(rng: random.Random) -> bytes:
    """Nothing, or the begin of a message."""
    return rng.choice((b"", frame(TEXT, b"{", mask=_mask(rng), first=0)))


# -- what is refused: bytes and close code -----------------------------------------------------------------------------

Made = tuple[bytes, int]


def _reserved_bits(rng: random.Random) -> Made:
    bits = rng.choice((0x10, 0x20, 0x40, 0x70))
    return _open_message(rng) + frame(PING, rng.randbytes(5), mask=_mask(rng), first=FINAL | bits), 1002


def _unknown_opcode(rng: random.Random) -> Made:
    opcode = rng.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15))
    data = rng.randbytes(rng.choice((0, 10, 1000)))
    return _open_message(rng) + frame(opcode, data, mask=_mask(rng), first=rng.choice((0, FINAL))), 1002


def _no_mask(rng: random.Random) -> Made:
    opcode = rng.choice((TEXT, BINARY, PING, PONG, CLOSE))
    return frame(opcode, b"\x03\xe8" * rng.randint(0, 60), mask=None), 1002


def _long_control(rng: random.Random) -> Made:
    return _open_message(rng) + frame(rng.choice((PING, PONG, CLOSE)), bytes(rng.randint(126, 70_000))), 1002


def _control_in_parts(rng: random.Random) -> Made:
    return _open_message(rng) + frame(rng.choice((PING, PONG, CLOSE)), b"\x03\xe8", mask=_mask(rng), first=0), 1002


def _continuation_of_nothing(rng: random.Random) -> Made:
    first = rng.choice((0, FINAL))
    return frame(CONTINUATION, rng.randbytes(rng.randint(0, 200)), mask=_mask(rng), first=first), 1002


def _message_in_message(rng: random.Random) -> Made:
    inner = frame(rng.choice((TEXT, BINARY)), b"x", mask=_mask(rng), first=rng.choice((0, FINAL)))
    return frame(TEXT, b"{", mask=_mask(rng), first=0) + inner, 1002


def _padded_length(rng: random.Random) -> Made:
    length = rng.randint(0, 65_535)
    short = length < 126 and rng.random() < 0.5
    head = struct.pack(">BBH", FINAL | TEXT, 0xFE, length) if short else struct.pack(">BBQ", FINAL | TEXT, 0xFF, length)
    return head + rng.randbytes(4 + length), 1002


def _huge_length(rng: random.Random) -> Made:
    length = rng.choice((LIMIT + 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1))
    return struct.pack(">BBQ", FINAL | rng.choice((TEXT, BINARY)), 0xFF, length) + rng.randbytes(
        rng.randint(0, 100)
    ), 1009 if length < 2**63 else 1002


def _too_long_in_parts(rng: random.Random) -> Made:
    begin = frame(TEXT, b" " * rng.randint(1, LIMIT), mask=_mask(rng), first=0)
    return begin + frame(CONTINUATION, b" " * LIMIT, mask=_mask(rng)), 1009


def _broken_text(rng: random.Random) -> Made:
    data = b"a" * rng.randint(0, 300) + rng.choice(BROKEN_UTF8) + b"b" * rng.randint(0, 300)
    return _message(rng, TEXT, data), 1007


def _close(rng: random.Random) -> Made:
    kind = rng.randrange(5)
    if kind == 0:
        return _open_message(rng) + frame(CLOSE, b"", mask=_mask(rng)), NO_CODE
    if kind == 1:
        code = rng.choice(VALID_CODES)
        reason = "ü" * rng.randint(0, 61)
        return _open_message(rng) + frame(CLOSE, struct.pack(">H", code) + reason.encode(), mask=_mask(rng)), code
    if kind == 2:
        return frame(CLOSE, struct.pack(">H", rng.choice(INVALID_CODES)) + rng.randbytes(5), mask=_mask(rng)), 1002
    if kind == 3:
        return frame(CLOSE, rng.randbytes(1), mask=_mask(rng)), 1002
    return frame(CLOSE, b"\x03\xe8" + rng.choice(BROKEN_UTF8), mask=_mask(rng)), 1007


def _binary(rng: random.Random) -> Made:
    return _message(rng, BINARY, rng.randbytes(rng.randint(0, 300))), 1003


def _nonsense(rng: random.Random) -> Made:
    return b"".join(_message(rng, TEXT, rng.choice((b"", b"[]", b"{", b"nonsense", b"\x00"))) for _ in range(3)), 4400


def _too_early(rng: random.Random) -> Made:
    command = b'{"op":"subscribe","id":1,"topic":"projects"}'
    return _message(rng, TEXT, command), 4401


_FATAL: tuple[tuple[str, Callable[[random.Random], Made]], ...] = tuple(
    (make.__name__.strip("_").replace("_", " "), make)
    for make in (
        _reserved_bits,
        _unknown_opcode,
        _no_mask,
        _long_control,
        _control_in_parts,
        _continuation_of_nothing,
        _message_in_message,
        _padded_length,
        _huge_length,
        _too_long_in_parts,
        _broken_text,
        _close,
        _binary,
        _nonsense,
        _too_early,
    )
)
