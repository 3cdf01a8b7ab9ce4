"""Who is online, as every process knows it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from app.presence import Presence

EVERYBODY = ("alice", "bob", "carol", "dave")


class Process:
    """A process with users."""

    def __init__(self, database: Any, name: str, *users: str) -> None:
        self.users = set(users)
        self.presence = Presence(database, process=name, users=lambda: self.users)


async def test_the_users_of_all_processes_are_online(database: Any) -> None:
    one, two = Process(database, "one", "alice", "bob"), Process(database, "two", "bob", "carol")
    await one.presence.write()
    await two.presence.write()
    for presence in (one.presence, two.presence):
        assert await presence.online(EVERYBODY) == {"alice", "bob", "carol"}
        assert await presence.online({"carol"}) == {"carol"}
        assert await presence.online(()) == set()
    one.users = {"dave"}
    await one.presence.write()
    assert await two.presence.online(EVERYBODY) == {"dave", "bob", "carol"}


async def test_a_process_that_died_is_forgotten_and_cleared_away(database: Any) -> None:
    one, two = Process(database, "one", "alice"), Process(database, "two", "bob")
    await one.presence.write()
    await two.presence.write()
    long_ago = {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}
    await database.leases.update_one({"_id": "online:one"}, {"$set": long_ago})
    assert await two.presence.online(EVERYBODY) == {"bob"}
    # A lease that ran out is none of its business.
    await database.leases.insert_one({"_id": "worker", **long_ago})
    await two.presence.write()
    assert {lease["_id"] async for lease in database.leases.find()} == {"online:two", "worker"}


async def test_writing_again_keeps_a_process_from_expiring(database: Any) -> None:
    one = Process(database, "one", "alice")
    await one.presence.write()
    soon = await database.leases.find_one({"_id": "online:one"})
    await database.leases.update_one({"_id": "online:one"}, {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}})
    await one.presence.write()
    again = await database.leases.find_one({"_id": "online:one"})
    assert again["expires_at"] >= soon["expires_at"]
    assert await one.presence.online(EVERYBODY) == {"alice"}


async def test_what_somebody_removed_is_written_again(database: Any) -> None:
    one = Process(database, "one", "alice")
    await one.presence.write()
    await database.leases.delete_many({})
    await one.presence.write()
    await one.presence.write()
    assert await one.presence.online(EVERYBODY) == {"alice"}


async def test_a_process_without_users_leaves_nothing(database: Any) -> None:
    one = Process(database, "one")
    await one.presence.write()
    one.users = {"alice"}
    await one.presence.write()
    one.users = set()
    await one.presence.write()
    assert await database.leases.count_documents({}) == 0


async def test_the_first_and_the_last_user_are_told_at_once_and_stopping_takes_it_back(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.presence._LOOK_SECONDS", 0.01)
    monkeypatch.setattr("app.presence.WRITE_SECONDS", 3600.0)
    one, two = Process(database, "one"), Process(database, "two")
    running = asyncio.ensure_future(one.presence.run())
    for users in ({"alice"}, set(), {"alice"}):
        one.users = users
        await _until_online(two.presence, users)
    one.presence.stop()
    await running
    assert await database.leases.count_documents({}) == 0


async def test_a_database_that_is_away_is_waited_for(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.presence._LOOK_SECONDS", 0.01)
    one, failures = Process(database, "one", "alice"), iter(range(3))
    write = one.presence.write

    async def fail_at_first() -> None:
        if next(failures, None) is not None:
            raise AutoReconnect("away")
        await write()

    monkeypatch.setattr(one.presence, "write", fail_at_first)
    running = asyncio.ensure_future(one.presence.run())
    await _until_online(one.presence, {"alice"})
    one.presence.stop()
    await running


async def _until_online(presence: Presence, users: set[str]) -> None:
    async with asyncio.timeout(20):
        while await presence.online(EVERYBODY) != users:  # noqa: ASYNC110 - the database tells nobody that it changed
            await asyncio.sleep(0.01)
