"""The diagnosis page in a real Chromium, directly and behind a real nginx with the mistakes that people make in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.browser.conftest import Complaints, OpenPage
from tests.conftest import Copydesk
from tests.real import nginx
from tests.real.nginx import Nginx, replaced, without

# What Chromium says of a refused request or socket that the page tries on purpose.
TRIED_ON_PURPOSE = ["Failed to load resource", "WebSocket connection to", "net::ERR"]
OWN_NAME = replaced(r"server_name copydesk\.example", "server_name 127.0.0.1")
EVENTS = r"(location /api/v1/events \{)"
COLLECTING = (
    without("proxy_buffering off"),
    replaced(EVENTS, r"\1 proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"),
)

StartNginx = Callable[..., Nginx]


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[StartNginx]:
    """nginx before a server, reached at 127.0.0.1: ``start_nginx(copydesk, without("..."))``."""
    started: list[Nginx] = []
    numbers = itertools.count(1)

    def start(copydesk: Copydesk, *edits: nginx.Edit) -> Nginx:
        folder = tmp_path / f"nginx-{next(numbers)}"
        folder.mkdir()
        started.append(nginx.start(folder, [copydesk.server.port], *edits, OWN_NAME))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def diagnose(browser: Browser, complaints: Complaints, open_page: OpenPage) -> Callable[..., object]:
    """Open the diagnosis behind a proxy, signed in, and wait until everything was tried."""

    async def diagnose_(copydesk: Copydesk, url: str, user: str | None = "bob", **options: object) -> Page:
        complaints.expected = TRIED_ON_PURPOSE
        if user is None:
            context = await browser.new_context(**options)  # type: ignore[arg-type]  # passed through
            page = await context.new_page()
        else:
            # A cookie is of a host, whatever the port: signing in works also where the proxy breaks it.
            page = await open_page(copydesk, user, "favicon.ico", **options)
        await page.goto(f"{url}/diagnosis")
        await page.wait_for_selector("body[data-done]")
        return page

    return diagnose_


def codes_of(page: Page) -> object:
    return page.eval_on_selector_all("#findings > li", "items => items.map((item) => item.id)")


def states_of(page: Page, checks: str = "#checks") -> object:
    return page.eval_on_selector_all(
        f"{checks} > li",
        "rows => Object.fromEntries(rows.map((row) => [row.children[1].textContent, row.dataset.state]))",
    )


ALL_GOOD = {"REST": "good", "Headers": "good", "WebSocket": "good", "Event stream": "good", "Long poll": "good"}


async def test_without_a_proxy_everything_gets_through(copydesk: Copydesk, diagnose: Callable[..., object]) -> None:
    page = await diagnose(copydesk, copydesk.url)
    assert await states_of(page) == ALL_GOOD
    assert await codes_of(page) == []
    assert "live updates get through" in await page.inner_text("#summary")
    assert copydesk.url.removeprefix("http://") in await page.inner_text("#reached")
    assert await page.is_hidden("#signed-out")


BEHIND = pytest.mark.parametrize("copydesk", [{"trusted_proxies": ("127.0.0.1",)}], indirect=True)
FAULTS = [
    pytest.param((), [], id="the shipped configuration"),
    pytest.param(
        (without("proxy_set_header Upgrade", "proxy_set_header Connection"),), ["upgrade_dropped"], id="no upgrade"
    ),
    pytest.param((without("proxy_http_version"),), ["old_http"], id="http 1.0"),
    pytest.param(COLLECTING, ["stream_buffered"], id="buffering"),
    pytest.param(
        (replaced(r"(proxy_set_header Host )\$http_host;", r"\1$host;"),), ["host_replaced"], id="host without port"
    ),
    pytest.param(
        (without("proxy_set_header X-Forwarded-Proto"),), ["forwarded_proto_missing"], id="no X-Forwarded-Proto"
    ),
    pytest.param((without("proxy_set_header X-Forwarded-For"),), ["forwarded_for_missing"], id="no X-Forwarded-For"),
    pytest.param((replaced(EVENTS, r"\1 return 502;"),), ["stream_refused", "poll_refused"], id="events go elsewhere"),
]


@BEHIND
@pytest.mark.parametrize(("edits", "codes"), FAULTS)
async def test_the_page_names_what_is_wrong_in_nginx(
    copydesk: Copydesk,
    start_nginx: StartNginx,
    diagnose: Callable[..., object],
    edits: tuple[nginx.Edit, ...],
    codes: list[str],
) -> None:
    page = await diagnose(copydesk, start_nginx(copydesk, *edits).url)
    assert await codes_of(page) == codes
    assert "{" not in (await page.inner_text("#findings")).replace("copydesk_upgrade {", "").replace(
        "copydesk_connection {", ""
    ).replace("/events {", "")


@BEHIND
async def test_a_stream_that_is_collected_and_cut_is_told_from_one_that_ends(
    copydesk: Copydesk, start_nginx: StartNginx, diagnose: Callable[..., object]
) -> None:
    impatient = replaced("proxy_read_timeout 90s", "proxy_read_timeout 1s")
    page = await diagnose(copydesk, start_nginx(copydesk, *COLLECTING, impatient).url)
    assert await codes_of(page) == ["stream_buffered", "poll_cut"]


async def test_an_untrusted_proxy_is_named(
    copydesk: Copydesk, start_nginx: StartNginx, diagnose: Callable[..., object]
) -> None:
    page = await diagnose(copydesk, start_nginx(copydesk).url)
    assert await codes_of(page) == ["proxy_untrusted"]
    assert "COPYDESK_TRUSTED_PROXIES=127.0.0.1" in await page.inner_text("#findings")


@BEHIND
async def test_on_the_machine_of_the_proxy_the_direct_way_is_not_taken_for_a_bad_proxy(
    copydesk: Copydesk, diagnose: Callable[..., object]
) -> None:
    page = await diagnose(copydesk, copydesk.url)
    assert await codes_of(page) == []


@pytest.mark.parametrize("copydesk", [{"websockets_enabled": False}], indirect=True)
async def test_what_is_switched_off_is_said_to_be(copydesk: Copydesk, diagnose: Callable[..., object]) -> None:
    page = await diagnose(copydesk, copydesk.url)
    assert await codes_of(page) == ["websockets_off"]
    assert (await states_of(page))["WebSocket"] == "off"
    assert (await states_of(page))["Event stream"] == "good"


async def test_signed_out_it_says_what_it_can_tell(copydesk: Copydesk, diagnose: Callable[..., object]) -> None:
    page = await diagnose(copydesk, copydesk.url, None)
    assert await states_of(page) == {**ALL_GOOD, "Event stream": "skipped", "Long poll": "skipped"}
    assert await codes_of(page) == []
    assert "not signed in" in await page.inner_text("#signed-out")
    assert "passes messages both ways" in await page.inner_text("#checks")


# -- silence ----------------------------------------------------------------------------------------------------------

QUICK_PINGS = pytest.mark.parametrize(
    "copydesk", [{"trusted_proxies": ("127.0.0.1",), "ping_seconds": 3}], indirect=True
)
IMPATIENT = replaced(r"(location = /api/v1/realtime \{\n.*\n) *proxy_read_timeout 90s", r"\1 proxy_read_timeout 1s")


@QUICK_PINGS
async def test_a_short_read_timeout_is_found_by_measuring_and_named_in_the_ticket(
    copydesk: Copydesk, start_nginx: StartNginx, diagnose: Callable[..., object]
) -> None:
    page = await diagnose(copydesk, start_nginx(copydesk, IMPATIENT).url)
    assert await codes_of(page) == []
    await page.click("#idle-start")
    await page.wait_for_selector("#idle-checks > li", timeout=40_000)
    assert await states_of(page, "#idle-checks") == {"WebSocket": "bad", "Event stream": "good", "Long poll": "good"}
    assert await codes_of(page) == ["idle_cut"]
    assert await page.evaluate("document.activeElement.id") == "idle-start"

    await page.click("#copy")
    ticket = await page.input_value("#ticket")
    assert re.search(r"1\. idle_cut: A quiet WebSocket is cut after \d+", ticket)
    assert "proxy_read_timeout 90s;" in ticket
    assert "BAD  WebSocket: Cut after" in ticket
    assert "Header X-Forwarded-Proto: http" in ticket
    cookies = [cookie["value"] for cookie in await page.context.cookies()]
    assert cookies
    assert not any(cookie in ticket for cookie in cookies)


async def test_measuring_can_be_stopped_by_keyboard_and_shows_what_was_seen(
    copydesk: Copydesk, diagnose: Callable[..., object]
) -> None:
    page = await diagnose(copydesk, copydesk.url)
    for _ in range(6):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == "idle-start":
            break
    await page.keyboard.press("Enter")
    await page.get_by_text(re.compile(r"^[2-9] of at most 58 s$")).wait_for()
    assert await page.evaluate("document.activeElement.id") == "idle-cancel"
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#idle-checks > li")
    assert (await states_of(page, "#idle-checks"))["WebSocket"] == "good"
    assert "Stopped" in await page.inner_text("#summary")
    assert await page.evaluate("document.activeElement.id") == "idle-start"


# -- how it looks and reads -------------------------------------------------------------------------------------------


@BEHIND
@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_is_wider_than_the_window_and_lines_scroll_by_themselves(
    copydesk: Copydesk, start_nginx: StartNginx, diagnose: Callable[..., object], width: int
) -> None:
    edits = (
        without("proxy_set_header Upgrade", "proxy_set_header Connection"),
        without("proxy_set_header X-Forwarded"),
    )
    page = await diagnose(copydesk, start_nginx(copydesk, *edits).url, width=width)
    assert len(await codes_of(page)) >= 2
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    lines = await page.query_selector("#upgrade_dropped pre")
    assert lines is not None
    assert await lines.get_attribute("tabindex") == "0"


async def test_headings_names_and_live_regions_are_there_for_a_screen_reader(
    copydesk: Copydesk, diagnose: Callable[..., object]
) -> None:
    page = await diagnose(copydesk, copydesk.url)
    levels = await page.eval_on_selector_all("h1, h2", "all => all.filter((e) => e.offsetParent).map((e) => e.tagName)")
    assert levels == ["H1", "H2", "H2", "H2"]
    unnamed = await page.eval_on_selector_all(
        "button, a, textarea, progress", "all => all.filter((e) => !(e.textContent.trim() || e.ariaLabel)).length"
    )
    assert unnamed == 0
    assert await page.get_attribute("#summary", "role") == "status"
