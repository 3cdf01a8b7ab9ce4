"""What one user and one address may ask in a time, and what they are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app import admission
from app.admission import Admission, Turns, household
from app.allowance import Allowance
from app.pressure import Pressure
from app.settings import Settings
from models.errors import RateLimited


class Clock:
    """Time that a test moves on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(clock: Callable[[], float], **settings: Any) -> Admission:
    return Admission(Settings(**settings), pressure=Pressure(max_memory_bytes=2**63), clock=clock)


def told(admission: Admission, address: str = "192.0.2.1", user: str | None = "bob", size: int = 0) -> dict[str, str]:
    """What the answer to one request says of limits."""
    visit = admission.visit(address)
    visit.arrive(size)
    if user is not None:
        visit.recognise(user)
    return dict(visit.headers)


def test_a_user_may_send_five_seconds_worth_at_once_and_then_so_many_a_second() -> None:
    clock = Clock()
    limits = made(clock, max_requests_per_second_per_user=10)
    assert told(limits) == {"RateLimit-Policy": '"user";q=50;w=5', "RateLimit": '"user";r=49;t=1'}
    for _ in range(49):
        last = told(limits)
    assert last["RateLimit"] == '"user";r=0;t=5'
    with pytest.raises(RateLimited) as refused:
        told(limits)
    assert refused.value.retry_after == pytest.approx(0.1)
    told(limits, user="carol")
    clock.now += 1.0
    for _ in range(10):
        told(limits)
    with pytest.raises(RateLimited):
        told(limits)


def test_an_address_is_counted_before_anybody_knows_who_it_is() -> None:
    limits = made(Clock(), max_requests_per_second_per_address=2)
    for user in "abcdefghij":
        told(limits, user=user)
    with pytest.raises(RateLimited):
        told(limits, user=None)
    assert told(limits, "192.0.2.2", None)["RateLimit"] == '"address";r=9;t=1'


def test_bytes_are_counted_as_announced_or_else_as_they_came() -> None:
    clock = Clock()
    limits = made(clock, max_body_bytes_per_minute_per_user=1000)
    said = told(limits, size=600)
    assert said["RateLimit-Policy"].endswith('"user-bytes";q=1000;w=60;qu="content-bytes"')
    assert said["RateLimit"].endswith('"user-bytes";r=400;t=36')
    with pytest.raises(RateLimited):
        told(limits, size=401)
    assert "bytes" not in told(limits)["RateLimit"]
    unannounced = limits.visit("192.0.2.1")
    unannounced.arrive(0)
    unannounced.recognise("carol")
    unannounced.received(5000)
    with pytest.raises(RateLimited) as refused:
        told(limits, user="carol", size=1)
    assert refused.value.retry_after == pytest.approx(240, abs=1)


def test_what_is_larger_than_all_that_is_allowed_is_let_in_by_itself() -> None:
    clock = Clock()
    limits = made(clock, max_body_bytes_per_minute_per_user=1000)
    told(limits, size=3000)
    with pytest.raises(RateLimited):
        told(limits, size=1)
    clock.now += 181
    told(limits, size=1)


def test_the_same_user_counts_once_from_all_addresses_and_a_network_of_version_6_is_one_address() -> None:
    limits = made(Clock(), max_requests_per_second_per_user=1, max_requests_per_second_per_address=1)
    for number in range(5):
        told(limits, f"192.0.2.{number}")
    with pytest.raises(RateLimited):
        told(limits, "192.0.2.9")
    for number in range(5):
        told(limits, f"2001:db8::{number}", user=f"user{number}")
    with pytest.raises(RateLimited):
        told(limits, "2001:db8::ffff:1", user="another")
    assert household("2001:db8:0:1::5") == household("2001:db8:0:1:2:3:4:5") != household("2001:db8::1")
    assert household("no address") == "no address"


