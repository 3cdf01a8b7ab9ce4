"""The log of changes on the edit page: what it says, older entries page by page, and new ones as they come."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Locator, Page, Route, expect

from app.protocol import CloseCode
from tests.browser.conftest import Complaints, OpenPage
from tests.browser.test_edit_page import add_item, comment_field, fits
from tests.conftest import Copydesk

TITLE = re.compile(r"\w+, .*\d{4}.*\d:\d\d")
"""A whole date with its weekday, and the time."""


def entries(page: Page) -> Locator:
    return page.get_by_role("list", name="Changes, newest first").get_by_role("listitem")


async def open_log(page: Page) -> None:
    await page.get_by_role("tab", name="Changes").click()


async def fill_log(copydesk: Copydesk, project: str, number: int) -> None:
    """So many old entries, number 0 the oldest."""
    began = datetime.now(UTC) - timedelta(days=3)
    await copydesk.database["activities"].insert_many(
        {
            "_id": f"old{index:03}",
            "project_id": project,
            "type": "item_removed",
            "actor": "alice",
            "at": began + timedelta(minutes=index),
            "data": {"name": f"Page {index}"},
        }
        for index in range(number)
    )


async def test_the_log_says_in_plain_sentences_what_was_done(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Spring")
    item = await add_item(copydesk, project, "Home page")
    path = f"/projects/{project}"
    bob = await open_page(copydesk, "bob", f"#{path}")
    await open_log(bob)
    await expect(entries(bob)).to_contain_text(["alice added Home page (Draft)", "alice created the project “Spring”"])

    await copydesk.call("PATCH", f"{path}/items/{item}", {"status": "in_review"})
    await expect(entries(bob).first).to_contain_text("alice moved Home page from Draft to In review")
    await expect(entries(bob).first.locator("time")).to_have_attribute("title", TITLE)
    await copydesk.call("PATCH", f"{path}/items/{item}", {"name": "Front page"}, user="bob")
    await expect(entries(bob).first).to_contain_text("Bob renamed an item to Front page")
    await copydesk.call("PATCH", path, {"description": "All of it", "labels": ["shop"]})
    await expect(entries(bob).first).to_contain_text("alice changed the description and labels of the project")
    said = await copydesk.call("POST", f"{path}/comments", {"body": "Done?", "item_id": item})
    await copydesk.call("PATCH", f"{path}/comments/{said['id']}", {"resolved": True})
    await expect(entries(bob).first).to_contain_text("alice resolved a thread on Front page")
    await copydesk.call("DELETE", f"{path}/comments/{said['id']}")
    await expect(entries(bob).first).to_contain_text("alice deleted a comment on Front page")
    members = [{"principal": "user:alice", "role": "owner"}, {"principal": "user:bob", "role": "editor"}]
    await copydesk.call("PATCH", path, {"members": members})
    await expect(entries(bob).first).to_contain_text("alice changed the members of the project")
    await copydesk.call("PATCH", path, {"archived": True})
    await expect(entries(bob).first).to_contain_text("alice archived the project")
    await copydesk.call("PATCH", path, {"archived": False})
    await expect(entries(bob).first).to_contain_text("alice took the project out of the archive")
    await copydesk.call("DELETE", f"{path}/items/{item}")
    await expect(entries(bob).first).to_contain_text("alice removed Front page")
    # What is gone is named, and leads nowhere.
    await expect(entries(bob).first.get_by_role("link")).to_have_count(0)


async def test_what_another_program_does_is_told_of_somebody_and_is_only_text(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await open_log(bob)
    await expect(entries(bob)).to_have_count(1)
    await copydesk.database["items"].insert_one(
        {
            "_id": "foreign",
            "project_id": project,
            "content": {"id": "9", "version": "1"},
            "name": nasty,
            "type": "page",
            "status": "draft",
        }
    )
    await expect(entries(bob).first).to_contain_text(f"Somebody added {nasty} (Draft)")
    await expect(bob.locator("main img[src='x']")).to_have_count(0)


async def test_an_item_has_its_own_log_and_an_entry_leads_to_its_thread(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project, "Home page")
    await add_item(copydesk, project, "News")
    said = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Done?", "item_id": item})
    await copydesk.call("PATCH", f"/projects/{project}/comments/{said['id']}", {"resolved": True})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await open_log(bob)
    await expect(entries(bob)).to_have_count(4)
    await bob.locator(".item").get_by_role("link", name="Home page", exact=True).click()
    await expect(entries(bob)).to_contain_text(["resolved a thread on Home page", "added Home page"])
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Summer"})
    await copydesk.call("PATCH", f"/projects/{project}/items/{item}", {"status": "ready"})
    await expect(entries(bob)).to_contain_text(["moved Home page", "resolved a thread", "added Home page"])
    await bob.get_by_role("link", name="a thread").click()
    await expect(bob.locator(".thread", has_text="Done?")).to_be_focused()
    await expect(bob.get_by_role("tab", name="Comments")).to_have_attribute("aria-selected", "true")


async def test_older_entries_come_page_by_page_and_new_ones_on_top(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    await fill_log(copydesk, project, 70)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await open_log(bob)
    await expect(entries(bob)).to_have_count(30)
    await expect(entries(bob).nth(1)).to_contain_text("alice removed Page 69")
    older = bob.get_by_role("button", name="Show older ones")
    await older.click()
    await expect(entries(bob)).to_have_count(60)
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Summer"})
    await expect(entries(bob)).to_have_count(61)
    await expect(entries(bob).first).to_contain_text("renamed the project to “Summer”")
    await older.press("Enter")
    await expect(entries(bob)).to_have_count(72)
    await expect(entries(bob).last).to_contain_text("alice removed Page 0")
    await expect(older).to_be_hidden()
    await expect(entries(bob).nth(61)).to_be_focused()
    numbers = [f"removed Page {number} " for number in range(69, -1, -1)]
    await expect(entries(bob)).to_contain_text(["renamed", "created", *numbers])


async def test_after_a_break_the_log_has_what_was_missed(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await open_log(bob)
    await expect(entries(bob)).to_have_count(1)
    copydesk.server.connections.close_where(lambda _connection: True, CloseCode.LOST)
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Summer"})
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Autumn"})
    await expect(entries(bob)).to_contain_text(["“Autumn”", "“Summer”", "created"])


async def test_of_a_project_that_is_taken_away_nothing_stays(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Secret plans")
    item = await add_item(copydesk, project, "Secret page")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}/items/{item}")
    await open_log(bob)
    await expect(entries(bob).first).to_contain_text("added Secret page")
    await copydesk.call("PATCH", f"/projects/{project}", {"visibility": "private"})
    await expect(bob.get_by_text("This project does not exist, or you may not see it.")).to_be_visible()
    assert "ecret" not in await bob.evaluate("document.documentElement.textContent + document.title")


@pytest.mark.parametrize("copydesk", [{"websockets_enabled": False, "fallback": "none"}], indirect=True)
async def test_where_updates_are_not_live_refresh_brings_new_entries(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await open_log(bob)
    await expect(entries(bob)).to_have_count(1)
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Summer"})
    while await copydesk.database["activities"].count_documents({}) < 2:  # noqa: ASYNC110 - asks MongoDB
        await asyncio.sleep(0.01)
    await bob.get_by_role("button", name="Refresh").click()
    await expect(entries(bob)).to_have_count(2)


async def test_a_log_that_cannot_be_read_says_so_and_is_tried_again(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_FAILED")
    project = await copydesk.project()
    await fill_log(copydesk, project, 40)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")

    async def fail(route: Route) -> None:
        await route.abort()

    await bob.route("**/activities?*", fail)
    await open_log(bob)
    await expect(bob.get_by_text("The changes could not be read.")).to_be_visible()
    await bob.unroute("**/activities?*")
    await bob.get_by_role("button", name="Try again").click()
    await expect(entries(bob)).to_have_count(30)
    await bob.route("**/activities?*", fail)
    await bob.get_by_role("button", name="Show older ones").click()
    await expect(bob.get_by_text("The changes could not be read.")).to_be_visible()
    await expect(entries(bob)).to_have_count(30)
    await bob.unroute("**/activities?*")
    await bob.get_by_role("button", name="Try again").click()
    await expect(entries(bob)).to_have_count(41)


async def test_the_tabs_are_worked_by_keyboard_and_keep_what_is_typed(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await comment_field(bob).fill("Half a thought")
    await bob.keyboard.press("Shift+Tab")
    await expect(bob.get_by_role("tab", name="Comments")).to_be_focused()
    await bob.keyboard.press("ArrowRight")
    changes = bob.get_by_role("tab", name="Changes")
    await expect(changes).to_be_focused()
    await expect(changes).to_have_attribute("aria-selected", "true")
    await expect(bob.get_by_role("tabpanel", name="Changes")).to_be_visible()
    await expect(comment_field(bob)).to_be_hidden()
    await bob.keyboard.press("Home")
    await expect(comment_field(bob)).to_have_value("Half a thought")


async def test_the_log_fits_on_a_narrow_screen(copydesk: Copydesk, open_page: OpenPage) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 5
    project = await copydesk.project(long)
    await add_item(copydesk, project, long)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}", width=360, height=640)
    await open_log(bob)
    await expect(entries(bob)).to_have_count(2)
    assert await fits(bob)
