"""Items: versions of contents of the CMS that stand in a project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.fields import Id, Name, ShortText, Timestamp, Url, UserId, Version, WhenInput, from_document

Status = Literal[
    "not_created", "draft", "in_review", "rejected", "ready", "scheduled", "published", "previously_published"
]
STATUSES: tuple[Status, ...] = get_args(Status)
PUBLISHER_STATUSES: frozenset[Status] = frozenset({"scheduled", "published", "previously_published"})
"""Statuses that only a publisher may set."""

Language = Annotated[str, Meta(max_length=35, pattern=r"^[A-Za-z0-9-]*(?!\n)$", description="BCP 47; empty means any.")]
Path = Annotated[str, Meta(min_length=1, max_length=2000)]
Rank = (
    Annotated[int, Meta(ge=-(2**53), le=2**53, description="Place in the project's own order; ties go by id.")]
    | Annotated[float, Meta(ge=-(2.0**53), le=2.0**53)]
)


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which version of which content this is, in the CMS's own words."""

    id: ShortText
    version: ShortText
    provider: ShortText | UnsetType = UNSET


class StoredContent(msgspec.Struct, frozen=True, kw_only=True):
    """`Content` as it is shown: another program may have added fields, which are dropped."""

    id: ShortText
    version: ShortText
    provider: ShortText | UnsetType = UNSET


class Item(msgspec.Struct, kw_only=True):
    """An item as everyone sees it. Counts of comments are not part of it."""

    id: Id
    project_id: Id
    content: StoredContent
    name: Name
    type: ShortText
    language: Language = ""
    status: Status
    publish_at: Timestamp | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    thumbnail_url: Url | UnsetType = UNSET
    path: Path | UnsetType = UNSET
    assignee: UserId | UnsetType = UNSET
    rank: Rank = 0
    created_at: Timestamp | UnsetType = UNSET
    created_by: UserId | UnsetType = UNSET
    changed_at: Timestamp | UnsetType = UNSET
    changed_by: UserId | UnsetType = UNSET
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Item:
        """Raises `models.fields.Unfit`. Whether it is deleted is the caller's question (`deleted_at`)."""
        return from_document(document, cls, times=_TIMES, defaults=_DEFAULTS)


_TIMES = ("publish_at", "created_at", "changed_at")
_DEFAULTS = {"version": 1}


class NewItem(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a caller may set when adding an item."""

    content: Content
    name: Name
    type: ShortText = "page"
    language: Language = ""
    status: Status = "draft"
    publish_at: WhenInput | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    thumbnail_url: Url | UnsetType = UNSET
    path: Path | UnsetType = UNSET
    assignee: UserId | UnsetType = UNSET
    rank: Rank = 0


class ItemPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A merge patch. What content an item is of, and which project it is in, never changes."""

    name: Name | UnsetType = UNSET
    type: ShortText | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    publish_at: WhenInput | UnsetType | None = UNSET
    url: Url | UnsetType | None = UNSET
    thumbnail_url: Url | UnsetType | None = UNSET
    path: Path | UnsetType | None = UNSET
    assignee: UserId | UnsetType | None = UNSET
    rank: Rank | UnsetType | None = UNSET
