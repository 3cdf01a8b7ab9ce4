"""The one change stream of the process: reads, keeps its place, comes back after faults, says so when history is lost.

Motor opens the stream; one dedicated thread reads it, because Motor's own iteration costs a thread hop per change
(3,300 changes/s against 27,000). The thread appends to a list and wakes the event loop only when no wake-up is pending.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol

import structlog
from bson import Timestamp
from bson.errors import BSONError
from pymongo.errors import OperationFailure, PyMongoError

from app.position import Position, token_time
from app.stream_cursor import is_drained, wait_at_most
from models.database_types import Database
from models.schema import WATCHED

log = structlog.get_logger("copydesk.feed")

AWAIT_MS = 100
"""How long the server waits for a change before it tells the time it has reached; a quiet `live` waits for that."""
SETTLE_MS = 20
"""The same after a change: what waits to hear that it was the last one of its moment waits for this. Longer than the
changes of a busy project are apart, because each empty answer costs about as much as a change."""
FEW = 5
LET_GO_SECONDS = 0.002
"""With fewer than so many changes on their way the reading thread lets the event loop tell of them first. Otherwise it
goes on to ask for the next, and the loop waits a quarter of a millisecond for the interpreter's lock."""
LET_GO_AGAIN_AFTER = 50
"""Changes. Where the loop needs longer, for many listeners, that is nothing to them and the switching costs 3 %."""
QUEUE_LIMIT = 2_000
"""Changes that the reading thread may be ahead of the event loop. Each may hold two images of a large document."""
OPERATIONS = ("insert", "update", "replace", "delete", "drop", "rename")
# Only on the collection and the operation: a filter on documents would make the own token fatal after a failover.
# `to`: another collection may be renamed over one of ours, which is how `$out` writes.
# The ends: without them the stream of a dropped database would die unexplained, and die again at every resume.
ENDS = ("dropDatabase", "invalidate")
PIPELINE: list[dict[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": list(OPERATIONS)}, "ns.coll": {"$in": list(WATCHED)}},
                {"operationType": {"$in": list(OPERATIONS)}, "to.coll": {"$in": list(WATCHED)}},
                {"operationType": {"$in": list(ENDS)}},
            ]
        }
    }
]
IMAGES = {"full_document": "whenAvailable", "full_document_before_change": "whenAvailable"}
KEYS = {
    "$project": {
        **dict.fromkeys(("operationType", "ns", "to", "documentKey", "clusterTime", "wallTime", "txnNumber"), 1),
        "updateDescription.updatedFields.project_id": 1,
    }
}
"""What is read of a change whose documents cannot be: over 16 MB, or not decodable."""

HISTORY_LOST = frozenset({136, 260, 280, 286, 9, 15, 40647, 50811})
"""Error codes after which the same token would fail for ever: capped history, and tokens the server cannot use."""
TOO_LARGE = 10334
"""A change with its images is over 16 MB. It comes back at every resume with the same options."""

Mode = Literal["normal", "careful", "keys"]
"""How the stream is read. After a change that cannot be read: *careful*, one change for each opening, as the driver
asks for two at a time after the first, until that one is met, since MongoDB keeps back what lies before it in a batch;
then *keys*, that one change without its documents."""

Lost = Literal["too_old", "unknown"]
Address = tuple[str, int]


class AnotherPrimary(PyMongoError):  # noqa: N818 - says what happened
    """The member that is read is not the primary any more. It goes on answering, but where it is cut off from the
    others it never hears of what they commit, and a stream that was opened on it would be silent without an error."""


class Stream(Protocol):
    """What the reading thread uses of PyMongo's ChangeStream."""

    @property
    def alive(self) -> bool: ...

    @property
    def resume_token(self) -> Mapping[str, Any] | None: ...

    def try_next(self) -> Mapping[str, Any] | None: ...

    def close(self) -> None: ...


class Batch:
    """What piled up since the last one: changes, and the time the stream has reached beyond them."""

    __slots__ = ("changes", "lost", "now", "reached", "start")

    def __init__(
        self,
        changes: list[Mapping[str, Any]],
        reached: tuple[int, int] | None,
        *,
        lost: Lost | None = None,
        start: Position | None = None,
        now: Position | None = None,
    ) -> None:
        self.changes, self.reached = changes, reached
        self.lost: Lost | None = lost
        """The stream starts anew and what lies between is unknown: everyone has to read again."""
        self.start = start
        """Where a stream that was just opened starts; only on the first batch and where history was lost."""
        self.now = now
        """With `start`: the database's time before the stream was opened. Whoever has come so far is up to date."""


