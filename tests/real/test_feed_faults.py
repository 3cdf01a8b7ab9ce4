"""The feed survives what MongoDB and other programs do to it, each fault in its own way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from app.database import Connection
from app.settings import Settings
from app.startup import warnings
from tests.conftest import Copydesk
from tests.handlers.raw_socket import sign_in
from tests.ledger.replica_set import ReplicaSet, replica_set
from tests.ledger.shapes import FATAL, POISON, RESUMABLE, foreign_comment


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A MongoDB that fails on demand."""
    with replica_set(tmp_path_factory.mktemp("breakable"), 1) as running:
        yield running


@pytest.fixture
def mongodb_uri(breakable: ReplicaSet) -> str:
    """In place of the shared one."""
    return breakable.uri


@pytest.fixture
def plain_client(mongodb_uri: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """In place of the shared one."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        yield client


async def _five_good_ones(copydesk: Copydesk, plain: Database[dict[str, Any]], project: str, editor: Any) -> None:
    plain.comments.insert_many([foreign_comment(project, f"good-{number}") for number in range(5)])
    for number in range(5):
        await editor.until_event(f"project:{project}", id=f"{project}-good-{number}")


async def test_a_start_on_a_mongodb_with_test_commands_is_warned_of(connection: Connection) -> None:
    found = [one async for one in warnings(Settings(max_connections=10), connection)]
    (one,) = [one for one in found if "test commands" in one.what]
    assert "enableTestCommands" in one.do


@pytest.mark.parametrize("code", RESUMABLE)
async def test_a_resumable_error_is_not_noticed(
    copydesk: Copydesk, breakable: ReplicaSet, plain_database: Database[dict[str, Any]], code: int
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")
    for fault, (commands, times) in enumerate(((["getMore"], 1), (["getMore", "aggregate"], 3), (["getMore"], 1))):
        # Three times: the driver resumes once by itself, and then the feed has to.
        breakable.fail(commands, times=times, errorCode=code, errorLabels=["ResumableChangeStreamError"])
        plain_database.comments.insert_one(foreign_comment(project, fault))
        await bob.until_event(f"project:{project}", id=f"{project}-{fault}")
    assert not bob.of("reset", f"project:{project}")
    ids = [event["id"] for event in bob.events(f"project:{project}") if event["kind"] == "comment"]
    assert ids == [f"{project}-{fault}" for fault in range(3)]


async def test_cut_connections_are_not_noticed(
    copydesk: Copydesk, breakable: ReplicaSet, plain_database: Database[dict[str, Any]]
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")
    for fault in range(5):
        breakable.fail(["getMore", "aggregate"], times=2, closeConnection=True)
        plain_database.comments.insert_one(foreign_comment(project, fault))
        await bob.until_event(f"project:{project}", id=f"{project}-{fault}")
    assert not bob.of("reset", f"project:{project}")


@pytest.mark.parametrize("code", FATAL)
async def test_lost_history_is_told_once_and_then_all_is_well(
    copydesk: Copydesk, breakable: ReplicaSet, plain_database: Database[dict[str, Any]], code: int
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    # The driver resumes once by itself, so that the second answer has to be fatal as well.
    breakable.fail(["getMore", "aggregate"], times=2, errorCode=code, errorLabels=["NonResumableChangeStreamError"])
    await bob.until(lambda: len(bob.of("live", topic)) == 2)
    assert [push["reason"] for push in bob.of("reset", topic)] == ["too_old"]
    await _five_good_ones(copydesk, plain_database, project, bob)
    assert sum(copydesk.server.feed.reopened.values()) <= 5


async def test_what_changed_while_history_was_lost_is_obeyed_all_the_same(
    copydesk: Copydesk, breakable: ReplicaSet, plain_database: Database[dict[str, Any]]
) -> None:
    cookie = await sign_in(copydesk)
    carol = await copydesk.socket(headers={"Cookie": cookie, "Origin": copydesk.url})
    assert "ok" in await carol.command("hello")
    disabled, demoted, stays = [
        await copydesk.editor(user, *roles) for user, roles in (("bob", ()), ("dora", ("admin",)), ("erin", ()))
    ]
    breakable.fail(["getMore", "aggregate"], times=10_000, errorCode=286, errorLabels=["NonResumableChangeStreamError"])
    try:
        await copydesk.until(lambda: sum(copydesk.server.feed.reopened.values()) > 0)
        plain_database.users.update_one({"_id": "bob"}, {"$set": {"disabled": True}})
        later = datetime.now(UTC) + timedelta(seconds=1)
        plain_database.users.update_one({"_id": "dora"}, {"$set": {"roles": ["editor"], "roles_at": later}})
        plain_database.sessions.delete_many({"user_id": "carol"})
        plain_database.meta.insert_one({"_id": "settings", "poll_seconds": 77, "version": 1})
    finally:
        breakable.mend()
    for gone in (disabled, demoted, carol):
        assert (await asyncio.wait_for(asyncio.shield(gone.closed), 20))[0] == 4102
    await copydesk.until(lambda: copydesk.server.runtime.now.poll_seconds == 77)
    assert "ok" in await stays.subscribe("projects")


async def test_who_was_in_a_collection_that_was_dropped_is_out(
    copydesk: Copydesk, plain_database: Database[dict[str, Any]]
) -> None:
    cookie = await sign_in(copydesk)
    carol = await copydesk.socket(headers={"Cookie": cookie, "Origin": copydesk.url})
    assert "ok" in await carol.command("hello")
    bob = await copydesk.editor("bob")
    plain_database.drop_collection("sessions")
    assert (await asyncio.wait_for(asyncio.shield(carol.closed), 20))[0] == 4102
    assert "ok" in await bob.subscribe("projects")


@pytest.mark.parametrize("name", POISON)
async def test_what_cannot_be_read_harms_nobody_else(
    copydesk: Copydesk, plain_database: Database[dict[str, Any]], name: str
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")
    plain_database.comments.insert_one(POISON[name](project, "bad"))
    await _five_good_ones(copydesk, plain_database, project, bob)
    assert (await copydesk.request("GET", f"/projects/{project}/comments")).code == 200
    assert (await copydesk.request("GET", f"/projects/{project}/overview")).code == 200
    assert not bob.of("reset", f"project:{project}")


async def test_a_change_over_16_megabytes_is_stepped_over(
    copydesk: Copydesk, plain_database: Database[dict[str, Any]]
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    plain_database.comments.insert_one(foreign_comment(project, "large", junk="x" * 9_000_000))
    await bob.until_event(topic, id=f"{project}-large")
    # With both images this change has 18 MB.
    plain_database.comments.update_one({"_id": f"{project}-large"}, {"$set": {"body": "Changed"}})
    thin = await bob.until_event(topic, id=f"{project}-large", change="update")
    assert "doc" not in thin
    await _five_good_ones(copydesk, plain_database, project, bob)
    assert not bob.of("reset", topic)


@pytest.mark.parametrize("collection", ["comments", "items", "projects", "meta"])
async def test_a_dropped_collection_is_told_and_watched_again(
    copydesk: Copydesk, plain_database: Database[dict[str, Any]], collection: str
) -> None:
    bob = await copydesk.editor("bob")
    await bob.subscribe("projects")
    plain_database.drop_collection(collection)
    await bob.until(lambda: len(bob.of("live", "projects")) == 2)
    assert [push["reason"] for push in bob.of("reset", "projects")] == ["collection_lost"]
    project = await copydesk.project()
    await bob.until_event("projects", id=project)
    await bob.subscribe(f"project:{project}")
    await _five_good_ones(copydesk, plain_database, project, bob)


async def test_a_dropped_database_is_told_and_watched_again(
    copydesk: Copydesk, plain_client: pymongo.MongoClient[dict[str, Any]], plain_database: Database[dict[str, Any]]
) -> None:
    bob = await copydesk.editor("bob")
    await bob.subscribe("projects")
    old = bob.positions["projects"]
    plain_client.drop_database(plain_database.name)
    await bob.until(lambda: bool(bob.of("reset", "projects")))
    project = await copydesk.project()
    await bob.until(lambda: project in bob.stores["projects"].of("project"))
    await bob.subscribe(f"project:{project}")
    await _five_good_ones(copydesk, plain_database, project, bob)
    # A position of the history that ended there is not taken for one of this.
    reply = await bob.subscribe("projects", since=old)
    assert reply["ok"]["resumed"] is False
    assert reply["ok"]["reason"] in ("unknown", "too_old")
