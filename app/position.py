"""Positions: where a client is in the history of the database, as opaque text that any process can check.

A position says: everything the change stream reports before `(seconds, increment)` was sent, and `ordinal` of the
watched events of that very time (the events of one transaction share one time). It is bound to an epoch, one unbroken
history of one database, and signed, so that MongoDB never sees a number that a client made up.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import NamedTuple

from app.keys import Keys

_FORMAT = 1
_BODY = struct.Struct(">B8sIII")  # format, epoch, seconds, increment, ordinal
_MAC_BYTES = 12
_TEXT_LENGTH = (_BODY.size + _MAC_BYTES) * 4 // 3


class Position(NamedTuple):
    """Comparable; later is greater. `seconds` and `increment` are MongoDB's clusterTime."""

    seconds: int
    increment: int
    ordinal: int = 0

    @property
    def time(self) -> tuple[int, int]:
        """The clusterTime alone."""
        return self.seconds, self.increment


def following(position: Position, time: tuple[int, int]) -> Position:
    """The position after one more watched event, at clusterTime `time`. Every reader of the stream counts alike."""
    return Position(*time, position.ordinal + 1 if position.time == time else 1)


def after_time(time: tuple[int, int]) -> Position:
    """The position of a client that has everything of a clusterTime, such as a snapshot at that time."""
    return Position(*time, 2**32 - 1)


class UnknownPosition(Exception):  # noqa: N818 - an answer to a client, not a fault
    """Not made by us, damaged, or of another history of the database."""


class PositionCodec:
    """Turns positions into text and back. Pure: equal secret and epoch give equal text on every process."""

    def __init__(self, *, secrets: tuple[bytes, ...], epoch: bytes) -> None:
        """The first secret signs, all of them are accepted. `epoch` has 8 bytes (`models.meta.Epoch.id`)."""
        self._keys = Keys(secrets, purpose=b"copydesk position 1", mac_bytes=_MAC_BYTES)
        self._epoch = epoch

    def renew(self, epoch: bytes) -> None:
        """Another history began: positions of the one before are unknown from here on."""
        self._epoch = epoch

    def encode(self, position: Position) -> str:
        """44 characters of the URL-safe base 64 alphabet."""
        body = _BODY.pack(_FORMAT, self._epoch, *position)
        return base64.urlsafe_b64encode(body + self._keys.mac(body)).decode()

    def decode(self, text: str) -> Position:
        """Raises `UnknownPosition`, whatever `text` is."""
        if len(text) != _TEXT_LENGTH or not text.isascii():
            raise UnknownPosition
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise UnknownPosition from None
        body, mac = raw[: _BODY.size], raw[_BODY.size :]
        if not self._keys.made(body, mac):
            raise UnknownPosition
        made_format, epoch, seconds, increment, ordinal = _BODY.unpack(body)
        if made_format != _FORMAT or epoch != self._epoch:
            raise UnknownPosition
        return Position(seconds, increment, ordinal)


def token_time(token: object) -> tuple[int, int] | None:
    """The clusterTime that a resume token begins with, or None where it cannot be told.

    A token's `_data` is a KeyString in hex: type byte 82 (timestamp), then seconds and increment, four bytes each
    (mongo/src/mongo/db/pipeline/resume_token.cpp). It is read to move idle clients on, never to decide what was sent.
    """
    data = token.get("_data") if isinstance(token, dict) else None
    if not isinstance(data, str) or not data.startswith("82") or len(data) < 18:
        return None
    try:
        return int(data[2:10], 16), int(data[10:18], 16)
    except ValueError:
        return None
