"""axe-core finds nothing to complain about on any page: light and dark, on a phone and on a desk."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pymongo
import pytest
from playwright.async_api import Browser, Page, expect
from tornado.ioloop import IOLoop

from app import commands
from app.demo import USERS
from app.settings import Settings
from app.unsubscribe import Unsubscriptions
from tests.browser.test_embedding import Host
from tests.real.processes import Process

AXE = Path(__file__).parents[2] / ".venv/axe-core/node_modules/axe-core/axe.min.js"
LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (360, 1280)]
WHOLE_LOOKS = [("light", 360), ("dark", 1280)]
"""All rules; in the others those that colours and sizes decide, because axe takes most of a second for all."""
SECRET = "s" * 32
PROJECT = "demo-spring"

# All rules that are on by default, which includes good practice beyond WCAG, and the size of what is to be hit.
_RUN = """
async (whole) => {
  const looks = ["color-contrast", "target-size"];
  const { violations } = await axe.run(document, {
    resultTypes: ["violations"],
    ...(whole ? { rules: { "target-size": { enabled: true } } } : { runOnly: { type: "rule", values: looks } }),
  });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
    `${id}: ${target.flat().join(" ")}: ${failureSummary.split("\\n").slice(1).join(" ").trim()}`));
}
"""


class Site:
    """A server with the demo content, and with what editors leave behind when they work."""

    def __init__(self, process: Process, host: Host) -> None:
        self.url, self.host = process.url, host

    def token(self, user: str, *_roles: str, ttl_seconds: int = 600) -> str:
        """A bearer token for an editor."""
        settings = Settings(auth_secret=SECRET)
        return commands.token(settings, sub=user, roles=["editor"], ttl_seconds=ttl_seconds, name=None, email=None)

    def call(self, user: str, method: str, path: str, body: dict[str, Any]) -> Any:
        """One REST request, as a program makes it."""
        headers = {"Authorization": f"Bearer {self.token(user)}", "Content-Type": "application/json"}
        with closing(HTTPConnection(self.url.removeprefix("http://"))) as connection:
            connection.request(method, f"/api/v1{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            assert answer.status < 400
            return json.loads(answer.read() or "null")

    def work(self) -> None:
        """A thread with a mention, an edit and a comment that was deleted; a label."""
        comments = f"/projects/{PROJECT}/comments"
        first = self.call(
            "alice", "POST", comments, {"body": "@bob the headline, please", "item_id": f"{PROJECT}-item-1"}
        )
        self.call("alice", "PATCH", f"{comments}/{first['id']}", {"body": "@bob the headline, please. By noon."})
        gone = self.call("alice", "POST", comments, {"body": "Never mind", "thread_id": first["id"]})
        self.call("alice", "DELETE", f"{comments}/{gone['id']}", {})
        self.call("bob", "POST", comments, {"body": "Done.", "thread_id": first["id"]})


@pytest.fixture(scope="module")
def site(browser_loop: IOLoop, plain_client: pymongo.MongoClient[dict[str, Any]], mongodb_uri: str) -> Iterator[Site]:
    name, host = "test_accessibility", Host()
    settings = {"mongodb_uri": mongodb_uri, "mongodb_database": name, "auth_secret": SECRET}
    process = Process(**settings, demo="true", trusted_origins=host.origin)
    site = Site(process, host)
    site.work()
    yield site
    browser_loop.run_sync(host.close)
    process.stop()
    plain_client.drop_database(name)


@cache
def axe() -> str:
    assert AXE.exists(), "These tests need axe-core, which npm installs: make .venv/axe-core"
    return AXE.read_text(encoding="utf-8")


async def violations(page: Page) -> list[str]:
    """What axe says of the page in each of `LOOKS`."""
    found: list[str] = []
    # Not as an element of the page: its policy lets no foreign script in.
    await page.evaluate(axe())
    for scheme, width in LOOKS:
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # one of two
        await page.set_viewport_size({"width": width, "height": 860})
        # Lists lay themselves out anew when the browser draws next.
        await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        said = await page.evaluate(_RUN, (scheme, width) in WHOLE_LOOKS)
        found += [f"{scheme}, {width} px: {violation}" for violation in said]
    return found


# -- the pages ---------------------------------------------------------------------------------------------------------


async def sign_in_page(page: Page, site: Site) -> None:
    await page.context.clear_cookies()
    await page.goto(site.url)
    await page.get_by_label("Name").fill("bob")
    await page.get_by_label("Password").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")


async def projects_page(page: Page, site: Site) -> None:
    await page.goto(site.url)
    await page.get_by_role("button", name="New project").click()
    await page.get_by_role("button", name="Edit Help centre").click()
    await expect(page.get_by_role("button", name="Save")).to_be_visible()


async def project_page(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/#/projects/{PROJECT}")
    await expect(page.locator(".item")).to_have_count(6)
    await expect(page.locator(".thread")).to_have_count(1)


async def items_in_use(page: Page, site: Site) -> None:
    await project_page(page, site)
    await page.get_by_role("button", name="Add item").click()
    await page.get_by_role("button", name="Group by status").click()
    await page.get_by_role("button", name="Edit Price list").click()
    await page.get_by_role("checkbox", name="Select Hero picture").check()
    await page.get_by_role("button", name="Remove", exact=True).click()
    await expect(page.get_by_role("button", name="Remove 1 item")).to_be_visible()


async def several_items(page: Page, site: Site) -> None:
    await project_page(page, site)
    for name in ("Hero picture", "Price list"):
        await page.get_by_role("checkbox", name=f"Select {name}").check()
    await expect(page.get_by_role("heading", name="About 2 selected items")).to_be_visible()
    await expect(page.locator(".thread .about")).to_have_text(["Hero picture"])


async def threads(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/#/projects/{PROJECT}/items/{PROJECT}-item-1")
    await expect(page.locator(".thread")).to_have_count(2)
    mine = page.locator(".comment", has_text="Done.")
    await mine.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("button", name="Delete for everybody")).to_be_visible()
    await page.locator(".comment", has_text="Right, I took").get_by_role("button", name="Edit").click()
    await page.get_by_role("textbox", name="Write a comment").press_sequentially("@al")
    await expect(page.locator(".mentions li")).to_have_count(1)


async def changes(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/#/projects/{PROJECT}")
    await page.get_by_role("tab", name="Changes").click()
    await expect(page.locator(".log li").first).to_be_visible()


async def bell(page: Page, site: Site) -> None:
    await page.goto(site.url)
    await page.locator(".bell > button").click()
    await expect(page.locator(".entry").first).to_be_visible()


async def preferences(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/#/preferences")
    await expect(page.get_by_role("button", name="Save")).to_be_visible()


async def nothing_there(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/#/projects/nothing")
    await expect(page.get_by_text("This project does not exist")).to_be_visible()


async def unreachable(page: Page, site: Site) -> None:
    await page.route("**/api/v1/session", lambda route: route.abort())
    await page.goto(site.url)
    await expect(page.get_by_role("heading", name="Copydesk cannot be reached")).to_be_visible()


async def diagnosis(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/diagnosis")
    await page.wait_for_selector("body[data-done]")


async def docs(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/docs")
    # Nine thousand elements, made by a few loops of the template, cost axe half a minute: three rounds of each will do.
    left = await page.evaluate(
        """() => {
          const later = "article, article ~ h3, section > dl > *, tbody > tr";
          for (const element of document.querySelectorAll(later)) {
            const same = [...element.parentElement.children].filter(({ localName }) => localName === element.localName);
            if (same.indexOf(element) > 2) element.dataset.later = "";
          }
          for (const element of document.querySelectorAll("[data-later]")) element.remove();
          return document.querySelectorAll("main *").length;
        }"""
    )
    assert 300 < left < 3000


async def unsubscribe(page: Page, site: Site) -> None:
    link = Unsubscriptions(secrets=(SECRET,)).token("bob", "reply")
    await page.goto(f"{site.url}/api/v1/unsubscribe?token={link}")
    await expect(page.get_by_role("button")).to_have_count(2)


async def unsubscribed(page: Page, site: Site) -> None:
    await unsubscribe(page, site)
    await page.get_by_role("button", name="Stop it").click()
    await expect(page.get_by_role("status")).to_be_visible()


async def elements(page: Page, site: Site) -> None:
    """The host page of docs/embedding.md."""
    site.host.serve(site, PROJECT)
    await page.goto(f"{site.host.origin}/host.html")
    await expect(page.locator("copydesk-overview")).to_have_attribute("data-state", "live")
    await page.get_by_role("button", name="Notifications").click()
    await expect(page.locator("copydesk-bell").get_by_text("mentioned you").first).to_be_visible()


PAGES: list[Callable[[Page, Site], Awaitable[None]]] = [
    sign_in_page,
    projects_page,
    project_page,
    items_in_use,
    several_items,
    threads,
    changes,
    bell,
    preferences,
    nothing_there,
    unreachable,
    diagnosis,
    docs,
    unsubscribe,
    unsubscribed,
    elements,
]


@pytest.fixture
def open_demo(browser: Browser, site: Site) -> Callable[[], Awaitable[Page]]:
    """A page of somebody who is signed in."""

    async def open_() -> Page:
        context = await browser.new_context(reduced_motion="reduce")
        bob = next(user for user in USERS if user.id == "bob")
        answer = await context.request.post(
            f"{site.url}/api/v1/session",
            data={"username": bob.id, "password": bob.password},
            headers={"Origin": site.url},
        )
        assert answer.status == 201
        return await context.new_page()

    return open_


@pytest.mark.parametrize("bring_up", PAGES, ids=lambda page: page.__name__)
async def test_axe_finds_nothing_on(
    bring_up: Callable[[Page, Site], Awaitable[None]], open_demo: Callable[[], Awaitable[Page]], site: Site
) -> None:
    page = await open_demo()
    await bring_up(page, site)
    found = await violations(page)
    assert not found, "\n".join(found)
    await page.context.close()


SMALL = """rule(`@media (max-width: 40rem) {
  #again { font-size: 0; padding: 0; min-height: 9px; height: 9px; width: 9px }
  .actions { gap: 0 !important }
  #copy { margin-left: -3px }
}`)"""


@pytest.mark.parametrize(
    ("fault", "rule", "seen_in"),
    [
        ("main.append(document.createElement('button'))", "button-name", WHOLE_LOOKS),
        ("rule('.lead { color: #7d8794 }')", "color-contrast", [look for look in LOOKS if look[0] == "light"]),
        (SMALL, "target-size", [look for look in LOOKS if look[1] == 360]),
    ],
    ids=["a button without a name", "too little contrast in the light", "too small on a phone"],
)
async def test_a_planted_fault_is_found_where_it_is(
    open_demo: Callable[[], Awaitable[Page]], site: Site, fault: str, rule: str, seen_in: list[tuple[str, int]]
) -> None:
    page = await open_demo()
    await diagnosis(page, site)
    await page.evaluate(
        f"""() => {{
          const main = document.querySelector("main");
          const rule = (text) => {{
            const sheet = new CSSStyleSheet();
            sheet.replaceSync(text);
            document.adoptedStyleSheets.push(sheet);
          }};
          {fault};
        }}"""
    )
    found = await violations(page)
    assert {violation.split(": ")[0] for violation in found} == {f"{scheme}, {width} px" for scheme, width in seen_in}
    assert {violation.split(": ")[1] for violation in found} == {rule}
    await page.context.close()
