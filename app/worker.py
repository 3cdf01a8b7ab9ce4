"""What is done once among all processes: the change log and notifications. Runs where the lease is held.

It works off the same changes as the listeners get, keeps its own position in the database, and catches up from there
when the lease changes hands. What it writes has ids that follow from the change, so doing it twice does it once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from pymongo.errors import OperationFailure, PyMongoError

from app.activity_log import activities_of
from app.allowance import Pace
from app.catchup import HistoryEnded, read_stretch
from app.changes import Change
from app.feed import HISTORY_LOST
from app.lease import Lease
from app.metrics import Metrics
from app.notifications import Notifications
from app.position import Position
from app.relay import Relay
from models.activity import ActivityStore
from models.database_types import Database

log = structlog.get_logger("copydesk.worker")

QUEUE_LIMIT = 50_000
"""Changes that may wait here; with more, the worker reads them from the database again."""
LOT = 1000
"""Changes that are worked off together at most. The further behind, the more events of one entry are one write."""
SAVE_SECONDS = 5.0
"""How often the position is saved though nothing was written, so that it never falls off the oplog."""
REPEAT_SECONDS = 0.5
"""How often it is saved while there is something to write: a crash repeats no more, and a repetition does nothing."""
ROUNDS_PER_SECOND = 10
"""In a steady stream. What one change costs is mostly a round's queries, so that many are cheaper together."""
ROUNDS_AHEAD_SECONDS = 0.5
"""After a pause the rounds of so long may follow one another at once: changes that come alone are not kept waiting."""
TICK_SECONDS = 0.5
"""How often the worker looks what is due, with changes or without."""
WORKED_OFF = frozenset({"projects", "items", "comments", "users", "postings"})
"""The collections whose changes have consequences. The worker's own writes are among the others, and are the most."""
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
        notifications: Notifications,
        retention: timedelta,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`retention`: how long the change log keeps its entries."""
        self._database, self._lease, self._relay = database, lease, relay
        self._activities, self._notifications = activities, notifications
        self._retention, self._metrics, self._clock = retention, metrics, clock
        self._queue: deque[Change] = deque()
        self._collecting = self._gap = False
        self._news = asyncio.Event()
        self._stopping = False
        self._done = Position(0, 0)
        self._saved_at = 0.0
        self._wrote = False
        """Whether something was written since the position was saved."""
        self._pace = Pace(ROUNDS_PER_SECOND, ahead=ROUNDS_AHEAD_SECONDS, clock=clock)
        relay.observers.append(self._observe)
        relay.loss_observers.append(self._observe_loss)

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
            if not self._lease.held or not self._relay.positioned.is_set():
                # `gained` outlives the lease by up to one renewal. And as long as the relay has no position, nobody
                # knows how far there is to catch up.
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
        news = [change for change in changes if change.collection in WORKED_OFF]
        if not news:
            return
        self._queue.extend(news)
        if len(self._queue) > QUEUE_LIMIT:
            self._queue.clear()
            self._observe_loss()
        self._news.set()

    def _observe_loss(self) -> None:
        """What comes next does not join on to what is queued: the stretch between has to be read from the database."""
        if self._collecting:
            self._collecting, self._gap = False, True
            self._news.set()

    async def _hold(self) -> None:
        """From taking over to losing the lease, or to a gap in what the relay tells."""
        self._queue.clear()
        self._gap, self._collecting = False, True
        joined = self._relay.position
        self._done = await self._load()
        await self._catch_up(joined)
        while self._lease.held and not self._stopping:
            try:
                await asyncio.wait_for(self._news.wait(), TICK_SECONDS)
            except TimeoutError:
                await self._rest()
                continue
            self._news.clear()
            changes = [self._queue.popleft() for _ in range(min(len(self._queue), LOT))]
            if changes:
                await self._work_off(changes)
            await self._notifications.tick()
            if self._queue:
                # What came meanwhile waits for its round, unless that would be a full one.
                self._news.set()
                if len(self._queue) >= LOT:
                    continue
            elif self._gap:
                await self._save(self._done)
                return
            await asyncio.sleep(self._pace.take())
        if self._wrote:
            await self._save(self._done)

    async def _rest(self) -> None:
        """Nothing changed for a moment."""
        await self._notifications.tick()
        if self._save_is_due():
            await self._save(self._relay.position if not self._queue and not self._gap else self._done)

    async def _catch_up(self, until: Position) -> None:
        """What was missed while nobody held the lease, or in a gap."""
        try:
            async for changes in read_stretch(self._database, self._done, until, of=WORKED_OFF, at_once=LOT):
                await self._work_off(changes)
        except (HistoryEnded, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code not in HISTORY_LOST:
                raise
            log.exception("worker_history_lost", missing="activities and notifications", since=self._done, until=until)
        await self._save(max(until, self._done))

    async def _work_off(self, changes: Sequence[Change]) -> None:
        entries = [entry for change in changes for entry in activities_of(change, retention=self._retention)]
        if entries:
            self._metrics.activities_written.inc(await self._activities.add_many(entries))
        told = await self._notifications.work_off(changes)
        self._wrote |= bool(entries) or told
        self._done = max(self._done, changes[-1].position)
        if self._save_is_due():
            await self._save(self._done)

    def _save_is_due(self) -> bool:
        return self._clock() - self._saved_at >= (REPEAT_SECONDS if self._wrote else SAVE_SECONDS)

    async def _load(self) -> Position:
        """Where the last holder got to."""
        await set_out(self._database)  # again, where somebody dropped the collection meanwhile
        document = await self._database.leases.find_one({"_id": _PROGRESS_ID})
        return Position(**document["position"])

    async def _save(self, position: Position) -> None:
        """Forward only: a holder that woke up late must not take the others back."""
        self._done = max(self._done, position)
        self._saved_at, self._wrote = self._clock(), False
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
