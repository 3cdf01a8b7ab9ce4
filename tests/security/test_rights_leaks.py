"""What may not be seen is not told of: not by lists, counts, searches or errors, and not by the time that they take.

Which role may do what on which route is the table of tests/contract/test_rights.py; sockets are in
tests/handlers/test_realtime_rights.py.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import HTTPResponse
from tornado.ioloop import IOLoop

from app import commands
from app.access import Access
from handlers.routes import operations
from tests.conftest import Copydesk
from tests.contract.test_rights import CALLERS

SECRETS = ("zebrafish", "canary.email", "quagga")
"""Words of the private project; nobody else may be told one of them."""
OUT = ("nobody", "outsider")
KINDS = ("project", "item", "thread")
RATIO = 1.10
SAMPLES = 60
ATTEMPTS = 8

Ask = tuple[str, str, Any]


class World:
    """A private project of founder's, one of outsider's, and names that nothing has."""

    def __init__(self, hidden: Mapping[str, str], mine: str) -> None:
        self.hidden, self.mine = hidden, mine
        self._numbers = itertools.count()

    def missing(self) -> dict[str, str]:
        """Names like the hidden ones that were never asked for before."""
        number = f"{next(self._numbers):05}"
        return {name: value[:-5] + number for name, value in self.hidden.items()}


@pytest.fixture
def world(io_loop: IOLoop, copydesk: Copydesk) -> World:
    """The hidden project has a member for each role of the table."""
    founder = commands.token(
        copydesk.server.settings, sub="founder", roles=[], ttl_seconds=3600, name=None, email="canary.email@example.org"
    )

    async def as_founder(method: str, path: str, body: Any) -> Any:
        return await copydesk.call(method, path, body, user=None, Authorization=f"Bearer {founder}")

    async def make() -> World:
        members = [
            {"principal": f"user:{role}", "role": role} for role in CALLERS if role not in (*OUT, "service", "admin")
        ]
        hidden = (
            await as_founder(
                "POST", "/projects",
                {"name": "Zebrafish", "labels": ["quagga-00000"], "visibility": "private", "members": members},
            )
        )["id"]  # fmt: skip
        item = await as_founder(
            "POST",
            f"/projects/{hidden}/items",
            {"name": "Zebrafish", "content": {"id": "zebrafish-00000", "version": "1"}},
        )
        comment = await as_founder("POST", f"/projects/{hidden}/comments", {"body": "zebrafish @founder"})
        mine = await copydesk.project("Mine", user="outsider")
        for caller, roles in CALLERS.items():
            if roles is not None:
                await copydesk.call("GET", "/session", user=caller, roles=roles)
        return World(
            {
                "project": hidden,
                "item": item["id"],
                "thread": comment["id"],
                "content": "zebrafish-00000",
                "label": "quagga-00000",
            },
            mine,
        )

    made: World = io_loop.run_sync(make)
    return made


def asks(names: Mapping[str, str], mine: str) -> list[Ask]:
    """All ways to ask for something by its name, other than by the path of a project."""
    project, item, thread = (names[kind] for kind in KINDS)
    replies = {"item_id": item, "thread_id": thread, "parent_id": thread, "activity_id": thread}
    return [
        *[("PUT", f"/subscriptions/{kind}:{names[kind]}", {"level": "follow"}) for kind in KINDS],
        *[("GET", f"/subscriptions/{kind}:{names[kind]}", None) for kind in KINDS],
        *[("DELETE", f"/subscriptions/{kind}:{names[kind]}", None) for kind in KINDS],
        ("GET", f"/users?project_id={project}", None),
        ("GET", f"/items?content_id={names['content']}", None),
        ("GET", f"/projects?label={names['label']}", None),
        *[("GET", f"/notifications?{kind}_id={names[kind]}", None) for kind in KINDS],
        *[("POST", "/notifications/mark", {"read": True, "filter": {f"{kind}_id": names[kind]}}) for kind in KINDS],
        ("POST", "/notifications/mark", {"read": True, "ids": [item]}),
        ("GET", f"/notifications/{item}", None),
        *[("POST", f"/projects/{mine}/comments", {"body": "x", field: value}) for field, value in replies.items()],
        ("GET", f"/projects/{mine}/comments?item_id={item}", None),
        ("GET", f"/projects/{mine}/comments?thread_id={thread}", None),
        ("GET", f"/projects/{mine}/activities?item_id={item}", None),
        ("POST", f"/projects/{mine}/items/status", {"ids": [item], "status": "draft"}),
        *[(method, f"/projects/{mine}/items/{item}", {"name": "x"}) for method in ("GET", "PATCH", "DELETE")],
        *[(method, f"/projects/{mine}/comments/{thread}", {"body": "x"}) for method in ("GET", "PATCH", "DELETE")],
        ("GET", f"/events?topics=project:{project}", None),
    ]  # fmt: skip


def by_path(names: Mapping[str, str]) -> list[Ask]:
    """Every route below a project, with good bodies where they matter."""
    ids = {"project_id": names["project"], "item_id": names["item"], "comment_id": names["thread"]}
    return [
        (method, route.removeprefix("/api/v1").format(**ids), {} if operation.body is not None else None)
        for route, verbs in operations().items()
        if "{project_id}" in route
        for method, operation in verbs.items()
    ]


def told(answer: HTTPResponse, names: Mapping[str, str]) -> tuple[Any, ...]:
    """All that a caller gets to see, but for what differs from request to request."""
    text = answer.body.decode()
    for kind, name in names.items():
        text = text.replace(name, f"<{kind}>")
    text = re.sub(r'"(request_id|position)":"[^"]*"', r'"\1":"..."', text)
    headers = [
        (name, value)
        for name, value in sorted(answer.headers.get_all())
        if name not in ("Date", "Copydesk-Position", "Etag", "Ratelimit")
    ]
    return answer.code, [(name, value) for name, value in headers if name != "Content-Length"], text


async def test_what_is_hidden_and_what_is_missing_are_answered_with_the_same_words(
    copydesk: Copydesk, world: World
) -> None:
    missing = world.missing()
    hidden_asks = by_path(world.hidden) + asks(world.hidden, world.mine)
    missing_asks = by_path(missing) + asks(missing, world.mine)
    for hidden, absent in zip(hidden_asks, missing_asks, strict=True):
        first = told(await copydesk.request(*hidden, user="outsider"), world.hidden)
        second = told(await copydesk.request(*absent, user="outsider"), missing)
        assert first == second, hidden
        assert not any(word in first[2].lower() for word in SECRETS), (hidden, first)


async def database_work(copydesk: Copydesk, ask: Ask) -> list[tuple[str, str]]:
    """What the database was asked to do for one request of outsider's: collection and command."""
    database = copydesk.database
    await database.command("profile", 2)
    await copydesk.request(*ask, user="outsider")
    await database.command("profile", 0)
    watched = [f"{database.name}.{name}" for name in ("projects", "items", "comments", "subscriptions", "users")]
    done = [
        (entry["ns"].partition(".")[2], next(iter(entry.get("command", {"": 0}))))
        async for entry in database["system.profile"].find({"ns": {"$in": watched}}).sort("$natural", 1)
    ]
    await database["system.profile"].drop()
    return done


