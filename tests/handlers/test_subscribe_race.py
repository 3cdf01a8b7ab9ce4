"""The test that makes a live view safe: old snapshot plus events is a fresh read, whatever is written, whenever.

Every write action is carried out at every point at which `subscribe` can be suspended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from app.hub import Hub
from models.item import STATUSES
from tests.conftest import Copydesk
from tests.editor import Editor, Store
from tests.stepped import Stepped

Action = Callable[["Scene"], Awaitable[object]]


class Scene:
    """A project with something of everything, and the ids of it."""

    def __init__(self, copydesk: Copydesk) -> None:
        self.copydesk = copydesk
        self.project = self.item = self.thread = self.reply = ""

    @classmethod
    async def set(cls, copydesk: Copydesk) -> Scene:
        scene = cls(copydesk)
        scene.project = await copydesk.project("Scene")
        scene.item = (await scene.post("/items", _item("one")))["id"]
        await scene.post("/items", _item("two"))
        scene.thread = (await scene.post("/comments", {"body": "A thread", "item_id": scene.item}))["id"]
        scene.reply = (await scene.post("/comments", {"body": "A reply", "thread_id": scene.thread}))["id"]
        return scene

    async def post(self, path: str, body: Any) -> Any:
        return await self.copydesk.call("POST", f"/projects/{self.project}{path}", body)

    async def patch(self, path: str, body: Any) -> Any:
        return await self.copydesk.call("PATCH", f"/projects/{self.project}{path}", body)

    async def delete(self, path: str) -> Any:
        return await self.copydesk.call("DELETE", f"/projects/{self.project}{path}")


def _item(name: str) -> dict[str, Any]:
    return {"name": name, "content": {"id": f"{name}-{datetime.now(UTC).timestamp()}", "version": "1"}}


ACTIONS: dict[str, Action] = {
    "add an item": lambda s: s.post("/items", _item("three")),
    "add items in bulk": lambda s: s.post("/items", {"items": [_item("four"), _item("five")]}),
    "rename an item": lambda s: s.patch(f"/items/{s.item}", {"name": "Renamed"}),
    "set statuses in bulk": lambda s: s.post("/items/status", {"ids": [s.item], "status": "ready"}),
    "remove an item": lambda s: s.delete(f"/items/{s.item}"),
    "begin a thread": lambda s: s.post("/comments", {"body": "Another", "item_id": s.item}),
    "reply": lambda s: s.post("/comments", {"body": "Me too", "thread_id": s.thread}),
    "edit a comment": lambda s: s.patch(f"/comments/{s.reply}", {"body": "Edited"}),
    "resolve a thread": lambda s: s.patch(f"/comments/{s.thread}", {"resolved": True}),
    "resolve and reopen a thread": lambda s: _both(
        s.patch(f"/comments/{s.thread}", {"resolved": True}), s.patch(f"/comments/{s.thread}", {"resolved": False})
    ),
    "delete a comment": lambda s: s.delete(f"/comments/{s.reply}"),
    "change the project": lambda s: s.patch("", {"description": "New", "labels": ["a"]}),
    "archive the project": lambda s: s.patch("", {"archived": True}),
    "change the members": lambda s: s.patch(
        "",
        {
            "members": [
                {"principal": "user:alice", "role": "owner"},
                {"principal": "user:bob", "role": "viewer"},
            ]
        },
    ),
    "make the project private, with bob in it": lambda s: s.patch(
        "",
        {
            "visibility": "private",
            "members": [{"principal": "user:alice", "role": "owner"}, {"principal": "user:bob", "role": "viewer"}],
        },
    ),
    "insert from outside": lambda s: s.copydesk.database.comments.insert_one(
        {
            "_id": f"x-{s.project}",
            "project_id": s.project,
            "body": "Hi",
            "author": "import",
            "created_at": datetime.now(UTC),
        }
    ),
    "update from outside": lambda s: s.copydesk.database.items.update_one(
        {"_id": s.item}, {"$set": {"name": "Foreign"}}
    ),
    "break from outside": lambda s: s.copydesk.database.items.update_one({"_id": s.item}, {"$set": {"name": 5}}),
    "delete for good from outside": lambda s: s.copydesk.database.comments.delete_one({"_id": s.reply}),
    "move away from outside": lambda s: s.copydesk.database.items.update_one(
        {"_id": s.item}, {"$set": {"project_id": "elsewhere"}}
    ),
    "replace from outside": lambda s: s.copydesk.database.comments.replace_one(
        {"_id": s.reply},
        {"project_id": s.project, "body": "Other", "author": "import", "created_at": datetime.now(UTC)},
    ),
}


async def _both(first: Awaitable[object], second: Awaitable[object]) -> None:
    await first
    await second


@pytest.mark.parametrize("name", ACTIONS)
async def test_whatever_is_written_while_subscribing_is_seen_once(copydesk: Copydesk, name: str) -> None:
    point = 0
    while True:
        scene = await Scene.set(copydesk)
        stepped = await _subscribe_with(scene, ACTIONS[name], point)
        if not stepped.ran:
            assert point > 3, "subscribing has suspension points"
            return
        point += 1


async def test_a_hub_that_collects_nothing_is_caught(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "_collect", lambda _hub, _subscription, _record: None)

    async def at_every_point() -> None:
        for point in range(40):
            scene = await Scene.set(copydesk)
            await _subscribe_with(scene, ACTIONS["reply"], point)

    with pytest.raises(AssertionError, match="differ"):
        await at_every_point()


async def _subscribe_with(scene: Scene, action: Action, point: int) -> Stepped:
    """Subscribe to everything with `action` at a suspension point; then compare what bob holds with a fresh read."""
    copydesk, topic = scene.copydesk, f"project:{scene.project}"
    joiner = copydesk.server._live.joiner
    original = joiner._start
    stepped: list[Stepped] = []

    async def act() -> None:
        await action(scene)
        # On until listeners were told of it, or would have been: the next change comes after it.
        await _until_published(copydesk)

    def start(work: Any) -> None:
        stepped.append(Stepped(work, point, act))
        original(stepped[-1])

    bob = await copydesk.editor("bob")
    await bob.subscribe("projects")
    joiner._start = start  # type: ignore[method-assign]
    try:
        await bob.subscribe(topic)
    finally:
        joiner._start = original  # type: ignore[method-assign]
    await _until_published(copydesk)
    marker = f"marker-{scene.project}"
    await copydesk.database.comments.insert_one(
        {"_id": marker, "project_id": scene.project, "body": "End", "author": "import", "created_at": datetime.now(UTC)}
    )
    await bob.until_event(topic, id=marker)
    await _until_published(copydesk)
    await _compare(scene, bob)
    await bob.close()
    return stepped[0]


async def _until_published(copydesk: Copydesk) -> None:
    """Until the hub is past the database's present time."""
    moment = (await copydesk.database.command("ping"))["operationTime"]
    passed = asyncio.Event()
    copydesk.server.hub.when_passed((moment.time, moment.inc), passed.set)
    await asyncio.wait_for(passed.wait(), 20)


