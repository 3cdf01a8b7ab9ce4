"""One change as it is remembered and sent: its events encoded once, and who may have them."""

from __future__ import annotations

from typing import Any

import msgspec

from app.changes import Change, access_of, event_of, events_of
from app.permissions import Identity, project_role
from app.position import Position
from models.comment import Comment
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

    __slots__ = ("comment_id", "parts", "position", "project", "size", "tombstone", "user_id")

    def __init__(self, change: Change) -> None:
        self.position: Position = change.position
        self.parts: tuple[tuple[str, bytes], ...] = tuple(
            (topic, msgspec.json.encode(event)) for topic, event in events_of(change)
        )
        """Events for `project:` topics."""
        self.project = ProjectChange(change) if change.collection == "projects" and change.id else None
        self.user_id = change.id if change.collection == "users" and _roles_changed(change) else None
        """The user whose instance roles or groups changed."""
        self.comment_id = change.id if change.collection == "comments" else None
        alive = isinstance(change.after, Comment) and isinstance(change.after.deleted_at, msgspec.UnsetType)
        self.tombstone = self.comment_id is not None and not alive
        """Whether the comment was deleted, by us or for good by someone: what it said is not told again."""
        self.size = sum(len(part) for _, part in self.parts)

    @property
    def is_empty(self) -> bool:
        """Whether nobody needs to be told."""
        return not self.parts and self.project is None and self.user_id is None


def without_text(part: bytes) -> bytes:
    """An older event of a comment that has been deleted since: what was deleted is not told again."""
    event: dict[str, Any] = msgspec.json.decode(part)
    for name in _PRIVATE_TO_THE_LIVING:
        event.get("doc", {}).pop(name, None)
    return msgspec.json.encode(event)


def _role(identity: Identity, access: ProjectAccess | None) -> str | None:
    return None if access is None else project_role(identity, access)


def _roles_changed(change: Change) -> bool:
    if change.operation == "insert":  # of someone seen for the first time: there was nothing to see before
        return False
    before, after = change.raw_before or {}, change.raw_after or {}
    return any(before.get(name) != after.get(name) for name in ("roles", "groups"))
