"""Nothing new is begun where memory or descriptors run out."""

from __future__ import annotations

import os

import pytest

from app import pressure
from app.pressure import Pressure, descriptor_limit, lowest_free_descriptor, resident_bytes
from models.errors import Busy


def test_above_its_memory_a_process_is_busy_until_it_is_below_again() -> None:
    memory = [100]
    one = Pressure(max_memory_bytes=100, memory=lambda: memory[0])
    one.look()
    one.check()
    memory[0] = 101
    one.check()  # looked at once a second
    one.look()
    with pytest.raises(Busy) as refused:
        one.check()
    assert refused.value.retry_after
    memory[0] = 100
    one.look()
    one.check()


@pytest.mark.parametrize(("limit", "highest"), [(1024, 767), (65_536, 65_279), (100, 74)])
def test_descriptors_are_kept_for_those_who_are_there(limit: int, highest: int) -> None:
    number = [highest]
    one = Pressure(max_memory_bytes=2**63, descriptor=lambda: number[0], limit=lambda: limit)
    one.look()
    one.check()
    number[0] = highest + 1
    one.look()
    with pytest.raises(Busy):
        one.check()


def test_the_system_says_how_much_is_in_use() -> None:
    taken = b"x" * 50_000_000
    assert len(taken) < resident_bytes() < 2**40
    free = lowest_free_descriptor()
    opened = os.open(os.devnull, os.O_RDONLY)
    try:
        assert opened == free
        assert lowest_free_descriptor() > free
    finally:
        os.close(opened)
    assert descriptor_limit() > free


def test_what_the_operator_allows_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(pressure.resource, "setrlimit", lambda _which, both: set_to.append(both))
    for limits in ((1024, 4096), (1024, pressure.resource.RLIM_INFINITY), (4096, 4096)):
        monkeypatch.setattr(pressure.resource, "getrlimit", lambda _which, both=limits: both)
        pressure.raise_descriptor_limit()
    assert set_to == [(4096, 4096), (2**20, pressure.resource.RLIM_INFINITY)]
