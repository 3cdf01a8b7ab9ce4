"""Coming back with a position: every event after it, or a plain word that it is not possible. Never a part."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import OperationFailure
from tornado.ioloop import IOLoop

from app.changes import Change
from app.position import Position, PositionCodec
from tests.conftest import Copydesk
from tests.editor import Editor
from tests.handlers.raw_socket import started_with
from tests.handlers.relayed import foreign_comment, now, settled

Plain = Database[dict[str, Any]]


@pytest.fixture
def another(copydesk: Copydesk, start_server: Callable[..., Copydesk]) -> Copydesk:
    """A second process on the same database."""
    return start_server()


def here(copydesk: Copydesk) -> Position:
    """What the server has published."""
    return copydesk.server.hub.position


def encode(copydesk: Copydesk, *position: int) -> str:
    return copydesk.server._codec.encode(Position(*position))


def heard(editor: Editor, topic: str) -> list[tuple[str, str]]:
    return [(event["change"], event["id"]) for event in editor.events(topic) if event["kind"] != "activity"]


async def comment(copydesk: Copydesk, project: str, body: str = "Hello") -> str:
    made: str = (await copydesk.call("POST", f"/projects/{project}/comments", {"body": body}))["id"]
    return made


# -- resumed ----------------------------------------------------------------------------------------------------------


async def test_reading_over_rest_and_subscribing_from_there_misses_nothing(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    # Someone whom the server has never seen before.
    base = f"/projects/{project}"
    for number, path in enumerate(
        (f"{base}/overview", f"{base}/comments", f"{base}/items", f"{base}/activities", "/projects")
    ):
        user = f"newcomer{number}"
        response = await copydesk.request("GET", path, user=user)
        position = json.loads(response.body)["position"]
        assert response.headers["Copydesk-Position"] == position
        made = await comment(copydesk, project)
        await settled(copydesk)
        later = await copydesk.editor(user)
        reply = await later.subscribe(topic, since=position, snapshot=False)
        assert reply["ok"] | {"replayed": 0} == {"topic": topic, "resumed": True, "replayed": 0}, path
        assert ("enter", made) in heard(later, topic)
        assert not later.of("snapshot", topic)


async def test_every_position_that_was_told_leads_to_exactly_what_came_after_it(
    copydesk: Copydesk, another: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    for watched in (topic, "projects"):
        await bob.subscribe(watched)
    for number in range(3):
        made = await comment(copydesk, project)
        await settled(copydesk, bob)
        await copydesk.call("DELETE", f"/projects/{project}/comments/{made}")
        await copydesk.call("PATCH", f"/projects/{project}", {"name": f"Number {number}"})
        plain_database.comments.insert_many([foreign_comment(f"c{number}-{entry}", project) for entry in range(3)])
        await settled(copydesk, bob)
    await settled(another)
    await _check_positions(bob, topic, "projects", processes=(copydesk, another))


async def _check_positions(bob: Editor, *topics: str, processes: tuple[Copydesk, ...]) -> None:
    """Subscribe from every position that bob was told; what comes is what he was told after it."""
    for topic in topics:
        pushes = [push for push in bob.pushes[topic] if push["push"] in ("live", "events")]
        assert len(pushes) > 3
        for number, push in enumerate(pushes):
            process = processes[number % len(processes)]
            later = await process.editor("bob")
            reply = await later.subscribe(topic, since=push["position"])
            assert reply["ok"]["resumed"] is True
            assert reply["ok"]["replayed"] == sum(len(after["events"]) for after in later.of("events", topic))
            missed = [event for after in pushes[number + 1 :] for event in after.get("events", ())]
            # The change log may have grown meanwhile.
            assert heard(later, topic) == [
                (event["change"], event["id"]) for event in missed if event["kind"] != "activity"
            ]
            await later.close()


async def test_the_inbox_is_resumed_too(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    await bob.subscribe("inbox")
    again = await copydesk.editor("bob")
    reply = await again.subscribe("inbox", since=bob.positions["inbox"])
    assert reply["ok"] == {"topic": "inbox", "resumed": True, "replayed": 0}
    assert not again.of("snapshot", "inbox")
    assert "seq" not in again.of("live", "inbox")[0]


async def test_after_a_replay_the_topic_is_live_and_numbered(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    since = bob.positions[topic]
    await bob.command("unsubscribe", topic=topic)
    made = await comment(copydesk, project)
    await settled(copydesk)
    await bob.subscribe(topic, since=since)
    told = bob.pushes[topic][:]
    assert [push["push"] for push in told] == ["snapshot", "live", "events", "live"]
    assert "seq" not in told[2]
    await copydesk.call("DELETE", f"/projects/{project}/comments/{made}")
    await bob.until_event(topic, id=made, change="update")
    later = bob.pushes[topic][bob.pushes[topic].index(told[3]) + 1 :]
    assert later[0]["seq"] == told[3]["seq"] + 1


async def test_a_replay_does_not_tell_the_text_of_what_was_deleted_since(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    since = bob.positions[topic]
    made = await comment(copydesk, project, "secret one @carol")
    await copydesk.call("PATCH", f"/projects/{project}/comments/{made}", {"body": "secret two"})
    await copydesk.call("DELETE", f"/projects/{project}/comments/{made}")
    plain_database.comments.insert_one(foreign_comment("c", project, body="secret three"))
    plain_database.comments.delete_one({"_id": "c"})
    await settled(copydesk)
    again = await copydesk.editor("bob")
    reply = await again.subscribe(topic, since=since)
    assert reply["ok"]["resumed"] is True
    assert heard(again, topic) == [("enter", made), ("update", made), ("update", made), ("enter", "c"), ("delete", "c")]
    assert "secret" not in json.dumps(again.frames)
    assert not any("carol" in json.dumps(push) for push in again.of("events", topic))


@started_with(ping_seconds=0.2)
async def test_the_position_moves_on_by_pings_where_nothing_happens(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    at_first = bob.positions[topic]
    await copydesk.project("Elsewhere")
    await bob.until(lambda: any(ping.get("position", at_first) != at_first for ping in bob.of("ping")))
    moved_on = bob.of("ping")[-1]["position"]
    made = await comment(copydesk, project)
    await settled(copydesk)
    again = await copydesk.editor("bob")
    reply = await again.subscribe(topic, since=moved_on)
    assert reply["ok"]["resumed"] is True
    assert heard(again, topic) == [("enter", made)]


def test_a_server_that_has_no_time_for_the_past_starts_and_resumes_from_the_database(
    start_server: Callable[..., Copydesk], io_loop: IOLoop, plain_database: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start_server()

    async def before() -> tuple[str, str]:
        project = await first.project()
        bob = await first.editor("bob")
        await bob.subscribe(f"project:{project}")
        return project, bob.positions[f"project:{project}"]

    project, since = io_loop.run_sync(before)
    plain_database.comments.insert_many([foreign_comment(f"c{number}", project) for number in range(300)])
    monkeypatch.setattr("app.main.WARM_UP_SECONDS", 0.0)
    second = start_server()

    async def after() -> None:
        again = await second.editor("bob")
        reply = await again.subscribe(f"project:{project}", since=since)
        assert reply["ok"]["resumed"] is True
        assert heard(again, f"project:{project}")[:300] == [("enter", f"c{number}") for number in range(300)]

    io_loop.run_sync(after)


# -- not resumed ------------------------------------------------------------------------------------------------------


async def test_what_is_no_position_of_ours_is_answered_with_a_snapshot(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    good = bob.positions[topic]
    stranger = PositionCodec(secrets=(b"x" * 32,), epoch=copydesk.server._codec._epoch)
    restored = PositionCodec(secrets=(b"s" * 32,), epoch=b"another!")
    flipped = good[:20] + ("A" if good[20] != "A" else "B") + good[21:]
    foreign = [codec.encode(here(copydesk)) for codec in (stranger, restored)]
    nonsense = ["", "nonsense", flipped, good + "A", good[:-1], "x" * 60_000, "826502\u00e4", '{"_data": "82"}']
    for number, since in enumerate(nonsense + foreign, 1):
        reply = await bob.subscribe(topic, since=since)
        assert reply["ok"] == {"topic": topic, "resumed": False, "replayed": 0, "reason": "unknown"}
        assert len(bob.of("snapshot", topic)) == number + 1
    reply = await bob.subscribe(topic, since="nonsense", snapshot=False)
    assert reply["ok"]["reason"] == "unknown"
    assert bob.pushes[topic][-1]["push"] == "live"
    assert bob.pushes[topic][-2]["push"] == "live"


async def test_a_position_that_the_oplog_does_not_reach_back_to_is_too_old(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rolled_over(*_: Any) -> AsyncIterator[list[Change]]:
        raise OperationFailure("history lost", 286)
        yield []

    # The oplog of a test lasts for ever.
    monkeypatch.setattr("app.live.read_stretch", rolled_over)
    topic = f"project:{await copydesk.project()}"
    bob = await copydesk.editor("bob")
    reply = await bob.subscribe(topic, since=encode(copydesk, 1, 1))
    assert reply["ok"] == {"topic": topic, "resumed": False, "replayed": 0, "reason": "too_old"}
    assert bob.of("snapshot", topic)
    reply = await bob.subscribe(topic, since=encode(copydesk, 1, 1), snapshot=False)
    assert reply["ok"]["reason"] == "too_old"
    assert len(bob.of("snapshot", topic)) == 1


@started_with(history_events=1, catch_up_events=40)
async def test_beyond_the_ring_the_database_is_asked_within_bounds(copydesk: Copydesk, plain_database: Plain) -> None:
    def write(prefix: str, count: int) -> None:
        # Nobody is told of them: entries of inboxes that come later would push the rest out of the ring.
        text = {"author": "alice", "body": "Hi"}
        plain_database.comments.insert_many([foreign_comment(f"{prefix}{n}", project, **text) for n in range(count)])

    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    since = bob.positions[topic]
    write("c", 5)
    await settled(copydesk, bob)
    again = await copydesk.editor("bob")
    reply = await again.subscribe(topic, since=since)
    assert reply["ok"]["resumed"] is True
    assert heard(again, topic) == [("enter", f"c{number}") for number in range(5)]
    write("d", 50)
    await settled(copydesk)
    reply = await again.subscribe(topic, since=since)
    assert reply["ok"] == {"topic": topic, "resumed": False, "replayed": 0, "reason": "too_many"}
    assert len(again.stores[topic].of("comment")) == 55


async def test_a_change_of_rights_since_is_a_reason_to_read_anew(copydesk: Copydesk) -> None:
    alice = {"principal": "user:alice", "role": "owner"}
    project = await copydesk.project(visibility="private", members=[{"principal": "user:bob", "role": "viewer"}])
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    for watched in (topic, "projects"):
        await bob.subscribe(watched)
    since = dict(bob.positions)
    member = {"principal": "user:bob", "role": "editor"}
    await copydesk.call("PATCH", f"/projects/{project}", {"members": [alice]})
    await settled(copydesk)
    again = await copydesk.editor("bob")
    assert (await again.subscribe(topic, since=since[topic]))["error"]["code"] == "not_found"
    await copydesk.call("PATCH", f"/projects/{project}", {"members": [alice, member]})
    await settled(copydesk)
    reply = await again.subscribe(topic, since=since[topic])
    assert reply["ok"] == {"topic": topic, "resumed": False, "replayed": 0, "reason": "rights"}
    # The list of projects says itself what came and went.
    reply = await again.subscribe("projects", since=since["projects"])
    assert reply["ok"]["resumed"] is True
    assert [change for change, _ in heard(again, "projects")] == ["leave", "enter"]


async def test_other_instance_roles_since_are_a_reason_to_read_anew(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    since = {}
    for topic in (f"project:{project}", "projects", "inbox"):
        await bob.subscribe(topic)
        since[topic] = bob.positions[topic]
    again = await copydesk.editor("bob", "desk")
    await settled(copydesk)
    for topic, position in since.items():
        reply = await again.subscribe(topic, since=position)
        assert reply["ok"] == {"topic": topic, "resumed": False, "replayed": 0, "reason": "rights"}


# -- ahead ------------------------------------------------------------------------------------------------------------


async def test_a_process_that_lags_skips_what_the_client_has(copydesk: Copydesk, another: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    held = asyncio.Event()
    original = another.server._relay._work_off

    async def lagging(documents: Any) -> None:
        await held.wait()
        await original(documents)

    another.server._relay._work_off = lagging  # type: ignore[method-assign]
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    known = await comment(copydesk, project, "Known")
    await bob.until_event(topic, id=known)
    later = await another.editor("bob")
    reply = await later.command("subscribe", topic=topic, since=bob.positions[topic])
    assert reply["ok"] == {"topic": topic, "resumed": True, "replayed": 0}
    unknown = await comment(copydesk, project, "Unknown")
    await bob.until_event(topic, id=unknown)
    held.set()
    await later.next_push("live", topic)
    await later.until_event(topic, id=unknown)
    assert heard(later, topic) == [("enter", unknown)]
    assert not later.of("snapshot", topic)


async def test_a_process_that_has_lost_touch_is_busy_for_who_is_ahead(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    monkeypatch.setattr(copydesk.server._live.joiner, "_stale", lambda: True)
    reply = await bob.command(
        "subscribe", topic=f"project:{project}", since=encode(copydesk, here(copydesk).seconds + 1000, 1)
    )
    assert reply["error"]["code"] == "busy"
    assert reply["error"]["retry"] is True
    assert reply["error"]["retry_after_ms"] > 0
    assert copydesk.server.hub.subscriptions == 0


# -- reading while the ring moves -------------------------------------------------------------------------------------


async def test_a_ring_that_lets_go_while_rights_are_read_is_not_replayed(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    since = bob.positions[topic]
    made = await comment(copydesk, project)
    await settled(copydesk, bob)
    require = copydesk.server._access.require

    async def slow(*asked: Any) -> Any:
        member = await require(*asked)
        copydesk.server._history.begin(here(copydesk))
        return member

    monkeypatch.setattr(copydesk.server._access, "require", slow)
    again = await copydesk.editor("bob")
    reply = await again.subscribe(topic, since=since)
    assert reply["ok"]["resumed"] is False
    assert made in again.stores[topic].of("comment")


async def test_deleted_documents_are_in_no_snapshot_and_tombstones_are(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    gone = await comment(copydesk, project, "gone")
    plain_database.items.insert_one({"_id": "i", "project_id": project, "deleted_at": now()})
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    await copydesk.call("DELETE", f"/projects/{project}/comments/{gone}")
    again = await copydesk.editor("bob")
    await again.subscribe(topic)
    assert again.stores[topic].of("item") == {}
    tombstone = again.stores[topic].of("comment")[gone]
    assert tombstone == await copydesk.call("GET", f"/projects/{project}/comments/{gone}")
    assert "body" not in tombstone
