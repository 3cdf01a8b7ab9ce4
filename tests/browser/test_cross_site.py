"""What pages of other sites try with the session of who visits them, in a real Chromium: nothing is read or changed.

The other sites are a foreign name, another port of this machine (whose pages a browser sends the cookie from, because
it counts as the same site), a sandboxed frame, whose origin is `null`, and a name that was made to lead to Copydesk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Frame, Page
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tests.browser.conftest import FOREIGN, REBOUND, sign_in
from tests.conftest import Copydesk

SECRET = "Zebrafish"
VOLATILE = ("leases", "meta", "system.profile", "users")

ATTEMPTS = """
async ([target, secret]) => {
  const api = `${target}/api/v1`;
  const readable = [];
  const soon = (promise) => Promise.race([promise, new Promise((done) => setTimeout(done, 4000))]);
  const note = (way, text) => { if (String(text ?? "").includes(secret)) readable.push(way); };

  const read = async (way, path, options) => {
    try { note(way, await (await fetch(`${api}${path}`, { credentials: "include", ...options })).text()); } catch {}
  };
  const json = { "Content-Type": "application/json" };
  const named = JSON.stringify({ name: secret });
  await soon(Promise.all([
    read("fetch", "/projects", {}),
    read("fetch without CORS", "/projects", { mode: "no-cors" }),
    read("fetch of the stream", "/events?topics=projects&since=x", {}),
    read("post of text", "/projects", { method: "POST", body: named, mode: "no-cors" }),
    read("post of a form", "/projects", { method: "POST", body: new URLSearchParams({ name: secret }) }),
    read("post of JSON", "/projects", { method: "POST", body: named, headers: json }),
    read("post of JSON without CORS", "/projects", { method: "POST", body: named, headers: json, mode: "no-cors" }),
    read("post of a blob", "/projects", { method: "POST", body: new Blob([named], { type: "application/json" }) }),
    read("post with a key", "/projects", { method: "POST", body: named, headers: { ...json, "Idempotency-Key": "k" } }),
    read("mark", "/notifications/mark", { method: "POST", body: '{"read": true, "until": 99}', mode: "no-cors" }),
    read("preferences", "/preferences", { method: "PUT", body: "{}", headers: json }),
  ]));
  navigator.sendBeacon(`${api}/projects`, named);
  navigator.sendBeacon(`${api}/projects`, new Blob([named], { type: "application/json" }));

  const post = (type, path, name, value) => new Promise((done) => {
    const frame = Object.assign(document.createElement("iframe"), { name: `frame${Math.random()}` });
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"), {
      method: "POST", action: `${api}${path}`, enctype: type, target: frame.name,
    });
    form.append(Object.assign(document.createElement("input"), { name, value }));
    document.body.append(form);
    frame.addEventListener("load", () => {
      try { note(`form ${type}`, frame.contentDocument?.body?.textContent); } catch {}
      done();
    });
    form.submit();
  });
  const forms = [];
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
    forms.push(post(type, "/projects", '{"name":"form","description":"', '"}'));
    forms.push(post(type, "/notifications/mark", '{"read":true,"until":99,"x":"', '"}'));
    forms.push(post(type, "/session", '{"username":"mallory","password":"', 'x"}'));
    forms.push(post(type, "/session?_method=DELETE", "x", "y"));
  }
  await soon(Promise.all(forms));

  const element = (name, attributes) => new Promise((done) => {
    const made = Object.assign(document.createElement(name), attributes);
    made.onload = () => { readable.push(`${name} loaded`); done(); };
    made.onerror = done;
    document.body.append(made);
  });
  await soon(Promise.all([
    element("script", { src: `${api}/projects` }),
    element("link", { rel: "stylesheet", href: `${api}/projects` }),
    element("img", { src: `${api}/projects` }),
  ]));

  await soon(new Promise((done) => {
    try {
      const socket = new WebSocket(`${api.replace("http", "ws")}/realtime`);
      socket.onopen = () => {
        readable.push("socket opened");
        socket.send(JSON.stringify({ op: "hello", id: 1 }));
        socket.send(JSON.stringify({ op: "subscribe", id: 2, topic: "projects" }));
      };
      socket.onmessage = ({ data }) => { note("socket", data); if (data.includes('"live"')) { socket.close(); } };
      socket.onerror = socket.onclose = done;
    } catch { done(); }
  }));
  await soon(new Promise((done) => {
    const source = new EventSource(`${api}/events/stream?topics=projects`, { withCredentials: true });
    source.addEventListener("snapshot", ({ data }) => note("event source", data));
    source.onopen = () => readable.push("event source opened");
    source.addEventListener("live", () => { source.close(); done(); });
    source.onerror = () => { source.close(); done(); };
  }));
  // Last, because where it works nothing else does.
  await soon(read("delete", "/session", { method: "DELETE" }));
  return readable;
}
"""

FRAMED = """
(url) => new Promise((done) => {
  const frame = Object.assign(document.createElement("iframe"), { src: url });
  frame.onload = done;
  document.body.append(frame);
})
"""


class Attacker:
    """A site with one empty page, and one that has it in a sandbox."""

    def __init__(self) -> None:
        (self._socket,) = bind_sockets(0, "127.0.0.1")
        self.port = self._socket.getsockname()[1]

        class Empty(RequestHandler):
            def get(self) -> None:
                self.finish("<!doctype html><title>x</title><body>")

        class Sandbox(RequestHandler):
            def get(self) -> None:
                self.finish('<!doctype html><body><iframe sandbox="allow-scripts allow-forms" src="/"></iframe>')

        self._server = HTTPServer(Application([("/", Empty), ("/sandbox", Sandbox)]))
        self._server.add_socket(self._socket)

    async def close(self) -> None:
        """Stop serving."""
        self._server.stop()
        await self._server.close_all_connections()


@pytest.fixture
def attacker(io_loop: IOLoop) -> Iterator[Attacker]:
    site = Attacker()
    yield site
    io_loop.run_sync(site.close)


@pytest.fixture
def victim(
    io_loop: IOLoop, browser: Browser, copydesk: Copydesk, make_user: Callable[..., Awaitable[None]]
) -> Iterator[BrowserContext]:
    """A browser in which bob, who has a private project, is signed in."""

    async def open_() -> BrowserContext:
        await make_user(copydesk, "bob")
        await copydesk.project(SECRET, user="bob", visibility="private")
        context = await browser.new_context(bypass_csp=True)  # our policy must not be what hinders it
        await sign_in(context, copydesk, "bob")
        return context

    context = io_loop.run_sync(open_)
    yield context
    io_loop.run_sync(context.close)


async def everything(copydesk: Copydesk) -> dict[str, list[Any]]:
    """All documents, but for those that change by themselves; of sessions only which there are."""
    found: dict[str, list[Any]] = {}
    for name in sorted(await copydesk.database.list_collection_names()):
        if name not in VOLATILE:
            fields = {"_id": 1} if name == "sessions" else None
            found[name] = [document async for document in copydesk.database[name].find({}, fields).sort("_id", 1)]
    return found


async def attack(page: Page | Frame, url: str) -> list[str]:
    """What could be read of a Copydesk, or was let in, by all attempts of a page."""
    readable: list[str] = await page.evaluate(ATTEMPTS, [url, SECRET])
    return readable


async def test_pages_of_other_sites_read_and_change_nothing(
    copydesk: Copydesk, victim: BrowserContext, attacker: Attacker
) -> None:
    before = await everything(copydesk)
    for name, path in ((FOREIGN, ""), ("127.0.0.1", ""), ("127.0.0.1", "sandbox")):
        page = await victim.new_page()
        await page.goto(f"http://{name}:{attacker.port}/{path}")
        place: Page | Frame = page.frames[1] if path == "sandbox" else page
        origin = "null" if path == "sandbox" else f"http://{name}:{attacker.port}"
        assert await place.evaluate("self.origin") == origin
        assert (origin, await attack(place, copydesk.url)) == (origin, [])
        assert await everything(copydesk) == before, origin
        await page.close()
    assert len(copydesk.server.connections) == 0
    # Whoever was signed in still is, as themselves.
    answer = await victim.request.get(f"{copydesk.url}/api/v1/session")
    assert (await answer.json())["user"]["id"] == "bob"


async def test_a_name_that_was_made_to_lead_here_opens_nothing_and_no_page_of_ours_is_shown_in_a_frame(
    copydesk: Copydesk, victim: BrowserContext, attacker: Attacker
) -> None:
    """DNS rebinding: the browser takes the page for one of the same origin as Copydesk. And clickjacking."""
    before = await everything(copydesk)
    url = copydesk.url.replace("127.0.0.1", REBOUND)
    page = await victim.new_page()
    answer = await page.goto(f"{url}/")
    assert answer is not None
    assert (answer.status, await page.evaluate("self.origin")) == (404, url)
    assert await attack(page, url) == []
    assert await page.evaluate("fetch('/api/v1/config').then((answer) => answer.status)") == 404
    assert await everything(copydesk) == before

    await page.goto(f"http://127.0.0.1:{attacker.port}/")
    for path in ("/", "/docs", "/diagnosis", "/api/v1/projects", "/api/v1/unsubscribe?token=x"):
        await page.evaluate(FRAMED, f"{copydesk.url}{path}")
    assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"] * 5
    await page.evaluate(FRAMED, f"http://127.0.0.1:{attacker.port}/?shown")
    assert page.frames[-1].url.endswith("?shown")


async def test_the_same_attempts_on_our_own_page_succeed(copydesk: Copydesk, victim: BrowserContext) -> None:
    """Else it would be no wonder that they fail elsewhere."""
    page = await victim.new_page()
    await page.goto(f"{copydesk.url}/api/v1/config")
    before = await everything(copydesk)
    readable = await attack(page, copydesk.url)
    assert {"fetch", "post of JSON", "socket", "event source"} <= set(readable), readable
    assert await everything(copydesk) != before
