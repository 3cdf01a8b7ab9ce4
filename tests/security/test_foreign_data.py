"""Whatever another program writes: no answer is a 500 or other than described, no stream stops, no fault is logged.

Every field of every collection with every BSON type, and with values that are right by type and wrong otherwise, is
inserted, changed and deleted while somebody listens, and read over every route.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import WriteConcern
from pymongo.database import Database as PlainDatabase
from pymongo.errors import AutoReconnect, WriteError
from structlog.testing import capture_logs
from tornado.httpclient import AsyncHTTPClient

from app import asyncapi, openapi, relay
from app.changes import Change
from app.record import Record
from app.relay import Relay
from handlers.routes import operations
from tests.conftest import Copydesk
from tests.contract.conformance import Recorded, answer_complaints, frame_complaints

REST = openapi.document(operations(), version="1")
LIVE = asyncapi.document(version="1")
SCRIPT = "<script>alert(1)</script>"
DEEP: dict[str, Any] = {}
for _ in range(90):
    DEEP = {"a": DEEP}
NOT_UTF8 = RawBSONDocument(b"\x0e\x00\x00\x00\x02a\x00\x02\x00\x00\x00\xff\x00\x00")
NASTY: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, Int64(2**63 - 1), Int64(-(2**63)), 0.5, math.nan, math.inf, -math.inf, 1e308,
    Decimal128("NaN"), Decimal128("1E6144"), Decimal128("0.1"), "", " ", "x", "x\0y", "a\nb", "\u202eabc", "\ufeff",
    "\ud7ff", SCRIPT, "javascript:alert(1)", "$where", "a.b", "../../etc", "x" * 70_000, [], [None], ["x"], [[["x"]]],
    ["x"] * 3000, [SCRIPT], {}, {"a": 1}, {"$gt": ""}, {"id": None}, {"a.b": 1, "": 2}, DEEP,
    [{"principal": 7, "role": []}], NOT_UTF8, ObjectId(), datetime(2026, 1, 1, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC), DatetimeMS(2**62), DatetimeMS(-(2**62)), Binary(b"\xff\xfe"),
    Binary(b"0123456789abcdef", 4), Regex("(a+)+$", "i"), Timestamp(1, 1), Code("f()"), [Code("f()")],
    Code("f()", {"x": 1}), MinKey(), MaxKey(), DBRef("users", 1),
)  # fmt: skip
IDS: tuple[Any, ...] = (
    7, 0.5, True, ObjectId(), {"a": 1}, {}, "", " ", "a b", "../x", SCRIPT, "é", "x" * 65, "x" * 900, "a/b",
    Code("f()"), Binary(b"x"), datetime(2026, 1, 1, tzinfo=UTC), Timestamp(1, 1), Decimal128("NaN"), math.nan,
    Int64(2**63 - 1), MinKey(), MaxKey(), None,
)  # fmt: skip
WRITTEN = (
    "projects",
    "items",
    "comments",
    "activities",
    "notifications",
    "inboxes",
    "users",
    "subscriptions",
    "preferences",
)
KEPT = {
    "items": ("project_id",),
    "comments": ("project_id",),
    "activities": ("project_id",),
    "notifications": ("user_id",),
}
"""What says where a document is: it is made wrong too, but then no list has the document any more."""


def variants(collection: str, good: dict[str, Any]) -> list[dict[str, Any]]:
    """One document for each field and value, and for each that is missing."""
    made: list[dict[str, Any]] = []
    for field in (name for name in good if name != "_id"):
        without = {name: value for name, value in good.items() if name not in ("_id", field)}
        made += [without, *({**without, field: value} for value in NASTY)]
        if isinstance(good[field], dict):
            made += [{**without, field: {**good[field], part: value}} for part in good[field] for value in NASTY]
    for number, one in enumerate(made):
        one["_id"] = f"{collection}-{number}"
        if collection == "items" and isinstance(one.get("content"), dict) and one["content"] == good["content"]:
            one["content"] = {**good["content"], "id": f"content-{number}"}  # one content stands in one project
    made += [{**good, "_id": each, "content": {"id": f"by-id-{n}", "version": "1"}} for n, each in enumerate(IDS)]
    return made


async def good_documents(copydesk: Copydesk) -> dict[str, dict[str, Any]]:
    """One of each collection, as the server itself writes it, with every optional field that users can give."""
    project = await copydesk.project(description="d", labels=["l"], due_at="2027-01-01T00:00:00Z")
    content = {"id": "home", "version": "1", "provider": "cms"}
    item = {
        "name": "Home", "content": content, "language": "en", "url": "https://example.org/", "rank": 1.5, "path": "/",
        "assignee": "bob", "publish_at": "2027-01-01T00:00:00Z", "thumbnail_url": "https://example.org/i.png",
    }  # fmt: skip
    made = await copydesk.call("POST", f"/projects/{project}/items", item)
    body = {"body": "Look, @bob", "item_id": made["id"], "anchor": {"property": "title", "quote": "q"}}
    await copydesk.call("PUT", f"/subscriptions/project:{project}", {"level": "follow"})
    await copydesk.call("PUT", "/preferences", {"time_zone": "Europe/Stockholm"})
    bob = await copydesk.editor("bob")
    await bob.subscribe("inbox")
    comment = await copydesk.call("POST", f"/projects/{project}/comments", body)
    await copydesk.call("PATCH", f"/projects/{project}/comments/{comment['id']}", {"resolved": True})
    await bob.until(lambda: bool(bob.stores["inbox"].of("notification")))
    found = {name: await copydesk.database[name].find_one({}) for name in WRITTEN}
    assert all(found.values()), found
    found["comments"] = await copydesk.database.comments.find_one({"_id": comment["id"]})
    return found


def write(database: Any, good: dict[str, dict[str, Any]], bad: dict[str, list[dict[str, Any]]]) -> int:
    """As another program does; how many documents MongoDB itself took. Blocks."""
    written = 0
    for name, documents in bad.items():
        for one in documents:
            # MongoDB refuses some ids, and a unique index some doubles.
            with suppress(WriteError):
                database[name].insert_one(one)
                written += 1
        # One that was good before, and is again; another than the one that is listened to, which may be lost to sight.
        changed = {**good[name], "_id": f"{name}-changed"}
        if name == "items":
            changed["content"] = {"id": "changed", "version": "1"}
        database[name].insert_one(changed)
        for field in (part for part in changed if part not in ("_id", *KEPT.get(name, ()))):
            for value in NASTY[:: 1 if name in ("projects", "items", "comments") else 7]:
                database[name].update_one({"_id": changed["_id"]}, {"$set": {field: value}})
            database[name].update_one({"_id": changed["_id"]}, {"$set": {field: changed[field]}})
    return written


async def read_everything(copydesk: Copydesk, project: str, some: dict[str, list[str]]) -> tuple[int, list[str]]:
    """How many answers there were, and what is wrong with them."""
    client, complaints, count = AsyncHTTPClient(), [], 0

    async def read(path: str, user: str, *roles: str) -> Any:
        nonlocal count
        headers = {"Authorization": f"Bearer {copydesk.token(user, *roles)}"}
        answer = await client.fetch(f"{copydesk.url}{path}", headers=headers, raise_error=False)
        count += 1
        plain = path.partition("?")[0]
        recorded = Recorded(method="GET", path=plain, status=answer.code, headers=answer.headers, body=answer.body)
        complaints.extend(answer_complaints(REST, recorded))
        if answer.code >= 500:
            complaints.append(f"{path}: {answer.code}")
        if answer.headers.get("X-Content-Type-Options") != "nosniff":
            complaints.append(f"{path}: a browser may take it for a page")
        return json.loads(answer.body) if "json" in answer.headers.get("Content-Type", "") else None

    endless = ("/realtime", "/events", "/events/stream")
    for template in (path for path, verbs in operations().items() if "GET" in verbs):
        if template.endswith(endless):
            continue
        names = re.findall(r"\{(\w+)\}", template)
        fillings = [{"project_id": project, name: one} for name in names[-1:] for one in some.get(name, ["nowhere"])]
        for filling in fillings or [{}]:
            path = template.format(**filling)
            for user, roles in (("bob", ()), ("root", ("admin",))):
                page = await read(path, user, *roles)
                # The cursor of an overview is for the list of items.
                while (
                    "overview" not in path
                    and isinstance(page, dict)
                    and (cursor := page.get("next_cursor")) is not None
                ):
                    page = await read(f"{path}?limit=200&cursor={cursor}", user, *roles)
                    if page is None or "items" not in page:
                        complaints.append(f"{path}: the list breaks off")
    return count, complaints


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What the server logs."""
    with capture_logs() as entries:
        yield entries


