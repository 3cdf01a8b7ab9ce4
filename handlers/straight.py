"""Bytes straight to the socket while Tornado has none of its own for it: the system call and nothing else.

`IOStream.write` makes a future, copies into its buffer and asks the event loop on the way; for a thousand listeners of
one event that is most of what sending costs (benchmarks/RESULTS.md). Tornado has no other public way to write. What is
used here is public (`socket`, `writing`), but that a stream lets others write to its socket while it is not
writing itself is nowhere promised: setup.cfg names the versions that this was written for, and
tests/handlers/test_straight.py tells when one does otherwise, or when its own way has become as cheap.
"""

from __future__ import annotations

from tornado.iostream import IOStream, SSLIOStream


def can_take(stream: IOStream) -> bool:
    """Whether a stream's bytes are those of its socket: under TLS they are not."""
    return not isinstance(stream, SSLIOStream)


def send(stream: IOStream, data: bytes) -> int:
    """How many bytes the socket took at once; the rest is the stream's. Never blocks or raises.

    0 where the stream has to see for itself: it is writing, closed, or about to find out that its peer is gone.
    """
    if stream.writing():
        return 0
    try:
        return stream.socket.send(data)
    except (OSError, AttributeError):  # a closed stream has no socket any more; asking each time would cost more
        return 0
