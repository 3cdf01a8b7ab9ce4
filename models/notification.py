"""Notifications: one entry per recipient and subject that evolves, and the counts over a recipient's entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.fields import Id, Timestamp, Unfit, Url, UserId, Version, derived_id, from_document, stamp

NotificationType = Literal["mention", "reply", "comment", "assigned", "item_status", "publish_result", "custom"]
"""What happened, strongest first: of several that fit one recipient, the first is told."""

Reason = Literal[
    "mentioned",
    "group_mentioned",
    "participant",
    "follows_thread",
    "follows_item",
    "follows_project",
    "assignee",
    "creator",
    "addressed",
]
"""Why this recipient is told: what the bell shows as "why did I get this"."""

MAX_EVENTS = 50
"""The newest events that an entry keeps; `event_count` counts them all."""
MAX_ACTORS = 10
MOST = 2**53
"""Of anything counted: what every browser can hold. Somebody else wrote more, and one more could not be kept."""
TEXT_LENGTH = 300
"""Code points of a comment that an entry quotes."""

Place = tuple[int, int, int]
"""A position of the change stream (`app.position.Position` as a plain tuple): seconds, increment, ordinal."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry is about."""

    kind: Literal["project", "item", "thread", "custom"]
    project_id: Id | UnsetType = UNSET
    item_id: Id | UnsetType = UNSET
    thread_id: Id | UnsetType = UNSET
    posting_id: Id | UnsetType = UNSET
    """Of a custom notification: the POST that it came with."""

    @property
    def key(self) -> str:
        """What makes the subject this one; the same for all recipients. A thread keeps it when its item moves."""
        own = {"project": self.project_id, "item": self.item_id, "thread": self.thread_id, "custom": self.posting_id}
        return f"{self.kind}:{own[self.kind]}"


class NotificationEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to the subject."""

    id: Id
    """Follows from the change, so that telling it twice is seen."""
    type: NotificationType
    reason: Reason
    at: Timestamp
    actor: UserId | UnsetType = UNSET
    comment_id: Id | UnsetType = UNSET
    text: Annotated[str, Meta(max_length=2000)] | UnsetType = UNSET
    """What the comment says, shortened, or a sentence; plain text. Gone once the comment was deleted."""


class Notification(msgspec.Struct, kw_only=True):
    """One entry of a recipient's inbox as the recipient sees it."""

    id: Id
    type: NotificationType
    """Of the newest event, as `reason`, `title` and `body`."""
    reason: Reason
    subject: Subject
    title: Annotated[str, Meta(max_length=255)]
    body: Annotated[str, Meta(max_length=2000)] = ""
    link: Url | UnsetType = UNSET
    category: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET
    actors: list[UserId] = []
    """Newest first, each once, at most `MAX_ACTORS`."""
    events: list[NotificationEvent] = []
    """Newest first, at most `MAX_EVENTS`."""
    event_count: Annotated[int, Meta(ge=0, le=MOST)] = 0
    seq: Annotated[int, Meta(ge=0, le=MOST)]
    """Raised with every change of any entry of this recipient."""
    created_at: Timestamp
    updated_at: Timestamp
    """When the newest event happened."""
    seen_at: Timestamp | UnsetType = UNSET
    read_at: Timestamp | UnsetType = UNSET
    archived_at: Timestamp | UnsetType = UNSET
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Notification:
        """Raises `models.fields.Unfit`."""
        values = dict(document)
        events = values.get("events")
        if isinstance(events, list):
            values["events"] = [_event(event) for event in events]
        return from_document(values, cls, times=_TIMES, defaults={})


_TIMES = ("created_at", "updated_at", "seen_at", "read_at", "archived_at")


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much waits in an inbox. Archived entries count in neither."""

    unseen: Annotated[int, Meta(ge=0, le=MOST)] = 0
    unread: Annotated[int, Meta(ge=0, le=MOST)] = 0
    seq: Annotated[int, Meta(ge=0, lt=MOST)] = 0
    """The highest of any entry; `until` of a mark-all."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Counts:
        """Raises `models.fields.Unfit`."""
        try:
            return msgspec.convert(dict(document), cls)
        except msgspec.ValidationError as problem:
            raise Unfit(str(problem)) from None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one recipient, as `app.notifier` decides it and the inbox takes it."""

    user_id: UserId
    subject: Subject
    event: NotificationEvent
    title: str
    body: str
    link: str | UnsetType = UNSET
    category: str | UnsetType = UNSET
    place: Place
    """Of the change it follows from. An entry that has got so far has had this event."""


def entry_id(user_id: str, subject: Subject) -> str:
    """The id of a recipient's entry about a subject: the same whoever derives it, however often."""
    return derived_id(user_id, subject.key)


def _event(event: object) -> object:
    if not isinstance(event, Mapping):
        return event
    values = {key: value for key, value in event.items() if value is not None}
    return {**values, "at": stamp(values.get("at"))}
