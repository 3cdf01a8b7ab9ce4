"""The one change stream: in order, without gaps over faults, and honest where history is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.monitoring import CommandListener, CommandStartedEvent, CommandSucceededEvent
from tornado.ioloop import IOLoop

from app import feed
from app.feed import AWAIT_MS, SETTLE_MS, AnotherPrimary, Batch, ChangeFeed
from app.stream_cursor import is_drained
from models import schema
from tests.handlers.relayed import foreign_item


class Reader:
    """Reads a feed into lists."""

    def __init__(self, database: Any) -> None:
        self.feed = ChangeFeed(database, history_seconds=1, stale_seconds=5, jitter=lambda: 0.01)
        self.batches: list[Batch] = []
        self._news = asyncio.Condition()

    async def run(self) -> None:
        async for batch in self.feed.batches():
            self.batches.append(batch)
            async with self._news:
                self._news.notify_all()

    @property
    def ids(self) -> list[Any]:
        return [
            change["documentKey"]["_id"]
            for batch in self.batches
            for change in batch.changes
            if "documentKey" in change
        ]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(condition)

    async def advanced(self) -> None:
        """Until the stream has paused once more."""
        seen = len(self.batches)
        await self.feed._database.elsewhere.insert_one({})
        await self.until(lambda: any(batch.reached is not None for batch in self.batches[seen:]))

    async def opened(self) -> None:
        await self.until(lambda: any(batch.reached is not None for batch in self.batches))


@asynccontextmanager
async def reading(database: Any) -> AsyncIterator[Reader]:
    """A feed that is open."""
    if not isinstance(database, Elected):
        assert await schema.apply(database) == []
    reader = Reader(database)
    task = asyncio.ensure_future(reader.run())
    try:
        await reader.opened()
        yield reader
    finally:
        await reader.feed.stop()
        await task


@pytest.fixture
def database_name(virgin_database_name: str) -> str:
    """What other tests did must not be in its history."""
    return virgin_database_name


async def kill_cursors(database: Any) -> None:
    """End the server's side of every change stream of this database."""
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleCursors": True}},
        {"$match": {"cursor.cursorId": {"$exists": True}, "ns": {"$regex": f"^{database.name}\\."}}},
    ]
    async for operation in database.client.admin.aggregate(pipeline):
        collection = operation["ns"].partition(".")[2]
        await database.command({"killCursors": collection, "cursors": [operation["cursor"]["cursorId"]]})


async def test_nothing_is_read_from_before_the_epoch(database: Any) -> None:
    assert await schema.apply(database) == []
    await database.items.insert_one({"_id": "before"})
    await database.elsewhere.insert_one({})
    moment = (await database.command("ping"))["operationTime"]
    reader = Reader(database)
    reader.feed = ChangeFeed(database, begun=(moment.time, moment.inc), history_seconds=600, stale_seconds=5)
    task = asyncio.ensure_future(reader.run())
    try:
        await reader.opened()
        await database.items.insert_one({"_id": "after"})
        await reader.until(lambda: reader.ids)
    finally:
        await reader.feed.stop()
        await task
    assert reader.ids == ["after"]


async def test_a_past_that_is_skipped_is_left_out_and_what_comes_after_is_not(database: Any) -> None:
    assert await schema.apply(database) == []
    await database.items.insert_many([{"_id": f"before-{number}"} for number in range(5000)])
    await database.elsewhere.insert_one({})
    reader = Reader(database)
    reader.feed = ChangeFeed(database, history_seconds=600, stale_seconds=5)
    reader.feed.skip()
    task = asyncio.ensure_future(reader.run())
    try:
        await reader.until(lambda: len([batch for batch in reader.batches if batch.start is not None]) == 2)
        seen = len(reader.ids)
        await database.items.insert_many([{"_id": f"after-{number}"} for number in range(3)])
        await reader.until(lambda: "after-2" in reader.ids)
    finally:
        await reader.feed.stop()
        await task
    assert seen < 5000
    assert reader.ids[seen:] == ["after-0", "after-1", "after-2"]
    assert [batch.lost for batch in reader.batches if batch.start is not None] == [None, None]


