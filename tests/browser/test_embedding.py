"""The custom elements on a page of another origin: the very page of docs/embedding.md, under the policy it states."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.async_api import Browser, Page, expect
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from app.tokens import LEEWAY_SECONDS
from tests.browser.conftest import Complaints
from tests.conftest import Copydesk

PAGE = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def block(language: str) -> str:
    """The one block of the page in a language."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(found) == 1, language
    text: str = found[0]
    return text.strip()


class Server(Protocol):
    """What a host needs of a Copydesk."""

    url: str

    def token(self, user: str, *roles: str, ttl_seconds: int = 3600) -> str:
        """A token for one of its users."""


class Host:
    """A site of another origin, with the page of the documentation and a token for whoever asks."""

    def __init__(self) -> None:
        (self._socket,) = bind_sockets(0, "127.0.0.1")
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.tokens = 0
        self.trusting = True
        self._server: HTTPServer | None = None

    def serve(self, copydesk: Server, project: str) -> None:
        """Serve the page, its policy and tokens for bob."""
        host = self
        local = copydesk.url.removeprefix("http://")

        def adapted(text: str) -> str:
            text = text.replace("https://copydesk.example", copydesk.url).replace(
                "wss://copydesk.example", f"ws://{local}"
            )
            return text.replace("01JD8Z", project)

        class File(RequestHandler):
            def get(self, language: str) -> None:
                self.set_header("Content-Type", TYPES[language])
                self.set_header("Content-Security-Policy", adapted(block("csp")))
                self.finish(adapted(block(language)))

        class Token(RequestHandler):
            def get(self) -> None:
                host.tokens += 1
                self.finish(copydesk.token("bob", ttl_seconds=2 - LEEWAY_SECONDS if host.tokens == 1 else 600))

        self._server = HTTPServer(Application([(r"/host\.(html|js|css)", File), ("/copydesk-token", Token)]))
        self._server.add_socket(self._socket)

    async def close(self) -> None:
        """Stop serving, if it was begun."""
        if self._server is None:
            self._socket.close()
            return
        self._server.stop()
        await self._server.close_all_connections()


@pytest.fixture
def host(io_loop: IOLoop) -> Iterator[Host]:
    host = Host()
    yield host
    io_loop.run_sync(host.close)


@pytest.fixture
def start_trusting(start_server: Callable[..., Copydesk], host: Host) -> Copydesk:
    """A server that trusts the other site."""
    return start_server(trusted_origins=(host.origin,))


@pytest.fixture
def embedded(io_loop: IOLoop, browser: Browser, complaints: Complaints, host: Host) -> Iterator[Callable[..., Any]]:
    """Open the host's page."""
    contexts: list[Any] = []

    async def open_(copydesk: Copydesk, project: str) -> Page:
        host.serve(copydesk, project)
        context = await browser.new_context()
        contexts.append(context)
        page = await context.new_page()
        complaints.watch(page)
        await page.goto(f"{host.origin}/host.html")
        return page

    yield open_
    for context in contexts:
        io_loop.run_sync(context.close)


OpenEmbedded = Callable[[Copydesk, str], Awaitable[Page]]


