"""Mail about notifications: what is queued when something happens, and what goes out when it is due.

The holder of the lease sends. It claims a mail before it hands it over, so two holders do not send it at the same
moment, and one that dies with a claim leaves the mail to another attempt. Dying between the mail server's yes and our
note of it sends the mail again, with the same Message-ID, by which mail programs tell that it is the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage

import msgspec
import structlog
from msgspec import UNSET
from pymongo.errors import PyMongoError

from app.access import Access
from app.lease import Lease
from app.mail_choice import Circumstances, decide
from app.mail_times import due
from app.mail_writing import Writer
from app.metrics import Metrics
from app.permissions import identity_of
from app.presence import Presence
from app.smtp import MailServer, ServerDown, Session, Undelivered
from models.fields import utc_now
from models.mail import KEPT, MAX_ATTEMPTS, MailJob, MailStore
from models.notification import Delivery
from models.preferences import Preferences, PreferencesStore
from models.project import ProjectStore
from models.standing import StandingStore
from models.user import UserRecord, UserStore

log = structlog.get_logger("copydesk.mail")

BATCH = 100
"""Jobs that are looked at together."""
LOOK_SECONDS = 2.0
"""How often the holder looks for mail that is due."""
MAX_PAUSE_SECONDS = 300.0
"""How long a mail server that is down is left alone at most."""
RETRY = timedelta(minutes=1)
"""Before the second attempt; doubled before each later one. Longer than a mail may take (`app.smtp`)."""


class MailQueue:
    """Takes notifications that are to be mailed as well."""

    def __init__(
        self,
        mails: MailStore,
        users: UserStore,
        *,
        delay: timedelta,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`delay`: the time that a user has to see a notification before it is mailed."""
        self._mails, self._users, self._delay, self._now = mails, users, delay, now

    async def queue(self, deliveries: Sequence[Delivery], preferences: Mapping[str, Preferences]) -> None:
        """Queue what the recipients want by e-mail. The same delivery again makes no second mail."""
        now = self._now()
        jobs = []
        for delivery in deliveries:
            wishes = preferences.get(delivery.user_id)
            chosen = None if wishes is None else wishes.types.get(delivery.event.type)
            if wishes is None or chosen is None or chosen.email == "off":
                continue
            moment = due(chosen.email, now, wishes, delay=self._delay)
            job = MailJob.of(delivery, frequency=chosen.email, in_app=chosen.in_app, due=moment)
            # Of what is older than that, nobody knows any more whether it was mailed.
            if job.at > now - KEPT:
                jobs.append(job)
        if jobs:
            users = await self._users.of_many({job.user_id for job in jobs})
            await self._mails.add([job for job in jobs if (user := users.get(job.user_id)) and user.email])

    async def quote(self, comment_id: str, text: str | None) -> None:
        """A comment was edited (its new text) or deleted (None): mail that is still to go says the same."""
        await self._mails.quote(comment_id, text)


class _Mail(msgspec.Struct, kw_only=True):
    """A mail that goes out now."""

    jobs: list[MailJob]
    """All of it, for the claim."""
    told: Sequence[MailJob]
    circumstances: Circumstances
    user: UserRecord