async def test_one_change_that_cannot_be_read_is_one_fault_however_much_lies_before_it(database: Any) -> None:
    assert await schema.apply(database) == []
    large = {**foreign_item("large", "p"), "junk": "x" * 9_000_000}
    await database.items.insert_one(large)
    begun = (await database.command("ping"))["operationTime"]
    await database.items.insert_many([foreign_item(f"before-{number}", "p") for number in range(40)])
    # With both images this change has 18 MB, and MongoDB gives nothing of the batch that it would be in.
    await database.items.update_one({"_id": "large"}, {"$set": {"name": "Changed"}})
    await database.items.insert_many([foreign_item(f"after-{number}", "p") for number in range(3)])
    reader = Reader(database)
    reader.feed = ChangeFeed(database, begun=(begun.time, begun.inc + 1), history_seconds=600, stale_seconds=5)
    task = asyncio.ensure_future(reader.run())
    try:
        await reader.until(lambda: "after-2" in reader.ids)
    finally:
        await reader.feed.stop()
        await task
    names = [*(f"before-{number}" for number in range(40)), "large", *(f"after-{number}" for number in range(3))]
    assert reader.ids == names
    assert reader.feed.reopened == {"OperationFailure 10334": 2}  # once in a batch, and once alone


async def test_the_first_batch_says_where_the_stream_begins(database: Any) -> None:
    async with reading(database) as reader:
        assert reader.batches[0].start is not None
        assert reader.batches[0].lost is None
        assert all(batch.start is None for batch in reader.batches[1:])


async def test_changes_arrive_in_order_and_each_once(database: Any) -> None:
    async with reading(database) as reader:
        await asyncio.gather(
            *(
                database.items.insert_many([foreign_item(f"{writer}-{number}", "p") for number in range(300)])
                for writer in "ab"
            )
        )
        await reader.until(lambda: len(reader.ids) >= 600)
        assert len(reader.ids) == len(set(reader.ids)) == 600
        for writer in "ab":
            assert [id_ for id_ in reader.ids if id_.startswith(writer)] == [
                f"{writer}-{number}" for number in range(300)
            ]


async def test_collections_that_nobody_watches_bring_nothing_but_time(database: Any) -> None:
    async with reading(database) as reader:
        seen = len(reader.batches)
        await database.leases.insert_one({"_id": "x"})
        await database.foreign.insert_one({"_id": "x"})
        await reader.until(lambda: len(reader.batches) > seen)
        assert reader.ids == []
        assert reader.batches[-1].reached is not None


class Reads(CommandListener):
    """What the streams of a client ask of the server and get."""

    def __init__(self) -> None:
        self.waits: list[int] = []
        """For how long each read asked the server to wait, in milliseconds."""
        self.told: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "getMore":
            self.waits.append(event.command["maxTimeMS"])
            self.told.append("asked")

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.command_name == "getMore" and event.reply["cursor"]["nextBatch"]:
            self.told.append("answered")

    def failed(self, event: Any) -> None:
        pass


@pytest.fixture
def reads() -> Reads:
    return Reads()


@pytest.fixture
def observed(io_loop: IOLoop, mongodb_uri: str, database_name: str, reads: Reads) -> Iterator[Any]:
    """The database, through a client whose reads are noted."""
    client: Any = AsyncIOMotorClient(mongodb_uri, tz_aware=True, event_listeners=[reads], io_loop=io_loop.asyncio_loop)
    yield client[database_name]
    client.close()


async def test_after_a_change_the_stream_says_soon_that_it_was_the_last(
    observed: Any, reads: Reads, plain_database: Any
) -> None:
    async with reading(observed) as reader:
        plain_database.items.insert_one(foreign_item("x", "p"))
        await reader.until(lambda: reader.ids and reader.batches[-1].reached is not None)
        await reader.advanced()
    change = reads.waits.index(SETTLE_MS)
    assert reads.waits[change - 1 : change + 2] == [AWAIT_MS, SETTLE_MS, AWAIT_MS]


