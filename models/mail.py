"""E-mail that waits to be sent: one job per event and recipient, gathered into one mail when it is due.

A job's id follows from its recipient and what happened, so that queueing the same again makes no second mail. Jobs of
one stream (a recipient's entry, or a recipient's digest) that wait when the first of them is due go into one mail; the
first of them leads the group, and carries its attempts, its claim and its end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from models.database_types import Database, Document
from models.errors import NotFound
from models.etag import Precondition
from models.fields import Id, Report, Timestamp, Unfit, UserId, Version, derived_id, from_document, utc_now
from models.notification import Delivery, NotificationEvent, NotificationType, Subject, entry_id
from models.page import Page, PageRequest, Sort, fit, read_page

Frequency = Literal["now", "hourly", "daily"]

KEPT = timedelta(days=7)
"""How long a job is kept after its mail went out, so that a replay of old changes makes none again."""
DEAD_KEPT = timedelta(days=90)
"""How long a mail that could not be delivered waits for an operator."""
MAX_ATTEMPTS = 5

SORTS = {"died_at": Sort("died_at", "date")}
DEFAULT_SORT = "-died_at"

_DUPLICATE = 11000
_MISSING = "There is no such dead letter."


class MailJob(msgspec.Struct, frozen=True, kw_only=True):
    """One event that one recipient is to be told by e-mail."""

    id: Id
    user_id: UserId
    frequency: Frequency
    stream: str
    """What goes into one mail together: jobs with the same text here."""
    entry_id: Id
    in_app: bool
    """Whether the event stands in the recipient's inbox as well."""
    withdrawn: bool = False
    """The comment was deleted since; there is nothing left to tell."""
    subject: Subject
    title: str
    body: str = ""
    link: str | UnsetType = UNSET
    event: NotificationEvent
    at: datetime
    """When the event happened."""
    next_attempt_at: datetime | UnsetType = UNSET
    """When to look at it next; absent in jobs that another one leads, and in those that are done with."""
    state: Literal["waiting", "claimed", "sent", "skipped", "dead"] = "waiting"
    attempts: int = 0
    claim: str | UnsetType = UNSET
    """Changes with every attempt, so that a holder that was overtaken changes nothing."""
    group: Id | UnsetType = UNSET
    """The job that leads the mail of this one; its own id where it leads."""

    @property
    def leads(self) -> bool:
        """Whether a mail was begun with this job at its head."""
        return self.group == self.id

    @classmethod
    def of(cls, delivery: Delivery, *, frequency: Frequency, in_app: bool, due: datetime) -> MailJob:
        """The job of a delivery."""
        entry = entry_id(delivery.user_id, delivery.subject)
        return cls(
            id=job_id(delivery),
            user_id=delivery.user_id,
            frequency=frequency,
            stream=f"{delivery.user_id}:{entry if frequency == 'now' else frequency}",
            entry_id=entry,
            in_app=in_app,
            subject=delivery.subject,
            title=delivery.title,
            body=delivery.body,
            link=delivery.link,
            event=delivery.event,
            at=datetime.fromisoformat(delivery.event.at),
            next_attempt_at=due,
        )


class DeadLetter(msgspec.Struct, kw_only=True):
    """A mail that could not be delivered, as operators see it."""

    id: Id
    user_id: UserId
    frequency: Frequency
    type: Annotated[NotificationType, Meta(description="Of the oldest event in it, as `title`.")]
    title: str
    attempts: Annotated[int, Meta(ge=0)]
    error: str
    """What the mail server said, or what went wrong before it could say anything."""
    created_at: Timestamp
    died_at: Timestamp
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> DeadLetter:
        """Raises `models.fields.Unfit`."""
        event = document.get("event")
        kind = event.get("type") if isinstance(event, Mapping) else None
        return from_document({**document, "type": kind}, cls, times=("created_at", "died_at"), defaults={})


