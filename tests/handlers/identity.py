"""A server for the tests of sessions, users and operations: all its parts at hand, on a port of its own."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec
from tornado import httpserver, web
from tornado.httpclient import AsyncHTTPClient
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port

from app.access import Access
from app.admission import Admission
from app.auth import Authenticator
from app.forwarded import Proxies
from app.guesses import Guesses
from app.listening import Unfinished
from app.metrics import Metrics
from app.passwords import Passwords
from app.pressure import Pressure
from app.runtime import Readiness, Runtime
from app.settings import Settings
from app.tokens import Tokens, issue
from handlers.base import Edge
from handlers.routes import application_settings, routes
from models import schema
from models.fields import Ids
from models.idempotency import IdempotencyStore
from models.meta import MetaStore
from models.project import ProjectStore
from models.session import SessionStore
from models.user import UserStore

SECRET = "0123456789abcdef0123456789abcdef"


class Answer(msgspec.Struct):
    """What came back."""

    status: int
    headers: HTTPHeaders
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Server:
    """The parts, and a client."""

    def __init__(self, database: Any, settings: Settings) -> None:
        def report(*what: Any) -> None:
            self.reported.append(what)

        self.reported: list[tuple[Any, ...]] = []
        self.settings, self.client, self.root = settings, AsyncHTTPClient(force_instance=True), ""
        self.users, self.meta = UserStore(database, report=report), MetaStore(database, report=report)
        self.projects, self.runtime = ProjectStore(database, report=report), Runtime(settings)
        self.passwords = Passwords()
        self.readiness = Readiness(database=True, feed=True)
        self.connections: list[Any] = []
        self.edge = Edge(
            settings=settings,
            authenticator=Authenticator(
                tokens=Tokens.from_settings(settings),
                users=self.users,
                sessions=SessionStore(
                    database, idle_seconds=settings.session_idle_seconds, max_seconds=settings.session_max_seconds
                ),
                proxies=Proxies(settings.trusted_proxies),
                passwords=self.passwords,
                guesses=Guesses(),
            ),
            access=Access(self.projects.accesses, trusted=lambda: False),
            idempotency=IdempotencyStore(database),
            metrics=Metrics(),
            ids=Ids(),
            position=lambda: "here",
            runtime=self.runtime,
            admission=Admission(settings, pressure=Pressure(max_memory_bytes=2**63)),
            unfinished=Unfinished(),
        )

    @property
    def services(self) -> dict[str, Any]:
        # Routes of other services are there too, and nobody calls them here.
        return defaultdict(
            lambda: None,
            users=self.users,
            meta=self.meta,
            runtime=self.runtime,
            connections=self.connections,
            readiness=lambda: self.readiness,
            version="1.2.3",
            available=("websocket",),
            projects=self.projects,
        )

    async def add_user(self, user_id: str, password: str, **what: Any) -> None:
        await self.users.add(user_id, password_hash=await self.passwords.hash(password), **what)

    def token(self, user_id: str, *roles: str, **what: Any) -> str:
        return issue(SECRET, sub=user_id, roles=roles, **{"ttl_seconds": 600, **what})

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: str | None = None,
        roles: tuple[str, ...] = (),
        cookie: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Call as the bearer `who` or with a cookie; `body` is sent as JSON."""
        sent = dict(headers or {})
        if who is not None:
            sent["Authorization"] = f"Bearer {self.token(who, *roles)}"
        if cookie is not None:
            sent["Cookie"] = cookie
            sent.setdefault("Origin", self.root)
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        response = await self.client.fetch(
            self.root + path,
            method=method,
            headers=sent,
            body=None if body is None else msgspec.json.encode(body),
            allow_nonstandard_methods=True,
            raise_error=False,
        )
        return Answer(response.code, response.headers, response.body)


@contextlib.contextmanager
def running(io_loop: IOLoop, database: Any, **settings: Any) -> Iterator[Server]:
    """A server as long as the block."""

    async def start() -> tuple[Server, httpserver.HTTPServer]:
        assert await schema.apply(database) == []
        made = Server(database, Settings(auth_secret=SECRET, **settings))
        http = httpserver.HTTPServer(
            web.Application(routes(made.edge, made.services), **application_settings(made.edge))
        )
        socket, port = bind_unused_port()
        http.add_socket(socket)
        made.root = f"http://localhost:{port}"
        return made, http

    made, http = io_loop.run_sync(start)
    yield made
    made.client.close()
    made.passwords.close()
    http.stop()
    io_loop.run_sync(http.close_all_connections)


def long_ago(seconds: float = 3600) -> float:
    """The `iat` of a token that is good and old."""
    return time.time() - seconds
