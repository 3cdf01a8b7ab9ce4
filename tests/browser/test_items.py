"""A project's items as a table: ordered, filtered, selected, changed one or many at a time, with others at work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.browser.conftest import Complaints, OpenPage
from tests.browser.test_edit_page import add_item, fits
from tests.conftest import Copydesk


async def project_with(copydesk: Copydesk, *names: str, **fields: Any) -> tuple[str, dict[str, str]]:
    """A project with items of these names in this order; its id, and the items' ids by name."""
    project = await copydesk.project()
    items = [
        {"content": {"id": name, "version": "1"}, "name": name, "rank": at, **fields} for at, name in enumerate(names)
    ]
    answer = await copydesk.call("POST", f"/projects/{project}/items", {"items": items})
    return project, {name: result["item"]["id"] for name, result in zip(names, answer["results"], strict=True)}


def names(page: Page) -> Locator:
    return page.locator(".item .name")


def row(page: Page, name: str) -> Locator:
    return page.locator(".item").filter(has=page.get_by_role("link", name=name, exact=True))


async def click(page: Page, name: str, *modifiers: Any) -> None:
    """A click on the row, beside what is in it."""
    await row(page, name).click(position={"x": 8, "y": 4}, modifiers=modifiers)


async def selected(page: Page) -> list[str]:
    found: list[str] = await page.locator(".item[aria-selected=true] .name").all_text_contents()
    return found


async def status_of(copydesk: Copydesk, project: str, item: str) -> str:
    found: str = (await copydesk.call("GET", f"/projects/{project}/items/{item}"))["status"]
    return found


@pytest.fixture
def refusals(complaints: Complaints) -> None:
    """A browser complains of each answer that is no success."""
    complaints.expected += [
        "503 (Service Unavailable)",
        "409 (Conflict)",
        "412 (Precondition Failed)",
        "404 (Not Found)",
    ]


# -- order, filter, groups ---------------------------------------------------------------------------------------------


async def test_items_stand_in_the_order_that_one_chose_also_the_next_time(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, "Page 10", "about", "Page 9")
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids['about']}", {"status": "ready"})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(names(bob)).to_have_text(["Page 10", "about", "Page 9"])
    await bob.get_by_role("button", name="Name", exact=True).click()
    await expect(names(bob)).to_have_text(["about", "Page 9", "Page 10"])
    await expect(bob.locator("[aria-sort=ascending]")).to_have_count(1)
    await bob.get_by_role("button", name="Name", exact=True).click()
    await expect(names(bob)).to_have_text(["Page 10", "Page 9", "about"])
    await bob.get_by_role("button", name="Status", exact=True).click()
    await expect(names(bob)).to_have_text(["Page 9", "Page 10", "about"])
    await bob.get_by_role("button", name="Changed", exact=True).click()
    await expect(names(bob).first).to_have_text("about")
    await bob.reload()
    await expect(names(bob).first).to_have_text("about")
    await bob.get_by_role("button", name="Project order").click()
    await expect(names(bob)).to_have_text(["Page 10", "about", "Page 9"])


async def test_items_are_found_by_words_and_by_status(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, ids = await project_with(copydesk, "Winter boots", "Winter coats", "Imprint")
    await copydesk.call(
        "PATCH", f"/projects/{project}/items/{ids['Winter coats']}", {"status": "ready", "path": "/shop"}
    )
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = bob.get_by_role("searchbox", name="Filter items")
    await field.fill("wint oo")
    await expect(names(bob)).to_have_text(["Winter boots"])
    await expect(bob.get_by_text("1 of 3 items")).to_be_visible()
    await field.fill("/shop")
    await expect(names(bob)).to_have_text(["Winter coats"])
    await field.fill("winter")
    await bob.get_by_role("button", name="2 draft").click()
    await expect(names(bob)).to_have_text(["Winter boots"])
    await field.fill("nowhere")
    await expect(bob.get_by_text("No item matches.")).to_be_visible()
    await bob.get_by_role("button", name="Clear filter").click()
    await expect(names(bob)).to_have_count(3)
    await expect(field).to_be_focused()
    await expect(field).to_have_value("")


async def test_items_are_grouped_by_status_and_groups_fold(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, ids = await project_with(copydesk, "One", "Two", "Three")
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids['One']}", {"status": "ready"})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.get_by_role("button", name="Group by status").click()
    await expect(names(bob)).to_have_text(["Two", "Three", "One"])
    drafts = bob.locator(".group").get_by_role("button", name="Draft 2")
    await drafts.click()
    await expect(names(bob)).to_have_text(["One"])
    await expect(drafts).to_have_attribute("aria-expanded", "false")
    await expect(drafts).to_be_focused()
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids['Two']}", {"status": "ready"})
    await expect(names(bob)).to_have_text(["One", "Two"])
    await bob.keyboard.press("ArrowRight")
    await expect(names(bob)).to_have_text(["Three", "One", "Two"])
    await bob.keyboard.press("ArrowDown")
    await expect(row(bob, "Three")).to_be_focused()