async def test_what_is_hidden_and_what_is_missing_cost_the_same_work(copydesk: Copydesk, world: World) -> None:
    work: list[list[tuple[str, str]]] = []
    for index in range(len(asks(world.hidden, world.mine)) + 1):
        both = []
        for names in (world.hidden, world.missing()):
            await copydesk.call("GET", f"/projects/{world.hidden['project']}", user="viewer")  # it is in use
            ask = [by_path(names)[0], *asks(names, world.mine)][index]
            both.append(await database_work(copydesk, ask))
        assert both[0] == both[1], ask
        work.append(both[0])
    assert sum(len(done) for done in work) > 20


async def test_work_for_hidden_things_alone_is_noticed(
    copydesk: Copydesk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_one_more_query(copydesk, monkeypatch)
    ask, absent = by_path(world.hidden)[0], by_path(world.missing())[0]
    assert await database_work(copydesk, ask) != await database_work(copydesk, absent)


class Clock:
    """Times requests of outsider's on one kept connection."""

    def __init__(self, copydesk: Copydesk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        host, token = urlsplit(copydesk.url).netloc, copydesk.token("outsider")
        self._head = f"HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"

    async def seconds(self, ask: Ask) -> float:
        method, path, value = ask
        body = b"" if value is None else json.dumps(value).encode()
        head = (
            f"{method} /api/v1{path} {self._head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        begun = time.perf_counter()
        self._writer.write(head.encode() + body)
        answered = await self._reader.readuntil(b"\r\n\r\n")
        took = time.perf_counter() - begun
        size = re.search(rb"(?i)content-length: (\d+)", answered)
        await self._reader.readexactly(int(size[1]) if size else 0)
        return took


@pytest.fixture
def clock(io_loop: IOLoop, copydesk: Copydesk, world: World) -> Iterator[Clock]:
    """One connection."""

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", copydesk.server.port)

    reader, writer = io_loop.run_sync(connect)
    yield Clock(copydesk, reader, writer)
    writer.close()
    io_loop.run_sync(writer.wait_closed)


async def apart(clock: Clock, hidden: Callable[[], Ask], missing: Callable[[], Ask]) -> float:
    """How far apart the medians are, as a ratio of at least 1: asked by turns, so that both meet the same noise."""
    times: tuple[list[float], list[float]] = [], []
    for number in range(2 * SAMPLES):
        which = number % 2 ^ number // 2 % 2
        times[which].append(await clock.seconds((hidden, missing)[which]()))
    first, second = (statistics.median(some) for some in times)
    return max(first, second) / min(first, second)


WAYS: dict[str, Callable[[Mapping[str, str]], Ask]] = {
    "a project": lambda names: ("GET", f"/projects/{names['project']}", None),
    "an item to follow": lambda names: ("PUT", f"/subscriptions/item:{names['item']}", {"level": "follow"}),
    "a thread to follow": lambda names: ("PUT", f"/subscriptions/thread:{names['thread']}", {"level": "follow"}),
    "the users of a project": lambda names: ("GET", f"/users?project_id={names['project']}", None),
    "the projects of a content": lambda names: ("GET", f"/items?content_id={names['content']}", None),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_hidden_and_what_is_missing_take_the_same_time(
    copydesk: Copydesk, world: World, clock: Clock, way: str
) -> None:
    await copydesk.call("GET", f"/projects/{world.hidden['project']}", user="viewer")  # it is in use
    for _ in range(ATTEMPTS):
        ratio = await apart(clock, lambda: WAYS[way](world.hidden), lambda: WAYS[way](world.missing()))
        if ratio <= RATIO:
            return
    pytest.fail(f"{ratio:.2f} times as long, in {ATTEMPTS} attempts")


async def test_one_query_more_takes_noticeably_longer(
    copydesk: Copydesk, world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_one_more_query(copydesk, monkeypatch)
    way = WAYS["a project"]
    ratios = [await apart(clock, lambda: way(world.hidden), lambda: way(world.missing())) for _ in range(ATTEMPTS)]
    assert min(ratios) > RATIO, ratios


def _with_one_more_query(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect: who may not see a project makes its server read once more."""
    role = Access._role

    async def slower(self: Access, identity: Any, project_id: str) -> Any:
        found = await role(self, identity, project_id)
        if found is None and project_id in self._cache and self._cache[project_id] is not None:
            await self._read(project_id)
        return found

    monkeypatch.setattr(Access, "_role", slower)


# -- lists, counts, searches -------------------------------------------------------------------------------------------

LISTS: dict[str, Callable[[World], str]] = {
    "projects": lambda world: "/projects",
    "projects by name": lambda world: "/projects?q=zebra",
    "projects by label": lambda world: "/projects?label=quagga-00000",
    "items by content": lambda world: f"/items?content_id={world.hidden['content']}",
    "overview": lambda world: f"/projects/{world.hidden['project']}/overview",
    "users of the project": lambda world: f"/users?project_id={world.hidden['project']}&q=view",
    "poll of the project": lambda world: f"/events?topics=project:{world.hidden['project']}",
}
SHOWN = {"users of the project": "viewer", "poll of the project": '"pushes":[]'}


async def test_lists_counts_and_searches_show_a_project_to_its_members_alone(copydesk: Copydesk, world: World) -> None:
    for name, path in LISTS.items():
        for caller, roles in CALLERS.items():
            user = None if roles is None else caller
            answer = await copydesk.request("GET", path(world), user=user, roles=roles or ())
            shown = SHOWN.get(name, "Zebrafish") in answer.body.decode()
            assert shown is (caller not in OUT), (name, caller, answer.body)


async def test_nothing_that_an_outsider_can_read_tells_of_it(copydesk: Copydesk, world: World) -> None:
    """Every route that can be read, with every name filled in."""
    ids = {
        "project_id": world.hidden["project"], "item_id": world.hidden["item"], "comment_id": world.hidden["thread"],
        "user_id": "founder", "notification_id": world.hidden["item"], "subject": f"item:{world.hidden['item']}",
        "letter_id": "x",
    }  # fmt: skip
    told_members = set()
    for route, verbs in operations().items():
        if (
            "GET" not in verbs
            or route in ("/api/v1/events/stream", "/api/v1/realtime")
            or not route.startswith("/api/v1")
        ):
            continue
        required = "&".join(f"{query.name}=zebrafish-00000" for query in verbs["GET"].query if query.required)
        path = f"{route.removeprefix('/api/v1').format(**ids)}?{required}".rstrip("?")
        for caller in ("outsider", None):
            body = (await copydesk.request("GET", path, user=caller)).body.decode().lower()
            body = body.replace("zebrafish-00000", "")  # which the caller has named
            assert not any(word in body for word in SECRETS), (path, body)
        member = (await copydesk.request("GET", path, user="viewer")).body.decode().lower()
        assert "canary.email" not in member, path
        told_members |= {word for word in SECRETS if word in member}
    assert told_members == {"zebrafish", "quagga"}
