"""What the ring keeps of a change: encoded once, for whoever may have it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.record import Record, without_text
from tests.app.stream import NOON, change, comment, entry, identity, inbox, item, project, told

PRIVATE = {"visibility": "private"}
BOB = {"members": [{"principal": "user:bob", "role": "viewer"}]}
EDITORS = {"members": [{"principal": "role:desk", "role": "editor"}]}


def heard(record: Record, *who: Any, **more: Any) -> str | None:
    """What happened, as somebody hears it on the topic `projects`."""
    assert record.project is not None
    event = record.project.for_listener(identity(*who, **more))
    return None if event is None else str(json.loads(event)["change"])


@pytest.mark.parametrize(
    ("before", "after", "bob", "admin"),
    [
        ({}, {"name": "New"}, "update", "update"),
        ({}, {"archived_at": NOON}, "update", "update"),
        ({}, PRIVATE, "leave", "update"),
        (PRIVATE, {}, "enter", "update"),
        (PRIVATE, {**PRIVATE, **BOB}, "enter", "update"),
        ({**PRIVATE, **BOB}, PRIVATE, "leave", "update"),
        (PRIVATE, {**PRIVATE, "name": "New"}, None, "update"),
        ({**PRIVATE, **BOB}, {**PRIVATE, **BOB, "name": "New"}, "update", "update"),
        ({}, {"deleted_at": NOON}, "delete", "delete"),
        (PRIVATE, {**PRIVATE, "deleted_at": NOON}, None, "delete"),
        ({"deleted_at": NOON}, {}, "enter", "enter"),
        ({}, {"name": 5}, "delete", "delete"),
    ],
)
def test_a_change_of_a_project_is_told_by_what_each_saw_and_sees(
    before: dict[str, Any], after: dict[str, Any], bob: str | None, admin: str
) -> None:
    record = Record(change("projects", "update", project(**before), project(**after)))
    assert heard(record) == bob
    assert heard(record, "root", "admin") == admin
    assert heard(record, "robot", "service") == admin
    assert record.project is not None
    size = record.project.seal()
    assert size > 0
    assert heard(record) == bob, "also once it is sealed"
    assert heard(record, "root", "admin") == admin


def test_a_group_sees_what_it_is_granted() -> None:
    record = Record(change("projects", "update", project(**PRIVATE), project(**PRIVATE, **EDITORS)))
    assert heard(record) is None
    assert heard(record, groups=("desk",)) == "enter"


def test_leave_and_delete_carry_no_document() -> None:
    for after in (PRIVATE, {"deleted_at": NOON}):
        record = Record(change("projects", "update", project(), project(**after)))
        assert record.project is not None
        assert b'"doc"' not in (record.project.for_listener(identity()) or b"")


def test_a_project_whose_image_from_before_is_missing_leaves_those_who_do_not_see_it_now() -> None:
    record = Record(change("projects", "update", key="p", current=project(**PRIVATE, **BOB)))
    assert record.project is not None
    assert record.project.changes_access
    record.project.seal()
    assert heard(record, "bob") == "update"
    assert heard(record, "carol") == "leave"


def test_only_a_change_of_instance_roles_or_groups_concerns_the_user() -> None:
    def user(**fields: Any) -> dict[str, Any]:
        return {"_id": "bob", "roles": ["editor"], "groups": [], **fields}

    assert Record(change("users", "update", user(), user(roles=["admin"]))).user_id == "bob"
    assert Record(change("users", "update", user(), user(groups=["desk"]))).user_id == "bob"
    assert Record(change("users", "update", user(), user(name="Bob"))).user_id is None
    assert Record(change("users", "insert", None, user())).user_id is None


@pytest.mark.parametrize(
    ("before", "after", "bob", "admin"),
    [
        ({}, PRIVATE, True, False),
        (PRIVATE, {}, False, False),
        ({**PRIVATE, **BOB}, PRIVATE, True, False),
        ({**PRIVATE, **BOB}, BOB, False, False),
        ({}, {"deleted_at": NOON}, True, True),
        (PRIVATE, {**PRIVATE, "deleted_at": NOON}, False, True),
    ],
)
def test_a_project_is_lost_to_who_saw_it_and_does_not(
    before: dict[str, Any], after: dict[str, Any], bob: bool, admin: bool
) -> None:
    record = Record(change("projects", "update", project(**before), project(**after)))
    assert record.project is not None
    assert record.project.is_lost_to(identity()) is bob
    assert record.project.is_lost_to(identity("root", "admin")) is admin


def test_what_nobody_needs_to_be_told_is_empty() -> None:
    assert Record(change("sessions", "delete", {"_id": "s"})).is_empty
    assert Record(change("items", "insert", None, item(name=5))).is_empty
    assert not Record(change("items", "insert", None, item())).is_empty


def test_an_event_without_text_keeps_everything_else() -> None:
    record = Record(change("comments", "insert", None, comment(mention_groups=["desk"], anchor={"property": "title"})))
    whole = json.loads(record.parts[0][1])
    bare = json.loads(without_text(record.parts[0][1], {"c"}))
    assert set(whole["doc"]) - set(bare["doc"]) == {"body", "mentions", "mention_groups", "anchor"}
    assert bare | {"doc": 0} == whole | {"doc": 0}
    thin = Record(change("comments", "update", key="c", current=comment()))
    assert without_text(thin.parts[0][1], {"c"}) == thin.parts[0][1]


@pytest.mark.parametrize(
    ("operation", "after"),
    [("update", comment(deleted_at=NOON)), ("delete", None), ("update", comment(body=5))],
)
def test_a_comment_that_is_deleted_takes_its_text_along(operation: str, after: dict[str, Any] | None) -> None:
    assert Record(change("comments", operation, comment(), after)).withdrawn == {"c"}
    edited = Record(change("comments", "update", comment(), comment(body="Edited")))
    assert (edited.quotes, edited.withdrawn) == ({"c"}, frozenset())


def test_an_entry_of_an_inbox_quotes_comments_until_they_are_gone_from_it() -> None:
    two, one = entry(told("b"), told("a")), entry(told("b"))

    def of(operation: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[set[str], set[str]]:
        record = Record(change("notifications", operation, before, after))
        return set(record.quotes), set(record.withdrawn)

    assert of("insert", None, two) == ({"a", "b"}, set())
    assert of("update", one, two) == ({"a", "b"}, set())
    assert of("update", two, entry(told("b", text="edited"), told("a"))) == ({"a", "b"}, set())
    assert of("update", two, one) == ({"b"}, {"a"})
    assert of("update", two, entry(told("b"), told("a", text=None))) == ({"b"}, {"a"})
    assert of("update", two, {"_id": "n", "user_id": "bob", "deleted_at": NOON, "version": 2}) == (set(), {"a", "b"})
    assert of("delete", two, None) == (set(), {"a", "b"})
    # What no comment says is nobody's to take away.
    assert of("update", entry(told(None, text="draft -> ready")), entry(told(None))) == (set(), set())
    assert Record(change("inboxes", "update", inbox(), inbox(seq=2, version=2))).quotes == frozenset()


def test_an_entry_without_the_text_of_some_comments_keeps_everything_else() -> None:
    record = Record(change("notifications", "insert", None, entry(told("b"), told("a"), told(None, text="status"))))
    ((key, whole),) = record.parts
    assert key == "inbox:bob"
    older = json.loads(without_text(whole, {"a"}))
    newest = json.loads(without_text(whole, {"b"}))
    expected = json.loads(whole)
    del expected["doc"]["events"][1]["text"]
    assert older == expected
    expected = json.loads(whole)
    del expected["doc"]["events"][0]["text"]
    expected["doc"]["body"] = ""
    assert newest == expected
    assert json.loads(without_text(whole, {"c"})) == json.loads(whole)
    thin = Record(change("notifications", "update", key="n", current=entry()))
    assert without_text(thin.parts[0][1], {"c"}) == thin.parts[0][1]
