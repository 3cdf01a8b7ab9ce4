"""One long poll: what has happened on some topics since a position, or the news that nothing has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from app.follower import Sources
from app.hub import PlacedEvent, Subscription
from app.merging import runs
from app.metrics import Transport
from app.missed import Gap, NotResumable
from app.permissions import Identity
from app.position import Position
from app.protocol import CloseCode, Events, Frame, Reset, Unsubscribed, push, unsubscribed
from app.topics import check_topic
from models.errors import Refusal

MAX_EVENTS = 1000
"""Events in one answer; with more, `more` says to ask again at once."""


class Polled(msgspec.Struct, kw_only=True):
    """The answer: the same pushes as on a socket, and the position to ask from next."""

    position: str
    pushes: list[msgspec.Raw]
    more: bool


class Poll:
    """One request. Implements `app.hub.Subscriber`: the hub's frames are the news that it waits for."""

    def __init__(self, sources: Sources, identity: Identity) -> None:
        self._read, self._identity = sources, identity
        self._news = asyncio.Event()
        self._pushes: list[msgspec.Raw] = []
        self._subscriptions: dict[str, Subscription] = {}
        self._over = False

    transport: Transport = "poll"

    @property
    def identity(self) -> Identity:
        """Whose request it is, and how they proved it."""
        return self._identity

    @property
    def user_id(self) -> str:
        """Whose request it is."""
        return self._identity.user_id

    async def answer(self, topics: Sequence[str], *, since: str | None, wait_seconds: float) -> Polled:
        """Wait for something to tell, at most so long. Raises what the driver raises."""
        try:
            here = self._read.hub.position
            for topic in topics:
                await self._join(topic)
            if since is None:
                return self._answer(here)
            told = await self._told(since, wait_seconds)
            # Ended in the middle: nothing of what came was told, so the client asks again from where it was.
            return Polled(position=since, pushes=[], more=False) if told is None else told
        finally:
            self.stop()

    def stop(self) -> None:
        """Answer now: the client is gone, or the server is going."""
        self._over = True
        self._news.set()
        for subscription in self._subscriptions.values():
            self._read.hub.leave(subscription)

    def send(self, frame: Frame) -> None:
        """News; the loss of a right is passed on."""
        if frame.name in ("unsubscribed", "reset"):
            self._pushes.append(msgspec.Raw(frame.payload))
        if frame.name != "live":
            self._news.set()

    def leave(self, code: CloseCode) -> None:
        """The hub ends the whole connection."""
        self.stop()

    async def _join(self, topic: str) -> None:
        try:
            check_topic(topic)
            subscription = self._read.hub.join(self, topic, self._identity, lambda _subscription, _reason: None)
            self._subscriptions[topic] = subscription
            self._read.hub.go_live(subscription, self._read.hub.position)
            await self._read.access.require_topic(self._identity, topic)
        except Refusal as refusal:
            gone = self._subscriptions.pop(topic, None)
            if gone is not None:
                self._read.hub.leave(gone)
            self._push(unsubscribed(topic, refusal))

    async def _told(self, since: str, seconds: float) -> Polled | None:
        """The answer, or None where the poll was ended before there was one."""
        try:
            gap = await self._read.missed.since(since)
            return await self._wait(gap, seconds)
        except NotResumable as answer:
            return None if self._over else self._start_anew(answer)

    async def _wait(self, gap: Gap, seconds: float) -> Polled | None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._over:
            self._news.clear()
            told = self._tell(gap)
            left = deadline - asyncio.get_running_loop().time()
            if told is not None or self._pushes or left <= 0:
                return told or self._answer(max(self._read.hub.position, gap.position))
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()
        return None

    def _tell(self, gap: Gap) -> Polled | None:
        """The events there are, or None where there are none. Raises `NotResumable`."""
        here = max(self._read.hub.position, gap.position)
        by_topic: dict[str, list[PlacedEvent]] = {
            topic: gap.events(topic, self._identity)
            for topic, subscription in self._subscriptions.items()
            if not subscription.has_left
        }
        count = 0
        for run in runs(by_topic, here):
            self._push(
                Events(
                    topic=run.topic,
                    position=self._read.encode(run.position),
                    events=[msgspec.Raw(event) for event in run.events],
                )
            )
            count += len(run.events)
            if count >= MAX_EVENTS and run.resumable and run.position < here:
                return self._answer(run.position, more=True)
        return self._answer(here) if count else None

    def _start_anew(self, answer: NotResumable) -> Polled:
        for topic, subscription in self._subscriptions.items():
            if not subscription.has_left:
                self._push(Reset(topic=topic, reason=answer.reason))
        return self._answer(self._read.hub.position)

    def _push(self, message: Events | Reset | Unsubscribed) -> None:
        self._pushes.append(msgspec.Raw(push(message).payload))

    def _answer(self, position: Position, *, more: bool = False) -> Polled:
        return Polled(position=self._read.encode(position), pushes=self._pushes, more=more)
