"""The types that fields are made of, ids, times, and how a stored document becomes a public Struct."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeGuard, TypeVar

import msgspec
from bson import Code
from msgspec import Meta

ID_LENGTH = 64
# `(?!\n)` because `$` alone also matches before a final line feed; `\Z` would not be JSON Schema.
Id = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9_-]{{1,{ID_LENGTH}}}(?!\n)$", description="Made by the server, time-ordered.")
]
UserId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}(?!\n)$", description="The `sub` of the user's token.")]
GroupName = Annotated[
    str,
    Meta(pattern=r"^(?=.*\S)[^\x00-\x1f\x7f]{1,255}(?!\n)$", description="As the `roles` of tokens spell it."),
]
Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\S")]
ShortText = Annotated[str, Meta(min_length=1, max_length=255)]
Url = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^(https?://|/(?![/\\]))\S*(?!\n)$")]
Version = Annotated[int, Meta(ge=1, le=2**63 - 1, description="Raised by one with every change.")]
Timestamp = Annotated[
    str, Meta(description="RFC 3339 in UTC with milliseconds.", extra_json_schema={"format": "date-time"})
]
WhenInput = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a time zone; kept to the millisecond.")]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")


class Unfit(Exception):  # noqa: N818 - says what the document is
    """A stored document that some other program wrote does not have the shape of `docs/data.md`."""


def may_be_id(value: object) -> TypeGuard[str]:
    """Whether it could be the id of something that callers see. Another program may write megabytes there."""
    # Not `isinstance`: BSON's code arrives as a kind of `str` that nothing can be looked up by.
    return type(value) is str and 0 < len(value) <= ID_LENGTH


def stamp(moment: object) -> str:
    """A BSON date as ``YYYY-MM-DDTHH:MM:SS.sssZ``. Raises `Unfit` for anything else, and for years Python has not."""
    if not isinstance(moment, datetime):
        raise Unfit(f"expected a date of the years 1 to 9999, got {type(moment).__name__}")
    if moment.tzinfo is not UTC:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def utc_now() -> datetime:
    """Now, in UTC, in the millisecond resolution that BSON keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def from_document(
    document: Mapping[str, Any], shape: type[S], *, times: tuple[str, ...], defaults: Mapping[str, Any]
) -> S:
    """The public Struct of a stored document.

    Null counts as absent, ``_id`` becomes ``id``, dates become text, unknown fields are dropped (nothing private can
    slip out), `defaults` fill what another program left out. Raises `Unfit` with a sentence.
    """
    values = {**defaults, **{key: value for key, value in document.items() if value is not None}}
    values["id"] = values.pop("_id", None)
    for name in times:
        if name in values:
            values[name] = stamp(values[name])
    return as_stored(values, shape)


def as_stored(value: Any, shape: type[T]) -> T:
    """A value of a stored document as what it has to be. Raises `Unfit` with a sentence.

    BSON's JavaScript arrives as a kind of `str`, is taken for one, and cannot be written as JSON: it is no text here.
    """
    try:
        return msgspec.convert(_without_code(value) if _has_code((value,)) else value, shape)
    except msgspec.ValidationError as problem:
        raise Unfit(str(problem)) from None


class JavaScript:
    """In place of code, for the sentence of `Unfit`."""


def _has_code(values: Iterable[Any]) -> bool:
    """Asked for each document that is read, so without a function call for most of the values."""
    for value in values:
        kind = type(value)
        if kind is Code:
            return True
        if kind is dict and _has_code(value.values()):
            return True
        if kind is list and _has_code(value):
            return True
    return False


def _without_code(value: Any) -> Any:
    if isinstance(value, Code):
        return JavaScript()
    if isinstance(value, dict):
        return {key: _without_code(part) for key, part in value.items()}
    return [_without_code(part) for part in value] if isinstance(value, list) else value


def ulid(milliseconds: int, tail: int) -> str:
    """26 characters of Crockford's base 32: 48 bits of Unix time, then 80 bits of `tail` (the ULID specification)."""
    number = (milliseconds & (1 << 48) - 1) << 80 | tail & (1 << 80) - 1
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def derived_ulid(milliseconds: int, seed: str) -> str:
    """The id of what happened at a time, the same whoever derives it: `seed` says what it follows from."""
    return ulid(milliseconds, int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=10).digest()))


def derived_id(user_id: str, what: str) -> str:
    """The id of the one document of its kind that a user has about something, the same whoever derives it."""
    return hashlib.blake2b(f"{user_id}\0{what}".encode(), digest_size=16).hexdigest()


class Ids:
    """Makes ids that sort in the order in which this process made them, within a millisecond too."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        randomness: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._clock, self._randomness = clock, randomness
        self._last = (0, 0)
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            now = max(int(self._clock() * 1000), self._last[0])
            # The top bit stays free, so that counting up within one millisecond cannot overflow.
            tail = self._last[1] + 1 if now == self._last[0] else self._randomness(79)
            self._last = (now, tail)
        return ulid(now, tail)


MakeId = Callable[[], str]
"""Where a new document's id comes from: `Ids`, or the sequence that an idempotency key fixes."""

ProjectRole = Literal["viewer", "commenter", "editor", "publisher", "owner"]
InstanceRole = Literal["admin", "service", "editor"]

Report = Callable[[str, object, str], None]
"""Told of a stored document that does not fit: collection, `_id`, and what is wrong with it."""
