"""What a change-stream document means: the table of events in docs/protocol.md, row by row."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from bson import Code, DatetimeMS, Int64, ObjectId, Timestamp

from app.changes import Change, events_of, needs_lookup, read_change
from app.position import Position
from tests.app.stream import NOON, change, comment, document, entry, inbox, item, project


def told(of: Change) -> list[tuple[str, str, int | None, bool]]:
    """Topic, what happened, version, and whether there is a document."""
    return [(topic, event.change, event.version, event.doc is not msgspec.UNSET) for topic, event in events_of(of)]


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (change("items", "insert", None, item()), [("project:p", "enter", 1, True)]),
        (change("comments", "insert", None, comment()), [("project:p", "enter", 1, True)]),
        (change("projects", "insert", None, project()), [("project:p", "enter", 1, True)]),
        (change("items", "update", item(), item(name="New", version=2)), [("project:p", "update", 2, True)]),
        (change("items", "update", item(), item(name="New")), [("project:p", "update", None, True)]),
        (change("items", "replace", item(), item(name="New", version=2)), [("project:p", "update", 2, True)]),
        (change("items", "update", item(), item(deleted_at=NOON, version=2)), [("project:p", "delete", 2, False)]),
        (change("items", "update", item(), item(deleted_at=NOON)), [("project:p", "delete", None, False)]),
        (change("items", "delete", item()), [("project:p", "delete", None, False)]),
        (change("items", "delete", item(deleted_at=NOON)), []),
        (change("items", "update", item(deleted_at=NOON), item()), [("project:p", "enter", None, True)]),
        (
            change("items", "update", item(), item(project_id="q")),
            [("project:p", "leave", None, False), ("project:q", "enter", None, True)],
        ),
        (
            change("comments", "update", comment(), comment(deleted_at=NOON, version=2)),
            [("project:p", "update", 2, True)],
        ),
        (change("comments", "delete", comment()), [("project:p", "delete", None, False)]),
        (
            change("projects", "update", project(), project(archived_at=NOON, version=2)),
            [("project:p", "update", 2, True)],
        ),
        (
            change("projects", "update", project(), project(deleted_at=NOON, version=2)),
            [("project:p", "delete", 2, False)],
        ),
        # What does not fit is the same as not being there.
        (change("items", "insert", None, item(name=5)), []),
        (change("items", "update", item(name=5), item(name=6)), []),
        (change("items", "update", item(), item(name=5)), [("project:p", "delete", None, False)]),
        (change("items", "update", item(name=5), item()), [("project:p", "enter", None, True)]),
        (change("items", "update", item(), item(project_id=7)), [("project:p", "delete", None, False)]),
        # Without images: thin, and never silence.
        (change("items", "update", None, None, key="i", current=item()), [("project:p", "update", None, False)]),
        (change("items", "update", item(), None, current=item()), [("project:p", "update", None, False)]),
        (change("projects", "replace", None, project(version=7)), [("project:p", "update", None, True)]),
        (change("users", "update", {"_id": "bob"}, {"_id": "bob"}), []),
        # Inboxes: who owns an entry, only the stored document says.
        (change("notifications", "insert", None, entry()), [("inbox:bob", "enter", 1, True)]),
        (
            change("notifications", "update", entry(), entry(read_at=NOON, version=2)),
            [("inbox:bob", "update", 2, True)],
        ),
        (
            change("notifications", "update", entry(), entry(archived_at=NOON, version=2)),
            [("inbox:bob", "update", 2, True)],
        ),
        (
            change(
                "notifications", "update", entry(), {"_id": "n", "user_id": "bob", "deleted_at": NOON, "version": 2}
            ),
            [("inbox:bob", "delete", 2, False)],
        ),
        (
            change("notifications", "update", {"_id": "n", "user_id": "bob", "deleted_at": NOON}, entry(version=3)),
            [("inbox:bob", "enter", 3, True)],
        ),
        (change("notifications", "delete", entry()), [("inbox:bob", "delete", None, False)]),
        (change("notifications", "delete", entry(deleted_at=NOON)), []),
        (
            change("notifications", "update", entry(), entry(user_id="carol")),
            [("inbox:bob", "leave", None, False), ("inbox:carol", "enter", None, True)],
        ),
        (change("notifications", "update", key="n", current=entry()), [("inbox:bob", "update", None, False)]),
        (change("notifications", "insert", None, entry(user_id=None)), []),
        (change("notifications", "insert", None, entry(events="none")), []),
        (change("inboxes", "insert", None, inbox()), [("inbox:bob", "enter", 1, True)]),
        (change("inboxes", "update", inbox(), inbox(seq=2, version=2)), [("inbox:bob", "update", 2, True)]),
        (change("inboxes", "update", key="bob", current=inbox()), [("inbox:bob", "update", None, False)]),
        # There are always counts; those that are not stored are to be fetched.
        (change("inboxes", "update", inbox(), inbox(unread=-1)), [("inbox:bob", "update", None, False)]),
        (change("inboxes", "delete", inbox()), [("inbox:bob", "update", None, False)]),
        (change("inboxes", "delete", key="bob"), [("inbox:bob", "update", None, False)]),
        (change("inboxes", "delete", inbox(_id=5)), []),
    ],
)
def test_the_events_of_a_change(of: Change, expected: list[tuple[str, str, int | None, bool]]) -> None:
    assert told(of) == expected
    assert not of.lost


@pytest.mark.parametrize(
    "of",
    [
        change("items", "delete", key="i"),
        change("items", "update", key="i", current=None),
        # It may have been deleted softly, and nobody knows from which project.
        change("items", "update", key="i", current=item(deleted_at=NOON)),
        change("items", "update", key="i", current=item(name=5)),
        change("items", "replace", None, item(deleted_at=NOON)),
        change("projects", "update", key="p", current=project(deleted_at=NOON)),
        # It may have come from another project, which would be told nothing.
        change("items", "replace", None, item()),
        change("comments", "replace", key="c", current=comment()),
        change("notifications", "replace", None, entry()),
        # It came from another project, which is told nothing.
        change("items", "update", key="i", current=item(), updateDescription={"updatedFields": {"project_id": "p"}}),
        change("notifications", "delete", key="n"),
        change("notifications", "update", key="n", current=entry(deleted_at=NOON)),
        change(
            "notifications", "update", key="n", current=entry(), updateDescription={"updatedFields": {"user_id": "x"}}
        ),
    ],
)
def test_a_change_that_nobody_can_place_is_lost(of: Change) -> None:
    assert of.lost


def test_a_delete_of_something_that_nobody_saw_is_not_lost() -> None:
    assert not change("items", "delete", item(name=5)).lost


@pytest.mark.parametrize(
    ("before", "after", "version"),
    [
        ({"version": 1}, {"version": 2}, 2),
        ({"version": 1}, {"version": 9}, 9),
        ({"version": 2}, {"version": 2}, None),
        ({"version": 3}, {"version": 2}, None),
        ({"version": None}, {"version": 2}, 2),
        ({"version": None}, {"version": None}, None),
        ({"version": 4}, {"version": None}, None),
    ],
)
def test_the_version_is_told_only_where_the_change_raised_it(
    before: dict[str, Any], after: dict[str, Any], version: int | None
) -> None:
    assert change("items", "update", item(**before), item(**after)).version == version


def test_the_actor_is_told_only_where_the_change_says_who_it_was() -> None:
    assert change("items", "insert", None, item()).by == "alice"
    assert change("items", "update", item(), item(version=2)).by == "bob"
    assert change("items", "update", item(), item(name="Foreign")).by is msgspec.UNSET
    assert change("items", "delete", item()).by is msgspec.UNSET
    assert change("comments", "update", comment(), comment(version=2, updated_by="carol")).by == "carol"
    assert change("items", "insert", None, item(created_by=5)).by is msgspec.UNSET


def test_an_event_of_an_inbox_carries_what_rest_returns_and_no_more() -> None:
    ((_, event),) = events_of(change("notifications", "insert", None, entry()))
    shown = msgspec.to_builtins(event.doc)
    assert shown["id"] == "n"
    assert shown["updated_at"] == "2026-01-02T12:00:00.345Z"
    assert not {"user_id", "last_applied", "_id"} & set(shown)
    assert event.by is msgspec.UNSET
    ((_, event),) = events_of(change("inboxes", "insert", None, inbox()))
    assert (event.kind, event.id, msgspec.to_builtins(event.doc)) == (
        "counts",
        "bob",
        {"unseen": 1, "unread": 1, "seq": 1},
    )


def test_the_time_is_the_wall_clock_of_the_change_or_of_its_cluster() -> None:
    assert change("items", "insert", None, item()).at == "2026-01-02T12:00:00.345Z"
    old = document("items", "insert", None, item())
    del old["wallTime"]
    old["clusterTime"] = Timestamp(int(NOON.timestamp()), 3)
    assert read_change(old, Position(1, 1)).at == "2026-01-02T12:00:00.000Z"


@pytest.mark.parametrize("key", [ObjectId(), 5, None, {"a": 1}, 2.5, b"x", ["a"], DatetimeMS(2**60), Code("f()")])
def test_an_id_of_another_type_is_a_problem_and_no_event(key: Any) -> None:
    made = document("comments", "insert", None, comment(_id=key))
    made["documentKey"] = {"_id": key}
    of = read_change(made, Position(1, 1))
    assert events_of(of) == []
    assert of.problem is not None
    assert not of.lost


@pytest.mark.parametrize(
    "nonsense",
    [
        {"body": 5}, {"body": ""}, {"body": " "}, {"body": "x" * 10_001}, {"author": None}, {"created_at": "yesterday"},
        {"created_at": DatetimeMS(2**60)}, {"mentions": "all"}, {"resolved": True}, {"resolved": {"by": "a"}},
        {"anchor": {"quote": "x"}}, {"thread_id": ObjectId()}, {"version": -1}, {"version": "1"}, {"version": 2.5},
        {"body": Code("f()")}, {"author": Code("alice")}, {"mentions": [Code("bob")]},
        {"anchor": {"property": Code("x")}},
        {"project_id": None}, {"project_id": ""}, {"project_id": ["p"]}, {"item_id": {"$ref": "items"}},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_problem_and_no_event(nonsense: dict[str, Any]) -> None:
    of = change("comments", "insert", None, comment(**nonsense))
    assert events_of(of) == []
    assert of.problem


def test_code_in_a_field_that_nobody_knows_does_no_harm() -> None:
    of = change("comments", "insert", None, comment(hook=Code("f()"), anchor={"property": "x", "hook": [Code("f()")]}))
    assert [event.doc.id for _, event in events_of(of)] == ["c"]


def test_a_version_of_64_bits_is_told_as_a_number() -> None:
    of = change("comments", "update", comment(version=Int64(2**40)), comment(version=Int64(2**40 + 1)))
    ((_, event),) = events_of(of)
    assert json.loads(msgspec.json.encode(event))["version"] == 2**40 + 1


def test_an_activity_that_is_no_json_does_not_fit() -> None:
    entry = {"_id": "a", "project_id": "p", "type": "item_added", "at": datetime.now(UTC), "data": {"by": ObjectId()}}
    of = change("activities", "insert", None, entry)
    assert events_of(of) == []
    assert of.problem


def test_only_updates_and_replacements_without_their_image_are_looked_up() -> None:
    assert needs_lookup(document("items", "update", item()))
    assert needs_lookup(document("users", "update", {"_id": "bob"}))
    assert not needs_lookup(document("items", "update", item(), item()))
    assert not needs_lookup(document("items", "delete", item()))


def test_another_collection_renamed_over_ours_is_a_change_of_ours() -> None:
    made = {
        "operationType": "rename",
        "ns": {"db": "copydesk", "coll": "tmp.agg_out.1"},
        "to": {"db": "copydesk", "coll": "items"},
        "clusterTime": Timestamp(1, 1),
        "wallTime": NOON,
    }
    assert read_change(made, Position(1, 1)).collection == "items"
    made["ns"] = {"db": "copydesk", "coll": "comments"}
    assert read_change(made, Position(1, 1)).collection == "comments"
