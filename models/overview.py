"""The overview of a project: what its page shows at first, all read at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pymongo.errors import OperationFailure

from models.comment import Comment
from models.database_types import Database, Document, Session
from models.errors import NotFound
from models.fields import Id, ProjectRole, Report
from models.fitting import fitting_comments, fitting_items
from models.item import STATUSES, Item
from models.item_store import SORTS
from models.page import Page, PageRequest, fit, read_page
from models.project import Project

ITEMS_SHOWN = 200
THREADS_SHOWN = 50

_ATTEMPTS = 5
_TRY_AGAIN = (239, 246)
"""SnapshotTooOld, and SnapshotUnavailable: a collection or an index was made a moment ago."""

Count = Annotated[int, Meta(ge=0)]


class Thread(msgspec.Struct, kw_only=True):
    """A thread, whole: its first comment, then the replies by time. Tombstones keep their places."""

    id: Id
    item_id: Id | UnsetType = UNSET
    comments: list[Comment]


class CommentCounter(msgspec.Struct, kw_only=True):
    """`count`: comments that are not deleted. `open_threads`: unresolved ones with at least one such comment."""

    count: Count = 0
    open_threads: Count = 0


class Counters(msgspec.Struct, kw_only=True):
    """Items by status, and comments by item and on the project itself. Items without comments are absent."""

    items: dict[str, Count]
    comments: dict[str, CommentCounter]
    project_comments: CommentCounter


class Me(msgspec.Struct, kw_only=True):
    """What is the caller's: their role, what it allows, and how many notifications about this project are unread."""

    role: ProjectRole
    can: list[str]
    unread: Count


class Contents(msgspec.Struct, kw_only=True):
    """What is the same for everybody. `next_cursor` continues the items in `/projects/{project_id}/items`."""

    project: Project
    items: list[Item]
    next_cursor: str | UnsetType = UNSET
    threads: list[Thread]
    counters: Counters


class Overview(Contents, kw_only=True):
    """`position` is from before the read."""

    position: str
    me: Me


class Moment(msgspec.Struct, frozen=True):
    """What was read, and of when (clusterTime: seconds and increment)."""

    contents: Contents
    unread: int
    time: tuple[int, int]


class OverviewStore:
    """Reads overviews, each in one snapshot session on the primary."""

    def __init__(self, database: Database, *, report: Report) -> None:
        self._database, self._report = database, report

    async def read(self, project_id: str, items: PageRequest, *, user_id: str) -> Moment:
        """All of one project, and what waits in the inbox of `user_id` about it. Raises `NotFound`.

        `items` is the request for the first page of `/projects/{project_id}/items`. Documents that do not fit are left
        out of the counters as they are of the lists.
        """
        for attempt in range(_ATTEMPTS):
            try:
                async with await self._database.client.start_session(snapshot=True) as session:
                    unread = await self._database.notifications.count_documents(
                        _unread_of(project_id, user_id), session=session
                    )
                    contents, time = await self._read(project_id, items, session)
                    return Moment(contents, unread, time)
            except OperationFailure as problem:
                if problem.code not in _TRY_AGAIN or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError  # the last attempt returned or raised

    async def unread(self, project_id: str, user_id: str) -> tuple[int, tuple[int, int]]:
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

    async def _read(self, project_id: str, request: PageRequest, session: Session) -> tuple[Contents, tuple[int, int]]:
        project, time = await self._project(project_id, session)
        page = await self._items(project_id, request, session)
        by_status = await self._by_status(project_id, session)
        facets = await self._comment_facets(project_id, session)
        threads = await self._threads(project_id, [entry["_id"] for entry in facets["newest"]], session)
        counters = _comment_counters(facets)
        contents = Contents(
            project=project,
            items=page.items,
            next_cursor=page.next_cursor,
            threads=threads,
            counters=Counters(
                items=by_status,
                project_comments=counters.pop(None, CommentCounter()),
                comments={item_id: counter for item_id, counter in counters.items() if item_id is not None},
            ),
        )
        return contents, time

    async def _project(self, project_id: str, session: Session) -> tuple[Project, tuple[int, int]]:
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

    async def _by_status(self, project_id: str, session: Session) -> dict[str, int]:
        groups = self._database.items.aggregate(
            [
                {"$match": {"$and": [{"project_id": project_id, "deleted_at": None}, _FITTING_ITEMS]}},
                {"$group": {"_id": "$status", "count": {"$sum": 1}}},
            ],
            session=session,
        )
        return {**dict.fromkeys(STATUSES, 0), **{group["_id"]: group["count"] async for group in groups}}

    async def _comment_facets(self, project_id: str, session: Session) -> Document:
        result = self._database.comments.aggregate(
            [{"$match": {"$and": [{"project_id": project_id}, _FITTING_COMMENTS]}}, *FACETS], session=session
        )
        (facets,) = await result.to_list(None)
        found: Document = facets
        return found

    async def _threads(self, project_id: str, thread_ids: list[str], session: Session) -> list[Thread]:
        """The threads in the order of their ids."""
        firsts = {"_id": {"$in": thread_ids}, "thread_id": None}
        cursor = self._database.comments.find(
            {"project_id": project_id, "$or": [{"thread_id": {"$in": thread_ids}}, firsts]}, session=session
        )
        comments: dict[str, list[Comment]] = {}
        for document in await cursor.to_list(None):
            comment = fit(document, Comment.from_document, "comments", self._report)
            if comment is not None:
                comments.setdefault(comment.thread_id, []).append(comment)
        return [_thread(comments[thread_id]) for thread_id in thread_ids if thread_id in comments]


def _unread_of(project_id: str, user_id: str) -> Document:
    return {"user_id": user_id, "subject.project_id": project_id, "read_at": None, "archived_at": None}


def _thread(comments: Iterable[Comment]) -> Thread:
    ordered = sorted(comments, key=lambda comment: (comment.id != comment.thread_id, comment.created_at, comment.id))
    return Thread(id=ordered[0].thread_id, item_id=ordered[0].item_id, comments=ordered)


def _comment_counters(facets: Document) -> dict[str | None, CommentCounter]:
    """By item, None for the project itself; in the order of ids, so that equal overviews are equal bytes."""
    counters = {group["_id"]: CommentCounter(count=group["count"]) for group in facets["counts"]}
    for group in facets["open"]:
        counters.setdefault(group["_id"], CommentCounter()).open_threads = group["count"]
    return dict(sorted(counters.items(), key=lambda counter: counter[0] or ""))


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
                {"$project": {"_id": 1}},
            ],
        }
    },
]