async def test_a_grouped_list_has_its_length_before_one_comes_to_its_end(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, *(f"Item {at}" for at in range(24)))
    for name, status in (("Item 21", "in_review"), ("Item 22", "ready"), ("Item 23", "published")):
        await copydesk.call("PATCH", f"/projects/{project}/items/{ids[name]}", {"status": status})
    bob = await open_page(copydesk, "bob", f"#/projects/{project}", height=300)
    await bob.get_by_role("button", name="Group by status").click()
    await expect(bob.locator(".group")).to_have_count(1)
    # At the end of a page that becomes shorter, all would jump under the mouse.
    lengths = await bob.evaluate(
        """async () => {
          const lengths = [document.documentElement.scrollHeight];
          scrollTo({ top: 100_000, behavior: "instant" });
          for (let frame = 0; frame < 4; frame += 1) await new Promise((done) => requestAnimationFrame(done));
          return [...lengths, document.documentElement.scrollHeight];
        }"""
    )
    await expect(row(bob, "Item 23")).to_be_in_viewport()
    assert lengths[0] == lengths[1]


async def test_the_counters_follow_what_others_do(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, ids = await project_with(copydesk, "One", "Two")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    counters = bob.get_by_role("list", name="Items by status")
    await expect(counters).to_have_text("2 draft")
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids['One']}", {"status": "rejected"})
    await expect(counters).to_have_text("1 draft1 rejected")
    await counters.get_by_role("button", name="1 rejected").click()
    await expect(names(bob)).to_have_text(["One"])
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids['Two']}", {"status": "rejected"})
    await expect(names(bob)).to_have_text(["One", "Two"])
    await copydesk.call("DELETE", f"/projects/{project}/items/{ids['One']}")
    await expect(counters).to_have_text("1 rejected")


# -- selecting ---------------------------------------------------------------------------------------------------------


async def test_items_are_selected_with_the_mouse_as_in_a_file_manager(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, _ids = await project_with(copydesk, "One", "Two", "Three", "Four", "Five")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_role("checkbox", name="Select One")).to_be_visible()
    await click(bob, "Two")
    await expect(bob.get_by_text("1 selected")).to_be_visible()
    await expect(bob.get_by_role("heading", name="Two", level=2)).to_be_visible()
    await click(bob, "Four", "Shift")
    assert await selected(bob) == ["Two", "Three", "Four"]
    await click(bob, "Three", "ControlOrMeta")
    assert await selected(bob) == ["Two", "Four"]
    await bob.get_by_role("checkbox", name="Select Five").click()
    assert await selected(bob) == ["Two", "Four", "Five"]
    await bob.get_by_role("checkbox", name="Select all").click()
    assert await selected(bob) == ["One", "Two", "Three", "Four", "Five"]
    await bob.get_by_role("button", name="Clear selection").click()
    assert await selected(bob) == []
    # The name opens what is said about the item; with a key held it selects like the rest of the row.
    await bob.get_by_role("link", name="One", exact=True).click(modifiers=["ControlOrMeta"])
    assert await selected(bob) == ["One"]


async def test_items_are_selected_with_the_keyboard(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, ids = await project_with(copydesk, "One", "Two", "Three", "Four")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_role("checkbox", name="Select One")).to_be_visible()
    await row(bob, "One").focus()
    for key in ("Space", "ArrowDown", "ArrowDown", "Space"):
        await bob.keyboard.press(key)
    assert await selected(bob) == ["One", "Three"]
    await bob.keyboard.press("Shift+ArrowDown")
    assert await selected(bob) == ["Three", "Four"]
    await expect(row(bob, "Four")).to_be_focused()
    await bob.keyboard.press("Home")
    await expect(row(bob, "One")).to_be_focused()
    await bob.keyboard.press("ControlOrMeta+a")
    assert len(await selected(bob)) == 4
    await bob.keyboard.press("Escape")
    assert await selected(bob) == []
    # One row at a time is in the way of the Tab key.
    await bob.keyboard.press("Tab")
    await expect(bob.get_by_role("checkbox", name="Select One")).to_be_focused()
    for _step in range(5):
        await bob.keyboard.press("Tab")
    await expect(bob.locator(".item :focus")).to_have_count(0)
    await row(bob, "Two").focus()
    await bob.keyboard.press("Enter")
    await expect(bob.get_by_role("heading", name="Two", level=2)).to_be_focused()
    assert bob.url.endswith(f"/items/{ids['Two']}")