@pytest.mark.parametrize("copydesk", [{"max_requests_per_second_per_user": 100_000}], indirect=True)
async def test_what_others_write_badly_breaks_nothing(
    copydesk: Copydesk, plain_database: PlainDatabase[dict[str, Any]], logged: list[Any]
) -> None:
    good = await good_documents(copydesk)
    project = good["projects"]["_id"]
    listening = await copydesk.editor("bob")
    for topic in (f"project:{project}", "projects", "inbox"):
        await listening.subscribe(topic)
    bad = {name: variants(name, document) for name, document in good.items()}
    writing = plain_database.client.get_database(plain_database.name, write_concern=WriteConcern(w=1))
    working = asyncio.ensure_future(asyncio.to_thread(write, writing, good, bad))
    while not working.done():
        await listening.socket.write_message('{"op": "pong"}')
        await asyncio.wait([working], timeout=1)
    assert await working > 3000

    mark = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "The stream goes on"})
    await listening.until_event(f"project:{project}", kind="comment", id=mark["id"])
    late = await copydesk.editor("bob")
    for topic in (f"project:{project}", "projects", "inbox"):
        assert "ok" in await late.subscribe(topic)
    some = {
        "project_id": [project, *(f"projects-{n}" for n in range(0, len(bad["projects"]), 19))],
        "item_id": [f"items-{n}" for n in range(0, len(bad["items"]), 23)],
        "comment_id": [f"comments-{n}" for n in range(0, len(bad["comments"]), 23)],
        "user_id": ["bob", *(f"users-{n}" for n in range(0, len(bad["users"]), 23))],
        "notification_id": [f"notifications-{n}" for n in range(0, len(bad["notifications"]), 23)],
        "subject": [f"project:{project}", "item:items-3", "thread:comments-3"],
    }
    count, complaints = await read_everything(copydesk, project, some)
    assert complaints == []
    assert count > 200

    for name, documents in bad.items():
        writing[name].delete_many({"_id": {"$in": [one["_id"] for one in documents]}})
    mark = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "And on"})
    await listening.until_event(f"project:{project}", kind="comment", id=mark["id"])
    for editor in (listening, late):
        assert [problem for frame in editor.frames for problem in frame_complaints(LIVE, frame)][:5] == []
        assert not editor.closed.done()
    assert [entry for entry in logged if entry["log_level"] in ("error", "critical") or "exc_info" in entry] == []
    assert any(entry["event"] == "malformed_document" for entry in logged)


