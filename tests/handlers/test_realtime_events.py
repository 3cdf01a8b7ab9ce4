"""What listeners are told: the table of docs/protocol.md, row by row, by our API and by other programs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from bson import DatetimeMS, ObjectId
from bson.errors import InvalidBSON
from pymongo import UpdateOne
from pymongo.database import Database

from tests.conftest import Copydesk
from tests.editor import Editor
from tests.handlers.raw_socket import started_with
from tests.handlers.relayed import Listening, foreign_comment, foreign_item, now, settled

Plain = Database[dict[str, Any]]


async def listening(copydesk: Copydesk, *projects: str, user: str = "bob") -> tuple[Editor, Listening]:
    """An editor who listens to some projects and to the list of them."""
    editor = await copydesk.editor(user)
    topics = [*(f"project:{project}" for project in projects), "projects"]
    for topic in topics:
        await editor.subscribe(topic)
    return editor, Listening(copydesk, editor, *topics)


async def check_documents(copydesk: Copydesk, events: list[dict[str, Any]]) -> None:
    """That each document is what REST returns."""
    plural = {"project": "", "item": "/items", "comment": "/comments"}
    assert events
    for event in events:
        path = f"/projects/{event['doc'].get('project_id', event['id'])}{plural[event['kind']]}"
        path += f"/{event['id']}" if event["kind"] != "project" else ""
        response = await copydesk.request("GET", path, user="root", roles=("admin",))
        assert event["doc"] == json.loads(response.body)


# -- by our API -------------------------------------------------------------------------------------------------------


async def test_every_action_of_the_api_is_told_as_the_table_says(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    base = f"/projects/{project}"
    bob, heard = await listening(copydesk, project)

    item = (await copydesk.call("POST", f"{base}/items", {"name": "A", "content": {"id": "a", "version": "1"}}))["id"]
    (events, listed) = await heard.events()
    assert [(event["change"], event["id"], event["version"], event["by"]) for event in events] == [
        ("enter", item, 1, "alice")
    ]
    assert listed == []
    await check_documents(copydesk, events)

    await copydesk.call("PATCH", f"{base}/items/{item}", {"name": "B"}, user="carol")
    (events, listed) = await heard.events()
    assert [(event["change"], event["id"], event["version"], event["by"]) for event in events] == [
        ("update", item, 2, "carol")
    ]
    await check_documents(copydesk, events)

    await copydesk.call("PATCH", f"{base}/items/{item}", {"name": "B"})
    assert await heard.told() == [[], []]

    await copydesk.call("DELETE", f"{base}/items/{item}")
    (events, listed) = await heard.events()
    assert [(event["change"], event["id"], event["version"]) for event in events] == [("delete", item, 3)]
    assert "doc" not in events[0]

    comment = (await copydesk.call("POST", f"{base}/comments", {"body": "One @bob"}))["id"]
    await copydesk.call("PATCH", f"{base}/comments/{comment}", {"body": "Two"})
    await copydesk.call("PATCH", f"{base}/comments/{comment}", {"resolved": True}, user="carol")
    (events, listed) = await heard.events()
    assert [(event["change"], event["version"], event["by"]) for event in events] == [
        ("enter", 1, "alice"), ("update", 2, "alice"), ("update", 3, "carol"),
    ]  # fmt: skip
    await check_documents(copydesk, events[-1:])

    await copydesk.call("DELETE", f"{base}/comments/{comment}")
    (events, listed) = await heard.events()
    assert [(event["change"], event["version"], event["by"]) for event in events] == [("update", 4, "alice")]
    assert {"body", "mentions", "mention_groups", "anchor"} & {
        name for name, value in events[0]["doc"].items() if value
    } == set()
    assert "deleted_at" in events[0]["doc"]
    await check_documents(copydesk, events)

    await copydesk.call("PATCH", base, {"archived": True})
    (events, listed) = await heard.events()
    assert [(event["change"], event["kind"], event["version"]) for event in events] == [("update", "project", 2)]
    assert listed == events
    await check_documents(copydesk, events)

    other = await copydesk.project("Other")
    assert await heard.told() == [[], [("enter", other, 1)]]
    await copydesk.call("DELETE", f"/projects/{other}")
    assert await heard.told() == [[], [("delete", other, 2)]]

    await copydesk.call("DELETE", base)
    assert await heard.told() == [[], [("delete", project, 3)]]
    assert (await bob.next_push("unsubscribed", f"project:{project}"))["code"] == "not_found"
    assert bob.pushes[f"project:{project}"][-1]["push"] == "unsubscribed"


# -- by another program -----------------------------------------------------------------------------------------------


async def test_every_row_of_the_table_is_told_when_another_program_writes_items(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    here, there = await copydesk.project("Here"), await copydesk.project("There")
    bob, heard = await listening(copydesk, here, there)
    items = plain_database.items
    del bob

    items.insert_one(foreign_item("i", here))
    (events, _, _) = await heard.events()
    assert [(event["change"], event["id"], event["version"]) for event in events] == [("enter", "i", 1)]
    assert "by" not in events[0]
    await check_documents(copydesk, events)

    items.update_one({"_id": "i"}, {"$set": {"name": "Set"}})
    (events, _, _) = await heard.events()
    assert [(event["change"], event["version"]) for event in events] == [("update", None)]
    await check_documents(copydesk, events)

    items.update_one({"_id": "i"}, {"$set": {"name": "Raised", "version": 5, "changed_by": "carol"}})
    (events, _, _) = await heard.events()
    assert [(event["change"], event["version"], event["by"]) for event in events] == [("update", 5, "carol")]
    await check_documents(copydesk, events)

    items.replace_one({"_id": "i"}, foreign_item("i", here, name="Replaced"))
    (events, _, _) = await heard.events()
    assert [(event["change"], event["version"]) for event in events] == [("update", None)]
    await check_documents(copydesk, events)

    items.update_one({"_id": "i"}, {"$set": {"project_id": there}})
    (left, entered, _) = await heard.events()
    assert [(event["change"], event["id"]) for event in left] == [("leave", "i")]
    assert "doc" not in left[0]
    assert [(event["change"], event["id"]) for event in entered] == [("enter", "i")]
    await check_documents(copydesk, entered)

    items.update_one({"_id": "i"}, {"$set": {"deleted_at": now()}})
    assert await heard.told() == [[], [("delete", "i", None)], []]
    items.update_one({"_id": "i"}, {"$set": {"name": "Unseen"}})
    assert await heard.told() == [[], [], []]
    items.update_one({"_id": "i"}, {"$unset": {"deleted_at": ""}})
    (_, events, _) = await heard.events()
    assert [(event["change"], event["version"]) for event in events] == [("enter", None)]
    await check_documents(copydesk, events)

    items.update_one({"_id": "i"}, {"$set": {"name": 5}})
    assert await heard.told() == [[], [("delete", "i", None)], []]
    items.update_one({"_id": "i"}, {"$set": {"name": "Mended"}})
    assert await heard.told() == [[], [("enter", "i", None)], []]
    items.delete_one({"_id": "i"})
    assert await heard.told() == [[], [("delete", "i", None)], []]
    items.insert_one(foreign_item("i", here))
    assert await heard.told() == [[("enter", "i", 1)], [], []]


async def test_every_row_of_the_table_is_told_when_another_program_writes_projects_and_comments(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    bob, heard = await listening(copydesk)
    plain_database.projects.insert_one({"_id": "p", "name": "Foreign"})
    ((event,),) = await heard.events()
    assert (event["change"], event["version"]) == ("enter", 1)
    await check_documents(copydesk, [event])
    await bob.subscribe("project:p")
    heard = Listening(copydesk, bob, "project:p", "projects")
    await heard.events()

    plain_database.comments.insert_one(foreign_comment("c", "p"))
    (events, _) = await heard.events()
    assert events[0]["doc"]["mentions"] == ["bob"]
    await check_documents(copydesk, events)
    plain_database.comments.update_one({"_id": "c"}, {"$set": {"body": "Edited"}})
    assert await heard.told() == [[("update", "c", None)], []]
    plain_database.comments.update_one(
        {"_id": "c"}, {"$set": {"deleted_at": now(), "version": 2}, "$unset": {"body": ""}}
    )
    (events, _) = await heard.events()
    assert [(event["change"], event["version"]) for event in events] == [("update", 2)]
    assert "body" not in events[0]["doc"]
    await check_documents(copydesk, events)
    plain_database.comments.delete_one({"_id": "c"})
    assert await heard.told() == [[("delete", "c", None)], []]

    plain_database.projects.update_one({"_id": "p"}, {"$set": {"name": "Renamed"}})
    assert await heard.told() == [[("update", "p", None)]] * 2
    plain_database.projects.replace_one({"_id": "p"}, {"name": "Replaced", "version": 9})
    assert await heard.told() == [[("update", "p", 9)]] * 2
    plain_database.projects.delete_one({"_id": "p"})
    assert await heard.told() == [[], [("delete", "p", None)]]
    assert (await bob.next_push("unsubscribed", "project:p"))["code"] == "not_found"


async def test_many_writes_keep_the_order_of_their_commits(copydesk: Copydesk, plain_database: Plain) -> None:
    project = await copydesk.project()
    bob, heard = await listening(copydesk, project)
    plain_database.comments.insert_many([foreign_comment(f"c{number:03}", project) for number in range(300)])
    plain_database.comments.bulk_write(
        [UpdateOne({"_id": f"c{number:03}"}, {"$inc": {"version": 2}}) for number in reversed(range(300))]
    )
    (told, _) = await heard.told()
    assert told[:300] == [("enter", f"c{number:03}", 1) for number in range(300)]
    assert [told_of[:2] for told_of in told[300:]] == [("update", f"c{number:03}") for number in reversed(range(300))]
    numbers = [push["seq"] for push in bob.of("events", f"project:{project}")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_transaction_over_several_documents_is_told_whole_and_in_order(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    one, other = await copydesk.project("One"), await copydesk.project("Other")
    bob, heard = await listening(copydesk, one, other)
    before = bob.positions[f"project:{one}"]
    with plain_database.client.start_session() as session, session.start_transaction():
        plain_database.items.insert_one(foreign_item("i", one), session=session)
        plain_database.comments.insert_one(foreign_comment("c", other), session=session)
        plain_database.items.update_one({"_id": "i"}, {"$set": {"project_id": other}}, session=session)
        plain_database.projects.update_one({"_id": one}, {"$set": {"name": "Both"}}, session=session)
    assert await heard.told() == [
        [("enter", "i", 1), ("leave", "i", None), ("update", one, None)],
        [("enter", "c", 1), ("enter", "i", None)],
        [("update", one, None)],
    ]
    # The events of a transaction share one time; a position tells them apart all the same.
    again = await copydesk.editor("bob")
    reply = await again.subscribe(f"project:{one}", since=before)
    assert reply["ok"]["resumed"] is True
    replayed = [
        (event["change"], event["id"]) for event in again.events(f"project:{one}") if event["kind"] != "activity"
    ]
    assert replayed == [("enter", "i"), ("leave", "i"), ("update", one)]


# -- what does not fit ------------------------------------------------------------------------------------------------


async def test_what_does_not_fit_is_reported_once_and_skipped_and_nobody_suffers(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    bob, heard = await listening(copydesk, project)
    odd: list[dict[str, Any]] = [
        {"body": 5},
        {"body": ""},
        {"created_at": "today"},
        {"created_at": DatetimeMS(2**60)},
        {"author": {"$ref": "x"}},
        {"mentions": [1]},
        {"version": "x"},
        {"resolved": []},
        {"thread_id": ObjectId()},
        {"project_id": {"$ne": 1}},
    ]
    for number, fields in enumerate(odd):
        plain_database.comments.insert_one(foreign_comment(f"odd{number}", project) | fields)
        plain_database.comments.update_one({"_id": f"odd{number}"}, {"$set": {"again": True}})
    ids: list[Any] = [ObjectId(), 5, None, {"a": 1}, 2.5, b"x", now(), "x" * 5000, "a b"]
    for id_ in ids:
        plain_database.comments.insert_one(foreign_comment(id_, project))
        plain_database.projects.insert_one({"_id": id_, "name": "Odd"})
        plain_database.users.insert_one({"_id": id_, "name": 5})
        plain_database.meta.insert_one({"_id": id_})
        for collection in ("comments", "projects", "users", "meta"):
            plain_database[collection].delete_one({"_id": id_})
    plain_database.activities.insert_one(
        {"_id": "a", "project_id": project, "type": "item_added", "at": now(), "data": {"x": ObjectId()}}
    )
    assert await heard.told() == [[], []]
    reported = copydesk.server.metrics.malformed_documents.labels("comments")._value.get()
    assert reported == len(odd) + len(ids)

    plain_database.comments.insert_many([foreign_comment(f"good{number}", project) for number in range(5)])
    assert await heard.told() == [[("enter", f"good{number}", 1) for number in range(5)], []]
    assert not copydesk.server.failed.done()
    assert not bob.of("reset", f"project:{project}")
    listed = await copydesk.call("GET", f"/projects/{project}/comments")
    assert len(listed["items"]) == 5


# -- missing images ---------------------------------------------------------------------------------------------------


def without_images(database: Plain, *collections: str) -> None:
    for collection in collections:
        database.command("collMod", collection, changeStreamPreAndPostImages={"enabled": False})


async def test_without_images_updates_are_thin_and_what_cannot_be_placed_resets(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    plain_database.items.insert_many([foreign_item(f"i{number}", project) for number in range(4)])
    bob, heard = await listening(copydesk, project)
    without_images(plain_database, "items")

    plain_database.items.update_one({"_id": "i0"}, {"$set": {"name": "Thin", "version": 2}})
    (events, _) = await heard.events()
    assert [(event["change"], event["id"], event["version"]) for event in events] == [("update", "i0", None)]
    assert "doc" not in events[0]

    steps = (
        lambda: plain_database.items.delete_one({"_id": "i1"}),
        lambda: plain_database.items.update_one({"_id": "i2"}, {"$set": {"deleted_at": now()}}),
        lambda: plain_database.items.update_one({"_id": "i3"}, {"$set": {"project_id": "elsewhere"}}),
    )
    for number, step in enumerate(steps):
        step()
        assert (await bob.next_push("reset", topic, after=number))["reason"] == "image_missing"
        await bob.until(lambda: len(bob.of("live", topic)) == number + 2)  # noqa: B023 - awaited in the same round
        assert set(bob.stores[topic].of("item")) == {"i0", "i1", "i2", "i3"} - {
            f"i{done}" for done in range(1, number + 2)
        }
    assert not bob.of("reset", "projects")
    await copydesk.call("DELETE", f"/projects/{project}/items/i0")
    await bob.next_push("reset", topic, after=3)


async def test_without_images_rights_are_cut_all_the_same(copydesk: Copydesk, plain_database: Plain) -> None:
    project = await copydesk.project(visibility="private", members=[{"principal": "user:bob", "role": "viewer"}])
    topic = f"project:{project}"
    bob, heard = await listening(copydesk, project)
    without_images(plain_database, "projects")
    plain_database.projects.update_one({"_id": project}, {"$set": {"name": "Thin"}})
    assert await heard.told() == [[("update", project, None)]] * 2
    await copydesk.call("PATCH", f"/projects/{project}", {"members": [{"principal": "user:alice", "role": "owner"}]})
    plain_database.comments.insert_one(foreign_comment("c", project))
    assert await heard.told() == [[], [("leave", project, None)]]
    assert bob.pushes[topic][-1] == bob.of("unsubscribed", topic)[0]


async def test_without_images_a_document_that_cannot_be_decoded_resets_and_ends_nothing(
    copydesk: Copydesk, plain_database: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    plain_database.comments.insert_one(foreign_comment("broken", project))
    bob, _ = await listening(copydesk, project)
    await settled(copydesk, bob)
    without_images(plain_database, "comments")

    async def undecodable(*_: object) -> None:
        raise InvalidBSON

    with monkeypatch.context() as patch:
        patch.setattr("app.relay.look_up", undecodable)
        plain_database.comments.update_one({"_id": "broken"}, {"$set": {"version": 2}})
        assert (await bob.next_push("reset", topic))["reason"] == "image_missing"
    await bob.until(lambda: len(bob.of("live", topic)) == 2)
    plain_database.comments.insert_one(foreign_comment("good", project))
    assert (await bob.until_event(topic, id="good"))["change"] == "enter"
    assert not copydesk.server.failed.done()


# -- collections that go away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drop", "rename", "replaced by $out"])
async def test_a_collection_that_goes_away_resets_everything_and_everything_works_again(
    copydesk: Copydesk, plain_database: Plain, how: str
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    plain_database.items.insert_many([foreign_item(f"i{number}", project) for number in range(2)])
    bob, _ = await listening(copydesk, project)
    await settled(copydesk, bob)
    left: set[str] = set()
    if how == "drop":
        plain_database.items.drop()
    elif how == "rename":
        plain_database.items.rename("items_of_yesterday")
    else:
        left = {"i1"}
        plain_database.items.aggregate([{"$match": {"_id": "i1"}}, {"$out": "items"}])
    for watched in (topic, "projects"):
        assert (await bob.next_push("reset", watched))["reason"] == "collection_lost"
        await bob.until(lambda: len(bob.of("live", watched)) == 2)  # noqa: B023 - awaited in the same round
    assert set(bob.stores[topic].of("item")) == left
    await asyncio.gather(*copydesk.server._relay._consequences._tasks)  # type: ignore[attr-defined]  # ours

    made = await copydesk.call(
        "POST", f"/projects/{project}/items", {"name": "N", "content": {"id": "n", "version": "1"}}
    )
    await copydesk.call("PATCH", f"/projects/{project}/items/{made['id']}", {"name": "M"})
    event = await bob.until_event(topic, id=made["id"], change="update")
    assert event["doc"]["name"] == "M"
    assert "language_1" in "".join(plain_database.items.index_information())
    assert not copydesk.server.failed.done()
    assert len(bob.of("reset", topic)) == 1


# -- activities -------------------------------------------------------------------------------------------------------


async def test_every_change_is_logged_once_also_those_of_other_programs(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob, _ = await listening(copydesk, project)
    item = await copydesk.call(
        "POST", f"/projects/{project}/items", {"name": "A", "content": {"id": "a", "version": "1"}}
    )
    await copydesk.call("PATCH", f"/projects/{project}/items/{item['id']}", {"status": "ready"})
    plain_database.items.insert_one(foreign_item("i", project))
    plain_database.items.update_one({"_id": "i"}, {"$set": {"status": "ready"}})
    plain_database.items.delete_one({"_id": "i"})
    plain_database.projects.update_one({"_id": project}, {"$set": {"name": "End"}})
    expected = [
        "item_added", "item_status_changed", "item_added", "item_status_changed", "item_removed", "project_changed",
    ]  # fmt: skip

    def logged() -> list[dict[str, Any]]:
        return [event for event in bob.events(topic) if event["kind"] == "activity"]

    await bob.until(lambda: any(event["doc"]["type"] == "project_changed" for event in logged()))
    await settled(copydesk, bob)
    assert sorted(event["doc"]["type"] for event in logged()) == sorted(expected)
    assert [event["change"] for event in logged()] == ["enter"] * len(expected)
    listed = (await copydesk.call("GET", f"/projects/{project}/activities"))["items"]
    by_id = {entry["id"]: entry for entry in listed}
    assert all(by_id[event["id"]] == event["doc"] for event in logged())
    assert {entry.get("actor") for entry in listed if entry.get("item_id") == item["id"]} == {"alice"}
    assert not any("actor" in entry for entry in listed if entry.get("item_id") == "i")


# -- large ------------------------------------------------------------------------------------------------------------


@started_with(max_pending_bytes=600_000)
async def test_a_project_of_long_comments_is_sent_in_parts_that_a_client_can_take(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    body = "Ä" * 9_000
    plain_database.comments.insert_many([foreign_comment(f"c{number:04}", project, body=body) for number in range(300)])
    plain_database.items.insert_many([foreign_item(f"i{number:04}", project) for number in range(1100)])
    await settled(copydesk)
    bob = await copydesk.editor("bob")
    start = (await copydesk.call("GET", "/projects"))["position"]
    await bob.subscribe(topic)
    parts = bob.of("snapshot", topic)
    assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert [part["last"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert "project" in parts[0]["data"]
    sizes = [sum(len(part["data"].get(name, ())) for name in ("items", "comments")) for part in parts]
    assert all(0 < size <= 500 for size in sizes)
    assert sum(sizes) == 1400
    assert all(len(json.dumps(part, ensure_ascii=False).encode()) < 600_000 for part in parts)
    assert len(bob.stores[topic].of("comment")) == 300

    # What was missed may be as much; it is paced like a snapshot.
    plain_database.comments.update_many({"project_id": project}, {"$set": {"edited_at": now()}})
    await settled(copydesk)
    again = await copydesk.editor("bob")
    reply = await again.subscribe(topic, since=start)
    assert reply["ok"]["resumed"] is True
    edited = [event for event in again.events(topic) if event["kind"] == "comment"]
    assert len(edited) == 300
    assert reply["ok"]["replayed"] >= 300
