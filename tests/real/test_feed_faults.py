"""The feed survives what MongoDB and other programs do to it, each fault in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from tests.conftest import Copydesk
from tests.ledger.replica_set import ReplicaSet, replica_set

RESUMABLE = (6, 7, 43, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436)
"""Codes after which the driver's specification resumes; 43 is a lost cursor."""
FATAL = (136, 260, 280, 286)


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


def _comment(project: str, number: object, **fields: Any) -> dict[str, Any]:
    return {
        "_id": f"{project}-{number}",
        "project_id": project,
        "body": f"Number {number}",
        "author": "import",
        "created_at": datetime.now(UTC),
        **fields,
    }


async def _five_good_ones(copydesk: Copydesk, plain: Database[dict[str, Any]], project: str, editor: Any) -> None:
    plain.comments.insert_many([_comment(project, f"good-{number}") for number in range(5)])
    for number in range(5):
        await editor.until_event(f"project:{project}", id=f"{project}-good-{number}")


@pytest.mark.parametrize("code", RESUMABLE)
async def test_a_resumable_error_is_not_noticed(
    copydesk: Copydesk, breakable: ReplicaSet, plain_database: Database[dict[str, Any]], code: int
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")
    for fault in range(3):
        breakable.fail(["getMore"], times=1, errorCode=code, errorLabels=["ResumableChangeStreamError"])
        plain_database.comments.insert_one(_comment(project, fault))
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
        plain_database.comments.insert_one(_comment(project, fault))
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


def _deep(levels: int) -> dict[str, Any]:
    return {"a": _deep(levels - 1)} if levels else {}


def _broken_utf8(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document).replace(b"PLACEHOLDER", b"\xff\xfe\xfaACEHOLDE"))


POISON: dict[str, Callable[[str], Any]] = {
    "a date that Python has not": lambda project: _comment(project, "bad", created_at=bson.DatetimeMS(2**55)),
    "a date before the year 1": lambda project: _comment(project, "bad", edited_at=bson.DatetimeMS(-(2**55))),
    "broken UTF-8": lambda project: _broken_utf8(_comment(project, "bad", body="PLACEHOLDER")),
    "170 levels": lambda project: _comment(project, "bad", deep=_deep(170)),
    "another type of id": lambda project: {**_comment(project, "bad"), "_id": {"a": [1]}},
    "an id of 5,000 characters": lambda project: {**_comment(project, "bad"), "_id": "x" * 5000},
}


@pytest.mark.parametrize("name", POISON)
async def test_what_cannot_be_read_harms_nobody_else(
    copydesk: Copydesk, plain_database: Database[dict[str, Any]], name: str
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")
    plain_database.comments.insert_one(POISON[name](project))
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
    plain_database.comments.insert_one(_comment(project, "large", junk="x" * 9_000_000))
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
