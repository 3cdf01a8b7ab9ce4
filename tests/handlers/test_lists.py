"""What the lists ask of MongoDB, as its profiler saw it: no collection is walked, nothing is sorted in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_origin

import pytest
from tornado.httputil import url_concat

from app.lease import Lease
from handlers.operation import Operation
from handlers.routes import operations
from models.page import Page
from tests.conftest import Copydesk
from tests.handlers.relayed import foreign_comment, foreign_item

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANY = 300
FILTERS = {"/api/v1/items": {"content_id": "content-i7"}}
"""What a list cannot do without."""
IN_MEMORY = {"/api/v1/admin/connections"}
"""Lists of what is in no database."""


def lists() -> dict[str, Operation]:
    """Every route that answers with a page."""
    return {
        route: verbs["GET"]
        for route, verbs in operations().items()
        if "GET" in verbs and get_origin(verbs["GET"].answer) is Page and route not in IN_MEMORY
    }


def orders(operation: Operation) -> tuple[str | None, ...]:
    """Every value that `sort` takes; None: without it."""
    for query in operation.query:
        if query.name == "sort":
            return (None, *get_args(query.shape))
    return (None,)


async def fill(database: Any, project: str) -> None:
    """Enough for an index to be worth its while."""
    numbers = range(MANY)
    moments = [NOON + timedelta(minutes=number) for number in numbers]
    subject = {"kind": "thread", "project_id": project, "thread_id": "t"}
    await database.items.insert_many([foreign_item(f"i{n}", project, rank=n, changed_at=moments[n]) for n in numbers])
    await database.comments.insert_many([foreign_comment(f"c{n}", project, created_at=moments[n]) for n in numbers])
    await database.projects.insert_many(
        [{"_id": f"p{n}", "name": f"Project {n}", "updated_at": moments[n]} for n in numbers]
    )
    await database.activities.insert_many(
        [{"_id": f"a{n}", "project_id": project, "type": "item_added", "at": moments[n]} for n in numbers]
    )
    await database.notifications.insert_many(
        [
            {"_id": f"n{n}", "user_id": f"user{n % 2}", "subject": subject, "updated_at": moments[n], "seq": n}
            for n in numbers
        ]
    )
    await database.subscriptions.insert_many(
        [
            {"_id": f"s{n}", "user_id": f"user{n % 2}", "subject": f"item:i{n}", "level": "follow", "since": moments[n]}
            for n in numbers
        ]
    )
    await database.users.insert_many([{"_id": f"u{n}", "name": f"User {n}", "words": [f"u{n}"]} for n in numbers])
    await database.mails.insert_many(
        [{"_id": f"m{n}", "user_id": "u1", "dead_at": moments[n], "state": "dead"} for n in numbers]
    )


async def asked_by(copydesk: Copydesk, *paths: str) -> list[dict[str, Any]]:
    """What the server asked of MongoDB to answer these."""
    database = copydesk.database
    await database.command("profile", 2)
    for path in paths:
        await copydesk.call("GET", path, user="root", roles=("admin",))
    await database.command("profile", 0)
    reads = {"op": {"$in": ["query", "command"]}, "planSummary": {"$exists": True}}
    found: list[dict[str, Any]] = await database["system.profile"].find(reads).to_list(None)
    await database["system.profile"].drop()
    return [
        read for read in found if not read["ns"].endswith((".leases", ".meta", ".$cmd.aggregate", ".system.profile"))
    ]


def dear(reads: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    """Those that walked a collection or sorted in memory."""
    return [
        (read["ns"].partition(".")[2], read["planSummary"], read.get("hasSortStage", False))
        for read in reads
        if "COLLSCAN" in read["planSummary"] or read.get("hasSortStage")
    ]


@pytest.mark.parametrize("route", sorted(lists()))
@pytest.mark.new_database
async def test_no_list_walks_a_collection_or_sorts_in_memory(copydesk: Copydesk, route: str) -> None:
    project = await copydesk.project()
    await fill(copydesk.database, project)
    path = route.removeprefix("/api/v1").format(project_id=project)
    for order in orders(lists()[route]):
        chosen = {**FILTERS.get(route, {}), "limit": "20", **({"sort": order} if order else {})}
        reads = await asked_by(copydesk, url_concat(path, chosen))
        assert reads, "nothing was asked: the profiler did not see it"
        assert not dear(reads), order


async def test_a_list_asks_as_often_for_many_as_for_few(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await copydesk.project()
    # What follows from so many changes is not derived here: it asks as well.
    monkeypatch.setattr(Lease, "held", property(lambda _lease: False))
    await fill(copydesk.database, project)
    for route in lists():
        path, more = route.removeprefix("/api/v1").format(project_id=project), FILTERS.get(route, {})
        few = await asked_by(copydesk, url_concat(path, {**more, "limit": "1"}))
        many = await asked_by(copydesk, url_concat(path, {**more, "limit": "100"}))
        # Who asks may be looked up again, because a change of users makes the server forget them.
        assert len(many) <= len(few) + 2, route


@pytest.mark.new_database
async def test_a_list_without_its_index_would_be_found_out(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    await fill(copydesk.database, project)
    await copydesk.database.comments.drop_indexes()
    assert dear(await asked_by(copydesk, f"/projects/{project}/comments"))
