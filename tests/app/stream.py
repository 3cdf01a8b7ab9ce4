"""Change-stream documents as MongoDB writes them, for tests of what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bson import Timestamp

from app.changes import Change, read_change
from app.permissions import Identity
from app.position import Position

NOON = datetime(2026, 1, 2, 12, 0, 0, 345_000, tzinfo=UTC)


def project(**fields: Any) -> dict[str, Any]:
    """A stored project."""
    return {"_id": "p", "name": "Spring", "created_by": "alice", "updated_by": "bob", "version": 1, **fields}


def item(**fields: Any) -> dict[str, Any]:
    """A stored item."""
    content = {"id": "c", "version": "1"}
    return {
        "_id": "i", "project_id": "p", "content": content, "name": "Home", "type": "page", "status": "draft",
        "created_by": "alice", "changed_by": "bob", "version": 1, **fields,
    }  # fmt: skip


def comment(**fields: Any) -> dict[str, Any]:
    """A stored comment."""
    return {
        "_id": "c", "project_id": "p", "body": "Hello @bob", "author": "alice", "created_at": NOON, "version": 1,
        **fields,
    }  # fmt: skip


def told(comment_id: str | None = "c", **fields: Any) -> dict[str, Any]:
    """A stored event of an entry: what a comment says."""
    said = {} if comment_id is None else {"comment_id": comment_id, "text": f"says {comment_id}"}
    return {
        "id": f"e-{comment_id}", "type": "comment", "reason": "follows_item", "at": NOON, "actor": "alice",
        **said, **fields,
    }  # fmt: skip


def entry(*events: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A stored entry of bob's inbox with these events, newest first."""
    events = events or (told(),)
    newest = events[0]
    return {
        "_id": "n", "user_id": "bob", "type": newest["type"], "reason": newest["reason"],
        "subject": {"kind": "thread", "project_id": "p", "item_id": "i", "thread_id": "t"}, "title": "Home",
        "body": newest.get("text", ""), "actors": ["alice"], "events": list(events), "event_count": len(events),
        "seq": 1, "created_at": NOON, "updated_at": NOON, "version": 1, "last_applied": [10, 1, 1], **fields,
    }  # fmt: skip


def inbox(**fields: Any) -> dict[str, Any]:
    """The stored counts of bob's inbox."""
    return {"_id": "bob", "unseen": 1, "unread": 1, "seq": 1, "version": 1, **fields}


def document(
    collection: str,
    operation: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    *,
    time: tuple[int, int] = (10, 1),
    key: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """What the stream brings of one change; `before` and `after` are the images it carries."""
    identifier = key if key is not None else (after or before or {}).get("_id")
    made: dict[str, Any] = {
        "_id": {"_data": "82"},
        "operationType": operation,
        "ns": {"db": "copydesk", "coll": collection},
        "documentKey": {"_id": identifier},
        "clusterTime": Timestamp(*time),
        "wallTime": NOON,
        **more,
    }
    if before is not None:
        made["fullDocumentBeforeChange"] = before
    if after is not None:
        made["fullDocument"] = after
    return made


def change(
    collection: str,
    operation: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    *,
    at: Position | None = None,
    current: dict[str, Any] | None = None,
    **more: Any,
) -> Change:
    """The same, understood."""
    position = at if at is not None else Position(10, 1, 1)
    return read_change(
        document(collection, operation, before, after, time=position.time, **more), position, current=current
    )


def identity(user: str = "bob", *roles: Any, groups: tuple[str, ...] = ()) -> Identity:
    """A caller."""
    return Identity(
        user_id=user,
        name=user,
        roles=frozenset(roles or ("editor",)),
        groups=frozenset(groups),
        expires_at=float("inf"),
    )
