"""What a change means for the change log: the same entries, whoever works it out and how often."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from app.activity_log import activities_of
from app.changes import Change
from app.position import Position
from models.activity import Activity
from tests.app.stream import NOON, change, comment, item, project

YEAR = timedelta(days=365)


def logged(of: Change) -> list[str]:
    return [entry["type"] for entry in activities_of(of, retention=YEAR)]


OWNER = {"principal": "user:alice", "role": "owner"}
RESOLVED = {"resolved": {"by": "bob", "at": NOON}}


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (change("projects", "insert", None, project()), ["project_created"]),
        (change("projects", "update", project(), project(name="New")), ["project_changed"]),
        (change("projects", "update", project(), project(members=[OWNER])), ["project_members_changed"]),
        (change("projects", "update", project(), project(archived_at=NOON)), ["project_archived"]),
        (change("projects", "update", project(archived_at=NOON), project()), ["project_reopened"]),
        (change("projects", "update", project(), project(deleted_at=NOON)), ["project_deleted"]),
        (change("projects", "delete", project()), ["project_deleted"]),
        (change("projects", "update", project(), project(name="B", archived_at=NOON)),
         ["project_changed", "project_archived"]),
        (change("projects", "update", project(), project(updated_by="carol", version=2)), []),
        (change("items", "insert", None, item()), ["item_added"]),
        (change("items", "update", item(), item(name="New")), ["item_changed"]),
        (change("items", "update", item(), item(status="ready")), ["item_status_changed"]),
        (change("items", "update", item(), item(name="New", status="ready")), ["item_status_changed", "item_changed"]),
        (change("items", "update", item(), item(deleted_at=NOON)), ["item_removed"]),
        (change("items", "delete", item()), ["item_removed"]),
        (change("items", "delete", item(deleted_at=NOON)), []),
        (change("items", "update", item(), item(project_id="q")), ["item_removed", "item_added"]),
        (change("items", "update", item(deleted_at=NOON), item()), ["item_added"]),
        (change("comments", "insert", None, comment()), []),
        (change("comments", "update", comment(), comment(body="New")), []),
        (change("comments", "update", comment(), comment(deleted_at=NOON)), ["comment_deleted"]),
        (change("comments", "update", comment(deleted_at=NOON), comment(deleted_at=NOON, x=1)), []),
        (change("comments", "update", comment(), comment(**RESOLVED)), ["thread_resolved"]),
        (change("comments", "update", comment(**RESOLVED), comment()), ["thread_reopened"]),
        (change("activities", "insert", None, {"_id": "a", "project_id": "p", "type": "item_added", "at": NOON}), []),
        (change("items", "insert", None, item(name=5)), []),
        # Nobody can tell what such a change did.
        (change("items", "update", key="i", current=item()), []),
        (change("items", "replace", None, item()), []),
        (change("items", "delete", key="i"), []),
    ],
)  # fmt: skip
def test_the_entries_of_a_change(of: Change, expected: list[str]) -> None:
    assert logged(of) == expected
    for entry in activities_of(of, retention=YEAR):
        Activity.from_document(entry)


def test_the_same_change_gives_the_same_entries_and_another_gives_others() -> None:
    def entries(position: Position) -> list[dict[str, Any]]:
        return activities_of(change("items", "update", item(), item(project_id="q"), at=position), retention=YEAR)

    first = entries(Position(5, 1, 1))
    assert first == entries(Position(5, 1, 1))
    ids = {
        entry["_id"]
        for position in (Position(5, 1, 1), Position(5, 1, 2), Position(5, 2, 1))
        for entry in entries(position)
    }
    assert len(ids) == 6


def test_an_entry_says_who_when_where_and_what() -> None:
    (entry,) = activities_of(change("items", "update", item(), item(status="ready", version=2)), retention=YEAR)
    assert entry | {"_id": ""} == {
        "_id": "",
        "project_id": "p",
        "item_id": "i",
        "type": "item_status_changed",
        "actor": "bob",
        "at": NOON,
        "data": {"name": "Home", "from": "draft", "to": "ready"},
        "expires_at": NOON + YEAR,
    }
    assert isinstance(entry["at"], datetime)
    (foreign,) = activities_of(change("items", "update", item(), item(status="ready")), retention=YEAR)
    assert "actor" not in foreign


def test_what_moves_is_logged_where_it_was_and_where_it_is() -> None:
    removed, added = activities_of(change("items", "update", item(), item(project_id="q")), retention=YEAR)
    assert (removed["project_id"], added["project_id"]) == ("p", "q")
