"""The worker: whoever holds the lease, whatever was missed meanwhile, all that is derived is there once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from bson import Timestamp
from pymongo.errors import AutoReconnect

from app.allowance import Pace
from app.catchup import HistoryEnded
from app.changes import Change, read_change
from app.feed import Batch, ChangeFeed
from app.lease import Lease
from app.metrics import Metrics
from app.position import Position, following
from app.worker import (
    LOT,
    REPEAT_SECONDS,
    ROUNDS_AHEAD_SECONDS,
    ROUNDS_PER_SECOND,
    TICK_SECONDS,
    Worker,
    set_out,
)
from models import schema
from models.activity import Activity, ActivityStore
from models.fields import utc_now
from models.inbox_store import InboxStore
from tests.app.newsroom import Newsroom, stored_comment
from tests.conftest import Copydesk
from tests.handlers.relayed import foreign_item
from tests.ledger.shapes import POISON


class Relay:
    """Reads a real feed and tells its observers, as `app.relay.Relay` does; keeps what was added to the log."""

    def __init__(self) -> None:
        self.position = Position(0, 0)
        self.observers: list[Any] = []
        self.loss_observers: list[Any] = []
        self.deaf = False
        self.positioned = asyncio.Event()
        self.logged: dict[str, Any] = {}
        self.added_at: list[Position] = []
        self._news = asyncio.Condition()

    async def run(self, feed: ChangeFeed) -> None:
        async for batch in feed.batches():
            if batch.start is not None:
                self.position = max(self.position, batch.start)
                self.positioned.set()
            changes: list[Change] = []
            for document in batch.changes:
                time = document["clusterTime"]
                self.position = following(self.position, (time.time, time.inc))
                changes.append(read_change(document, self.position))
            self.added_at += [change.position for change in changes if change.collection == "items"]
            for observer in self.observers if not self.deaf else ():
                observer(changes)
            if batch.reached is not None:
                self.position = max(self.position, Position(*batch.reached))
            self.logged |= {
                change.id: change.after.item_id
                for change in changes
                if isinstance(change.after, Activity) and change.after.type == "item_added"
            }
            async with self._news:
                self._news.notify_all()

    async def until_logged(self, count: int) -> list[str]:
        """The items that the log says were added, sorted, once there are so many entries."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.logged) >= count)
        return sorted(self.logged.values())


@pytest.fixture
def database_name(virgin_database_name: str) -> str:
    """What other tests did must not be in its history."""
    return virgin_database_name


def make(database: Any, relay: Relay, name: str, **more: Any) -> Worker:
    def report(*_: Any) -> None:
        raise AssertionError("nothing here is unfit")

    return Worker(
        database,
        lease=Lease(database, "worker", holder=name),
        relay=relay,  # type: ignore[arg-type]  # what the worker uses of it
        activities=ActivityStore(database, report=report),
        notifications=Newsroom(database).notifications,
        retention=timedelta(days=1),
        metrics=Metrics(),
        **more,
    )


@asynccontextmanager
async def working(database: Any, *names: str) -> AsyncIterator[Relay]:
    """Workers on one feed; the first gets the lease."""
    feed, relay = ChangeFeed(database, history_seconds=0.001, stale_seconds=10), Relay()
    relay.logged = {entry["_id"]: entry["item_id"] async for entry in database.activities.find({"type": "item_added"})}
    workers = [make(database, relay, name) for name in names]
    tasks = [asyncio.ensure_future(relay.run(feed))]
    for worker in workers:
        tasks += [asyncio.ensure_future(worker._lease.run()), asyncio.ensure_future(worker.run())]
        if worker is workers[0]:
            await asyncio.wait_for(worker._lease.gained.wait(), 20)
    try:
        yield relay
    finally:
        for worker in workers:
            worker.stop()
        await feed.stop()
        await asyncio.gather(*tasks)


async def begin(database: Any) -> None:
    assert await schema.apply(database) == []
    await set_out(database)


async def add(database: Any, ids: Iterable[str]) -> None:
    await database.items.insert_many([foreign_item(id_, "p") for id_ in ids])


