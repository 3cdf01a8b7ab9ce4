"""Following and muting over REST, and what follows from it for the inbox."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import Copydesk

BASE = "/subscriptions"


@pytest.fixture(autouse=True)
def content(io_loop: Any, database: Any) -> None:
    """A public project P with item I and thread T (C replies in it), and a private one Q of alice's with J and U."""

    async def write() -> None:
        alice = {"principal": "user:alice", "role": "owner"}
        now = datetime(2026, 3, 1, tzinfo=UTC)
        await database.projects.insert_many(
            [
                {"_id": "P", "name": "Spring"},
                {"_id": "Q", "name": "Secret", "visibility": "private", "members": [alice]},
                {"_id": "D", "name": "Deleted", "deleted_at": now},
            ]
        )
        item = {"content": {"version": "1"}, "name": "Page", "type": "page", "status": "draft"}
        await database.items.insert_many(
            [
                {**item, "_id": item_id, "project_id": project_id, "content": {"id": item_id, "version": "1"}}
                for item_id, project_id in (("I", "P"), ("J", "Q"))
            ]
        )
        comment = {"body": "Hello", "author": "alice", "created_at": now}
        await database.comments.insert_many(
            [
                {**comment, "_id": "T", "project_id": "P", "thread_id": "T"},
                {**comment, "_id": "C", "project_id": "P", "thread_id": "T"},
                {**comment, "_id": "F", "project_id": "P"},
                {**comment, "_id": "U", "project_id": "Q", "thread_id": "U"},
            ]
        )

    io_loop.run_sync(write)


async def test_a_subject_is_followed_muted_and_left_alone_again(api: Any) -> None:
    assert (await api("bob", "GET", f"{BASE}/thread:T")).status == 404
    made = await api("bob", "PUT", f"{BASE}/thread:T", {"level": "follow"})
    assert (made.status, made.headers["Location"]) == (201, f"/api/v1{BASE}/thread:T")
    assert {name: made.json[name] for name in ("subject", "level", "version")} == {
        "subject": "thread:T", "level": "follow", "version": 1,
    }  # fmt: skip
    assert "auto" not in made.json
    read = await api("bob", "GET", f"{BASE}/thread:T")
    assert (read.json, read.headers["ETag"]) == (made.json, made.headers["ETag"])
    again = await api("bob", "PUT", f"{BASE}/thread:T", {"level": "follow"})
    assert (again.status, again.json) == (200, made.json)
    assert "Location" not in again.headers
    muted = await api("bob", "PUT", f"{BASE}/thread:T", {"level": "mute"})
    assert (muted.status, muted.json["level"], muted.json["version"]) == (200, "mute", 2)
    assert (await api("alice", "GET", f"{BASE}/thread:T")).status == 404
    for _ in range(2):
        assert (await api("bob", "DELETE", f"{BASE}/thread:T")).status == 204
    assert (await api("bob", "GET", f"{BASE}/thread:T")).status == 404


async def test_the_colon_may_be_escaped(api: Any) -> None:
    for colon in ("%3A", "%3a"):
        assert (await api("bob", "PUT", f"{BASE}/item{colon}I", {"level": "mute"})).json["subject"] == "item:I"
    assert (await api("bob", "GET", f"{BASE}/item:I")).json["level"] == "mute"


async def test_only_what_one_may_see_is_followed(api: Any, plain_database: Any) -> None:
    for subject in ("project:Q", "item:J", "thread:U"):
        for level in ("follow", "mute"):
            answer = await api("bob", "PUT", f"{BASE}/{subject}", {"level": level})
            missing = await api("bob", "PUT", f"{BASE}/{subject[:-1]}X", {"level": level})
            assert (answer.status, missing.status) == (404, 404), subject
        assert (await api("alice", "PUT", f"{BASE}/{subject}", {"level": "follow"})).status == 201
    for subject in ("project:D", "thread:C", "item:T", "thread:I"):
        assert (await api("alice", "PUT", f"{BASE}/{subject}", {"level": "follow"})).status == 404, subject
    assert (await api("alice", "PUT", f"{BASE}/thread:F", {"level": "follow"})).status == 201
    assert plain_database.subscriptions.count_documents({"user_id": "bob"}) == 0