async def test_a_document_that_cannot_be_looked_up_costs_a_reset_and_is_not_taken_for_gone(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(_database: Any, _document: Any) -> None:
        raise AutoReconnect("planted")

    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")
    # As where the stream brings an insert without its document, because that is too large for it.
    monkeypatch.setattr(relay, "needs_lookup", lambda document: document["ns"]["coll"] == "comments")
    monkeypatch.setattr(relay, "look_up", look_up)
    made = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Hello"})
    assert (await bob.next_push("reset", f"project:{project}"))["reason"] == "image_missing"
    await bob.until(lambda: made["id"] in bob.stores[f"project:{project}"].of("comment"))


@pytest.mark.parametrize("event", ["change_not_told", "change_not_followed"])
async def test_a_change_that_cannot_be_worked_off_costs_a_reset_and_not_the_feed(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch, logged: list[Any], event: str
) -> None:
    followed = Relay._follow

    def tell(change: Change) -> Record:
        if change.id == "bad":
            raise RuntimeError("planted")
        return Record(change)

    def follow(relay: Relay, change: Change) -> None:
        if change.id == "bad":
            raise RuntimeError("planted")
        followed(relay, change)

    if event == "change_not_told":
        monkeypatch.setattr("app.relay.Record", tell)
    else:
        monkeypatch.setattr(Relay, "_follow", follow)
    topic = f"project:{await copydesk.project()}"
    editor = await copydesk.editor()
    await editor.subscribe(topic)
    bad = {
        "_id": "bad",
        "project_id": topic.partition(":")[2],
        "body": "b",
        "author": "alice",
        "created_at": datetime.now(UTC),
    }
    await copydesk.database.comments.insert_one(bad)
    await editor.next_push("reset", topic)
    await editor.next_push("live", topic, after=1)
    assert "bad" in editor.stores[topic].of("comment")
    await copydesk.database.comments.insert_one({**bad, "_id": "good"})
    await editor.until_event(topic, kind="comment", id="good")
    assert event in {entry["event"] for entry in logged}
