"""Markup in any text that somebody stores is shown as text: no script runs, and the policy has nothing to stop."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from playwright.async_api import Page, Route, expect

from tests.browser.conftest import Complaints, OpenPage
from tests.conftest import Copydesk

NASTY = (
    "\"'><img src=x onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)></svg>"
    '<a href="javascript:alert(4)">x</a><iframe srcdoc="<script>alert(5)</script>"></iframe>'
)
# What an address may be is checked: one of another kind hides what has it.
ADDRESS = "/'\"onclick=alert(6)//<script>alert(7)</script>"
# Counted in each document from its beginning.
_COUNT = "window.reports = []; addEventListener('securitypolicyviolation', (event) => reports.push(event.blockedURI));"


async def store_everywhere(copydesk: Copydesk) -> str:
    """As another program would, past all checks: markup in every field that is shown. The project's id."""
    project = await copydesk.project(NASTY[:255], description=NASTY, labels=[NASTY[:40]])
    now = datetime.now(UTC)
    await copydesk.database["users"].insert_one({"_id": "mallory", "name": NASTY, "roles": ["editor"]})
    item = {
        "_id": "item",
        "project_id": project,
        "content": {"id": NASTY, "version": NASTY},
        "name": NASTY,
        "type": NASTY,
        "language": "en",
        "path": NASTY,
        "url": ADDRESS,
        "thumbnail_url": ADDRESS,
        "assignee": "mallory",
        "status": "draft",
        "rank": 1,
        "version": 1,
        "changed_by": "mallory",
        "changed_at": now,
    }
    await copydesk.database["items"].insert_one(item)
    await copydesk.database["items"].update_one(
        {"_id": "item"}, {"$set": {"name": NASTY + "!"}, "$inc": {"version": 1}}
    )
    comment = {"project_id": project, "author": "mallory", "body": f"@bob {NASTY}", "created_at": now, "version": 1}
    anchor = {"property": NASTY[:255], "quote": NASTY}
    await copydesk.database["comments"].insert_many(
        [comment | {"_id": "about-all", "anchor": anchor}, comment | {"_id": "about-item", "item_id": "item"}]
    )
    recipients = {"users": ["bob"]}
    message = {"recipients": recipients, "title": NASTY[:200], "body": NASTY, "link": "https://cms.example/"}
    answer = await copydesk.request("POST", "/notifications", message, roles=("service",))
    assert answer.code < 300, answer.body
    return project


async def visit_everything(page: Page, copydesk: Copydesk, project: str) -> None:
    """Every place of the edit page and every element that shows what is stored."""
    await page.goto(copydesk.url)
    await expect(page.locator(".card")).to_contain_text("onerror=alert(1)")
    await page.goto(f"{copydesk.url}/#/projects/{project}/items/item")
    await expect(page.locator(".thread .body")).to_contain_text("onerror=alert(1)")
    await expect(page.locator(".item .changed")).to_contain_text("onerror=alert(1)")
    await page.get_by_role("button", name="Edit", exact=False).filter(has=page.locator("svg")).first.click()
    await expect(page.get_by_role("form").get_by_label("Type")).to_have_value(NASTY)
    await page.keyboard.press("Escape")
    await page.get_by_role("textbox", name="Write a comment").press_sequentially("@")
    await expect(page.locator(".mentions li", has_text="onerror=alert(1)")).to_be_visible()
    await page.get_by_role("tab", name="Changes").click()
    await expect(page.locator(".log li").first).to_contain_text("onerror=alert(1)")
    await page.goto(f"{copydesk.url}/#/projects/{project}")
    await expect(page.locator(".thread blockquote")).to_contain_text("onerror=alert(1)")
    await page.locator(".bell > button").click()
    await expect(page.locator(".entry", has_text="onerror=alert(1)").first).to_be_visible()
    # What happens meanwhile is read out.
    await copydesk.database["items"].delete_one({"_id": "item"})
    await expect(page.locator("#announcer")).to_contain_text("onerror=alert(1)", timeout=10_000)
    await copydesk.database["items"].insert_one(
        {"_id": "again", "project_id": project, "content": {"id": "1", "version": "1"}, "name": NASTY, "type": "page"}
    )
    await page.evaluate(
        """async (project) => {
          await import("/static/element-all.js");
          for (const name of ["overview", "comments", "bell"]) {
            const element = document.createElement(`copydesk-${name}`);
            element.setAttribute("project", project);
            document.body.append(element);
          }
        }""",
        project,
    )
    for name in ("overview", "comments"):
        await expect(page.locator(f"copydesk-{name}")).to_contain_text("onerror=alert(1)")
    await page.locator("copydesk-bell button").first.click()
    await expect(page.locator("copydesk-bell")).to_contain_text("onerror=alert(1)")


async def watched(open_page: OpenPage, copydesk: Copydesk, dialogs: list[str]) -> Page:
    """A page of bob's that counts what scripts do and what the policy stops."""
    page = await open_page(copydesk, "bob", "favicon.ico")

    async def opened(dialog: Any) -> None:
        dialogs.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", opened)
    await page.add_init_script(_COUNT)
    return page


async def test_stored_scripts_do_not_run_wherever_they_are_shown(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    # The picture that has such an address.
    complaints.expected.append("404 (Not Found)")
    dialogs: list[str] = []
    page = await watched(open_page, copydesk, dialogs)
    project = await store_everywhere(copydesk)
    await visit_everything(page, copydesk, project)
    assert await page.evaluate("reports") == []
    assert dialogs == []
    found = "main script, main iframe, main img[src='x'], [onerror], [onload], a[href^='javascript:']"
    await expect(page.locator(found)).to_have_count(0)


async def test_a_page_that_makes_markup_of_text_is_noticed(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    """What the test above would say of one: the policy stops the scripts and is heard; without it they run."""
    complaints.expected += ["Content Security Policy", "Failed to load resource", "net::ERR"]
    dialogs: list[str] = []
    page = await watched(open_page, copydesk, dialogs)
    project = await store_everywhere(copydesk)

    async def careless(route: Route) -> None:
        answer = await route.fetch()
        text = await answer.text()
        assert "element.textContent = text" in text
        await route.fulfill(
            response=answer, body=text.replace("element.textContent = text", "element.innerHTML = text")
        )

    async def without_policy(route: Route) -> None:
        answer = await route.fetch()
        headers = {name: value for name, value in answer.headers.items() if name != "content-security-policy"}
        await route.fulfill(response=answer, headers=headers)

    await page.route("**/static/page-dom.js", careless)
    await page.goto(f"{copydesk.url}/#/projects/{project}")
    await page.evaluate(
        "reports.length || new Promise((resolve) => addEventListener('securitypolicyviolation', resolve))"
    )
    assert dialogs == []
    await page.route(f"{copydesk.url}/", without_policy)
    await page.reload()
    async with asyncio.timeout(20):
        while "1" not in dialogs:  # noqa: ASYNC110 - the browser tells
            await asyncio.sleep(0.05)
