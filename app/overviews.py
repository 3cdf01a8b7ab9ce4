"""Overviews that were read before and still hold: the change stream tells when one does not.

A project's page is opened by many editors, again and again by those who poll, and reading it anew is dear for a large
project. What is kept is what is the same for everybody, as the bytes that are sent. It is good at a moment of MongoDB's
clock if nothing of the project changed between the snapshot it was read in and that moment, and the relay has heard of
everything until then. The moment is asked for after the request came, so that nobody misses what was acknowledged to
them before; MongoDB tells it with the one number of an overview that is the caller's own.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
from pymongo.errors import PyMongoError

from app.changes import Change
from app.history import History
from app.hub import Hub
from app.metrics import Metrics
from models.overview import OverviewStore
from models.page import PageRequest


class Kept:
    """What is the same for everybody, or the place for it while it is read."""

    __slots__ = ("beginnings", "body", "done", "since", "time", "took_seconds")

    def __init__(self, since: tuple[int, int], beginnings: int) -> None:
        self.since, self.beginnings = since, beginnings
        """The clusterTime since when nothing of the project can change unnoticed, while the history does not begin
        anew."""
        self.body = b""
        """A JSON object. Empty while it is read, and where it is not to be kept."""
        self.time = (0, 0)
        """The clusterTime of the snapshot."""
        self.took_seconds = 0.0
        self.done = asyncio.Event()


class Overviews:
    """Reads overviews, each once for as long as nothing changes."""

    def __init__(self, store: OverviewStore, *, hub: Hub, history: History, metrics: Metrics, max_bytes: int) -> None:
        """`max_bytes`: of all that is kept; what was not asked for the longest goes first."""
        self._store, self._hub, self._history, self._metrics = store, hub, history, metrics
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self.bytes = 0

    async def read(self, project_id: str, items: PageRequest, *, user_id: str) -> tuple[bytes, int]:
        """What everybody sees, as a JSON object, and what is unread of it in the inbox of `user_id`.

        Raises `NotFound`. `items` must be the same for all, but for its position.
        """
        # Somebody else may be reading it just now, perhaps from before this request: then there may be another such.
        for _attempt in range(2):
            kept = self._kept.get(project_id)
            if kept is None:
                break
            await kept.done.wait()
            try:
                unread, moment = await self._store.unread(project_id, user_id)
            except PyMongoError:
                break  # the driver tries again what is read in whole
            if await self._is_good(project_id, kept, moment):
                self._metrics.overviews.labels("kept").inc()
                return kept.body, unread
            if self._kept.get(project_id) is kept:
                break  # the news is late
        return await self._read(project_id, items, user_id)

    def follow(self, changes: Sequence[Change]) -> None:
        """Changes were published: what they concern is read anew."""
        for change in changes:
            if change.collection == "projects":
                self._drop(change.id)
            elif change.collection in ("items", "comments"):
                for document in (change.raw_before, change.raw_after):
                    project_id = None if document is None else document.get("project_id")
                    # Not `isinstance`: BSON's code arrives as a kind of `str` that nothing can be looked up by.
                    if type(project_id) is str:
                        self._drop(project_id)

    async def _read(self, project_id: str, items: PageRequest, user_id: str) -> tuple[bytes, int]:
        self._drop(project_id)
        kept = self._kept[project_id] = Kept(self._hub.position.time, self._history.beginnings)
        begun = time.monotonic()
        self._metrics.overviews.labels("read").inc()
        try:
            moment = await self._store.read(project_id, items, user_id=user_id)
            body = msgspec.json.encode(moment.contents)
            kept.time = moment.time
            kept.took_seconds = time.monotonic() - begun
            # A snapshot may be older than what was published: then nobody tells of what lies between.
            if self._kept.get(project_id) is kept and moment.time >= kept.since:
                kept.body = body
                self.bytes += len(body)
        finally:
            kept.done.set()
            if not kept.body and self._kept.get(project_id) is kept:
                del self._kept[project_id]
            self._make_room()
        return body, moment.unread

    async def _is_good(self, project_id: str, kept: Kept, moment: tuple[int, int]) -> bool:
        """Whether what is kept holds then. Waits for the news of that no longer than reading anew would take."""
        if not kept.body or kept.beginnings != self._history.beginnings:
            return False
        if moment <= kept.time:
            return True
        if self._hub.settled < moment:
            settled = asyncio.Event()
            forget = self._hub.when_settled(moment, settled.set)
            try:
                async with asyncio.timeout(kept.took_seconds):
                    await settled.wait()
            except TimeoutError:
                return False
            finally:
                forget()
        if self._kept.get(project_id) is not kept:
            return False
        self._kept.move_to_end(project_id)
        return kept.beginnings == self._history.beginnings

    def _drop(self, project_id: str) -> None:
        kept = self._kept.pop(project_id, None)
        if kept is not None:
            self.bytes -= len(kept.body)

    def _make_room(self) -> None:
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
