"""What each picture shows: one function a picture, which leads a window to where there is something to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from playwright.sync_api import BrowserContext, Locator, Page, expect

from docs.pictures.stage import Stage

SPRING = "#/projects/demo-spring"
LANDING = f"{SPRING}/items/demo-spring-item-1"
COMMENTS = "/projects/demo-spring/comments"
ITEMS = "/projects/demo-spring/items/demo-spring-item"
PRICES = f"{ITEMS}-4"

# A busy machine is no reason for a picture of something that is not finished, or for none.
expect.set_options(timeout=60_000)

Scene = Callable[[Stage, BrowserContext], Page]
Themes = tuple[Literal["light", "dark"], ...]
THEMES: Themes = ("light", "dark")
SIZES = {"wide": (1280, 900), "narrow": (360, 780)}
MOVING = "two-editors"


def prepare(stage: Stage) -> None:
    """What happened before the first picture, beside the demo content."""
    stage.call("alice", "POST", "/projects", {"name": "Summer sale", "description": "Starts on the first of June."})
    addresses = ("landing", "landing-de", "hero", "prices", "newsletter", "terms")
    for who, number, change in (
        *(("alice", number, {"url": f"https://cms.example/{page}"}) for number, page in enumerate(addresses, start=1)),
        ("bob", 1, {"path": "/start"}),
        ("carol", 2, {"path": "/de/start"}),
        ("carol", 2, {"status": "in_review"}),
        ("alice", 2, {"status": "draft"}),
        ("bob", 4, {"name": "Price list, spring"}),
        ("alice", 4, {"name": "Price list"}),
        ("bob", 6, {"path": "/terms"}),
        ("alice", 5, {"assignee": "bob"}),
    ):
        stage.call(who, "PATCH", f"{ITEMS}-{number}", change)
    stage.call("alice", "POST", COMMENTS, {"body": "Looks good now, thank you.", "thread_id": "demo-spring-thread-1"})
    question = "@bob which size does the picture have on phones?"
    stage.call("carol", "POST", COMMENTS, {"body": question, "item_id": "demo-spring-item-3"})
    failed = {
        "recipients": {"users": ["bob"]},
        "title": "Import 4711 failed",
        "body": "Row 12 has no language.",
        "link": "https://cms.example/jobs/4711",
        "category": "import",
    }
    stage.call("cms", "POST", "/notifications", failed)


def sign_in(stage: Stage, window: BrowserContext) -> Page:
    """The form, for who is not signed in."""
    window.clear_cookies()
    page = _open(stage, window, "")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    return page


def projects(stage: Stage, window: BrowserContext) -> Page:
    """The list of projects."""
    page = _live(stage, window, "")
    expect(page.get_by_role("link", name="Spring launch")).to_be_visible()
    return page


def project(stage: Stage, window: BrowserContext) -> Page:
    """Items of a project, and threads about all of it."""
    return _spring(stage, window, SPRING)


def item(stage: Stage, window: BrowserContext) -> Page:
    """One item with its thread."""
    page = _spring(stage, window, LANDING)
    expect(page.get_by_text("Right, I took them from the old page.")).to_be_visible()
    return page


def colleague(stage: Stage, window: BrowserContext) -> Page:
    """What a colleague does, the moment that it is seen."""
    page = _spring(stage, window, LANDING)
    _reset(stage)
    stage.call("alice", "PATCH", f"{ITEMS}-3", {"status": "published"})
    said = {comment.get("body") for comment in stage.call("alice", "GET", COMMENTS)["items"]}
    # One for each window.
    text = next(text for text in ("Then it can go live.", "And tell the shop, please.") if text not in said)
    stage.call("alice", "POST", COMMENTS, {"body": text, "thread_id": "demo-spring-thread-1"})
    expect(page.get_by_text(text)).to_be_visible()
    expect(page.locator(".item[data-fresh]")).to_be_visible()
    _into_view(page.locator(".comment[data-fresh]"), "nearest")
    return page


def many(stage: Stage, window: BrowserContext) -> Page:
    """Several items selected, by status."""
    page = _spring(stage, window, SPRING)
    for name in ("Hero picture", "Price list"):
        page.get_by_role("checkbox", name=f"Select {name}").check()
    expect(page.get_by_text("2 selected")).to_be_visible()
    return page


def bell(stage: Stage, window: BrowserContext) -> Page:
    """The inbox."""
    page = _spring(stage, window, SPRING)
    page.get_by_role("button", name="Notifications").click()
    expect(page.locator(".entry").first).to_be_visible()
    # One topic more, of which what was missed is read first.
    expect(page.locator("#connection")).to_have_text("Live")
    return page


def preferences(stage: Stage, window: BrowserContext) -> Page:
    """Who wants to hear of what."""
    page = _live(stage, window, "#/preferences")
    expect(page.locator(".preferences table")).to_be_visible()
    return page


def changes(stage: Stage, window: BrowserContext) -> Page:
    """The change log of a project."""
    page = _spring(stage, window, SPRING)
    tab = page.get_by_role("tab", name="Changes")
    tab.click()
    expect(page.locator(".log li").nth(4)).to_be_visible()
    _into_view(tab)
    return page


def conflict(stage: Stage, window: BrowserContext) -> Page:
    """Two who changed the same."""
    _reset(stage)
    page = _spring(stage, window, SPRING)
    with page.expect_response("**/items/demo-spring-item-4"):
        page.get_by_role("button", name="Edit Price list").click()
    editor = page.get_by_role("form", name="Edit Price list")
    editor.get_by_role("textbox", name="Name").fill("Price list, spring")
    stage.call("alice", "PATCH", PRICES, {"name": "Spring prices"})
    page.keyboard.press("Enter")
    versions = editor.get_by_role("group", name="Two versions of Name")
    expect(versions).to_be_visible()
    _into_view(editor)
    _after(page, lambda: _reset(stage))
    return page


def offline(stage: Stage, window: BrowserContext) -> Page:
    """Without a connection: what was written stays, and is sent when there is one again."""
    page = _spring(stage, window, LANDING)
    field = page.get_by_role("textbox", name="Reply").first
    field.fill("I will read it on the train.")
    window.set_offline(True)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#connection")).to_have_text("Offline")
    expect(page.locator("#banner span")).to_be_visible()
    return page


def polling(stage: Stage, window: BrowserContext) -> Page:
    """Behind a proxy that lets no live updates through."""
    page = window.new_page()
    page.goto(f"{stage.misled}/{SPRING}")
    expect(page.locator("#connection")).to_have_text("Some seconds late", timeout=60_000)
    expect(page.get_by_role("link", name="Price list", exact=True)).to_be_visible()
    return page


def empty(stage: Stage, window: BrowserContext) -> Page:
    """A project in which nothing is yet."""
    found = stage.call("alice", "GET", "/projects?q=Summer")["items"]
    page = _live(stage, window, f"#/projects/{found[0]['id']}")
    expect(page.get_by_role("heading", name="Summer sale")).to_be_visible()
    return page


def diagnosis(stage: Stage, window: BrowserContext) -> Page:
    """What to change in nginx."""
    page = window.new_page()
    page.goto(f"{stage.misled}/diagnosis")
    page.wait_for_selector("body[data-done]", timeout=60_000)
    return page


def api(stage: Stage, window: BrowserContext) -> Page:
    """The reference of the API."""
    return _open(stage, window, "docs")


def elements(stage: Stage, window: BrowserContext) -> Page:
    """The custom elements on the page of another site."""
    page = window.new_page()
    page.goto(stage.host)
    expect(page.locator("copydesk-overview")).to_have_attribute("data-state", "live")
    expect(page.get_by_label("Status of Price list")).to_be_visible()
    expect(page.locator("copydesk-comments").get_by_text("We go live on a Tuesday")).to_be_visible()
    return page


def unsubscribe(stage: Stage, window: BrowserContext) -> Page:
    """Behind the link in a mail."""
    page = window.new_page()
    page.goto(stage.stop_link("bob", "mention"))
    return page


SCENES: dict[str, Scene] = {
    "sign-in": sign_in,
    "projects": projects,
    "bell": bell,
    "project": project,
    "item": item,
    "many": many,
    "preferences": preferences,
    "changes": changes,
    "empty": empty,
    "api": api,
    "unsubscribe": unsubscribe,
    "elements": elements,
    "diagnosis": diagnosis,
    "polling": polling,
    "offline": offline,
    "conflict": conflict,
    "colleague": colleague,
}
"""In an order in which none shows what another left behind."""


def _open(stage: Stage, window: BrowserContext, address: str) -> Page:
    page = window.new_page()
    page.goto(f"{stage.served.url}/{address}")
    return page


def _live(stage: Stage, window: BrowserContext, address: str) -> Page:
    page = _open(stage, window, address)
    expect(page.locator("#connection")).to_have_text("Live")
    return page


def _spring(stage: Stage, window: BrowserContext, address: str) -> Page:
    page = _live(stage, window, address)
    expect(page.get_by_role("link", name="Price list", exact=True)).to_be_visible()
    expect(page.get_by_role("tab", name="Comments")).to_be_visible()
    # Names and rights come a moment after the documents.
    expect(page.get_by_role("button", name="Edit Price list")).to_be_visible()
    return page


def _into_view(part: Locator, block: str = "center") -> None:
    part.evaluate("(part, block) => part.scrollIntoView({ block })", block)


def _after(page: Page, do: Callable[[], object]) -> None:
    page.once("close", lambda _page: do())


def _reset(stage: Stage) -> None:
    stage.call("alice", "PATCH", PRICES, {"name": "Price list"})
    stage.call("alice", "PATCH", f"{ITEMS}-3", {"status": "ready"})
