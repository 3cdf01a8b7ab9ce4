"""The bell on the edit page in a real Chromium: two editors, and two tabs of one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.browser.conftest import Complaints, OpenPage
from tests.browser.test_edit_page import add_item, fits
from tests.conftest import Copydesk


def bell(page: Page) -> Locator:
    return page.locator(".bell > button")


def badge(page: Page) -> Locator:
    return page.locator(".badge")


def entries(page: Page) -> Locator:
    return page.locator(".entry")


def entry(page: Page, text: str) -> Locator:
    return page.locator(".entry", has_text=text)


async def open_list(page: Page) -> None:
    await bell(page).click()
    await expect(page.get_by_role("region", name="Notifications")).to_be_visible()


async def say(copydesk: Copydesk, project: str, body: str, **about: str) -> dict[str, Any]:
    """Comment as alice."""
    made: dict[str, Any] = await copydesk.call("POST", f"/projects/{project}/comments", {"body": body, **about})
    return made


async def second_tab(copydesk: Copydesk, page: Page, complaints: Complaints, address: str = "") -> Page:
    """Another page of the same user in the same browser."""
    other = await page.context.new_page()
    complaints.watch(other)
    await other.goto(f"{copydesk.url}/{address}")
    await expect(other.locator("#connection")).to_have_text("Live")
    return other


async def test_a_mention_reaches_the_others_badge_and_a_click_on_it_leads_to_the_thread(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project, "Home page")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}/items/{item}")
    bob = await open_page(copydesk, "bob")
    await expect(bob.locator("#connection")).to_have_text("Live")
    await expect(badge(bob)).to_have_text("")
    await alice.get_by_role("textbox", name="Write a comment").fill("@bob who writes the headline?")
    await alice.get_by_role("button", name="Comment").click()

    await expect(badge(bob)).to_have_text("1")
    await expect(bell(bob)).to_have_accessible_name("Notifications, 1 unread, 1 new")
    await expect(bob.locator("#announcer")).to_have_text(
        "New notification: Alice mentioned you, Home page.", timeout=10_000
    )
    await expect(badge(alice)).to_have_text("")

    await open_list(bob)
    told = entry(bob, "Alice mentioned you")
    await expect(told).to_contain_text("@bob who writes the headline?")
    await expect(told).to_contain_text("In Spring. You were mentioned.")
    await expect(told.locator("time")).to_contain_text("·")
    await told.get_by_role("link", name="Home page").click()
    await expect(entries(bob)).to_be_hidden()
    await expect(bob.get_by_role("heading", name="Home page", level=2)).to_be_visible()
    await expect(bob.locator(".thread", has_text="who writes the headline?")).to_be_focused()
    await expect(badge(bob)).to_have_text("")


async def test_looking_at_the_list_makes_entries_seen_and_leaves_them_unread(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    other = await second_tab(copydesk, bob, complaints)
    await say(copydesk, project, "@bob first")
    await expect(bell(bob)).to_have_accessible_name("Notifications, 1 unread, 1 new")
    await bob.bring_to_front()
    await open_list(bob)
    await expect(bell(bob)).to_have_accessible_name("Notifications, 1 unread")
    await expect(bell(other)).to_have_accessible_name("Notifications, 1 unread")

    await say(copydesk, project, "@bob second")
    await expect(entries(bob)).to_have_count(2)
    await expect(bell(bob)).to_have_accessible_name("Notifications, 2 unread")


async def test_what_is_read_in_one_tab_is_read_in_the_other(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    other = await second_tab(copydesk, bob, complaints)
    await say(copydesk, project, "@bob first")
    await say(copydesk, project, "@bob second")
    await expect(badge(other)).to_have_text("2")
    # A browser draws pages behind others once a second only, and a click waits for two drawings.
    await bob.bring_to_front()
    await open_list(bob)
    await entry(bob, "first").get_by_role("button", name="Mark read").click()
    await expect(badge(other)).to_have_text("1")
    await expect(badge(bob)).to_have_text("1")
    await entry(bob, "first").get_by_role("button", name="Mark unread").click()
    await expect(badge(other)).to_have_text("2")
    await other.bring_to_front()
    await open_list(other)
    await other.get_by_role("button", name="Mark all read").click()
    await expect(badge(bob)).to_have_text("")
    await expect(bob.locator(".entry[data-unread]")).to_have_count(0)


async def test_what_arrives_while_all_are_marked_stays_unread(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    await say(copydesk, project, "@bob first")
    await expect(badge(bob)).to_have_text("1")
    await open_list(bob)
    await expect(entries(bob)).to_have_count(1)
    await expect(bell(bob)).to_have_accessible_name("Notifications, 1 unread")
    go_on = asyncio.Event()

    async def hold(route: Route) -> None:
        await go_on.wait()
        await route.continue_()

    await bob.route("**/notifications/mark", hold)
    await bob.get_by_role("button", name="Mark all read").click()
    await say(copydesk, project, "@bob meanwhile")
    await expect(badge(bob)).to_have_text("2")
    go_on.set()
    await expect(badge(bob)).to_have_text("1")
    await expect(bob.locator(".entry[data-unread]")).to_contain_text(["meanwhile"])


async def test_an_archived_entry_leaves_the_list_and_comes_back(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    other = await second_tab(copydesk, bob, complaints)
    await say(copydesk, project, "@bob keep")
    await say(copydesk, project, "@bob put away")
    await expect(badge(bob)).to_have_text("2")
    for tab in (other, bob):
        await open_list(tab)
        await expect(entries(tab)).to_have_count(2)
    await bob.bring_to_front()
    await entry(bob, "put away").get_by_role("button", name="Archive").click()
    await expect(entries(bob)).to_have_count(1)
    await expect(entries(other)).to_have_count(1)
    await expect(badge(bob)).to_have_text("1")
    await bob.get_by_role("group", name="Show").get_by_role("button", name="Archived").click()
    await expect(entries(bob)).to_contain_text(["put away"])
    await entry(bob, "put away").get_by_role("button", name="Back to the inbox").click()
    await expect(bob.get_by_text("Nothing is archived.")).to_be_visible()
    await bob.get_by_role("group", name="Show").get_by_role("button", name="All", exact=True).click()
    await expect(entries(bob)).to_contain_text(["put away", "keep"])
    await expect(badge(bob)).to_have_text("2")


async def test_the_list_can_be_narrowed_to_the_unread_a_type_or_a_project(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    spring, autumn = await copydesk.project("Spring"), await copydesk.project("Autumn")
    item = await add_item(copydesk, autumn, "Catalogue")
    bob = await open_page(copydesk, "bob")
    await say(copydesk, spring, "@bob one")
    await say(copydesk, autumn, "@bob two")
    await copydesk.call("PATCH", f"/projects/{autumn}/items/{item}", {"assignee": "bob"})
    await expect(badge(bob)).to_have_text("3")
    await open_list(bob)
    await expect(entries(bob)).to_contain_text(["assigned this to you", "two", "one"])
    await bob.get_by_label("Project", exact=True).select_option("Autumn")
    await expect(entries(bob)).to_contain_text(["assigned this to you", "two"])
    await bob.get_by_label("Type", exact=True).select_option("Mentions")
    await expect(entries(bob)).to_contain_text(["two"])
    await bob.get_by_role("button", name="Mark these read").click()
    await expect(badge(bob)).to_have_text("2")
    await bob.get_by_role("button", name="Unread", exact=True).click()
    await expect(bob.get_by_text("Nothing matches.")).to_be_visible()
    await bob.get_by_label("Type", exact=True).select_option("All types")
    await bob.get_by_label("Project", exact=True).select_option("All projects")
    await expect(entries(bob)).to_contain_text(["assigned this to you", "one"])


async def test_older_entries_are_read_when_asked_for(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    for number in range(32):
        await say(copydesk, project, f"@bob remark {number}.")
    bob = await open_page(copydesk, "bob")
    await expect(badge(bob)).to_have_text("32")
    await open_list(bob)
    await expect(entries(bob)).to_have_count(30)
    await bob.get_by_role("button", name="Show older ones").click()
    await expect(entries(bob)).to_have_count(32)
    await expect(entries(bob).last).to_contain_text("remark 0.")
    await expect(bob.get_by_role("button", name="Show older ones")).to_be_hidden()
    await expect(entries(bob).nth(30).get_by_role("link")).to_be_focused()


async def test_muting_a_project_in_an_entry_stops_what_was_followed_and_not_mentions(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.get_by_role("button", name="Follow this project").click()
    await expect(bob.get_by_role("button", name="Follow this project")).to_have_attribute("aria-pressed", "true")
    await say(copydesk, project, "A remark")
    await expect(badge(bob)).to_have_text("1")
    await open_list(bob)
    await expect(entry(bob, "Alice commented")).to_contain_text("You follow this project.")
    await entry(bob, "A remark").get_by_role("button", name="Mute this project").click()
    await expect(entry(bob, "A remark").get_by_role("button", name="Unmute this project")).to_be_visible()
    await say(copydesk, project, "Another remark")
    await say(copydesk, project, "@bob you are needed")
    await expect(badge(bob)).to_have_text("2")
    await expect(entries(bob)).to_contain_text(["you are needed", "A remark"])
    await bob.keyboard.press("Escape")
    await expect(bob.get_by_role("button", name="Mute this project")).to_have_attribute("aria-pressed", "true")


async def test_projects_items_and_threads_are_followed_and_muted_where_they_are(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project)
    thread = (await say(copydesk, project, "First", item_id=item))["thread_id"]
    bob = await open_page(copydesk, "bob", f"#/projects/{project}/items/{item}")
    for name, pressed in (("Follow this item", True), ("Mute this thread", True), ("Follow this project", True)):
        button = bob.get_by_role("button", name=name)
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", str(pressed).lower())
    await bob.reload()
    await expect(bob.get_by_role("button", name="Follow this item")).to_have_attribute("aria-pressed", "true")
    await expect(bob.get_by_role("button", name="Mute this thread")).to_have_attribute("aria-pressed", "true")
    await bob.get_by_role("button", name="Mute this project").click()
    await expect(bob.get_by_role("button", name="Follow this project")).to_have_attribute("aria-pressed", "false")
    await expect(bob.locator(".conversation").get_by_text("Muted with the project.")).to_be_visible()
    await bob.get_by_role("button", name="Follow this item").click()
    await expect(bob.get_by_role("button", name="Follow this item")).to_have_attribute("aria-pressed", "false")
    rows = (await copydesk.call("GET", "/subscriptions", user="bob"))["items"]
    assert {(row["subject"], row["level"]) for row in rows} == {
        (f"thread:{thread}", "mute"),
        (f"project:{project}", "mute"),
    }


async def test_whoever_writes_in_a_thread_is_shown_to_follow_it(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.get_by_role("textbox", name="Write a comment").fill("My thread")
    await bob.get_by_role("button", name="Comment").click()
    await expect(bob.get_by_role("button", name="Follow this thread")).to_have_attribute(
        "aria-pressed", "true", timeout=10_000
    )


async def test_opening_an_item_reads_what_the_bell_says_of_it(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project, "Home page", assignee="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await say(copydesk, project, "@bob about the item", item_id=item)
    await say(copydesk, project, "@bob about the project")
    await expect(badge(bob)).to_have_text("3")
    await bob.get_by_role("link", name="on Home page").click()
    await expect(badge(bob)).to_have_text("1")
    await bob.get_by_role("link", name="About this project").click()
    await bob.get_by_role("textbox", name="Reply").focus()
    await expect(badge(bob)).to_have_text("")


async def test_entries_of_a_project_that_is_taken_away_vanish(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Secret plans")
    bob = await open_page(copydesk, "bob")
    await say(copydesk, project, "@bob a secret")
    await say(copydesk, project, "@bob an old secret")
    await expect(badge(bob)).to_have_text("2")
    await open_list(bob)
    await expect(entry(bob, "a secret")).to_be_visible()
    await entry(bob, "an old secret").get_by_role("button", name="Archive").click()
    await expect(badge(bob)).to_have_text("1")
    # A fresh page holds the archived one only because it was read over REST.
    await bob.reload()
    await expect(badge(bob)).to_have_text("1")
    await open_list(bob)
    await bob.get_by_role("group", name="Show").get_by_role("button", name="Archived").click()
    await expect(entry(bob, "an old secret")).to_be_visible()
    await copydesk.call("PATCH", f"/projects/{project}", {"visibility": "private"})
    await expect(badge(bob)).to_have_text("")
    await expect(bob.get_by_text("Nothing is archived.")).to_be_visible()
    assert "ecret" not in await bob.evaluate("document.documentElement.textContent")


async def test_a_message_of_a_program_is_only_text_and_its_link_opens_beside_the_page(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    nasty = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    bob = await open_page(copydesk, "bob")
    message = {"recipients": {"users": ["bob"]}, "title": nasty, "body": nasty, "category": nasty}
    sender = {"user": "job", "roles": ("service",)}
    await copydesk.call("POST", "/notifications", {**message, "link": "https://cms.example/jobs/1"}, **sender)
    await copydesk.call("POST", "/notifications", {**message, "title": "No link"}, **sender)
    await expect(badge(bob)).to_have_text("2")
    await open_list(bob)
    link = bob.get_by_role("link", name=nasty)
    await expect(link).to_have_attribute("href", "https://cms.example/jobs/1")
    await expect(link).to_have_attribute("target", "_blank")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(entry(bob, "No link")).to_contain_text("It was sent to you")
    await expect(entry(bob, "No link").get_by_role("link")).to_have_count(0)
    await expect(bob.locator(".bell script, .bell img")).to_have_count(0)


async def test_the_bell_can_be_used_by_keyboard_alone(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    for text in ("first", "second", "third"):
        await say(copydesk, project, f"@bob {text}")
    await expect(badge(bob)).to_have_text("3")
    for _step in range(5):
        await bob.keyboard.press("Tab")
        if await bell(bob).evaluate("button => button === document.activeElement"):
            break
    await expect(bell(bob)).to_be_focused()
    await expect(bell(bob)).to_have_attribute("aria-expanded", "false")
    await bob.keyboard.press("Enter")
    await expect(bell(bob)).to_have_attribute("aria-expanded", "true")
    await expect(entries(bob)).to_have_count(3)
    await bob.keyboard.press("ArrowDown")
    await expect(entry(bob, "third").get_by_role("link")).to_be_focused()
    await bob.keyboard.press("ArrowDown")
    await bob.keyboard.press("Tab")
    read = entry(bob, "second").get_by_role("button", name="Mark read")
    await expect(read).to_be_focused()

    # What arrives meanwhile does not take the focus away.
    await say(copydesk, project, "@bob fourth")
    await expect(entries(bob)).to_have_count(4)
    await expect(read).to_be_focused()
    await bob.keyboard.press("Enter")
    await expect(badge(bob)).to_have_text("3")
    await bob.keyboard.press("Tab")
    await bob.keyboard.press("Enter")
    await expect(entries(bob)).to_have_count(3)
    await expect(entry(bob, "first").get_by_role("link")).to_be_focused()
    await bob.keyboard.press("Escape")
    await expect(bell(bob)).to_be_focused()
    await expect(entries(bob).first).to_be_hidden()


async def test_going_on_by_keyboard_or_by_a_click_elsewhere_closes_the_list(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    bob = await open_page(copydesk, "bob")
    await open_list(bob)
    await bob.get_by_role("heading", name="Projects").click()
    await expect(bell(bob)).to_have_attribute("aria-expanded", "false")
    await open_list(bob)
    await bob.get_by_role("button", name="Sign out").focus()
    await expect(bell(bob)).to_have_attribute("aria-expanded", "false")


async def test_a_list_that_cannot_be_read_says_so_and_can_be_tried_again(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_FAILED")
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    await say(copydesk, project, "@bob still here")
    await expect(badge(bob)).to_have_text("1")
    await bob.route("**/notifications**", lambda route: route.abort())
    await open_list(bob)
    await expect(bob.get_by_text("The list could not be read. The server cannot be reached.")).to_be_visible()
    await expect(entry(bob, "still here")).to_be_visible()
    await bob.route("**/notifications/*", lambda route: route.abort())
    await entry(bob, "still here").get_by_role("button", name="Archive").click()
    await expect(bob.get_by_text("Nothing was changed. The server cannot be reached.")).to_be_visible()
    await bob.unroute("**/notifications**")
    await bob.unroute("**/notifications/*")
    await bob.get_by_role("button", name="Try again").click()
    await expect(bob.get_by_text("The list could not be read.")).to_be_hidden()
    await expect(entries(bob)).to_have_count(1)


@pytest.mark.parametrize("copydesk", [{"websockets_enabled": False, "fallback": "none"}], indirect=True)
async def test_the_bell_works_where_updates_are_not_live(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob")
    await expect(bob.get_by_text("Updates are not live.")).to_be_visible()
    await say(copydesk, project, "@bob by hand")

    async def refresh_until_told() -> None:
        while await badge(bob).text_content() != "1":
            await bob.get_by_role("button", name="Refresh").click()
            await expect(bob.get_by_role("button", name="Refresh", exact=True)).to_be_visible()

    await asyncio.wait_for(refresh_until_told(), 20)
    await open_list(bob)
    await entry(bob, "by hand").get_by_role("button", name="Mark read").click()
    await expect(badge(bob)).to_have_text("")


async def test_preferences_survive_a_reload(copydesk: Copydesk, open_page: OpenPage) -> None:
    bob = await open_page(copydesk, "bob")
    await open_list(bob)
    await bob.get_by_role("link", name="Preferences").click()
    await expect(bob.get_by_role("heading", name="Notification preferences")).to_be_visible()
    await bob.get_by_label("Comments by e-mail").select_option("Once a day")
    await bob.get_by_label("Status changes in the bell").uncheck()
    await bob.get_by_label("Quiet hours").check()
    await bob.get_by_label("From").fill("21:30")
    await bob.get_by_label("Time zone").fill("Europe/Stockholm")
    await bob.get_by_role("button", name="Save").click()
    await expect(bob.get_by_text("Saved.")).to_be_visible()
    await bob.reload()
    await expect(bob.get_by_label("Comments by e-mail")).to_have_value("daily")
    await expect(bob.get_by_label("Mentions by e-mail")).to_have_value("now")
    await expect(bob.get_by_label("Status changes in the bell")).not_to_be_checked()
    await expect(bob.get_by_label("From")).to_have_value("21:30")
    await expect(bob.get_by_label("To", exact=True)).to_have_value("07:00")
    await expect(bob.get_by_label("Time zone")).to_have_value("Europe/Stockholm")
    await bob.get_by_label("Quiet hours").uncheck()
    await bob.get_by_role("button", name="Save").click()
    await expect(bob.get_by_text("Saved.")).to_be_visible()
    assert "quiet_hours" not in await copydesk.call("GET", "/preferences", user="bob")


async def test_what_is_wrong_with_preferences_stands_at_the_field(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("422 (Unprocessable")
    bob = await open_page(copydesk, "bob", "#/preferences")
    await bob.get_by_label("Time zone").fill("Mars/Phobos")
    await bob.get_by_role("button", name="Save").click()
    zone = bob.get_by_label("Time zone")
    await expect(zone).to_be_focused()
    await expect(zone).to_have_attribute("aria-invalid", "true")
    await expect(zone).to_have_accessible_description(
        "Expected a time zone of the IANA database, such as Europe/Stockholm"
    )
    await expect(bob.get_by_text("Nothing was saved.")).to_be_visible()
    await zone.fill("Europe/Stockholm")
    await bob.get_by_label("Quiet hours").check()
    await bob.get_by_label("From").fill("07:00")
    await bob.get_by_role("button", name="Save").click()
    await expect(bob.get_by_text("Expected `from` and `to` to differ")).to_be_visible()
    await expect(zone).not_to_have_attribute("aria-invalid", "true")


async def test_the_bell_and_the_preferences_fit_a_narrow_screen(copydesk: Copydesk, open_page: OpenPage) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 5
    project = await copydesk.project(long)
    bob = await open_page(copydesk, "bob", width=360, height=640)
    await say(copydesk, project, f"@bob {long}")
    await expect(badge(bob)).to_have_text("1")
    await open_list(bob)
    await expect(entry(bob, long)).to_be_visible()
    assert await fits(bob)
    panel = bob.get_by_role("region", name="Notifications")
    assert await panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    unnamed = await bob.evaluate(
        """[...document.querySelectorAll(".bell :is(a[href], button, select)")]
             .filter((element) => element.checkVisibility())
             .filter((element) => !(element.ariaLabel || element.textContent.trim()))
             .map((element) => element.outerHTML)"""
    )
    assert unnamed == []
    await bob.get_by_role("link", name="Preferences").click()
    await expect(bob.get_by_role("button", name="Save")).to_be_visible()
    assert await fits(bob)
