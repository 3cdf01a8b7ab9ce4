"""The `comments` collection: the only code that reads and writes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET
from pymongo.errors import DuplicateKeyError

from models.comment import MENTION_CAP, Comment, CommentPatch, NewComment, mentioned
from models.database_types import Database, Document
from models.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from models.etag import Precondition
from models.fields import Id, MakeId, Report, Unfit, UserId, as_stored, stamp, utc_now
from models.page import Page, PageRequest, Sort, fit, read_page
from models.revision import Pipeline, change, revise, stored

_MISSING = "There is no such comment in this project."
_TEXT = ("body", "mentions", "mention_groups", "anchor")
"""What a tombstone loses, in the database too."""


SORTS = {"created_at": Sort("created_at", "date")}
NEWEST_FIRST = "-created_at"


class CommentFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which comments of a project to list, tombstones included; None: whatever it is."""

    item_id: str | None = None
    thread_id: str | None = None
    resolved: bool | None = None
    """Only the first comments of threads: of the resolved ones, or of the open ones."""
    author: str | None = None
    created_after: datetime | None = None


class CommentStore:
    """Comments of all projects. Documents that do not fit are reported and left out; asked for, they are not found."""

    def __init__(self, database: Database, *, report: Report, now: Callable[[], datetime] = utc_now) -> None:
        self._comments, self._items = database["comments"], database["items"]
        self._activities, self._projects = database["activities"], database["projects"]
        self._report, self._now = report, now

    async def get(self, project_id: str, comment_id: str) -> Comment:
        """One comment, or its tombstone. Raises `NotFound`."""
        document = await self._comments.find_one(_place(project_id, comment_id))
        if document is None:
            raise NotFound(_MISSING)
        return self._fit(document)

    async def project_of_thread(self, thread_id: str) -> str | None:
        """The project of a thread, also where its first comment is a tombstone; None where there is no such thread."""
        document = await self._comments.find_one({"_id": thread_id}, {"project_id": 1, "thread_id": 1})
        if document is None or document.get("thread_id") not in (None, thread_id):
            return None
        return document["project_id"] if isinstance(document.get("project_id"), str) else None

    async def page(self, project_id: str, wanted: CommentFilter, request: PageRequest) -> Page[Comment]:
        """The comments of a project, tombstones included. Raises `Invalid` for a foreign cursor."""
        conditions: list[Document] = [{"project_id": project_id}]
        if wanted.item_id is not None:
            conditions.append({"item_id": wanted.item_id})
        if wanted.thread_id is not None:
            # Another program may leave `thread_id` out of a comment that begins a thread.
            first = {"_id": wanted.thread_id, "thread_id": None}
            conditions.append({"$or": [{"thread_id": wanted.thread_id}, first]})
        if wanted.resolved is not None:
            conditions.append({"resolved": {"$ne": None} if wanted.resolved else None})
            conditions.append({"$expr": {"$eq": [{"$ifNull": ["$thread_id", "$_id"]}, "$_id"]}})
        if wanted.author is not None:
            conditions.append({"author": wanted.author})
        if wanted.created_after is not None:
            conditions.append({"created_at": {"$gt": stored(wanted.created_after)}})
        return await read_page(
            self._comments,
            {"$and": conditions},
            request,
            sorts=SORTS,
            convert=Comment.from_document,
            report=self._report,
        )

    async def participants(
        self, project_ids: Collection[str], thread_ids: Collection[str]
    ) -> dict[str, dict[str, tuple[str, str]]]:
        """Who wrote in each of these threads of these projects, with `created_at` and id of their first comment.

        Tombstones count: who took part does not change afterwards.
        """
        threads = sorted(thread_ids)
        in_thread = {"project_id": {"$in": sorted(project_ids)}, "thread_id": {"$in": threads}}
        pipeline = [
            # Another program may leave `thread_id` out of a comment that begins a thread.
            {"$match": {"$or": [in_thread, {"_id": {"$in": threads}}]}},
            {
                "$group": {
                    "_id": {"thread": {"$ifNull": ["$thread_id", "$_id"]}, "author": "$author"},
                    "first": {"$min": {"at": "$created_at", "id": "$_id"}},
                }
            },
        ]
        found: dict[str, dict[str, tuple[str, str]]] = {}
        async for group in self._comments.aggregate(pipeline):
            first = group["first"]
            try:
                author, thread = as_stored(group["_id"].get("author"), UserId), as_stored(group["_id"]["thread"], Id)
                found.setdefault(thread, {})[author] = (stamp(first.get("at")), str(first["id"]))
            except Unfit:
                continue  # another program's, and unfit; reported where comments are read
        return found

    async def create(self, project_id: str, new: NewComment, *, author: str, make_id: MakeId) -> Comment:
        """Begin a thread, or reply in one.

        Raises `NotFound` where the item, thread, parent, activity or project is not there (any more), `Conflict` where
        the thread or parent is a tombstone, and `Invalid` where what is named does not belong together or more than
        `MENTION_CAP` are mentioned.
        """
        comment_id = make_id()
        mentions, mention_groups = _mentions(new.body)
        thread_id, item_id = await self._belongs(project_id, new)
        named = {"item_id": item_id, "parent_id": new.parent_id, "activity_id": new.activity_id}
        document = {
            "_id": comment_id,
            "project_id": project_id,
            **{name: value for name, value in named.items() if value is not UNSET},
            "thread_id": comment_id if thread_id is None else thread_id,
            "body": new.body,
            "mentions": mentions,
            "mention_groups": mention_groups,
            "author": author,
            "created_at": self._now(),
            "version": 1,
        }
        if new.anchor is not UNSET:
            document["anchor"] = stored(new.anchor)
        try:
            await self._comments.insert_one(document)
        except DuplicateKeyError:
            return await self._first_attempt(document)
        if await self._projects.find_one({"_id": project_id, "deleted_at": None}, {"_id": 1}) is None:
            # Whoever deletes a project marks it first and its comments after that, so one of us two sees the other.
            now = self._now()
            await self._comments.update_one(
                {"_id": comment_id, "deleted_at": None}, revise(set={"deleted_at": now, "deleted_by": author})
            )
            raise NotFound("There is no such project, or you may not see it.")
        return self._fit(document)

    async def patch(
        self, project_id: str, comment_id: str, patch: CommentPatch, *, by: str, precondition: Precondition
    ) -> Comment:
        """Edit the text, which only the author may, or resolve or reopen the thread.

        Raises `NotFound`, `StaleVersion`, `Conflict` (a tombstone), `Forbidden`, `Invalid`; then nothing is changed.
        """

        def plan(document: Document) -> Pipeline | None:
            comment = self._fit(document)
            precondition(comment)
            assigned, removed = _edited(comment, patch, by=by, at=self._now())
            if not assigned and not removed:
                return None
            return revise(set=assigned | {"updated_by": by}, unset=removed)

        try:
            return self._fit(await change(self._comments, _place(project_id, comment_id), plan))
        except NotFound:
            await self.get(project_id, comment_id)
            raise Conflict("This comment is deleted.") from None

    async def delete(
        self, project_id: str, comment_id: str, *, by: str, owner: bool, precondition: Precondition
    ) -> None:
        """Leave a tombstone: its author may, and an `owner` of the project. Again is no error (RFC 9110, 13.1.1).

        Raises `NotFound`, `Forbidden`, `StaleVersion`, `Conflict`.
        """

        def plan(document: Document) -> Pipeline:
            comment = self._fit(document)
            _check_may_delete(comment, by=by, owner=owner)
            precondition(comment)
            return revise(set={"deleted_at": self._now(), "deleted_by": by, "updated_by": by}, unset=_TEXT)

        try:
            await change(self._comments, _place(project_id, comment_id), plan)
        except NotFound:
            _check_may_delete(await self.get(project_id, comment_id), by=by, owner=owner)

    # -- where a new comment belongs ----------------------------------------------------------------------------------

    async def _belongs(self, project_id: str, new: NewComment) -> tuple[str | None, str | msgspec.UnsetType]:
        """The thread (None: it begins one) and the item of a new comment."""
        thread_id, item_id = None, new.item_id
        if new.thread_id is not UNSET or new.parent_id is not UNSET:
            thread_id, item_id = await self._thread(project_id, new)
            if new.item_id is not UNSET and new.item_id != item_id:
                raise _disagree("$.item_id", "The thread is about something else")
        if item_id is not UNSET:
            living = {"_id": item_id, "project_id": project_id, "deleted_at": None}
            if await self._items.find_one(living, {"_id": 1}) is None:
                raise _unknown("$.item_id", "item")
        if new.activity_id is not UNSET:
            entry = {"_id": new.activity_id, "project_id": project_id}
            if await self._activities.find_one(entry, {"_id": 1}) is None:
                raise _unknown("$.activity_id", "activity")
        return thread_id, item_id

    async def _thread(self, project_id: str, new: NewComment) -> tuple[str, str | msgspec.UnsetType]:
        """The thread that a reply names, and what item it is about."""
        if new.parent_id is UNSET:
            return await self._whole_thread(project_id, str(new.thread_id))
        parent = await self._answerable(project_id, new.parent_id, "$.parent_id", "comment")
        if new.thread_id not in (UNSET, parent.thread_id):
            raise _disagree("$.thread_id", "The parent stands in another thread")
        if parent.thread_id == parent.id:
            return parent.id, parent.item_id
        try:
            return await self._whole_thread(project_id, parent.thread_id)
        except NotFound:
            # Another program removed the first comment for good; its thread lives on in the replies.
            return parent.thread_id, parent.item_id

    async def _whole_thread(self, project_id: str, thread_id: str) -> tuple[str, str | msgspec.UnsetType]:
        first = await self._answerable(project_id, thread_id, "$.thread_id", "thread")
        if first.thread_id != first.id:
            raise _disagree("$.thread_id", "This is a reply, not the first comment of a thread")
        return first.id, first.item_id

    async def _answerable(self, project_id: str, comment_id: str, path: str, what: str) -> Comment:
        document = await self._comments.find_one(_place(project_id, comment_id))
        if document is None:
            raise _unknown(path, what)
        comment = self._fit(document)
        if comment.deleted_at is not UNSET:
            raise Conflict(f"The {what} is deleted.", errors=(FieldError(path, "Is deleted"),))
        return comment

    async def _first_attempt(self, document: Mapping[str, Any]) -> Comment:
        """What an earlier attempt of the same request left behind."""
        present = await self._comments.find_one({"_id": document["_id"]})
        same = ("project_id", "author", "thread_id")
        if present is None or any(present.get(name) != document[name] for name in same):
            raise Conflict("This id belongs to another comment.")
        return self._fit(present)

    def _fit(self, document: Mapping[str, Any]) -> Comment:
        """The comment, or `NotFound` and a report."""
        comment = fit(document, Comment.from_document, "comments", self._report)
        if comment is None:
            raise NotFound(_MISSING)
        return comment