async def test_all_that_the_filter_shows_is_selected_and_what_it_hides_is_told(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, _ids = await project_with(copydesk, "Boots", "Coats", "Boats")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = bob.get_by_role("searchbox", name="Filter items")
    await field.fill("bo")
    await expect(names(bob)).to_have_text(["Boots", "Boats"])
    await row(bob, "Boots").focus()
    await bob.keyboard.press("ControlOrMeta+a")
    await field.fill("boots")
    await expect(bob.get_by_text("2 selected, 1 of them not shown")).to_be_visible()
    await field.fill("")
    await expect(names(bob)).to_have_count(3)
    assert await selected(bob) == ["Boots", "Boats"]


# -- many at once ------------------------------------------------------------------------------------------------------


async def test_many_items_get_a_status_and_what_failed_stays_selected_with_the_reason(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, "One", "Two", "Three")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")

    async def fail_for_two(route: Route) -> None:
        sent = json.loads(route.request.post_data or "")
        kept = {**sent, "ids": [item for item in sent["ids"] if item != ids["Two"]]}
        answer = await route.fetch(post_data=json.dumps(kept))
        error = {"code": "unavailable", "detail": "The database did not answer in time."}
        results = [*(await answer.json())["results"], {"status": 503, "id": ids["Two"], "error": error}]
        await route.fulfill(response=answer, json={"results": results})

    await bob.route("**/items/status", fail_for_two)
    await row(bob, "One").focus()
    await expect(bob.get_by_role("checkbox", name="Select One")).to_be_visible()
    await bob.keyboard.press("ControlOrMeta+a")
    bar = bob.get_by_role("region", name="Selected items")
    await expect(bar.locator("option[value=published]")).to_be_disabled()
    await bar.get_by_label("Status for all selected items").select_option("in_review")
    await bar.get_by_role("button", name="Set", exact=True).click()

    await expect(bar.get_by_text("2 items set to in review, 1 failed and is still selected.")).to_be_visible()
    assert await selected(bob) == ["Two"]
    await expect(row(bob, "Two").get_by_role("alert")).to_have_text("The database did not answer in time.")
    await expect(bob.get_by_label("Status of One")).to_have_value("in_review")
    await expect(bar.get_by_role("button", name="Retry 1 item")).to_be_visible()
    await bob.unroute("**/items/status")
    await bar.get_by_role("button", name="Retry 1 item").click()
    await expect(bar.get_by_text("1 item set to in review.")).to_be_visible()
    await expect(row(bob, "Two").get_by_role("alert")).to_have_count(0)
    assert await selected(bob) == []
    assert await status_of(copydesk, project, ids["Two"]) == "in_review"
    await bar.get_by_role("button", name="Close").click()
    await expect(bar).to_be_hidden()


async def test_a_call_that_gets_lost_loses_no_selection(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_FAILED")
    project, ids = await project_with(copydesk, "One", "Two")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.route("**/items/status", lambda route: route.abort())
    await expect(bob.get_by_role("checkbox", name="Select all")).to_be_visible()
    await bob.get_by_role("checkbox", name="Select all").click()
    await bob.get_by_label("Status for all selected items").select_option("ready")
    await bob.get_by_role("button", name="Set", exact=True).click()
    await expect(row(bob, "One").get_by_role("alert")).to_have_text("The server cannot be reached.")
    assert await selected(bob) == ["One", "Two"]
    await bob.unroute("**/items/status")
    await bob.get_by_role("button", name="Retry 2 items").click()
    await expect(bob.get_by_label("Status of Two")).to_have_value("ready")
    assert await status_of(copydesk, project, ids["One"]) == "ready"


@pytest.mark.usefixtures("refusals")
async def test_many_items_are_removed_after_a_question(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, ids = await project_with(copydesk, "One", "Two", "Three", "Four")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    refused = f"**/items/{ids['Two']}"

    async def refuse(route: Route) -> None:
        problem = {"code": "busy", "detail": "Too much is asked of this server.", "status": 503}
        if route.request.method == "DELETE":
            await route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem))
        else:
            await route.continue_()

    await bob.route(refused, refuse)
    await expect(bob.get_by_role("checkbox", name="Select One")).to_be_visible()
    await click(bob, "One")
    await click(bob, "Three", "Shift")
    await bob.keyboard.press("Delete")
    await expect(bob.get_by_role("button", name="Keep")).to_be_focused()
    await bob.keyboard.press("Enter")
    await expect(names(bob)).to_have_count(4)
    await bob.get_by_role("button", name="Remove", exact=True).click()
    await bob.get_by_role("button", name="Remove 3 items").click()
    await expect(bob.get_by_text("2 items removed, 1 failed and is still selected.")).to_be_visible()
    await expect(names(bob)).to_have_text(["Two", "Four"])
    await expect(names(alice)).to_have_text(["Two", "Four"])
    await expect(row(bob, "Two").get_by_role("alert")).to_have_text("Too much is asked of this server.")
    await bob.unroute(refused)
    await bob.get_by_role("button", name="Retry 1 item").click()
    await expect(names(alice)).to_have_text(["Four"])


# -- one item ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("refusals")
async def test_an_item_is_added_once_and_a_content_that_stands_elsewhere_is_refused(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    other = await copydesk.project("Autumn")
    await add_item(copydesk, other, "taken")
    project = await copydesk.project()
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_text("This project has no items yet. Add the first one here")).to_be_visible()
    await bob.get_by_role("button", name="Add item").click()
    form = bob.get_by_role("form", name="Add an item")
    await expect(form.get_by_label("Content id in the CMS")).to_be_focused()
    await form.get_by_role("button", name="Add").click()
    await expect(form.get_by_role("alert").filter(has_text="This must not be empty.")).to_have_count(2)
    await form.get_by_label("Content id in the CMS").fill("taken")
    await form.get_by_role("textbox", name="Name").fill("Home page")
    await expect(form.get_by_text("There already: version 1 in another project.")).to_be_visible()
    await form.get_by_role("button", name="Add").click()
    await expect(form.get_by_role("alert").filter(has_text="Not added.")).to_contain_text("Autumn")
    await form.get_by_label("Content id in the CMS").fill("free")
    await form.get_by_label("Language").fill("en")
    await form.get_by_label("Address in the CMS").fill("https://cms.example/home")
    await form.get_by_role("textbox", name="Name").press("Enter")
    await expect(form.get_by_text("Home page was added.")).to_be_visible()
    await expect(form.get_by_label("Content id in the CMS")).to_be_focused()
    await expect(names(alice)).to_have_text(["Home page"])
    await expect(names(bob)).to_have_text(["Home page"])
    link = bob.get_by_role("link", name="Open Home page in the CMS")
    await expect(link).to_have_attribute("href", "https://cms.example/home")


async def test_an_item_is_renamed_in_place(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, ids = await project_with(copydesk, "One", "Two")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_role("checkbox", name="Select One")).to_be_visible()
    await row(bob, "One").focus()
    await bob.keyboard.press("F2")
    editor = bob.get_by_role("form", name="Edit One")
    await expect(editor.get_by_role("textbox", name="Name")).to_be_focused()
    await editor.get_by_role("textbox", name="Name").fill("")
    await bob.keyboard.press("Enter")
    await expect(editor.get_by_text("This must not be empty.")).to_be_visible()
    await editor.get_by_role("textbox", name="Name").fill("One and a half")
    await editor.get_by_label("Assigned to").fill("alice")
    await bob.keyboard.press("Enter")
    await expect(editor).to_have_count(0)
    await expect(names(bob)).to_have_text(["One and a half", "Two"])
    await expect(row(bob, "One and a half")).to_be_focused()
    await expect(names(alice)).to_have_text(["One and a half", "Two"])
    await expect(row(alice, "One and a half")).to_contain_text("name, assignee")
    await expect(row(alice, "One and a half")).to_contain_text("Bob")
    assert (await copydesk.call("GET", f"/projects/{project}/items/{ids['One']}"))["assignee"] == "alice"


async def test_two_who_rename_the_same_item_see_both_versions_and_lose_neither(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, "One")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.get_by_role("button", name="Edit One").click()
    editor = bob.get_by_role("form", name="Edit One")
    await editor.get_by_role("textbox", name="Name").fill("Bob's name")
    changes = {"name": "Alice's name", "path": "/alice"}
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids['One']}", changes)

    versions = editor.get_by_role("group", name="Two versions of Name")
    await expect(versions.get_by_role("definition")).to_have_text(["Alice's name", "Bob's name"])
    await expect(editor.get_by_role("textbox", name="Name")).to_be_focused()
    # What he did not touch is simply new.
    await expect(editor.get_by_label("Path")).to_have_value("/alice")
    await bob.keyboard.press("Enter")
    await expect(versions.get_by_role("button", name="Keep mine")).to_be_focused()
    await versions.get_by_role("button", name="Take theirs").click()
    await expect(editor.get_by_role("textbox", name="Name")).to_have_value("Alice's name")
    await versions.get_by_role("button", name="Put mine back").click()
    await expect(editor.get_by_role("textbox", name="Name")).to_have_value("Bob's name")
    await editor.get_by_role("button", name="Save").click()
    await expect(names(bob)).to_have_text(["Bob's name"])
    saved = await copydesk.call("GET", f"/projects/{project}/items/{ids['One']}")
    assert (saved["name"], saved["path"]) == ("Bob's name", "/alice")


