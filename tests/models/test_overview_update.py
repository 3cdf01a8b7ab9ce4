"""An overview brought up to date equals one that is read anew, whatever other programs did meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pymongo.errors import AutoReconnect
from tornado.ioloop import IOLoop

from models import overview_store, schema
from models.overview import THREADS_SHOWN, Contents
from models.overview_store import Moment, OverviewStore
from models.overview_update import Earlier, Renewed, Touched, merge_threads, thread_of
from tests.models.overviews import NOON, begin, comment, item, read_moment

STEPS = 60


@pytest.fixture
def overviews(io_loop: IOLoop, database: Any) -> OverviewStore:
    io_loop.run_sync(lambda: begin(database))
    return OverviewStore(database, report=lambda *_what: None)


async def read(overviews: OverviewStore, earlier: Earlier | None = None) -> Moment:
    return await read_moment(overviews, limit=10, earlier=earlier)


def encoded(moment: Moment) -> bytes:
    return msgspec.json.encode(moment.contents)


def as_earlier(moment: Moment, touched: Touched | None) -> Earlier:
    async def found(_until: tuple[int, int]) -> Touched | None:
        return touched

    return Earlier(body=encoded(moment), time=moment.time, touched=found)


class Walk:
    """Another program that does anything to a few items and comments, and notes what it touched."""

    def __init__(self, database: Any, seed: int) -> None:
        self.database, self.dice = database, random.Random(seed)
        self.touched = Touched()
        self.made = 0

    async def step(self) -> None:
        """A few writes, or one of many documents."""
        for _ in range(self.dice.choice([0, 1, 1, 2, 8])):
            await self.dice.choice([self.an_item, self.a_comment, self.a_comment, self.a_comment])()

    async def an_item(self) -> None:
        dice = self.dice
        item_id = f"i{dice.randrange(30)}"
        fields = {
            "status": dice.choice(["draft", "review", "done", "gone"]),
            "name": dice.choice(["x", "y", 7]),
            "rank": dice.choice([0, 1.5, 2, None, "first"]),
            "deleted_at": dice.choice([None, None, NOON]),
            "project_id": dice.choice(["P", "P", "Q"]),
        }
        self.touched.items.add(item_id)
        if dice.random() < 0.2:
            await self.database.items.delete_one({"_id": item_id})
        else:
            await self.database.items.replace_one({"_id": item_id}, item(item_id, **fields), upsert=True)

    async def a_comment(self) -> None:
        dice = self.dice
        if dice.random() < 0.3:
            self.made += 1
        comment_id = f"c{dice.randrange(self.made + 1)}"
        fields = {
            "minute": dice.randrange(1000),
            "thread_id": dice.choice([None, comment_id, f"c{dice.randrange(20)}", "", 7]),
            "item_id": dice.choice([None, "i1", "i2", "i3", {"$ne": 1}]),
            "deleted_at": dice.choice([None, None, NOON, "now"]),
            "resolved": dice.choice([None, None, {"by": "bob", "at": NOON}]),
            "body": dice.choice(["Hello", "Hello", "", None]),
            "project_id": dice.choice(["P", "P", "P", "Q"]),
        }
        comments = self.database.comments
        after = None if dice.random() < 0.2 else comment(comment_id, **fields)
        if after is None:
            before = await comments.find_one_and_delete({"_id": comment_id})
        else:
            before = await comments.find_one_and_replace({"_id": comment_id}, after, upsert=True)
        self.touched.threads |= {thread for raw in (before, after) if raw and (thread := thread_of(raw)) is not None}


async def walk(overviews: OverviewStore, database: Any, *, seed: int, steps: int = STEPS) -> tuple[list[int], int]:
    """The steps after which it was not the same, and how often it was not read anew."""
    wrong, renewed = [], 0
    other = Walk(database, seed)
    # More threads than are shown, so that some come into sight and others go out of it.
    many = [comment(f"c{number}", number, item_id="i1") for number in range(seed % 2 * (THREADS_SHOWN + 5))]
    other.made = len(many)
    if many:
        await database.comments.insert_many(many)
    then = await read(overviews)
    for step in range(steps):
        await other.step()
        now = await read(overviews, as_earlier(then, other.touched))
        renewed += isinstance(now.contents, Renewed)
        if encoded(now) != encoded(await read(overviews)):
            wrong.append(step)
        then, other.touched = now, Touched()
    return wrong, renewed


@pytest.mark.parametrize("seed", range(6))
async def test_it_is_the_same_as_one_that_is_read_anew(overviews: OverviewStore, database: Any, seed: int) -> None:
    wrong, renewed = await walk(overviews, database, seed=seed)
    assert wrong == []
    assert renewed > STEPS / 2


def unsought(shown: list[msgspec.Raw], touched: set[str], now: list[Any]) -> list[msgspec.Raw]:
    """As if no thread could come into sight."""
    merged = merge_threads(shown[:-1], touched, now)
    assert merged is not None
    return merged


FAULTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "nothing is taken away": ("add_comments", lambda counters, _before, _now: counters),
    "statuses stay": ("add_statuses", lambda statuses, _before, _now: statuses),
    "threads come unseen": ("merge_threads", unsought),
    "threads stay": ("merge_threads", lambda shown, _touched, _now: shown),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_walk_notices(
    overviews: OverviewStore, database: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(overview_store, *FAULTS[fault])
    wrong, _renewed = await walk(overviews, database, seed=1)
    assert wrong != []


async def test_a_thread_that_goes_makes_room_for_one_that_was_not_shown(
    overviews: OverviewStore, database: Any
) -> None:
    await database.comments.insert_many([comment(f"c{number:02}", number) for number in range(THREADS_SHOWN + 1)])
    then = await read(overviews)
    await database.comments.delete_one({"_id": "c50"})
    now = await read(overviews, as_earlier(then, Touched(threads={"c50"})))
    assert isinstance(now.contents, Contents)
    assert [thread.id for thread in now.contents.threads][-1] == "c00"


@pytest.mark.new_database
async def test_what_is_not_touched_is_not_read(overviews: OverviewStore, database: Any, plain_database: Any) -> None:
    await database.items.insert_many([item(f"i{number:03}") for number in range(100)])
    await database.comments.insert_many(
        [comment(f"c{number:03}", number, thread_id=f"c{number // 10 * 10:03}") for number in range(300)]
    )
    then = await read(overviews)
    plain_database.command("profile", 2)
    now = await read(overviews, as_earlier(then, Touched(items={"i042"}, threads={"c040", "c050"})))
    plain_database.command("profile", 0)
    assert isinstance(now.contents, Renewed)
    assert encoded(now) == encoded(then)
    examined = dict.fromkeys(("items", "comments"), 0)
    for reading in plain_database.system.profile.find({"op": {"$in": ["query", "command"]}}):
        name = reading["ns"].partition(".")[2]
        if name in examined:
            examined[name] += reading["docsExamined"]
    # The twenty comments then, now and to be shown, by two ways to each; the item then and now, and the page.
    assert 0 < examined["comments"] <= 3 * 2 * 20
    assert 0 < examined["items"] <= 2 + 11


async def test_what_the_database_cannot_show_any_more_is_read_anew(overviews: OverviewStore, database: Any) -> None:
    then = await read(overviews)
    await database.comments.drop()
    await schema.apply(database)
    await database.comments.insert_one(comment("a"))
    now = await read(overviews, as_earlier(then, Touched(threads={"a"})))
    assert isinstance(now.contents, Contents)
    assert [thread.id for thread in now.contents.threads] == ["a"]


async def test_a_moment_that_is_too_long_ago_is_read_anew(overviews: OverviewStore, database: Any) -> None:
    then = await read(overviews)
    await database.comments.insert_one(comment("a"))
    long_ago = Moment(then.contents, 0, (then.time[0] - 86_400, 1))
    now = await read(overviews, as_earlier(long_ago, Touched(threads={"a"})))
    assert isinstance(now.contents, Contents)
    assert [thread.id for thread in now.contents.threads] == ["a"]


async def test_one_of_a_later_moment_is_not_used(overviews: OverviewStore, database: Any) -> None:
    """A primary that was just elected may show less than the one before."""
    then = await read(overviews)
    later = Moment(then.contents, 0, (then.time[0] + 60, 1))
    await database.comments.insert_one(comment("a"))
    now = await read(overviews, as_earlier(later, Touched()))
    assert isinstance(now.contents, Contents)
    assert [thread.id for thread in now.contents.threads] == ["a"]


async def test_it_is_read_anew_where_nobody_can_tell_what_changed(overviews: OverviewStore, database: Any) -> None:
    then = await read(overviews)
    await database.comments.insert_one(comment("a"))
    assert isinstance((await read(overviews, as_earlier(then, None))).contents, Contents)


async def test_a_fault_while_the_past_is_read_is_got_over(
    overviews: OverviewStore, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = await read(overviews)
    await database.comments.insert_one(comment("a"))
    aggregate = OverviewStore._aggregate

    async def broken(self: OverviewStore, collection: Any, pipeline: Any, when: Any) -> Any:
        if isinstance(when, tuple):
            raise AutoReconnect
        return await aggregate(self, collection, pipeline, when)

    monkeypatch.setattr(OverviewStore, "_aggregate", broken)
    now = await read(overviews, as_earlier(then, Touched(threads={"a"})))
    assert isinstance(now.contents, Contents)
    assert [thread.id for thread in now.contents.threads] == ["a"]


async def test_waiting_to_be_told_is_no_part_of_how_long_reading_takes(overviews: OverviewStore) -> None:
    then = await read(overviews)

    async def late(_until: tuple[int, int]) -> Touched | None:
        await asyncio.sleep(1.5)
        return None

    now = await read(overviews, Earlier(body=encoded(then), time=then.time, touched=late))
    assert now.read_seconds is not None
    assert now.read_seconds < 1.5


async def test_nothing_is_made_of_threads_whose_order_cannot_be_told(
    overviews: OverviewStore, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if MongoDB counted what is not shown."""
    await database.comments.insert_many([comment("a", 1), comment("b", 2)])
    sure = await read(overviews)
    assert sure.can_be_earlier
    monkeypatch.setattr(overview_store, "_FITTING_COMMENTS", {})
    await database.comments.insert_many([comment("unfit", 3, body=7), comment("a0", 0, thread_id="a", body=7)])
    assert not (await read(overviews)).can_be_earlier
    touched = Touched(threads={"unfit"})
    assert isinstance((await read(overviews, as_earlier(sure, touched))).contents, Contents)


@pytest.mark.parametrize(
    ("stored", "thread"),
    [
        ({"_id": "a", "thread_id": "b"}, "b"),
        ({"_id": "a", "thread_id": None}, "a"),
        ({"_id": "a"}, "a"),
        ({"_id": "a", "thread_id": 7}, None),
        ({"_id": "a", "thread_id": "x" * 64}, "x" * 64),
        ({"_id": "a", "thread_id": "x" * 65}, None),
        ({"_id": 7}, None),
    ],
)
def test_the_thread_of_a_stored_comment(stored: dict[str, Any], thread: str | None) -> None:
    assert thread_of(stored) == thread
