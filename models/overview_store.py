"""Overviews in MongoDB: all of a project at one moment, or what is different of one that was read before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

import msgspec
from bson import Timestamp
from bson.errors import BSONError
from msgspec import Raw
from pymongo.errors import OperationFailure, PyMongoError

from models.comment import Comment
from models.database_types import Collection, Database, Document, Session
from models.errors import NotFound
from models.fields import Report, stamp
from models.fitting import fitting_comments, fitting_items
from models.item import STATUSES, Item
from models.item_store import SORTS
from models.overview import THREADS_SHOWN, CommentCounter, Contents, Counters, Thread
from models.overview_update import (
    Earlier,
    Renewed,
    Time,
    add_comments,
    add_statuses,
    comment_counters,
    merge_threads,
)
from models.page import Page, PageRequest, fit, read_page
from models.project import Project

_ATTEMPTS = 5
_TRY_AGAIN = (239, 246)
"""SnapshotTooOld, and SnapshotUnavailable: a collection or an index was made a moment ago."""


class Moment(msgspec.Struct, frozen=True):
    """What was read, and of when."""

    contents: Contents | Renewed
    unread: int
    time: Time
    read_seconds: float | None = None
    """How long reading all of it took; None where only what is different was read."""
    can_be_earlier: bool = True
    """Whether another one can be made from this."""


class OverviewStore:
    """Reads overviews, each in one snapshot session on the primary."""

    def __init__(self, database: Database, *, report: Report) -> None:
        self._database, self._report = database, report

    async def read(
        self, project_id: str, items: PageRequest, *, user_id: str, earlier: Earlier | None = None
    ) -> Moment:
        """All of one project, and what waits in the inbox of `user_id` about it. Raises `NotFound`.

        `items` is the request for the first page of `/projects/{project_id}/items`. Documents that do not fit are left
        out of the counters as they are of the lists. With an overview from `earlier` only what is different is read,
        where that can be told; the result is the same.
        """
        for attempt in range(_ATTEMPTS):
            try:
                async with await self._database.client.start_session(snapshot=True) as session:
                    unread = await self._database.notifications.count_documents(
                        _unread_of(project_id, user_id), session=session
                    )
                    project, time = await self._project(project_id, session)
                    # A primary that was just elected may not know yet how much the others have, and show less.
                    if earlier is not None and earlier.time <= time:
                        renewed = await self._renew(project, time, items, session, earlier)
                        if renewed is not None:
                            return Moment(renewed, unread, time)
                    begun = monotonic()
                    contents, sure = await self._read(project, items, session)
                    return Moment(contents, unread, time, monotonic() - begun, sure)
            except OperationFailure as problem:
                if problem.code not in _TRY_AGAIN or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError  # the last attempt returned or raised

    async def unread(self, project_id: str, user_id: str) -> tuple[int, Time]:
        """What waits in the inbox, and when: nothing that was acknowledged before this call is later (clusterTime)."""
        reply = await self._database.command(
            {
                "count": "notifications",
                "query": _unread_of(project_id, user_id),
                # With it MongoDB tells the time up to which a majority has everything.
                "readConcern": {"level": "majority"},
            }
        )
        return reply["n"], (reply["operationTime"].time, reply["operationTime"].inc)

    async def _read(self, project: Project, request: PageRequest, session: Session) -> tuple[Contents, bool]:
        page = await self._items(project.id, request, session)
        by_status = await self._by_status({"project_id": project.id, "deleted_at": None}, session)
        facets = await self._comment_facets({"project_id": project.id}, session)
        threads = await self._threads(project.id, facets, session)
        contents = Contents(
            project=project,
            items=page.items,
            next_cursor=page.next_cursor,
            threads=threads,
            counters=_counters(by_status, comment_counters(facets)),
        )
        return contents, _agree(facets, threads)

    async def _renew(
        self, project: Project, time: Time, request: PageRequest, session: Session, earlier: Earlier
    ) -> Renewed | None:
        """The same as `_read`, from an earlier one. None where that one does not tell all that the new one needs."""
        touched = await earlier.touched(time)
        if touched is None:
            return None
        of_items = {"_id": {"$in": list(touched.items)}, "project_id": project.id, "deleted_at": None}
        of_threads = _in_threads(project.id, list(touched.threads))
        try:
            statuses_then = await self._by_status(of_items, earlier.time) if touched.items else {}
            facets_then = await self._comment_facets(of_threads, earlier.time) if touched.threads else {}
        except (PyMongoError, BSONError):
            return None  # too long ago, or something that the driver gets over when all is read
        shown = msgspec.json.decode(earlier.body, type=Renewed)
        shown.project = Raw(msgspec.json.encode(project))
        by_status, comments = shown.counters.items, shown.counters.by_item()
        if touched.items:
            by_status = add_statuses(by_status, statuses_then, await self._by_status(of_items, session))
            page = await self._items(project.id, request, session)
            shown.items, shown.next_cursor = Raw(msgspec.json.encode(page.items)), page.next_cursor
        if touched.threads:
            facets = await self._comment_facets(of_threads, session)
            comments = add_comments(comments, facets_then, facets)
            found = await self._threads(project.id, facets, session)
            threads = merge_threads(shown.threads, touched.threads, found)
            if threads is None or not _agree(facets, found):
                return None
            shown.threads = threads
        shown.counters = _counters(by_status, comments)
        return shown

    async def _project(self, project_id: str, session: Session) -> tuple[Project, Time]:
        # As a command, because only the bare reply tells the time of the snapshot.
        reply = await self._database.command(
            {"find": "projects", "filter": {"_id": project_id, "deleted_at": None}, "limit": 1}, session=session
        )
        for document in reply["cursor"]["firstBatch"]:
            project = fit(document, Project.from_document, "projects", self._report)
            if project is not None:
                moment = reply["cursor"]["atClusterTime"]
                return project, (moment.time, moment.inc)
        raise NotFound("There is no such project, or you may not see it.")

    async def _items(self, project_id: str, request: PageRequest, session: Session) -> Page[Item]:
        return await read_page(
            self._database.items,
            {"project_id": project_id, "deleted_at": None},
            request,
            sorts=SORTS,
            convert=Item.from_document,
            report=self._report,
            session=session,
        )

    async def _by_status(self, where: Document, when: Session | Time) -> dict[str, int]:
        groups = await self._aggregate(
            self._database.items,
            [{"$match": {"$and": [where, _FITTING_ITEMS]}}, {"$group": {"_id": "$status", "count": {"$sum": 1}}}],
            when,
        )
        return {**dict.fromkeys(STATUSES, 0), **{group["_id"]: group["count"] for group in groups}}

    async def _comment_facets(self, where: Document, when: Session | Time) -> Document:
        pipeline = [{"$match": {"$and": [where, _FITTING_COMMENTS]}}, *FACETS]
        (facets,) = await self._aggregate(self._database.comments, pipeline, when)
        return facets

    async def _aggregate(
        self, collection: Collection, pipeline: list[Document], when: Session | Time
    ) -> list[Document]:
        """What a few documents hold, in a session, or as of a moment in the past."""
        if not isinstance(when, tuple):
            found: list[Document] = await collection.aggregate(pipeline, session=when).to_list(None)
            return found
        # As a command, because a session of the driver is always of the moment of its first read.
        reply = await self._database.command(
            {
                "aggregate": collection.name,
                "pipeline": pipeline,
                "cursor": {},
                "readConcern": {"level": "snapshot", "atClusterTime": Timestamp(*when)},
            }
        )
        return list(reply["cursor"]["firstBatch"])

    async def _threads(self, project_id: str, facets: Document, session: Session) -> list[Thread]:
        """The newest threads, in their order."""
        thread_ids = [entry["_id"] for entry in facets["newest"]]
        cursor = self._database.comments.find(_in_threads(project_id, thread_ids), session=session)
        comments: dict[str, list[Comment]] = {}
        for document in await cursor.to_list(None):
            comment = fit(document, Comment.from_document, "comments", self._report)
            if comment is not None:
                comments.setdefault(comment.thread_id, []).append(comment)
        return [_thread(comments[thread_id]) for thread_id in thread_ids if thread_id in comments]


def _unread_of(project_id: str, user_id: str) -> Document:
    return {"user_id": user_id, "subject.project_id": project_id, "read_at": None, "archived_at": None}


def _in_threads(project_id: str, thread_ids: list[str]) -> Document:
    """All comments of these threads. A first comment may leave its own thread unsaid."""
    firsts = {"_id": {"$in": thread_ids}, "thread_id": None}
    return {"project_id": project_id, "$or": [{"thread_id": {"$in": thread_ids}}, firsts]}


def _agree(facets: Document, threads: Iterable[Thread]) -> bool:
    """Whether the threads are those that MongoDB found, by their first comments as it sees them.

    If one of the two shows a comment that the other does not, the order of the threads cannot be told from the threads.
    """
    found = [(stamp(entry["created_at"]), entry["_id"]) for entry in facets["newest"]]
    return found == [(thread.comments[0].created_at, thread.id) for thread in threads]


def _counters(by_status: Mapping[str, int], comments: Mapping[str | None, CommentCounter]) -> Counters:
    """`comments` by item, None for the project itself. In the order of ids, so that equal overviews are equal bytes."""
    by_item = {item_id: counter for item_id, counter in comments.items() if item_id is not None}
    return Counters(
        items=dict(by_status),
        comments=dict(sorted(by_item.items())),
        project_comments=comments.get(None, CommentCounter()),
    )


def _thread(comments: Iterable[Comment]) -> Thread:
    ordered = sorted(comments, key=lambda comment: (comment.id != comment.thread_id, comment.created_at, comment.id))
    return Thread(id=ordered[0].thread_id, item_id=ordered[0].item_id, comments=ordered)


_FITTING_ITEMS = fitting_items()
_FITTING_COMMENTS = fitting_comments()


def _or_null(field: str) -> dict[str, Any]:
    return {"$ifNull": [field, None]}


_THREAD = {"$ifNull": ["$thread_id", "$_id"]}
_BY_THREAD: Document = {"$group": {"_id": "$_id.thread", "living": {"$sum": "$living"}, "first": {"$min": "$first"}}}
FACETS: list[Document] = [
    # All comments are looked at once; what follows looks at threads, of which there are a few for each item.
    {
        "$group": {
            "_id": {"thread": _THREAD, "item": _or_null("$item_id")},
            "living": {"$sum": {"$cond": [{"$eq": [_or_null("$deleted_at"), None]}, 1, 0]}},
            # The smallest: MongoDB compares documents field by field, in this order. Another program may have removed
            # a first comment for good; then the earliest reply stands for it.
            "first": {
                "$min": {
                    "is_reply": {"$ne": [_THREAD, "$_id"]},
                    "created_at": "$created_at",
                    "id": "$_id",
                    "item_id": _or_null("$item_id"),
                    "resolved": {"$ne": [_or_null("$resolved"), None]},
                }
            },
        }
    },
    {
        "$facet": {
            "counts": [
                {"$group": {"_id": "$_id.item", "count": {"$sum": "$living"}}},
                {"$match": {"count": {"$gt": 0}}},
            ],
            "open": [
                _BY_THREAD,
                {"$match": {"living": {"$gt": 0}, "first.resolved": False}},
                {"$group": {"_id": "$first.item_id", "count": {"$sum": 1}}},
            ],
            "newest": [
                _BY_THREAD,
                {"$sort": {"first.created_at": -1, "_id": -1}},
                {"$limit": THREADS_SHOWN},
                {"$project": {"created_at": "$first.created_at"}},
            ],
        }
    },
]
