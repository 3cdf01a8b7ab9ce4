"""Every live connection of the process: how many are let in, who is silent, who gets a ping, who has to go."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec
from msgspec import UNSET

from app.admission import household
from app.allowance import Allowance
from app.hub import Hub
from app.metrics import Transport
from app.permissions import Identity
from app.polling import Poll
from app.position import Position
from app.protocol import CloseCode, Drain, Frame, Ping, push
from models.errors import RateLimited, Unavailable
from models.fields import stamp, utc_now

SILENCE_SECONDS = 10.0
"""On top of the time between pings: who says nothing for so long is gone."""


FEWEST_AT_ONCE = 20
"""Connections that may be opened one after the other, however few there may be at once: pages are reloaded."""
TOO_OFTEN = "Connections are opened too often. Wait, then connect again."

RUSH_SECONDS = 10.0
"""Over which those are spread who were turned away because too many came at once."""


class Limits(Protocol):
    """What an admin may change while the server runs."""

    @property
    def max_connections(self) -> int: ...

    @property
    def max_connections_per_user(self) -> int: ...

    @property
    def max_connections_per_address(self) -> int: ...

    @property
    def max_pending_seconds(self) -> float: ...


class Known(Protocol):
    """Somebody who waits for news, over whichever transport."""

    transport: Transport

    @property
    def identity(self) -> Identity | None: ...

    def leave(self, code: CloseCode) -> None: ...


class Connection(Known, Protocol):
    """One client that is connected."""

    address: str
    opened_at: float
    """Unix time."""
    heard_at: float
    """By the monotonic clock."""

    @property
    def id(self) -> str: ...

    @property
    def all_live(self) -> bool: ...

    @property
    def topics(self) -> list[str]: ...

    @property
    def pending_bytes(self) -> int: ...

    def send(self, frame: Frame) -> None: ...


class Stuck(Protocol):
    """Bytes that a client does not read."""

    @property
    def blocked_seconds(self) -> float: ...

    def give_up(self) -> None: ...


class Health(Protocol):
    """What pings say about the feed."""

    @property
    def lag_seconds(self) -> float: ...

    @property
    def stale(self) -> bool: ...


class Connections:
    """The register. A timer visits a fraction of the connections each second: pings never come all at once."""

    def __init__(
        self,
        *,
        hub: Hub,
        health: Health,
        encode: Callable[[Position], str],
        limits: Callable[[], Limits],
        ping_seconds: float,
        max_rate: int,
        clock: Callable[[], float] = time.monotonic,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        """`max_rate`: connections let in per second; twice as many at once after a quiet time."""
        self._hub, self._health, self._encode, self._limits = hub, health, encode, limits
        self._ping_seconds, self._clock, self._choose = ping_seconds, clock, choose
        self._slots: list[dict[str, Connection]] = [{} for _ in range(max(1, round(ping_seconds)))]
        self._slot_of: dict[str, int] = {}
        self._rate = Allowance(2 * max_rate, 1.0 / max_rate, clock=clock)
        self._pace_of_users, self._pace_of_addresses = _Coming(clock), _Coming(clock)
        self._turn = 0
        self._by_address: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()
        self._polls_by_user: Counter[str] = Counter()
        self._user_of: dict[str, str] = {}
        self.draining = False
        self._emptied: asyncio.Event | None = None
        self.stuck: set[Stuck] = set()
        """What waits for clients to read it, kept by the connections: asking ten thousand each second is dear."""
        self._suspects: dict[str, Connection] = {}
        """Who may have been silent for too long before a ping is due to them again."""
        self.polls: set[Poll] = set()
        """Long polls that wait for something to tell."""
        self.frames_out = 0
        """Frames sent since the start; counted by the connections, because a metric's lock costs more than a send."""
        self.bytes_out = 0

    def __len__(self) -> int:
        return len(self._slot_of)

    def __iter__(self) -> Iterator[Connection]:
        return iter([connection for slot in self._slots for connection in slot.values()])

    @property
    def tick_seconds(self) -> float:
        """How often `tick` wants to be called, so that everyone is visited once in `ping_seconds`."""
        return self._ping_seconds / len(self._slots)

    @property
    def user_ids(self) -> set[str]:
        """Who is connected, in whichever way."""
        return {*self._by_user, *(poll.user_id for poll in self.polls)}

    # -- who is let in ------------------------------------------------------------------------------------------------

    def check_room(self, address: str, identity: Identity | None) -> None:
        """Refuse a handshake: `Unavailable` at the server's limits and in a drain, `RateLimited` at the client's."""
        limits = self._limits()
        if self.draining:
            raise Unavailable("This server is stopping. Connect again; another one will answer.", retry_after=2.0)
        if len(self) >= limits.max_connections:
            raise Unavailable("This server has all the connections it takes.", retry_after=10.0)
        try:
            self._rate.take("")
        except RateLimited:
            # Each with another wait, or they would all come back in the same second.
            wait = random.uniform(1.0, RUSH_SECONDS)  # noqa: S311 - spreads load, guards nothing
            raise Unavailable("Too many clients connect at this moment.", retry_after=wait) from None
        if self._by_address[address] >= limits.max_connections_per_address:
            raise RateLimited("There are too many connections from this address.", retry_after=30.0)
        if identity is not None:
            self._check_user(identity)
        self._pace_of_addresses.take(household(address), limits.max_connections_per_address)
        if identity is not None:
            self._pace_of_users.take(identity.user_id, limits.max_connections_per_user)

    def add(self, connection: Connection) -> None:
        """A connection was accepted."""
        slot = self._choose(len(self._slots))
        self._slots[slot][connection.id] = connection
        self._slot_of[connection.id] = slot
        self._by_address[connection.address] += 1

    def admit(self, connection: Connection, identity: Identity, *, paced: bool = False) -> None:
        """A connection said who it is. Raises `RateLimited` where this user has too many, or comes too often.

        `paced`: `check_room` has counted this coming for the same user.
        """
        self._check_user(identity)
        if not paced:
            self._pace_of_users.take(identity.user_id, self._limits().max_connections_per_user)
        if connection.id in self._slot_of:
            self._by_user[identity.user_id] += 1
            self._user_of[connection.id] = identity.user_id

    def _check_user(self, identity: Identity) -> None:
        if self._by_user[identity.user_id] >= self._limits().max_connections_per_user:
            raise RateLimited("This user has too many connections. Close some.", retry_after=30.0)

    def begin_poll(self, poll: Poll) -> None:
        """A long poll begins to wait. Raises `Unavailable` or `RateLimited`: it holds as much as a connection does."""
        limits = self._limits()
        if len(self) + len(self.polls) >= limits.max_connections:
            raise Unavailable("This server has all the connections it takes.", retry_after=10.0)
        if self._polls_by_user[poll.user_id] >= limits.max_connections_per_user:
            raise RateLimited("This user has too many polls that wait. End some.", retry_after=10.0)
        self.polls.add(poll)
        self._polls_by_user[poll.user_id] += 1

    def end_poll(self, poll: Poll) -> None:
        """It was answered."""
        self.polls.discard(poll)
        _decrease(self._polls_by_user, poll.user_id)

    def remove(self, connection: Connection) -> None:
        """A connection is gone; fine when it was never added."""
        slot = self._slot_of.pop(connection.id, None)
        if slot is None:
            return
        del self._slots[slot][connection.id]
        self._suspects.pop(connection.id, None)
        _decrease(self._by_address, connection.address)
        user_id = self._user_of.pop(connection.id, None)
        if user_id is not None:
            _decrease(self._by_user, user_id)
        if not self._slot_of and self._emptied is not None:
            self._emptied.set()

    async def emptied(self) -> None:
        """Wait until nobody is connected."""
        if self._slot_of:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    # -- the heartbeat ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Close the silent and the stuck, and ping the next fraction with two shared frames."""
        now = self._clock()
        visited = tuple(self._slots[self._turn].values())
        self._turn = (self._turn + 1) % len(self._slots)
        self._give_up_the_stuck()
        self._leave_the_silent(now, visited)
        if not visited:
            return
        placed, placeless = self._pings()
        for connection in visited:
            if connection.identity is not None:
                connection.send(placed if connection.all_live else placeless)

    def _give_up_the_stuck(self) -> None:
        max_pending_seconds = self._limits().max_pending_seconds
        for stuck in tuple(self.stuck):
            if stuck.blocked_seconds > max_pending_seconds:
                stuck.give_up()

    def _leave_the_silent(self, now: float, visited: Iterable[Connection]) -> None:
        limit = self._ping_seconds + SILENCE_SECONDS
        for connection in visited:
            if now - connection.heard_at + self._ping_seconds > limit:
                self._suspects[connection.id] = connection
        for connection in tuple(self._suspects.values()):
            silent = now - connection.heard_at
            if silent > limit:
                connection.leave(CloseCode.NO_PONG)
            elif silent + self._ping_seconds <= limit:
                del self._suspects[connection.id]

    def _pings(self) -> tuple[Frame, Frame]:
        ping = Ping(
            lag_ms=round(self._health.lag_seconds * 1000),
            stale=self._health.stale,
            time=stamp(utc_now()),
            position=self._encode(self._hub.position),
        )
        return push(ping), push(msgspec.structs.replace(ping, position=UNSET))

    # -- who has to go ------------------------------------------------------------------------------------------------

    def close_where(self, concerned: Callable[[Known], bool], code: CloseCode) -> None:
        """Close every connection that something concerns; a long poll is answered at once."""
        for known in (*self, *self.polls):
            if concerned(known):
                known.leave(code)

    def announce_drain(self, window_seconds: float) -> list[tuple[float, Connection]]:
        """Tell everyone that the server is going, each with another time to come back; answers who to close when."""
        self.draining = True
        for poll in tuple(self.polls):
            poll.stop()
        plan = []
        for connection in self:
            moment = random.uniform(0.0, window_seconds)  # noqa: S311 - spreads load, guards nothing
            connection.send(push(Drain(reconnect_in_ms=round(moment * 1000))))
            plan.append((moment, connection))
        return sorted(plan, key=lambda entry: entry[0])


class _Coming:
    """How often connections are opened: all that one may have at once, then a tenth of it per second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._limit = clock, 0
        self._allowance = Allowance(1, 1.0)

    def take(self, key: str, limit: int) -> None:
        """One more. An admin may have changed the limit; then everybody begins anew."""
        if limit != self._limit:
            at_once = max(limit, FEWEST_AT_ONCE)
            self._limit = limit
            self._allowance = Allowance(at_once, 10.0 / at_once, clock=self._clock, refusal=TOO_OFTEN)
        self._allowance.take(key)


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
