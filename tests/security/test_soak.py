"""The short form of `soak.py`: what a server holds stays level while editors come and go, and a leak is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from tests.security.soak import ALLOWED, BLOCKS, Result, Shape, fit, growth_faults, soak

SHORT = Shape(
    editors=10, writes_per_second=20, seconds=2.4, warm_seconds=0.5, every_seconds=0.1, every_joins=5, stay=(0.02, 0.1)
)
"""120 joins, however long they take. A short run is not warm yet: memory and threads say nothing."""
LEVEL = {"files": 45.0, "tasks": 45.0, "RealtimeHandler": 45.0}
"""As each of those who joined leaves something, there would be 120 more."""


@pytest.mark.parametrize("planted", ["", "handlers,tasks,files"], ids=["as it is", "with leaks"])
def test_what_a_server_holds_stays_level_and_leaks_are_found(
    planted: str, io_loop: IOLoop, tmp_path: Path, mongodb_uri: str, database_name: str
) -> None:
    async def run() -> Result:
        return await soak(tmp_path, mongodb_uri, database_name, SHORT, faults=planted, allowed=LEVEL)

    result: Result = io_loop.run_sync(run, timeout=110)
    grown = {fault.partition(":")[0] for fault in result.faults if ": grew by " in fault}
    if planted:
        assert grown >= {"files", "tasks", "RealtimeHandler"}, result
    else:
        assert result.faults == [], result
        assert result.figures["frames with events"] > 0
        assert result.figures["joins"] >= 115


# -- the line ----------------------------------------------------------------------------------------------------------


def noisy(slope: float, *, count: int = 120) -> list[float]:
    """Around 500, and on the whole higher by `slope` at the end."""
    rng = random.Random(7)
    return [500 + rng.gauss(0, 10) + slope * number / count for number in range(count)]


def test_a_line_is_found_with_its_uncertainty() -> None:
    exact = fit([3.0 * number for number in range(BLOCKS * 2)])
    assert (round(exact.growth, 9), round(exact.more_or_less, 9)) == (3 * BLOCKS * 2, 0)
    level, rising = fit(noisy(0)), fit(noisy(60))
    assert abs(level.growth) < 2 * level.more_or_less < 20
    assert abs(rising.growth - 60) < 2 * rising.more_or_less
    assert fit([7.0] * 24).at_most == 0
    with pytest.raises(ValueError, match="too few"):
        fit([1.0] * (2 * BLOCKS - 1))


def test_what_grew_and_what_is_too_noisy_to_tell_is_a_fault() -> None:
    rng = random.Random(7)
    wild = [rng.gauss(500, 400) for _ in range(120)]
    fits = {"level": fit(noisy(0)), "rising": fit(noisy(60)), "falling": fit(noisy(-60)), "wild": fit(wild)}
    faults = growth_faults(fits, dict.fromkeys(fits, 25.0))
    assert [fault.partition(":")[0] for fault in faults] == ["rising", "wild"]
    assert all(most > 0 for most in ALLOWED.values())
