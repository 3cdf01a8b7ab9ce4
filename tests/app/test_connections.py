"""The register of connections: limits, heartbeat, silence, and who has to go."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from app.connections import Connections
from app.hub import Hub
from app.permissions import Identity
from app.position import Position
from app.protocol import CloseCode, Frame
from models.errors import RateLimited, Unavailable
from tests.app.stream import identity


class Limits:
    """What an admin may change."""

    max_connections = 3
    max_connections_per_user = 2
    max_connections_per_address = 2
    max_pending_seconds = 30.0


class Healthy:
    """A feed in good health."""

    lag_seconds = 0.25
    stale = False


class Client:
    """One connection, as the register sees it."""

    transport: Any = "websocket"
    opened_at = 0.0
    topics: list[str] = []  # noqa: RUF012 - never changed
    pending_bytes = 0

    def __init__(self, id: str, address: str = "192.0.2.1", user: str | None = "bob") -> None:  # noqa: A002 - the field's name
        self.id, self.address = id, address
        self.identity: Identity | None = None if user is None else identity(user)
        self.heard_at = 0.0
        self.all_live = True
        self.sent: list[dict[str, Any]] = []
        self.left: list[CloseCode] = []

    def send(self, frame: Frame) -> None:
        self.sent.append(json.loads(frame.payload))

    def leave(self, code: CloseCode) -> None:
        self.left.append(code)


class Waiting:
    """Bytes that somebody does not read."""

    def __init__(self, blocked_seconds: float) -> None:
        self.blocked_seconds, self.given_up = blocked_seconds, False

    def give_up(self) -> None:
        self.given_up = True


class Register:
    """Connections with a clock of the test's own, in five slots that are filled in turn."""

    def __init__(self, ping_seconds: float = 5, max_rate: int = 1000) -> None:
        self.now, self._next = 0.0, 0
        self.hub = Hub(encode=lambda position: f"{position.seconds}")
        self.hub.advance(Position(7, 0))
        self.health = Healthy()
        self.connections = Connections(
            hub=self.hub,
            health=self.health,
            encode=lambda position: f"{position.seconds}",
            limits=Limits,
            ping_seconds=ping_seconds,
            max_rate=max_rate,
            clock=lambda: self.now,
            choose=self._choose,
        )

    def _choose(self, slots: int) -> int:
        self._next += 1
        return (self._next - 1) % slots

    def add(self, *clients: Client) -> None:
        for client in clients:
            self.connections.add(client)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += self.connections.tick_seconds
            self.connections.tick()


def test_each_limit_refuses_in_its_own_way() -> None:
    register = Register()
    one, two, three = Client("1"), Client("2"), Client("3", "192.0.2.2", "carol")
    register.add(one, two)
    register.connections.check_room("192.0.2.2", identity("carol"))
    with pytest.raises(RateLimited) as by_address:
        register.connections.check_room("192.0.2.1", None)
    assert by_address.value.retry_after
    for client in (one, two):
        register.connections.admit(client, identity("bob"))
    for refused in (
        lambda: register.connections.check_room("192.0.2.2", identity("bob")),
        lambda: register.connections.admit(three, identity("bob")),
    ):
        with pytest.raises(RateLimited) as by_user:
            refused()
        assert by_user.value.retry_after
    register.add(three)
    with pytest.raises(Unavailable) as full:
        register.connections.check_room("192.0.2.9", None)
    assert full.value.retry_after


def test_who_goes_makes_room_and_going_twice_makes_no_more() -> None:
    register = Register()
    one, two = Client("1"), Client("2")
    register.add(one, two)
    for client in (one, two):
        register.connections.admit(client, identity("bob"))
    for _ in range(2):
        register.connections.remove(one)
    register.connections.check_room("192.0.2.1", identity("bob"))
    register.add(Client("3"))
    with pytest.raises(RateLimited):
        register.connections.check_room("192.0.2.1", None)
    assert len(register.connections) == 2
    assert {client.id for client in register.connections} == {"2", "3"}


def test_everyone_is_pinged_once_in_every_period_and_not_all_at_once() -> None:
    register = Register()
    clients = [Client(str(number), f"192.0.2.{number}") for number in range(3)]
    register.add(*clients)
    register.run(1)
    assert [len(client.sent) for client in clients] == [1, 0, 0]
    register.run(4)
    assert [len(client.sent) for client in clients] == [1, 1, 1]
    register.run(10)
    assert [len(client.sent) for client in clients] == [3, 3, 3]


