"""Comments: threads on a project or on one of its items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.fields import GroupName, Id, ShortText, Timestamp, Unfit, UserId, Version, from_document, stamp

Body = Annotated[str, Meta(min_length=1, max_length=10_000, pattern=r"\S", description="Plain text.")]
MENTION_CAP = 50
"""Mentions of one comment; more are refused (ours) or ignored (another program's)."""

# A name runs as far as its characters go, but a full stop or a dash at its end is the sentence's, not the name's.
_MENTION = re.compile(r"(?<!\w)@(role:)?([A-Za-z0-9._-]{0,63}[A-Za-z0-9_])(?![A-Za-z0-9_])")


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The place in the content that a thread is about."""

    property: ShortText
    quote: Annotated[str, Meta(max_length=1000)] | UnsetType = UNSET


class StoredAnchor(msgspec.Struct, frozen=True, kw_only=True):
    """`Anchor` as it is shown: fields that another program added are dropped."""

    property: ShortText
    quote: Annotated[str, Meta(max_length=1000)] | UnsetType = UNSET


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Who closed the thread, and when."""

    by: UserId
    at: Timestamp


class Comment(msgspec.Struct, kw_only=True):
    """A comment as everyone sees it. A deleted one is a tombstone: it keeps its place and loses its text."""

    id: Id
    project_id: Id
    item_id: Id | UnsetType = UNSET
    thread_id: Id
    parent_id: Id | UnsetType = UNSET
    activity_id: Id | UnsetType = UNSET
    anchor: StoredAnchor | UnsetType = UNSET
    body: Body | UnsetType = UNSET
    mentions: list[UserId] = []
    mention_groups: list[GroupName] = []
    author: UserId
    created_at: Timestamp
    edited_at: Timestamp | UnsetType = UNSET
    deleted_at: Timestamp | UnsetType = UNSET
    deleted_by: UserId | UnsetType = UNSET
    resolved: Resolution | UnsetType = UNSET
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Comment:
        """Raises `models.fields.Unfit`. A document with `deleted_at` becomes a tombstone."""
        values = dict(document)
        if values.get("thread_id") is None:
            values["thread_id"] = values.get("_id")
        if values.get("deleted_at") is not None:
            for private in ("body", "mentions", "mention_groups", "anchor"):
                values.pop(private, None)
            if not _fits(values.get("deleted_by"), UserId):
                # What another program keeps under this name is no reason to hide its comment.
                values.pop("deleted_by", None)
        else:
            values.pop("deleted_by", None)
            body = values.get("body")
            if not isinstance(body, str):
                raise Unfit(f"Expected `str`, got `{type(body).__name__}` - at `$.body`")
            if values.get("mentions") is None:
                values["mentions"], groups = mentioned(body)
                if values.get("mention_groups") is None:
                    values["mention_groups"] = groups
            if values["mentions"] or values.get("mention_groups"):
                _cut_mentions(values)
        resolved = values.get("resolved")
        if isinstance(resolved, Mapping):
            values["resolved"] = {**resolved, "at": stamp(resolved.get("at"))}
        return from_document(values, cls, times=_TIMES, defaults=_DEFAULTS)


_TIMES = ("created_at", "edited_at", "deleted_at")
_DEFAULTS = {"version": 1}


_MENTIONS: dict[str, Any] = {"mentions": list[UserId], "mention_groups": list[GroupName]}


def _fits(value: Any, shape: Any) -> bool:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return False
    return True


def _cut_mentions(values: dict[str, Any]) -> None:
    """Of what another program says is mentioned, no more than a text could mention: each may be somebody to be told."""
    left = MENTION_CAP
    for name, shape in _MENTIONS.items():
        named = values.get(name)
        # BSON's code fits as well, being a kind of `str`, and is refused with the rest of the comment.
        if isinstance(named, list) and all(type(one) is str for one in named) and _fits(named, shape):
            values[name] = list(dict.fromkeys(named))[:left]
            left -= len(values[name])


def mentioned(body: str, *, limit: int = MENTION_CAP) -> tuple[list[str], list[str]]:
    """The users and the groups that a text names, each once, in the order of the text, at most `limit` in all."""
    if "@" not in body:
        return [], []
    users: dict[str, None] = {}
    groups: dict[str, None] = {}
    for match in _MENTION.finditer(body):
        if len(users) + len(groups) >= limit:
            break
        (groups if match[1] else users)[match[2]] = None
    return list(users), list(groups)


class NewComment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new thread (on an item, or on the project), or with `thread_id` or `parent_id` a reply."""

    body: Body
    item_id: Id | UnsetType = UNSET
    thread_id: Id | UnsetType = UNSET
    parent_id: Id | UnsetType = UNSET
    activity_id: Id | UnsetType = UNSET
    anchor: Anchor | UnsetType = UNSET


class CommentPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`body` by the author; `resolved` on a thread's first comment by anyone who may comment."""

    body: Body | UnsetType = UNSET
    resolved: bool | UnsetType | None = UNSET
    """null reopens as well: a merge patch takes an optional field away with it."""
