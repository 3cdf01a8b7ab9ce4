"""The one change stream: in order, without gaps over faults, and honest where history is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.feed import Batch, ChangeFeed
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

    async def opened(self) -> None:
        await self.until(lambda: any(batch.reached is not None for batch in self.batches))


@asynccontextmanager
async def reading(database: Any) -> AsyncIterator[Reader]:
    """A feed that is open."""
    assert await schema.apply(database) == []
    reader = Reader(database)
    task = asyncio.ensure_future(reader.run())
    try:
        await reader.opened()
        yield reader
    finally:
        await reader.feed.stop()
        await task


async def kill_cursors(database: Any) -> None:
    """End the server's side of every change stream of this database."""
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleCursors": True}},
        {"$match": {"cursor.cursorId": {"$exists": True}, "ns": {"$regex": f"^{database.name}\\."}}},
    ]
    async for operation in database.client.admin.aggregate(pipeline):
        collection = operation["ns"].partition(".")[2]
        await database.command({"killCursors": collection, "cursors": [operation["cursor"]["cursorId"]]})


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
