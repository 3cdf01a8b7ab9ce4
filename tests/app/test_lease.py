"""One holder among all processes, on a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import AutoReconnect

from app.lease import LEASE_SECONDS, MARGIN_SECONDS, Lease


class Process:
    """A would-be holder with a clock of its own."""

    def __init__(self, database: Any, name: str) -> None:
        self.now = 1000.0
        self.changes: list[bool] = []
        self.lease = Lease(database, "worker", holder=name, clock=lambda: self.now, changed=self.changes.append)


async def expire(database: Any) -> None:
    """As if the holder had not renewed for long."""
    await database.leases.update_one({"_id": "worker"}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})


async def test_the_first_holds_and_the_second_waits_until_it_is_given_back(database: Any) -> None:
    one, two = Process(database, "one"), Process(database, "two")
    assert await one.lease.renew()
    assert not await two.lease.renew()
    assert await one.lease.renew()
    assert (one.lease.held, two.lease.held) == (True, False)
    assert one.lease.gained.is_set()
    await one.lease.release()
    assert not one.lease.held
    assert not one.lease.gained.is_set()
    assert await two.lease.renew()
    assert (one.changes, two.changes) == ([True, False], [True])


async def test_a_holder_that_stopped_renewing_is_replaced_and_finds_out(database: Any) -> None:
    one, two = Process(database, "one"), Process(database, "two")
    await one.lease.renew()
    await expire(database)
    assert await two.lease.renew()
    assert not await one.lease.renew()
    assert one.changes == [True, False]


async def test_a_holder_gives_up_by_its_own_clock_before_anyone_else_may_take_over(database: Any) -> None:
    one = Process(database, "one")
    await one.lease.renew()
    one.now += LEASE_SECONDS - MARGIN_SECONDS - 0.01
    assert one.lease.held
    one.now += 0.02
    assert not one.lease.held


async def test_releasing_what_another_holds_takes_nothing_from_it(database: Any) -> None:
    one, two = Process(database, "one"), Process(database, "two")
    await one.lease.renew()
    await two.lease.release()
    assert await one.lease.renew()


async def test_many_that_begin_at_once_are_one_holder(database: Any) -> None:
    processes = [Process(database, str(number)) for number in range(8)]
    held = await asyncio.gather(*(process.lease.renew() for process in processes))
    assert sum(held) == 1
    again = await asyncio.gather(*(process.lease.renew() for process in processes))
    assert again == held


async def test_a_database_that_does_not_answer_leaves_what_was_known_to_run_out(database: Any) -> None:
    one = Process(database, "one")
    await one.lease.renew()

    class Broken:
        async def find_one_and_update(self, *_: Any, **__: Any) -> None:
            raise AutoReconnect("gone")

        async def delete_one(self, *_: Any) -> None:
            raise AutoReconnect("gone")

    one.lease._leases = Broken()
    assert await one.lease.renew()
    one.now += LEASE_SECONDS
    assert not await one.lease.renew()
    assert one.changes == [True, False]
    await one.lease.release()


async def test_running_holds_until_stopped_and_then_gives_back(database: Any) -> None:
    one, two = Process(database, "one"), Process(database, "two")
    running = asyncio.ensure_future(one.lease.run())
    await one.lease.gained.wait()
    assert not await two.lease.renew()
    one.lease.stop()
    await running
    assert await two.lease.renew()
