"""What it costs when many come back, or have to read again, at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from app.live import RESET_SPREAD_SECONDS
from tests.conftest import Copydesk
from tests.editor import Editor
from tests.handlers.relayed import foreign_comment, settled

Plain = Database[dict[str, Any]]

RETURNING = 60
"""A thousand where there is time; each is the same."""
BACKGROUND = ("leases", "$cmd.aggregate", "system.profile")
"""What goes on without anybody: the lease is renewed, the change stream is read."""


@pytest.fixture
def another(copydesk: Copydesk, start_server: Callable[..., Copydesk]) -> Copydesk:
    """A second process on the same database."""
    return start_server()


async def asked(plain: Plain, work: Callable[[], Any]) -> Counter[str]:
    """What the server reads of the database while something is done, by collection."""
    plain.command("profile", 2)
    try:
        await work()
    finally:
        plain.command("profile", 0)
    found = plain["system.profile"].find({"appName": "copydesk", "op": {"$in": ["query", "command", "getmore"]}})
    counts = Counter(entry["ns"].partition(".")[2] for entry in found)
    plain["system.profile"].drop()
    return Counter({name: count for name, count in counts.items() if name not in BACKGROUND})


async def test_who_comes_back_from_within_memory_costs_no_query_of_the_database(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    for watched in (topic, "projects", "inbox"):
        await bob.subscribe(watched)
    since = {watched: bob.positions[watched] for watched in (topic, "projects", "inbox")}
    plain_database.comments.insert_many([foreign_comment(f"c{number}", project) for number in range(5)])
    # The worker has done its part when the counts of the one who is named are told.
    await bob.until_event("inbox", kind="counts")
    await settled(copydesk, bob)
    returning = [await copydesk.editor("bob") for _ in range(RETURNING)]

    async def come_back() -> None:
        async def one(editor: Editor) -> None:
            for watched, position in since.items():
                reply = await editor.subscribe(watched, since=position)
                assert reply["ok"]["resumed"] is True, reply

        await asyncio.gather(*(one(editor) for editor in returning))

    async def read_anew() -> None:
        await (await copydesk.editor("bob")).subscribe(topic)

    assert await asked(plain_database, come_back) == {}
    for editor in returning:
        assert len([event for event in editor.events(topic) if event["kind"] == "comment"]) == 5
    # What counts does count: one who has no position reads.
    assert (await asked(plain_database, read_anew)).keys() >= {"projects", "items", "comments"}


async def test_coming_back_to_a_process_that_knows_nobody_costs_the_check_of_rights_and_nothing_else(
    copydesk: Copydesk, another: Copydesk, plain_database: Plain
) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    for watched in (topic, "inbox"):
        await bob.subscribe(watched)
    since = bob.positions[topic]
    plain_database.comments.insert_one(foreign_comment("c", project))
    # The worker asks whom it concerns, and has done so when the counts of the one who is named are told.
    await bob.until_event("inbox", kind="counts")
    returning = [await another.editor(f"bob{number}") for number in range(RETURNING)]
    # Each is made known by its token, which the feed tells, and is asked about again after its hello.
    await settled(another, *returning)

    async def come_back() -> None:
        replies = await asyncio.gather(*(editor.subscribe(topic, since=since) for editor in returning))
        assert all(reply["ok"]["resumed"] for reply in replies)

    counted = await asked(plain_database, come_back)
    assert counted.keys() <= {"projects"}
    assert counted["projects"] <= RETURNING


async def test_after_a_reset_each_reads_again_at_a_moment_of_its_own(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    early, late = await copydesk.editor("bob"), await copydesk.editor("carol")
    for editor in (early, late):
        await editor.subscribe(topic)
    waits = iter((0.0, 3600.0))
    copydesk.server._live.joiner._spread = lambda: next(waits)
    copydesk.server.hub.reset("collection_lost")
    await early.until(lambda: len(early.of("live", topic)) == 2)
    await settled(copydesk, late)
    assert [push["push"] for push in late.pushes[topic]] == ["snapshot", "live", "reset"]
    assert [push["push"] for push in early.pushes[topic]] == ["snapshot", "live", "reset", "snapshot", "live"]


async def test_the_moments_are_spread_the_wider_the_more_are_connected(copydesk: Copydesk) -> None:
    draw = copydesk.server._live.joiner._spread
    assert draw() == 0.0
    for number in range(10):
        await copydesk.editor(f"bob{number}")
    drawn = [draw() for _ in range(1000)]
    assert 0.0 <= min(drawn) < 2 * RESET_SPREAD_SECONDS
    assert 8 * RESET_SPREAD_SECONDS < max(drawn) <= 10 * RESET_SPREAD_SECONDS
