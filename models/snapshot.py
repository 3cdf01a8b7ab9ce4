"""What a subscriber sees first: a topic's documents, all read at one point in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from models.comment import Comment
from models.database_types import Database
from models.fields import Report, Unfit
from models.inbox_writer import recount
from models.item import Item
from models.notification import Counts, Notification
from models.project import Project, ProjectAccess

Thing = TypeVar("Thing", Project, Item, Comment, Notification, Counts)

BATCH = 500
INBOX_ENTRIES = 200
"""The newest entries of an inbox that its snapshot holds; the others are read over REST."""


class ProjectSnapshot(msgspec.Struct, kw_only=True):
    """A project as of `time` (clusterTime: seconds and increment).

    Comments include tombstones; those that begin a thread come first.
    """

    time: tuple[int, int]
    project: Project | None
    items: list[Item]
    comments: list[Comment]


class InboxSnapshot(msgspec.Struct, kw_only=True):
    """One user's inbox as of `time`: the newest entries that are not archived, newest first, and the counts of all."""

    time: tuple[int, int]
    notifications: list[Notification]
    counts: Counts
    projects: dict[str, ProjectAccess]
    """Who may see the projects that the entries are about; those that nobody may see are missing."""


class NotYet(Exception):  # noqa: N818 - says what it is
    """A collection was dropped and is not there yet, or not at a time that can be read: try again in a moment."""


class SnapshotStore:
    """Reads snapshots on the primary, in one snapshot session each. Raises `NotYet`, and what the driver raises."""

    def __init__(self, database: Database, *, report: Report) -> None:
        self._database, self._report = database, report

    async def project(self, project_id: str) -> ProjectSnapshot:
        """A project with its undeleted items and all its comments; `project` is None where callers see none."""
        async with await self._database.client.start_session(snapshot=True) as session:
            # As a command, because only the bare reply tells the time of the snapshot.
            reply = await self._database.command(
                {"find": "projects", "filter": {"_id": project_id, "deleted_at": None}, "limit": 1}, session=session
            )
            time = _time_of(reply)
            projects = self._fitting("projects", Project, reply["cursor"]["firstBatch"])
            snapshot = ProjectSnapshot(time=time, project=projects[0] if projects else None, items=[], comments=[])
            if snapshot.project is None:
                return snapshot
            items = self._database.items.find(
                {"project_id": project_id, "deleted_at": None}, session=session, batch_size=BATCH
            ).sort("_id")
            while batch := await items.to_list(BATCH):
                snapshot.items += self._fitting("items", Item, batch)
            comments = self._database.comments.find({"project_id": project_id}, session=session, batch_size=BATCH).sort(
                "_id"
            )
            while batch := await comments.to_list(BATCH):
                snapshot.comments += self._fitting("comments", Comment, batch)
        snapshot.comments.sort(key=lambda comment: comment.id != comment.thread_id)
        return snapshot

    async def projects(self, visible: Mapping[str, Any]) -> tuple[tuple[int, int], list[Project]]:
        """All projects that `visible` (a filter by `models.project`) lets through, and the time they are of."""
        async with await self._database.client.start_session(snapshot=True) as session:
            # The cheapest read there is: its bare reply tells the time that the whole session is of.
            reply = await self._database.command({"find": "meta", "filter": {"_id": ""}, "limit": 1}, session=session)
            time = _time_of(reply)
            projects: list[Project] = []
            found = self._database.projects.find(
                {"deleted_at": None, **visible}, session=session, batch_size=BATCH
            ).sort("_id")
            while batch := await found.to_list(BATCH):
                projects += self._fitting("projects", Project, batch)
        return time, projects

    async def inbox(self, user_id: str) -> InboxSnapshot:
        """What waits for a user. Whether they may still see what it is about is the caller's question."""
        async with await self._database.client.start_session(snapshot=True) as session:
            reply = await self._database.command(
                {"find": "inboxes", "filter": {"_id": user_id}, "limit": 1}, session=session
            )
            stored = self._fitting("inboxes", Counts, reply["cursor"]["firstBatch"])
            counts = stored[0] if stored else (await recount(self._database.notifications, [user_id], session))[user_id]
            entries = (
                self._database.notifications.find(
                    {"user_id": user_id, "deleted_at": None, "archived_at": None}, session=session
                )
                .sort([("updated_at", -1), ("_id", -1)])
                .limit(INBOX_ENTRIES)
            )
            notifications = self._fitting("notifications", Notification, await entries.to_list(INBOX_ENTRIES))
            about = {entry.subject.project_id for entry in notifications} - {UNSET}
            found = self._database.projects.find({"_id": {"$in": list(about)}, "deleted_at": None}, session=session)
            projects = self._fitting("projects", Project, await found.to_list(None))
        return InboxSnapshot(
            time=_time_of(reply),
            notifications=notifications,
            counts=counts,
            projects={
                project.id: ProjectAccess(visibility=project.visibility, members=tuple(project.members))
                for project in projects
            },
        )

    def _fitting(self, collection: str, shape: type[Thing], documents: list[Mapping[str, Any]]) -> list[Thing]:
        """What fits of what is stored; the rest is reported and left out."""
        fitting = []
        for document in documents:
            try:
                fitting.append(shape.from_document(document))
            except Unfit as problem:
                self._report(collection, document.get("_id"), str(problem))
        return fitting


def _time_of(reply: Mapping[str, Any]) -> tuple[int, int]:
    """The time of the snapshot that a command was answered from; a collection that does not exist has none."""
    moment = reply["cursor"].get("atClusterTime")
    if moment is None:
        raise NotYet
    return moment.time, moment.inc
