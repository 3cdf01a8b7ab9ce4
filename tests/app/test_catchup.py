"""Reading a stretch of history: positions are the same whatever part of it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.catchup import CatchUp, NotCovered, Past, read_stretch
from app.changes import Change
from app.position import Position
from models import schema
from models.transaction import transact
from tests.app.stream import change, comment, identity


@pytest.fixture
def database_name(virgin_database_name: str) -> str:
    """What other tests did must not be in its history."""
    return virgin_database_name


async def now(database: Any) -> Position:
    """The newest moment of the database."""
    moment = (await database.command("ping"))["operationTime"]
    return Position(moment.time, moment.inc, 10**6)  # after all that happened at that moment


async def read(database: Any, start: Position, **of: Any) -> list[Change]:
    """Everything up to now."""
    until = await now(database)
    return [change async for changes in read_stretch(database, start, until, **of) for change in changes]


async def test_changes_of_some_collections_have_the_positions_that_they_have_among_all(database: Any) -> None:
    await schema.apply(database)
    start = await now(database)

    async def work(session: Any) -> None:
        for number in range(130):
            await database.inboxes.insert_one({"_id": f"i{number}"}, session=session)
            await database.comments.insert_one({"_id": f"c{number}"}, session=session)

    await transact(database, work)
    await database.inboxes.update_many({}, {"$set": {"text": "x" * 1000}})
    await database.comments.update_one({"_id": "c0"}, {"$set": {"body": "y"}})
    everything, some = await read(database, start), await read(database, start, of=["comments"])
    assert len(everything) == 130 * 3 + 1
    assert [(change.id, change.position, change.operation) for change in some] == [
        (change.id, change.position, change.operation) for change in everything if change.collection == "comments"
    ]
    assert some[-1].raw_after is not None
    assert some[-1].raw_after["body"] == "y"
    assert some[-1].raw_before == {"_id": "c0"}


# -- shared reads -----------------------------------------------------------------------------------------------------

END = 100


class Oplog:
    """A hundred changes, one for each moment, read one by one; `gate` holds every read back."""

    def __init__(self, *, max_events: int = 1000, max_seconds: float = 20.0) -> None:
        self.gate = asyncio.Event()
        self.starts: list[int] = []
        self.running = self.most_running = 0
        self.catch_up = CatchUp(
            self._read,
            here=lambda: Position(END, 1, 1),
            streams=2,
            max_events=max_events,
            max_seconds=max_seconds,
        )

    async def _read(self, after: Position, until: Position) -> AsyncIterator[list[Change]]:
        self.starts.append(after.seconds)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate.wait()
            for moment in range(after.seconds + 1, until.seconds + 1):
                document = comment(_id=f"c{moment}")
                yield [change("comments", "insert", None, document, at=Position(moment, 1, 1))]
        finally:
            self.running -= 1

    def wait(self, *moments: int) -> list[asyncio.Task[Past]]:
        """Clients who come back with positions of these moments."""
        return [asyncio.create_task(self.catch_up.since(Position(moment, 1, 1))) for moment in moments]


def missed(past: Past, moment: int) -> int:
    """How many events a client is told that was last told of this moment."""
    return len(past.history.events("project:p", identity(), Position(moment, 1, 1)))


async def test_few_reads_serve_all_who_wait_each_from_its_own_point() -> None:
    oplog = Oplog()
    waiting: list[asyncio.Task[Past]] = []
    for begin in range(0, 90, 30):
        waiting += oplog.wait(*range(begin, begin + 30))
        for _ in range(5):
            await asyncio.sleep(0)
    # The third thirty wait for one of the two reads under way to end.
    assert oplog.starts == [0, 30]
    oplog.gate.set()
    pasts = await asyncio.gather(*waiting)
    assert (oplog.starts, oplog.most_running) == ([0, 30, 60], 2)
    assert [missed(past, moment) for moment, past in enumerate(pasts)] == [END - moment for moment in range(90)]


async def test_what_is_too_many_for_the_oldest_is_not_for_those_after_it() -> None:
    oplog = Oplog(max_events=10)
    oplog.gate.set()
    oldest, recent = oplog.wait(0, 95)
    assert missed(await recent, 95) == 5
    with pytest.raises(NotCovered) as refusal:
        await oldest
    assert refusal.value.reason == "too_many"


async def test_a_read_that_takes_too_long_is_given_up() -> None:
    oplog = Oplog(max_seconds=0.01)
    with pytest.raises(NotCovered) as refusal:
        await oplog.wait(50)[0]
    assert refusal.value.reason == "too_many"
    assert oplog.running == 0
