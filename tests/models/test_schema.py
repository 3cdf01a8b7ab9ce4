"""The collections are as they should be after every start, whatever was there before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.database import Database as PlainDatabase
from pymongo.errors import DuplicateKeyError

from app.database import Connection
from models import schema
from models.schema import COLLECTIONS, INDEXES, WATCHED, Index, apply, prepare

Plain = PlainDatabase[dict[str, Any]]

ITEM = {"project_id": "P", "content": {"id": "page-1", "version": "1"}, "language": "en", "deleted_at": None}


@pytest.fixture
def database_name(virgin_database_name: str) -> str:
    """Nothing is in it."""
    return virgin_database_name


def state(database: Plain) -> dict[str, Any]:
    """Every collection with its options and indexes."""
    return {
        info["name"]: (info["options"], database[info["name"]].index_information())
        for info in database.list_collections()
        if not info["name"].startswith("system.")
    }


async def test_an_empty_database_gets_every_collection_and_index(database: Any, plain_database: Plain) -> None:
    assert await apply(database) == []
    assert set(state(plain_database)) == set(COLLECTIONS)
    for index in INDEXES:
        found = plain_database[index.collection].index_information()[index.name]
        assert found["key"] == list(index.keys)


async def test_every_watched_collection_keeps_images_and_no_other_does(database: Any, plain_database: Plain) -> None:
    await apply(database)
    for name, (options, _indexes) in state(plain_database).items():
        assert ("changeStreamPreAndPostImages" in options) == (name in WATCHED)


async def test_applying_it_again_changes_nothing(database: Any, plain_database: Plain) -> None:
    await apply(database)
    before = state(plain_database)
    with plain_database.watch(show_expanded_events=True) as changes:
        assert await apply(database) == []
        assert changes.try_next() is None
    assert state(plain_database) == before


async def test_what_a_command_makes_before_the_first_start_is_as_the_start_would_make_it(
    database: Any, plain_database: Plain
) -> None:
    for name in ("users", "preferences"):
        await prepare(database, name)
    assert {name: options for name, (options, _indexes) in state(plain_database).items()} == {
        "users": {"changeStreamPreAndPostImages": {"enabled": True}},
        "preferences": {},
    }
    # Beside another command that does the same, or on what is there already, nothing happens.
    plain_database.users.insert_one({"_id": "dora"})
    await asyncio.gather(*(prepare(database, name) for name in ("users", "meta", "meta")))
    assert plain_database.users.find_one() == {"_id": "dora"}


async def test_a_collection_that_another_program_made_gets_its_images_and_keeps_its_documents(
    database: Any, plain_database: Plain
) -> None:
    plain_database.projects.insert_one({"_id": "P", "name": "Spring"})
    plain_database.projects.create_index("colour")
    assert await apply(database) == []
    options, indexes = state(plain_database)["projects"]
    assert options["changeStreamPreAndPostImages"] == {"enabled": True}
    assert "colour_1" in indexes
    assert plain_database.projects.find_one() == {"_id": "P", "name": "Spring"}


async def test_a_dropped_collection_comes_back_whole(database: Any, plain_database: Plain) -> None:
    await apply(database)
    before = state(plain_database)
    plain_database.drop_collection("items")
    plain_database.items.insert_one({"_id": "i"})
    assert await apply(database) == []
    assert state(plain_database) == before


async def test_an_index_that_differs_is_made_anew_and_the_others_are_left_alone(
    database: Any, plain_database: Plain
) -> None:
    plain_database.sessions.create_index("expires_at", expireAfterSeconds=5)
    plain_database.sessions.create_index("user_id", name="user_id_1")
    assert await apply(database) == []
    indexes = plain_database.sessions.index_information()
    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    assert set(indexes) == {"_id_", "expires_at_1", "user_id_1"}


async def test_an_index_of_somebody_else_in_the_same_place_is_told_and_not_dropped(
    database: Any, plain_database: Plain
) -> None:
    plain_database.sessions.create_index("user_id", name="theirs")
    (problem,) = await apply(database)
    assert "user_id_1" in problem
    assert "theirs" in plain_database.sessions.index_information()


async def test_processes_that_start_together_do_not_trip_over_each_other(
    connection: Connection, plain_database: Plain
) -> None:
    for _ in range(3):
        plain_database.client.drop_database(plain_database.name)
        assert await asyncio.gather(*(apply(connection.database) for _ in range(4))) == [[]] * 4
        assert set(state(plain_database)) == set(COLLECTIONS)


async def test_one_version_of_a_content_stands_in_one_project_only(database: Any, plain_database: Plain) -> None:
    await apply(database)
    items = plain_database.items
    items.insert_one({"_id": "a", **ITEM})
    with pytest.raises(DuplicateKeyError):
        items.insert_one({"_id": "b", **ITEM, "project_id": "Q"})
    items.insert_one({"_id": "c", **ITEM, "language": ""})
    items.insert_one({"_id": "d", **ITEM, "content": {"id": "page-1", "version": "2"}})
    items.update_one({"_id": "a"}, {"$set": {"deleted_at": 1}})
    items.insert_one({"_id": "e", **ITEM, "project_id": "Q"})


async def test_what_other_programs_write_without_a_content_does_not_collide(
    database: Any, plain_database: Plain
) -> None:
    await apply(database)
    for content in ({}, {"content": None}, {"content": 7}, {"content": {"id": 7, "version": 7}}):
        plain_database.items.insert_many([{"name": "x", **content}, {"name": "y", **content}])


async def test_duplicates_that_stand_in_the_way_are_told_and_the_rest_is_done(
    database: Any, plain_database: Plain
) -> None:
    plain_database.items.insert_many([{"_id": "a", **ITEM}, {"_id": "b", **ITEM}])
    (problem,) = await apply(database)
    assert "content.id, content.version, language" in problem
    assert set(state(plain_database)) == set(COLLECTIONS)
    plain_database.items.delete_one({"_id": "b"})
    assert await apply(database) == []


async def test_a_view_in_the_place_of_a_collection_is_told(database: Any, plain_database: Plain) -> None:
    plain_database.create_collection("leases", viewOn="meta")
    assert await apply(database) == ["leases is a view; it has to be a collection."]


async def test_a_unique_index_that_lost_its_condition_is_put_right(
    database: Any, plain_database: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = (("content.id", 1), ("content.version", 1), ("language", 1))
    plain_database.items.create_index(list(keys), unique=True)
    assert await apply(database) == []
    (wanted,) = (index for index in INDEXES if index.unique)
    assert plain_database.items.index_information()[wanted.name]["partialFilterExpression"] == wanted.partial
    changed = Index(collection="items", keys=keys)
    monkeypatch.setattr(schema, "INDEXES", (changed,))
    assert await apply(database) == []
    assert "unique" not in plain_database.items.index_information()[wanted.name]