@pytest.mark.usefixtures("refusals")
@pytest.mark.parametrize("copydesk", [{"websockets_enabled": False, "fallback": "none"}], indirect=True)
async def test_whoever_did_not_hear_of_a_change_is_refused_and_shown_both_versions(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, "One")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    refused: list[int] = []
    bob.on("response", lambda response: refused.append(response.status) if response.status == 412 else None)
    async with bob.expect_response(f"**/items/{ids['One']}"):
        await bob.get_by_role("button", name="Edit One").click()
    editor = bob.get_by_role("form", name="Edit One")
    path = f"/projects/{project}/items/{ids['One']}"
    # A change of something else is no reason to ask.
    await copydesk.call("PATCH", path, {"status": "ready"})
    await copydesk.call("PATCH", path, {"name": "Alice's name"})
    await editor.get_by_role("textbox", name="Name").fill("Bob's name")
    await bob.keyboard.press("Enter")
    versions = editor.get_by_role("group", name="Two versions of Name")
    await expect(versions.get_by_role("definition")).to_have_text(["Alice's name", "Bob's name"])
    assert refused == [412]
    assert (await copydesk.call("GET", path))["name"] == "Alice's name"
    await versions.get_by_role("button", name="Keep mine").click()
    await copydesk.call("PATCH", path, {"status": "draft"})
    await bob.keyboard.press("Enter")
    await expect(names(bob)).to_have_text(["Bob's name"])
    assert refused == [412, 412]
    assert (await copydesk.call("GET", path))["status"] == "draft"


