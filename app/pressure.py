"""Whether this process has memory and descriptors left: new work is refused before work that was accepted suffers."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from models.errors import Busy

log = structlog.get_logger("copydesk.pressure")

RETRY_SECONDS = 10.0
MOST_DESCRIPTORS = 2**20
"""No process uses more, and some systems allow a number that they cannot keep a table for."""


def resident_bytes() -> int:
    """The memory that this process takes now; 0 where the system does not tell (anything but Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


def lowest_free_descriptor() -> int:
    """The number that the next open file gets: all below it are in use (POSIX, `open`)."""
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return 2**31
    os.close(number)
    return number


def descriptor_limit() -> int:
    """How many descriptors this process may have (`ulimit -n`, or `LimitNOFILE` of a systemd unit)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """Take what the operator allows: shells start programs with 1024, and each editor needs one or two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def reserve(limit: int) -> int:
    """Descriptors kept free for what was accepted: connections to MongoDB, files of the page, mail."""
    return min(256, limit // 4)


class Pressure:
    """Looked at once a second by the heartbeat, asked by every request."""

    def __init__(
        self,
        *,
        max_memory_bytes: int,
        memory: Callable[[], int] = resident_bytes,
        descriptor: Callable[[], int] = lowest_free_descriptor,
        limit: Callable[[], int] = descriptor_limit,
    ) -> None:
        self._max_memory_bytes, self._memory = max_memory_bytes, memory
        self._descriptor, self._limit = descriptor, limit
        self._refusal: str | None = None

    def look(self) -> None:
        """See how things are now."""
        before, limit = self._refusal, self._limit()
        if self._memory() > self._max_memory_bytes:
            self._refusal = "This server has no memory to spare at the moment."
        elif self._descriptor() >= limit - reserve(limit):
            self._refusal = "This server has no connections to spare at the moment."
        else:
            self._refusal = None
        if self._refusal != before:
            if self._refusal is None:
                log.info("pressure_over")
            else:
                log.warning("pressure", detail=self._refusal, memory_bytes=self._memory(), descriptors=limit)

    def crowded(self, descriptor: int) -> bool:
        """Whether a new connection with this number is one too many. Before that, requests are refused by name."""
        limit = self._limit()
        return descriptor >= limit - reserve(limit) // 2

    def check(self) -> None:
        """Raises `Busy` where nothing new is to be begun."""
        if self._refusal is not None:
            raise Busy(self._refusal, retry_after=RETRY_SECONDS)
