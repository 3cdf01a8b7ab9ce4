"""A server with the REST routes, real stores and a real MongoDB, and a client that calls it as some user."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jwt
import msgspec
import pytest
from tornado import httpserver, web
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port

from app.access import Access
from app.admission import Admission
from app.auth import Authenticator
from app.forwarded import Proxies
from app.guesses import Guesses
from app.history import History
from app.hub import Hub
from app.listening import Unfinished
from app.metrics import Metrics
from app.overviews import Overviews
from app.passwords import Passwords
from app.pressure import Pressure
from app.runtime import Runtime
from app.settings import Settings
from app.tokens import Tokens
from handlers.base import Edge
from handlers.routes import application_settings, routes
from models import schema
from models.activity import ActivityStore
from models.comment_store import CommentStore
from models.fields import Ids
from models.idempotency import IdempotencyStore
from models.inbox_store import InboxStore
from models.item_store import ItemStore
from models.overview_store import OverviewStore
from models.posting import PostingStore
from models.preferences import PreferencesStore
from models.project import ProjectStore
from models.session import SessionStore
from models.subscription import SubscriptionStore
from models.user import UserStore
from tests.conftest import Copydesk
from tests.handlers.event_source import EventSource, Open

SECRET = "0123456789abcdef0123456789abcdef"


class Answer(msgspec.Struct):
    """What came back."""

    status: int
    headers: HTTPHeaders
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Api:
    """Calls the server as whom the call says. Roles go into the token."""

    def __init__(self, root: str, client: AsyncHTTPClient) -> None:
        self.root, self._client = root, client

    async def __call__(
        self,
        who: str | None,
        method: str,
        path: str,
        body: Any = None,
        *,
        roles: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """`path` begins after ``/api/v1``; `body` is sent as JSON, or as it is where it is bytes."""
        sent = dict(headers or {})
        if who is not None:
            claims = {"sub": who, "aud": "copydesk", "exp": time.time() + 600, "iat": time.time(), "roles": list(roles)}
            sent["Authorization"] = f"Bearer {jwt.encode(claims, SECRET)}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        response: HTTPResponse = await self._client.fetch(
            f"{self.root}/api/v1{path}",
            method=method,
            headers=sent,
            body=body if body is None or isinstance(body, bytes) else msgspec.json.encode(body),
            allow_nonstandard_methods=True,
            raise_error=False,
        )
        return Answer(response.code, response.headers, response.body)


@pytest.fixture
def reported() -> list[tuple[str, object, str]]:
    """What the stores reported as unfit: collection, id, problem."""
    return []


@pytest.fixture
def api(io_loop: IOLoop, database: Any, reported: list[tuple[str, object, str]]) -> Iterator[Api]:
    """A server on a port of its own. Nothing follows its change stream, so what it caches is not believed."""

    def report(*what: Any) -> None:
        reported.append(what)

    projects = ProjectStore(database, report=report)

    settings = Settings(auth_secret=SECRET, trusted_origins=("https://cms.example",))
    authenticator = Authenticator(
        tokens=Tokens.from_settings(settings),
        users=UserStore(database, report=report),
        sessions=SessionStore(database, idle_seconds=3600, max_seconds=3600),
        proxies=Proxies(()),
        passwords=Passwords(),
        guesses=Guesses(),
    )
    edge = Edge(
        settings=settings,
        authenticator=authenticator,
        access=Access(projects.accesses, trusted=lambda: False),
        idempotency=IdempotencyStore(database),
        metrics=Metrics(),
        ids=Ids(),
        position=lambda: "here",
        runtime=Runtime(settings),
        admission=Admission(settings, pressure=Pressure(max_memory_bytes=2**63)),
        unfinished=Unfinished(),
    )
    # Routes of other services are there too, and nobody calls them here.
    services: defaultdict[str, Any] = defaultdict(
        lambda: None,
        projects=projects,
        overviews=Overviews(
            OverviewStore(database, report=report),
            hub=Hub(encode=str),
            history=History(max_events=0, max_bytes=0, max_seconds=0),
            metrics=Metrics(),
            max_bytes=0,
        ),
        items=ItemStore(database, report=report),
        comments=CommentStore(database, report=report),
        activities=ActivityStore(database, report=report),
        inbox=InboxStore(database, report=report, retention=timedelta(days=90)),
        postings=PostingStore(database, report=report),
        subscriptions=SubscriptionStore(database, report=report),
        preferences=PreferencesStore(database, report=report),
    )

    async def start() -> tuple[httpserver.HTTPServer, AsyncHTTPClient, int]:
        assert await schema.apply(database) == []
        server = httpserver.HTTPServer(web.Application(routes(edge, services), **application_settings(edge)))
        socket, port = bind_unused_port()
        server.add_socket(socket)
        return server, AsyncHTTPClient(force_instance=True), port

    server, client, port = io_loop.run_sync(start)
    yield Api(f"http://localhost:{port}", client)
    client.close()
    server.stop()
    io_loop.run_sync(server.close_all_connections)


@pytest.fixture
def listen(io_loop: IOLoop, copydesk: Copydesk) -> Iterator[Open]:
    """Open streams that end with the test."""
    opened: list[EventSource] = []

    async def open_one(topics: str, user: str = "bob", **options: Any) -> EventSource:
        opened.append(await EventSource.open(copydesk.url, copydesk.token(user), topics, **options))
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()

    async def gone() -> None:
        await asyncio.wait_for(copydesk.server.connections.emptied(), 20)

    io_loop.run_sync(gone)
