"""When mail goes out: delays, ends of hours, mornings and quiet hours, on days that have one hour more or less too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from app.mail_times import due, quiet_until
from models.mail import Frequency
from models.preferences import Preferences

DELAY = timedelta(minutes=2)


def wishes(zone: str = "UTC", quiet: str = "") -> Preferences:
    begin, _, end = quiet.partition("-")
    return msgspec.convert(
        {"time_zone": zone, **({"quiet_hours": {"from": begin, "to": end}} if quiet else {})}, Preferences
    )


def moment(text: str, zone: str = "UTC", **options: Any) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), **options).astimezone(UTC)


@pytest.mark.parametrize(
    ("frequency", "zone", "now", "expected"),
    [
        ("now", "UTC", "2026-03-02T10:00:30", "2026-03-02T10:02:30"),
        ("hourly", "UTC", "2026-03-02T10:00:00", "2026-03-02T11:00:00"),
        ("hourly", "UTC", "2026-03-02T10:59:59.999000", "2026-03-02T11:00:00"),
        ("hourly", "Asia/Kolkata", "2026-03-02T10:20:00", "2026-03-02T11:00:00"),
        ("daily", "Europe/Stockholm", "2026-03-02T07:59:59", "2026-03-02T08:00:00"),
        ("daily", "Europe/Stockholm", "2026-03-02T08:00:00", "2026-03-03T08:00:00"),
        ("daily", "America/New_York", "2026-03-07T20:00:00", "2026-03-08T08:00:00"),  # clocks go forward at 2
        ("daily", "Europe/Stockholm", "2026-10-24T20:00:00", "2026-10-25T08:00:00"),  # clocks go back at 3
    ],
)
def test_mail_is_due(frequency: Frequency, zone: str, now: str, expected: str) -> None:
    assert due(frequency, moment(now, zone), wishes(zone), delay=DELAY) == moment(expected, zone)


def test_the_morning_after_the_clocks_change_comes_an_hour_earlier_or_later() -> None:
    zone = "America/New_York"
    evening = moment("2026-03-07T08:00:00", zone)
    assert due("daily", evening, wishes(zone), delay=DELAY) - evening == timedelta(hours=23)
    evening = moment("2026-10-31T08:00:00", zone)
    assert due("daily", evening, wishes(zone), delay=DELAY) - evening == timedelta(hours=25)


@pytest.mark.parametrize(
    ("quiet", "now", "expected"),
    [
        ("22:00-07:00", "2026-03-02T21:59:59", None),
        ("22:00-07:00", "2026-03-02T22:00:00", "2026-03-03T07:00:00"),
        ("22:00-07:00", "2026-03-03T00:00:00", "2026-03-03T07:00:00"),
        ("22:00-07:00", "2026-03-03T06:59:59", "2026-03-03T07:00:00"),
        ("22:00-07:00", "2026-03-03T07:00:00", None),
        ("12:00-13:00", "2026-03-02T12:30:00", "2026-03-02T13:00:00"),
        ("12:00-13:00", "2026-03-02T13:00:00", None),
        ("18:00-00:00", "2026-03-02T23:30:00", "2026-03-03T00:00:00"),
        ("18:00-00:00", "2026-03-03T00:00:00", None),
    ],
)
def test_quiet_hours_end(quiet: str, now: str, expected: str | None) -> None:
    zone = "Europe/Stockholm"
    found = quiet_until(moment(now, zone), wishes(zone, quiet))
    assert found == (expected and moment(expected, zone))


def test_quiet_hours_that_end_in_an_hour_that_the_day_lacks_end_when_it_would_have_been() -> None:
    zone = "Europe/Stockholm"  # 2026-03-29: 02:00 is followed by 03:00
    end = quiet_until(moment("2026-03-29T01:00:00", zone), wishes(zone, "22:00-02:30"))
    assert end == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert quiet_until(end, wishes(zone, "22:00-02:30")) is None


def test_quiet_hours_that_end_in_an_hour_that_comes_twice_end_each_time() -> None:
    zone, chosen = "Europe/Stockholm", wishes("Europe/Stockholm", "22:00-02:30")  # 2026-10-25: 03:00 becomes 02:00
    first = quiet_until(moment("2026-10-25T01:00:00", zone), chosen)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    second = quiet_until(moment("2026-10-25T02:10:00", zone, fold=1), chosen)
    assert second == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_a_gap_at_midnight_leads_to_the_same_day() -> None:
    zone = "Africa/Cairo"  # 2026-04-24: midnight is followed by 01:00
    end = quiet_until(moment("2026-04-23T22:00:00", zone), wishes(zone, "20:00-00:30"))
    assert end == moment("2026-04-24T01:30:00", zone)


@pytest.mark.parametrize("frequency", ["now", "hourly", "daily"])
def test_nothing_is_due_in_quiet_hours(frequency: Frequency) -> None:
    zone, chosen = "America/New_York", wishes("America/New_York", "19:00-09:30")
    for hours in range(24 * 9):  # over the change of the clocks
        now = moment("2026-03-05T00:10:00", zone) + timedelta(hours=hours)
        moment_due = due(frequency, now, chosen, delay=DELAY)
        assert moment_due > now
        assert quiet_until(moment_due, chosen) is None