async def test_the_page_of_the_documentation_shows_all_three_elements_live_over_one_connection(
    start_trusting: Copydesk, embedded: OpenEmbedded
) -> None:
    copydesk = start_trusting
    project = await copydesk.project("Spring")
    item = {"content": {"id": "home", "version": "1"}, "name": "Home page"}
    home = (await copydesk.call("POST", f"/projects/{project}/items", item))["id"]
    page = await embedded(copydesk, project)
    await expect(page.get_by_role("heading", name="Spring", exact=True)).to_be_visible()
    await expect(page.locator("copydesk-overview")).to_have_attribute("data-state", "live")
    assert len(copydesk.server.connections) == 1

    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Who writes? @bob <b>now</b>"})
    await expect(page.locator("copydesk-comments").get_by_text("Who writes? @bob <b>now</b>")).to_be_visible()
    await expect(page.get_by_role("button", name="Notifications, 1 unread, 1 new")).to_be_visible()

    overview = page.locator("copydesk-overview")
    await overview.get_by_label("Status of Home page").select_option("in_review")
    await expect(overview.get_by_text("1 in review")).to_be_visible()
    assert (await copydesk.call("GET", f"/projects/{project}/items/{home}"))["status"] == "in_review"

    comments = page.locator("copydesk-comments")
    await comments.get_by_role("textbox", name="Reply").fill("I do.")
    await comments.get_by_role("button", name="Reply").click()
    await expect(comments.get_by_text("I do.")).to_be_visible()
    await comments.get_by_role("button", name="Resolve").click()
    await expect(comments.get_by_role("button", name="Reopen")).to_be_visible()

    await page.get_by_role("button", name="Notifications").click()
    await expect(page.locator("copydesk-bell").get_by_text("Alice mentioned you")).to_be_visible()
    await page.get_by_role("button", name="Mark all read").click()
    await expect(page.get_by_role("button", name="Notifications", exact=True)).to_be_visible()
    await page.keyboard.press("Escape")

    await overview.get_by_role("link", name="Home page").click()
    await expect(comments).to_have_attribute("item", home)
    await expect(comments.get_by_text("No comments yet.")).to_be_visible()
    await comments.get_by_role("textbox", name="Write a comment").fill("About this item.")
    await comments.get_by_role("button", name="Comment").click()
    await expect(overview.get_by_text("1 comment")).to_be_visible()
    assert await page.evaluate("document.cookie") == ""
    assert len(copydesk.server.connections) == 1


async def test_a_page_of_the_host_decides_how_the_elements_look(
    start_trusting: Copydesk, embedded: OpenEmbedded
) -> None:
    project = await start_trusting.project("Spring")
    page = await embedded(start_trusting, project)
    title = page.get_by_role("heading", name="Spring", exact=True)
    await expect(title).to_have_css("text-transform", "uppercase")
    button = page.locator("copydesk-comments").get_by_role("button", name="Comment")
    await expect(button).to_have_css("background-color", "rgb(102, 51, 153)")


async def test_the_token_is_asked_for_again_when_it_is_refused(
    start_trusting: Copydesk, embedded: OpenEmbedded, host: Host, complaints: Complaints
) -> None:
    project = await start_trusting.project("Spring")
    complaints.expected.append("401 (Unauthorized)")
    page = await embedded(start_trusting, project)
    await expect(page.locator("copydesk-overview")).to_have_attribute("data-state", "live")
    while host.tokens < 2:
        await start_trusting.call("POST", f"/projects/{project}/comments", {"body": "Still there?"})
        await page.locator("copydesk-comments").get_by_role("textbox", name="Write a comment").fill("Yes.")
        await page.locator("copydesk-comments").get_by_role("button", name="Comment").click()
        await expect(page.locator("copydesk-comments").locator("form textarea").first).to_have_value("")


async def test_the_connection_ends_with_the_last_element_and_begins_with_the_next(
    start_trusting: Copydesk, embedded: OpenEmbedded
) -> None:
    project = await start_trusting.project("Spring")
    page = await embedded(start_trusting, project)
    overview = page.locator("copydesk-overview")
    await expect(overview).to_have_attribute("data-state", "live")
    await page.evaluate("window.kept = document.querySelector('copydesk-overview'); document.body.replaceChildren()")
    async with page.expect_event("websocket"):
        await page.evaluate("document.body.append(kept)")
    await start_trusting.call("PATCH", f"/projects/{project}", {"name": "Summer"})
    await expect(page.get_by_role("heading", name="Summer")).to_be_visible()


async def test_a_site_that_is_not_trusted_gets_nothing(
    copydesk: Copydesk, embedded: OpenEmbedded, complaints: Complaints
) -> None:
    project = await copydesk.project("Spring")
    complaints.expected += ["CORS policy", "net::ERR_FAILED"]
    page = await embedded(copydesk, project)
    await page.wait_for_load_state("networkidle")
    assert await page.evaluate("customElements.get('copydesk-overview') === undefined")
    assert len(copydesk.server.connections) == 0
    assert any("CORS policy" in text for text in complaints.found)