class Mailer:
    """Sends what is due while the lease is held. `run` ends after `stop`."""

    def __init__(
        self,
        *,
        lease: Lease,
        mails: MailStore,
        standings: StandingStore,
        users: UserStore,
        projects: ProjectStore,
        preferences: PreferencesStore,
        access: Access,
        presence: Presence,
        server: MailServer,
        writer: Writer,
        metrics: Metrics,
        delay: timedelta,
        now: Callable[[], datetime] = utc_now,
        jitter: Callable[[], float] = lambda: random.uniform(1.0, 1.25),  # noqa: S311 - spreads load, guards nothing
    ) -> None:
        """`delay`: after which to look again at who was online. `jitter`: a factor for the time between attempts."""
        self._lease, self._mails, self._standings, self._users = lease, mails, standings, users
        self._projects, self._preferences, self._access = projects, preferences, access
        self._presence, self._server, self._writer, self._metrics = presence, server, writer, metrics
        self._delay, self._now, self._jitter = delay, now, jitter
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `run` after the mail that is under way."""
        self._stopping.set()

    async def run(self) -> None:
        """Send for ever. A mail server or a database that is away is waited for, and costs no mail an attempt."""
        pause = LOOK_SECONDS
        while not self._stopping.is_set():
            try:
                more = self._lease.held and await self.send_due()
                self._metrics.mail_server_down.set(0)
                pause = 0.0 if more else LOOK_SECONDS
            except ServerDown as problem:
                self._metrics.mail_server_down.set(1)
                pause = min(max(pause, LOOK_SECONDS) * 2, MAX_PAUSE_SECONDS)
                log.warning("mail_server_down", detail=str(problem), pause_seconds=pause)
            except PyMongoError as error:
                pause = LOOK_SECONDS
                log.warning("mailer_waits", detail=str(error)[:300])
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                continue

    async def send_due(self) -> bool:
        """Look at what is due, once; whether there may be more. Raises `ServerDown`, and what the driver raises."""
        looked_at = await self._mails.due(limit=BATCH)
        if not looked_at:
            return False
        ready = []
        mails = _by_mail(await self._mails.together_with(looked_at))
        for jobs, circumstances in await self._look(mails):
            decision = decide(jobs, circumstances)
            # A mail that was begun is dropped as a whole or not at all: its head keeps account of it.
            begun = any(job.leads for job in jobs)
            dropped = [] if begun and decision.told else decision.dropped
            if dropped:
                await self._mails.skip(dropped)
            if not decision.told:
                self._metrics.mails.labels("skipped").inc()
            if decision.told and decision.postponed_until is not None:
                await self._mails.postpone(jobs, decision.postponed_until)
            elif decision.told and circumstances.user is not None:
                left = [job for job in jobs if job not in dropped]
                ready.append(_Mail(jobs=left, told=decision.told, circumstances=circumstances, user=circumstances.user))
        if ready:
            await self._send_all(ready)
        return len(looked_at) == BATCH

    async def _look(self, mails: Sequence[list[MailJob]]) -> list[tuple[list[MailJob], Circumstances]]:
        """Each mail with what decides about it, read for all of them together."""
        recipients = {jobs[0].user_id for jobs in mails}
        users = await self._users.of_many(recipients)
        preferences = await self._preferences.of_many(recipients)
        online = await self._presence.online(recipients)
        standings = await self._standings.of([job.entry_id for jobs in mails for job in jobs])
        now = self._now()
        looked = []
        for jobs in mails:
            user = users.get(jobs[0].user_id)
            circumstances = Circumstances(
                user=user,
                preferences=preferences[jobs[0].user_id],
                online=jobs[0].user_id in online,
                hidden=await self._hidden(user, jobs) if user is not None else (),
                standings=standings,
                now=now,
                delay=self._delay,
            )
            looked.append((jobs, circumstances))
        return looked

    async def _hidden(self, user: UserRecord, jobs: Sequence[MailJob]) -> set[str]:
        return await self._access.hidden(identity_of(user), _project_ids(jobs))

    async def _send_all(self, mails: Sequence[_Mail]) -> None:
        told = [job for mail in mails for job in mail.told]
        actors = await self._users.of_many({job.event.actor for job in told if job.event.actor is not UNSET})
        names = {user_id: user.name for user_id, user in actors.items() if user is not None}
        projects = await self._projects.names(_project_ids(told))
        async with self._server.session() as session:
            for mail in mails:
                if not self._lease.held or self._stopping.is_set():
                    return
                await session.ensure()
                await self._send(session, mail, names, projects)

    async def _send(self, session: Session, mail: _Mail, names: Mapping[str, str], projects: Mapping[str, str]) -> None:
        head = await self._mails.claim(mail.jobs, retry_after=RETRY)
        if head is None:
            return
        if head.attempts > MAX_ATTEMPTS:
            await self._give_up(head, f"It was begun {MAX_ATTEMPTS} times, and no attempt came to an end.")
            return
        claimed = {job.id for job in await self._mails.group(head)}
        try:
            message = self._written(head, [job for job in mail.told if job.id in claimed], mail, names, projects)
            await session.send(message, sender=self._writer.address, recipient=mail.user.email or "")
        except Undelivered as problem:
            if problem.permanent or head.attempts == MAX_ATTEMPTS:
                await self._give_up(head, problem.detail)
                return
            wait = RETRY * 2 ** (head.attempts - 1) * self._jitter()
            log.info("mail_deferred", id=head.id, attempts=head.attempts, detail=problem.detail)
            self._metrics.mails.labels("deferred").inc()
            await self._mails.failed(head, problem.detail, retry_at=self._now() + wait)
        else:
            self._metrics.mails.labels("sent").inc()
            await self._mails.sent(head)

    def _written(
        self,
        head: MailJob,
        told: Sequence[MailJob],
        mail: _Mail,
        names: Mapping[str, str],
        projects: Mapping[str, str],
    ) -> EmailMessage:
        try:
            return self._writer.write(
                head,
                told,
                to=mail.user,
                preferences=mail.circumstances.preferences,
                names=names,
                projects=projects,
                standings=mail.circumstances.standings,
                now=self._now(),
            )
        except Exception as problem:
            # One mail that cannot be written must not stop all others, for ever.
            log.exception("mail_not_written", id=head.id)
            raise Undelivered(f"It could not be written: {problem}", permanent=True) from problem

    async def _give_up(self, head: MailJob, detail: str) -> None:
        log.warning("mail_given_up", id=head.id, user_id=head.user_id, attempts=head.attempts, detail=detail)
        self._metrics.mails.labels("dead").inc()
        await self._mails.failed(head, detail, retry_at=None)


def _by_mail(jobs: Sequence[MailJob]) -> list[list[MailJob]]:
    """The jobs that go together, in order of the first of each."""
    mails: dict[str, list[MailJob]] = {}
    for job in jobs:
        mails.setdefault(job.stream if job.group is UNSET else job.group, []).append(job)
    return list(mails.values())


def _project_ids(jobs: Sequence[MailJob]) -> set[str]:
    return {job.subject.project_id for job in jobs if job.subject.project_id is not UNSET}
