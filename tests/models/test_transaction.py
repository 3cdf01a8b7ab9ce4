"""Transactions are tried again until nothing comes between, and give up in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from tornado.ioloop import IOLoop

from app.database import Connection
from models import abandoned
from models.transaction import transact, transact_in_parts
from tests.ledger.replica_set import ReplicaSet, replica_set


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A MongoDB that fails on demand."""
    with replica_set(tmp_path_factory.mktemp("breakable"), 1) as running:
        yield running


@pytest.fixture
def broken(io_loop: IOLoop, breakable: ReplicaSet) -> Iterator[Any]:
    """A database of that MongoDB."""

    async def connect() -> Connection:
        return Connection(breakable.uri, "test_transaction")

    connection = io_loop.run_sync(connect)
    io_loop.run_sync(lambda: connection.database.things.delete_many({}))
    yield connection.database
    connection.close()


async def add(database: Any, session: Any) -> int:
    """Read, wait for the others, write what follows from what was read."""
    found = await database.things.find_one({"_id": "sum"}, session=session)
    await asyncio.sleep(0)
    value = 1 if found is None else found["value"] + 1
    if found is None:
        await database.things.insert_one({"_id": "sum", "value": value}, session=session)
    else:
        await database.things.update_one({"_id": "sum"}, {"$set": {"value": value}}, session=session)
    return value


async def test_of_many_at_once_none_is_lost_not_even_the_first(database: Any) -> None:
    results = await asyncio.gather(*(transact(database, lambda session: add(database, session)) for _ in range(12)))
    assert sorted(results) == list(range(1, 13))


async def test_a_document_that_others_made_meanwhile_is_tried_again(database: Any) -> None:
    attempts = []

    async def work(session: Any) -> str:
        attempts.append(await database.things.find_one({"_id": "a"}, session=session))
        if len(attempts) == 1:
            raise DuplicateKeyError("made by another")
        return "done"

    assert await transact(database, work) == "done"
    assert len(attempts) == 2


async def test_where_others_come_between_each_owner_is_done_alone_and_then_each_thing(database: Any) -> None:
    sizes = []

    async def work(session: Any, things: Sequence[int]) -> int:
        sizes.append(len(things))
        if len(things) > 1 and 3 in things:
            raise OperationFailure("conflict", 112, {"errorLabels": ["TransientTransactionError"]})
        await database.things.insert_many([{"_id": thing} for thing in things], session=session)
        return len(things)

    done = await transact_in_parts(database, range(16), work, owner_of=lambda thing: f"user {thing // 8}")
    assert done == [2, 1, 1, 4, 8]
    assert await database.things.count_documents({}) == 16
    assert sizes[:2] == [16, 8]


async def test_what_the_work_raises_undoes_it(database: Any) -> None:
    async def work(session: Any) -> None:
        await database.things.insert_one({"_id": "a"}, session=session)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await transact(database, work)
    assert await database.things.find_one({}) is None


async def test_an_error_of_another_kind_is_not_tried_again(database: Any) -> None:
    attempts = []

    async def work(session: Any) -> None:
        attempts.append(1)
        await database.things.find_one({"$nonsense": 1}, session=session)

    with pytest.raises(OperationFailure):
        await transact(database, work)
    assert len(attempts) == 1


async def test_it_gives_up_when_others_keep_coming_between(database: Any) -> None:
    await database.things.insert_one({"_id": "sum", "value": 0})

    async def work(session: Any) -> None:
        await database.things.find_one({"_id": "sum"}, session=session)
        await database.things.update_one({"_id": "sum"}, {"$inc": {"value": 1}})
        await database.things.update_one({"_id": "sum"}, {"$inc": {"value": 1}}, session=session)

    with pytest.raises(PyMongoError):
        await transact(database, work, patience_seconds=0.3)


@pytest.mark.parametrize(
    "fault",
    [
        {"commands": ["commitTransaction"], "closeConnection": True},
        {"commands": ["commitTransaction"], "errorCode": 91, "errorLabels": ["RetryableWriteError"]},
        {"commands": ["commitTransaction"], "errorCode": 64, "errorLabels": ["UnknownTransactionCommitResult"]},
        {"commands": ["find", "insert", "update"], "closeConnection": True},
        {"commands": ["insert", "update"], "errorCode": 112, "errorLabels": ["TransientTransactionError"]},
    ],
    ids=str,
)
async def test_it_happens_once_whatever_the_database_does(
    broken: Any, breakable: ReplicaSet, fault: dict[str, Any]
) -> None:
    for value in range(1, 4):
        breakable.fail(fault["commands"], times=2, **{key: how for key, how in fault.items() if key != "commands"})
        assert await transact(broken, lambda session: add(broken, session)) == value


@contextlib.asynccontextmanager
async def left_open(uri: str, name: str, application: str) -> AsyncIterator[Any]:
    """Somebody who wrote `sum` in a transaction, and is never heard of again."""
    client = pymongo.MongoClient[dict[str, Any]](uri, appname=application)
    session = client.start_session()
    session.start_transaction()
    client[name].things.update_one({"_id": "sum"}, {"$inc": {"value": 100}}, session=session)
    yield session
    with contextlib.suppress(PyMongoError):
        session.abort_transaction()
    session.end_session()
    client.close()


async def test_a_process_that_died_within_a_transaction_is_not_waited_for(broken: Any, breakable: ReplicaSet) -> None:
    await broken.things.insert_one({"_id": "sum", "value": 0})
    async with left_open(breakable.uri, broken.name, "copydesk") as session:
        assert await transact(broken, lambda session: add(broken, session)) == 1
        with pytest.raises(PyMongoError, match="aborted"):
            session.commit_transaction()


async def test_a_transaction_of_another_program_is_left_alone(
    broken: Any, breakable: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abandoned, "IDLE", timedelta(0))
    await broken.things.insert_one({"_id": "sum", "value": 0})
    async with left_open(breakable.uri, broken.name, "another program") as session:
        assert await abandoned.end_abandoned(broken) == 0
        session.commit_transaction()
    assert await transact(broken, lambda session: add(broken, session)) == 101


async def test_where_nobody_may_look_mongodb_ends_them_itself(broken: Any, breakable: ReplicaSet) -> None:
    breakable.fail(["aggregate"], times=1, errorCode=13)
    assert await abandoned.end_abandoned(broken) == 0
