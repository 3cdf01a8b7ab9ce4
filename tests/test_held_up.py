"""Whoever is held does nothing any more, with none of its threads, and goes on afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.held_up import held_up, states

BUSY = """
import threading, time

def count():
    while True:
        time.sleep(0.001)

for _ in range(8):
    threading.Thread(target=count, daemon=True).start()
while True:
    print("x", flush=True)
    time.sleep(0.001)
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def turns(pid: int) -> int:
    """How often these threads gave way to others. Who sleeps a little at a time does it often."""
    statuses = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/status")]
    lines = [line for status in statuses for line in status.splitlines() if "ctxt_switches" in line]
    return sum(int(line.split()[1]) for line in lines)


def test_a_process_that_is_held_stands_still_with_all_its_threads(busy: subprocess.Popen[str]) -> None:
    assert len(states(busy.pid)) == 9
    with held_up(busy.pid):
        before = turns(busy.pid)
        time.sleep(0.1)
        assert turns(busy.pid) == before
        assert set(states(busy.pid)) == {"T"}
    deadline = time.monotonic() + 20
    while turns(busy.pid) == before:
        assert time.monotonic() < deadline
