"""Somebody writes while the network and the server come and go: nothing that was typed is lost, nothing is missed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest
from playwright.async_api import Browser, Page, expect
from tornado.ioloop import IOLoop

from tests.browser.conftest import Complaints, sign_in
from tests.browser.test_edit_page import reply_field
from tests.browser.test_ladder import Cable
from tests.conftest import Copydesk
from tests.real.processes import Process

PATIENCE_MS = 40_000


@pytest.fixture
def cable(io_loop: IOLoop) -> Iterator[Cable]:
    cable = Cable()
    yield cable
    io_loop.run_sync(cable.cut)


@pytest.fixture
def other_server(mongodb_uri: str, database_name: str) -> Iterator[Process]:
    """A server that can be killed, on the database of the one that goes on."""
    process = Process(mongodb_uri=mongodb_uri, mongodb_database=database_name, auth_secret="s" * 32)
    yield process
    process.stop()


class Desk:
    """A thread that alice writes in and bob answers in; she by way of a server that goes on all the time."""

    def __init__(self, copydesk: Copydesk, page: Page, project: str, thread: str) -> None:
        self.copydesk, self.page, self.project, self.thread = copydesk, page, project, thread
        self.field = reply_field(page)

    async def alice_says(self, text: str) -> None:
        new = {"body": text, "thread_id": self.thread}
        await self.copydesk.call("POST", f"/projects/{self.project}/comments", new)

    async def is_cut_off(self) -> None:
        await expect(self.page.get_by_text("No connection.")).to_be_visible(timeout=PATIENCE_MS)

    async def is_live_with(self, text: str) -> None:
        await expect(self.page.locator(".body", has_text=text)).to_be_visible(timeout=PATIENCE_MS)
        await expect(self.page.locator("#connection")).to_have_text("Live", timeout=PATIENCE_MS)
        await expect(self.page.locator("#banner")).to_be_empty()


OpenDesk = Callable[[str], Awaitable[Desk]]


@pytest.fixture
def open_desk(
    copydesk: Copydesk, browser: Browser, complaints: Complaints, make_user: Callable[..., Awaitable[None]]
) -> OpenDesk:
    """Open the thread as bob, at an address of a server or of a way to it."""
    complaints.expected += ["net::ERR", "WebSocket connection to", "Failed to load resource"]

    async def open_(url: str) -> Desk:
        project = await copydesk.project()
        first = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Who writes?"})
        await make_user(copydesk, "bob")
        context = await browser.new_context()
        # A cookie is of a host, whatever the port.
        await sign_in(context, copydesk, "bob")
        page = await context.new_page()
        complaints.watch(page)
        await page.goto(f"{url}/#/projects/{project}")
        desk = Desk(copydesk, page, project, first["id"])
        await desk.is_live_with("Who writes?")
        return desk

    return open_


async def test_whoever_is_typing_goes_on_when_the_network_is_cut_and_comes_back(
    copydesk: Copydesk, open_desk: OpenDesk, cable: Cable
) -> None:
    desk = await open_desk(await cable.connect(copydesk.server.port))
    await desk.field.press_sequentially("I do")
    await desk.field.press("ArrowLeft")
    await cable.cut()
    await desk.is_cut_off()
    await desk.field.press_sequentially("will ")
    await desk.alice_says("Meanwhile")
    await cable.connect(copydesk.server.port)
    await desk.is_live_with("Meanwhile")
    await expect(desk.field).to_be_focused()
    await expect(desk.field).to_have_value("I dwill o")
    assert await desk.field.evaluate("field => field.selectionStart") == len("I dwill ")
    await desk.page.context.close()


async def test_what_could_not_be_sent_to_a_killed_server_is_sent_once_when_it_is_back(
    copydesk: Copydesk, open_desk: OpenDesk, other_server: Process
) -> None:
    desk = await open_desk(other_server.url)
    await desk.field.press_sequentially("I do")
    other_server.kill()
    await desk.is_cut_off()
    await desk.field.press_sequentially(", unless you do")
    await desk.field.press("Control+Enter")
    await expect(desk.page.get_by_role("alert").filter(has_text="Not sent.")).to_be_visible(timeout=PATIENCE_MS)
    await desk.alice_says("Meanwhile")
    other_server.start()
    await desk.is_live_with("Meanwhile")
    await expect(desk.field).to_be_focused()
    await expect(desk.field).to_have_value("I do, unless you do")
    await desk.page.get_by_role("button", name="Retry").click()
    await expect(desk.page.locator(".body")).to_have_text(["Who writes?", "Meanwhile", "I do, unless you do"])
    assert await copydesk.database["comments"].count_documents({}) == 3
    await desk.page.context.close()
