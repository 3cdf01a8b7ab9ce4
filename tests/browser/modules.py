"""The client module in a page without a server: files from the source tree, a scripted socket and REST API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, Route

import handlers

ORIGIN = "http://copydesk.test"
STATIC = Path(handlers.__file__).parent / "static"

_SOCKET = """
window.sockets = [];
window.WebSocket = class {
  static OPEN = 1;
  constructor(url, protocols) {
    Object.assign(this, { url, protocols, readyState: 0, sent: [], madeAt: Date.now() });
    sockets.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.readyState = 3; this.closedWith = code; }
  open() { this.readyState = 1; this.onopen?.(); }
  say(message) { this.onmessage?.({ data: JSON.stringify(message) }); }
  end(code) { this.readyState = 3; this.onclose?.({ code }); }
  welcome() {
    this.open();
    this.say({ id: 1, ok: { user: { id: "bob", name: "Bob" }, ping_seconds: 25 } });
  }
  /** Answers the latest `subscribe` with a snapshot and `live`. */
  serve(data, position) {
    const { id, topic } = this.sent.filter(({ op }) => op === "subscribe").at(-1);
    this.say({ id, ok: { topic, resumed: false, replayed: 0 } });
    this.say({ push: "snapshot", topic, data, part: 1, last: true });
    this.say({ push: "live", topic, position });
  }
};
"""


class Rest:
    """What the scripted REST API answers: path (below /api/v1, with its query) -> JSON, a status, or both in turn."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/config": {"transports": ["websocket"]}}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Method, path and headers of each request."""

    async def answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        if not url.path.startswith("/api/v1"):
            await self._file(route, url.path)
            return
        path = url.path.removeprefix("/api/v1") + (f"?{url.query}" if url.query else "")
        self.asked.append((route.request.method, path, await route.request.all_headers()))
        answer = self.answers.get(path, 404)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer is None:
            await route.abort()
        elif isinstance(answer, int):
            problem = {"code": {401: "unauthenticated", 404: "not_found"}.get(answer, "unavailable"), "detail": "No."}
            await route.fulfill(status=answer, content_type="application/problem+json", body=json.dumps(problem))
        else:
            await route.fulfill(status=200, content_type="application/json", body=json.dumps(answer))

    async def _file(self, route: Route, path: str) -> None:
        if path.startswith("/static/"):
            await route.fulfill(path=STATIC / path.removeprefix("/static/"), content_type="text/javascript")
        else:
            await route.fulfill(content_type="text/html", body="<!doctype html><title>modules</title>")


async def open_modules(browser: Browser, *, clock: bool = False) -> tuple[Page, Rest]:
    """A page of `ORIGIN` with the scripted socket, in which modules can be imported from /static/."""
    page, rest = await browser.new_page(), Rest()
    page.set_default_timeout(10_000)
    await page.route(f"{ORIGIN}/**", rest.answer)
    await page.add_init_script(_SOCKET)
    if clock:
        await page.clock.install(time="2026-01-01T09:00:00Z")
    await page.goto(ORIGIN)
    if clock:
        # An installed clock goes on by itself; a stopped one goes on when the test says so.
        await page.clock.pause_at("2026-01-01T10:00:00Z")
    return page, rest


async def run_with(page: Page, helpers: str, script: str) -> Any:
    """What a script that uses the helpers returns."""
    return await page.evaluate(f"async () => {{ {helpers} {{ {script} }} }}")
