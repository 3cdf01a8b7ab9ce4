"""The overview: one moment of a project, and counters that equal a recount of its lists."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from models import schema
from models.comment import Comment
from models.errors import Invalid, NotFound
from models.fields import Unfit
from models.item import STATUSES, Item
from models.item_store import ItemFilter, ItemStore
from models.overview import CommentCounter, Contents
from models.overview_store import OverviewStore
from models.page import PageRequest, scope
from tests.models.overviews import ITEMS, NOON, begin, comment, item, read_moment


@pytest.fixture
def reported() -> list[object]:
    return []


@pytest.fixture
def overviews(io_loop: IOLoop, database: Any, reported: list[object]) -> OverviewStore:
    io_loop.run_sync(lambda: begin(database))
    return OverviewStore(database, report=lambda _collection, key, _problem: reported.append(key))


async def read(overviews: OverviewStore, project_id: str = "P", *, limit: int = 200) -> Contents:
    return (await read_moment(overviews, project_id, limit=limit)).contents


async def test_an_empty_project_has_an_overview_of_zeros(overviews: OverviewStore) -> None:
    assert msgspec.to_builtins(await read(overviews)) == {
        "project": {"id": "P", "name": "Spring", "labels": [], "visibility": "public", "members": [], "version": 1},
        "items": [],
        "threads": [],
        "counters": {
            "items": dict.fromkeys(STATUSES, 0),
            "comments": {},
            "project_comments": {"count": 0, "open_threads": 0},
        },
    }


async def test_a_missing_a_deleted_and_an_unfit_project_have_none(overviews: OverviewStore, database: Any) -> None:
    await database.projects.insert_many([{"_id": "D", "name": "x", "deleted_at": NOON}, {"_id": "U", "name": 7}])
    for project_id in ("missing", "D", "U"):
        with pytest.raises(NotFound):
            await read(overviews, project_id)


async def test_items_come_by_rank_and_the_cursor_goes_on_in_the_list(overviews: OverviewStore, database: Any) -> None:
    await database.items.insert_many([item(f"i{n}", rank=-n) for n in range(5)])
    overview = await read(overviews, limit=3)
    assert [one.id for one in overview.items] == ["i4", "i3", "i2"]
    assert isinstance(overview.next_cursor, str)
    store = ItemStore(database, report=lambda *_what: None)
    rest = PageRequest(sort="rank", scope=scope(ITEMS, "rank"), position="", cursor=overview.next_cursor)
    assert [one.id for one in (await store.page("P", ItemFilter(), rest)).items] == ["i1", "i0"]
    other = PageRequest(sort="name", scope=scope(ITEMS, "name"), position="", cursor=overview.next_cursor)
    with pytest.raises(Invalid):
        await store.page("P", ItemFilter(), other)


async def test_threads_are_whole_first_comment_first_and_newest_thread_first(
    overviews: OverviewStore, database: Any
) -> None:
    await database.comments.insert_many(
        [
            comment("a", 1, thread_id="a", item_id="i"),
            comment("a2", 9, thread_id="a", item_id="i"),
            comment("a1", 8, thread_id="a", item_id="i", deleted_at=NOON),
            comment("b", 2),
            comment("b1", 0, thread_id="b"),
            comment("elsewhere", 3, project_id="Q"),
        ]
    )
    overview = await read(overviews)
    assert [(thread.id, thread.item_id, [one.id for one in thread.comments]) for thread in overview.threads] == [
        ("b", msgspec.UNSET, ["b", "b1"]),
        ("a", "i", ["a", "a1", "a2"]),
    ]
    assert overview.threads[1].comments[1].body is msgspec.UNSET


async def test_only_the_newest_fifty_threads_are_shown_and_all_are_counted(
    overviews: OverviewStore, database: Any
) -> None:
    await database.comments.insert_many([comment(f"c{n:02}", n, item_id="i") for n in range(60)])
    overview = await read(overviews)
    assert [thread.id for thread in overview.threads] == [f"c{n:02}" for n in range(59, 9, -1)]
    assert overview.counters.comments == {"i": CommentCounter(count=60, open_threads=60)}


async def test_a_thread_is_open_while_it_is_unresolved_and_somebody_still_says_something(
    overviews: OverviewStore, database: Any
) -> None:
    resolved = {"by": "bob", "at": NOON}
    await database.comments.insert_many(
        [
            comment("open"),
            comment("done", resolved=resolved),
            comment("done1", 1, thread_id="done"),
            comment("gone", deleted_at=NOON),
            comment("gone1", 1, thread_id="gone", deleted_at=NOON),
            comment("half", deleted_at=NOON),
            comment("half1", 1, thread_id="half"),
            comment("odd"),
            comment("odd1", 1, thread_id="odd", resolved=resolved),
            comment("orphan1", 5, thread_id="removed for good", item_id="i"),
        ]
    )
    await database.comments.update_one({"_id": "orphan1"}, {"$set": {"thread_id": "removed"}})
    counters = (await read(overviews)).counters
    assert counters.project_comments == CommentCounter(count=6, open_threads=3)
    assert counters.comments == {"i": CommentCounter(count=1, open_threads=1)}


async def test_only_the_callers_unread_notifications_about_this_project_count(
    overviews: OverviewStore, database: Any
) -> None:
    mine = {"user_id": "alice", "subject": {"kind": "project", "project_id": "P"}}
    await database.notifications.insert_many(
        [
            {**mine},
            {**mine, "read_at": None},
            {**mine, "read_at": NOON},
            {**mine, "archived_at": NOON},
            {**mine, "user_id": "bob"},
            {**mine, "subject": {"kind": "project", "project_id": "Q"}},
        ]
    )
    assert (await read_moment(overviews)).unread == 2
    assert (await overviews.unread("P", "alice"))[0] == 2


def recount(overview: Contents, items: list[Item], comments: list[Comment]) -> None:
    """The counters, from the lists alone."""
    by_status = Counter(one.status for one in items)
    assert overview.counters.items == {status: by_status[status] for status in STATUSES}
    counts: dict[str | None, CommentCounter] = {}
    threads: dict[str, list[Comment]] = {}
    for one in comments:
        threads.setdefault(one.thread_id, []).append(one)
        if one.deleted_at is msgspec.UNSET:
            counts.setdefault(one.item_id or None, CommentCounter()).count += 1
    for thread in threads.values():
        first = min(thread, key=lambda one: (one.id != one.thread_id, one.created_at, one.id))
        if first.resolved is msgspec.UNSET and any(one.deleted_at is msgspec.UNSET for one in thread):
            counts.setdefault(first.item_id or None, CommentCounter()).open_threads += 1
    assert overview.counters.project_comments == counts.pop(None, CommentCounter())
    assert overview.counters.comments == counts


def fitting(shape: Any, documents: list[dict[str, Any]]) -> list[Any]:
    found = []
    for document in documents:
        try:
            found.append(shape.from_document(document))
        except Unfit:
            continue
    return found


@pytest.mark.parametrize("seed", range(5))
async def test_counters_equal_a_recount_of_the_lists_whatever_other_programs_wrote(
    overviews: OverviewStore, database: Any, seed: int
) -> None:
    dice = random.Random(seed)
    items = [
        item(
            f"i{n}",
            status=dice.choice([*STATUSES, "gone", None]),
            name=dice.choice(["x", "y", "", 7]),
            deleted_at=dice.choice([None, None, None, NOON]),
            rank=dice.choice([0, 1.5, None, "first"]),
            project_id=dice.choice(["P", "P", "P", "Q"]),
        )
        for n in range(80)
    ]
    comments = [
        comment(
            f"c{n}",
            dice.randrange(100),
            thread_id=dice.choice([None, f"c{n}", f"c{dice.randrange(20)}", f"c{dice.randrange(20)}", "", 7]),
            item_id=dice.choice([None, "i1", "i2", "i3", {"$ne": 1}]),
            deleted_at=dice.choice([None, None, NOON, "now"]),
            resolved=dice.choice([None, None, {"by": "bob", "at": NOON}, {"by": "bob"}]),
            body=dice.choice(["Hello", "Hello", "", None]),
            project_id=dice.choice(["P", "P", "P", "Q"]),
        )
        for n in range(200)
    ]
    await database.items.insert_many(items)
    await database.comments.insert_many(comments)
    overview = await read(overviews)
    mine = fitting(Comment, await database.comments.find({"project_id": "P"}).to_list(None))
    recount(
        overview, fitting(Item, await database.items.find({"project_id": "P", "deleted_at": None}).to_list(None)), mine
    )
    shown = [one.id for thread in overview.threads for one in thread.comments]
    assert len(set(shown)) == len(shown)
    whole = {thread.id for thread in overview.threads}
    assert sorted(shown) == sorted(one.id for one in mine if one.thread_id in whole)
    assert len(overview.items) == sum(overview.counters.items.values())


async def test_what_does_not_fit_is_reported_by_the_lists_of_the_overview(
    overviews: OverviewStore, database: Any, reported: list[object]
) -> None:
    await database.items.insert_one(item("bad item", name=7))
    await database.comments.insert_many([comment("a"), comment("a1", thread_id="a", body=7)])
    overview = await read(overviews)
    assert (overview.items, [one.id for one in overview.threads[0].comments]) == ([], ["a"])
    assert set(reported) == {"bad item", "a1"}


async def test_the_overview_can_be_read_right_after_a_collection_was_made_anew(
    overviews: OverviewStore, database: Any
) -> None:
    for _ in range(3):
        await database.items.drop()
        await schema.apply(database)
        assert (await read(overviews)).project.name == "Spring"


async def test_equal_overviews_are_equal_bytes(overviews: OverviewStore, database: Any) -> None:
    """In which order MongoDB answers with groups is chance; an entity tag made of it would change by itself."""
    items = [f"i{number:02}" for number in range(40)]
    await database.items.insert_many([item(item_id) for item_id in items])
    await database.comments.insert_many([comment(f"c{item_id}", item_id=item_id) for item_id in reversed(items)])
    overview = await read(overviews)
    assert list(overview.counters.comments) == items