@pytest.mark.parametrize("subject", ["user:alice", "project", "project:", "project:a.b", "project:P:I", "Project:P"])
async def test_what_is_no_subject_is_not_found(api: Any, subject: str) -> None:
    assert (await api("bob", "GET", f"{BASE}/{subject}")).status == 404
    assert (await api("bob", "PUT", f"{BASE}/{subject}", {"level": "follow"})).status == 404


async def test_other_levels_are_refused(api: Any) -> None:
    for body in ({}, {"level": "watch"}, {"level": None}, {"level": "follow", "auto": "creator"}, []):
        answer = await api("bob", "PUT", f"{BASE}/project:P", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid"), body


async def test_an_old_version_is_not_deleted(api: Any) -> None:
    made = await api("bob", "PUT", f"{BASE}/project:P", {"level": "follow"})
    await api("bob", "PUT", f"{BASE}/project:P", {"level": "mute"})
    stale = await api("bob", "DELETE", f"{BASE}/project:P", headers={"If-Match": made.headers["ETag"]})
    assert (stale.status, stale.json["code"]) == (412, "stale_version")
    assert (await api("bob", "GET", f"{BASE}/project:P")).json["level"] == "mute"


async def test_subscriptions_are_listed_filtered_and_paged(api: Any) -> None:
    for subject, level in (("project:P", "follow"), ("item:I", "mute"), ("thread:T", "follow")):
        await api("bob", "PUT", f"{BASE}/{subject}", {"level": level})
    await api("alice", "PUT", f"{BASE}/project:Q", {"level": "follow"})

    async def listed(query: str) -> list[str]:
        answer = await api("bob", "GET", f"{BASE}?{query}")
        assert answer.status == 200, answer.body
        return [row["subject"] for row in answer.json["items"]]

    everything = await listed("")
    assert sorted(everything) == ["item:I", "project:P", "thread:T"]
    assert await listed("level=mute") == ["item:I"]
    assert await listed("kind=thread") == ["thread:T"]
    page = (await api("bob", "GET", f"{BASE}?limit=2")).json
    assert await listed(f"limit=2&cursor={page['next_cursor']}") == everything[2:]
    for wrong in ("level=watch", "kind=user", "sort=since", "user_id=alice"):
        assert (await api("bob", "GET", f"{BASE}?{wrong}")).status == 422, wrong


async def test_a_follower_is_told_until_the_thread_is_muted(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    await copydesk.call("PUT", f"/subscriptions/project:{project}", {"level": "follow"}, user="bob")
    tab = await copydesk.editor("bob")
    await tab.subscribe("inbox")
    comments = f"/projects/{project}/comments"
    thread = (await copydesk.call("POST", comments, {"body": "One"}))["id"]
    told = (await tab.until_event("inbox", kind="notification"))["doc"]
    assert (told["type"], told["reason"]) == ("comment", "follows_project")

    await copydesk.call("PUT", f"/subscriptions/thread:{thread}", {"level": "mute"}, user="bob")
    await copydesk.call("POST", comments, {"body": "Two", "thread_id": thread})
    other = (await copydesk.call("POST", comments, {"body": "Three"}))["id"]
    # The worker takes changes in order: when bob has heard of the third, the second is past.
    await tab.until(lambda: any(e.get("doc", {}).get("body") == "Three" for e in tab.events("inbox")))
    threads = {e["doc"]["subject"]["thread_id"] for e in tab.events("inbox") if e["kind"] == "notification"}
    assert threads == {thread, other}
    entry = await copydesk.call("GET", f"/notifications/{told['id']}", user="bob")
    assert (entry["body"], entry["event_count"]) == ("One", 1)


async def test_whoever_makes_something_follows_it_and_may_stop_that(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    tab = await copydesk.editor("alice")
    await tab.subscribe("inbox")
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "From bob"}, user="bob")
    told = (await tab.until_event("inbox", kind="notification"))["doc"]
    assert told["reason"] == "follows_project"
    follow = await copydesk.call("GET", f"/subscriptions/project:{project}")
    assert (follow["level"], follow["auto"]) == ("follow", "creator")
    (own,) = (await copydesk.call("GET", "/subscriptions", user="bob"))["items"]
    assert (own["subject"], own["auto"]) == (f"thread:{told['subject']['thread_id']}", "author")
    muted = await copydesk.call("PUT", f"/subscriptions/project:{project}", {"level": "mute"})
    assert muted["level"] == "mute"
    assert "auto" not in muted
