"""What is done once among all processes: the change log. Runs where the lease is held.

It works off the same changes as the listeners get, keeps its own position in the database, and catches up from there
when the lease changes hands. What it writes has ids that follow from the change, so doing it twice does it once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

import structlog
from pymongo.errors import OperationFailure, PyMongoError

from app.activity_log import activities_of
from app.catchup import HistoryEnded, read_stretch
from app.changes import Change
from app.feed import HISTORY_LOST
from app.lease import Lease
from app.metrics import Metrics
from app.position import Position
from app.relay import Relay
from models.activity import ActivityStore
from models.database_types import Database

log = structlog.get_logger("copydesk.worker")

QUEUE_LIMIT = 50_000
"""Changes that may wait here; with more, the worker reads them from the database again."""
SAVE_SECONDS = 5.0
"""How often the position is saved though nothing was written, so that it never falls off the oplog."""
_PROGRESS_ID = "worker-position"


class Worker:
    """Consumes changes while the lease is held. `run` ends after `stop`."""

    def __init__(
        self,
        database: Database,
        *,
        lease: Lease,
        relay: Relay,
        activities: ActivityStore,
        retention: timedelta,
        metrics: Metrics,
    ) -> None:
        self._database, self._lease, self._relay = database, lease, relay
        self._activities, self._retention, self._metrics = activities, retention, metrics
        self._queue: deque[Change] = deque()
        self._collecting = self._overflown = False
        self._news = asyncio.Event()
        self._stopping = False
        self._done = Position(0, 0)
        relay.observers.append(self._observe)

    def stop(self) -> None:
        """End `run` after what is under way."""
        self._stopping = True
        self._news.set()
        self._lease.stop()
        self._lease.gained.set()

    async def run(self) -> None:
        """Work whenever this process holds the lease. Faults of the database are waited out, never skipped over."""
        while not self._stopping:
            await self._lease.gained.wait()
            if not self._lease.held:
                # `gained` outlives the lease by up to one renewal.
                await asyncio.sleep(0.2)
                continue
            try:
                await self._hold()
            except PyMongoError as error:
                log.warning("worker_waits", detail=str(error)[:300])
                await asyncio.sleep(1.0)
            finally:
                self._collecting = False
                self._queue.clear()

    def _observe(self, changes: Sequence[Change]) -> None:
        if not self._collecting:
            return
        self._queue.extend(changes)
        if len(self._queue) > QUEUE_LIMIT:
            self._overflown = True
            self._collecting = False
            self._queue.clear()
        self._news.set()

    async def _hold(self) -> None:
        """From taking over to losing the lease."""
        self._queue.clear()
        self._overflown, self._collecting = False, True
        joined = self._relay.position
        self._done = await self._load()
        await self._catch_up(joined)
        while self._lease.held and not self._stopping and not self._overflown:
            try:
                await asyncio.wait_for(self._news.wait(), SAVE_SECONDS)
            except TimeoutError:
                await self._save(self._relay.position if not self._queue else self._done)
                continue
            self._news.clear()
            while self._queue and self._lease.held:
                changes = [self._queue.popleft() for _ in range(min(len(self._queue), 500))]
                await self._work_off(changes)

    async def _catch_up(self, until: Position) -> None:
        """What was missed while nobody held the lease."""
        try:
            async for changes in read_stretch(self._database, self._done, until):
                await self._work_off(changes)
        except (HistoryEnded, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code not in HISTORY_LOST:
                raise
            log.exception("activities_lost", since=self._done.time, until=until.time)
        await self._save(max(until, self._done))

    async def _work_off(self, changes: Sequence[Change]) -> None:
        entries = [entry for change in changes for entry in activities_of(change, retention=self._retention)]
        if entries:
            self._metrics.activities_written.inc(await self._activities.add_many(entries))
            await self._save(changes[-1].position)
        else:
            self._done = max(self._done, changes[-1].position)

    async def _load(self) -> Position:
        """Where the last holder got to."""
        await set_out(self._database)  # again, where somebody dropped the collection meanwhile
        document = await self._database.leases.find_one({"_id": _PROGRESS_ID})
        return Position(**document["position"])

    async def _save(self, position: Position) -> None:
        """Forward only: a holder that woke up late must not take the others back."""
        self._done = max(self._done, position)
        # MongoDB compares documents field by field, in the order of the fields.
        place = position._asdict()
        await self._database.leases.update_one(
            {"_id": _PROGRESS_ID, "position": {"$lt": place}}, {"$set": {"position": place}}
        )


async def set_out(database: Database) -> None:
    """At the first start of a deployment, before anything is served: the log begins now, whoever works it off."""
    reply = await database.command("ping")
    moment = reply["operationTime"]
    await database.leases.update_one(
        {"_id": _PROGRESS_ID},
        {"$setOnInsert": {"position": Position(moment.time, moment.inc)._asdict()}},
        upsert=True,
    )
