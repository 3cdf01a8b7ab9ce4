"""What a change-stream document means: which documents callers saw before and see now, and the events between. Pure.

Another program may write anything into the watched collections. What does not fit the public Struct is the same as
not being there: a document that stops fitting leaves, one that starts fitting enters, and `Change.problem` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from app.position import Position
from app.protocol import Event
from app.topics import inbox_key, project_key
from models.activity import Activity
from models.comment import Comment
from models.fields import Unfit, stamp
from models.item import Item
from models.notification import Counts, Notification
from models.project import Project, ProjectAccess
from models.schema import WATCHED

Thing = Project | Item | Comment | Activity | Notification | Counts
Kind = Literal["project", "item", "comment", "activity", "notification", "counts"]

SHAPES: dict[str, tuple[Kind, type[Thing]]] = {
    "projects": ("project", Project),
    "items": ("item", Item),
    "comments": ("comment", Comment),
    "activities": ("activity", Activity),
    "notifications": ("notification", Notification),
    "inboxes": ("counts", Counts),
}
"""The collections whose documents callers see, and what they see of them."""

CONTENTS = ("projects", "items", "comments")
"""The collections that projects are shown from."""

_ACTOR_FIELDS = {
    "projects": ("updated_by", "created_by"),
    "items": ("changed_by", "created_by"),
    "comments": ("updated_by", "author"),
    "activities": ("actor", "actor"),
}
"""Who changed a document last, and who made it. An entry of an inbox names its actors itself."""

_OWNER_FIELDS = {"notifications": "user_id", "inboxes": "_id"}
"""Whose inbox a document belongs to: part of what is stored, and not of what its owner is shown."""


class Change(msgspec.Struct, kw_only=True):
    """One document of the change stream, understood."""

    collection: str
    operation: str
    id: str
    position: Position
    """Where a client is once it has this change."""
    at: str
    by: str | UnsetType = UNSET
    version: int | None = None
    before: Thing | None = None
    """What callers saw before; None where there was nothing to see, or nobody can tell."""
    after: Thing | None = None
    """What callers see now."""
    raw_before: Mapping[str, Any] | None = None
    raw_after: Mapping[str, Any] | None = None
    thin: bool = False
    """The stream carried no document as of this change; `after` is then a later state of it, good for routing only."""
    unseen: bool = False
    """The stream carried no image from before this change: nobody can tell what callers saw."""
    lost: bool = False
    """Nobody can tell which project this was about: everyone has to read again."""
    problem: str | None = None
    """What does not fit in what another program wrote."""

    @property
    def kind(self) -> Kind | None:
        """The kind of its events; None for collections that callers do not see."""
        shape = SHAPES.get(self.collection)
        return shape[0] if shape else None


def needs_lookup(document: Mapping[str, Any]) -> bool:
    """Whether the stream carries no post-image where it should (the image option was lost, or the image expired)."""
    return document["operationType"] in ("insert", "update", "replace") and document.get("fullDocument") is None


def read_change(document: Mapping[str, Any], position: Position, *, current: Mapping[str, Any] | None = None) -> Change:
    """Understand one change-stream document. Never raises for what another program wrote.

    `current` is the document as it is now, for a change that `needs_lookup`.
    """
    collection, operation = _collection(document), document["operationType"]
    raw_before = document.get("fullDocumentBeforeChange")
    raw_after = document.get("fullDocument")
    thin = needs_lookup(document)
    key = document.get("documentKey", {}).get("_id")
    change = Change(
        collection=collection,
        operation=operation,
        # Not `isinstance`: code, of BSON's types, arrives as a kind of `str` that nothing can be looked up by.
        id=key if type(key) is str else "",
        position=position,
        at=_time_of(document),
        raw_before=raw_before,
        raw_after=current if thin else raw_after,
        thin=thin,
        unseen=raw_before is None and operation in ("update", "replace", "delete"),
    )
    if collection not in SHAPES or "documentKey" not in document:
        return change
    change.before = _seen(change, raw_before)
    change.after = _seen(change, change.raw_after)
    updated = (document.get("updateDescription") or {}).get("updatedFields") or {}
    # A replacement does not say what it changed: its document may have come from anywhere.
    moved = "project_id" in updated or "user_id" in updated or (operation == "replace" and collection != "projects")
    change.lost = change.unseen and (change.after is None or moved) and collection != "inboxes"
    if not thin:
        change.version = _raised_version(operation, raw_before, raw_after)
        change.by = _actor(change)
    return change


def events_of(change: Change) -> list[tuple[str, Event]]:
    """The events for the topics of projects and inboxes, each with the key that it is routed by, in order."""
    if change.kind is None:
        return []
    if change.collection == "inboxes" and change.after is None:
        # There are always counts: those that are not stored follow from the entries, and REST tells them.
        return [(inbox_key(change.id), event_of(change, "update"))] if change.id else []
    before = _key(change, change.before, change.raw_before)
    after = _key(change, change.after, change.raw_after)
    if change.unseen:
        before = after
    if before is not None and before == after:
        return [(before, event_of(change, "update"))]
    events = []
    if before is not None:
        events.append((before, event_of(change, "delete" if after is None else "leave")))
    if after is not None:
        events.append((after, event_of(change, "enter")))
    return events


def event_of(change: Change, what: Literal["enter", "update", "leave", "delete"]) -> Event:
    """The public event of a change, said as `what`. A tombstone or a thin change says what it can."""
    if change.kind is None:
        raise ValueError(f"{change.collection} has no events")
    has_document = what in ("enter", "update") and not change.thin and change.after is not None
    return Event(
        kind=change.kind,
        change=what,
        id=change.id,
        version=change.version,
        at=change.at,
        by=change.by,
        doc=change.after if has_document else UNSET,
    )


def access_of(project: Thing | None) -> ProjectAccess | None:
    """What decides who sees a project; None where there is no project to see."""
    if not isinstance(project, Project):
        return None
    return ProjectAccess(visibility=project.visibility, members=tuple(project.members))


def _seen(change: Change, raw: Mapping[str, Any] | None) -> Thing | None:
    """What callers see of a stored document, or None."""
    if raw is None:
        return None
    if raw.get("deleted_at") is not None and change.collection != "comments":
        return None
    try:
        _check_owner(change.collection, raw)
        return SHAPES[change.collection][1].from_document(raw)
    except Unfit as problem:
        if raw is change.raw_after:
            change.problem = str(problem)
        return None


def _check_owner(collection: str, raw: Mapping[str, Any]) -> None:
    """Raises `Unfit` for what is in nobody's inbox."""
    field = _OWNER_FIELDS.get(collection)
    if field is not None and not isinstance(raw.get(field), str):
        raise Unfit(f"Expected `str`, got `{type(raw.get(field)).__name__}` - at `$.{field}`")


