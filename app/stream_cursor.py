"""The cursor behind an open change stream: what PyMongo (4.20) keeps in attributes that are not public.

Without them nothing is lost: a stream waits for as long as was said when it was opened, and nobody is let go first.
tests/app/test_feed.py notices.
"""

# ruff: noqa: SLF001 - there is no other way to it

from __future__ import annotations

from typing import Any


def wait_at_most(stream: object, milliseconds: int) -> None:
    """How long every read from now on waits for a change, until the driver has to resume the stream by itself."""
    cursor: Any = getattr(stream, "_cursor", None)
    if hasattr(cursor, "_max_await_time_ms"):
        cursor._max_await_time_ms = milliseconds


def is_drained(stream: object) -> bool:
    """Whether the driver has handed over all that it has read, so that the next change has to be asked for."""
    cursor: Any = getattr(stream, "_cursor", None)
    return hasattr(cursor, "_data") and not cursor._data
