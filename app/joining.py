"""From `subscribe` to `live` without a race: snapshot and stream meet at one point in time (docs/protocol.md).

A subscription joins the hub first and collects what happens. Then either the ring replays what the client missed, or
one snapshot is read at one time T; what was collected after that is sent, and `live` once the feed has passed T.
Rights are part of what is read, and a change of them in what was collected starts the whole thing again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from app.access import Access
from app.changes import access_of
from app.history import History
from app.hub import GONE, PROJECTS, Hub, PlacedEvent, Subscriber, Subscription
from app.permissions import Action, Identity, project_role
from app.position import Position, PositionCodec, UnknownPosition
from app.protocol import SNAPSHOT_PART, Frame, Snapshot, Subscribed, push
from models.errors import Busy, Invalid, NotFound, Refusal, Unavailable, translate
from models.project import ProjectAccess, visible_to
from models.snapshot import ProjectSnapshot, SnapshotStore

log = structlog.get_logger("copydesk.joining")

INBOX = "inbox"
ATTEMPTS = 3
READS_AT_ONCE = 8
"""Snapshots read at the same time, so that a storm of subscribers leaves the database to the others."""
MAX_REPLAYED = 20_000
PASS_SECONDS = 30.0
_EVERYTHING_OF_T = 2**32 - 1

_PROJECT_TOPIC = re.compile(r"project:([A-Za-z0-9_-]{1,64})\Z")

Reason = Literal["too_old", "too_many", "unknown", "rights"]


class Listener(Subscriber, Protocol):
    """A subscriber that a long snapshot can be paced for."""

    async def room(self) -> bool:
        """Wait until little is waiting to be sent; False when the connection is gone."""


class Request(msgspec.Struct, kw_only=True):
    """What a caller asked for."""

    topic: str
    since: str | UnsetType = UNSET
    snapshot: bool = True


class _View(msgspec.Struct, kw_only=True):
    """A snapshot as it is sent: the frames, the time they are of, and what decides who may have them."""

    time: tuple[int, int]
    frames: list[Frame]
    access: ProjectAccess | None = None


class Joiner:
    """Carries out every `subscribe` of the process."""

    def __init__(
        self,
        *,
        hub: Hub,
        history: History,
        access: Access,
        positions: PositionCodec,
        snapshots: SnapshotStore,
        stale: Callable[[], bool],
        spread: Callable[[], float],
    ) -> None:
        """`stale`: whether the feed has lost touch; `spread` draws the seconds to wait before a reset's new read."""
        self._hub, self._history, self._access = hub, history, access
        self._positions, self._snapshots = positions, snapshots
        self._stale, self._spread = stale, spread
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._shared: dict[str, _SharedRead] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def join(
        self,
        listener: Listener,
        identity: Identity,
        request: Request,
        reply: Callable[[Subscribed | Refusal], None],
    ) -> Subscription:
        """Begin a subscription; `reply` is called once, before anything else of the topic is sent."""

        def reset(subscription: Subscription, _reason: str) -> None:
            again = Request(topic=request.topic, snapshot=request.snapshot)
            self._start(self._carry_out(listener, subscription, again, None, delay=self._spread()))

        subscription = self._hub.join(listener, request.topic, identity, reset)
        self._start(self._carry_out(listener, subscription, request, reply, delay=0.0))
        return subscription

    async def close(self) -> None:
        """Wait for what is under way; called when all connections are gone."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(
        self,
        listener: Listener,
        subscription: Subscription,
        request: Request,
        reply: Callable[[Subscribed | Refusal], None] | None,
        *,
        delay: float,
    ) -> None:
        """The whole way to `live`. Whatever goes wrong is said to this one listener only."""
        replied = reply is None

        def say(answer: Subscribed | Refusal) -> None:
            nonlocal replied
            if not replied and reply is not None and not subscription.has_left:
                replied = True
                reply(answer)

        try:
            if delay:
                await asyncio.sleep(delay)
            await self._attempt(listener, subscription, request, say)
        except Exception as error:
            # One listener's fault must not be another's: it is told, and logged where it is ours.
            refusal = error if isinstance(error, Refusal) else translate(error)
            if refusal is None:
                log.exception("subscribe_failed", topic=request.topic)
                refusal = Unavailable("The snapshot could not be read.")
            if subscription.has_left:
                return
            if replied:
                wait = refusal.retry_after
                self._hub.end(
                    subscription,
                    refusal.code,
                    refusal.detail,
                    retry_after_ms=None if wait is None else round(wait * 1000),
                )
            else:
                say(refusal)
                self._hub.leave(subscription)

    async def _attempt(
        self,
        listener: Listener,
        subscription: Subscription,
        request: Request,
        say: Callable[[Subscribed], None],
    ) -> None:
        _check_topic(request.topic)
        reason: Reason | UnsetType = UNSET
        since = request.since
        for _ in range(ATTEMPTS):
            if subscription.has_left:
                return
            self._hub.rejoin(subscription)
            if not isinstance(since, UnsetType):
                outcome = await self._resume(listener, subscription, since, say)
                if outcome == "again":
                    continue
                if outcome == "done":
                    return
                reason, since = outcome, UNSET
                self._hub.rejoin(subscription)
            if await self._begin(listener, subscription, request, reason, say):
                return
        raise Busy("Too much is happening on this topic to read it now.", retry_after=2.0)

    # -- with a position ----------------------------------------------------------------------------------------------

    async def _resume(
        self, listener: Listener, subscription: Subscription, since: str, say: Callable[[Subscribed], None]
    ) -> Literal["done", "again"] | Reason:
        """Replay what came after `since`, all of it or nothing."""
        topic, identity = subscription.topic, subscription.identity
        try:
            position = self._positions.decode(since)
        except UnknownPosition:
            return "unknown"
        if not self._history.covers(position):
            return "too_old"
        await self._check_rights(topic, identity)
        if subscription.ended or subscription.has_left:
            return "again"
        # From here to the reply nothing is awaited: the replay is exactly what was published since `position`.
        if self._history.role_changed(identity, topic, position):
            return "rights"
        here = self._hub.position
        if position > here:
            return await self._wait_ahead(subscription, position, say)
        replay = self._replay(topic, identity, position)
        if len(replay) > MAX_REPLAYED:
            return "too_many"
        self._hub.rejoin(subscription)
        say(Subscribed(topic=topic, resumed=True, replayed=len(replay)))
        for start in range(0, len(replay), SNAPSHOT_PART):
            part = replay[start : start + SNAPSHOT_PART]
            self._hub.replay(subscription, part, part[-1][0])
            if not await listener.room() or subscription.has_left:
                return "done"
        await self._finish(subscription, here)
        return "done"

    def _replay(self, topic: str, identity: Identity, since: Position) -> list[PlacedEvent]:
        if topic == PROJECTS:
            return self._history.projects_events(identity, since)
        return self._history.project_events(topic, since)

    async def _wait_ahead(
        self, subscription: Subscription, position: Position, say: Callable[[Subscribed], None]
    ) -> Literal["done"]:
        """The client knows more than this process, which lags behind another: skip what it has."""
        if self._stale():
            raise Busy("This server has lost touch with the database.", retry_after=2.0)
        say(Subscribed(topic=subscription.topic, resumed=True, replayed=0))
        await self._passed(position.time)
        await self._finish(subscription, position)
        return "done"

    async def _check_rights(self, topic: str, identity: Identity) -> None:
        if topic.startswith("project:"):
            await self._access.require(identity, Action.VIEW, topic.removeprefix("project:"))

    # -- with a snapshot ----------------------------------------------------------------------------------------------

    async def _begin(
        self,
        listener: Listener,
        subscription: Subscription,
        request: Request,
        reason: Reason | UnsetType,
        say: Callable[[Subscribed], None],
    ) -> bool:
        """Send a snapshot (or none, where none was asked for) and go live; False: start again."""
        topic, identity = subscription.topic, subscription.identity
        view = await self._view(topic, identity) if request.snapshot else None
        if view is None:
            await self._check_rights(topic, identity)
            since = subscription.joined_at
        else:
            if view.time < subscription.joined_at.time:
                # Just after a failover: the new primary's majority snapshot is older than what was already published.
                await asyncio.sleep(0.1)
                return False
            since = Position(*view.time, _EVERYTHING_OF_T)
        if subscription.has_left:
            return True
        if subscription.ended or self._hub.is_overfull(subscription):
            return False
        say(Subscribed(topic=topic, resumed=False, replayed=0, reason=reason))
        for frame in view.frames if view else ():
            listener.send(frame)
            if not await listener.room() or subscription.has_left:
                return True
        await self._passed(since.time)
        if self._hub.is_overfull(subscription):
            raise Busy("Too much is happening on this topic to catch up with it now.", retry_after=2.0)
        await self._finish(subscription, since)
        return True

    async def _finish(self, subscription: Subscription, since: Position) -> None:
        """The last step, once the feed has passed `since`: a right that was lost meanwhile ends it."""
        if subscription.has_left:
            return
        if subscription.ended:
            subscription.ended = False
            await self._check_rights(subscription.topic, subscription.identity)
            if subscription.ended or subscription.has_left:
                raise NotFound(GONE)
        self._hub.go_live(subscription, since)

    async def _passed(self, time: tuple[int, int]) -> None:
        passed = asyncio.Event()
        self._hub.when_passed(time, passed.set)
        try:
            async with asyncio.timeout(PASS_SECONDS):
                await passed.wait()
        except TimeoutError:
            raise Busy("This server has lost touch with the database.", retry_after=2.0) from None

    async def _view(self, topic: str, identity: Identity) -> _View:
        """The snapshot of a topic for a caller. Raises `NotFound` where there is none for them."""
        if topic == INBOX:
            frames = _parts(topic, "notifications", [], counts={"unseen": 0, "unread": 0, "seq": 0})
            return _View(time=self._hub.position.time, frames=frames)
        if topic == PROJECTS:
            async with self._reads:
                time, projects = await self._snapshots.projects(
                    visible_to(identity.user_id, identity.groups, sees_everything=identity.sees_everything)
                )
            return _View(time=time, frames=_parts(topic, "projects", projects))
        view = await self._shared_view(topic, topic.removeprefix("project:"))
        if view.access is None or project_role(identity, view.access) is None:
            raise NotFound("There is no such project, or you may not see it.")
        return view

    async def _shared_view(self, topic: str, project_id: str) -> _View:
        """One read serves everyone who joined before it began: a thousand returning editors cost two reads."""
        shared = self._shared.setdefault(topic, _SharedRead())
        ticket = shared.tickets
        shared.tickets += 1
        shared.users += 1
        try:
            async with shared.lock:
                if shared.view is None or shared.served < ticket:
                    shared.served = shared.tickets - 1
                    async with self._reads:
                        snapshot = await self._snapshots.project(project_id)
                    shared.view = _View(
                        time=snapshot.time,
                        access=access_of(snapshot.project),
                        frames=_project_parts(topic, snapshot) if snapshot.project else [],
                    )
                return shared.view
        finally:
            shared.users -= 1
            if shared.users == 0:
                del self._shared[topic]


def _check_topic(topic: str) -> None:
    """Raises `NotFound` for a project that cannot be, `Invalid` for what is no topic at all."""
    if topic in (PROJECTS, INBOX) or _PROJECT_TOPIC.match(topic):
        return
    if topic.startswith("project:"):
        raise NotFound("There is no such project, or you may not see it.")
    raise Invalid("There is no such topic; there are project:<id>, projects and inbox.")


class _SharedRead:
    """The reads of one topic's snapshot that are under way, and who may use the last one."""

    __slots__ = ("lock", "served", "tickets", "users", "view")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.tickets = 0
        self.served = -1
        """The last ticket drawn before the last read began."""
        self.users = 0
        self.view: _View | None = None


