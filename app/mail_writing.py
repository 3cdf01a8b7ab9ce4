"""From the jobs of a mail to the mail: names, times, links and addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import parseaddr
from zoneinfo import ZoneInfo

from msgspec import UNSET

from app.mail_text import Letter, Notice, compose
from app.unsubscribe import Scope, Unsubscriptions
from models.mail import MailJob
from models.preferences import Preferences
from models.standing import Standing
from models.user import UserRecord

MAX_NOTICES = 100
"""Events that one mail tells: the newest."""


class Writer:
    """Writes the mails of one server."""

    def __init__(self, *, sender: str, public_url: str, unsubscriptions: Unsubscriptions) -> None:
        """`sender`: an address, with or without a name. `public_url`: without a slash at the end."""
        self.address = parseaddr(sender)[1]
        """Of the sender, alone."""
        self._sender, self._url, self._unsubscriptions = sender, public_url, unsubscriptions

    def write(
        self,
        head: MailJob,
        jobs: Sequence[MailJob],
        *,
        to: UserRecord,
        preferences: Preferences,
        names: Mapping[str, str],
        projects: Mapping[str, str],
        standings: Mapping[str, Standing],
        now: datetime,
    ) -> EmailMessage:
        """The mail that `head` leads. `names` are of users, `projects` of projects, both by id.

        The same head gives the same Message-ID. Raises ValueError where the recipient's address is none.
        """
        zone = ZoneInfo(preferences.time_zone)
        types = {job.event.type for job in jobs}
        scope: Scope = next(iter(types)) if head.frequency == "now" and len(types) == 1 else head.frequency
        token = self._unsubscriptions.token(to.user_id, scope)
        letter = Letter(
            sender=self._sender,
            recipient_name=to.name,
            recipient=to.email or "",
            frequency=head.frequency,
            notices=[self._notice(job, zone, names, projects, standings) for job in jobs[-MAX_NOTICES:]],
            more=max(0, len(jobs) - MAX_NOTICES),
            message_id=f"<{head.id}@{self.address.rpartition('@')[2]}>",
            date=now,
            unsubscribe_url=f"{self._url}/api/v1/unsubscribe?token={token}",
            preferences_url=f"{self._url}/#/preferences",
        )
        return compose(letter)

    def _notice(
        self,
        job: MailJob,
        zone: ZoneInfo,
        names: Mapping[str, str],
        projects: Mapping[str, str],
        standings: Mapping[str, Standing],
    ) -> Notice:
        event, standing = job.event, standings.get(job.entry_id)
        # An entry quotes a comment as it reads now; the job as it read when it was written.
        stored = job.body if event.text is UNSET else event.text
        text = standing.texts.get(event.id, stored) if job.in_app and standing is not None else stored
        actor = "" if event.actor is UNSET else names.get(event.actor, event.actor)
        project = "" if job.subject.project_id is UNSET else projects.get(job.subject.project_id, "")
        return Notice(
            type=event.type,
            reason=event.reason,
            actor=actor,
            title=job.title,
            text=text or job.body,
            link=self._absolute(job.link or ""),
            at=job.at.astimezone(zone),
            project=project,
        )

    def _absolute(self, link: str) -> str:
        if link.startswith("/") and not link.startswith("//"):
            return self._url + link
        return link if link.startswith(("https://", "http://")) else ""
