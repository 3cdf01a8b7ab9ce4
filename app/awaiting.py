"""How long the next read of an open change stream waits for a change.

PyMongo (4.20) lets that be said once, when the stream is opened, and keeps it in attributes that are not public.
Without them a stream waits for as long as was said then: nothing is lost, and tests/app/test_feed.py notices.
"""

from __future__ import annotations


def wait_at_most(stream: object, milliseconds: int) -> None:
    """For every read from now on, until the driver has to resume the stream by itself."""
    cursor = getattr(stream, "_cursor", None)
    if cursor is not None and hasattr(cursor, "_max_await_time_ms"):
        cursor._max_await_time_ms = milliseconds  # noqa: SLF001 - there is no other way to say it
