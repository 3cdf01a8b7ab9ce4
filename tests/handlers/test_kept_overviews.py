"""Overviews that are kept: who reads after a write sees it, whoever wrote, and who reads again costs a small query."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from pymongo import AsyncMongoClient

from app.changes import Change
from app.overviews import Overviews, _touched_by
from app.relay import Relay
from models.overview import ITEMS_SHOWN
from models.overview_update import Touched
from models.page import PageRequest, scope
from tests.conftest import Copydesk
from tests.handlers.relayed import foreign_comment, foreign_item

STEPS = 60


def counted(copydesk: Copydesk, source: str) -> float:
    """How many overviews were answered so, `kept` or `read`."""
    return copydesk.server.metrics.registry.get_sample_value("copydesk_overviews_total", {"source": source}) or 0.0


async def shown(copydesk: Copydesk, project: str, user: str = "alice") -> dict[str, Any]:
    overview: dict[str, Any] = await copydesk.call("GET", f"/projects/{project}/overview", user=user)
    del overview["position"]
    return overview


async def as_stored(copydesk: Copydesk, project: str) -> dict[str, Any]:
    """What the database holds, read past everything that is kept."""
    moment = await copydesk.server.stores.overviews.read(project, _first_page(project), user_id="alice")
    return json.loads(msgspec.json.encode(moment.contents))


def _first_page(project: str) -> PageRequest:
    """What every overview asks for of the items."""
    items = f"/api/v1/projects/{project}/items"
    return PageRequest(limit=ITEMS_SHOWN, sort="rank", scope=scope(items, "rank"), position="")


async def kept(copydesk: Copydesk, project: str, user: str = "alice") -> dict[str, Any]:
    """The overview once it is answered without reading it anew."""
    async with asyncio.timeout(20):
        while True:
            before = counted(copydesk, "kept")
            overview = await shown(copydesk, project, user)
            if counted(copydesk, "kept") > before:
                return overview


class Foreign:
    """Another program, which writes what it likes, by itself and in transactions."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], name: str, projects: list[str], seed: int) -> None:
        self.client, self.database = client, client.get_database(name)
        self.projects, self.dice, self.made = projects, random.Random(seed), 0

    async def write(self, session: Any = None) -> None:
        """One thing, of any kind."""
        dice, project = self.dice, self.dice.choice(self.projects)
        self.made += 1
        items, comments = self.database["items"], self.database["comments"]
        some_item = {"_id": f"i{dice.randrange(self.made)}"}
        some_comment, some_thread = {"_id": f"c{dice.randrange(self.made)}"}, f"c{dice.randrange(self.made)}"
        kinds: list[Callable[[], Awaitable[Any]]] = [
            lambda: items.insert_one(foreign_item(f"i{self.made}", project), session=session),
            lambda: comments.insert_one(foreign_comment(f"c{self.made}", project), session=session),
            lambda: items.update_one(some_item, {"$set": {"status": "done"}}, session=session),
            lambda: items.update_one(some_item, {"$set": {"name": dice.choice(["x", 7])}}, session=session),
            lambda: items.update_one(some_item, {"$set": {"project_id": project}}, session=session),
            lambda: items.delete_one(some_item, session=session),
            lambda: comments.update_one(some_comment, {"$set": {"body": f"edit {self.made}"}}, session=session),
            lambda: comments.update_one(some_comment, {"$set": {"thread_id": some_thread}}, session=session),
            lambda: comments.update_one(some_comment, {"$set": {"project_id": project}}, session=session),
            lambda: comments.delete_one(some_comment, session=session),
            lambda: items.insert_many(
                [foreign_item(f"i{self.made}-{n}", project) for n, project in enumerate(self.projects)], session=session
            ),
            lambda: comments.delete_many({"_id": {"$regex": f"{dice.randrange(10)}$"}}, session=session),
            lambda: self.database["projects"].update_one(
                {"_id": project}, {"$set": {"name": f"Name {self.made}"}}, session=session
            ),
        ]
        await dice.choice(kinds)()

    async def write_together(self) -> None:
        """Several things in one transaction, which share one moment of the database's clock."""
        async with self.client.start_session() as session:
            await session.with_transaction(self._several)

    async def _several(self, session: Any) -> None:
        for _ in range(self.dice.randint(2, 6)):
            await self.write(session)


