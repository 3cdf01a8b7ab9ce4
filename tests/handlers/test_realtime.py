"""The relay from end to end: REST and foreign writes in, events out of a real socket."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from tests.conftest import Copydesk


async def test_a_comment_over_rest_arrives_at_a_colleague_as_rest_returns_it(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    reply = await bob.subscribe(topic)
    assert reply["ok"] == {"topic": topic, "resumed": False, "replayed": 0}

    comment = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Hello @bob"})
    event = await bob.until_event(topic, kind="comment")

    assert event["doc"] == await copydesk.call("GET", f"/projects/{project}/comments/{comment['id']}", user="bob")
    assert event | {"at": "", "doc": {}} == {
        "kind": "comment",
        "change": "enter",
        "id": comment["id"],
        "version": 1,
        "at": "",
        "by": "alice",
        "doc": {},
    }


async def test_a_comment_written_by_another_program_arrives_with_read_time_defaults(
    copydesk: Copydesk, plain_database: Database[dict[str, Any]]
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")

    plain_database.comments.insert_one(
        {"_id": "foreign", "project_id": project, "body": "By @carol", "author": "import", "created_at": _now()}
    )
    event = await bob.until_event(f"project:{project}", kind="comment")

    assert event["doc"] == await copydesk.call("GET", f"/projects/{project}/comments/foreign")
    assert event["doc"]["thread_id"] == "foreign"
    assert event["doc"]["mentions"] == ["carol"]
    assert event["version"] == 1


async def test_frames_on_a_live_topic_are_numbered_without_gaps(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    live = await bob.next_push("live", topic)
    for number in range(5):
        await copydesk.call("POST", f"/projects/{project}/comments", {"body": f"Number {number}"})
    await bob.until(lambda: len([e for e in bob.events(topic) if e["kind"] == "comment"]) == 5)
    numbers = [push["seq"] for push in bob.of("events", topic)]
    assert numbers == list(range(live["seq"] + 1, live["seq"] + 1 + len(numbers)))


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)
