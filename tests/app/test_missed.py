"""What lies between a position and now, where memory and the database each have a part of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.catchup import Past
from app.history import History
from app.missed import Gap, NotResumable
from app.position import Position
from app.record import Record
from tests.app.stream import change, comment, entry, identity, project, told

START, UNTIL = Position(1, 0), Position(5, 1, 1)


def gap(past: list[Record], since: list[Record]) -> Gap:
    """What was read from the database, and what happened since that read began."""
    histories = []
    for begin, records in ((START, past), (UNTIL, since)):
        history = History(max_events=100, max_bytes=10**6, max_seconds=100)
        history.begin(begin)
        history.extend(records)
        histories.append(history)
    return Gap(START, histories[1], Past(histories[0], UNTIL))


def record(seconds: int, collection: str, operation: str, *images: dict[str, Any] | None) -> Record:
    return Record(change(collection, operation, *images, at=Position(seconds, 1, 1)))


def test_what_was_deleted_after_the_read_began_is_not_quoted_from_it() -> None:
    secret, public = told("s", text="Secret"), told("o", text="Public")
    past = [
        record(2, "notifications", "insert", None, entry(public, secret)),
        record(3, "comments", "insert", None, comment(_id="s", body="Secret")),
    ]
    since = [
        record(6, "notifications", "update", entry(public, secret), entry(public, version=2)),
        record(7, "comments", "delete", comment(_id="s", body="Secret"), None),
    ]
    for topic in ("inbox", "project:p"):
        assert "Secret" in json.dumps([event.decode() for _, event in gap(past, []).events(topic, identity())])
        events = gap(past, since).events(topic, identity())
        assert [position.seconds for position, _ in events] == ([2, 6] if topic == "inbox" else [3, 7])
        assert "Secret" not in json.dumps([event.decode() for _, event in events])


@pytest.mark.parametrize("part", ["past", "since"])
def test_a_project_lost_in_either_part_ends_the_replay_of_an_inbox(part: str) -> None:
    lost = record(4 if part == "past" else 6, "projects", "update", project(), project(visibility="private"))
    found = gap(*(([lost], []) if part == "past" else ([], [lost])))
    with pytest.raises(NotResumable) as caught:
        found.events("inbox", identity())
    assert caught.value.reason == "rights"
    assert found.events("inbox", identity("root", "admin")) == []
