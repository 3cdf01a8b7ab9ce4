"""What callers say about notifications: which they want listed, and which state they want them in."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.bulk import refuse_repeats
from models.fields import Id, ShortText
from models.notification import NotificationType

State = Literal["unseen", "unread", "read", "archived"]
MAX_IDS = 200

Watermark = Annotated[int, Meta(ge=0, le=2**53, description="A `seq` of the counts.")]


class NotificationFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries of an inbox are meant; what is absent: whatever it is."""

    state: State | UnsetType = UNSET
    """`unseen`, `unread` and `read` leave archived entries out. A list without a state has all but the archived."""
    type: NotificationType | UnsetType = UNSET
    """Of the newest event."""
    project_id: Id | UnsetType = UNSET
    item_id: Id | UnsetType = UNSET
    thread_id: Id | UnsetType = UNSET
    category: ShortText | UnsetType = UNSET


class States(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The states that an entry is wanted in; what is absent stays."""

    seen: bool | UnsetType = UNSET
    """False makes it unread as well."""
    read: bool | UnsetType = UNSET
    """True makes it seen as well."""
    archived: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.seen is False and self.read is True:
            raise ValueError("What is read is seen: expected not both `seen: false` and `read: true`")


class NotificationPatch(States):
    """A merge patch of one entry."""


class Mark(States):
    """The states for many entries: those that match all of `until`, `ids` and `filter` that are given.

    Without `ids` and a `state`, those that a list without a state shows; `archived: false` means the archived ones.
    """

    until: Watermark | UnsetType = UNSET
    """Entries in which something newer happened stay as they are."""
    ids: Annotated[list[Id], Meta(max_length=MAX_IDS)] | UnsetType = UNSET
    """Each at most once. Those that are not in the caller's inbox are passed over."""
    filter: NotificationFilter | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seen is self.read is self.archived is UNSET:
            raise ValueError("Expected at least one of `seen`, `read` and `archived`")
        if self.until is self.ids is self.filter is UNSET:
            raise ValueError("Expected at least one of `until`, `ids` and `filter`")
        if self.ids is not UNSET:
            refuse_repeats(self.ids, path="$.ids", what="id")