def _place(project_id: str, comment_id: str) -> Document:
    return {"_id": comment_id, "project_id": project_id}


def _check_may_delete(comment: Comment, *, by: str, owner: bool) -> None:
    if comment.author != by and not owner:
        raise Forbidden("Only the author and the project's owners may delete a comment.")


def _edited(comment: Comment, patch: CommentPatch, *, by: str, at: datetime) -> tuple[Document, list[str]]:
    """The fields that the patch sets and removes; none where all is as it wants. Raises `Forbidden` and `Invalid`."""
    assigned: Document = {}
    removed: list[str] = []
    if patch.body is not UNSET:
        if comment.author != by:
            raise Forbidden("Only its author may edit a comment.")
        if patch.body != comment.body:
            mentions, mention_groups = _mentions(patch.body)
            assigned |= {"body": patch.body, "mentions": mentions, "mention_groups": mention_groups, "edited_at": at}
    if patch.resolved is not UNSET:
        if comment.thread_id != comment.id:
            raise _disagree("$.resolved", "Only the first comment of a thread is resolved or reopened")
        if patch.resolved and comment.resolved is UNSET:
            assigned["resolved"] = {"by": by, "at": at}
        elif not patch.resolved and comment.resolved is not UNSET:
            removed.append("resolved")
    return assigned, removed


def _mentions(body: str) -> tuple[list[str], list[str]]:
    """As `mentioned`, and `Invalid` where that would leave some out."""
    users, groups = mentioned(body, limit=MENTION_CAP + 1)
    if len(users) + len(groups) > MENTION_CAP:
        raise Invalid(
            f"A comment may mention {MENTION_CAP} users and groups.",
            errors=(FieldError("$.body", f"Mentions more than {MENTION_CAP}"),),
        )
    return users, groups


def _unknown(path: str, what: str) -> NotFound:
    return NotFound(f"There is no such {what} in this project.", errors=(FieldError(path, "Not found"),))


def _disagree(path: str, message: str) -> Invalid:
    return Invalid(f"{message} at {path}.", errors=(FieldError(path, message),))
