"""A client's pace: what it may do at once, and for how long it is too fast."""

from __future__ import annotations

from app.allowance import PACE_SECONDS, Pace


def test_twice_as_much_at_once_and_then_so_much_a_second() -> None:
    now = [100.0]
    pace = Pace(10, clock=lambda: now[0])
    assert [pace.take() for _ in range(20)] == [0.0] * 20
    assert round(pace.take(), 6) == 0.1
    now[0] += 1.0
    assert [round(pace.take(), 6) for _ in range(10)] == [0.0] * 9 + [0.1]


def test_steps_that_were_too_fast_count_and_a_pause_forgives_them() -> None:
    now = [100.0]
    pace = Pace(10, clock=lambda: now[0])
    assert round(pace.take(60), 6) == 6.0 - PACE_SECONDS
    assert round(pace.take(), 6) == 4.1
    now[0] += 6.0
    assert pace.take(20) <= 0.1
    now[0] += 60.0
    assert [pace.take(20), round(pace.take(), 6)] == [0.0, 0.1]


def test_who_waits_exactly_as_long_as_told_is_not_too_fast_by_the_error_of_a_sum() -> None:
    for begun in (0.1, 1.1, 100.3, 12_345.678, 9e5 + 0.7):
        now = [begun]
        pace = Pace(3, clock=lambda: now[0])  # noqa: B023 - called within the turn
        for _ in range(50):
            while not (too_fast := pace.take()):
                continue
            now[0] += too_fast + 1 / 3
            assert pace.take() == 0.0