async def walk(copydesk: Copydesk, uri: str, *, steps: int, seed: int) -> list[str]:
    """Read both projects after every write of another program; what was the first not to be as stored."""
    projects = [await copydesk.project("One"), await copydesk.project("Two")]
    wrong = []
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority") as client:
        foreign = Foreign(client, copydesk.database.name, projects, seed)
        for step in range(steps):
            await (foreign.write_together() if step % 3 == 2 else foreign.write())
            # Not always, or the worker's writes and the stream's pauses would never lie between a write and a read.
            if foreign.dice.random() < 0.2:
                await asyncio.sleep(foreign.dice.random() * 0.15)  # about as long as a pause of the stream
            for project in projects:
                found = await shown(copydesk, project)
                del found["me"]
                if found != await as_stored(copydesk, project):
                    wrong.append(f"step {step}: {project}")
            if wrong:
                break
    return wrong


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay hears of everything later than who wrote it can ask."""
    work_off = Relay._work_off

    async def later(self: Relay, documents: Any) -> None:
        await asyncio.sleep(0.03)
        await work_off(self, documents)

    monkeypatch.setattr(Relay, "_work_off", later)


async def test_who_reads_after_a_write_sees_it_whoever_wrote(copydesk: Copydesk, mongodb_uri: str) -> None:
    assert await walk(copydesk, mongodb_uri, steps=STEPS, seed=20261129) == []
    # Otherwise nothing was shown of what is kept.
    assert counted(copydesk, "kept") > 10
    assert counted(copydesk, "renewed") > 10


@pytest.mark.usefixtures("late")
async def test_who_reads_before_the_relay_has_heard_sees_it_too(copydesk: Copydesk, mongodb_uri: str) -> None:
    assert await walk(copydesk, mongodb_uri, steps=STEPS // 2, seed=1) == []


async def _yes(*_arguments: Any, **_options: Any) -> bool:
    return True


def _now_only(change: Change) -> Touched | None:
    return _touched_by(msgspec.structs.replace(change, raw_before=None))


async def _good(self: Overviews, project_id: str, kept: Any, _moment: Any) -> bool:
    return bool(kept.body) and self._kept.get(project_id) is kept


FAULTS: dict[str, tuple[str, Any]] = {
    "nothing is touched": ("app.overviews.Overviews._touch", lambda _self, _project_id, _change: None),
    "what is kept is believed": ("app.overviews.Overviews._is_good", _good),
    "nobody waits for the news": ("app.overviews.Overviews._have_news", _yes),
    "where a comment was is forgotten": ("app.overviews._touched_by", _now_only),
}
IN_TIME = "where a comment was is forgotten"
"""Shows only where overviews are renewed, and those of a relay that is late are mostly read anew."""


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_walk_notices(
    copydesk: Copydesk, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, fault: str
) -> None:
    if fault != IN_TIME:
        request.getfixturevalue("late")
    monkeypatch.setattr(*FAULTS[fault])
    assert await walk(copydesk, mongodb_uri, steps=2 * STEPS, seed=1) != []


async def test_those_who_read_while_others_write_miss_nothing_and_see_nothing_twice(
    copydesk: Copydesk, mongodb_uri: str
) -> None:
    project = await copydesk.project()
    begun = done = 0

    async def write(number: int) -> None:
        nonlocal begun, done
        comments = client.get_database(copydesk.database.name)["comments"]
        for count in range(20):
            begun += 1
            await comments.insert_one(foreign_comment(f"c{number}-{count}", project, thread_id=f"c{count % 3}-0"))
            done += 1
            await asyncio.sleep(random.random() * 0.02)

    async def watch() -> None:
        while done < 80:
            least = done
            counters = (await shown(copydesk, project))["counters"]["project_comments"]
            assert least <= counters["count"] <= begun

    async with AsyncMongoClient[dict[str, Any]](mongodb_uri, w="majority") as client:
        await asyncio.gather(*(write(number) for number in range(4)), *(watch() for _ in range(3)))
    assert await shown(copydesk, project) | {"me": None} == await as_stored(copydesk, project) | {"me": None}
    assert counted(copydesk, "renewed") > 0


async def test_who_reads_again_gets_the_same_and_304_by_the_same_tag(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Grüße \U0001f600"})
    path = f"/projects/{project}/overview"
    read = await copydesk.request("GET", path)
    assert counted(copydesk, "read") == 1
    assert await kept(copydesk, project) == {
        name: value for name, value in json.loads(read.body).items() if name != "position"
    }
    again = await copydesk.request("GET", path)
    assert again.headers["ETag"] == read.headers["ETag"]
    assert (await copydesk.request("GET", path, If_None_Match=read.headers["ETag"])).code == 304
    assert (await copydesk.request("HEAD", path)).headers["ETag"] == read.headers["ETag"]
    assert counted(copydesk, "kept") >= 2


async def test_what_is_the_callers_own_is_never_kept(copydesk: Copydesk) -> None:
    project = await copydesk.project(visibility="public", members=[{"principal": "user:alice", "role": "owner"}])
    assert (await kept(copydesk, project))["me"]["role"] == "owner"
    as_bob = await kept(copydesk, project, "bob")
    assert (as_bob["me"]["role"], as_bob["me"]["unread"]) == ("editor", 0)
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "@bob look"})
    async with asyncio.timeout(20):
        while (await shown(copydesk, project, "bob"))["me"]["unread"] != 1:  # noqa: ASYNC110 - asks the server
            await asyncio.sleep(0.01)
    assert (await kept(copydesk, project, "bob"))["me"]["unread"] == 1
    assert (await kept(copydesk, project))["me"]["unread"] == 0


async def test_who_lost_the_project_does_not_see_what_is_kept(copydesk: Copydesk) -> None:
    project = await copydesk.project(visibility="public")
    await kept(copydesk, project, "bob")
    owner = [{"principal": "user:alice", "role": "owner"}]
    await copydesk.call("PATCH", f"/projects/{project}", {"visibility": "private", "members": owner})
    assert (await copydesk.request("GET", f"/projects/{project}/overview", user="bob")).code == 404
    await kept(copydesk, project)
    await copydesk.call("DELETE", f"/projects/{project}")
    assert (await copydesk.request("GET", f"/projects/{project}/overview")).code == 404


class Herd:
    """Many readers of one project, past the limits on requests of one user, and how often MongoDB is read for them."""

    def __init__(self, copydesk: Copydesk, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._overviews, self._project = copydesk.server._overviews, project
        self._request = _first_page(project)
        self.reads = 0
        store = copydesk.server.stores.overviews
        read = store.read

        async def counting(*arguments: Any, **options: Any) -> Any:
            self.reads += 1
            return await read(*arguments, **options)

        monkeypatch.setattr(store, "read", counting)

    async def read(self, count: int) -> set[bytes]:
        """What all of them get."""
        reading = (self._overviews.read(self._project, self._request, user_id="alice") for _ in range(count))
        return {body for body, _unread in await asyncio.gather(*reading)}


async def test_a_hundred_who_read_at_once_cost_one_read(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await copydesk.project()
    herd = Herd(copydesk, project, monkeypatch)
    for number in range(3):
        herd.reads = 0
        assert len(await herd.read(100)) == 1
        assert herd.reads <= 2
        await copydesk.database.comments.insert_one(foreign_comment(f"c{number}", project))


async def test_many_who_read_while_others_write_share_what_is_read(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    herd, writing = Herd(copydesk, project, monkeypatch), True

    async def write() -> None:
        number = 0
        while writing:
            number += 1
            await copydesk.database.comments.insert_one(foreign_comment(f"c{number}", project))

    async def read() -> None:
        for _ in range(10):
            await herd.read(1)

    writer = asyncio.ensure_future(write())
    await asyncio.gather(*(read() for _ in range(10)))
    writing = False
    await writer
    # One at a time, and whoever comes meanwhile waits for the next one.
    assert herd.reads <= 100 / 3


async def test_what_could_never_be_an_id_is_not_looked_for(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    await kept(copydesk, project)
    for number in range(3):
        huge = foreign_comment(f"c{number}", project, thread_id=f"{number}" * 6_000_000)
        await copydesk.database.comments.insert_one(huge)
    await copydesk.database.items.insert_one(foreign_item("x" * 1000, project))
    for _ in range(2):
        found = await shown(copydesk, project)
        assert found | {"me": None} == await as_stored(copydesk, project) | {"me": None}


async def test_an_item_of_several_projects_takes_its_place_on_the_page_and_is_not_shown(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    await copydesk.database.items.insert_many(
        [foreign_item(f"i{number:03}", project, rank=number) for number in range(ITEMS_SHOWN + 5)]
    )
    await kept(copydesk, project)
    await copydesk.database.items.insert_one(foreign_item("odd", project) | {"project_id": [project], "rank": -1})
    found = await shown(copydesk, project)
    assert found | {"me": None} == await as_stored(copydesk, project) | {"me": None}
    assert len(found["items"]) == ITEMS_SHOWN - 1


async def test_what_was_read_before_history_was_lost_is_read_anew(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    await kept(copydesk, project)
    read = counted(copydesk, "read")
    # As after an outage that was longer than the oplog: what happened meanwhile is not told.
    copydesk.server._history.begin(copydesk.server.hub.position)
    await shown(copydesk, project)
    assert counted(copydesk, "read") == read + 1


@pytest.mark.parametrize("copydesk", [{"overviews_bytes": 2_000}], indirect=True)
async def test_no_more_is_kept_than_its_bytes_allow(copydesk: Copydesk) -> None:
    projects = [await copydesk.project("x" * 200) for _ in range(5)]
    for project in projects:
        await shown(copydesk, project)
        assert copydesk.server._overviews.bytes <= 2_000
    assert len(copydesk.server._overviews._kept) >= 2
    await kept(copydesk, projects[-1])
    read = counted(copydesk, "read")
    await shown(copydesk, projects[0])
    assert counted(copydesk, "read") == read + 1


async def test_one_that_fails_is_neither_kept_nor_waited_for(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    store, request = copydesk.server.stores.overviews, PageRequest(sort="rank", scope=b"", position="")
    overviews = copydesk.server._overviews
    with monkeypatch.context() as broken:

        async def read(*_arguments: Any, **_options: Any) -> Any:
            await asyncio.sleep(0)
            raise ConnectionError

        broken.setattr(store, "read", read)
        tries = (overviews.read(project, request, user_id="alice") for _ in range(3))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert (len(overviews._kept), overviews.bytes) == (0, 0)
    assert (await shown(copydesk, project))["project"]["name"] == "Spring"
