"""Who is told of what, and why: a table of cases, and what every notification says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import UNSET

from app.changes import Change
from app.notifier import Audience, deliveries_of, deliveries_of_posting, shortened
from app.occasions import access_changed, automatic_follows, concerns, edited, is_gone, rights_changed
from app.position import Position
from models.fields import stamp
from models.item import Item
from models.notification import TEXT_LENGTH, Delivery
from models.posting import Posting
from tests.app.stream import NOON, change, comment, item, project

AT = stamp(NOON)
LATER, EARLIER = NOON + timedelta(milliseconds=1), NOON - timedelta(milliseconds=1)


def new(**fields: Any) -> Change:
    """Alice writes a comment that mentions nobody."""
    return change("comments", "insert", None, comment(**{"body": "Hello", **fields}))


def reply(**fields: Any) -> Change:
    return new(**{"_id": "c9", "thread_id": "t", **fields})


def edit(before: dict[str, Any], after: dict[str, Any]) -> Change:
    """Alice edits her comment."""
    return change("comments", "update", comment(**before), comment(version=2, updated_by="alice", **after))


def item_change(before: dict[str, Any] | None, after: dict[str, Any], **more: Any) -> Change:
    """Bob changes an item that alice made."""
    if before is None:
        return change("items", "insert", None, item(created_by="bob", **after), **more)
    return change("items", "update", item(**before), item(**{"version": 2, **after}), **more)


def audience(*, blind: tuple[str, ...] = (), **known: Any) -> Audience:
    """What is known; everybody but `blind` may see everything."""
    return Audience(**{"projects": {"p": "Spring"}, **known}, may_see=lambda user, _project: user not in blind)


def follows(subject: str, *users: str) -> dict[str, Any]:
    return {subject: dict.fromkeys(users, NOON)}


HOME = Item.from_document(item(assignee="dave", created_by="erin"))
ON_HOME = {"items": {"i": HOME}}
MOVED = Item.from_document(item(assignee="dave", created_by="erin", project_id="q", name="Secret"))
WROTE = {"participants": {"t": {"bob": (stamp(EARLIER), "c1"), "carol": (AT, "c2"), "alice": (AT, "c3")}}}
TEAM = {"groups": {("team", "p"): ["bob", "carol", "alice"]}}

MENTION, GROUP = ("mention", "mentioned"), ("mention", "group_mentioned")
REPLY, COMMENT = ("reply", "participant"), "comment"


@pytest.mark.parametrize(
    ("of", "known", "expected"),
    [
        # -- a comment --------------------------------------------------------------------------------------------
        (new(), {}, {}),
        (new(body="@bob and @carol"), {}, {"bob": MENTION, "carol": MENTION}),
        (new(body="I, @alice"), {}, {}),
        (new(body="@bob"), {"blind": ("bob",)}, {}),
        (new(body="@role:team"), TEAM, {"bob": GROUP, "carol": GROUP}),
        (new(body="@role:team @carol"), TEAM, {"carol": MENTION, "bob": GROUP}),
        (new(body="@role:team"), {}, {}),
        (reply(), WROTE, {"bob": REPLY, "carol": REPLY}),
        (reply(_id="c2"), WROTE, {"bob": REPLY}),
        (reply(created_at=EARLIER, _id="c0"), WROTE, {}),
        (reply(body="@bob"), WROTE, {"bob": MENTION, "carol": REPLY}),
        # The first comment of a thread is no reply, whoever else wrote there.
        (new(_id="t", thread_id="t"), WROTE, {}),
        (reply(), {"follows": follows("thread:t", "bob")}, {"bob": (COMMENT, "follows_thread")}),
        (reply(), {**WROTE, "follows": follows("thread:t", "bob", "dave")},
         {"bob": REPLY, "carol": REPLY, "dave": (COMMENT, "follows_thread")}),
        (new(), {"follows": follows("project:p", "bob", "alice")}, {"bob": (COMMENT, "follows_project")}),
        (new(), {"follows": follows("project:q", "bob")}, {}),
        (new(item_id="i"), {"follows": follows("item:i", "bob") | follows("project:p", "bob", "carol")},
         {"bob": (COMMENT, "follows_item"), "carol": (COMMENT, "follows_project")}),
        (reply(item_id="i"), {"follows": follows("thread:t", "bob") | follows("item:i", "bob")},
         {"bob": (COMMENT, "follows_thread")}),
        (new(item_id="i"), ON_HOME, {"dave": (COMMENT, "assignee"), "erin": (COMMENT, "creator")}),
        (new(item_id="i"), {**ON_HOME, "follows": follows("item:i", "dave")},
         {"dave": (COMMENT, "assignee"), "erin": (COMMENT, "creator")}),
        (new(item_id="i"), {**ON_HOME, "follows": follows("thread:c", "dave")},
         {"dave": (COMMENT, "follows_thread"), "erin": (COMMENT, "creator")}),
        (new(item_id="i", author="dave"), ON_HOME, {"erin": (COMMENT, "creator")}),
        # The item has moved to another project, whose readers these are not.
        (new(item_id="i"), {"items": {"i": MOVED}}, {}),
        (new(), {"follows": {"project:p": {"bob": NOON, "carol": LATER}}}, {"bob": (COMMENT, "follows_project")}),
        # Of the same millisecond: only whoever follows by then.
        (new(), {"follows": {"project:p": {"bob": (10, 1, 1), "carol": (10, 1, 2), "dave": (10, 0, 9)}}},
         {"bob": (COMMENT, "follows_project"), "dave": (COMMENT, "follows_project")}),
        # -- a comment, and who has muted it ----------------------------------------------------------------------
        (new(), {"follows": follows("project:p", "bob"), "mutes": {"thread:c": {"bob"}}}, {}),
        (reply(item_id="i"), {"follows": follows("thread:t", "bob"), "mutes": {"project:p": {"bob"}}}, {}),
        (reply(item_id="i"), {**WROTE, "mutes": {"item:i": {"bob"}}}, {"carol": REPLY}),
        (new(item_id="i"), {**ON_HOME, "mutes": {"item:i": {"dave"}}}, {"erin": (COMMENT, "creator")}),
        (new(body="@role:team"), {**TEAM, "mutes": {"project:p": {"bob"}}}, {"carol": GROUP}),
        (new(body="@role:team @bob"), {**TEAM, "mutes": {"project:p": {"bob"}}}, {"bob": MENTION, "carol": GROUP}),
        (new(body="@bob"), {"mutes": {"thread:c": {"bob"}, "project:p": {"bob"}}}, {"bob": MENTION}),
        (new(), {"follows": follows("project:p", "bob"), "mutes": {"item:i": {"bob"}}},
         {"bob": (COMMENT, "follows_project")}),
        # -- an edited comment: only whom it mentions now and did not before ---------------------------------------
        (edit({"body": "Hello"}, {"body": "Hello @bob"}), {}, {"bob": MENTION}),
        (edit({"body": "Hello @bob"}, {"body": "Hello @bob @carol"}), {}, {"carol": MENTION}),
        (edit({"body": "Hello @bob"}, {"body": "Hello there, @bob"}), {}, {}),
        (edit({"body": "Hello"}, {"body": "Hello @role:team"}), TEAM, {"bob": GROUP, "carol": GROUP}),
        (edit({"body": "@role:team"}, {"body": "Hello @role:team"}), TEAM, {}),
        (edit({"body": "Hello"}, {"body": "Good day"}), {"follows": follows("project:p", "dave")}, {}),
        (edit({"body": "Hello"}, {"body": "Hello @bob"}), {"mutes": {"project:p": {"bob"}}}, {"bob": MENTION}),
        # -- what else happens to comments -------------------------------------------------------------------------
        (edit({}, {"deleted_at": NOON}), {"follows": follows("project:p", "dave")}, {}),
        (edit({}, {"resolved": {"by": "bob", "at": NOON}}), {"follows": follows("project:p", "dave")}, {}),
        (change("comments", "insert", None, comment(deleted_at=NOON)), {}, {}),
        (change("comments", "insert", None, comment(body=5)), {}, {}),
        (change("comments", "delete", comment()), {}, {}),
        # It starts to fit: what it was before nobody was told either.
        (change("comments", "update", comment(body=5), comment()), {"follows": follows("project:p", "dave")}, {}),
        # Nobody can tell what it said before.
        (change("comments", "update", None, comment()), {}, {}),
        (change("comments", "update", key="c", current=comment()), {}, {}),
        # -- an item: who has to see to it -------------------------------------------------------------------------
        (item_change(None, {"assignee": "carol"}), {}, {"carol": ("assigned", "assignee")}),
        (item_change(None, {"assignee": "bob"}), {}, {}),
        (item_change(None, {}), {"follows": follows("project:p", "dave")}, {}),
        (item_change({}, {"assignee": "carol"}), {}, {"carol": ("assigned", "assignee")}),
        (item_change({"assignee": "dave"}, {"assignee": "carol"}), {}, {"carol": ("assigned", "assignee")}),
        (item_change({"assignee": "carol"}, {"name": "New", "assignee": "carol"}), {}, {}),
        (item_change({"assignee": "carol"}, {}), {}, {}),
        (item_change({}, {"assignee": "carol"}), {"blind": ("carol",)}, {}),
        (item_change({}, {"assignee": "carol"}), {"mutes": {"item:i": {"carol"}}},
         {"carol": ("assigned", "assignee")}),
        # -- an item: how far it is --------------------------------------------------------------------------------
        (item_change({}, {"status": "ready"}), {}, {"alice": ("item_status", "creator")}),
        (item_change({}, {"status": "ready", "changed_by": "alice"}), {}, {}),
        # Another program, which does not say who did it.
        (item_change({}, {"status": "ready", "version": 1}), {}, {"alice": ("item_status", "creator")}),
        (item_change({"assignee": "carol"}, {"status": "ready", "assignee": "carol"}),
         {"follows": follows("item:i", "dave", "bob") | follows("project:p", "erin", "carol")},
         {"carol": ("item_status", "assignee"), "alice": ("item_status", "creator"),
          "dave": ("item_status", "follows_item"), "erin": ("item_status", "follows_project")}),
        (item_change({}, {"status": "ready", "assignee": "carol"}), {},
         {"carol": ("assigned", "assignee"), "alice": ("item_status", "creator")}),
        (item_change({}, {"status": "ready", "assignee": "alice"}), {}, {"alice": ("assigned", "assignee")}),
        (item_change({}, {"status": "ready"}), {"mutes": {"project:p": {"alice"}}}, {}),
        (item_change({}, {"status": "ready", "project_id": "q"}), {}, {}),
        (item_change({}, {"deleted_at": NOON, "status": "ready"}), {}, {}),
        (item_change({"deleted_at": NOON, "assignee": "carol"}, {"assignee": "carol"}), {}, {}),
        (change("items", "update", None, item(assignee="carol")), {}, {}),
        # -- nothing of anybody's concern --------------------------------------------------------------------------
        (change("projects", "insert", None, project()), {"follows": follows("project:p", "dave")}, {}),
        (change("users", "update", {"_id": "bob"}, {"_id": "bob", "groups": ["x"]}), {}, {}),
        (change("activities", "insert", None, {"_id": "a", "project_id": "p", "type": "item_added", "at": NOON}),
         {}, {}),
    ],
)  # fmt: skip
def test_who_is_told_of_a_change_and_why(of: Change, known: dict[str, Any], expected: dict[str, Any]) -> None:
    deliveries = deliveries_of(of, audience(**known))
    assert {told.user_id: (told.event.type, told.event.reason) for told in deliveries} == expected
    assert len(deliveries) == len(expected), "nobody is told twice"
    assert not deliveries or concerns(of)


def only(deliveries: list[Delivery]) -> Delivery:
    assert len(deliveries) == 1
    return deliveries[0]


def test_a_comment_is_told_with_its_thread_its_text_and_the_way_there() -> None:
    told = only(deliveries_of(reply(body="See @bob", item_id="i"), audience(items={"i": HOME}, blind=("dave", "erin"))))
    assert told.subject.key == "thread:t"
    assert (told.subject.project_id, told.subject.item_id) == ("p", "i")
    assert (told.title, told.body, told.link) == ("Home", "See @bob", "/#/projects/p/threads/t")
    assert (told.event.actor, told.event.comment_id, told.event.text, told.event.at) == ("alice", "c9", "See @bob", AT)
    assert told.place == (10, 1, 1)
    moved = only(deliveries_of(new(body="See @bob", item_id="i"), audience(items={"i": MOVED})))
    assert moved.title == "Spring"
    on_project = only(deliveries_of(new(body="See @bob"), audience()))
    assert (on_project.title, on_project.link) == ("Spring", "/#/projects/p/threads/c")
    assert on_project.subject.item_id is UNSET


def test_an_item_is_told_with_what_became_of_it() -> None:
    status = only(deliveries_of(item_change({}, {"status": "ready"}), audience()))
    assert (status.subject.key, status.title, status.body) == ("item:i", "Home", "draft -> ready")
    assert (status.event.actor, status.event.text, status.link) == ("bob", "draft -> ready", "/#/projects/p/items/i")
    assigned = only(deliveries_of(item_change({}, {"assignee": "carol"}), audience()))
    assert (assigned.subject.key, assigned.body) == ("item:i", "Assigned to you")
    foreign = only(deliveries_of(item_change({}, {"status": "ready", "version": 1}), audience()))
    assert foreign.event.actor is UNSET


def test_an_event_has_the_same_id_whoever_derives_it_and_whatever_else_it_finds() -> None:
    def ids(place: Position, **known: Any) -> dict[str, str]:
        written = change("comments", "insert", None, comment(thread_id="t", body="@bob @carol"), at=place)
        return {told.user_id: told.event.id for told in deliveries_of(written, audience(**known))}

    first = ids(Position(10, 1, 1))
    assert ids(Position(10, 1, 1), **WROTE, follows=follows("project:p", "bob")) == first
    everything = {
        *first.values(),
        *ids(Position(10, 1, 2)).values(),
        *ids(Position(10, 2, 1)).values(),
        *ids(Position(11, 1, 1)).values(),
    }
    assert len(everything) == 8


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (change("projects", "insert", None, project()), [("alice", "project:p", "creator")]),
        (change("projects", "update", project(), project(name="New")), []),
        (change("projects", "update", project(deleted_at=NOON), project()), []),
        (item_change(None, {}), [("bob", "item:i", "creator")]),
        (item_change(None, {"assignee": "carol"}), [("bob", "item:i", "creator"), ("carol", "item:i", "assignee")]),
        (item_change({}, {"assignee": "carol"}), [("carol", "item:i", "assignee")]),
        (item_change({"assignee": "carol"}, {"assignee": "carol", "status": "ready"}), []),
        (new(body="@bob"), [("alice", "thread:c", "author"), ("bob", "thread:c", "mentioned")]),
        (reply(), [("alice", "thread:t", "author")]),
        (new(body="@role:team"), [("alice", "thread:c", "author")]),
        (edit({"body": "@bob"}, {"body": "@bob @carol"}), [("carol", "thread:c", "mentioned")]),
        (edit({"body": "Hello"}, {"body": "Good day"}), []),
        (edit({}, {"deleted_at": NOON}), []),
        (change("items", "insert", None, {"_id": "i", "project_id": "p", "content": {"id": "c", "version": "1"},
                                          "name": "Home", "type": "page", "status": "draft"}), []),
    ],
)  # fmt: skip
def test_who_follows_by_what_they_do_or_is_done_with_them(of: Change, expected: list[tuple[str, str, str]]) -> None:
    found = automatic_follows(of)
    assert [(follow.user_id, follow.subject, follow.auto) for follow, _ in found] == expected
    assert all(follow.since == NOON and project_id == "p" for follow, project_id in found)
    assert not found or concerns(of)


MEMBER = {"members": [{"principal": "user:bob", "role": "viewer"}]}


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (change("projects", "update", project(), project(visibility="private")), True),
        (change("projects", "update", project(**MEMBER), project()), True),
        (change("projects", "update", project(), project(deleted_at=NOON)), True),
        (change("projects", "delete", project()), True),
        (change("projects", "update", project(), project(name=5)), True),
        (change("projects", "update", key="p", current=project()), True),
        (change("projects", "update", None, project()), True),
        (change("projects", "update", project(), project(name="New")), False),
        (change("projects", "update", project(), project(archived_at=NOON)), False),
        (change("projects", "insert", None, project()), False),
    ],
)
def test_a_change_of_a_project_after_which_rights_are_looked_at_again(of: Change, expected: bool) -> None:
    assert access_changed(of) is expected
    assert concerns(of) or not expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"roles": ["editor"]}, {"roles": ["admin"]}, True),
        ({"groups": ["a"]}, {"groups": []}, True),
        ({}, {"disabled": True}, False),
        ({"name": "Bob"}, {"name": "Robert"}, False),
        (None, {}, True),
    ],
)
def test_a_change_of_a_user_after_which_rights_are_looked_at_again(before: Any, after: Any, expected: bool) -> None:
    stored = None if before is None else {"_id": "bob", **before}
    assert rights_changed(change("users", "update", stored, {"_id": "bob", **after})) is expected
    assert rights_changed(change("users", "delete", {"_id": "bob"}))
    assert not rights_changed(change("users", "insert", None, {"_id": "bob"}))


@pytest.mark.parametrize(
    ("of", "reads", "gone"),
    [
        (edit({"body": "A"}, {"body": "B"}), "B", False),
        (edit({"body": "A"}, {"body": "A"}), None, False),
        (edit({"body": "A"}, {"deleted_at": NOON}), None, True),
        (edit({"deleted_at": NOON}, {"deleted_at": NOON, "x": 1}), None, False),
        (edit({"body": "A"}, {"body": "B", "project_id": "q"}), None, True),
        (change("comments", "delete", comment()), None, True),
        (change("comments", "delete", key="c"), None, True),
        (change("comments", "update", None, comment(body="B")), "B", False),
        (change("comments", "update", None, comment(deleted_at=NOON)), None, True),
        (change("comments", "update", comment(), comment(body=5)), None, False),
        # What it says now may be from later than this change.
        (change("comments", "update", key="c", current=comment(body="B")), None, False),
        (new(), None, False),
        (change("items", "delete", item()), None, False),
    ],
)
def test_after_which_changes_a_comment_is_quoted_otherwise_or_no_more(
    of: Change, reads: str | None, gone: bool
) -> None:
    after = edited(of)
    assert (after.body if after is not None else None) == reads
    assert is_gone(of) is gone
    assert concerns(of) is (gone or reads is not None or of.operation == "insert")


def test_a_posting_is_told_to_its_recipients_but_not_to_whoever_sent_it() -> None:
    posting = Posting.from_document(
        {"_id": "x", "recipients": {"users": ["bob"]}, "type": "publish_result", "title": "Failed", "body": "Why",
         "link": "https://cms.example/jobs/1", "category": "jobs", "created_at": EARLIER, "send_at": NOON,
         "created_by": "cms"}
    )  # fmt: skip
    told = only(deliveries_of_posting(posting, ["bob", "cms"]))
    assert told == only(deliveries_of_posting(posting, ["bob"]))
    assert (told.user_id, told.subject.key) == ("bob", "custom:x")
    assert (told.event.type, told.event.reason, told.event.at) == ("publish_result", "addressed", AT)
    assert (told.event.actor, told.event.text) == ("cms", "Why")
    assert (told.title, told.body, told.link, told.category) == ("Failed", "Why", "https://cms.example/jobs/1", "jobs")
    assert len({told.event.id for told in deliveries_of_posting(posting, ["bob", "carol"])}) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Short", "Short"),
        ("x" * TEXT_LENGTH, "x" * TEXT_LENGTH),
        ("x" * (TEXT_LENGTH + 1), "x" * (TEXT_LENGTH - 1) + "…"),
        ("word " * 100, "word " * 59 + "word…"),
        ("longer " * 100, "longer " * 41 + "longer…"),
        ("\N{GRINNING FACE}" * 400, "\N{GRINNING FACE}" * (TEXT_LENGTH - 1) + "…"),
        ("a " + "b" * 400, "a " + "b" * (TEXT_LENGTH - 3) + "…"),
        ("a" * 290 + "\n" + "b" * 20, "a" * 290 + "…"),
    ],
)
def test_a_quotation_is_cut_at_a_word(text: str, expected: str) -> None:
    assert shortened(text) == expected
    assert len(shortened(text)) <= TEXT_LENGTH
