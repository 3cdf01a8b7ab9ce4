"""One change as it is remembered and sent: its events encoded once, and who may have them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from app.changes import Change, Thing, access_of, event_of, events_of
from app.permissions import Identity, project_role
from app.position import Position
from models.comment import Comment
from models.notification import Notification
from models.project import ProjectAccess

_PRIVATE_TO_THE_LIVING = ("body", "mentions", "mention_groups", "anchor")


class ProjectChange:
    """A change of a project, for the topic `projects`: who could see it before, who can now, and what each is told."""

    __slots__ = ("_change", "_created", "_encoded", "after", "before", "id")

    def __init__(self, change: Change) -> None:
        self.id = change.id
        self.before: ProjectAccess | None = access_of(change.before)
        self.after: ProjectAccess | None = access_of(change.after)
        if change.unseen:
            # Anyone may have seen it: who does not see it now is told to drop it, and gets nothing more of it.
            self.before = ProjectAccess(visibility="public", members=())
        self._created = change.operation == "insert"
        self._change: Change | None = change
        self._encoded: dict[str, bytes] = {}

    @property
    def changes_access(self) -> bool:
        """Whether someone's rights may have changed."""
        return self.before != self.after

    def changes_role_of(self, identity: Identity) -> bool:
        """Whether this changed what `identity` may do. The project's creation did not: there was nothing to see."""
        return not self._created and _role(identity, self.before) != _role(identity, self.after)

    def is_lost_to(self, identity: Identity) -> bool:
        """Whether `identity` saw the project before this, and does not now."""
        return _role(identity, self.before) is not None and _role(identity, self.after) is None

    def for_listener(self, identity: Identity) -> bytes | None:
        """The event as `identity` is told of it; None where they neither saw the project nor see it now."""
        return self.encoded(
            before=_role(identity, self.before) is not None, after=_role(identity, self.after) is not None
        )

    def encoded(self, *, before: bool, after: bool) -> bytes | None:
        """The event for everyone who saw the project `before` and sees it `after`; encoded once each."""
        if before and after:
            what = "update"
        elif after:
            what = "enter"
        elif before:
            what = "leave" if self.after is not None else "delete"
        else:
            return None
        if what not in self._encoded:
            if self._change is None:
                raise RuntimeError("sealed without this view")
            self._encoded[what] = msgspec.json.encode(event_of(self._change, what))  # type: ignore[arg-type]  # one of the four
        return self._encoded[what]

    def seal(self) -> int:
        """Encode every view that could be asked for and let the change go; answers the bytes kept."""
        for before, after in ((True, True), (True, False), (False, True)):
            if (not before or self.before is not None) and (not after or self.after is not None):
                self.encoded(before=before, after=after)
        self._change = None
        return sum(map(len, self._encoded.values()))


class Record:
    """What the ring keeps of one change."""

    __slots__ = ("parts", "position", "project", "quotes", "size", "user_id", "withdrawn")

    def __init__(self, change: Change) -> None:
        self.position: Position = change.position
        self.parts: tuple[tuple[str, bytes], ...] = tuple(
            (key, msgspec.json.encode(event)) for key, event in events_of(change)
        )
        """Events for projects and inboxes, by the key of `app.topics`."""
        self.project = ProjectChange(change) if change.collection == "projects" and change.id else None
        self.user_id = change.id if change.collection == "users" and _roles_changed(change) else None
        """The user whose instance roles or groups changed."""
        self.quotes: frozenset[str] = _quoted(change)
        """The comments whose text the events may show."""
        self.withdrawn: frozenset[str] = _withdrawn(change)
        """The comments whose text is gone with this change, deleted by us or for good by someone: not told again."""
        # An id costs more in a set than its letters.
        self.size = sum(len(part) for _, part in self.parts) + 150 * len(self.quotes)

    @property
    def is_empty(self) -> bool:
        """Whether nobody needs to be told."""
        return not self.parts and self.project is None and self.user_id is None


def without_text(part: bytes, withdrawn: AbstractSet[str]) -> bytes:
    """An older event without the text of comments that have been deleted since: what was deleted is not told again."""
    event: dict[str, Any] = msgspec.json.decode(part)
    document: dict[str, Any] = event.get("doc", {})
    if event["kind"] == "comment":
        for name in _PRIVATE_TO_THE_LIVING:
            document.pop(name, None)
        return msgspec.json.encode(event)
    told = document.get("events", [])
    gone = [one.get("comment_id") in withdrawn for one in told]
    for one, is_gone in zip(told, gone, strict=True):
        if is_gone:
            one.pop("text", None)
    # The body of an entry is that of its newest event.
    if gone and gone[0]:
        document["body"] = ""
    return msgspec.json.encode(event)


def _quoted(change: Change) -> frozenset[str]:
    if change.collection == "comments":
        return frozenset((change.id,))
    return _quoted_by(change.after)


def _withdrawn(change: Change) -> frozenset[str]:
    if change.collection == "comments":
        alive = isinstance(change.after, Comment) and isinstance(change.after.deleted_at, msgspec.UnsetType)
        return frozenset() if alive else frozenset((change.id,))
    return _quoted_by(change.before) - _quoted_by(change.after)


def _quoted_by(entry: Thing | None) -> frozenset[str]:
    """The comments that an entry of an inbox quotes."""
    if not isinstance(entry, Notification):
        return frozenset()
    return frozenset(
        event.comment_id
        for event in entry.events
        if not isinstance(event.comment_id, msgspec.UnsetType) and not isinstance(event.text, msgspec.UnsetType)
    )


def _role(identity: Identity, access: ProjectAccess | None) -> str | None:
    return None if access is None else project_role(identity, access)


def _roles_changed(change: Change) -> bool:
    if change.operation == "insert":  # of someone seen for the first time: there was nothing to see before
        return False
    before, after = change.raw_before or {}, change.raw_after or {}
    return any(before.get(name) != after.get(name) for name in ("roles", "groups"))
