"""Subscriptions: which projects, items and threads a user follows or has muted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from models.database_types import Database, Document
from models.errors import Conflict, FieldError, Invalid, NotFound
from models.fields import Report, Timestamp, Unfit, UserId, Version, derived_id, from_document, utc_now
from models.notification import Place
from models.page import Page, PageRequest, Sort, fit, read_page
from models.revision import ATTEMPTS, stored

Level = Literal["follow", "mute"]
SubjectKind = Literal["project", "item", "thread"]
SubjectKey = Annotated[
    str,
    Meta(
        pattern=r"^(project|item|thread):[A-Za-z0-9_-]{1,64}(?!\n)$",
        description="`project:<id>`, `item:<id>` or `thread:<id>`.",
    ),
]
AutoReason = Literal["creator", "assignee", "author", "mentioned"]
"""What made somebody follow without being asked to."""

SORTS = {"since": Sort("since", "date")}
NEWEST_FIRST = "-since"

_MISSING = "You neither follow nor mute this."
_ALREADY_THERE = 11000


class SubjectName(NamedTuple):
    """A subject's key, taken apart."""

    kind: SubjectKind
    id: str


def read_subject(key: str) -> SubjectName:
    """What the key of a subject names. Raises `Invalid` for text that is none."""
    try:
        kind, _, name = msgspec.convert(key, SubjectKey).partition(":")
        return SubjectName(msgspec.convert(kind, SubjectKind), name)
    except msgspec.ValidationError:
        problem = "Expected project:<id>, item:<id> or thread:<id>"
        raise Invalid(f"{problem} as the subject.", errors=(FieldError("subject", problem),)) from None


class Subscription(msgspec.Struct, kw_only=True):
    """That a user follows or has muted a subject."""

    subject: SubjectKey
    level: Level
    auto: AutoReason | UnsetType = UNSET
    """Absent where the user chose it."""
    since: Timestamp
    """When the level became what it is. Only what happens later is told."""
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Subscription:
        """Raises `models.fields.Unfit`."""
        return from_document(document, cls, times=("since",), defaults={})


class SubscriptionInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a user asks for."""

    level: Level


class AutomaticFollow(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody is to follow a subject because of something they did, or that was done to them."""

    user_id: str
    subject: str
    auto: AutoReason
    since: datetime
    place: Place | None = None
    """Of the change it follows from: where many changes share a millisecond, this says which of them come later."""


class Subscriber(NamedTuple):
    """Who follows or has muted a subject, from when on."""

    user_id: str
    subject: str
    level: Level
    since: datetime
    place: Place | None = None
    """Where the change stands that made a follow; None where the user chose it."""


class SubscriptionStore:
    """The subscriptions of all users. Those that do not fit are reported and left out."""

    def __init__(self, database: Database, *, report: Report, now: Callable[[], datetime] = utc_now) -> None:
        self._subscriptions = database["subscriptions"]
        self._report, self._now = report, now

    async def page(
        self,
        user_id: str,
        request: PageRequest,
        *,
        level: Level | None = None,
        kind: SubjectKind | None = None,
    ) -> Page[Subscription]:
        """What a user follows and has muted. Raises `Invalid` for a foreign cursor."""
        where: Document = {"user_id": user_id}
        if level is not None:
            where["level"] = level
        if kind is not None:
            where["subject"] = {"$regex": f"^{kind}:"}
        return await read_page(
            self._subscriptions,
            where,
            request,
            sorts=SORTS,
            convert=Subscription.from_document,
            report=self._report,
        )

    async def get(self, user_id: str, subject: str) -> Subscription:
        """One subscription. Raises `NotFound`."""
        document = await self._subscriptions.find_one({"_id": derived_id(user_id, subject)})
        found = None if document is None else self._fit(document)
        if found is None:
            raise NotFound(_MISSING)
        return found

    async def put(self, user_id: str, subject: str, level: Level) -> tuple[Subscription, bool]:
        """Follow or mute because the user says so, and whether there was nothing before.

        What the user chose already is not written again. Raises `Invalid` for text that names no subject, and
        `Conflict` where others keep changing it.
        """
        read_subject(subject)
        row_id = derived_id(user_id, subject)
        for _attempt in range(ATTEMPTS):
            before = await self._subscriptions.find_one({"_id": row_id})
            known = None if before is None else self._fit(before)
            if known is not None and known.level == level and known.auto is UNSET:
                return known, False
            kept = before is not None and known is not None and known.level == level
            after = {
                "_id": row_id,
                "user_id": user_id,
                "subject": subject,
                "level": level,
                "since": before["since"] if before is not None and kept else self._now(),
                "version": 1 if known is None else known.version + 1,
            }
            if before is not None and kept and "place" in before:
                after["place"] = before["place"]
            try:
                outcome = await self._subscriptions.replace_one(
                    {"_id": row_id, "version": None if before is None else before.get("version")},
                    after,
                    upsert=before is None,
                )
            except DuplicateKeyError:  # made by someone else since we looked
                continue
            if before is None or outcome.matched_count:
                return Subscription.from_document(after), before is None
        raise Conflict("Others keep changing this at the same moment. Try again.")

    async def delete(self, user_id: str, subject: str) -> bool:
        """Neither follow nor mute any more; whether there was something to end."""
        outcome = await self._subscriptions.delete_one({"_id": derived_id(user_id, subject)})
        return bool(outcome.deleted_count)

    async def add_automatic(self, follows: Iterable[AutomaticFollow]) -> int:
        """Let users follow who have no subscription of that subject yet; the number of new ones."""
        operations = [
            UpdateOne(
                {"_id": derived_id(follow.user_id, follow.subject)},
                {
                    "$setOnInsert": {
                        "user_id": follow.user_id,
                        "subject": follow.subject,
                        "level": "follow",
                        "auto": follow.auto,
                        "since": stored(follow.since),
                        "version": 1,
                        **({} if follow.place is None else {"place": list(follow.place)}),
                    }
                },
                upsert=True,
            )
            for follow in follows
        ]
        if not operations:
            return 0
        try:
            outcome = (await self._subscriptions.bulk_write(operations, ordered=False)).bulk_api_result
        except BulkWriteError as problem:
            # Two processes may insert the same at the same moment; the other's is as good.
            outcome = problem.details
            if any(error["code"] != _ALREADY_THERE for error in outcome["writeErrors"]):
                raise
        return int(outcome["nUpserted"])

    async def of_subjects(self, subjects: Collection[str]) -> list[Subscriber]:
        """Everybody who follows or has muted one of the subjects."""
        if not subjects:
            return []
        found = []
        async for document in self._subscriptions.find({"subject": {"$in": list(subjects)}}):
            subscriber = fit(document, _subscriber, "subscriptions", self._report)
            if subscriber is not None:
                found.append(subscriber)
        return found

    def _fit(self, document: Document) -> Subscription | None:
        return fit(document, Subscription.from_document, "subscriptions", self._report)


def _subscriber(document: Mapping[str, Any]) -> Subscriber:
    """Raises `models.fields.Unfit`."""
    subscription = Subscription.from_document(document)
    try:
        user_id = msgspec.convert(document.get("user_id"), UserId)
        place = msgspec.convert(document.get("place"), Place | None)
    except msgspec.ValidationError as problem:
        raise Unfit(str(problem)) from None
    return Subscriber(user_id, subscription.subject, subscription.level, document["since"], place)