async def test_everything_since_the_deployment_began_is_logged_though_nobody_worked(database: Any) -> None:
    await begin(database)
    await add(database, ["a", "b"])
    async with working(database, "one") as relay:
        assert await relay.until_logged(2) == ["a", "b"]
        await add(database, ["c"])
        assert await relay.until_logged(3) == ["a", "b", "c"]


async def test_the_next_holder_goes_on_where_the_last_one_stopped(database: Any) -> None:
    await begin(database)
    async with working(database, "one") as relay:
        await add(database, ["a"])
        await relay.until_logged(1)
    await add(database, ["b"])
    async with working(database, "two") as relay:
        await add(database, ["c"])
        assert await relay.until_logged(3) == ["a", "b", "c"]
    async with working(database, "three") as relay:
        await add(database, ["d"])
        assert await relay.until_logged(4) == ["a", "b", "c", "d"]


async def test_two_that_both_believe_to_be_the_holder_write_everything_once(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(database)
    monkeypatch.setattr(Lease, "held", property(lambda _lease: True))
    async with working(database, "one", "two") as relay:
        for number in range(5):
            await add(database, [f"i{number}-{entry}" for entry in range(10)])
        assert len(set(await relay.until_logged(50))) == 50
    # By now both have worked off what they were told.
    entries = [entry["item_id"] async for entry in database.activities.find()]
    assert len(entries) == len(set(entries)) == 50


async def test_a_worker_that_falls_behind_reads_from_the_database_again(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(database)
    monkeypatch.setattr("app.worker.QUEUE_LIMIT", 5)
    async with working(database, "one") as relay:
        await add(database, [f"i{number:02}" for number in range(40)])
        assert await relay.until_logged(40) == [f"i{number:02}" for number in range(40)]


async def test_a_log_position_that_somebody_dropped_is_made_anew(database: Any) -> None:
    await begin(database)
    await database.leases.drop()
    assert await make(database, Relay(), "one")._load() > Position(0, 0)
    await add(database, ["a"])
    async with working(database, "two") as relay:
        assert await relay.until_logged(1) == ["a"]


async def test_a_holder_that_wakes_up_late_does_not_take_the_position_back(database: Any) -> None:
    await begin(database)
    late, early = make(database, Relay(), "late"), make(database, Relay(), "early")
    await early._save(Position(2**31, 1, 1))
    await late._save(Position(2**31 - 1, 1, 1))
    assert await early._load() == Position(2**31, 1, 1)


# -- notifications ---------------------------------------------------------------------------------------------------


async def begin_with_project(database: Any) -> None:
    await begin(database)
    await database.projects.insert_one({"_id": "p", "name": "Spring"})


async def mention(database: Any, *ids: str) -> None:
    for id_ in ids:
        await database.comments.insert_one(stored_comment(id_, "See @bob"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)


async def until_unread(database: Any, count: int) -> None:
    """Until bob has so many unread notifications."""
    async with asyncio.timeout(20):
        while await database.inboxes.find_one({"_id": "bob", "unread": count}) is None:  # noqa: ASYNC110 - is stored
            await asyncio.sleep(0.02)


def posting_due(at: datetime) -> dict[str, Any]:
    """A posting for bob, as it is stored."""
    said = {"recipients": {"users": ["bob"]}, "type": "custom", "title": "News", "created_by": "cms", "version": 1}
    return {"_id": "P", **said, "created_at": utc_now(), "send_at": at, "due_at": at}


async def threads(database: Any) -> list[str]:
    """The threads of which bob is told, with as many repetitions as there are events."""
    found = database.notifications.find({"user_id": "bob", "deleted_at": None})
    return sorted([entry["subject"]["thread_id"] async for entry in found for _ in entry["events"]])


async def test_everybody_is_told_of_what_happened_while_nobody_worked_and_since(database: Any) -> None:
    await begin_with_project(database)
    await mention(database, "a")
    async with working(database, "one"):
        await until_unread(database, 1)
        await mention(database, "b")
        await until_unread(database, 2)
    await mention(database, "c")
    async with working(database, "two"):
        await until_unread(database, 3)
    assert await threads(database) == ["a", "b", "c"]


async def test_a_worker_waits_until_the_relay_knows_how_far_there_is_to_catch_up(database: Any) -> None:
    await begin_with_project(database)
    await mention(database, "a")
    relay = Relay()
    worker = make(database, relay, "one")
    tasks = [asyncio.ensure_future(worker._lease.run()), asyncio.ensure_future(worker.run())]
    await asyncio.wait_for(worker._lease.gained.wait(), 20)
    assert not worker._collecting
    moment = (await database.command("ping"))["operationTime"]
    relay.position = Position(moment.time, moment.inc + 1)
    relay.positioned.set()
    await until_unread(database, 1)
    worker.stop()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("name", [*POISON, "over 16 MB"])
async def test_what_cannot_be_read_does_not_stop_a_worker_that_catches_up(database: Any, name: str) -> None:
    await begin_with_project(database)
    await mention(database, "a")
    if name == "over 16 MB":
        await database.comments.insert_one(stored_comment("large", "@bob", junk="x" * 9_000_000))
        # With both images this change has 18 MB.
        await database.comments.update_one({"_id": "large"}, {"$set": {"body": "Changed"}})
    else:
        await database.comments.insert_one(POISON[name]("p", "bad"))
    await mention(database, "b", "c")
    readable = ["a", "b", "c", "large"] if name == "over 16 MB" else ["a", "b", "c"]
    async with working(database, "one"):
        await until_unread(database, len(readable))
    assert await threads(database) == readable


async def test_a_position_that_is_set_back_tells_nobody_twice(database: Any) -> None:
    await begin_with_project(database)
    start = await database.leases.find_one({"_id": "worker-position"})
    async with working(database, "one"):
        await mention(database, "a", "b")
        await until_unread(database, 2)
    before = await database.notifications.find().sort("_id").to_list(None)
    await database.leases.replace_one({"_id": "worker-position"}, start)
    async with working(database, "two"):
        await mention(database, "c")
        await until_unread(database, 3)
    after = await database.notifications.find({"subject.thread_id": {"$ne": "c"}}).sort("_id").to_list(None)
    assert after == before


@pytest.mark.parametrize("error", [AutoReconnect, asyncio.CancelledError], ids=["fault", "death"])
async def test_whatever_ends_a_worker_half_way_the_next_one_completes_it(
    database: Any, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    await begin_with_project(database)
    real, calls = InboxStore.deliver, 0

    async def failing(self: InboxStore, deliveries: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            await real(self, list(deliveries)[:1])
            raise error
        return await real(self, deliveries)

    monkeypatch.setattr(InboxStore, "deliver", failing)
    await mention(database, "a", "b", "c")
    relay = Relay()
    dying = make(database, relay, "one")
    assert await dying._lease.renew()
    relay.position = Position(2**31, 1)
    with pytest.raises(error):
        await asyncio.wait_for(dying._hold(), 20)
    await dying._lease.release()
    assert len(await threads(database)) == 1
    async with working(database, "two"):
        await until_unread(database, 3)
    assert await threads(database) == ["a", "b", "c"]


async def test_a_worker_that_meets_a_fault_goes_on_by_itself(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin_with_project(database)
    real, calls = InboxStore.deliver, 0

    async def failing(self: InboxStore, deliveries: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise AutoReconnect
        return await real(self, deliveries)

    monkeypatch.setattr(InboxStore, "deliver", failing)
    async with working(database, "one"):
        await mention(database, "a", "b")
        await until_unread(database, 2)
    assert await threads(database) == ["a", "b"]


async def test_two_that_both_believe_to_be_the_holder_tell_everybody_once(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin_with_project(database)
    monkeypatch.setattr(Lease, "held", property(lambda _lease: True))
    names = [f"c{number:02}" for number in range(30)]
    async with working(database, "one", "two"):
        await mention(database, *names)
        await until_unread(database, 30)
    assert await threads(database) == names
    assert (await database.inboxes.find_one({"_id": "bob"}))["seq"] == 30


async def test_a_posting_is_sent_when_it_is_due_though_nothing_else_happens(database: Any) -> None:
    await begin_with_project(database)
    due = utc_now() + timedelta(seconds=1)
    async with working(database, "one"):
        await database.postings.insert_one(posting_due(due))
        await until_unread(database, 1)
    assert utc_now() >= due


@pytest.mark.parametrize(
    ("collection", "tick_seconds"),
    [("sessions", TICK_SECONDS), ("comments", 60.0)],
    ids=["what concerns nobody", "what is worked off"],
)
async def test_a_posting_is_sent_when_it_is_due_though_others_write_without_a_pause(
    database: Any, monkeypatch: pytest.MonkeyPatch, collection: str, tick_seconds: float
) -> None:
    await begin_with_project(database)
    monkeypatch.setattr("app.worker.TICK_SECONDS", tick_seconds)
    async with working(database, "one"):
        await database.postings.insert_one(posting_due(utc_now() + timedelta(seconds=1)))
        async with asyncio.timeout(20):
            while await database.inboxes.find_one({"_id": "bob"}) is None:
                await database[collection].insert_one({})


async def test_a_stretch_that_the_relay_lost_is_read_from_the_database(database: Any) -> None:
    await begin_with_project(database)
    async with working(database, "one") as relay:
        await mention(database, "a")
        await until_unread(database, 1)
        relay.deaf = True
        position = relay.position
        await mention(database, "b", "c")
        await until(lambda: relay.position > position)
        relay.deaf = False
        for observer in relay.loss_observers:
            observer()
        await until_unread(database, 3)
        await mention(database, "d")
        await until_unread(database, 4)
    assert await threads(database) == ["a", "b", "c", "d"]


async def test_what_is_lost_for_good_is_said_and_the_rest_goes_on(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin_with_project(database)

    async def ended(*_: Any, **_of: Any) -> AsyncIterator[list[Change]]:
        raise HistoryEnded
        yield []

    with structlog.testing.capture_logs() as logs:
        async with working(database, "one") as relay:
            await mention(database, "a")
            await until_unread(database, 1)
            monkeypatch.setattr("app.worker.read_stretch", ended)
            for observer in relay.loss_observers:
                observer()
            await until(lambda: any(entry["event"] == "worker_history_lost" for entry in logs))
            await mention(database, "b")
            await until_unread(database, 2)
    (said,) = [entry for entry in logs if entry["event"] == "worker_history_lost"]
    assert said["missing"] == "activities and notifications"
    assert said["log_level"] == "error"


async def test_the_worker_of_a_server_hears_of_lost_history(copydesk: Copydesk) -> None:
    await copydesk.project()
    relay, worker = copydesk.server._relay, copydesk.server._worker
    await until(lambda: worker._collecting)
    relay._begin(Batch([], None, lost="too_old", start=relay.position, now=relay.position))
    assert worker._gap
    await until(lambda: not worker._gap)


async def test_the_position_is_saved_though_others_write_without_a_pause_what_concerns_nobody(database: Any) -> None:
    await begin(database)
    now = 0.0
    worker = make(database, Relay(), "one", clock=lambda: now)

    def idle(second: int) -> list[Change]:
        return [Change(collection="sessions", operation="update", id="s", position=Position(2**31, second), at="")]

    await worker._save(Position(2**31, 1))
    await worker._work_off(idle(2))
    assert await worker._load() == Position(2**31, 1)
    now = 6.0
    await worker._work_off(idle(3))
    assert await worker._load() == Position(2**31, 3)


async def test_the_position_of_what_was_written_is_saved_at_most_twice_a_second(database: Any) -> None:
    await begin(database)
    now = 100.0
    worker = make(database, Relay(), "one", clock=lambda: now)
    await worker._save(Position(2**31, 1))

    async def add_item(second: int) -> Position:
        item = {**foreign_item(f"i{second}", "p"), "version": 1}
        document = {
            "operationType": "insert",
            "ns": {"coll": "items"},
            "documentKey": {"_id": item["_id"]},
            "clusterTime": Timestamp(2**31, second),
            "wallTime": utc_now(),
            "fullDocument": item,
        }
        await worker._work_off([read_change(document, Position(2**31, second))])
        return await worker._load()

    assert await add_item(2) == Position(2**31, 1)
    now += REPEAT_SECONDS
    assert await add_item(3) == Position(2**31, 3)
    assert await add_item(4) == Position(2**31, 3)


async def test_a_holder_that_stops_leaves_nothing_to_repeat(database: Any) -> None:
    await begin(database)
    async with working(database, "one") as relay:
        await add(database, ["a"])
        await relay.until_logged(1)
        await add(database, ["b"])
        await relay.until_logged(2)
        worked_off = max(relay.added_at)
    place = await database.leases.find_one({"_id": "worker-position"})
    assert Position(**place["position"]) >= worked_off


async def test_changes_that_come_alone_are_worked_off_at_once_and_a_steady_stream_in_lots() -> None:
    now = 0.0
    pace = Pace(ROUNDS_PER_SECOND, ahead=ROUNDS_AHEAD_SECONDS, clock=lambda: now)
    assert [pace.take() for _ in range(5)] == [0.0] * 5
    assert pace.take() > 0.0
    now = 10.0
    waits = []
    for _ in range(20):  # each round takes 10 ms and is followed by the next
        waits.append(pace.take())
        now += 0.01 + waits[-1]
    assert waits[:5] == [0.0] * 5
    assert waits[10:] == pytest.approx([1 / ROUNDS_PER_SECOND - 0.01] * 10)


def changes_of_nobody(count: int) -> list[Change]:
    return [Change(collection="items", operation="update", id="i", position=Position(1, 1), at="")] * count


@asynccontextmanager
async def rounds_of(worker: Worker, each: Callable[[int], None]) -> AsyncIterator[None]:
    """A worker that holds the lease and has nothing to write; `each` is told of every round's number of changes."""

    async def round_of(changes: list[Change]) -> None:
        each(len(changes))
        await asyncio.sleep(0)

    worker._work_off = round_of  # type: ignore[method-assign,assignment]  # only how often it is called counts here
    tasks = [asyncio.ensure_future(worker._lease.run()), asyncio.ensure_future(worker.run())]
    worker._relay.positioned.set()
    try:
        async with asyncio.timeout(20):
            while not worker._collecting:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0.01)
        yield
    finally:
        worker.stop()
        await asyncio.gather(*tasks)


async def test_what_arrives_during_a_round_waits_for_the_next(database: Any) -> None:
    """Otherwise a stream that is just faster than the rounds would be worked off change by change, each in a round."""
    await begin(database)
    rounds: list[int] = []
    worker = make(database, Relay(), "one")

    def and_another(count: int) -> None:
        rounds.append(count)
        worker._observe(changes_of_nobody(1))

    loop = asyncio.get_running_loop()
    async with rounds_of(worker, and_another):
        begun = loop.time()
        worker._observe(changes_of_nobody(1))
        await asyncio.sleep(1.0)
        allowed = ROUNDS_PER_SECOND * (ROUNDS_AHEAD_SECONDS + loop.time() - begun) + 2
        made = len(rounds)
    assert 5 < made <= allowed


async def test_full_rounds_follow_one_another_at_once(database: Any) -> None:
    await begin(database)
    rounds: list[int] = []
    waiting: list[int] = []
    worker = make(database, Relay(), "one")

    class Told(Pace):
        """Told when a round may be waited for."""

        def take(self, steps: int = 1) -> float:
            waiting.append(len(worker._queue))
            return 0.0

    worker._pace = Told(1)
    async with rounds_of(worker, rounds.append), asyncio.timeout(20):
        worker._observe(changes_of_nobody(7 * LOT + 1))
        while sum(rounds) < 7 * LOT + 1:  # noqa: ASYNC110 - counts what tells nobody
            await asyncio.sleep(0.01)
    assert rounds == [*[LOT] * 7, 1]
    assert max(waiting) < LOT
