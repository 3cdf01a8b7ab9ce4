"""The client's ladder on real networks: sockets, then event streams, then polling, with the same store on each rung."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route
from playwright.async_api import TimeoutError as Overdue
from tornado.ioloop import IOLoop

from app import commands
from app.settings import Settings
from app.tokens import LEEWAY_SECONDS
from tests.conftest import Copydesk
from tests.real import nginx
from tests.real.nginx import Edit, Nginx, replaced, without
from tests.real.processes import Process

HERE = replaced("server_name copydesk.example", "server_name 127.0.0.1")
NO_UPGRADE = without("proxy_set_header Upgrade", "proxy_set_header Connection")
ANSWERED_200 = replaced(
    r"location = /api/v1/realtime \{\n +proxy_pass http://copydesk;",
    'location = /api/v1/realtime {\n return 200 "Hello.";',
)
BUFFERED = replaced("proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;")
CUT = replaced(r"proxy_read_timeout 90s;(\n +proxy_buffering off;)", r"proxy_read_timeout 1s;\1")
STREAM_REFUSED = replaced(
    "location /api/v1/events {", "location /api/v1/events/stream { return 404; }\n location /api/v1/events {"
)


class Tab:
    """A page with a client in it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def run(self, script: str) -> Any:
        return await self.page.evaluate(f"async () => {{ {script} }}")

    async def start(self, url: str, topic: str, token: str) -> None:
        """Open a page of `url` (a new one, or the same again), connect, and follow a topic. `token`: an expression."""
        # Any page of the server will do; this one has nothing of its own that connects.
        await self.page.goto(f"{url}/static/client.d.ts")
        await self.run(
            f"""
            const {{ connect }} = await import("/static/client.js");
            window.states = [];
            window.tokens = 0;
            window.client = connect({{ token: async () => {{ tokens += 1; return {token}; }} }});
            client.on("state", (state, reason, {{ rung, why }}) => states.push([state, rung, why?.code ?? null]));
            window.store = client.subscribe("{topic}");
            window.texts = () => store.documents("comment").map(({{ body }}) => body).sort().join(" ");
            """
        )

    async def until(self, expression: str, seconds: float = 40) -> None:
        """Wait until an expression is true in the page."""
        try:
            await self.page.wait_for_function(f"() => {expression}", timeout=seconds * 1000)
        except Overdue:
            seen = await self.run("return [states, client.reason, client.transport, store.state, texts()]")
            raise AssertionError(f"{expression}: {seen}") from None

    async def stands(self, state: str, rung: str | None, why: str | None) -> None:
        """Wait until the client says that it is on this rung, and why not higher."""
        wanted = json.dumps([state, rung, why])
        await self.until(
            "JSON.stringify([client.state, client.transport.rung, client.transport.why?.code ?? null]) ==="
            f" JSON.stringify({wanted})"
        )


@pytest.fixture
def tab(io_loop: IOLoop, browser: Browser) -> Iterator[Tab]:
    async def open_() -> Page:
        return await (await browser.new_context()).new_page()

    page = io_loop.run_sync(open_)
    yield Tab(page)
    io_loop.run_sync(page.context.close)


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """An nginx for browsers, with mistakes: ``start_nginx(port, NO_UPGRADE)``."""
    started: list[Nginx] = []
    numbers = itertools.count(1)

    def start(port: int, *edits: Edit) -> Nginx:
        folder = tmp_path / f"nginx-{next(numbers)}"
        folder.mkdir()
        started.append(nginx.start(folder, [port], HERE, *edits))
        return started[-1]

    yield start
    for running in started:
        running.stop()