async def test_what_was_typed_outlives_a_reload_and_the_removal_of_the_item(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, "One", "Two")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.get_by_role("button", name="Edit One").click()
    editor = bob.get_by_role("form", name="Edit One")
    await editor.get_by_role("textbox", name="Name").fill("A better name")
    await bob.keyboard.press("Escape")
    await expect(editor.get_by_text("There is something that is not saved.")).to_be_visible()
    await bob.reload()
    await expect(editor.get_by_role("textbox", name="Name")).to_have_value("A better name")
    await copydesk.call("DELETE", f"/projects/{project}/items/{ids['One']}")
    await expect(editor.get_by_text("alice removed this meanwhile")).to_be_visible()
    await expect(editor.get_by_role("textbox", name="Name")).to_have_value("A better name")
    await expect(editor.get_by_role("button", name="Save")).to_be_hidden()
    await editor.get_by_role("button", name="Close").click()
    await expect(names(bob)).to_have_text(["Two"])
    await expect(row(bob, "Two")).to_be_focused()


# -- while others work -------------------------------------------------------------------------------------------------


async def test_a_change_of_somebody_else_says_who_and_what_and_moves_nothing_that_one_works_on(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, *(f"Item {at:02}" for at in range(40)))
    bob = await open_page(copydesk, "bob", f"#/projects/{project}", height=600)
    await bob.get_by_role("button", name="Name", exact=True).click()
    await expect(bob.get_by_role("checkbox", name="Select Item 00")).to_be_visible()
    await bob.evaluate("scrollTo(0, 1200)")
    await click(bob, "Item 20")
    await bob.get_by_role("button", name="Edit Item 20").click()
    field = bob.get_by_role("form", name="Edit Item 20").get_by_label("Type")
    await field.fill("half a ty")
    top = "element => Math.round(element.getBoundingClientRect().top)"
    before = await field.evaluate(top)

    # Items come and go above it, and its own name would put it elsewhere.
    await copydesk.call("DELETE", f"/projects/{project}/items/{ids['Item 03']}")
    for name in ("Item 01a", "Item 01b", "Item 01c"):
        await add_item(copydesk, project, name)
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids['Item 20']}", {"name": "A first name"})
    await expect(row(bob, "A first name")).to_be_visible()
    await expect(row(bob, "A first name")).to_contain_text("alice name")
    await expect(row(bob, "A first name")).to_have_attribute("data-fresh", "")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("half a ty")
    # Scrolling rounds to whole pixels.
    assert abs(await field.evaluate(top) - before) <= 2
    assert await selected(bob) == ["A first name"]
    shown = await names(bob).all_text_contents()
    assert shown[shown.index("A first name") - 1] == "Item 19"
    # Let go of, it takes its place.
    await bob.get_by_role("button", name="Discard").click()
    await bob.keyboard.press("Escape")
    await bob.get_by_role("searchbox", name="Filter items").focus()
    await expect(names(bob).first).to_have_text("A first name")


