"""Overviews that were read before and still hold: the change stream tells when one does not.

A project's page is opened by many editors, again and again by those who poll, and reading it anew is dear for a large
project. What is kept is what is the same for everybody, as the bytes that are sent. It is good at a moment of MongoDB's
clock if nothing of the project changed between the snapshot it was read in and that moment, and the relay has heard of
everything until then. The moment is asked for after the request came, so that nobody misses what was acknowledged to
them before; MongoDB tells it with the one number of an overview that is the caller's own.

Where something did change, the stream has told what: only that is read, and the rest is taken from what is kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
from pymongo.errors import PyMongoError

from app.changes import CONTENTS, Change
from app.history import History
from app.hub import Hub
from app.metrics import Metrics
from models.fields import may_be_id
from models.overview_store import OverviewStore
from models.overview_update import Earlier, Time, Touched, thread_of
from models.page import PageRequest

MAX_TOUCHED = 500
"""Threads and items of one project that are read by their names; with more of them all of it is read."""


class Kept:
    """What is the same for everybody, or the place for it while it is read."""

    __slots__ = (
        "answer", "beginnings", "body", "can_be_earlier", "done", "number", "since", "time", "took_seconds", "touched",
        "touched_at",
    )  # fmt: skip

    def __init__(self, number: int, since: Time, beginnings: int) -> None:
        self.number = number
        """The later it was begun, the higher."""
        self.since, self.beginnings = since, beginnings
        """The clusterTime since when nothing of the project can change unnoticed, while the history does not begin
        anew."""
        self.touched = Touched()
        """What changed since `time`; while it is read, also what changed shortly before."""
        self.touched_at: Time = (0, 0)
        """The clusterTime of the latest of these changes."""
        self.answer: bytes | None = None
        """What was read, a JSON object, for those who waited for it; None where that failed."""
        self.body = b""
        """The same, where it is to be kept."""
        self.can_be_earlier = True
        """Whether a later one can be made from it."""
        self.time: Time = (0, 0)
        """The clusterTime of the snapshot, or a later one with which the overview would be the same."""
        self.took_seconds = 0.0
        """How long it takes to read all of it, as last measured."""
        self.done = asyncio.Event()


class Overviews:
    """Reads overviews, each once for as long as nothing changes."""

    def __init__(self, store: OverviewStore, *, hub: Hub, history: History, metrics: Metrics, max_bytes: int) -> None:
        """`max_bytes`: of all that is kept; what was not asked for the longest goes first."""
        self._store, self._hub, self._history, self._metrics = store, hub, history, metrics
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._begun = 0
        self.bytes = 0

    async def read(self, project_id: str, items: PageRequest, *, user_id: str) -> tuple[bytes, int]:
        """What everybody sees, as a JSON object, and what is unread of it in the inbox of `user_id`.

        Raises `NotFound`. `items` must be the same for all, but for its position.
        """
        begun = self._begun
        # Somebody else may be reading it just now.
        while (kept := self._kept.get(project_id)) is not None:
            await kept.done.wait()
            # What was begun after this request came shows all that was acknowledged before.
            is_later = kept.number > begun
            answer = kept.answer if is_later else kept.body
            if answer and (is_later or self._may_hold(kept)):
                try:
                    unread, moment = await self._store.unread(project_id, user_id)
                except PyMongoError:
                    break  # the driver tries again what is read in whole
                if is_later or await self._is_good(project_id, kept, moment):
                    self._metrics.overviews.labels("kept").inc()
                    return answer, unread
            if self._kept.get(project_id) is kept:
                break  # it changed, or the news is late
        return await self._read(project_id, items, user_id)

    def follow(self, changes: Sequence[Change]) -> None:
        """Changes were published: what they concern is read anew."""
        for change in changes:
            if change.collection not in CONTENTS:
                continue
            if change.thin:
                # Where the document was before it was as it is now, nobody can tell.
                for project_id in tuple(self._kept):
                    self._drop(project_id)
            elif change.collection == "projects":
                self._touch(change.id, change)
            else:
                for project_id in _projects_of(change):
                    self._touch(project_id, change)

    def _touch(self, project_id: str, change: Change) -> None:
        kept = self._kept.get(project_id)
        if kept is None:
            return
        if kept.body and not kept.touched:
            # MongoDB remembers some minutes only: what is kept holds for all of the time before this change.
            kept.time = max(kept.time, self._hub.settled)
        touched = _touched_by(change)
        if touched is None or len(kept.touched) + len(touched) > MAX_TOUCHED:
            self._drop(project_id)
        else:
            kept.touched, kept.touched_at = kept.touched | touched, change.position.time

    async def _read(self, project_id: str, items: PageRequest, user_id: str) -> tuple[bytes, int]:
        old = self._kept.get(project_id)
        self._drop(project_id)
        self._begun += 1
        kept = self._kept[project_id] = Kept(self._begun, self._hub.position.time, self._history.beginnings)
        earlier = None
        if old is not None and old.body and old.can_be_earlier and old.beginnings == kept.beginnings:
            earlier = self._earlier(project_id, old, kept)
        if old is not None:
            kept.took_seconds = old.took_seconds
        try:
            moment = await self._store.read(project_id, items, user_id=user_id, earlier=earlier)
            body = kept.answer = msgspec.json.encode(moment.contents)
            kept.time, kept.can_be_earlier = moment.time, moment.can_be_earlier
            if kept.touched_at <= kept.time:
                kept.touched = Touched()
            if moment.read_seconds is not None:
                kept.took_seconds = moment.read_seconds
            self._metrics.overviews.labels("renewed" if moment.read_seconds is None else "read").inc()
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

    def _earlier(self, project_id: str, old: Kept, new: Kept) -> Earlier:
        """What `new` can be made of while it is read. What `old` was not told any more, `new` was."""

        async def touched(until: Time) -> Touched | None:
            if await self._have_news(until, old.took_seconds) and self._is_followed(project_id, new):
                return old.touched | new.touched
            return None

        return Earlier(body=old.body, time=old.time, touched=touched)

    async def _is_good(self, project_id: str, kept: Kept, moment: Time) -> bool:
        """Whether what is kept holds then. Waits for the news of that no longer than reading anew would take."""
        if not self._may_hold(kept):
            return False
        if moment <= kept.time:
            return True
        if not await self._have_news(moment, kept.took_seconds):
            return False
        if kept.touched or not self._is_followed(project_id, kept):
            return False
        self._kept.move_to_end(project_id)
        return True

    def _may_hold(self, kept: Kept) -> bool:
        return not kept.touched and kept.beginnings == self._history.beginnings

    def _is_followed(self, project_id: str, kept: Kept) -> bool:
        """Whether everything that was published of the project since `kept.since` was told to this one."""
        return self._kept.get(project_id) is kept and kept.beginnings == self._history.beginnings

    async def _have_news(self, moment: Time, seconds: float) -> bool:
        """Whether the stream has brought everything up to a moment, within some seconds."""
        if self._hub.settled >= moment:
            return True
        settled = asyncio.Event()
        forget = self._hub.when_settled(moment, settled.set)
        try:
            async with asyncio.timeout(seconds):
                await settled.wait()
        except TimeoutError:
            return False
        finally:
            forget()
        return True

    def _drop(self, project_id: str) -> None:
        kept = self._kept.pop(project_id, None)
        if kept is not None:
            self.bytes -= len(kept.body)

    def _make_room(self) -> None:
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))


def _projects_of(change: Change) -> set[str]:
    """In which projects an item or a comment was and is."""
    found: set[str] = set()
    for raw in (change.raw_before, change.raw_after):
        stored = None if raw is None else raw.get("project_id")
        # In a list of ids MongoDB finds each: callers do not see such a document, but it takes a place on a page.
        found.update(one for one in (stored if isinstance(stored, list) else [stored]) if may_be_id(one))
    return found


def _touched_by(change: Change) -> Touched | None:
    """None where nobody can tell."""
    if change.collection == "projects":
        return Touched(project=True)
    if change.collection == "items":
        return Touched(items={change.id}) if may_be_id(change.id) else None
    if change.unseen:
        return None  # it may have been in another thread
    threads = (thread_of(raw) for raw in (change.raw_before, change.raw_after) if raw is not None)
    return Touched(threads={thread_id for thread_id in threads if thread_id is not None})
