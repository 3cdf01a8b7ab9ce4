"""What a change means for a project's change log. Pure: the same change gives the same entries, on every process."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import UNSET

from app.changes import Change, Thing
from models.activity import ActivityType
from models.comment import Comment
from models.fields import derived_ulid
from models.item import Item
from models.project import Project

_TRACKED = {
    Project: ("name", "description", "labels", "visibility", "due_at"),
    Item: ("name", "type", "publish_at", "url", "thumbnail_url", "path", "assignee", "rank"),
}
"""Fields of which the log says that they changed; who is a member and what status an item has are told apart."""


def activities_of(change: Change, *, retention: timedelta) -> list[dict[str, Any]]:
    """The log entries of one change, as they are stored. `_id` depends on nothing but the change."""
    if change.unseen or change.thin:
        return []
    entries = [
        *_of_project(change.before, change.after),
        *_of_item(change.before, change.after),
        *_of_comment(change.before, change.after),
    ]
    return [_document(change, kind, data, retention) for kind, data in entries]


Entry = tuple[ActivityType, dict[str, Any]]


def _of_project(before: object, after: object) -> list[Entry]:
    if isinstance(after, Project) and before is None:
        return [("project_created", {"name": after.name})]
    if isinstance(before, Project) and after is None:
        return [("project_deleted", {"name": before.name})]
    if not isinstance(before, Project) or not isinstance(after, Project):
        return []
    entries: list[Entry] = []
    fields = _changed_fields(before, after)
    if fields:
        entries.append(("project_changed", {"fields": fields, "name": after.name}))
    if before.members != after.members:
        entries.append(("project_members_changed", {}))
    if (before.archived_at is UNSET) != (after.archived_at is UNSET):
        entries.append(("project_reopened" if after.archived_at is UNSET else "project_archived", {}))
    return entries


def _of_item(before: object, after: object) -> list[Entry]:
    if isinstance(before, Item) and isinstance(after, Item) and before.project_id == after.project_id:
        entries: list[Entry] = []
        if before.status != after.status:
            entries.append(("item_status_changed", {"name": after.name, "from": before.status, "to": after.status}))
        fields = _changed_fields(before, after)
        if fields:
            entries.append(("item_changed", {"name": after.name, "fields": fields}))
        return entries
    moved: list[Entry] = []
    if isinstance(before, Item):
        moved.append(("item_removed", {"name": before.name}))
    if isinstance(after, Item):
        moved.append(("item_added", {"name": after.name, "status": after.status}))
    return moved


def _of_comment(before: object, after: object) -> list[Entry]:
    if not isinstance(before, Comment) or not isinstance(after, Comment):
        return []
    if before.deleted_at is UNSET and after.deleted_at is not UNSET:
        return [("comment_deleted", {"comment_id": after.id})]
    if (before.resolved is UNSET) != (after.resolved is UNSET):
        return [("thread_reopened" if after.resolved is UNSET else "thread_resolved", {"thread_id": after.thread_id})]
    return []


def _changed_fields(before: Project | Item, after: Project | Item) -> list[str]:
    return [name for name in _TRACKED[type(after)] if getattr(before, name) != getattr(after, name)]


def _project_id(thing: Thing | None) -> str | None:
    if isinstance(thing, Project):
        return thing.id
    return thing.project_id if isinstance(thing, Item | Comment) else None


def _document(change: Change, kind: ActivityType, data: dict[str, Any], retention: timedelta) -> dict[str, Any]:
    """An entry for the project (and item) it happened in: where something left, that is the one it left."""
    thing = change.before if kind in ("item_removed", "project_deleted") else change.after
    at = datetime.fromisoformat(change.at)
    seed = f"{change.position.seconds}.{change.position.increment}.{change.position.ordinal}.{kind}"
    document: dict[str, Any] = {
        "_id": derived_ulid(int(at.timestamp() * 1000), seed),
        "project_id": _project_id(thing),
        "type": kind,
        "at": at,
        "data": data,
        "expires_at": at + retention,
    }
    item_id = thing.id if isinstance(thing, Item) else thing.item_id if isinstance(thing, Comment) else UNSET
    if item_id is not UNSET:
        document["item_id"] = item_id
    if change.by is not UNSET:
        document["actor"] = change.by
    return document
