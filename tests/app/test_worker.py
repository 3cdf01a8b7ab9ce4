"""The change log's worker: whoever holds the lease, whatever was missed meanwhile, each entry is there once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from app.changes import Change, read_change
from app.feed import ChangeFeed
from app.lease import Lease
from app.metrics import Metrics
from app.position import Position, following
from app.worker import Worker, set_out
from models import schema
from models.activity import Activity, ActivityStore
from tests.handlers.relayed import foreign_item


class Relay:
    """Reads a real feed and tells its observers, as `app.relay.Relay` does; keeps what was added to the log."""

    def __init__(self) -> None:
        self.position = Position(0, 0)
        self.observers: list[Any] = []
        self.logged: dict[str, Any] = {}
        self._news = asyncio.Condition()

    async def run(self, feed: ChangeFeed) -> None:
        async for batch in feed.batches():
            if batch.start is not None:
                self.position = max(self.position, batch.start)
            changes: list[Change] = []
            for document in batch.changes:
                time = document["clusterTime"]
                self.position = following(self.position, (time.time, time.inc))
                changes.append(read_change(document, self.position))
            for observer in self.observers:
                observer(changes)
            if batch.reached is not None:
                self.position = max(self.position, Position(*batch.reached))
            self.logged |= {change.id: change.after.item_id for change in changes if isinstance(change.after, Activity)}
            async with self._news:
                self._news.notify_all()

    async def until_logged(self, count: int) -> list[str]:
        """The items that the log says were added, sorted, once there are so many entries."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.logged) >= count)
        return sorted(self.logged.values())


def make(database: Any, relay: Relay, name: str) -> Worker:
    def report(*_: Any) -> None:
        raise AssertionError("nothing here is unfit")

    return Worker(
        database,
        lease=Lease(database, "worker", holder=name),
        relay=relay,  # type: ignore[arg-type]  # what the worker uses of it
        activities=ActivityStore(database, report=report),
        retention=timedelta(days=1),
        metrics=Metrics(),
    )


@asynccontextmanager
async def working(database: Any, *names: str) -> AsyncIterator[Relay]:
    """Workers on one feed; the first gets the lease."""
    feed, relay = ChangeFeed(database, history_seconds=0.001, stale_seconds=10), Relay()
    relay.logged = {entry["_id"]: entry["item_id"] async for entry in database.activities.find()}
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
