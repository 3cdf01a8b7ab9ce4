"""The change log over REST."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(io_loop: Any, database: Any) -> None:
    """Five entries of one project, with ids that tell their number."""
    entries = [
        {
            "_id": f"A{number}",
            "project_id": "P",
            "item_id": f"I{number % 2}",
            "type": "item_added" if number < 3 else "item_removed",
            "actor": "alice" if number else "bob",
            "at": NOON + timedelta(seconds=number),
            "data": {"name": "Start page"},
            "expires_at": NOON + timedelta(days=10_000),
        }
        for number in range(5)
    ]

    async def write() -> None:
        viewer = {"principal": "user:alice", "role": "viewer"}
        await database.projects.insert_one({"_id": "P", "name": "Spring", "visibility": "private", "members": [viewer]})
        await database.activities.insert_many(entries)

    io_loop.run_sync(write)


async def test_the_log_is_read_newest_first_page_by_page(api: Any, log: None) -> None:
    seen, path = [], "/projects/P/activities?limit=2"
    while True:
        answer = await api("alice", "GET", path)
        assert answer.status == 200
        assert answer.headers["Copydesk-Position"] == answer.json["position"] == "here"
        seen += [entry["id"] for entry in answer.json["items"]]
        if "next_cursor" not in answer.json:
            break
        path = f"/projects/P/activities?limit=2&cursor={answer.json['next_cursor']}"
    assert seen == ["A4", "A3", "A2", "A1", "A0"]


async def test_an_entry_shows_what_everyone_may_see_and_no_more(api: Any, log: None) -> None:
    answer = await api("alice", "GET", "/projects/P/activities?limit=1")
    assert answer.json["items"] == [
        {
            "id": "A4",
            "project_id": "P",
            "item_id": "I0",
            "type": "item_removed",
            "actor": "alice",
            "at": "2026-03-01T12:00:04.000Z",
            "data": {"name": "Start page"},
        }
    ]


async def test_the_log_is_filtered(api: Any, log: None) -> None:
    for query, found in (
        ("type=item_added", ["A2", "A1", "A0"]),
        ("item_id=I1", ["A3", "A1"]),
        ("actor=bob", ["A0"]),
        ("actor=alice&item_id=I1&type=item_added", ["A1"]),
    ):
        answer = await api("alice", "GET", f"/projects/P/activities?{query}")
        assert [entry["id"] for entry in answer.json["items"]] == found


async def test_a_query_that_makes_no_sense_is_refused(api: Any, log: None) -> None:
    for query in ("type=party", "item_id=a%20b", "actor=", "sort=at", "limit=0", "cursor=x", "who=bob"):
        answer = await api("alice", "GET", f"/projects/P/activities?{query}")
        assert (answer.status, answer.json["code"]) == (422, "invalid"), query


async def test_the_log_of_a_project_out_of_sight_is_not_found(api: Any, log: None) -> None:
    assert (await api("bob", "GET", "/projects/P/activities")).status == 404
    assert (await api(None, "GET", "/projects/P/activities")).status == 401
    assert (await api("alice", "POST", "/projects/P/activities", {})).status == 405
