"""When a mail goes out: after a delay, at the end of the hour, in the morning, and never in quiet hours. Pure.

Wall clocks jump twice a year. A time that a day has twice counts both times, and one that it lacks comes with the clock
already put forward.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import UNSET

from models.mail import Frequency
from models.preferences import Preferences

DIGEST_TIME = time(8)
"""When daily digests go out, by the recipient's clock."""


def due(frequency: Frequency, now: datetime, preferences: Preferences, *, delay: timedelta) -> datetime:
    """When to mail what happened just now. `delay` is for mail that is not gathered into a digest."""
    zone = ZoneInfo(preferences.time_zone)
    if frequency == "now":
        moment = now + delay
    elif frequency == "hourly":
        local = now.astimezone(zone)
        moment = now - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        moment += timedelta(hours=1)
    else:
        moment = _next(DIGEST_TIME, now, zone)
    return quiet_until(moment, preferences) or moment


def quiet_until(moment: datetime, preferences: Preferences) -> datetime | None:
    """The end of the quiet hours that a moment is in; None outside of them."""
    if preferences.quiet_hours is UNSET:
        return None
    zone = ZoneInfo(preferences.time_zone)
    begin, end = (time.fromisoformat(text) for text in (preferences.quiet_hours.from_, preferences.quiet_hours.to))
    if not _between(begin, end, moment.astimezone(zone).time()):
        return None
    return _next(end, moment, zone)


def _between(begin: time, end: time, now: time) -> bool:
    """Whether a time is in a span that may go over midnight. One that ends where it begins is none."""
    return begin <= now < end if begin <= end else now >= begin or now < end


def _next(wanted: time, after: datetime, zone: ZoneInfo) -> datetime:
    """The next moment, in UTC, at which clocks of the zone show a time, the second of two equal ones too."""
    today = after.astimezone(zone).date()
    shown = []
    for day in (today, today + timedelta(days=1)):
        for fold in (0, 1):
            moment = datetime.combine(day, wanted, zone).replace(fold=fold).astimezone(UTC)
            # Of a time that the day lacks, the second reading lies before the gap.
            if moment.astimezone(zone).replace(tzinfo=None) >= datetime.combine(day, wanted):
                shown.append(moment)
    return min(moment for moment in shown if moment > after)
