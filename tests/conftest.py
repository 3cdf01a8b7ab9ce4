"""What all tests share: a real MongoDB, a database of one's own, an event loop that leaves nothing unseen."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from pymongo.database import Database as PlainDatabase
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.ioloop import IOLoop

from app import commands
from app import mongod as embedded
from app.database import Connection
from app.main import Server
from app.settings import Settings
from models import schema
from tests.editor import Editor
from tests.watched_loop import watched_loop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every async test runs in the watched loop, whether it asks for one or not. The longest files begin first."""
    items.sort(key=lambda item: not any(folder in item.path.parts for folder in ("ledger", "real", "security")))
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "io_loop")


def pytest_collection_finish() -> None:
    """What all tests have in common is not looked through again after each of them (`watched_loop`)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Mongod]:
    """A MongoDB for the whole run, started as the server starts its own."""
    running = embedded.start(tmp_path_factory.mktemp("mongod"), say=lambda _text: None)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def mongodb_uri(mongod: embedded.Mongod) -> str:
    """Where that MongoDB listens."""
    return mongod.uri


@pytest.fixture(scope="session")
def plain_client(mongodb_uri: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """PyMongo without anything of ours, as another program would use it."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, tz_aware=True) as client:
        yield client


@pytest.fixture(scope="session")
def kept_database_name() -> str:
    """One database that tests have one after the other: collections and indexes cost more to make than most tests."""
    return f"test_{uuid.uuid4().hex[:16]}"


@pytest.fixture
def database_name(request: pytest.FixtureRequest) -> str:
    """The name of a database without documents, though perhaps with the collections of Copydesk."""
    new = request.node.get_closest_marker("new_database") is not None
    name: str = request.getfixturevalue("virgin_database_name" if new else "emptied_database_name")
    return name


@pytest.fixture
def emptied_database_name(plain_client: pymongo.MongoClient[dict[str, Any]], kept_database_name: str) -> Iterator[str]:
    """The name of the kept database, whose documents go with the test."""
    yield kept_database_name
    _empty(plain_client[kept_database_name])


def _empty(database: PlainDatabase[dict[str, Any]]) -> None:
    """Take out all documents; what is not as the server would make it goes whole."""
    database.command("profile", 0)
    for info in list(database.list_collections()):
        name, images = info["name"], "changeStreamPreAndPostImages" in info.get("options", {})
        if name in schema.COLLECTIONS and info["type"] == "collection" and images == (name in schema.WATCHED):
            database[name].delete_many({})
        else:
            database.drop_collection(name)


@pytest.fixture
def virgin_database_name(plain_client: pymongo.MongoClient[dict[str, Any]]) -> Iterator[str]:
    """The name of a database that does not exist yet, for tests of making it."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    yield name
    plain_client.drop_database(name)


@pytest.fixture
def plain_database(
    plain_client: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> PlainDatabase[dict[str, Any]]:
    """The test's database, as another program sees it. Its calls block."""
    return plain_client[database_name]


@pytest.fixture
def connection(io_loop: IOLoop, mongodb_uri: str, database_name: str) -> Iterator[Connection]:
    """The test's database, as the server sees it."""

    async def connect() -> Connection:
        return Connection(mongodb_uri, database_name)

    made = io_loop.run_sync(connect)
    yield made
    made.close()


@pytest.fixture
def database(connection: Connection) -> Any:
    """What the stores are given."""
    return connection.database


class Copydesk:
    """A whole server of the test's own, in the test's process and loop, on a free port."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server, self.connection = server, connection
        self.url = server.url
        self.database: Any = connection.database
        self._editors: list[Editor] = []

    def token(self, user: str, *roles: str, ttl_seconds: int = 3600) -> str:
        """A bearer token for a user; without roles, an editor."""
        return commands.token(
            self.server.settings, sub=user, roles=list(roles), ttl_seconds=ttl_seconds, name=None, email=None
        )

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str | None = "alice",
        roles: tuple[str, ...] = (),
        **headers: str,
    ) -> HTTPResponse:
        """One REST request; `path` below /api/v1. Underscores in header names become hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            sent["Authorization"] = f"Bearer {self.token(user, *roles)}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        return await AsyncHTTPClient().fetch(
            f"{self.url}/api/v1{path}",
            method=method,
            headers=sent,
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            raise_error=False,
            follow_redirects=False,
        )

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The same, where success is expected: the JSON of the answer."""
        response = await self.request(method, path, body, **options)
        assert response.code < 400, (response.code, response.body)
        return json.loads(response.body) if response.body else None

    async def project(self, name: str = "Spring", *, user: str = "alice", **fields: Any) -> str:
        """Make a project; its id. Its entry in the change log was told by then, and comes in no test's way."""
        made: str = (await self.call("POST", "/projects", {"name": name, **fields}, user=user))["id"]
        async with asyncio.timeout(20):
            while await self.database.activities.find_one({"project_id": made}) is None:  # noqa: ASYNC110 - asks MongoDB
                await asyncio.sleep(0.01)
            moment = (await self.database.command("ping"))["operationTime"]
            passed = asyncio.Event()
            self.server.hub.when_passed((moment.time, moment.inc), passed.set)
            await passed.wait()
        return made

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the server has come so far."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - asks what tells nobody
                await asyncio.sleep(0.01)

    async def editor(self, user: str = "alice", *roles: str, **options: Any) -> Editor:
        """A connected editor who has said hello; closed with the test."""
        editor = await Editor.connect(self.url, self.token(user, *roles), **options)
        self._editors.append(editor)
        return editor

    async def socket(self, **options: Any) -> Editor:
        """A connected socket that has said nothing yet; closed with the test."""
        editor = await Editor.connect(self.url, hello=False, **options)
        self._editors.append(editor)
        return editor

    async def close(self) -> None:
        """End everything."""
        for editor in self._editors:
            await editor.close()
        await self.server.stop()
        self.connection.close()


@pytest.fixture
def start_server(io_loop: IOLoop, mongodb_uri: str, database_name: str) -> Iterator[Callable[..., Copydesk]]:
    """Start servers on the test's database, with settings of one's own: ``start_server(ping_seconds=1)``."""
    started: list[Copydesk] = []

    async def start(settings: Settings) -> Copydesk:
        connection = Connection(mongodb_uri, settings.mongodb_database)
        server = Server(settings, connection)
        await server.start()
        return Copydesk(server, connection)

    def start_now(**chosen: Any) -> Copydesk:
        settings = Settings(
            **{
                "port": 0,
                "mongodb_database": database_name,
                "auth_secret": "s" * 32,
                "mongodb_uri": mongodb_uri,
                **chosen,
            }
        )
        started.append(io_loop.run_sync(lambda: start(settings)))
        return started[-1]

    yield start_now
    for copydesk in reversed(started):
        io_loop.run_sync(copydesk.close)
    AsyncHTTPClient().close()


@pytest.fixture
def copydesk(start_server: Callable[..., Copydesk], request: pytest.FixtureRequest) -> Copydesk:
    """A whole server with default settings, or those of an indirect parameter."""
    return start_server(**getattr(request, "param", {}))


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """A loop of the test's own, in place of the plugin's. What is left behind in it fails the test."""
    with watched_loop() as loop:
        yield loop
