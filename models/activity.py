"""Activities: the change log of a project, derived from the change stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from pymongo.errors import BulkWriteError

from models.database_types import Database, Document
from models.fields import Id, Report, Timestamp, Unfit, UserId, from_document
from models.page import Page, PageRequest, Sort, read_page

ActivityType = Literal[
    "project_created",
    "project_changed",
    "project_members_changed",
    "project_archived",
    "project_reopened",
    "project_deleted",
    "item_added",
    "item_changed",
    "item_status_changed",
    "item_removed",
    "comment_deleted",
    "thread_resolved",
    "thread_reopened",
]


class Activity(msgspec.Struct, kw_only=True):
    """One entry of the change log. `actor` is absent where another program did not say who acted."""

    id: Id
    project_id: Id
    item_id: Id | UnsetType = UNSET
    type: ActivityType
    actor: UserId | UnsetType = UNSET
    at: Timestamp
    data: dict[str, Any] = {}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Activity:
        """Raises `models.fields.Unfit`, also for `data` that JSON cannot say."""
        activity = from_document(document, cls, times=("at",), defaults={})
        try:
            msgspec.json.encode(activity.data)
        except TypeError as problem:
            raise Unfit(f"{problem} - at `$.data`") from None
        return activity


SORTS = {"at": Sort("at", "date")}
NEWEST_FIRST = "-at"

_DUPLICATE_KEY = 11000


class ActivityFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to list; None: whatever it is."""

    type: ActivityType | None = None
    item_id: str | None = None
    actor: str | None = None


class ActivityStore:
    """The only code that knows the `activities` collection. Entries are written once and end by `expires_at`."""

    def __init__(self, database: Database, *, report: Report) -> None:
        self._activities = database["activities"]
        self._report = report

    async def page(self, project_id: str, wanted: ActivityFilter, request: PageRequest) -> Page[Activity]:
        """The log of a project. Raises `Invalid` for a foreign cursor."""
        where: Document = {"project_id": project_id}
        for name in wanted.__struct_fields__:
            value = getattr(wanted, name)
            if value is not None:
                where[name] = value
        return await read_page(
            self._activities, where, request, sorts=SORTS, convert=Activity.from_document, report=self._report
        )

    async def add_many(self, entries: Sequence[Document]) -> int:
        """Write entries in the spelling of the database; returns how many were new.

        Their `_id` is derived from the change they tell of, so one that is there already was written before a crash, or
        by the holder of the lease before this one.
        """
        if not entries:
            return 0
        try:
            await self._activities.insert_many(entries, ordered=False)
        except BulkWriteError as problem:
            failures = problem.details["writeErrors"]
            if problem.details["writeConcernErrors"] or any(entry["code"] != _DUPLICATE_KEY for entry in failures):
                raise
            return len(entries) - len(failures)
        return len(entries)