async def test_the_focus_goes_on_where_a_row_was_removed(copydesk: Copydesk, open_page: OpenPage) -> None:
    project, ids = await project_with(copydesk, "One", "Two", "Three")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    # What is hidden until rights are known cannot be focused.
    await expect(bob.get_by_label("Status of Two")).to_be_visible()
    await bob.get_by_label("Status of Two").focus()
    await copydesk.call("DELETE", f"/projects/{project}/items/{ids['Two']}")
    await expect(names(bob)).to_have_text(["One", "Three"])
    await expect(row(bob, "Three")).to_be_focused()
    await expect(bob.locator("#announcer")).to_have_text("alice removed Two.", timeout=10_000)


async def test_an_item_that_is_moved_out_of_sight_goes_and_what_is_typed_into_it_stays(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project, ids = await project_with(copydesk, "One", "Two", "Three")
    other = await copydesk.project("Elsewhere")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.get_by_role("button", name="Edit Two").click()
    await bob.get_by_role("form", name="Edit Two").get_by_label("Type").fill("half a ty")
    # As another program does it, which does not say who it was.
    move = {"$set": {"project_id": other}}
    await copydesk.database["items"].update_many({"_id": {"$in": [ids["Two"], ids["Three"]]}}, move)
    await expect(row(bob, "Three")).to_have_count(0)
    await expect(bob.get_by_text("Somebody removed this meanwhile")).to_be_visible()
    await expect(bob.get_by_role("form", name="Edit Two").get_by_label("Type")).to_have_value("half a ty")
    await expect(bob.locator("#announcer")).to_have_text("Somebody removed 2 items.", timeout=10_000)
    await bob.get_by_role("form", name="Edit Two").get_by_role("button", name="Close").click()
    await expect(names(bob)).to_have_text(["One"])


async def test_a_viewer_selects_and_changes_nothing(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project(visibility="private", members=[{"principal": "user:bob", "role": "viewer"}])
    await add_item(copydesk, project, "One")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator(".item .status")).to_have_text("Draft")
    await click(bob, "One")
    await expect(bob.get_by_role("heading", name="One", level=2)).to_be_visible()
    await bob.keyboard.press("ControlOrMeta+a")
    await bob.keyboard.press("F2")
    assert await selected(bob) == []
    await expect(bob.get_by_role("region", name="Selected items")).to_be_hidden()
    for name in ("Add item", "Edit One", "Edit Spring"):
        await expect(bob.get_by_role("button", name=name)).to_be_hidden()


async def test_that_rights_could_not_be_read_is_said_and_can_be_tried_again(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_FAILED")
    project, _ids = await project_with(copydesk, "One")
    bob = await open_page(copydesk, "bob")
    await bob.route("**/overview", lambda route: route.abort())
    await bob.goto(f"{copydesk.url}/#/projects/{project}")
    await expect(bob.get_by_text("so that you can only read")).to_be_visible()
    await bob.unroute("**/overview")
    await bob.get_by_role("button", name="Try again").click()
    await expect(bob.get_by_label("Status of One")).to_be_visible()
    await expect(bob.get_by_text("so that you can only read")).to_have_count(0)


async def until_covered(page: Page) -> None:
    """Wait until a row stands in the middle of the window: there is no hole in the list."""
    await page.evaluate(
        """async () => {
          const covered = () => document.elementFromPoint(300, 400)?.closest(".item");
          while (!covered()) await new Promise((done) => requestAnimationFrame(done));
        }"""
    )


# -- thousands ---------------------------------------------------------------------------------------------------------


async def test_of_thousands_of_items_only_those_in_sight_are_made_and_one_change_makes_one_new(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    fields = {"project_id": project, "type": "page", "status": "draft", "version": 1}
    await copydesk.database["items"].insert_many(
        [
            {"_id": f"i{at}", "name": f"Item {at}", "content": {"id": f"c{at}", "version": "1"}, "rank": at, **fields}
            for at in range(5000)
        ]
    )
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.get_by_text("5000 items")).to_be_visible(timeout=30_000)
    await expect(bob.get_by_role("checkbox", name="Select Item 0", exact=True)).to_be_visible()
    assert await bob.locator(".item").count() < 100

    await bob.evaluate(
        """() => {
          window.made = 0;
          const count = (records) => records.forEach(({ addedNodes }) => (window.made += addedNodes.length));
          new MutationObserver(count).observe(document.querySelector(".items"), { childList: true });
        }"""
    )
    await copydesk.call("PATCH", f"/projects/{project}/items/i3", {"name": "Another name"})
    await expect(row(bob, "Another name")).to_be_visible()
    assert await bob.evaluate("made") == 0

    await row(bob, "Item 0").focus()
    await bob.keyboard.press("End")
    await expect(row(bob, "Item 4999")).to_be_focused()
    await expect(row(bob, "Item 4999")).to_be_in_viewport()
    assert await bob.locator(".item").count() < 100
    await bob.keyboard.press("ControlOrMeta+a")
    await expect(bob.get_by_text("5000 selected", exact=True)).to_be_visible()
    await bob.keyboard.press("Escape")
    await bob.keyboard.press("Home")
    await expect(row(bob, "Item 0")).to_be_focused()
    await bob.evaluate("scrollTo(0, 100_000)")
    await until_covered(bob)
    await bob.get_by_role("searchbox", name="Filter items").fill("item 4321")
    await expect(names(bob)).to_have_text(["Item 4321"])


async def test_rows_lie_one_below_the_other_wherever_one_scrolls(copydesk: Copydesk, open_page: OpenPage) -> None:
    long = "A name that is so long that it takes more than a single line of the table in which it stands "
    project, _ids = await project_with(copydesk, *((long if at % 7 == 0 else "Item ") + str(at) for at in range(180)))
    bob = await open_page(copydesk, "bob", f"#/projects/{project}", width=700)
    await expect(bob.get_by_role("checkbox").nth(1)).to_be_visible()
    for down in (1000, 3000, 5000, 9000, 2000):
        await bob.evaluate("down => scrollTo(0, down)", down)
        await expect(bob.locator(".item").nth(3)).to_be_attached()
        overlaps = await bob.evaluate(
            """async () => {
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              const boxes = [...document.querySelectorAll(".item")].map((row) => row.getBoundingClientRect());
              return boxes.slice(1).filter(({ top }, at) => top < boxes[at].bottom - 1).length;
            }"""
        )
        assert overlaps == 0
        await until_covered(bob)


async def test_the_table_fits_on_a_narrow_screen_with_everything_open(copydesk: Copydesk, open_page: OpenPage) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 3
    project, ids = await project_with(copydesk, long, "Two")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}", width=360, height=640)
    await bob.get_by_role("button", name="Add item").click()
    await bob.get_by_role("button", name=f"Edit {long}").click()
    await bob.get_by_role("form", name=f"Edit {long}").get_by_role("textbox", name="Name").fill(f"Mine {long}")
    await copydesk.call("PATCH", f"/projects/{project}/items/{ids[long]}", {"name": f"Theirs {long}"})
    await expect(bob.get_by_role("group", name="Two versions of Name")).to_be_visible()
    await bob.evaluate("scrollTo(0, 5000)")
    await bob.get_by_role("checkbox", name="Select Two").click()
    await expect(bob.get_by_text("1 selected")).to_be_visible()
    assert await fits(bob)
