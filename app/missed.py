"""What a returning client missed: from the ring in memory, or from the database where it was away for longer."""

from __future__ import annotations

from typing import Literal

from app.catchup import CatchUp, NotCovered, Past
from app.history import History
from app.hub import PlacedEvent
from app.permissions import Identity
from app.position import Position, PositionCodec, UnknownPosition

MAX_REPLAYED = 20_000
"""Events of one topic that are replayed; beyond that a snapshot is the smaller answer."""

Reason = Literal["too_old", "too_many", "unknown", "rights"]


class NotResumable(Exception):  # noqa: N818 - an answer to a client
    """There is no complete replay; `reason` is the protocol's."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Gap:
    """What lies between a client's position and now. Good until the next `await` of whoever holds it."""

    __slots__ = ("_past", "_ring", "position")

    def __init__(self, position: Position, ring: History, past: Past | None) -> None:
        self.position, self._ring, self._past = position, ring, past

    def events(self, topic: str, identity: Identity) -> list[PlacedEvent]:
        """All of a topic's events in between, in order. Raises `NotResumable`, for never is it only a part of them."""
        if self._ring.role_changed(identity, topic, self.position):
            raise NotResumable("rights")
        if self._past is None:
            if not self._ring.covers(self.position):  # any more: it lets go of what is old while others wait
                raise NotResumable("too_old")
            events = self._ring.events(topic, identity, self.position)
        else:
            past, until = self._past.history, self._past.until
            if not self._ring.covers(until):
                raise NotResumable("too_many")
            if past.role_changed(identity, topic, self.position):
                raise NotResumable("rights")
            withdrawn = self._ring.withdrawn(topic, identity, until)
            events = past.events(topic, identity, self.position, withdrawn=withdrawn)
            events += self._ring.events(topic, identity, until)
        if len(events) > MAX_REPLAYED:
            raise NotResumable("too_many")
        return events


class Missed:
    """Finds gaps; one per process."""

    def __init__(self, *, history: History, catch_up: CatchUp, positions: PositionCodec) -> None:
        self._history, self._catch_up, self._positions = history, catch_up, positions

    async def since(self, text: str) -> Gap:
        """The gap behind a position. Asks the database only where memory does not reach. Raises `NotResumable`."""
        try:
            position = self._positions.decode(text)
        except UnknownPosition:
            raise NotResumable("unknown") from None
        if self._history.covers(position):
            return Gap(position, self._history, None)
        try:
            return Gap(position, self._history, await self._catch_up.since(position))
        except NotCovered as refusal:
            raise NotResumable(refusal.reason) from None