def _project_parts(topic: str, snapshot: ProjectSnapshot) -> list[Frame]:
    """Parts of at most `SNAPSHOT_PART` documents: the project, then items, then comments."""
    documents = [("items", item) for item in snapshot.items] + [("comments", comment) for comment in snapshot.comments]
    parts = []
    for start in range(0, max(1, len(documents) + 1), SNAPSHOT_PART):
        data: dict[str, Any] = {"items": [], "comments": []}
        if start == 0:
            data = {"project": snapshot.project, **data}
        # The project itself is the first document of the first part.
        for kind, document in documents[max(0, start - 1) : start - 1 + SNAPSHOT_PART]:
            data[kind].append(document)
        parts.append(data)
    return _frames(topic, parts)


def _parts(topic: str, name: str, documents: list[Any], **rest: Any) -> list[Frame]:
    """Parts of a snapshot that has one list."""
    starts = range(0, max(1, len(documents)), SNAPSHOT_PART)
    return _frames(topic, [{name: documents[start : start + SNAPSHOT_PART], **rest} for start in starts])


def _frames(topic: str, parts: list[dict[str, Any]]) -> list[Frame]:
    return [
        push(Snapshot(topic=topic, data=data, part=number, last=number == len(parts)))
        for number, data in enumerate(parts, 1)
    ]
