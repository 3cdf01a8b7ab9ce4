"""One client's topics over a transport with one position for all of them: events in commit order across the topics.

The hub only says that there is news, and when a right was lost; what the news is comes from the ring, merged over the
topics. So the client can be told one position that holds for all, and comes back with it to any process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from app.access import Access
from app.history import History
from app.hub import Hub, PlacedEvent, Subscription
from app.joining import until_passed
from app.merging import runs
from app.missed import Gap, Missed, NotResumable
from app.permissions import Identity
from app.position import Position, after_time
from app.protocol import CloseCode, Events, Frame, Live, Reset, push, unsubscribed
from app.topics import check_topic
from app.views import Views
from models.errors import Busy, Refusal, Unavailable, translate

log = structlog.get_logger("copydesk.follower")

ATTEMPTS = 3

Source = Callable[[], Sequence[PlacedEvent]]
"""What a topic's listener has not been told yet. Raises `NotResumable`."""

Deliver = Callable[[Frame, Position | None], None]
"""Send a frame; with a position, where one holds for all topics once the client has this frame."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where a follower reads; the same for all of them."""

    hub: Hub
    history: History
    missed: Missed
    views: Views
    access: Access
    encode: Callable[[Position], str]


class Follower:
    """Implements `app.hub.Subscriber` for the hub, and speaks to the client through `deliver`."""

    def __init__(
        self,
        sources: Sources,
        identity: Identity,
        *,
        deliver: Deliver,
        room: Callable[[], Awaitable[bool]],
        close: Callable[[CloseCode], None],
    ) -> None:
        """`room` waits until little is waiting to be sent, and is False when the client is gone."""
        self._read, self._identity = sources, identity
        self._deliver, self._room, self._close = deliver, room, close
        self._subscriptions: dict[str, Subscription] = {}
        self._fresh: dict[str, str | None] = {}
        """Topics to begin (again), each with the position that the client has of it."""
        self._told: dict[str, Source] = {}
        self._news = asyncio.Event()
        self._over = False

    @property
    def topics(self) -> list[str]:
        """What this client listens to."""
        return list(self._subscriptions)

    @property
    def all_live(self) -> bool:
        """Whether one position holds for all topics now. Before there are any, none does."""
        return bool(self._told) and not self._fresh and self._told.keys() == self._subscriptions.keys()

    async def run(self, topics: Sequence[str], *, since: str | None, snapshot: bool) -> None:
        """Follow until `stop`. Whatever goes wrong with a topic is told to this client only."""
        self._snapshot = snapshot
        for topic in topics:
            try:
                check_topic(topic)
            except Refusal as refusal:
                self._refuse(topic, refusal)
            else:
                # Before anything is read: what changes from here on is news.
                subscription = self._read.hub.join(self, topic, self._identity, self._reset)
                self._subscriptions[topic] = subscription
                self._read.hub.go_live(subscription, self._read.hub.position)
                self._fresh[topic] = since
        while not self._over:
            if self._fresh:
                await self._begin()
            else:
                self._pull()
                await self._news.wait()
                self._news.clear()

    def caught_up(self) -> Position | None:
        """Tell what there is to tell; the position that the client then has of all topics, if there is one."""
        self._pull()
        return self._read.hub.position if self.all_live else None

    def stop(self) -> None:
        """The client is gone; fine to call twice."""
        self._over = True
        self._news.set()
        for subscription in self._subscriptions.values():
            self._read.hub.leave(subscription)
        self._subscriptions.clear()

    # -- app.hub.Subscriber -------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        """The hub's frames are news; only the loss of a right is passed on, after what came before it."""
        if frame.name == "events":
            self._news.set()
        elif frame.name == "unsubscribed" and not self._over:
            self._pull()
            self._drop_ended()
            self._deliver(frame, None)

    def leave(self, code: CloseCode) -> None:
        """The hub ends the whole connection."""
        self._close(code)

    def _reset(self, subscription: Subscription, reason: str) -> None:
        """The hub lost its thread: this topic begins again."""
        self._told.pop(subscription.topic, None)
        self._read.hub.go_live(subscription, self._read.hub.position)
        self._deliver(push(Reset(topic=subscription.topic, reason=reason)), None)
        self._fresh[subscription.topic] = None
        self._news.set()

    def _drop_ended(self) -> None:
        for topic, subscription in tuple(self._subscriptions.items()):
            if subscription.has_left:
                del self._subscriptions[topic]
                self._told.pop(topic, None)
                self._fresh.pop(topic, None)

    # -- beginning ----------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Replay or snapshot for every fresh topic, then `live` for all of them at one point."""
        fresh, self._fresh = self._fresh, {}
        reached = (0, 0)
        begun: dict[str, Source] = {}
        for topic, since in fresh.items():
            try:
                begun[topic], time = await self._source(topic, since)
            except Exception as error:
                refusal = error if isinstance(error, Refusal) else translate(error)
                if refusal is None:
                    log.exception("topic_failed", topic=topic)
                    refusal = Unavailable("The snapshot could not be read.")
                self._refuse(topic, refusal)
            else:
                reached = max(reached, time)
            if self._over:
                return
        await until_passed(self._read.hub, reached)
        if self._over:
            return
        # What was lost or reset meanwhile is not live.
        current = self._subscriptions.keys() - self._fresh.keys()
        self._told |= {topic: source for topic, source in begun.items() if topic in current}
        # Positions count from `live` on only, and these events come before it.
        self._pull(positions=False)
        live = [topic for topic in begun if topic in self._told]
        here = self._read.hub.position
        for topic in live:
            last = topic == live[-1] and self.all_live
            frame = push(Live(topic=topic, position=self._read.encode(here)))
            self._deliver(frame, here if last else None)

    async def _source(self, topic: str, since: str | None) -> tuple[Source, tuple[int, int]]:
        """What is to be told of a topic, and the time that the feed must have passed first."""
        if since is not None:
            try:
                gap = await self._read.missed.since(since)
                await self._read.access.require_topic(self._identity, topic)
                gap.events(topic, self._identity)
            except NotResumable as answer:
                self._deliver(push(Reset(topic=topic, reason=answer.reason)), None)
            else:
                return self._gap(topic, gap), gap.position.time
        if not self._snapshot:
            here = self._read.hub.position
            await self._read.access.require_topic(self._identity, topic)
            return self._ring(topic, here), here.time
        for _ in range(ATTEMPTS):
            joined_at = self._read.hub.position
            view = await self._read.views.of(topic, self._identity)
            if view.time >= joined_at.time:
                break
            await asyncio.sleep(0.1)
        else:
            raise Busy("The database is behind what was told already.", retry_after=2.0)
        for frame in view.frames:
            self._deliver(frame, None)
            if not await self._room():
                break
        return self._ring(topic, after_time(view.time)), view.time

    def _gap(self, topic: str, gap: Gap) -> Source:
        return lambda: gap.events(topic, self._identity)

    def _ring(self, topic: str, position: Position) -> Source:
        def events() -> Sequence[PlacedEvent]:
            if not self._read.history.covers(position):
                raise NotResumable("too_many")
            return self._read.history.events(topic, self._identity, position)

        return events

    def _refuse(self, topic: str, refusal: Refusal) -> None:
        subscription = self._subscriptions.pop(topic, None)
        if subscription is not None:
            self._read.hub.leave(subscription)
        self._deliver(push(unsubscribed(topic, refusal)), None)

    # -- going on -----------------------------------------------------------------------------------------------------

    def _pull(self, *, positions: bool = True) -> None:
        """Tell what has happened up to the hub's position, in commit order; with `positions` where there are any."""
        here = self._read.hub.position
        by_topic: dict[str, list[PlacedEvent]] = {}
        for topic, source in tuple(self._told.items()):
            try:
                by_topic[topic] = [event for event in source() if event[0] <= here]
            except NotResumable as answer:
                del self._told[topic]
                self._fresh[topic] = None
                self._deliver(push(Reset(topic=topic, reason=answer.reason)), None)
        for topic in by_topic:
            self._told[topic] = self._ring(topic, here)
        live = positions and self.all_live
        for run in runs(by_topic, here):
            frame = push(
                Events(
                    topic=run.topic,
                    position=self._read.encode(run.position),
                    events=[msgspec.Raw(event) for event in run.events],
                )
            )
            self._deliver(frame, run.position if live and run.resumable else None)
