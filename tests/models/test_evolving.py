"""The states of an entry and what they mean for counts and expiry, whatever is wanted in whatever order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evolving import (
    evolve,
    finish,
    has_a_fence,
    is_tombstone,
    mark,
    next_version,
    requote,
    reweigh,
    tombstone,
    weigh,
)
from models.notification import MAX_EVENTS, MOST, Counts
from models.notification_input import NotificationPatch
from tests.models.inboxes import NOON, delivery

YEAR = timedelta(days=365)
patches = st.dictionaries(st.sampled_from(["seen", "read", "archived"]), st.booleans()).filter(
    lambda wanted: (wanted.get("seen"), wanted.get("read")) != (False, True)
)


def entry() -> Any:
    return evolve(None, delivery(1))


@given(st.lists(patches, max_size=8))
def test_an_entry_is_as_it_was_wanted_last_and_what_is_read_is_seen(wanted: list[dict[str, bool]]) -> None:
    stored = entry()
    for minute, states in enumerate(wanted):
        now = NOON + timedelta(minutes=minute)
        after = mark(stored, NotificationPatch(**states), now=now)
        assert mark(after or stored, NotificationPatch(**states), now=NOON) is None
        stored = after or stored
        assert {name: f"{name}_at" in stored for name in states} == states
        assert "read_at" not in stored or "seen_at" in stored
        unseen, unread = weigh(stored)
        assert unseen <= unread
        assert (unread == 0) == ("read_at" in stored or "archived_at" in stored)
        assert stored["events"] == entry()["events"]


def test_an_entry_expires_when_nobody_waits_for_it_any_more() -> None:
    for states, at in (
        ({}, None),
        ({"seen_at": NOON}, None),
        ({"read_at": NOON}, NOON),
        ({"read_at": NOON, "archived_at": NOON + YEAR}, NOON + YEAR),
    ):
        stored = finish(None, {**entry(), **states}, seq=3, retention=YEAR)
        assert stored.get("expires_at") == (None if at is None else at + YEAR)
        assert "expires_at" not in finish(stored, entry(), seq=4, retention=YEAR)
    gone = finish(stored, tombstone(stored, now=NOON), seq=5, retention=YEAR)
    assert gone["expires_at"] == NOON + YEAR
    assert is_tombstone(gone)


def test_the_watermark_of_an_entry_is_the_seq_of_its_newest_event() -> None:
    first = finish(None, entry(), seq=3, retention=YEAR)
    seen = mark(first, NotificationPatch(seen=True), now=NOON)
    assert seen is not None
    assert finish(first, seen, seq=4, retention=YEAR)["event_seq"] == 3
    evolved = evolve(seen, delivery(2))
    assert evolved is not None
    assert finish(seen, evolved, seq=5, retention=YEAR)["event_seq"] == 5


def test_counts_never_fall_below_zero() -> None:
    assert reweigh(Counts(), entry(), tombstone(entry(), now=NOON), seq=2) == Counts(seq=2)


@pytest.mark.parametrize(
    ("before", "version"),
    [
        (None, 1),
        ({}, 2),
        ({"version": 7}, 8),
        ({"version": "x"}, 2),
        ({"version": None}, 2),
        ({"version": 2**63 - 1}, 2),
    ],
)
def test_every_change_raises_the_version(before: dict[str, Any] | None, version: int) -> None:
    assert next_version(before) == version


@pytest.mark.parametrize("fence", [None, 7, [], [1, 2], [1, 2, "3"], (1, 2, 3)])
def test_a_fence_that_cannot_be_compared_is_none(fence: object) -> None:
    assert has_a_fence(entry())
    assert not has_a_fence({**entry(), "last_applied": fence})
    assert not has_a_fence({**entry(), "events": [{"place": fence}]})
    assert not has_a_fence({"deleted_at": NOON, "last_applied": fence})


def test_an_entry_stays_until_all_its_events_are_gone_also_those_it_does_not_keep() -> None:
    stored = entry()
    for number in range(2, MAX_EVENTS + 3):
        stored = evolve(stored, delivery(number, comment_id="one"))
    emptied = requote(stored, "one", None, (2000, 1, 1), now=NOON)
    assert emptied is not None
    assert not is_tombstone(emptied)
    assert (emptied["events"], emptied["actors"], emptied["body"], emptied["event_count"]) == ([], [], "", 2)
    assert [emptied[name] for name in ("type", "reason", "title")] == ["comment", "follows_thread", "Start page"]
    assert requote(emptied, "one", None, (2001, 1, 1), now=NOON) is None
    revived = evolve(emptied, delivery(99))
    assert revived is not None
    assert (revived["event_count"], revived["body"]) == (3, "Comment 99")
    gone = requote(entry(), "c1", None, (2000, 1, 1), now=NOON)
    assert gone is not None
    assert is_tombstone(gone)


def test_no_more_events_are_counted_than_an_entry_may_say() -> None:
    after = evolve({**entry(), "event_count": MOST}, delivery(2))
    assert after is not None
    assert after["event_count"] == MOST


def test_who_was_told_of_a_comment_can_be_told_that_it_mentions_them_since() -> None:
    # The events are of two changes, and so is what they are known by.
    after = evolve(entry(), delivery(2, comment_id="c1", type="mention", reason="mentioned"))
    assert after is not None
    assert [event["type"] for event in after["events"]] == ["mention", "comment"]