class Cable:
    """What lies between the browser and a port of this machine, and can be cut."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Future[Any]] = set()
        self._port = self.target = 0

    async def connect(self, target: int) -> str:
        """Lead to a port, from an address that stays the same."""
        self.target = target
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{self._port}"

    async def cut(self) -> None:
        """End what there is, and let nothing through."""
        if self._server is None:
            return
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await self._server.wait_closed()
        await asyncio.gather(*self._carrying)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        ends = {writer, there_writer}
        self._ends |= ends
        carrying = asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        self._carrying.add(carrying)
        await carrying
        self._carrying.discard(carrying)
        self._ends -= ends


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
def cable(io_loop: IOLoop) -> Iterator[Cable]:
    cable = Cable()
    yield cable
    io_loop.run_sync(cable.cut)


@pytest.fixture
def server(start_server: Callable[..., Copydesk]) -> Copydesk:
    """A server that believes the proxy before it, and does not let those who poll wait long."""
    return start_server(trusted_proxies=("127.0.0.1",), poll_seconds=0.5)


async def say(copydesk: Copydesk, project: str, *texts: str) -> None:
    for text in texts:
        await copydesk.call("POST", f"/projects/{project}/comments", {"body": text})


async def choose(copydesk: Copydesk, **settings: Any) -> None:
    """Change settings while the server runs."""
    await copydesk.call("PATCH", "/admin/settings", settings, user="root", roles=("admin",))


@pytest.mark.parametrize(
    ("edits", "stands"),
    [
        ((), ("live", "websocket", None)),
        ((NO_UPGRADE,), ("live", "sse", "upgrade_dropped")),
        ((ANSWERED_200,), ("live", "sse", "upgrade_dropped")),
        ((NO_UPGRADE, BUFFERED), ("polling", "poll", "held_back")),
        ((NO_UPGRADE, CUT), ("polling", "poll", "cut")),
        ((NO_UPGRADE, STREAM_REFUSED), ("polling", "poll", "refused")),
    ],
    ids=["all well", "upgrade dropped: 426", "upgrade dropped: 200", "events buffered", "events cut", "stream refused"],
)
async def test_it_takes_the_rung_that_the_network_lets_through_says_why_and_misses_nothing(
    server: Copydesk,
    start_nginx: Callable[..., Nginx],
    tab: Tab,
    edits: tuple[Edit, ...],
    stands: tuple[str, str, str | None],
) -> None:
    project = await server.project()
    await say(server, project, "a")
    proxy = start_nginx(server.server.port, *edits)
    await tab.start(proxy.url, f"project:{project}", json.dumps(server.token("bob")))
    await tab.until("store.documents('comment').length > 0")
    await say(server, project, "b")
    await tab.stands(*stands)
    await say(server, project, "c", "d")
    await tab.until("texts() === 'a b c d'")
    # A topic that comes later, on whatever rung.
    other = await server.project("Summer")
    await say(server, other, "x")
    await tab.run(f"window.other = client.subscribe('project:{other}')")
    await say(server, other, "y")
    await tab.until("other.documents('comment').map(({ body }) => body).sort().join(' ') === 'x y'")
    await tab.until("other.state === 'live' && store.state === 'live'")
    assert await tab.run("return [client.user.id, client.transport.diagnosis]") == ["bob", f"{proxy.url}/diagnosis"]


async def test_sockets_that_are_switched_off_at_run_time_are_followed_by_streams_and_come_back(
    server: Copydesk, tab: Tab
) -> None:
    project = await server.project()
    await tab.start(server.url, f"project:{project}", json.dumps(server.token("bob")))
    await tab.stands("live", "websocket", None)
    await say(server, project, "a")
    await choose(server, websockets_enabled=False)
    await say(server, project, "b")
    await tab.stands("live", "sse", "websockets_disabled")
    await say(server, project, "c")
    await tab.until("texts() === 'a b c'")

    await choose(server, websockets_enabled=True)
    await say(server, project, "d")
    await tab.run("dispatchEvent(new Event('online'))")
    await tab.stands("live", "websocket", None)
    await say(server, project, "e")
    await tab.until("texts() === 'a b c d e'")
    assert await tab.run("return localStorage.length") == 0  # what an operator chose is no habit of the network


@pytest.mark.parametrize(
    "copydesk", [{"websockets_enabled": False, "fallback": "poll", "poll_seconds": 0.5}], indirect=True, ids=["poll"]
)
async def test_what_the_server_does_not_offer_is_not_taken(copydesk: Copydesk, tab: Tab) -> None:
    project = await copydesk.project()
    await tab.start(copydesk.url, f"project:{project}", json.dumps(copydesk.token("bob")))
    await tab.stands("polling", "poll", "websockets_disabled")
    await say(copydesk, project, "a")
    await tab.until("texts() === 'a'")

    await choose(copydesk, fallback="none")
    await tab.run("dispatchEvent(new Event('online'))")
    await tab.stands("disabled", None, "websockets_disabled")
    await say(copydesk, project, "b")
    await tab.run("await client.refresh()")
    assert await tab.run("return [texts(), client.reason.code, store.state]") == ["a b", "websockets_disabled", "stale"]

    await choose(copydesk, fallback="sse")
    await tab.run("await client.refresh()")
    await tab.stands("live", "sse", "websockets_disabled")
    await say(copydesk, project, "c")
    await tab.until("texts() === 'a b c'")


async def test_the_next_page_begins_with_what_worked_and_tries_higher_later(
    server: Copydesk, start_nginx: Callable[..., Nginx], tab: Tab
) -> None:
    project = await server.project()
    proxy = start_nginx(server.server.port, NO_UPGRADE)
    sockets: list[str] = []
    tab.page.on("websocket", lambda socket: sockets.append(socket.url))
    for _ in range(2):
        await tab.start(proxy.url, f"project:{project}", json.dumps(server.token("bob")))
        await tab.stands("live", "sse", "upgrade_dropped")
        assert len(sockets) == 1
    async with tab.page.expect_event("websocket"):
        await tab.run("dispatchEvent(new Event('online'))")
    await tab.stands("live", "sse", "upgrade_dropped")


@pytest.mark.parametrize(
    "copydesk",
    [{"websockets_enabled": False, "fallback": rung, "poll_seconds": 0.2} for rung in ("sse", "poll")],
    indirect=True,
    ids=["sse", "poll"],
)
async def test_a_token_that_ends_is_replaced_and_nothing_is_missed(copydesk: Copydesk, tab: Tab) -> None:
    project = await copydesk.project()
    # A stream ends with its token. A question with an old one is refused only when clocks cannot be to blame any more.
    seconds = 2 if copydesk.server.settings.fallback == "sse" else 2 - LEEWAY_SECONDS
    await tab.page.expose_function("fresh", lambda: copydesk.token("bob", ttl_seconds=seconds))
    await tab.start(copydesk.url, f"project:{project}", "await fresh()")
    said: list[str] = []
    while await tab.run("return tokens") < 4:
        said.append(f"{len(said):03}")
        await say(copydesk, project, said[-1])
        await tab.until(f"texts() === '{' '.join(said)}'")
    assert "disabled" not in await tab.run("return states.map(([state]) => state)")


@pytest.mark.parametrize("edits", [(), (NO_UPGRADE,), (NO_UPGRADE, STREAM_REFUSED)], ids=["websocket", "sse", "poll"])
async def test_a_network_that_was_cut_is_made_up_for_when_it_returns(
    server: Copydesk, start_nginx: Callable[..., Nginx], cable: Cable, tab: Tab, edits: tuple[Edit, ...]
) -> None:
    project = await server.project()
    url = await cable.connect(start_nginx(server.server.port, *edits).port)
    await tab.start(url, f"project:{project}", json.dumps(server.token("bob")))
    await tab.until("store.state === 'live' && ['live', 'polling'].includes(client.state)")
    await say(server, project, "a")
    await tab.until("texts() === 'a'")
    rung = await tab.run("return client.transport.rung")
    await tab.page.context.set_offline(True)
    await cable.cut()
    await tab.until("client.state === 'offline'")
    await say(server, project, "b", "c")
    assert await tab.run("return texts()") == "a"
    await cable.connect(cable.target)
    await tab.page.context.set_offline(False)
    await tab.until("texts() === 'a b c' && ['live', 'polling'].includes(client.state)")
    assert await tab.run("return client.transport.rung") == rung
    assert await tab.run("return store.documents('comment').length") == 3


@pytest.mark.parametrize("fallback", ["websocket", "sse", "poll"])
async def test_a_server_that_was_killed_is_found_again_and_nothing_is_missed(
    tab: Tab, mongodb_uri: str, database_name: str, fallback: str
) -> None:
    settings: dict[str, Any] = {"mongodb_uri": mongodb_uri, "mongodb_database": database_name, "auth_secret": "s" * 32}
    settings |= {"drain_seconds": "1", "poll_seconds": "0.5"}
    if fallback != "websocket":
        settings |= {"websockets_enabled": "false", "fallback": fallback}
    process = Process(**settings)
    try:
        token = commands.token(
            Settings(auth_secret="s" * 32), sub="bob", roles=["editor"], ttl_seconds=3600, name=None, email=None
        )
        await tab.start(process.url, "projects", json.dumps(token))
        write = "await client.request('POST', '/projects', { body: { name: '%s' } });"
        names = "store.documents('project').map(({ name }) => name).sort().join(' ')"
        await tab.run(write % "a")
        await tab.until(f"{names} === 'a' && ['live', 'polling'].includes(client.state)")
        process.kill()
        await tab.until("client.state === 'offline'")
        process.start()
        await tab.run(
            """
            for (;;) {
              try { await client.request("POST", "/projects", { body: { name: "b" } }); return; }
              catch { await new Promise((resolve) => setTimeout(resolve, 200)); }
            }
            """
        )
        await tab.until(f"{names} === 'a b' && ['live', 'polling'].includes(client.state)")
        assert await tab.run("return client.transport.rung") == fallback
    finally:
        process.stop()


async def test_a_client_that_does_not_say_where_it_was_is_noticed_by_these_tests(
    server: Copydesk, start_nginx: Callable[..., Nginx], tab: Tab
) -> None:
    """What the tests above would say of a polling client that forgets its position."""

    async def forgetful(route: Route) -> None:
        answer = await route.fetch()
        text = await answer.text()
        assert "since: this.#source.cursor," in text
        await route.fulfill(response=answer, body=text.replace("since: this.#source.cursor,", ""))

    await tab.page.route("**/static/client-feed.js", forgetful)
    project = await server.project()
    proxy = start_nginx(server.server.port, NO_UPGRADE, STREAM_REFUSED)
    await tab.start(proxy.url, f"project:{project}", json.dumps(server.token("bob")))
    await tab.stands("polling", "poll", "refused")
    await say(server, project, "a")
    with pytest.raises(AssertionError):
        await tab.until("texts() === 'a'", seconds=5)
