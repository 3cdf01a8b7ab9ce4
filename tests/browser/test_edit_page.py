"""The edit page in a real Chromium, with colleagues who change things meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect

from app.protocol import CloseCode
from tests.browser.conftest import PASSWORD, Complaints, OpenPage
from tests.conftest import Copydesk

NOT_SIGNED_IN = "401 (Unauthorized)"


async def add_item(copydesk: Copydesk, project: str, name: str = "Home page", **fields: Any) -> str:
    item = {"content": {"id": name, "version": "1"}, "name": name, **fields}
    made: str = (await copydesk.call("POST", f"/projects/{project}/items", item))["id"]
    return made


@pytest.fixture
def without_websockets(start_server: Callable[..., Copydesk]) -> Copydesk:
    """A server whose operator switched WebSockets off, and wants nothing else in their place."""
    return start_server(websockets_enabled=False, fallback="none")


def comment_field(page: Page) -> Any:
    return page.get_by_role("textbox", name="Write a comment")


def reply_field(page: Page) -> Any:
    return page.get_by_role("textbox", name="Reply")


async def test_somebody_signs_in_and_finds_the_projects(
    copydesk: Copydesk, browser: Browser, complaints: Complaints, make_user: Callable[..., Awaitable[None]]
) -> None:
    await copydesk.project("Spring launch", labels=["shop"])
    await make_user(copydesk, "bob")
    page = await browser.new_page()
    complaints.watch(page)
    complaints.expected.append(NOT_SIGNED_IN)
    await page.goto(copydesk.url)

    await expect(page.get_by_label("Name")).to_be_focused()
    await page.get_by_label("Name").fill("bob")
    await page.get_by_label("Password").fill("not the password")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("link", name="Spring launch")).to_be_visible()
    await expect(page.locator("#user")).to_have_text("Bob")
    await expect(page.locator("#connection")).to_have_text("Live")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.get_by_text("Spring launch")).to_have_count(0)


async def test_a_new_project_and_a_new_name_appear_in_the_list(copydesk: Copydesk, open_page: OpenPage) -> None:
    page = await open_page(copydesk, "bob")
    await expect(page.get_by_text("There are no projects")).to_be_visible()
    project = await copydesk.project("Spring")
    await expect(page.get_by_role("link", name="Spring")).to_be_visible()
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Summer"})
    await expect(page.get_by_role("link", name="Summer")).to_be_visible()
    await copydesk.call("PATCH", f"/projects/{project}", {"visibility": "private"})
    await expect(page.get_by_text("There are no projects")).to_be_visible()


async def test_a_comment_of_one_editor_appears_at_the_other(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await comment_field(bob).fill("Who writes the headline?")
    await comment_field(bob).press("Control+Enter")

    arrived = alice.locator(".comment", has_text="Who writes the headline?")
    await expect(arrived).to_be_visible()
    await expect(arrived).to_have_attribute("data-fresh", "")
    await expect(comment_field(bob)).to_have_value("")
    await expect(bob.locator(".comment")).to_have_count(1)
    await expect(bob.locator(".comment[data-fresh]")).to_have_count(0)

    await reply_field(alice).fill("I do.")
    await alice.get_by_role("button", name="Reply").click()
    await expect(bob.locator(".thread .body")).to_have_text(["Who writes the headline?", "I do."])


async def test_a_status_change_appears_at_the_other_editor_and_is_marked(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    await add_item(copydesk, project, "Home page")
    await add_item(copydesk, project, "News")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    status = bob.get_by_label("Status of Home page")
    # Hidden until it is known what bob may do; what is hidden cannot be focused.
    await expect(status).to_be_visible()
    await status.focus()
    await status.select_option("in_review")

    await expect(alice.get_by_label("Status of Home page")).to_have_value("in_review")
    await expect(alice.locator(".item[data-fresh]")).to_have_count(1)
    await expect(alice.get_by_role("list", name="Items by status")).to_have_text("1 draft1 in review")
    await expect(status).to_have_value("in_review")
    await expect(status).to_be_focused()
    await expect(alice.locator("#announcer")).to_have_text("Bob changed Home page: In review.", timeout=10_000)


async def test_only_a_publisher_is_offered_to_publish(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    await add_item(copydesk, project)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    published = bob.get_by_label("Status of Home page").locator("option[value=published]")
    await expect(published).to_be_disabled()
    grants = [{"principal": "user:alice", "role": "owner"}, {"principal": "user:bob", "role": "publisher"}]
    await copydesk.call("PATCH", f"/projects/{project}", {"members": grants})
    await expect(published).to_be_enabled()


async def test_a_viewer_can_only_look(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project(visibility="private", members=[{"principal": "user:bob", "role": "viewer"}])
    await add_item(copydesk, project)
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "First"})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_text("First")).to_be_visible()
    await expect(bob.locator(".item .status")).to_have_text("Draft")
    await expect(bob.locator("select:visible, textarea:visible")).to_have_count(0)
    await expect(bob.get_by_role("button", name="Resolve")).to_have_count(0)


async def test_what_is_being_typed_survives_events(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    first = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "First"})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    reply = reply_field(bob)
    await reply.fill("Half a thought")
    await reply.evaluate("field => field.setSelectionRange(5, 6)")

    thread = first["thread_id"]
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Second", "thread_id": thread})
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Another thread"})
    await copydesk.call("PATCH", f"/projects/{project}/comments/{thread}", {"resolved": True})
    await expect(bob.get_by_text("resolved by")).to_be_visible()
    await expect(bob.get_by_text("Another thread")).to_be_visible()

    reply = bob.locator(".thread", has_text="First").get_by_role("textbox", name="Reply")
    await expect(reply).to_be_focused()
    await expect(reply).to_have_value("Half a thought")
    assert await reply.evaluate("field => [field.selectionStart, field.selectionEnd]") == [5, 6]

    await bob.reload()
    await expect(bob.locator(".thread", has_text="First").get_by_role("textbox", name="Reply")).to_have_value(
        "Half a thought"
    )


async def test_a_comment_that_may_not_have_arrived_is_kept_and_retry_writes_it_once(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_FAILED")
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")

    async def lose_the_answer(route: Route) -> None:
        if route.request.method == "POST":
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await bob.route("**/comments", lose_the_answer)
    await comment_field(bob).fill("Only once, please")
    await bob.get_by_role("button", name="Comment").click()
    await expect(bob.get_by_role("alert").filter(has_text="Not sent.")).to_be_visible()
    await expect(comment_field(bob)).to_have_value("Only once, please")
    await bob.unroute("**/comments")
    await bob.get_by_role("button", name="Retry").click()
    await expect(comment_field(bob)).to_have_value("")
    await expect(bob.locator(".body")).to_have_text(["Only once, please"])
    assert await copydesk.database["comments"].count_documents({}) == 1


async def test_threads_are_resolved_and_reopened(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    first = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "First"})
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "A reply", "thread_id": first["id"]})
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(alice.get_by_text("A reply")).to_be_visible()
    await bob.get_by_role("button", name="Resolve").click()
    await expect(alice.get_by_text("resolved by Bob")).to_be_visible()
    await expect(alice.get_by_text("A reply")).to_be_hidden()
    await alice.get_by_role("button", name="Show 1 more").click()
    await expect(alice.get_by_text("A reply")).to_be_visible()
    await alice.get_by_role("button", name="Reopen").click()
    await expect(bob.get_by_text("resolved by")).to_be_hidden()
    await expect(bob.get_by_role("button", name="Resolve")).to_be_visible()


async def test_an_item_has_its_own_conversation_and_address(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project)
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "About all of it"})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_text("About all of it")).to_be_visible()
    await bob.get_by_role("link", name="No comments on Home page").click()
    await expect(bob.get_by_role("heading", name="Home page", level=2)).to_be_focused()
    await expect(bob.get_by_text("About all of it")).to_have_count(0)
    await comment_field(bob).fill("About the home page")
    await bob.get_by_role("button", name="Comment").click()
    await expect(bob.get_by_role("link", name="1 open, 1 comment on Home page")).to_be_visible()

    other = await open_page(copydesk, "alice", f"#/projects/{project}/items/{item}")
    await expect(other.get_by_text("About the home page")).to_be_visible()
    await copydesk.call("DELETE", f"/projects/{project}/items/{item}")
    await expect(other.get_by_role("heading", name="This item was removed")).to_be_visible()
    await expect(other.locator(".item")).to_have_count(0)


async def test_what_another_program_writes_appears_and_is_only_text(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator("#connection")).to_have_text("Live")
    nasty = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    seen = await copydesk.database["projects"].find_one({"_id": project})
    await copydesk.database["comments"].insert_one(
        {"_id": "foreign", "project_id": project, "body": nasty, "author": "cms", "created_at": seen["created_at"]}
    )
    await copydesk.database["items"].insert_one(
        {
            "_id": "foreign",
            "project_id": project,
            "content": {"id": "9", "version": "1"},
            "name": nasty,
            "type": nasty,
            "status": "draft",
        }
    )
    await expect(bob.locator(".body")).to_have_text(nasty)
    await expect(bob.locator(".item h3")).to_have_text(nasty)
    await expect(bob.locator("main script, main img[src='x']")).to_have_count(0)


async def test_a_project_that_is_taken_away_leaves_nothing_on_the_page(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Secret plans")
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "A secret"})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_text("A secret")).to_be_visible()
    await copydesk.call("PATCH", f"/projects/{project}", {"visibility": "private"})
    await expect(bob.get_by_text("This project does not exist, or you may not see it.")).to_be_visible()
    text = await bob.evaluate("document.documentElement.textContent + document.title")
    assert "ecret" not in text


async def test_after_a_break_the_page_has_what_it_missed(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator("#connection")).to_have_text("Live")
    copydesk.server.connections.close_where(lambda _connection: True, CloseCode.LOST)
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Meanwhile"})
    await expect(bob.get_by_text("Meanwhile")).to_be_visible()
    await expect(bob.locator("#connection")).to_have_text("Live")


async def test_without_websockets_the_page_says_so_and_has_a_refresh_button(
    without_websockets: Copydesk, open_page: OpenPage
) -> None:
    copydesk = without_websockets
    project = await copydesk.project()
    await add_item(copydesk, project)
    attempts: list[str] = []
    bob = await open_page(copydesk, "bob")
    bob.on("websocket", lambda socket: attempts.append(socket.url))
    await bob.reload()
    await expect(bob.get_by_text("Updates are not live.")).to_be_visible()
    await bob.get_by_role("link", name="Spring").click()
    await expect(bob.locator(".item")).to_have_count(1)
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "A colleague's"})
    await bob.get_by_role("button", name="Refresh").click()
    await expect(bob.get_by_text("A colleague's")).to_be_visible()
    assert attempts == []


@pytest.mark.parametrize("copydesk", [{"fallback": "none"}], indirect=True)
async def test_when_websockets_are_switched_off_the_open_page_goes_on_by_hand(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    await add_item(copydesk, project)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator("#connection")).to_have_text("Live")
    settings = {"user": "root", "roles": ("admin",)}
    await copydesk.call("PATCH", "/admin/settings", {"websockets_enabled": False}, **settings)
    await expect(bob.get_by_text("Updates are not live.")).to_be_visible()
    await expect(bob.locator("#connection")).to_have_text("Not live")

    await comment_field(bob).fill("My own comment")
    await bob.get_by_role("button", name="Comment").click()
    await expect(bob.locator(".body")).to_have_text(["My own comment"])
    await bob.get_by_label("Status of Home page").select_option("ready")
    await expect(bob.get_by_role("list", name="Items by status")).to_have_text("1 ready")
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "A colleague's"})
    await expect(bob.get_by_text("A colleague's")).to_have_count(0)
    await bob.get_by_role("button", name="Refresh").click()
    await expect(bob.get_by_text("A colleague's")).to_be_visible()

    await copydesk.call("PATCH", "/admin/settings", {"websockets_enabled": True}, **settings)
    await bob.get_by_role("button", name="Refresh").click()
    await expect(bob.locator("#connection")).to_have_text("Live")
    await expect(bob.get_by_role("button", name="Refresh")).to_have_count(0)


@pytest.mark.parametrize(
    ("copydesk", "word"),
    [
        ({"websockets_enabled": False, "fallback": "sse"}, "Live"),
        ({"websockets_enabled": False, "fallback": "poll", "poll_seconds": 1}, "Some seconds late"),
    ],
    indirect=["copydesk"],
    ids=["sse", "poll"],
)
async def test_where_websockets_are_switched_off_updates_come_another_way_and_the_page_says_why(
    copydesk: Copydesk, open_page: OpenPage, word: str
) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator("#connection")).to_have_text(word)
    why = bob.get_by_role("link", name="WebSockets are switched off on this server")
    await expect(why).to_have_attribute("href", f"{copydesk.url}/diagnosis")
    await expect(bob.get_by_text("Updates are not live.")).to_have_count(0)
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "A colleague's"})
    await expect(bob.get_by_text("A colleague's")).to_be_visible(timeout=15_000)


@pytest.mark.parametrize("copydesk", [{"fallback": "none"}], indirect=True)
async def test_where_sockets_do_not_get_through_the_page_says_so_and_shows_what_it_can(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    await bob.add_init_script(
        """
        window.WebSocket = class {
          static OPEN = 1;
          constructor() { setTimeout(() => this.onclose?.({ code: 1006 })); }
          close() {}
        };
        """
    )
    await bob.goto(f"{copydesk.url}/#/projects/{project}")
    await bob.reload()
    await expect(bob.get_by_role("heading", name="Spring")).to_be_visible()
    await expect(bob.get_by_text("Live updates do not get through")).to_be_visible(timeout=20_000)
    await expect(bob.get_by_role("link", name="Help")).to_have_attribute("href", "/docs#behind-nginx")
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "A colleague's"})
    await bob.get_by_role("button", name="Refresh").click()
    await expect(bob.get_by_text("A colleague's")).to_be_visible()


async def test_a_session_that_ends_elsewhere_asks_to_sign_in_and_keeps_the_draft(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await comment_field(bob).fill("Not finished")
    await bob.context.request.delete(f"{copydesk.url}/api/v1/session", headers={"Origin": copydesk.url})
    await expect(bob.get_by_text("Your session is over.")).to_be_visible()
    await bob.get_by_label("Name").fill("bob")
    await bob.get_by_label("Password").fill(PASSWORD)
    await bob.keyboard.press("Enter")
    await expect(comment_field(bob)).to_have_value("Not finished")


async def test_times_are_told_in_the_readers_zone_and_nothing_moves_for_whoever_wants_that(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project)
    new_year = {"created_at": datetime(2020, 1, 1, 3, 0, tzinfo=UTC), "author": "bob", "body": "Happy new year"}
    await copydesk.database["comments"].insert_one({"_id": "c", "project_id": project, **new_year})
    wishes = {"locale": "en-GB", "reduced_motion": "reduce"}
    places = (("carol", "Asia/Tokyo", "1 Jan 2020"), ("dave", "America/New_York", "31 Dec 2019"))
    for user, zone, day in places:
        page = await open_page(copydesk, user, f"#/projects/{project}", timezone_id=zone, **wishes)
        await expect(page.locator(".comment time")).to_have_text(day)
    await copydesk.call("PATCH", f"/projects/{project}/items/{item}", {"name": "Another name"})
    await expect(page.locator(".item[data-fresh]")).to_contain_text("Another name")
    assert await page.evaluate("document.getAnimations().length") == 0


async def test_nothing_scrolls_sideways_on_a_narrow_screen(copydesk: Copydesk, open_page: OpenPage) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 5
    project = await copydesk.project(long, description=long, labels=[long[:40]])
    item = await add_item(copydesk, project, long, type=long)
    for about in ({}, {"item_id": item}):
        await copydesk.call("POST", f"/projects/{project}/comments", {"body": long, **about})
    bob = await open_page(copydesk, "bob", width=360, height=640)
    await expect(bob.get_by_role("link", name=long)).to_be_visible()
    assert await fits(bob)
    await bob.goto(f"{copydesk.url}/#/projects/{project}/items/{item}")
    await expect(bob.locator(".body")).to_be_visible()
    assert await fits(bob)


async def fits(page: Page) -> bool:
    """Whether the page is no wider than its window."""
    answer: bool = await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    return answer


async def test_everything_can_be_reached_and_named_by_keyboard_and_screen_reader(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    await add_item(copydesk, project)
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "First"})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_role("button", name="Resolve")).to_be_visible()
    await expect(bob.get_by_role("main")).to_have_count(1)
    await expect(bob.get_by_role("banner")).to_have_count(1)
    await expect(bob.get_by_role("heading", level=1)).to_have_text("Spring")
    await expect(bob.get_by_role("region", name="About this project")).to_be_visible()
    unnamed = await bob.evaluate(
        """[...document.querySelectorAll("a, button, select, textarea, input")]
             .filter((element) => element.checkVisibility())
             .filter((element) => !(element.ariaLabel || element.textContent.trim() || element.labels?.length))
             .map((element) => element.outerHTML)"""
    )
    assert unnamed == []

    reached = []
    for _step in range(30):
        await bob.keyboard.press("Tab")
        reached.append(await bob.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))
    for name in ("Skip to content", "Sign out", "All projects", "Home page", "Status of Home page", "Write a comment"):
        assert name in reached, reached
