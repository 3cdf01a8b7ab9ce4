"""The ring: complete from a known position on, bounded, and true to what each caller may be told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.changes import Change
from app.history import History
from app.position import Position
from app.record import Record
from tests.app.stream import NOON, change, comment, entry, identity, inbox, item, project, told

TOPIC = "project:p"


class Ring:
    """A history with a clock that stands still, and changes that come one after another."""

    def __init__(self, **bounds: Any) -> None:
        self.now = 0.0
        self.history = History(
            **{"max_events": 1000, "max_bytes": 10**9, "max_seconds": 100, **bounds}, clock=lambda: self.now
        )
        self.history.begin(Position(1, 0))
        self._seconds = 1

    def add(self, collection: str, operation: str, *images: dict[str, Any] | None, **more: Any) -> Position:
        self._seconds += 1
        of = change(collection, operation, *images, at=Position(self._seconds, 1, 1), **more)
        self.history.extend([Record(of)])
        return of.position

    def ids(self, since: Position, topic: str = TOPIC, *who: Any) -> list[str]:
        return [event["id"] for event in self.events(since, topic, *who)]

    def events(self, since: Position, topic: str = TOPIC, *who: Any) -> list[dict[str, Any]]:
        return [json.loads(event) for _, event in self.history.events(topic, identity(*who), since)]


def test_nothing_is_covered_before_the_feed_is_open() -> None:
    assert not History(max_events=1, max_bytes=1, max_seconds=1).covers(Position(2**32 - 1, 0))


def test_exactly_what_came_after_a_position_is_replayed_in_order() -> None:
    ring = Ring()
    positions = [ring.add("items", "insert", None, item(_id=f"i{number}")) for number in range(5)]
    assert ring.ids(Position(1, 0)) == ["i0", "i1", "i2", "i3", "i4"]
    for number, position in enumerate(positions):
        assert ring.ids(position) == [f"i{later}" for later in range(number + 1, 5)]
    assert ring.ids(positions[0], "project:q") == []


def test_events_of_one_transaction_are_told_apart_by_their_ordinal() -> None:
    ring = Ring()
    for ordinal in (1, 2, 3):
        of = change("items", "insert", None, item(_id=f"i{ordinal}"), at=Position(7, 1, ordinal))
        ring.history.extend([Record(of)])
    assert ring.ids(Position(7, 1, 2)) == ["i3"]
    assert ring.ids(Position(7, 1, 0)) == ["i1", "i2", "i3"]


def test_beginning_anew_forgets_everything_and_covers_from_there_on() -> None:
    ring = Ring()
    position = ring.add("items", "insert", None, item())
    ring.history.begin(Position(50, 0))
    assert (len(ring.history), ring.history.bytes) == (0, 0)
    assert not ring.history.covers(position)
    assert ring.history.covers(Position(50, 0))
    assert ring.ids(position) == []


def test_age_count_and_bytes_are_bounds() -> None:
    for bounds, kept in (({"max_events": 3}, 3), ({"max_seconds": 2.5}, 3), ({"max_bytes": 1800}, 3)):
        ring = Ring(**bounds)
        positions = []
        for number in range(10):
            positions.append(ring.add("items", "insert", None, item(_id=f"i{number}", name="n" * 250)))
            ring.now += 1
        ring.now -= 1
        ring.history.trim()
        assert len(ring.history) == kept, bounds
        assert ring.history.start == positions[-kept - 1]
        assert ring.history.covers(positions[-kept - 1])
        assert not ring.history.covers(positions[-kept - 2])
        assert ring.ids(positions[-kept - 1]) == [f"i{number}" for number in range(10 - kept, 10)]


def test_what_has_aged_is_let_go_without_news() -> None:
    ring = Ring()
    position = ring.add("items", "insert", None, item())
    ring.now = 200
    ring.history.trim()
    assert (len(ring.history), ring.history.bytes) == (0, 0)
    assert ring.history.covers(position)
    assert not ring.history.covers(Position(1, 0))


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_the_text_of_a_comment_that_was_deleted_since_is_not_told_again(operation: str) -> None:
    ring = Ring()
    ring.add("comments", "insert", None, comment(body="Secret"))
    ring.add("comments", "update", comment(body="Secret"), comment(body="More secret", version=2))
    ring.add("comments", "insert", None, comment(_id="other", body="Public"))
    before = ring.add("items", "insert", None, item())
    gone = comment(deleted_at=NOON, body=None, version=3) if operation == "update" else None
    ring.add("comments", operation, comment(body="More secret", version=2), gone)
    events = ring.events(Position(1, 0))
    assert [event["id"] for event in events] == ["c", "c", "other", "i", "c"]
    assert "ecret" not in json.dumps(events)
    assert "Public" in json.dumps(events)
    assert ring.history.withdrawn(TOPIC, identity(), before) == {"c"}


def test_everybody_is_told_of_their_own_inbox_under_the_same_name() -> None:
    ring = Ring()
    start = ring.add("notifications", "insert", None, entry(_id="n1"))
    ring.add("notifications", "insert", None, entry(_id="n2", user_id="carol"))
    ring.add("inboxes", "update", inbox(), inbox(seq=2, version=2))
    assert ring.ids(Position(1, 0), "inbox") == ["n1", "bob"]
    assert ring.ids(start, "inbox") == ["bob"]
    assert ring.ids(Position(1, 0), "inbox", "carol") == ["n2"]
    assert ring.ids(Position(1, 0), "inbox", "dora") == []
    assert ring.ids(Position(1, 0), "projects") == []


def test_an_entry_does_not_quote_again_what_was_deleted_since() -> None:
    ring = Ring()
    secret, public = told("s", text="Secret"), told("o", text="Public")
    ring.add("notifications", "insert", None, entry(secret))
    ring.add("notifications", "update", entry(secret), entry(public, secret, version=2))
    before = ring.add("notifications", "insert", None, entry(secret, _id="hers", user_id="carol"))
    ring.add("notifications", "update", entry(public, secret, version=2), entry(public, version=3))
    first, second, third = ring.events(Position(1, 0), "inbox")
    assert "Secret" not in json.dumps([first, second, third])
    assert first["doc"]["body"] == ""
    assert second["doc"]["body"] == third["doc"]["body"] == "Public"
    assert [event.get("text") for event in second["doc"]["events"]] == ["Public", None]
    assert ring.history.withdrawn("inbox", identity(), before) == {"s"}
    # It is told to whom it was not taken from; the worker has not come to it yet.
    assert "Secret" in json.dumps(ring.events(Position(1, 0), "inbox", "carol"))
    assert ring.history.withdrawn("inbox", identity("carol"), before) == set()


def test_the_list_of_projects_is_replayed_as_each_caller_is_told() -> None:
    ring = Ring()
    ring.add("projects", "insert", None, project(visibility="private"))
    ring.add("projects", "update", project(visibility="private"), project())
    ring.add("projects", "update", project(), project(name="New"))
    since = Position(1, 0)
    assert [event["change"] for event in ring.events(since, "projects")] == ["enter", "update"]
    assert [event["change"] for event in ring.events(since, "projects", "root", "admin")] == [
        "enter",
        "update",
        "update",
    ]


def test_a_change_of_the_callers_role_is_noticed_and_that_of_others_is_not() -> None:
    def members(*roles: tuple[str, str]) -> dict[str, Any]:
        members = [{"principal": f"user:{user}", "role": role} for user, role in roles]
        return project(visibility="private", members=members)

    ring = Ring()
    ring.add("projects", "insert", None, members(("bob", "viewer")))
    start = ring.add("projects", "update", members(("bob", "viewer")), members(("bob", "viewer"), ("carol", "viewer")))
    assert not ring.history.role_changed(identity(), TOPIC, start)
    ring.add("projects", "update", members(("bob", "viewer")), members(("bob", "viewer"), ("dora", "viewer")))
    assert not ring.history.role_changed(identity(), TOPIC, start)
    assert ring.history.role_changed(identity("dora"), TOPIC, start)
    assert not ring.history.role_changed(identity("dora"), "project:q", start)
    last = ring.add("users", "update", {"_id": "bob", "roles": ["editor"]}, {"_id": "bob", "roles": ["admin"]})
    assert ring.history.role_changed(identity(), TOPIC, start)
    assert ring.history.role_changed(identity(), "projects", start)
    assert not ring.history.role_changed(identity(), "projects", last)


def test_a_project_that_was_lost_since_is_a_reason_not_to_replay_an_inbox() -> None:
    members = {"members": [{"principal": "user:bob", "role": "viewer"}], "visibility": "private"}
    ring = Ring()
    start = ring.add("notifications", "insert", None, entry())
    ring.add("projects", "insert", None, project(visibility="private"))
    ring.add("projects", "update", project(), project(name="New"))
    ring.add("projects", "update", project(visibility="private"), project(**members))
    assert not ring.history.role_changed(identity(), "inbox", start)
    last = ring.add("projects", "update", project(**members), project(visibility="private"))
    assert ring.history.role_changed(identity(), "inbox", start)
    assert not ring.history.role_changed(identity(), "inbox", last)
    assert not ring.history.role_changed(identity("carol"), "inbox", start)
    assert not ring.history.role_changed(identity("root", "admin"), "inbox", start)
    ring.add("projects", "update", project(visibility="private"), project(deleted_at=NOON))
    assert ring.history.role_changed(identity("root", "admin"), "inbox", last)
    assert not ring.history.role_changed(identity(), "inbox", last)
    ring.now = 1000
    ring.history.trim()
    assert ring.history._by_key == {}


def _changes() -> Iterator[Change]:
    """Inserts into two projects, some of them several at one time."""
    for number in range(12):
        project_id = "p" if number % 3 else "q"
        yield change(
            "items", "insert", None, item(_id=f"i{number}", project_id=project_id),
            at=Position(10 + number // 4, 1, 1 + number % 4),
        )  # fmt: skip


@given(max_events=st.integers(1, 12), slices=st.lists(st.integers(1, 5)))
def test_a_replay_is_complete_or_not_covered_whatever_the_bounds(max_events: int, slices: list[int]) -> None:
    _check_completeness(History, max_events, slices)


def _check_completeness(make: type[History], max_events: int, slices: list[int]) -> None:
    history = make(max_events=max_events, max_bytes=10**9, max_seconds=10**9)
    history.begin(Position(1, 0))
    changes = list(_changes())
    left = [Record(of) for of in changes]
    for size in [*slices, len(left)]:
        history.extend(left[:size])
        left = left[size:]
    for since in [Position(1, 0), *(of.position for of in changes)]:
        if not history.covers(since):
            continue
        for topic, project_id in ((TOPIC, "p"), ("project:q", "q")):
            expected = [
                of.id
                for of in changes
                if of.position > since and of.after and getattr(of.after, "project_id", "") == project_id
            ]
            got = [json.loads(event)["id"] for _, event in history.events(topic, identity(), since)]
            assert got == expected


def test_a_ring_that_forgets_what_it_let_go_is_caught() -> None:
    class Forgetful(History):
        def trim(self) -> None:
            start = self.start
            super().trim()
            self.start = start

    with pytest.raises(AssertionError):
        _check_completeness(Forgetful, 3, [])


def test_a_ring_that_repeats_the_last_event_is_caught() -> None:
    class Repeating(History):
        def _newest_first(self, topic: str, since: Position) -> Iterator[Record]:
            return super()._newest_first(topic, Position(since.seconds, since.increment, max(0, since.ordinal - 1)))

    with pytest.raises(AssertionError):
        _check_completeness(Repeating, 12, [])