class MailStore:
    """The collection `mails`; nothing else touches it. MongoDB removes what has expired (a TTL index)."""

    def __init__(
        self,
        database: Database,
        *,
        report: Report,
        now: Callable[[], datetime] = utc_now,
        make_claim: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._mails, self._report, self._now, self._make_claim = database["mails"], report, now, make_claim

    async def add(self, jobs: Sequence[MailJob]) -> None:
        """Keep jobs; those that are there already stay as they are, whatever became of them."""
        if not jobs:
            return
        created = {"created_at": self._now(), "version": 1}
        try:
            await self._mails.insert_many([{**_stored(job), **created} for job in jobs], ordered=False)
        except BulkWriteError as problem:
            errors = problem.details.get("writeErrors", [])
            if not errors or any(error.get("code") != _DUPLICATE for error in errors):
                raise

    async def due(self, *, limit: int) -> list[MailJob]:
        """The jobs to look at now, longest overdue first: those that wait, and the heads of mails to be tried again."""
        cursor = self._mails.find(
            {"next_attempt_at": {"$lte": self._now()}}, sort=[("next_attempt_at", 1)], limit=limit
        )
        return self._jobs(await cursor.to_list(None))

    async def together_with(self, jobs: Collection[MailJob]) -> list[MailJob]:
        """All that goes into the same mails as these, themselves included; oldest event first."""
        streams = sorted({job.stream for job in jobs if job.state == "waiting"})
        groups = sorted({job.id for job in jobs if job.leads})
        where = {"$or": [{"stream": {"$in": streams}, "state": "waiting"}, {"group": {"$in": groups}}]}
        return self._jobs(await self._mails.find(where, sort=[("at", 1), ("_id", 1)]).to_list(None))

    async def postpone(self, jobs: Collection[MailJob], until: datetime) -> None:
        """Look at them again later, all of one mail. What was claimed meanwhile stays as it is."""
        where: list[Document] = [{"_id": {"$in": [job.id for job in jobs]}, "state": "waiting"}]
        where += [_seen(job) for job in jobs if job.leads]
        await self._mails.update_many({"$or": where}, {"$set": {"next_attempt_at": until}})

    async def skip(self, jobs: Collection[MailJob]) -> None:
        """There is no need to tell these any more: some that wait, or all of a mail that was begun."""
        where: list[Document] = [{"_id": {"$in": [job.id for job in jobs]}, "state": "waiting"}]
        for head in (job for job in jobs if job.leads):
            where += [{"group": head.id, "state": "claimed"}]
        await self._mails.update_many({"$or": where}, self._end("skipped"))

    async def claim(self, jobs: Sequence[MailJob], *, retry_after: timedelta) -> MailJob | None:
        """Take a mail for one attempt: its head as it is now, or None where another process was first.

        Whoever dies with the claim leaves the mail to be tried again after `retry_after`. A waiting job that another
        process claimed meanwhile stays out of this mail.
        """
        head = next((job for job in jobs if job.leads), jobs[0])
        change = {
            "state": "claimed",
            "group": head.id,
            "claim": self._make_claim(),
            "next_attempt_at": self._now() + retry_after,
        }
        document = await self._mails.find_one_and_update(
            _seen(head), {"$set": change, "$inc": {"attempts": 1, "version": 1}}, return_document=ReturnDocument.AFTER
        )
        others = [job.id for job in jobs if job.id != head.id]
        if document is not None and others:
            await self._mails.update_many(
                {"_id": {"$in": others}, "state": "waiting"},
                {"$set": {"state": "claimed", "group": head.id}, "$unset": {"next_attempt_at": ""}},
            )
        return None if document is None else self._job(document)

    async def group(self, head: MailJob) -> list[MailJob]:
        """The jobs of a claimed mail that are to be told, oldest event first."""
        where = {"group": head.id, "state": "claimed"}
        return self._jobs(await self._mails.find(where, sort=[("at", 1), ("_id", 1)]).to_list(None))

    async def sent(self, head: MailJob) -> None:
        """The mail server has taken it."""
        await self._mails.update_many({"group": head.id, "state": "claimed"}, self._end("sent"))

    async def failed(self, head: MailJob, error: str, *, retry_at: datetime | None) -> None:
        """It did not work; without `retry_at` it never will, and waits for an operator."""
        mine = _seen(head)
        if retry_at is not None:
            await self._mails.update_one(mine, {"$set": {"next_attempt_at": retry_at, "error": error}})
            return
        now = self._now()
        dead = {"state": "dead", "error": error, "died_at": now}
        result = await self._mails.update_one(
            mine, {"$set": dead, "$unset": {"next_attempt_at": ""}, "$inc": {"version": 1}}
        )
        if result.modified_count:
            await self._mails.update_many({"group": head.id}, {"$set": {"expires_at": now + DEAD_KEPT}})

    async def quote(self, comment_id: str, text: str | None) -> None:
        """A comment was edited (its new text) or deleted (None): mails that are still to go say the same."""
        where = {"event.comment_id": comment_id}
        if text is None:
            gone = {"$set": {"withdrawn": True}, "$unset": {"event.text": "", "body": ""}}
            await self._mails.update_many(where, gone)
        else:
            await self._mails.update_many(where, {"$set": {"event.text": text}})

    # -- what an operator does ----------------------------------------------------------------------------------------

    async def dead_letters(self, request: PageRequest) -> Page[DeadLetter]:
        """The mails that could not be delivered, newest first."""
        return await read_page(
            self._mails,
            {"state": "dead"},
            request,
            sorts=SORTS,
            convert=DeadLetter.from_document,
            report=self._report,
        )

    async def requeue(self, letter_id: str) -> None:
        """Try a dead letter again, now and as often as a new one. Raises `NotFound`."""
        result = await self._mails.update_one(
            {"_id": letter_id, "state": "dead"},
            {
                "$set": {"state": "claimed", "attempts": 0, "next_attempt_at": self._now()},
                "$unset": {"died_at": "", "claim": ""},
                "$inc": {"version": 1},
            },
        )
        if not result.modified_count:
            raise NotFound(_MISSING)
        await self._mails.update_many({"group": letter_id, "state": "claimed"}, {"$unset": {"expires_at": ""}})

    async def discard(self, letter_id: str, *, precondition: Precondition) -> None:
        """Give a dead letter up. Raises `NotFound` or `StaleVersion`."""
        document = await self._mails.find_one({"_id": letter_id, "state": "dead"})
        letter = None if document is None else fit(document, DeadLetter.from_document, "mails", self._report)
        if letter is None:
            raise NotFound(_MISSING)
        precondition(letter)
        result = await self._mails.update_one({"_id": letter_id, "state": "dead"}, self._end("skipped"))
        if not result.modified_count:
            # Somebody queued it again, or gave it up, since it was read: the rest of the mail is theirs.
            raise NotFound(_MISSING)
        await self._mails.update_many({"group": letter_id}, self._end("skipped"))

    def _end(self, state: Literal["sent", "skipped"]) -> Document:
        return {
            "$set": {"state": state, "expires_at": self._now() + KEPT},
            "$unset": {"next_attempt_at": "", "died_at": ""},
            "$inc": {"version": 1},
        }

    def _jobs(self, documents: list[Document]) -> list[MailJob]:
        jobs = (self._job(document) for document in documents)
        return [job for job in jobs if job is not None]

    def _job(self, document: Document) -> MailJob | None:
        return fit(document, _job, "mails", self._report)


def job_id(delivery: Delivery) -> str:
    """The id of a job: the same whoever queues it, however often. A comment is told once, also when it is edited."""
    event = delivery.event
    what = event.id if event.comment_id is UNSET else f"{event.type}\0{event.comment_id}"
    return derived_id(delivery.user_id, what)


def _seen(job: MailJob) -> Document:
    """Matches a job as long as no other attempt was begun on it."""
    return {"_id": job.id, "state": job.state, "claim": None if job.claim is UNSET else job.claim}


def _stored(job: MailJob) -> Document:
    document: Document = msgspec.to_builtins(job, builtin_types=(datetime,))
    document["_id"] = document.pop("id")
    return document


def _job(document: Mapping[str, Any]) -> MailJob:
    try:
        return msgspec.convert({**document, "id": document.get("_id")}, MailJob)
    except msgspec.ValidationError as problem:
        raise Unfit(str(problem)) from None
