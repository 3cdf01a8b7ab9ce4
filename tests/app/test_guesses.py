"""How often passwords may be guessed."""

from __future__ import annotations

import pytest

from app.allowance import Allowance
from app.guesses import ACCOUNT_GUESSES, ACCOUNT_SECONDS, ADDRESS_GUESSES, ADDRESS_SECONDS, Guesses
from models.errors import RateLimited


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(clock=clock)


def test_an_account_can_be_guessed_at_a_few_times_only(guesses: Guesses, clock: Clock) -> None:
    for number in range(ACCOUNT_GUESSES):
        guesses.take("alice", f"10.0.0.{number}")
    with pytest.raises(RateLimited) as refusal:
        guesses.take("alice", "10.0.1.1")
    assert refusal.value.retry_after == pytest.approx(ACCOUNT_SECONDS)
    guesses.take("bob", "10.0.1.1")
    clock.now += ACCOUNT_SECONDS - 1
    with pytest.raises(RateLimited) as refusal:
        guesses.take("alice", "10.0.1.1")
    assert refusal.value.retry_after == pytest.approx(1)
    clock.now += 1
    guesses.take("alice", "10.0.1.1")
    with pytest.raises(RateLimited):
        guesses.take("alice", "10.0.1.1")


def test_an_address_can_guess_at_many_accounts_a_few_times_only(guesses: Guesses, clock: Clock) -> None:
    for number in range(ADDRESS_GUESSES):
        guesses.take(f"user{number}", "10.0.0.1")
    with pytest.raises(RateLimited):
        guesses.take("another", "10.0.0.1")
    guesses.take("another", "10.0.0.2")
    clock.now += ADDRESS_SECONDS
    guesses.take("another", "10.0.0.1")


def test_a_right_password_costs_nothing(guesses: Guesses) -> None:
    for _ in range(3 * ADDRESS_GUESSES):
        guesses.take("alice", "10.0.0.1")
        guesses.give_back("alice", "10.0.0.1")


def test_what_the_account_refuses_does_not_count_against_the_address(guesses: Guesses) -> None:
    for _ in range(ACCOUNT_GUESSES):
        guesses.take("alice", "10.0.0.1")
    for _ in range(2 * ADDRESS_GUESSES):
        with pytest.raises(RateLimited):
            guesses.take("alice", "10.0.0.1")
    guesses.take("bob", "10.0.0.1")


def test_the_addresses_of_one_ipv6_network_count_as_one(guesses: Guesses) -> None:
    for number in range(ADDRESS_GUESSES):
        guesses.take(f"user{number}", f"2001:db8::{number:x}")
    with pytest.raises(RateLimited):
        guesses.take("another", "2001:db8::ffff:1")
    guesses.take("another", "2001:db8:0:1::1")
    guesses.take("another", "")


def test_all_attempts_are_there_again_after_a_while(clock: Clock) -> None:
    allowance = Allowance(3, 10.0, clock=clock)
    for _ in range(2):
        for _ in range(3):
            allowance.take("key")
        with pytest.raises(RateLimited):
            allowance.take("key")
        clock.now += 1000.0


def test_giving_back_never_saves_up_more_than_there_was(clock: Clock) -> None:
    allowance = Allowance(3, 10.0, clock=clock)
    for _ in range(10):
        allowance.take("key")
        allowance.give_back("key")
        allowance.give_back("unknown")
    for _ in range(3):
        allowance.take("key")
    with pytest.raises(RateLimited):
        allowance.take("key")


def test_the_memory_is_bounded(clock: Clock) -> None:
    allowance = Allowance(1, 10.0, clock=clock, capacity=2)
    for key in ("a", "b", "c"):
        allowance.take(key)
    with pytest.raises(RateLimited):
        allowance.take("b")
    with pytest.raises(RateLimited):
        allowance.take("c")
    allowance.take("a")