def test_idempotency_keys_and_topics_have_limits_of_their_own() -> None:
    limits = made(Clock(), max_idempotency_keys_per_hour_per_user=2, max_topics_per_second_per_user=1)
    limits.key("bob")
    limits.key("bob")
    with pytest.raises(RateLimited) as keys:
        limits.key("bob")
    assert keys.value.retry_after == pytest.approx(1800)
    limits.key("carol")
    limits.join("bob", 30)
    with pytest.raises(RateLimited):
        limits.join("bob")


def test_the_table_stays_small_whoever_comes() -> None:
    allowance = Allowance(1, 1.0, capacity=100)
    for number in range(10_000):
        allowance.take(str(number))
    assert len(allowance) == 100


async def test_only_so_many_refusals_are_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "HOLD_SECONDS", 0.01)
    limits = made(Clock())
    assert await limits.hold()
    monkeypatch.setattr(admission, "MAX_HELD", 0)
    assert not await limits.hold()


async def test_refusals_go_out_at_different_times_lest_a_flood_come_back_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chances, waits = iter((0.0, 0.5, 1.0)), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    pressure = Pressure(max_memory_bytes=2**63)
    limits = Admission(Settings(), pressure=pressure, random=lambda: next(chances))
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        assert [await limits.hold() for _ in range(3)] == [True, True, True]
    assert waits == [admission.HOLD_SECONDS * share for share in (0.5, 1.0, 1.5)]


class Visitors:
    """Who had a turn, in order; each keeps it until let go."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.served: list[str] = []

    def come(self, name: str, user: str, leave: asyncio.Event) -> asyncio.Task[None]:
        """Take a turn of that user's as soon as there is one."""

        async def visit() -> None:
            async with self._turns.turn(user):
                self.served.append(name)
                await leave.wait()

        return asyncio.ensure_future(visit())


async def settled() -> None:
    """Until everybody who can go on has done so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_for_much_at_once_waits_in_order_and_keeps_nobody_else() -> None:
    turns = Turns(2)
    visitors = Visitors(turns)
    leaves = [asyncio.Event() for _ in range(4)]
    tasks = [visitors.come(f"bob{number}", "bob", leave) for number, leave in enumerate(leaves)]
    tasks.append(visitors.come("carol", "carol", leaves[3]))
    await settled()
    assert visitors.served == ["bob0", "bob1", "carol"]
    leaves[1].set()
    await settled()
    assert visitors.served == ["bob0", "bob1", "carol", "bob2"]
    for leave in leaves:
        leave.set()
    await asyncio.gather(*tasks)
    assert visitors.served[-1] == "bob3"
    assert (turns._busy, turns._waiting) == ({}, {})


async def test_who_leaves_while_waiting_or_fails_takes_no_turn_along() -> None:
    turns = Turns(1)
    visitors = Visitors(turns)
    leave = asyncio.Event()
    first, gives_up, last = (visitors.come(name, "bob", leave) for name in ("first", "gives up", "last"))
    await settled()
    gives_up.cancel()
    await asyncio.wait({gives_up})
    leave.set()
    await asyncio.gather(first, last)
    with pytest.raises(ZeroDivisionError):
        async with turns.turn("bob"):
            raise ZeroDivisionError
    assert visitors.served == ["first", "last"]
    assert (turns._busy, turns._waiting) == ({}, {})


async def test_who_leaves_just_when_the_turn_came_passes_it_on() -> None:
    turns = Turns(1)
    visitors = Visitors(turns)
    leave = asyncio.Event()
    first, leaves, last = (visitors.come(name, "bob", leave) for name in ("first", "leaves", "last"))
    await settled()
    leave.set()
    await asyncio.sleep(0)  # the first has ended and given its turn away; whoever has it did not run yet
    assert turns._busy == {"bob": 1}
    leaves.cancel()
    await asyncio.gather(first, last)
    assert leaves.cancelled()
    assert visitors.served == ["first", "last"]
    assert (turns._busy, turns._waiting) == ({}, {})
