"""A real Chromium, signed-in editors in it, and an eye on its console."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright, expect
from tornado.ioloop import IOLoop

from app.auth import COOKIE
from app.passwords import Passwords
from models.user import UserStore
from tests.browser.modules import open_modules
from tests.conftest import Copydesk
from tests.watched_loop import loop_of_its_own, watched

PASSWORD = "a long enough password"
FOREIGN, REBOUND = "evil.example", "rebound.example"
"""Names of other sites, which lead to this machine."""
_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Two editors are two pages, and neither is in the background.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
    f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1,MAP {REBOUND} 127.0.0.1",
)

OpenPage = Callable[..., Awaitable[Page]]

# Playwright waits 5 s. Beside other browsers on two cores a page may need longer, and that is no fault of it.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The system's Chromium, started once; where it can be spoken to."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    assert program is not None, "These tests need Chromium: apt-get install chromium"
    profile = tmp_path_factory.mktemp("chromium")
    with subprocess.Popen(
        [program, *_ARGUMENTS, f"--user-data-dir={profile}", "about:blank"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        marker = "DevTools listening on "
        address = next(line.removeprefix(marker).strip() for line in process.stderr if line.startswith(marker))
        # Nobody reads what else it says, but it must not come to wait for a reader.
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        yield address
        os.killpg(process.pid, signal.SIGKILL)
        reader.join()


@pytest.fixture(scope="session")
def browser_loop() -> Iterator[IOLoop]:
    """One loop for all tests with a browser: what speaks to it is a program in Node, which takes a second to start."""
    with loop_of_its_own() as loop:
        yield loop


@pytest.fixture(scope="session")
def connected(browser_loop: IOLoop, chromium: str) -> Iterator[Browser]:
    """That Chromium, spoken to."""

    async def start() -> tuple[Any, Browser]:
        playwright = await async_playwright().start()
        return playwright, await playwright.chromium.connect_over_cdp(chromium)

    playwright, started = browser_loop.run_sync(start)
    yield started
    browser_loop.run_sync(started.close)
    browser_loop.run_sync(playwright.stop)


@pytest.fixture
def io_loop(browser_loop: IOLoop, connected: Browser) -> Iterator[IOLoop]:
    """That loop. What a test leaves behind in it fails the test; what speaks to the browser was there before."""
    asyncio.set_event_loop(browser_loop.asyncio_loop)  # type: ignore[attr-defined]  # every loop of Tornado's has one
    with watched(browser_loop):
        yield browser_loop


@pytest.fixture
def browser(io_loop: IOLoop, connected: Browser) -> Iterator[Browser]:
    """The same, with no windows of other tests."""
    before = list(connected.contexts)
    yield connected

    async def close() -> None:
        for context in connected.contexts:
            if context not in before:
                await context.close()

    io_loop.run_sync(close)


class Complaints:
    """What pages said on their consoles that they should not have."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.expected: list[str] = []
        """Parts of complaints that the test itself provokes."""

    def watch(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", self._see)

    def unexpected(self) -> list[str]:
        return [text for text in self.found if not any(part in text for part in self.expected)]

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"{message.text} ({message.location.get('url', '')})")

    def _see(self, error: Error) -> None:
        self.found.append(str(error))


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Fails the test for errors on a console: exceptions, violations of the content security policy, failed loads."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


@pytest.fixture(scope="session")
def password_hash(browser_loop: IOLoop) -> str:
    """Of `PASSWORD`; made once, because it is meant to take long."""
    passwords = Passwords()
    try:
        return browser_loop.run_sync(lambda: passwords.hash(PASSWORD))
    finally:
        passwords.close()


@pytest.fixture
def make_user(password_hash: str) -> Callable[..., Awaitable[None]]:
    """Make an account with `PASSWORD`."""

    async def make(copydesk: Copydesk, user: str, roles: tuple[Any, ...] = ("editor",)) -> None:
        users = UserStore(copydesk.database, report=lambda *_problem: None)
        await users.add(user, password_hash=password_hash, roles=roles, name=user.title())

    return make


@pytest.fixture
def open_page(browser: Browser, complaints: Complaints, make_user: Callable[..., Awaitable[None]]) -> OpenPage:
    """Open the page as somebody who is signed in: ``await open_page(copydesk, "bob", "#/projects/1", width=360)``."""

    async def open_(
        copydesk: Copydesk, user: str, address: str = "", *, width: int = 1280, height: int = 860, **options: Any
    ) -> Page:
        context = await browser.new_context(viewport={"width": width, "height": height}, **options)
        await make_user(copydesk, user)
        await sign_in(context, copydesk, user)
        page = await context.new_page()
        complaints.watch(page)
        await page.goto(f"{copydesk.url}/{address}")
        return page

    return open_


async def sign_in(context: BrowserContext, copydesk: Copydesk, user: str) -> None:
    """Give a browser context a session, as the form does but for the password, which takes long to check."""
    token, _session = await copydesk.server.stores.sessions.create(user, not_before=0.0)
    cookie = {"name": COOKIE, "value": token, "httpOnly": True, "sameSite": "Lax"}
    await context.add_cookies([{**cookie, "url": copydesk.url}])  # type: ignore[list-item]  # a TypedDict's names


@pytest.fixture
def page(io_loop: IOLoop, browser: Browser) -> Iterator[Page]:
    """A page without a server, in which the modules can be imported."""
    opened, _rest = io_loop.run_sync(lambda: open_modules(browser))
    yield opened
    io_loop.run_sync(opened.close)
