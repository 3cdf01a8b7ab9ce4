"""One change's way from the feed to everyone concerned: understand, remember, apply rights, tell.

The order within one change is fixed: what other parts of the process believe (rights, users, runtime settings) is put
right before any listener hears of the change.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import structlog
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from app.access import Access
from app.catchup import look_up
from app.changes import CONTENTS, SHAPES, Change, needs_lookup, read_change
from app.feed import Batch, ChangeFeed
from app.history import History
from app.hub import Hub
from app.metrics import Metrics
from app.position import Position, following
from app.record import Record
from app.topics import is_inbox, is_project
from models.database_types import Database
from models.fields import Report, stamp, utc_now

log = structlog.get_logger("copydesk.relay")

SLICE = 250
"""Changes worked off before other work of the event loop gets its turn."""


class Consequences(Protocol):
    """What else has to follow a change besides telling listeners; `app.main` decides."""

    def user_changed(self, user_id: str, document: Mapping[str, Any] | None) -> None: ...

    def session_changed(self, session_id: str, *, ended: bool) -> None: ...

    def meta_changed(self, document_id: str, document: Mapping[str, Any] | None) -> None: ...

    def collection_lost(self, collection: str) -> None: ...

    def everything_lost(self) -> None: ...


class Relay:
    """Consumes the feed. `run` ends when the feed does, and raises what nobody can survive."""

    def __init__(
        self,
        *,
        feed: ChangeFeed,
        history: History,
        hub: Hub,
        access: Access,
        consequences: Consequences,
        database: Database,
        metrics: Metrics,
        report: Report,
    ) -> None:
        self._feed, self._history, self._hub, self._access = feed, history, hub, access
        self._consequences, self._database = consequences, database
        self._metrics, self._report = metrics, report
        self._position = Position(0, 0)
        self.lag_seconds = 0.0
        """How old the last change was when it arrived here; 0 once everything that there was has been worked off."""
        self._due: tuple[float, float] = (math.inf, math.inf)
        self.observers: list[Callable[[Sequence[Change]], None]] = []
        """Told of every slice of changes after the listeners; must not block or raise."""
        self.loss_observers: list[Callable[[], None]] = []
        """Told that changes were lost, before any that come after them; must not block or raise."""
        self.positioned = asyncio.Event()
        """Set once the feed is open and has worked off what lay behind it."""

    @property
    def position(self) -> Position:
        """Everything up to here has been worked off."""
        return self._position

    async def run(self) -> None:
        async for batch in self._feed.batches():
            if batch.start is not None:
                self._begin(batch)
            for start in range(0, len(batch.changes), SLICE):
                await self._work_off(batch.changes[start : start + SLICE])
                await asyncio.sleep(0)
            if batch.reached is not None:
                self._reach(Position(*batch.reached))
                self._hub.settle(batch.reached)
                self.lag_seconds = 0.0
            # Not at the first pause of the stream: where others never stop writing there is none.
            if self._position.time >= self._due:
                self.positioned.set()

    def _begin(self, batch: Batch) -> None:
        """The stream was opened at a time instead of after a token: nothing older is known here."""
        if batch.start is None or batch.now is None:
            raise ValueError("only for batches that start anew")
        self._due = batch.now.time
        self._history.begin(batch.start)
        self._access.forget_all()
        self._reach(batch.start)
        if batch.lost is not None:
            log.error("history_lost", reason=batch.lost)
            self._consequences.everything_lost()
            self._hub.reset(batch.lost)
            for observer in self.loss_observers:
                observer()

    def _reach(self, position: Position) -> None:
        if position > self._position:
            self._position = position
            self._hub.advance(position)

    async def _work_off(self, documents: Sequence[Mapping[str, Any]]) -> None:
        changes = []
        for document in documents:
            position = self._next_position(document)
            current, failed = await self._look_up(document) if needs_lookup(document) else (None, False)
            changes.append(self._read(document, position, current))
            change = changes[-1]
            change.lost |= failed
            self._metrics.events_in.labels(change.collection, change.operation).inc()
            if change.problem is not None:
                self._report(change.collection, document["documentKey"]["_id"], change.problem)
        moment = documents[-1].get("wallTime") if documents else None
        if isinstance(moment, datetime):
            self.lag_seconds = max(0.0, (utc_now() - moment).total_seconds())
        self._publish(changes)
        if documents:
            self._hub.settle(_settled_by(documents[-1]))

    def _read(self, document: Mapping[str, Any], position: Position, current: Mapping[str, Any] | None) -> Change:
        """A change that we cannot understand at all must not end the feed of everyone: they are told to read again."""
        try:
            return read_change(document, position, current=current)
        except Exception:
            log.exception("change_not_understood", position=position)
            return Change(
                collection=document["ns"]["coll"],
                operation=document["operationType"],
                id="",
                position=position,
                at=stamp(utc_now()),
                lost=True,
            )

    def _publish(self, changes: list[Change]) -> None:
        """Listeners hear of changes in one go, except that everything before a loss is told before the loss."""
        records: list[Record] = []
        for change in changes:
            try:
                self._follow(change)
            except Exception:
                log.exception("change_not_followed", position=change.position)
                change.lost = True
            gone = change.lost or change.operation in ("drop", "rename")
            record = None if gone else self._record(change)
            if record is None:
                self._tell(records, change.position)
                records = []
                self._lose(change)
            else:
                records.append(record)
        self._tell(records, self._position)
        for observer in self.observers:
            observer(changes)

    def _record(self, change: Change) -> Record | None:
        """None for what cannot be told, which must not end the feed of everyone either."""
        try:
            return Record(change)
        except Exception:
            log.exception("change_not_told", position=change.position)
            return None

    def _tell(self, records: list[Record], position: Position) -> None:
        self._history.extend(records)
        self._hub.publish(records, position)

    def _next_position(self, document: Mapping[str, Any]) -> Position:
        self._position = following(self._position, (document["clusterTime"].time, document["clusterTime"].inc))
        return self._position

    async def _look_up(self, document: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, bool]:
        """The document as it is now, and whether that could not be told: then everyone has to read again."""
        try:
            return await look_up(self._database, document), False
        except BSONError as error:
            # It cannot be read as it is stored, and so fits no shape: for callers it is not there.
            log.warning("look_up_failed", detail=str(error)[:300])
            return None, False
        except PyMongoError as error:
            log.warning("look_up_failed", detail=str(error)[:300])
            return None, True

    def _follow(self, change: Change) -> None:
        """What the process believes is put right before anyone hears of the change."""
        match change.collection:
            case "projects":
                self._access.forget(change.id)
            case "users":
                self._consequences.user_changed(change.id, change.raw_after)
            case "sessions":
                self._consequences.session_changed(change.id, ended=change.operation == "delete")
            case "meta":
                self._consequences.meta_changed(change.id, change.raw_after)

    def _lose(self, change: Change) -> None:
        """Nobody can tell what listeners miss: they read again. The ring must not replay over it either."""
        self._history.begin(change.position)
        if change.operation in ("drop", "rename"):
            log.error("collection_lost", collection=change.collection, operation=change.operation)
            self._access.forget_all()
            self._consequences.collection_lost(change.collection)
            self._hub.reset("collection_lost")
        elif change.collection == "projects":
            self._hub.reset("image_missing")
        elif change.collection in SHAPES:
            concerned = is_inbox if change.collection in ("notifications", "inboxes") else is_project
            self._hub.reset("image_missing", concerned)
        else:
            self._consequences.everything_lost()


def _settled_by(document: Mapping[str, Any]) -> tuple[int, int]:
    """The clusterTime of which nothing more comes after this change that is shown in a project.

    The changes of a transaction share theirs. So may those of one `deleteMany` or `insertMany` from MongoDB 7 on; they
    are of one collection and do not tell that they belong together.
    """
    time = document["clusterTime"]
    together = document["operationType"] in ("insert", "delete") and document["ns"]["coll"] in CONTENTS
    return time.time, time.inc - ("txnNumber" in document or together)