class ChangeFeed:
    """Owns the stream. `batches` is read by one consumer."""

    def __init__(
        self,
        database: Database,
        *,
        begun: tuple[int, int] = (0, 0),
        history_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`begun`: the moment of the database's clock before which nothing is of use to anybody."""
        self._database, self._history_seconds, self._stale_seconds = database, history_seconds, stale_seconds
        self._begun = Position(*begun)
        self._skipping = threading.Event()
        self._clock, self._jitter = clock, jitter
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._piled: list[Mapping[str, Any]] = []
        self._reached: Mapping[str, Any] | None = None
        self._waking = False
        self._worked_off = threading.Event()
        """Set while the event loop waits for changes."""
        self._busy_for = 0
        """For how many changes the loop is taken to be busy."""
        self._woken = asyncio.Event()
        self._stopping = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="change-stream")
        self._token: Mapping[str, Any] | None = None
        self._member: Address | None = None
        """Who was the primary when the stream was opened; None where the client was told of one server alone."""
        self._mode: Mode = "normal"
        self._stepped = False
        """Whether the opening was all that is read carefully, or brought the one change that is read by its keys."""
        self._brought = False
        """Whether the opening brought a change."""
        self._heard_at = clock()
        self._failures = 0
        self._loop: asyncio.AbstractEventLoop
        self.reopened: dict[str, int] = {}
        """How often the stream was opened again, by reason."""

    # -- how it is doing ----------------------------------------------------------------------------------------------

    @property
    def silent_seconds(self) -> float:
        """Since the database's primary last answered the stream."""
        return max(0.0, self._clock() - self._heard_at)

    @property
    def stale(self) -> bool:
        """Whether the stream has lost touch: what listeners see may be behind."""
        return self.silent_seconds > self._stale_seconds

    # -- reading ------------------------------------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[Batch]:
        """Every batch, in order, until `stop`. Faults are survived; what cannot be survived is raised."""
        self._loop = asyncio.get_running_loop()
        now = await self._now()
        # Some time back, so that clients of a restarted server are resumed from its ring.
        back = Position(max(1, now.seconds - int(self._history_seconds)), 1)
        start: Position | None = max(back, min(self._begun, now))
        lost: Lost | None = None
        first = True
        while not self._stopping.is_set():
            fault: BaseException | None
            try:
                stream = await self._open(start)
            except (PyMongoError, BSONError) as error:
                fault = error
            else:
                if start is not None:
                    # Only now that the stream is open: whoever reads again on hearing this misses nothing after it.
                    yield Batch([], None, start=start, lost=lost, now=now)
                    start, lost, first = None, None, False
                reading = self._loop.run_in_executor(self._executor, self._read, stream)
                async for batch in self._handed_over(reading):
                    if batch.changes:
                        self._failures = 0
                    yield batch
                fault = _error_of(reading)
            if self._stopping.is_set():
                return
            skipping = self._skipping.is_set()
            if not skipping and self._step(fault):
                continue
            if skipping or _is_history_lost(fault):
                # The oplog of a young database does not reach back: nothing is lost, there is nothing older.
                lost = None if first or skipping else "too_old"
                self._skipping.clear()
                self._token = None
                start = now = await self._now()
            await self._back_off()

    def _step(self, fault: BaseException | None) -> bool:
        """On the way around a change that cannot be read: choose how to read next. False where that is no cure."""
        if fault is None and self._mode != "normal":
            if self._mode == "keys" or not self._brought:
                self._mode = "normal"
            return True
        self._count(fault)
        if is_unreadable(fault):
            self._mode = "careful" if self._mode == "normal" else "keys"
            return True
        return False

    def _count(self, fault: BaseException | None) -> None:
        self._failures += 1
        reason = type(fault).__name__ if fault is not None else "ended"
        if isinstance(fault, OperationFailure):
            reason = f"{reason} {fault.code}"
        self.reopened[reason] = self.reopened.get(reason, 0) + 1
        log.warning("change_stream_reopening", reason=reason, detail=str(fault)[:300] if fault else None)

    def skip(self) -> None:
        """Go on with the present, as if everything up to now had never been asked for."""
        self._skipping.set()

    async def stop(self) -> None:
        """Let the reading thread finish its call and end. Never cancels a read: that would kill the cursor half way."""
        self._stopping.set()
        with self._lock:
            self._room.notify_all()
        self._woken.set()
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)

    async def _now(self) -> Position:
        """The database's present time."""
        while True:
            try:
                reply = await self._database.command("ping")
                moment = reply["operationTime"]
                return Position(moment.time, moment.inc)
            except PyMongoError as error:
                if self._stopping.is_set():
                    raise
                self._failures += 1
                log.warning("database_unreachable", detail=str(error)[:300])
                await self._back_off()

    async def _open(self, start: Position | None) -> Stream:
        """Open at a time, or after the last token. Raises `PyMongoError`."""
        place = {"start_after": self._token} if start is None else {"start_at_operation_time": Timestamp(*start.time)}
        stream = self._database.watch(
            [*PIPELINE, KEYS] if self._mode == "keys" else PIPELINE,
            max_await_time_ms=AWAIT_MS,
            batch_size=None if self._mode == "normal" else 1,
            **({} if self._mode == "keys" else IMAGES),
            **place,
        )
        known: Address | None = self._database.client.primary
        # Motor opens the cursor with the first read; the document that this may bring is handed on like the others.
        first = await stream.try_next()
        # If there is another primary by now, the next pause of the stream finds that out.
        self._member = known or self._database.client.primary
        self._heard_at = self._clock()
        self._take(first, stream.resume_token)
        self._brought = first is not None
        self._stepped = self._mode == "careful" or (self._mode == "keys" and self._brought)
        delegate: Stream = stream.delegate
        return delegate

    async def _back_off(self) -> None:
        """At once the first time, then up to 5 s with full jitter."""
        if self._failures > 1:
            await asyncio.sleep(self._jitter() * min(5.0, 0.1 * 2.0 ** min(self._failures, 10)))

    # -- the reading thread -------------------------------------------------------------------------------------------

    def _read(self, stream: Stream) -> None:
        """Runs in the reading thread until the stream ends, fails or is told to stop."""
        mode = self._mode
        restless = False
        try:
            while not self._stopping.is_set() and not self._skipping.is_set() and not self._stepped and stream.alive:
                change = stream.try_next()
                if restless != (change is not None):
                    restless = change is not None
                    wait_at_most(stream, SETTLE_MS if restless else AWAIT_MS)
                self._hear(change)
                self._take(change, None if change is not None else stream.resume_token)
                if change is not None and len(self._piled) < FEW and is_drained(stream):
                    self._let_go()
                if mode == "keys" and change is not None:
                    return
        finally:
            stream.close()

    def _let_go(self) -> None:
        if self._busy_for > 0:
            self._busy_for -= 1
        elif not self._worked_off.wait(LET_GO_SECONDS):
            self._busy_for = LET_GO_AGAIN_AFTER

    def _hear(self, change: Mapping[str, Any] | None) -> None:
        """Something was read. That nothing happened is believed only of the primary. Raises `AnotherPrimary`."""
        primary = self._member if change is not None else self._database.client.primary
        if primary == self._member:
            self._heard_at = self._clock()
        elif primary is not None:
            raise AnotherPrimary(f"The primary is {primary}, and not {self._member} any more.")

    def _take(self, change: Mapping[str, Any] | None, reached: Mapping[str, Any] | None) -> None:
        with self._lock:
            if change is not None:
                self._token, self._reached = change["_id"], None
                if change["operationType"] in ENDS:
                    log.error("database_dropped", operation=change["operationType"])
                    return
                self._piled.append(change)
            elif reached is not None:
                if reached == self._reached:
                    return
                self._token = self._reached = reached
            else:
                return
            wake = not self._waking
            self._waking = True
            self._worked_off.clear()
            while len(self._piled) >= QUEUE_LIMIT and not self._stopping.is_set() and not self._skipping.is_set():
                self._room.wait(1.0)
        if wake:
            self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop was closed under us: the process is ending
            self._stopping.set()

    async def _handed_over(self, reading: asyncio.Future[None]) -> AsyncIterator[Batch]:
        """What the thread piled up, whenever it did, until the thread is done and nothing is left."""
        reading.add_done_callback(lambda _done: self._woken.set())
        while True:
            with self._lock:
                if not self._waking:
                    self._worked_off.set()
            await self._woken.wait()
            self._woken.clear()
            done = reading.done()
            with self._lock:
                piled, self._piled = self._piled, []
                reached = self._reached
                self._waking = False
                self._room.notify_all()
            if piled or reached is not None:
                yield Batch(piled, token_time(reached))
            if done:
                return


def _is_history_lost(fault: BaseException | None) -> bool:
    """Whether the same token would fail for ever."""
    return isinstance(fault, OperationFailure) and fault.code in HISTORY_LOST and not _is_resumable(fault)


def _is_resumable(fault: PyMongoError) -> bool:
    """Whether MongoDB itself says that the same token is good."""
    return fault.has_error_label("ResumableChangeStreamError")


def is_unreadable(fault: BaseException | None) -> bool:
    """Whether it is a change itself that cannot be read: reading it again the same way fails again."""
    return isinstance(fault, BSONError) or getattr(fault, "code", None) == TOO_LARGE


def _error_of(reading: asyncio.Future[None]) -> BaseException | None:
    """How the reading ended. What is no driver's error is a defect of ours and is raised."""
    error = reading.exception()
    if error is None or isinstance(error, PyMongoError | BSONError):
        return error
    raise error