async def _compare(scene: Scene, bob: Editor) -> None:
    copydesk = scene.copydesk
    base = f"/projects/{scene.project}"
    store = bob.stores[f"project:{scene.project}"]
    project = await copydesk.call("GET", base, user="bob")
    items = await _all(copydesk, f"{base}/items")
    comments = await _all(copydesk, f"{base}/comments")
    assert store.of("project") == {scene.project: project}, "the project differs"
    assert store.of("item") == items, "the items differ"
    assert store.of("comment") == comments, "the comments differ"
    overview = await copydesk.call("GET", f"{base}/overview", user="bob")
    assert _counters(store) == overview["counters"], "the counters differ"
    projects = {**await _all(copydesk, "/projects"), **await _all(copydesk, "/projects?archived=true")}
    assert bob.stores["projects"].of("project") == projects, "the list of projects differs"


async def _all(copydesk: Copydesk, path: str) -> dict[str, Any]:
    documents: dict[str, Any] = {}
    cursor = ""
    join = "&" if "?" in path else "?"
    while True:
        page = await copydesk.call("GET", f"{path}{join}limit=200{cursor}", user="bob")
        documents |= {document["id"]: document for document in page["items"]}
        if "next_cursor" not in page:
            return documents
        cursor = f"&cursor={page['next_cursor']}"


def _counters(store: Store) -> dict[str, Any]:
    """The overview's counters, counted by a client from what it holds."""
    statuses = dict.fromkeys(STATUSES, 0)
    for item in store.of("item").values():
        statuses[item["status"]] += 1
    threads: dict[str, list[dict[str, Any]]] = {}
    for comment in store.of("comment").values():
        threads.setdefault(comment["thread_id"], []).append(comment)
    by_place: dict[str | None, dict[str, int]] = {}
    for thread in threads.values():
        living = [comment for comment in thread if "deleted_at" not in comment]
        first = next((comment for comment in thread if comment["id"] == comment["thread_id"]), None)
        place = by_place.setdefault(thread[0].get("item_id"), {"count": 0, "open_threads": 0})
        place["count"] += len(living)
        place["open_threads"] += int(bool(living) and (first is None or "resolved" not in first))
    return {
        "items": statuses,
        "comments": {place: counts for place, counts in by_place.items() if place is not None},
        "project_comments": by_place.get(None, {"count": 0, "open_threads": 0}),
    }
