"""From `subscribe` to `live` without a race: snapshot and stream meet at one point in time (docs/protocol.md).

A subscription joins the hub first and collects what happens. Then either the ring replays what the client missed, or
one snapshot is read at one time T; what was collected after that is sent, and `live` once the feed has passed T.
Rights are part of what is read, and a change of them in what was collected starts the whole thing again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from app.access import Access
from app.hub import GONE, Hub, Subscriber, Subscription, portions
from app.missed import Missed, NotResumable, Reason
from app.permissions import Identity
from app.position import Position, after_time
from app.protocol import Subscribed
from app.topics import check_topic
from app.views import Views
from models.errors import Busy, Conflict, NotFound, Refusal, Unavailable, translate

log = structlog.get_logger("copydesk.joining")

ATTEMPTS = 3
PASS_SECONDS = 30.0


class Listener(Subscriber, Protocol):
    """A subscriber that a long snapshot can be paced for."""

    async def room(self) -> bool:
        """Wait until little is waiting to be sent; False when the connection is gone."""


class Request(msgspec.Struct, kw_only=True):
    """What a caller asked for."""

    topic: str
    since: str | UnsetType = UNSET
    snapshot: bool = True


class Joiner:
    """Carries out every `subscribe` of the process."""

    def __init__(
        self,
        *,
        hub: Hub,
        missed: Missed,
        access: Access,
        views: Views,
        stale: Callable[[], bool],
        spread: Callable[[], float],
    ) -> None:
        """`stale`: whether the feed has lost touch; `spread` draws the seconds to wait before a reset's new read."""
        self._hub, self._missed, self._access, self._views = hub, missed, access, views
        self._stale, self._spread = stale, spread
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
        """End what is under way; called when all connections are gone, so that nobody waits for it."""
        for task in self._tasks:
            task.cancel()
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
            if not replied and reply is not None:
                replied = True
                reply(answer)

        try:
            if delay:
                await asyncio.sleep(delay)
            await self._attempt(listener, subscription, request, say)
            if subscription.has_left:
                say(Conflict("A later command about this topic came before this one was carried out."))
        except Exception as error:
            # One listener's fault must not be another's: it is told, and logged where it is ours.
            refusal = error if isinstance(error, Refusal) else translate(error)
            if refusal is None:
                log.exception("subscribe_failed", topic=request.topic)
                refusal = Unavailable("The snapshot could not be read.")
            if not replied:
                say(refusal)
                self._hub.leave(subscription)
            elif not subscription.has_left:
                self._hub.end(subscription, refusal)

    async def _attempt(
        self,
        listener: Listener,
        subscription: Subscription,
        request: Request,
        say: Callable[[Subscribed], None],
    ) -> None:
        check_topic(request.topic)
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
            gap = await self._missed.since(since)
        except NotResumable as answer:
            return "again" if subscription.has_left else answer.reason
        await self._access.require_topic(identity, topic)
        if subscription.ended or subscription.lost is not None or subscription.has_left:
            return "again"
        # From here to the reply nothing is awaited: the replay is exactly what was published since the position.
        here = self._hub.position
        if gap.position > here:
            return await self._wait_ahead(subscription, gap.position, say)
        try:
            replay = gap.events(topic, identity)
        except NotResumable as answer:
            return answer.reason
        self._hub.rejoin(subscription)
        say(Subscribed(topic=topic, resumed=True, replayed=len(replay)))
        for part in portions(replay):
            self._hub.replay(subscription, part, part[-1][0])
            if not await listener.room() or subscription.has_left:
                return "done"
        await self._finish(subscription, here)
        return "done"

    async def _wait_ahead(
        self, subscription: Subscription, position: Position, say: Callable[[Subscribed], None]
    ) -> Literal["done"]:
        """The client knows more than this process, which lags behind another: skip what it has."""
        if self._stale():
            raise Busy("This server has lost touch with the database.", retry_after=2.0)
        say(Subscribed(topic=subscription.topic, resumed=True, replayed=0))
        await until_passed(self._hub, position.time)
        await self._finish(subscription, position)
        return "done"

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
        view = await self._views.of(topic, identity) if request.snapshot else None
        if view is None:
            await self._access.require_topic(identity, topic)
            since = subscription.joined_at
        else:
            if view.time < subscription.joined_at.time:
                # Just after a failover: the new primary's majority snapshot is older than what was already published.
                await asyncio.sleep(0.1)
                return False
            since = after_time(view.time)
        if subscription.has_left:
            return True
        if subscription.ended or subscription.lost is not None or self._hub.is_overfull(subscription):
            return False
        say(Subscribed(topic=topic, resumed=False, replayed=0, reason=reason))
        for frame in view.frames if view else ():
            listener.send(frame)
            if not await listener.room() or subscription.has_left:
                return True
        await until_passed(self._hub, since.time)
        await self._finish(subscription, since)
        return True

    async def _finish(self, subscription: Subscription, since: Position) -> None:
        """The last step, once the feed has passed `since`: a right that was lost meanwhile ends it."""
        if subscription.has_left:
            return
        if subscription.ended:
            subscription.ended = False
            await self._access.require_topic(subscription.identity, subscription.topic)
            if subscription.ended or subscription.has_left:
                raise NotFound(GONE)
        if self._hub.is_overfull(subscription):
            raise Busy("Too much is happening on this topic to catch up with it now.", retry_after=2.0)
        self._hub.go_live(subscription, since)


async def until_passed(hub: Hub, time: tuple[int, int]) -> None:
    """Wait until everything up to this clusterTime was published. Raises `Busy` where the feed does not get there."""
    passed = asyncio.Event()
    hub.when_passed(time, passed.set)
    try:
        async with asyncio.timeout(PASS_SECONDS):
            await passed.wait()
    except TimeoutError:
        raise Busy("This server has lost touch with the database.", retry_after=2.0) from None
