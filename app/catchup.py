"""Reads a stretch of the change stream that lies behind: for who was away longer than memory reaches.

Few such reads run at once, however many clients ask: each starts at the oldest position that is waiting and serves
every waiter from its own point.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Literal

import structlog
from bson import Timestamp
from pymongo.errors import OperationFailure

from app.changes import Change, needs_lookup, read_change
from app.feed import AWAIT_MS, ENDS, HISTORY_LOST, IMAGES, PIPELINE
from app.history import History
from app.position import Position, following, token_time
from app.record import Record
from models.database_types import Database

log = structlog.get_logger("copydesk.catchup")

Read = Callable[[Position, Position], AsyncIterator[list[Change]]]


class NotCovered(Exception):  # noqa: N818 - an answer to a client
    """What lies between cannot be read whole; `reason` is the protocol's."""

    def __init__(self, reason: Literal["too_old", "too_many"]) -> None:
        super().__init__(reason)
        self.reason: Literal["too_old", "too_many"] = reason


class HistoryEnded(Exception):  # noqa: N818 - says what happened
    """The database was dropped in between: what comes after is another history."""


class Past:
    """A stretch that was read: everything from `history.start` to `until`."""

    __slots__ = ("history", "until")

    def __init__(self, history: History, until: Position) -> None:
        self.history, self.until = history, until


class CatchUp:
    """All such reads of the process."""

    def __init__(
        self,
        read: Read,
        *,
        here: Callable[[], Position],
        streams: int,
        max_events: int,
        max_seconds: float,
    ) -> None:
        """`here`: what listeners have been told up to now. One read takes at most `max_events` and `max_seconds`."""
        self._read, self._here = read, here
        self._streams, self._max_events, self._max_seconds = streams, max_events, max_seconds
        self._waiting: list[tuple[Position, asyncio.Future[Past]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def since(self, position: Position) -> Past:
        """Everything from `position` to about now. Raises `NotCovered`, or what the driver raises."""
        answer: asyncio.Future[Past] = asyncio.get_running_loop().create_future()
        self._waiting.append((position, answer))
        if len(self._running) < self._streams:
            task = asyncio.create_task(self._work())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    async def close(self) -> None:
        """End what is under way; called when nobody waits for it any more."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=5)

    async def _work(self) -> None:
        while self._waiting:
            waiting, self._waiting = sorted(self._waiting, key=lambda entry: entry[0]), []
            while waiting:
                waiting = await self._serve(waiting)

    async def _serve(
        self, waiting: list[tuple[Position, asyncio.Future[Past]]]
    ) -> list[tuple[Position, asyncio.Future[Past]]]:
        """One read for all who wait, oldest first; answers those whom a shorter read may still serve."""
        until = self._here()
        try:
            past = await self._stretch(waiting[0][0], until)
        except NotCovered as refusal:
            # Too long for the oldest is not too long for the rest: half of them are given up at a time. Too old is
            # found out at once, so that only those who are get that answer.
            given_up = max(1, len(waiting) // 2) if refusal.reason == "too_many" else 1
            for _, answer in waiting[:given_up]:
                _fail(answer, refusal)
            return waiting[given_up:]
        except Exception as error:  # noqa: BLE001 - told to each of those who wait
            for _, answer in waiting:
                _fail(answer, error)
            return []
        for position, answer in waiting:
            if not past.history.covers(position):
                _fail(answer, NotCovered("too_old"))
            elif not answer.done():
                answer.set_result(past)
        return []

    async def _stretch(self, start: Position, until: Position) -> Past:
        history = History(max_events=self._max_events + 1, max_bytes=2**62, max_seconds=float("inf"))
        history.begin(start)
        seen = 0
        try:
            async with asyncio.timeout(self._max_seconds):
                async for changes in self._read(start, until):
                    seen += len(changes)
                    if seen > self._max_events:
                        raise NotCovered("too_many")
                    for change in changes:
                        if change.lost or change.operation not in ("insert", "update", "replace", "delete"):
                            history.begin(change.position)
                        else:
                            history.extend([Record(change)])
        except TimeoutError:
            raise NotCovered("too_many") from None
        except HistoryEnded:
            raise NotCovered("too_old") from None
        except OperationFailure as error:
            if error.code not in HISTORY_LOST:
                raise
            raise NotCovered("too_old") from None
        log.info("caught_up", events=seen, since=start.time)
        return Past(history, until)


def _fail(answer: asyncio.Future[Past], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


async def read_stretch(database: Database, after: Position, until: Position) -> AsyncIterator[list[Change]]:
    """The watched changes after one position up to another, in order, in slices.

    Raises `HistoryEnded`, and `pymongo.errors.PyMongoError`: with a code in `app.feed.HISTORY_LOST` where the oplog
    does not reach back.
    """
    if after >= until:
        return
    stream = database.watch(
        PIPELINE,
        max_await_time_ms=AWAIT_MS,
        **IMAGES,
        start_at_operation_time=Timestamp(*after.time),
    )
    async with stream:
        position, changes = Position(*after.time), list[Change]()
        while position < until:
            document = await stream.try_next()
            if document is None:
                reached = token_time(stream.resume_token)
                if reached is not None and reached >= until.time:
                    break
            elif document["operationType"] in ENDS:
                raise HistoryEnded
            else:
                position = following(position, (document["clusterTime"].time, document["clusterTime"].inc))
                if after < position <= until:
                    current = await _look_up(database, document) if needs_lookup(document) else None
                    changes.append(read_change(document, position, current=current))
            if changes and (document is None or len(changes) >= 100):
                yield changes
                changes = []
        if changes:
            yield changes


async def _look_up(database: Database, document: dict[str, object]) -> dict[str, object] | None:
    """The document as it is now, for a change whose image is missing."""
    collection = document["ns"]["coll"]  # type: ignore[index]  # the shape of every change-stream document
    found: dict[str, object] | None = await database[collection].find_one(document["documentKey"])
    return found
