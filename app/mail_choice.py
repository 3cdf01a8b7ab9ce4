"""Whether a mail that is due goes out: now, later or not at all, and with what in it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from app.mail_times import quiet_until
from models.mail import KEPT, MailJob
from models.preferences import Preferences
from models.standing import Standing
from models.user import UserRecord

WAITS_FOR_ABSENCE = timedelta(days=1)
"""Who was online for so long after an event and did not look at it is not mailed about it."""


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand for one recipient, a moment before the mail would go out."""

    user: UserRecord | None
    preferences: Preferences
    online: bool
    """Whether any process has a live connection of the user."""
    hidden: Collection[str]
    """Projects that the user may not see."""
    standings: Mapping[str, Standing]
    """Of the entries that are there, by their ids."""
    now: datetime
    delay: timedelta
    """After which to look again at who was online."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the jobs of one mail."""

    told: Sequence[MailJob] = ()
    """What stands in the mail; nothing: there is none."""
    dropped: Sequence[MailJob] = ()
    """What nobody needs to be told any more."""
    postponed_until: datetime | None = None
    """Then the others are looked at again."""


def decide(jobs: Sequence[MailJob], circumstances: Circumstances) -> Decision:
    """What to do with all that is to go into one mail."""
    told = [job for job in jobs if _is_news(job, circumstances)]
    dropped = [job for job in jobs if job not in told]
    if not told:
        return Decision(dropped=dropped)
    quiet = quiet_until(circumstances.now, circumstances.preferences)
    if quiet is not None:
        return Decision(told=told, dropped=dropped, postponed_until=quiet)
    if circumstances.online and told[0].frequency == "now":
        if circumstances.now - told[-1].at > WAITS_FOR_ABSENCE:
            return Decision(dropped=jobs)
        return Decision(told=told, dropped=dropped, postponed_until=circumstances.now + circumstances.delay)
    return Decision(told=told, dropped=dropped)


def _is_news(job: MailJob, circumstances: Circumstances) -> bool:
    user = circumstances.user
    if user is None or user.disabled or user.email is None or job.withdrawn:
        return False
    if job.state == "waiting" and circumstances.now - job.at > KEPT:
        # Nobody sent mail for a week: this is not what people want to read first.
        return False
    chosen = circumstances.preferences.types.get(job.event.type)
    if chosen is None or chosen.email == "off":
        return False
    if job.subject.project_id in circumstances.hidden:
        return False
    standing = circumstances.standings.get(job.entry_id) if job.in_app else None
    return standing is None or standing.tells(job.event.id)
