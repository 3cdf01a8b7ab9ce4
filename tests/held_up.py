"""Processes that neither work nor answer, and still have their connections."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(pid: int, seconds: float = 20.0) -> None:
    """SIGSTOP, and wait until each thread has stopped. Raises `TimeoutError`.

    One of them is woken to stop the others. Until the system lets it run, which on a busy machine takes a while, they
    go on answering.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + seconds
    while set(states(pid)) != {"T"}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not stop: {states(pid)}")
        time.sleep(0.002)


def release(pid: int) -> None:
    """Let it go on."""
    os.kill(pid, signal.SIGCONT)


@contextmanager
def held_up(pid: int) -> Iterator[None]:
    """Hold a process for the length of a block."""
    hold(pid)
    try:
        yield
    finally:
        release(pid)


def states(pid: int) -> list[str]:
    """What each thread does, as in proc(5): R runs, S sleeps, T is stopped."""
    stats = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    # The name of the program stands before it, in parentheses, and may contain anything.
    return [stat.rpartition(")")[2].split()[0] for stat in stats]