async def test_a_lone_change_is_worked_off_before_the_next_is_asked_for(
    observed: Any, reads: Reads, plain_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LET_GO_SECONDS", 20)

    async def work_off(self: Reader) -> None:
        async for batch in self.feed.batches():
            self.batches.append(batch)
            if batch.changes:
                time.sleep(0.05)  # the reading thread could go on meanwhile
                reads.told.append("worked off")
            async with self._news:
                self._news.notify_all()

    monkeypatch.setattr(Reader, "run", work_off)
    async with reading(observed) as reader:
        plain_database.items.insert_one(foreign_item("x", "p"))
        await reader.until(lambda: reader.ids and reader.batches[-1].reached is not None)
    answer = reads.told.index("answered")
    assert reads.told[answer : answer + 3] == ["answered", "worked off", "asked"]


async def test_the_driver_tells_whether_it_holds_more(plain_database: Any) -> None:
    with plain_database.watch(max_await_time_ms=1000) as stream:
        assert stream.try_next() is None
        both = [foreign_item("x", "p"), foreign_item("y", "p")]
        with plain_database.client.start_session() as session, session.start_transaction():
            plain_database.items.insert_many(both, session=session)
        found = []
        while len(found) < 2:
            change = stream.try_next()
            if change is not None:
                found.append((change["documentKey"]["_id"], is_drained(stream)))
        assert found == [("x", False), ("y", True)]


async def test_a_killed_cursor_is_opened_again_without_a_gap(database: Any) -> None:
    async with reading(database) as reader:
        for number in range(3):
            await database.items.insert_one(foreign_item(f"before-{number}", "p"))
            await kill_cursors(database)
            await database.items.insert_one(foreign_item(f"after-{number}", "p"))
            await reader.until(lambda: f"after-{number}" in reader.ids)  # noqa: B023 - awaited in the same round
        assert reader.ids == [f"{when}-{number}" for number in range(3) for when in ("before", "after")]
        assert sum(reader.feed.reopened.values()) >= 1
        assert not any(batch.lost for batch in reader.batches)


@pytest.mark.parametrize("token", [{"_data": "8265E1A2B3"}, {"_data": "nonsense"}, {"_data": "82"}])
async def test_a_token_that_the_server_cannot_use_is_given_up_and_said_to_be_lost(database: Any, token: Any) -> None:
    async with reading(database) as reader:
        step = reader.feed._step

        def spoil(fault: BaseException | None) -> bool:
            # Once the reading thread is done, so that nothing it reads makes up for it.
            reader.feed._step = step  # type: ignore[method-assign]
            reader.feed._token = token
            return step(fault)

        reader.feed._step = spoil  # type: ignore[method-assign]
        await kill_cursors(database)
        await reader.until(lambda: any(batch.lost for batch in reader.batches))
        lost = next(batch for batch in reader.batches if batch.lost)
        assert lost.start is not None
        await database.items.insert_one(foreign_item("later", "p"))
        await reader.until(lambda: "later" in reader.ids)


class Elected:
    """A database of a client that takes another member for the primary than there is."""

    def __init__(self, database: Any, primary: Any) -> None:
        self._database = database
        self.client = SimpleNamespace(primary=primary)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def __getitem__(self, name: str) -> Any:
        return self._database[name]


async def test_a_member_that_is_not_the_primary_any_more_is_left_without_a_gap(database: Any) -> None:
    assert await schema.apply(database) == []
    elected = Elected(database, ("first", 27017))
    async with reading(elected) as reader:
        await database.items.insert_one(foreign_item("before", "p"))
        await reader.until(lambda: "before" in reader.ids)
        elected.client.primary = ("second", 27017)
        await reader.until(lambda: reader.feed.reopened)
        await database.items.insert_one(foreign_item("after", "p"))
        await reader.until(lambda: "after" in reader.ids)
        await reader.advanced()
    assert reader.ids == ["before", "after"]
    assert reader.feed.reopened == {"AnotherPrimary": 1}
    assert not any(batch.lost for batch in reader.batches)


async def test_a_member_that_answers_while_there_is_no_primary_is_not_believed(database: Any) -> None:
    now = 0.0
    elected = Elected(database, ("first", 27017))
    feed = ChangeFeed(elected, history_seconds=1, stale_seconds=5, clock=lambda: now)
    feed._member = ("first", 27017)
    now = 10.0
    feed._hear(None)
    assert feed.silent_seconds == 0.0
    elected.client.primary, now = None, 16.0
    feed._hear(None)
    assert feed.stale
    feed._hear({})
    assert feed.silent_seconds == 0.0
    elected.client.primary = ("second", 27017)
    with pytest.raises(AnotherPrimary):
        feed._hear(None)
    await feed.stop()


async def test_silence_is_measured_and_called_stale(database: Any) -> None:
    now = 0.0
    feed = ChangeFeed(database, history_seconds=1, stale_seconds=5, clock=lambda: now)
    assert (feed.silent_seconds, feed.stale) == (0.0, False)
    now = 5.5
    assert (feed.silent_seconds, feed.stale) == (5.5, True)
    await feed.stop()


async def test_stopping_ends_the_reading_thread_though_nobody_reads(database: Any) -> None:
    async with reading(database) as reader:
        await database.items.insert_many([foreign_item(str(number), "p") for number in range(500)])
    assert reader.feed._executor._shutdown
