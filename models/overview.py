"""The overview of a project: what its page shows at first."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.comment import Comment
from models.fields import Id, ProjectRole
from models.item import Item
from models.project import Project

ITEMS_SHOWN = 200
THREADS_SHOWN = 50

Count = Annotated[int, Meta(ge=0)]


class Thread(msgspec.Struct, kw_only=True):
    """A thread, whole: its first comment, then the replies by time. Tombstones keep their places."""

    id: Id
    item_id: Id | UnsetType = UNSET
    comments: list[Comment]


class CommentCounter(msgspec.Struct, kw_only=True):
    """`count`: comments that are not deleted. `open_threads`: unresolved ones with at least one such comment."""

    count: Count = 0
    open_threads: Count = 0


class Counters(msgspec.Struct, kw_only=True):
    """Items by status, and comments by item and on the project itself. Items without comments are absent."""

    items: dict[str, Count]
    comments: dict[str, CommentCounter]
    project_comments: CommentCounter

    def by_item(self) -> dict[str | None, CommentCounter]:
        """The counters of comments in one: None is the project itself."""
        counters: dict[str | None, CommentCounter] = {None: self.project_comments}
        return counters | self.comments


class Me(msgspec.Struct, kw_only=True):
    """What is the caller's: their role, what it allows, and how many notifications about this project are unread."""

    role: ProjectRole
    can: list[str]
    unread: Count


class Contents(msgspec.Struct, kw_only=True):
    """What is the same for everybody. `next_cursor` continues the items in `/projects/{project_id}/items`."""

    project: Project
    items: list[Item]
    next_cursor: str | UnsetType = UNSET
    threads: list[Thread]
    counters: Counters


class Overview(Contents, kw_only=True):
    """`position` is from before the read."""

    position: str
    me: Me
