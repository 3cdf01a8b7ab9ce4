"""Reads a stretch of the change stream that lies behind: for who was away longer than memory reaches.

Few such reads run at once, however many clients ask: each starts at the oldest position that is waiting and serves
every waiter from its own point.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, Literal

import structlog
from bson import Timestamp
from bson.errors import BSONError
from pymongo.errors import OperationFailure, PyMongoError

from app.changes import Change, needs_lookup, read_change
from app.feed import AWAIT_MS, ENDS, HISTORY_LOST, IMAGES, KEYS, PIPELINE, AnotherPrimary, Mode, is_unreadable
from app.history import History
from app.position import Position, following, token_time
from app.record import Record
from models.database_types import Database
from models.schema import WATCHED

log = structlog.get_logger("copydesk.catchup")

_READ_AT_ONCE = 100

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


async def read_stretch(
    database: Database, after: Position, until: Position, *, of: Collection[str] = WATCHED, at_once: int = 100
) -> AsyncIterator[list[Change]]:
    """The changes of some watched collections after one position up to another, in order, `at_once` or fewer.

    The others are counted, or positions would not agree with those of the feed, and left out. A change that cannot be
    read is stepped over as `app.feed.ChangeFeed` does it: it comes without its documents.
    Raises `HistoryEnded`, and `pymongo.errors.PyMongoError`: with a code in `app.feed.HISTORY_LOST` where the oplog
    does not reach back.
    """
    if after >= until:
        return
    position, changes = Position(*after.time), list[Change]()
    async with aclosing(_stream(database, after.time, of)) as stream:
        async for document, reached in stream:
            if document is None:
                done = reached is not None and reached >= until.time
            elif document["operationType"] in ENDS:
                if changes:
                    yield changes
                raise HistoryEnded
            else:
                position = following(position, (document["clusterTime"].time, document["clusterTime"].inc))
                done = position >= until
                if after < position <= until and document["ns"]["coll"] in of:
                    current = await _current(database, document) if needs_lookup(document) else None
                    changes.append(read_change(document, position, current=current))
            if changes and (document is None or done or len(changes) >= at_once):
                yield changes
                changes = []
            if done:
                return


async def _stream(
    database: Database, time: tuple[int, int], of: Collection[str]
) -> AsyncGenerator[tuple[Mapping[str, Any] | None, tuple[int, int] | None], None]:
    """What the stream brings from a time on, None where it pauses, each with the time that it has reached."""
    mode: Mode = "normal"
    start: tuple[int, int] | Mapping[str, Any] = time
    document: Mapping[str, Any] | None = None
    while True:
        try:
            async with aclosing(_documents(database, start, mode, of)) as reading:
                async for document, start in reading:
                    yield document, token_time(start)
        except (PyMongoError, BSONError) as error:
            if not is_unreadable(error) or mode == "keys":
                raise
            mode = "careful" if mode == "normal" else "keys"
        else:
            # Carefully until the one is met that cannot be read.
            if mode == "keys" or document is None:
                mode = "normal"


async def _documents(
    database: Database, start: tuple[int, int] | Mapping[str, Any], mode: Mode, of: Collection[str]
) -> AsyncGenerator[tuple[Mapping[str, Any] | None, Mapping[str, Any]], None]:
    """The same from a time on or after a token, each with the token to go on from.

    Careful, or by keys: only one, because the driver asks for two at a time after the first.
    """
    place = {"start_at_operation_time": Timestamp(*start)} if isinstance(start, tuple) else {"start_after": start}
    stream = database.watch(
        [*PIPELINE, KEYS] if mode == "keys" else [*PIPELINE, *_without_documents(of)],
        max_await_time_ms=AWAIT_MS,
        batch_size=None if mode == "normal" else 1,
        **({} if mode == "keys" else IMAGES),
        **place,
    )
    async with stream:
        yield await stream.try_next(), stream.resume_token
        member = database.client.primary
        while mode == "normal":
            reading = asyncio.ensure_future(asyncio.to_thread(_batch, stream.delegate))
            try:
                found, problem = await asyncio.shield(reading)
            except asyncio.CancelledError:
                await reading  # or the stream would be closed while it is read
                raise
            for each in found:
                yield each
            if problem is not None:
                raise problem
            if found[-1][0] is None and database.client.primary not in (None, member):
                raise AnotherPrimary(f"The primary is not {member} any more.")


def _batch(stream: Any) -> tuple[list[tuple[Mapping[str, Any] | None, Mapping[str, Any]]], Exception | None]:
    """What has come, up to a pause, and what went wrong then. A way to the thread and back costs more than reading."""
    found: list[tuple[Mapping[str, Any] | None, Mapping[str, Any]]] = []
    try:
        while len(found) < _READ_AT_ONCE:
            document = stream.try_next()
            found.append((document, stream.resume_token))
            if document is None:
                break
    except (PyMongoError, BSONError) as problem:
        return found, problem
    return found, None


def _without_documents(of: Collection[str]) -> list[dict[str, Any]]:
    """The stage that spares the way for documents of other collections than these."""
    if set(of) >= set(WATCHED):
        return []
    kept = {"$in": ["$ns.coll", list(of)]}
    images = ("fullDocument", "fullDocumentBeforeChange")
    return [{"$set": {image: {"$cond": [kept, f"${image}", "$$REMOVE"]} for image in images}}]


async def _current(database: Database, document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """As `look_up`; where nobody can read the document, it is as good as gone."""
    try:
        return await look_up(database, document)
    except BSONError:
        return None


async def look_up(database: Database, document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The document as it is now, for a change whose image is missing; good for routing it.

    Raises `pymongo.errors.PyMongoError`, and `bson.errors.BSONError` where nobody can read it.
    """
    found: Mapping[str, Any] | None = await database[document["ns"]["coll"]].find_one(document["documentKey"])
    return found
