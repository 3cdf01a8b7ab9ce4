"""Postings: custom notifications that programs send, at once or at a time of their choice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pymongo.errors import DuplicateKeyError

from models.database_types import Database, Document
from models.errors import Conflict, FieldError, Invalid, NotFound
from models.fields import (
    GroupName,
    Id,
    MakeId,
    Name,
    Report,
    ShortText,
    Timestamp,
    Url,
    UserId,
    Version,
    WhenInput,
    from_document,
    utc_now,
)
from models.page import fit
from models.revision import revise, stored

PostingType = Literal["custom", "publish_result"]
Body = Annotated[str, Meta(max_length=2000, description="Plain text.")]

KEPT = timedelta(days=90)
"""How long a posting can be read after it was sent."""

_MISSING = "There is no such posting."


class Recipients(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom a posting is for: these users, and everyone whose token names one of these groups. Nobody is told twice."""

    users: Annotated[list[UserId], Meta(max_length=200)] = []
    groups: Annotated[list[GroupName], Meta(max_length=20)] = []


class NewPosting(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a program sends."""

    recipients: Recipients
    type: PostingType = "custom"
    title: Name
    body: Body = ""
    link: Url | UnsetType = UNSET
    category: ShortText | UnsetType = UNSET
    send_at: WhenInput | UnsetType = UNSET
    """Not before this time; absent, or past: at once."""


class StoredRecipients(msgspec.Struct, frozen=True, kw_only=True):
    """`Recipients` as they are shown."""

    users: list[UserId] = []
    groups: list[GroupName] = []


class Posting(msgspec.Struct, kw_only=True):
    """A posting as whoever sent it sees it."""

    id: Id
    recipients: StoredRecipients
    type: PostingType
    title: Name
    body: Body = ""
    link: Url | UnsetType = UNSET
    category: ShortText | UnsetType = UNSET
    send_at: Timestamp | UnsetType = UNSET
    created_at: Timestamp
    created_by: UserId
    sent_at: Timestamp | UnsetType = UNSET
    """When the inboxes of all recipients had it."""
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Posting:
        """Raises `models.fields.Unfit`."""
        return from_document(document, cls, times=("send_at", "created_at", "sent_at"), defaults={"version": 1})

    @property
    def due_at(self) -> datetime:
        """The moment from which it may be sent. A time that was past when it came is no time for it to be told of."""
        created = datetime.fromisoformat(self.created_at)
        return created if self.send_at is UNSET else max(created, datetime.fromisoformat(self.send_at))


class PostingStore:
    """The collection `postings`: the only code that reads and writes it. Unfit postings are reported and never sent."""

    def __init__(self, database: Database, *, report: Report) -> None:
        self._postings, self._report = database["postings"], report

    async def create(self, new: NewPosting, *, by: str, make_id: MakeId) -> Posting:
        """Keep a posting for the worker, which hears of it through the change stream.

        Raises `Invalid` where it is for nobody, and `Conflict` where the id belongs to somebody else's posting; one of
        the same sender with this id is the first attempt of the same request.
        """
        if not new.recipients.users and not new.recipients.groups:
            problem = "Expected at least one user or group"
            raise Invalid(f"{problem} at $.recipients.", errors=(FieldError("$.recipients", problem),))
        now = utc_now()
        document: Document = {
            "_id": make_id(),
            **stored(new),
            "due_at": now if new.send_at is UNSET else stored(new.send_at),
            "created_at": now,
            "created_by": by,
            "version": 1,
        }
        try:
            await self._postings.insert_one(document)
        except DuplicateKeyError:
            document = await self._postings.find_one({"_id": document["_id"], "created_by": by})
            if document is None:
                raise Conflict("Another posting has this id. Repeat the request with a new Idempotency-Key.") from None
        return self._fitting(document)

    async def get(self, posting_id: str) -> Posting:
        """One posting. Raises `NotFound`."""
        document = await self._postings.find_one({"_id": posting_id})
        if document is None:
            raise NotFound(_MISSING)
        return self._fitting(document)

    async def due(self, now: datetime, limit: int) -> list[Posting]:
        """The postings that are to be sent by `now` and were not, the longest overdue first."""
        waiting: list[Posting] = []
        async for document in self._unsent({"due_at": {"$lte": now}}):
            posting = fit(document, Posting.from_document, "postings", self._report)
            if posting is not None:
                waiting.append(posting)
            if len(waiting) >= limit:
                break
        return waiting

    async def put_off(self, posting_id: str, until: datetime) -> None:
        """Try one again later that cannot be sent now."""
        await self._postings.update_one({"_id": posting_id, "sent_at": None}, {"$set": {"due_at": until}})

    async def next_due(self) -> datetime | None:
        """When the next posting is to be sent; None where none waits."""
        async for document in self._unsent({"due_at": {"$type": "date"}}):
            moment = document["due_at"]
            # A date of a year that Python has not comes as another type.
            posting = fit(document, Posting.from_document, "postings", self._report)
            if isinstance(moment, datetime) and posting is not None:
                return moment
        return None

    async def mark_sent(self, posting_id: str, at: datetime) -> None:
        """Note that the recipients have it. Again, or for one that is gone: nothing happens."""
        await self._postings.update_one(
            {"_id": posting_id, "sent_at": None}, revise(set={"sent_at": at, "expires_at": at + KEPT})
        )

    def _unsent(self, where: Document) -> Any:
        return self._postings.find({"sent_at": None, **where}, sort=[("due_at", 1), ("_id", 1)])

    def _fitting(self, document: Document) -> Posting:
        posting = fit(document, Posting.from_document, "postings", self._report)
        if posting is None:
            raise NotFound(_MISSING)
        return posting