def _key(change: Change, thing: Thing | None, raw: Mapping[str, Any] | None) -> str | None:
    """By what the events of a document are routed; None where nobody sees it."""
    if thing is None or raw is None:
        return None
    if isinstance(thing, Notification | Counts):
        return inbox_key(raw[_OWNER_FIELDS[change.collection]])
    return project_key(thing.id if isinstance(thing, Project) else thing.project_id)


def _raised_version(operation: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> int | None:
    """The version, where this change raised it; another program may not have."""
    now = _version(after)
    if operation == "insert" or now is None:
        return now
    then = _version(before)
    return now if then is not None and now > then else None


def _version(document: Mapping[str, Any] | None) -> int | None:
    """With the read-time default; None where there is no document, or nonsense in it."""
    if document is None:
        return None
    version = document.get("version")
    if version is None:
        return 1
    # As plain as JSON: what BSON has as 64 bits arrives as a kind of `int` that cannot be encoded.
    return int(version) if isinstance(version, int) and not isinstance(version, bool) else None


def _actor(change: Change) -> str | UnsetType:
    """Who did it, where the change says so itself: a foreign update leaves the last actor's name behind."""
    if change.raw_after is None or change.version is None:
        return UNSET
    fields = _ACTOR_FIELDS.get(change.collection)
    if fields is None:
        return UNSET
    changed_by, made_by = fields
    actor = change.raw_after.get(made_by if change.operation == "insert" else changed_by)
    return actor if isinstance(actor, str) else UNSET


def _collection(document: Mapping[str, Any]) -> str:
    """Whose change it is; a rename is also a change of the collection that it replaces (as `$out` does)."""
    collection: str = document["ns"]["coll"]
    return document["to"]["coll"] if collection not in WATCHED and "to" in document else collection


def _time_of(document: Mapping[str, Any]) -> str:
    """The server's wall clock at the change; before MongoDB 6.0 only whole seconds are known."""
    try:
        return stamp(document.get("wallTime"))
    except Unfit:
        return stamp(datetime.fromtimestamp(document["clusterTime"].time, UTC))
