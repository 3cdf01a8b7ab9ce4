"""Comments over REST: threads, rights, tombstones, preconditions, keys."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

COMMENTS = "/projects/P/comments"


@pytest.fixture(autouse=True)
def people(io_loop: Any, database: Any) -> None:
    """A private project with one member of each role and a second commenter, and one item in it."""
    members = [
        {"principal": f"user:{role}", "role": role} for role in ("viewer", "commenter", "editor", "publisher", "owner")
    ]
    members.append({"principal": "user:bob", "role": "commenter"})

    async def write() -> None:
        await database.projects.insert_one({"_id": "P", "name": "Spring", "visibility": "private", "members": members})
        content = {"id": "page", "version": "1"}
        await database.items.insert_one(
            {"_id": "I", "project_id": "P", "content": content, "name": "Page", "type": "page", "status": "draft"}
        )

    io_loop.run_sync(write)


async def say(api: Any, body: str = "Hello", *, who: str = "commenter", **more: Any) -> dict[str, Any]:
    answer = await api(who, "POST", COMMENTS, {"body": body, **more})
    assert answer.status == 201, answer.body
    return dict(answer.json)


async def test_a_comment_is_found_at_its_location(api: Any) -> None:
    anchor = {"property": "title", "quote": "Hi"}
    written = await api("commenter", "POST", COMMENTS, {"body": "@bob look", "item_id": "I", "anchor": anchor})
    assert written.status == 201
    assert written.headers["Location"] == f"/api/v1{COMMENTS}/{written.json['id']}"
    read = await api("viewer", "GET", f"{COMMENTS}/{written.json['id']}")
    assert (read.status, read.json) == (200, written.json)
    assert {name: value for name, value in read.json.items() if name not in ("id", "thread_id", "created_at")} == {
        "project_id": "P",
        "item_id": "I",
        "anchor": anchor,
        "body": "@bob look",
        "mentions": ["bob"],
        "mention_groups": [],
        "author": "commenter",
        "version": 1,
    }
    assert read.json["thread_id"] == read.json["id"]
    known = {"If-None-Match": written.headers["ETag"]}
    assert (await api("viewer", "GET", f"{COMMENTS}/{written.json['id']}", headers=known)).status == 304


async def test_replies_are_flat_and_listed_newest_first(api: Any) -> None:
    first = await say(api, "one", item_id="I")
    reply = await say(api, "two", who="bob", parent_id=first["id"])
    last = await say(api, "three", parent_id=reply["id"], thread_id=first["id"], item_id="I")
    assert {comment["thread_id"] for comment in (first, reply, last)} == {first["id"]}
    await say(api, "elsewhere")
    answer = await api("viewer", "GET", f"{COMMENTS}?thread_id={first['id']}")
    assert [comment["body"] for comment in answer.json["items"]] == ["three", "two", "one"]
    assert answer.headers["Copydesk-Position"] == answer.json["position"] == "here"


async def test_comments_are_filtered_and_paged(api: Any) -> None:
    first = await say(api, "one", item_id="I")
    await say(api, "two", who="bob", thread_id=first["id"])
    third = await say(api, "three", who="bob")
    assert (await api("owner", "PATCH", f"{COMMENTS}/{third['id']}", {"resolved": True})).status == 200

    async def found(query: str) -> list[str]:
        answer = await api("viewer", "GET", f"{COMMENTS}?{query}")
        assert answer.status == 200, answer.body
        return [comment["body"] for comment in answer.json["items"]]

    assert await found("item_id=I") == ["two", "one"]
    assert await found("author=bob") == ["three", "two"]
    assert await found("resolved=true") == ["three"]
    assert await found("resolved=false") == ["one"]
    assert await found(f"created_after={third['created_at']}") == []
    assert await found(f"created_after={quote('2020-01-01T00:00:00+02:00')}") == ["three", "two", "one"]
    page = (await api("viewer", "GET", f"{COMMENTS}?limit=2")).json
    assert await found(f"limit=2&cursor={page['next_cursor']}") == ["one"]


async def test_a_query_that_makes_no_sense_is_refused(api: Any) -> None:
    wrong = (
        "item_id=a%20b resolved=maybe author= created_after=today created_after=2020-01-01T00:00:00 sort=body who=bob"
    )
    for query in [*wrong.split(), "created_after=0001-01-01T00:00:00%2B05:00"]:
        answer = await api("viewer", "GET", f"{COMMENTS}?{query}")
        assert (answer.status, answer.json["code"]) == (422, "invalid"), query


async def test_a_comment_that_does_not_fit_or_sets_what_is_ours_is_refused(api: Any) -> None:
    for body in (
        {},
        {"body": ""},
        {"body": " \n"},
        {"body": "x" * 10_001},
        {"body": {"$gt": ""}},
        {"body": "x", "author": "owner"},
        {"body": "x", "id": "mine"},
        {"body": "x", "mentions": ["bob"]},
        {"body": "x", "resolved": True},
        {"body": "x", "anchor": {"property": "title", "x": 1}},
        {"body": "x", "thread_id": ["a"]},
        {"body": " ".join(f"@user{number}" for number in range(51))},
    ):
        answer = await api("commenter", "POST", COMMENTS, body)
        assert (answer.status, answer.json["code"]) == (422, "invalid"), body
    assert (await api("viewer", "GET", COMMENTS)).json["items"] == []
    assert len((await say(api, "é" * 10_000))["body"]) == 10_000


async def test_a_reply_to_what_is_not_there_or_deleted_is_refused(api: Any) -> None:
    first = await say(api)
    assert (await api("commenter", "DELETE", f"{COMMENTS}/{first['id']}")).status == 204
    for named, status, code in (
        ({"thread_id": "none"}, 404, "not_found"),
        ({"parent_id": "none"}, 404, "not_found"),
        ({"item_id": "none"}, 404, "not_found"),
        ({"thread_id": first["id"]}, 409, "conflict"),
        ({"parent_id": first["id"]}, 409, "conflict"),
    ):
        answer = await api("commenter", "POST", COMMENTS, {"body": "Hello", **named})
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.json["errors"][0]["path"] == f"$.{next(iter(named))}"


async def test_the_author_edits_and_others_do_not_whatever_their_role(api: Any) -> None:
    written = await say(api, "@bob look")
    path = f"{COMMENTS}/{written['id']}"
    for who, status in (("viewer", 403), ("bob", 403), ("owner", 403), ("stranger", 404)):
        assert (await api(who, "PATCH", path, {"body": "Mine now"})).status == status
    admin = await api("root", "PATCH", path, {"body": "Mine now"}, roles=("admin",))
    assert admin.status == 403
    edited = await api("commenter", "PATCH", path, {"body": "@owner look"})
    assert (edited.status, edited.json["body"], edited.json["mentions"]) == (200, "@owner look", ["owner"])
    assert (edited.json["version"], "edited_at" in edited.json) == (2, True)
    same = await api("commenter", "PATCH", path, {"body": "@owner look"})
    assert same.json == edited.json


async def test_whoever_may_comment_resolves_a_thread(api: Any) -> None:
    first = await say(api)
    reply = await say(api, thread_id=first["id"])
    path = f"{COMMENTS}/{first['id']}"
    assert (await api("viewer", "PATCH", path, {"resolved": True})).status == 403
    resolved = await api("bob", "PATCH", path, {"resolved": True})
    assert resolved.json["resolved"]["by"] == "bob"
    assert (await api("editor", "PATCH", path, {"resolved": True})).json == resolved.json
    reopened = await api("editor", "PATCH", path, {"resolved": False})
    assert ("resolved" in reopened.json, reopened.json["version"]) == (False, 3)
    await api("bob", "PATCH", path, {"resolved": True})
    assert "resolved" not in (await api("bob", "PATCH", path, {"resolved": None})).json
    for wrong in ({"resolved": "no"}, {"resolved": 1}, {"resolved": {"by": "bob"}}):
        assert (await api("bob", "PATCH", path, wrong)).status == 422
    assert (await api("bob", "PATCH", f"{COMMENTS}/{reply['id']}", {"resolved": True})).status == 422


async def test_a_deleted_comment_leaves_a_tombstone_and_may_be_deleted_again(api: Any) -> None:
    written = await say(api, "@bob secret", item_id="I")
    path = f"{COMMENTS}/{written['id']}"
    for who, status in (("viewer", 403), ("bob", 403), ("publisher", 403), ("stranger", 404)):
        assert (await api(who, "DELETE", path)).status == status
    for who in ("commenter", "commenter", "owner"):
        assert (await api(who, "DELETE", path)).status == 204
    assert (await api("bob", "DELETE", path)).status == 403
    tombstone = await api("viewer", "GET", path)
    assert (tombstone.status, tombstone.json["version"], tombstone.json["mentions"]) == (200, 2, [])
    assert not {"body", "anchor"} & set(tombstone.json)
    assert {"deleted_at", "thread_id", "item_id", "author"} <= set(tombstone.json)
    assert (await api("viewer", "GET", COMMENTS)).json["items"] == [tombstone.json]
    for patch in ({"body": "Back"}, {"resolved": True}):
        answer = await api("commenter", "PATCH", path, patch)
        assert (answer.status, answer.json["code"]) == (409, "conflict")


async def test_an_owner_deletes_what_others_wrote(api: Any) -> None:
    written = await say(api)
    assert (await api("owner", "DELETE", f"{COMMENTS}/{written['id']}")).status == 204
    assert "body" not in (await api("viewer", "GET", f"{COMMENTS}/{written['id']}")).json


async def test_an_outdated_if_match_is_refused(api: Any) -> None:
    written = await api("commenter", "POST", COMMENTS, {"body": "Hello"})
    path = f"{COMMENTS}/{written.json['id']}"
    old = {"If-Match": written.headers["ETag"]}
    edited = await api("commenter", "PATCH", path, {"body": "Two"}, headers=old)
    assert edited.status == 200
    for method, body in (("PATCH", {"body": "Three"}), ("DELETE", None)):
        stale = await api("commenter", method, path, body, headers=old)
        assert (stale.status, stale.json["code"]) == (412, "stale_version")
    assert (await api("commenter", "DELETE", path, headers={"If-Match": edited.headers["ETag"]})).status == 204


async def test_each_role_may_do_what_the_table_says(api: Any) -> None:
    written = await say(api)
    for who, reads, writes in (
        ("viewer", 200, 403),
        ("commenter", 200, 201),
        ("owner", 200, 201),
        ("stranger", 404, 404),
    ):
        for path in (COMMENTS, f"{COMMENTS}/{written['id']}"):
            assert (await api(who, "GET", path)).status == reads
        assert (await api(who, "POST", COMMENTS, {"body": "Hello"})).status == writes
    assert (await api(None, "GET", COMMENTS)).status == 401


async def test_a_comment_sent_again_with_its_key_is_written_once(api: Any, database: Any) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await api("commenter", "POST", COMMENTS, {"body": "Hello"}, headers=headers)
    second = await api("commenter", "POST", COMMENTS, {"body": "Hello"}, headers=headers)
    assert (second.status, second.body) == (first.status, first.body)
    # As if the process had died between the insert and the answer.
    await database.idempotency.update_one({}, {"$unset": {"answer": ""}, "$currentDate": {"lapses_at": True}})
    third = await api("commenter", "POST", COMMENTS, {"body": "Hello"}, headers=headers)
    assert (third.status, third.json) == (201, first.json)
    assert await database.comments.count_documents({}) == 1


async def test_a_broken_foreign_comment_spoils_no_list(api: Any, database: Any, reported: list[Any]) -> None:
    written = await say(api)
    await database.comments.insert_one({"_id": "F", "project_id": "P", "body": 7})
    assert (await api("viewer", "GET", COMMENTS)).json["items"] == [written]
    assert (await api("viewer", "GET", f"{COMMENTS}/F")).status == 404
    assert ("comments", "F") in {what[:2] for what in reported}
