"""The inbox over REST: lists, states, counts, rights, what programs send; and the way from a comment to it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET

from models.fields import stamp
from models.inbox_store import InboxStore
from models.notification import Delivery, NotificationEvent, Subject, entry_id
from tests.conftest import Copydesk

BASE = "/notifications"
MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def projects(io_loop: Any, database: Any) -> None:
    """A public project P, and a private one Q that bob is a member of."""

    async def write() -> None:
        bob = {"principal": "user:bob", "role": "viewer"}
        await database.projects.insert_many(
            [
                {"_id": "P", "name": "Spring"},
                {"_id": "Q", "name": "Secret", "visibility": "private", "members": [bob]},
            ]
        )

    io_loop.run_sync(write)


class Inbox:
    """Puts events into inboxes, each at a later place and time than the one before."""

    def __init__(self, database: Any) -> None:
        self._store = InboxStore(database, report=lambda *_what: None, retention=timedelta(days=90))
        self._number = 0

    async def tell(self, user: str = "bob", *, thread: str = "T", project: str = "P", **event: Any) -> str:
        """One event; the id of its entry."""
        self._number += 1
        kind = event.pop("type", "comment")
        category = event.pop("category", UNSET)
        subject = Subject(kind="thread", project_id=project, item_id=event.pop("item", UNSET), thread_id=thread)
        at = stamp(MORNING + timedelta(minutes=self._number))
        delivery = Delivery(
            user_id=user,
            subject=subject,
            event=NotificationEvent(
                id=f"E{self._number}", type=kind, reason="follows_project", at=at, actor="alice", **event
            ),
            title="Spring",
            body=f"Text {self._number}",
            link=f"/#/projects/{project}",
            category=category,
            place=(1_000, self._number, 0),
        )
        assert await self._store.deliver([delivery]) == 1
        return entry_id(user, subject)


@pytest.fixture
def inbox(database: Any) -> Inbox:
    return Inbox(database)


async def count(api: Any, who: str = "bob") -> tuple[int, int]:
    answer = await api(who, "GET", f"{BASE}/count")
    assert answer.status == 200
    return answer.json["unseen"], answer.json["unread"]


async def listed(api: Any, query: str = "", who: str = "bob") -> list[str]:
    answer = await api(who, "GET", f"{BASE}?{query}")
    assert answer.status == 200, answer.body
    return [entry["subject"]["thread_id"] for entry in answer.json["items"]]


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_everybody_finds_their_own_and_nobody_elses(api: Any, inbox: Inbox) -> None:
    mine = await inbox.tell("bob")
    answer = await api("bob", "GET", BASE)
    (entry,) = answer.json["items"]
    assert (entry["id"], entry["title"], entry["body"], entry["link"]) == (mine, "Spring", "Text 1", "/#/projects/P")
    assert (entry["actors"], entry["event_count"], entry["reason"]) == (["alice"], 1, "follows_project")
    assert "seen_at" not in entry
    assert "user_id" not in entry
    assert "last_applied" not in entry
    assert answer.headers["Copydesk-Position"] == answer.json["position"] == "here"
    one = await api("bob", "GET", f"{BASE}/{mine}")
    assert (one.status, one.json) == (200, entry)
    known = {"If-None-Match": one.headers["ETag"]}
    assert (await api("bob", "GET", f"{BASE}/{mine}", headers=known)).status == 304
    for method, body in (("GET", None), ("PATCH", {"read": True}), ("DELETE", None)):
        assert (await api("alice", method, f"{BASE}/{mine}", body)).status == 404
    assert await listed(api, who="alice") == []
    assert await count(api, "alice") == (0, 0)
    assert await count(api) == (1, 1)


async def test_lists_are_filtered_and_paged_newest_first(api: Any, inbox: Inbox) -> None:
    await inbox.tell(thread="A", type="mention", item="I")
    await inbox.tell(thread="B", project="Q")
    await inbox.tell(thread="C", type="mention", category="import")
    await inbox.tell(thread="A", type="reply", item="I")
    assert await listed(api) == ["A", "C", "B"]
    assert await listed(api, "type=mention") == ["C"]
    assert await listed(api, "project_id=P") == ["A", "C"]
    assert await listed(api, "item_id=I") == ["A"]
    assert await listed(api, "thread_id=B") == ["B"]
    assert await listed(api, "category=import") == ["C"]
    page = (await api("bob", "GET", f"{BASE}?limit=2")).json
    assert await listed(api, f"limit=2&cursor={page['next_cursor']}") == ["B"]
    for wrong in ("state=gone", "type=gossip", "project_id=a/b", "sort=title", "category=", "limit=0"):
        answer = await api("bob", "GET", f"{BASE}?{wrong}")
        assert (answer.status, answer.json["code"]) == (422, "invalid"), wrong
    assert (await api("bob", "GET", f"{BASE}?type=reply&cursor={page['next_cursor']}")).status == 422


# -- states -----------------------------------------------------------------------------------------------------------


async def test_each_state_goes_both_ways_and_every_change_tells_the_counts(api: Any, inbox: Inbox) -> None:
    entry = await inbox.tell(thread="A")
    await inbox.tell(thread="B")
    before = (await api("bob", "GET", f"{BASE}/count")).json["seq"]
    steps = [
        ({"seen": True}, (1, 2), {"seen_at"}),
        ({"read": True}, (1, 1), {"seen_at", "read_at"}),
        ({"read": False}, (1, 2), {"seen_at"}),
        ({"seen": False}, (2, 2), set()),
        ({"read": True}, (1, 1), {"seen_at", "read_at"}),
        ({"archived": True}, (1, 1), {"seen_at", "read_at", "archived_at"}),
        ({"archived": False, "seen": False}, (2, 2), set()),
    ]
    for patch, waiting, states in steps:
        answer = await api("bob", "PATCH", f"{BASE}/{entry}", patch)
        assert answer.status == 200
        told = json.loads(answer.headers["Copydesk-Counts"])
        assert (told["unseen"], told["unread"]) == waiting, patch
        assert told["seq"] > before
        before = told["seq"]
        assert told == (await api("bob", "GET", f"{BASE}/count")).json
        assert {name for name in answer.json if name in ("seen_at", "read_at", "archived_at")} == states, patch
    assert await listed(api, "state=unread") == ["B", "A"]
    await api("bob", "PATCH", f"{BASE}/{entry}", {"archived": True})
    assert await listed(api) == ["B"]
    assert await listed(api, "state=archived") == ["A"]
    assert await listed(api, "state=read") == []


async def test_a_patch_that_makes_no_sense_is_refused(api: Any, inbox: Inbox) -> None:
    entry = await inbox.tell()
    for body in ({"seen": False, "read": True}, {"read": None}, {"read": 1}, {"title": "x"}, {"read_at": "x"}, []):
        answer = await api("bob", "PATCH", f"{BASE}/{entry}", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid"), body
        assert "Copydesk-Counts" not in answer.headers
    assert await count(api) == (1, 1)


async def test_an_old_version_is_not_changed(api: Any, inbox: Inbox) -> None:
    entry = await inbox.tell()
    stale = {"If-Match": (await api("bob", "GET", f"{BASE}/{entry}")).headers["ETag"]}
    await inbox.tell()
    for method, body in (("PATCH", {"read": True}), ("DELETE", None)):
        answer = await api("bob", method, f"{BASE}/{entry}", body, headers=stale)
        assert (answer.status, answer.json["code"]) == (412, "stale_version")
    assert await count(api) == (1, 1)
    fresh = {"If-Match": (await api("bob", "GET", f"{BASE}/{entry}")).headers["ETag"]}
    assert (await api("bob", "PATCH", f"{BASE}/{entry}", {"read": True}, headers=fresh)).status == 200


async def test_what_is_deleted_is_gone_and_deleting_it_again_is_no_error(api: Any, inbox: Inbox) -> None:
    entry = await inbox.tell(thread="A")
    await inbox.tell(thread="B")
    for _ in range(2):
        answer = await api("bob", "DELETE", f"{BASE}/{entry}")
        assert (answer.status, answer.body) == (204, b"")
        told = json.loads(answer.headers["Copydesk-Counts"])
        assert (told["unseen"], told["unread"]) == (1, 1)
    assert (await api("bob", "GET", f"{BASE}/{entry}")).status == 404
    assert (await api("bob", "PATCH", f"{BASE}/{entry}", {"read": True})).status == 404
    assert await listed(api) == ["B"]
    assert (await api("bob", "DELETE", f"{BASE}/nothing")).status == 404
    await inbox.tell(thread="A")
    assert await listed(api) == ["A", "B"]


async def test_marking_all_leaves_what_came_meanwhile(api: Any, inbox: Inbox) -> None:
    await inbox.tell(thread="A")
    await inbox.tell(thread="B")
    shown = (await api("bob", "GET", f"{BASE}/count")).json["seq"]
    await inbox.tell(thread="B")
    await inbox.tell(thread="C")
    answer = await api("bob", "POST", f"{BASE}/mark", {"read": True, "until": shown})
    assert answer.status == 200
    assert (answer.json["unseen"], answer.json["unread"]) == (2, 2)
    assert answer.json == (await api("bob", "GET", f"{BASE}/count")).json
    assert await listed(api, "state=read") == ["A"]
    assert await listed(api, "state=unread") == ["C", "B"]


async def test_some_are_marked_by_id_and_by_what_they_are_about(api: Any, inbox: Inbox) -> None:
    first = await inbox.tell(thread="A", item="I")
    await inbox.tell(thread="B", item="I")
    await inbox.tell(thread="C", type="mention")
    foreign = await inbox.tell("carol", thread="A")
    answer = await api("bob", "POST", f"{BASE}/mark", {"archived": True, "ids": [first, foreign, "unknown"]})
    assert answer.json["unread"] == 2
    assert await count(api, "carol") == (1, 1)
    answer = await api("bob", "POST", f"{BASE}/mark", {"seen": True, "filter": {"item_id": "I"}})
    assert (answer.json["unseen"], answer.json["unread"]) == (1, 2)
    answer = await api("bob", "POST", f"{BASE}/mark", {"read": True, "filter": {"thread_id": "B", "state": "unread"}})
    assert await listed(api, "state=read") == ["B"]
    answer = await api("bob", "POST", f"{BASE}/mark", {"archived": False, "filter": {"state": "archived"}})
    assert await listed(api) == ["C", "B", "A"]


async def test_a_mark_that_does_not_say_what_or_which_is_refused(api: Any, inbox: Inbox) -> None:
    await inbox.tell()
    for body in (
        {},
        {"read": True},
        {"until": 9},
        {"read": True, "seen": False, "until": 9},
        {"read": True, "until": -1},
        {"read": True, "until": "9"},
        {"read": True, "ids": ["a/b"]},
        {"read": True, "ids": [f"n{number}" for number in range(201)]},
        {"read": True, "filter": {"state": "lost"}},
        {"read": True, "filter": {"$where": "1"}},
        {"read": None, "until": 9},
    ):
        answer = await api("bob", "POST", f"{BASE}/mark", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid"), body
        assert answer.json["errors"]
    assert await count(api) == (1, 1)


async def test_a_mark_that_is_sent_again_with_its_key_does_nothing_more(api: Any, inbox: Inbox) -> None:
    await inbox.tell(thread="A")
    body, key = {"read": True, "until": 2**53}, {"Idempotency-Key": "mark-all"}
    first = await api("bob", "POST", f"{BASE}/mark", body, headers=key)
    await inbox.tell(thread="B")
    again = await api("bob", "POST", f"{BASE}/mark", body, headers=key)
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (200, first.body, "true")
    assert await count(api) == (1, 1)


# -- rights on reading ------------------------------------------------------------------------------------------------


async def test_entries_of_a_project_that_was_lost_are_not_there(api: Any, inbox: Inbox, plain_database: Any) -> None:
    open_one = await inbox.tell(thread="A")
    secret = await inbox.tell(thread="B", project="Q")
    assert await listed(api) == ["B", "A"]
    plain_database.projects.update_one({"_id": "Q"}, {"$set": {"members": []}})
    assert await listed(api) == ["A"]
    assert await listed(api, "project_id=Q") == []
    for method, body in (("GET", None), ("PATCH", {"read": True})):
        assert (await api("bob", method, f"{BASE}/{secret}", body)).status == 404
    plain_database.projects.update_one({"_id": "P"}, {"$set": {"deleted_at": datetime.now(UTC)}})
    assert await listed(api) == []
    assert (await api("bob", "GET", f"{BASE}/{open_one}")).status == 404


# -- what programs send -----------------------------------------------------------------------------------------------

POSTING = {"recipients": {"users": ["bob"], "groups": ["translators"]}, "title": "Import failed"}


async def test_only_programs_and_admins_send(api: Any) -> None:
    for roles, status in (((), 403), (("editor", "translators"), 403), (("service",), 201), (("admin",), 201)):
        assert (await api("robot", "POST", BASE, POSTING, roles=roles)).status == status
    assert (await api(None, "POST", BASE, POSTING)).status == 401


async def test_what_was_sent_is_found_at_its_location_by_who_sent_it(api: Any) -> None:
    whole = {
        **POSTING,
        "body": "Row 12",
        "link": "https://cms.example/jobs/1",
        "category": "import",
        "send_at": "2030-01-01T01:00:00+01:00",
    }
    answer = await api("robot", "POST", BASE, whole, roles=("service",))
    assert answer.status == 201
    posting = answer.json
    assert answer.headers["Location"] == f"/api/v1{BASE}/{posting['id']}"
    sent = {name: value for name, value in posting.items() if name not in ("id", "created_at")}
    assert sent == {
        **whole, "type": "custom", "send_at": "2030-01-01T00:00:00.000Z", "created_by": "robot", "version": 1,
    }  # fmt: skip
    found = await api("robot", "GET", f"{BASE}/{posting['id']}", roles=("service",))
    assert (found.json, found.headers["ETag"]) == (posting, answer.headers["ETag"])
    for who, roles in (("other", ("service",)), ("root", ("admin",)), ("robot", ()), ("bob", ())):
        assert (await api(who, "GET", f"{BASE}/{posting['id']}", roles=roles)).status == 404


async def test_sending_again_with_the_same_key_is_one_posting(api: Any, plain_database: Any) -> None:
    key = {"Idempotency-Key": "import-4711"}
    first = await api("robot", "POST", BASE, POSTING, roles=("service",), headers=key)
    again = await api("robot", "POST", BASE, POSTING, roles=("service",), headers=key)
    assert (again.status, again.body) == (201, first.body)
    assert plain_database.postings.count_documents({}) == 1
    other = await api("robot", "POST", BASE, {**POSTING, "title": "x"}, roles=("service",), headers=key)
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"recipients": {}}, "$.recipients"),
        ({"recipients": {"users": []}}, "$.recipients"),
        ({"recipients": {"users": ["a b"]}}, "$.recipients.users[0]"),
        ({"recipients": {"users": [f"u{n}" for n in range(201)]}}, "$.recipients.users"),
        ({"recipients": {"groups": [f"g{n}" for n in range(21)]}}, "$.recipients.groups"),
        ({"recipients": {"everyone": True}}, "$.recipients"),
        ({"title": ""}, "$.title"),
        ({"title": " "}, "$.title"),
        ({"title": "x" * 256}, "$.title"),
        ({"body": "x" * 2001}, "$.body"),
        ({"link": "javascript:alert(1)"}, "$.link"),
        ({"link": "//evil.example"}, "$.link"),
        ({"category": "x" * 256}, "$.category"),
        ({"type": "mention"}, "$.type"),
        ({"send_at": "tomorrow"}, "$.send_at"),
        ({"send_at": "2030-01-01T00:00:00"}, "$.send_at"),
        ({"sender": "alice"}, "$"),
    ],
)
async def test_a_posting_that_does_not_fit_is_refused_with_the_place(
    api: Any, plain_database: Any, changes: dict[str, Any], path: str
) -> None:
    answer = await api("robot", "POST", BASE, {**POSTING, **changes}, roles=("service",))
    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert [error["path"] for error in answer.json["errors"]] == [path]
    assert plain_database.postings.count_documents({}) == 0


# -- from a comment to the inbox --------------------------------------------------------------------------------------


async def _inbox_of(copydesk: Copydesk, user: str) -> Any:
    """A tab: a socket on the topic `inbox`."""
    tab = await copydesk.editor(user)
    assert "ok" in await tab.subscribe("inbox")
    return tab


def _unread(tab: Any) -> int | None:
    counts = [event["doc"]["unread"] for event in tab.events("inbox") if event["kind"] == "counts"]
    return counts[-1] if counts else None


@pytest.mark.parametrize("way", ["rest", "driver"])
async def test_a_mention_reaches_list_count_and_every_tab(copydesk: Copydesk, plain_database: Any, way: str) -> None:
    project = await copydesk.project()
    tabs = [await _inbox_of(copydesk, "bob") for _ in range(2)]
    if way == "rest":
        comment = (await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Look, @bob"}))["id"]
    else:
        comment = "foreign"
        plain_database.comments.insert_one(
            {"_id": comment, "project_id": project, "body": "Look, @bob", "author": "alice",
             "created_at": datetime.now(UTC)}
        )  # fmt: skip
    told = [await tab.until_event("inbox", kind="notification") for tab in tabs]
    await asyncio.gather(*(tab.until(lambda tab=tab: _unread(tab) == 1) for tab in tabs))
    (entry,) = (await copydesk.call("GET", "/notifications", user="bob"))["items"]
    assert [event["doc"] for event in told] == [entry, entry]
    assert (entry["type"], entry["reason"], entry["body"]) == ("mention", "mentioned", "Look, @bob")
    assert entry["subject"] == {"kind": "thread", "project_id": project, "thread_id": comment}
    assert entry["actors"] == ["alice"]
    counts = await copydesk.call("GET", "/notifications/count", user="bob")
    assert (counts["unseen"], counts["unread"]) == (1, 1)
    # Nobody is told of their own act, and nobody else of this one.
    assert (await copydesk.call("GET", "/notifications"))["items"] == []
    overview = await copydesk.call("GET", f"/projects/{project}/overview", user="bob")
    assert overview["me"]["unread"] == 1

    # What is read in one tab is read in the other.
    answer = await copydesk.request("PATCH", f"/notifications/{entry['id']}", {"read": True}, user="bob")
    assert json.loads(answer.headers["Copydesk-Counts"])["unread"] == 0
    await asyncio.gather(*(tab.until(lambda tab=tab: _unread(tab) == 0) for tab in tabs))
    pushed = [[e["doc"] for e in tab.events("inbox") if e["kind"] == "counts"][-1] for tab in tabs]
    assert pushed == [json.loads(answer.headers["Copydesk-Counts"])] * 2


async def test_a_failed_job_reaches_people_and_groups_with_one_call(copydesk: Copydesk) -> None:
    await copydesk.call("GET", "/session", user="carol", roles=("translators",))
    tab = await _inbox_of(copydesk, "carol")
    posting = {"recipients": {"users": ["bob", "carol"], "groups": ["translators"]}, "title": "Import 4711 failed",
               "body": "Row 12", "link": "https://cms.example/jobs/4711", "category": "import"}  # fmt: skip
    sent = await copydesk.call("POST", "/notifications", posting, user="robot", roles=("service",))
    told = (await tab.until_event("inbox", kind="notification"))["doc"]
    assert (told["type"], told["reason"], told["title"], told["category"]) == (
        "custom", "addressed", "Import 4711 failed", "import",
    )  # fmt: skip
    assert told["subject"] == {"kind": "custom", "posting_id": sent["id"]}
    assert told["link"] == "https://cms.example/jobs/4711"
    assert told["event_count"] == 1
