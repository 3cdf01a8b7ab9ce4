"""How an overview that was read before is brought up to date: by what is different in what was touched since.

An overview is the sum of what its threads and its items add to it, but for the lists, which show the first of them. So
what the touched ones added then is taken away, what they add now is put in, and the rest stays as the bytes it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from msgspec import UNSET, Raw, UnsetType

from models.database_types import Document
from models.fields import may_be_id
from models.overview import THREADS_SHOWN, CommentCounter, Counters, Thread

Time = tuple[int, int]
"""A clusterTime: seconds and increment."""


class Touched(msgspec.Struct):
    """What of a project may not be as it was."""

    project: bool = False
    items: set[str] = msgspec.field(default_factory=set)
    threads: set[str] = msgspec.field(default_factory=set)

    def __len__(self) -> int:
        return self.project + len(self.items) + len(self.threads)

    def __or__(self, other: Touched) -> Touched:
        return Touched(self.project or other.project, self.items | other.items, self.threads | other.threads)


class Earlier(msgspec.Struct, frozen=True):
    """An overview as it was."""

    body: bytes
    """`Contents` as JSON."""
    time: Time
    touched: Callable[[Time], Awaitable[Touched | None]]
    """Everything that may have been touched from `time` to the given one; None where that is not known."""


class Renewed(msgspec.Struct, kw_only=True):
    """`Contents`, of which most was encoded before. The fields and their order are the same."""

    project: Raw
    items: Raw
    next_cursor: str | UnsetType = UNSET
    threads: list[Raw]
    counters: Counters


class _First(msgspec.Struct):
    created_at: str


class _Place(msgspec.Struct):
    """What says where a thread stands in the list."""

    id: str
    comments: list[_First]

    @property
    def key(self) -> tuple[str, str]:
        return self.comments[0].created_at, self.id


def thread_of(comment: Mapping[str, object]) -> str | None:
    """The thread of a comment as it is stored; None where it is in none, as what callers do not see may be."""
    thread_id = comment.get("thread_id")
    if thread_id is None:
        thread_id = comment.get("_id")
    return thread_id if may_be_id(thread_id) else None


def add_statuses(statuses: Mapping[str, int], before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """The items by status, of which the touched ones were `before` and are `now`."""
    return {status: count - before[status] + now[status] for status, count in statuses.items()}


def comment_counters(facets: Document) -> dict[str | None, CommentCounter]:
    """By item, None for the project itself."""
    counters = {group["_id"]: CommentCounter(count=group["count"]) for group in facets["counts"]}
    for group in facets["open"]:
        counters.setdefault(group["_id"], CommentCounter()).open_threads = group["count"]
    return counters


def add_comments(
    counters: Mapping[str | None, CommentCounter], before: Document, now: Document
) -> dict[str | None, CommentCounter]:
    """The comments by item, to which the touched threads added the facets `before` and add `now`."""
    sums = {item_id: msgspec.structs.replace(counter) for item_id, counter in counters.items()}
    for facets, sign in ((before, -1), (now, 1)):
        for item_id, counter in comment_counters(facets).items():
            total = sums.setdefault(item_id, CommentCounter())
            total.count += sign * counter.count
            total.open_threads += sign * counter.open_threads
    return {item_id: total for item_id, total in sums.items() if total.count or total.open_threads}


def merge_threads(shown: list[Raw], touched: set[str], now: list[Thread]) -> list[Raw] | None:
    """The newest threads, of which those `touched` are as they are `now`.

    None where threads come into sight that were not shown before.
    """
    places = [(msgspec.json.decode(thread, type=_Place), thread) for thread in shown]
    merged = [(place.key, thread) for place, thread in places if place.id not in touched]
    merged += [((thread.comments[0].created_at, thread.id), Raw(msgspec.json.encode(thread))) for thread in now]
    newest = sorted(merged, key=lambda entry: entry[0], reverse=True)[:THREADS_SHOWN]
    if len(shown) == THREADS_SHOWN:
        # What was not shown is older than all that was.
        oldest = min(place.key for place, _ in places)
        if len(newest) < THREADS_SHOWN or newest[-1][0] < oldest:
            return None
    return [thread for _, thread in newest]