def test_a_ping_says_the_position_unless_a_topic_is_still_being_joined() -> None:
    register = Register()
    live, joining = Client("1"), Client("2")
    joining.all_live = False
    register.add(live, joining)
    register.run(5)
    assert set(live.sent[0]) == {"push", "position", "lag_ms", "stale", "time"}
    assert live.sent[0] | {"time": ""} == {"push": "ping", "position": "7", "lag_ms": 250, "stale": False, "time": ""}
    assert "position" not in joining.sent[0]


def test_a_ping_says_that_what_clients_see_may_be_old() -> None:
    register = Register()
    register.health.stale, register.health.lag_seconds = True, 7.5
    client = Client("1")
    register.add(client)
    register.run(5)
    assert client.sent[0] | {"time": ""} == {"push": "ping", "position": "7", "lag_ms": 7500, "stale": True, "time": ""}


def test_who_has_not_said_hello_is_not_pinged() -> None:
    register = Register()
    client = Client("1", user=None)
    register.add(client)
    register.run(5)
    assert client.sent == []


def test_silence_ends_a_connection_within_a_second_of_its_time() -> None:
    register = Register()
    clients = [Client(str(number)) for number in range(5)]
    register.add(*clients)
    register.run(15)
    assert [client.left for client in clients] == [[]] * 5
    register.run(1)
    assert [client.left for client in clients] == [[CloseCode.NO_PONG]] * 5


def test_who_is_gone_is_looked_for_no_more() -> None:
    register = Register()
    clients = [Client(str(number)) for number in range(5)]
    register.add(*clients)
    register.run(10)
    for client in clients:
        register.connections.remove(client)
    register.run(20)
    assert [client.left for client in clients] == [[]] * 5


def test_who_is_heard_stays() -> None:
    register = Register()
    client = Client("1")
    register.add(client)
    for _ in range(10):
        client.heard_at = register.now
        register.run(14)
    assert client.left == []


def test_who_does_not_read_for_too_long_is_slow() -> None:
    register = Register()
    slow, slower = Waiting(30.0), Waiting(30.1)
    register.connections.stuck |= {slow, slower}
    register.run(1)
    assert (slow.given_up, slower.given_up) == (False, True)


def test_only_those_concerned_are_closed() -> None:
    register = Register()
    bob, carol = Client("1"), Client("2", user="carol")
    register.add(bob, carol)
    register.connections.close_where(lambda one: one.id == "1", CloseCode.ROLES_CHANGED)
    assert (bob.left, carol.left) == ([CloseCode.ROLES_CHANGED], [])


def test_a_drain_tells_everyone_another_time_and_lets_nobody_in() -> None:
    register = Register()
    clients = [Client(str(number)) for number in range(3)]
    register.add(*clients)
    plan = register.connections.announce_drain(8.0)
    assert [moment for moment, _ in plan] == sorted(moment for moment, _ in plan)
    assert {connection.id for _, connection in plan} == {"0", "1", "2"}
    told = {client.id: client.sent[0]["reconnect_in_ms"] for client in clients}
    assert told == {connection.id: round(moment * 1000) for moment, connection in plan}
    assert all(0 <= wait <= 8000 for wait in told.values())
    with pytest.raises(Unavailable) as refused:
        register.connections.check_room("192.0.2.9", None)
    assert refused.value.retry_after


async def test_emptiness_can_be_waited_for() -> None:
    register = Register()
    client = Client("1")
    await register.connections.emptied()
    register.add(client)
    waiting = asyncio.ensure_future(register.connections.emptied())
    await asyncio.sleep(0)
    assert not waiting.done()
    register.connections.remove(client)
    await waiting


def test_a_period_of_less_than_a_second_is_possible() -> None:
    register = Register(ping_seconds=0.2)
    client = Client("1")
    register.add(client)
    register.run(3)
    assert register.connections.tick_seconds == pytest.approx(0.2)
    assert len(client.sent) == 3


def test_too_many_at_once_are_told_to_come_back_each_at_another_time() -> None:
    register = Register(max_rate=4)
    for _ in range(8):
        register.connections.check_room("192.0.2.1", None)
    waits = set()
    for _ in range(20):
        with pytest.raises(Unavailable) as refusal:
            register.connections.check_room("192.0.2.1", None)
        waits.add(refusal.value.retry_after)
    assert len(waits) > 10
    assert all(wait is not None and 1 <= wait <= 10 for wait in waits)
    register.now += 1.0
    for _ in range(4):
        register.connections.check_room("192.0.2.1", None)
    with pytest.raises(Unavailable):
        register.connections.check_room("192.0.2.1", None)
