"""The list of projects: found, made, renamed, put into the archive and taken back, with others at work meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.browser.conftest import Complaints, OpenPage
from tests.browser.test_edit_page import fits
from tests.conftest import Copydesk


def names(page: Page) -> Locator:
    return page.locator(".card .name")


def owned(user: str) -> list[dict[str, str]]:
    return [{"principal": f"user:{user}", "role": "owner"}]


async def project_of(copydesk: Copydesk, project: str) -> Any:
    return await copydesk.call("GET", f"/projects/{project}")


async def test_projects_are_found_by_name_and_label_and_the_list_is_kept_as_it_was(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    for name, labels in (("Spring launch", ["shop"]), ("Summer catalogue", ["print"]), ("Imprint", [])):
        await copydesk.project(name, labels=labels)
    bob = await open_page(copydesk, "bob")
    await expect(names(bob)).to_have_text(["Imprint", "Summer catalogue", "Spring launch"])
    field = bob.get_by_role("searchbox", name="Search projects")
    await field.fill("print")
    await expect(names(bob)).to_have_text(["Imprint", "Summer catalogue"])
    await bob.get_by_label("Order").select_option("By name")
    await field.fill("s a")
    await expect(names(bob)).to_have_text(["Spring launch", "Summer catalogue"])
    await names(bob).first.click()
    await bob.get_by_role("link", name="All projects").click()
    await expect(field).to_have_value("s a")
    await field.fill("nowhere")
    await expect(bob.get_by_text("No project matches.")).to_be_visible()
    await bob.get_by_role("button", name="Show all projects").click()
    await expect(names(bob)).to_have_text(["Imprint", "Spring launch", "Summer catalogue"])
    await expect(field).to_be_focused()


async def test_only_mine_are_those_that_one_made_or_is_a_member_of(copydesk: Copydesk, open_page: OpenPage) -> None:
    await copydesk.project("Alice's")
    await copydesk.project("With me", members=[{"principal": "user:bob", "role": "viewer"}])
    await copydesk.project("Made by me", user="bob")
    bob = await open_page(copydesk, "bob")
    await expect(names(bob)).to_have_text(["Made by me", "With me", "Alice's"])
    mine = bob.get_by_role("button", name="Only mine")
    await mine.click()
    await expect(mine).to_have_attribute("aria-pressed", "true")
    await expect(names(bob)).to_have_text(["Made by me", "With me"])
    answer = await copydesk.call("GET", "/projects?mine=true", user="bob")
    assert [project["name"] for project in answer["items"]] == ["Made by me", "With me"]


async def test_a_project_is_made_and_opened(copydesk: Copydesk, open_page: OpenPage) -> None:
    alice = await open_page(copydesk, "alice")
    bob = await open_page(copydesk, "bob")
    await bob.get_by_role("button", name="Create a project").click()
    form = bob.get_by_role("form", name="New project")
    name = form.get_by_label("Name of the project")
    await expect(name).to_be_focused()
    await bob.keyboard.press("Enter")
    await expect(form.get_by_role("alert")).to_have_text("A project needs a name.")
    await name.fill("Autumn")
    # What was typed outlives a reload.
    await bob.reload()
    await expect(name).to_have_value("Autumn")
    await form.get_by_label("Who may see it").select_option("private")
    await form.get_by_role("button", name="Create").click()
    await expect(bob.get_by_role("heading", name="Autumn", level=1)).to_be_visible()
    await expect(bob.get_by_text("private", exact=True)).to_be_visible()
    await expect(bob.get_by_role("button", name="Archive Autumn")).to_be_visible()
    await expect(names(alice)).to_have_count(0)
    await bob.get_by_role("link", name="All projects").click()
    await expect(names(bob)).to_have_text(["Autumn"])
    await expect(form).to_be_hidden()


async def test_a_project_whose_making_may_have_got_lost_is_made_once(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_FAILED")
    bob = await open_page(copydesk, "bob")

    async def lose_the_answer(route: Route) -> None:
        if route.request.method == "POST":
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await bob.route("**/api/v1/projects", lose_the_answer)
    await bob.get_by_role("button", name="New project").click()
    await bob.get_by_label("Name of the project").fill("Autumn")
    await bob.get_by_role("button", name="Create", exact=True).click()
    await expect(bob.get_by_text("The project was not created. The server cannot be reached.")).to_be_visible()
    await bob.unroute("**/api/v1/projects")
    await bob.get_by_role("button", name="Try again").click()
    await expect(bob.get_by_role("heading", name="Autumn", level=1)).to_be_visible()
    assert await copydesk.database["projects"].count_documents({}) == 1


async def test_a_project_is_renamed_in_the_list_and_everybody_sees_it(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Spring")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob")
    await bob.get_by_role("button", name="Edit Spring").click()
    editor = bob.get_by_role("form", name="Edit Spring")
    await expect(editor.get_by_label("Name")).to_be_focused()
    await editor.get_by_label("Name").fill("Summer")
    await editor.get_by_label("Labels").fill("shop, print, shop")
    await editor.get_by_role("button", name="Save").click()
    await expect(names(bob)).to_have_text(["Summer"])
    await expect(bob.get_by_role("button", name="Edit Summer")).to_be_focused()
    await expect(alice.get_by_role("heading", name="Summer", level=1)).to_be_visible()
    assert (await project_of(copydesk, project))["labels"] == ["shop", "print"]


async def test_two_who_rename_a_project_see_both_versions(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Spring")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.get_by_role("button", name="Edit Spring").click()
    editor = bob.get_by_role("form", name="Edit Spring")
    await editor.get_by_role("textbox", name="Name").fill("Bob's name")
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Alice's name", "description": "What it is about"})
    versions = bob.get_by_role("group", name="Two versions of Name")
    await expect(versions.get_by_role("definition")).to_have_text(["Alice's name", "Bob's name"])
    await versions.get_by_role("button", name="Take theirs").click()
    await bob.get_by_role("textbox", name="Description").fill("What it is about, in full")
    await bob.get_by_role("button", name="Save").click()
    await expect(bob.get_by_text("What it is about, in full")).to_be_visible()
    assert (await project_of(copydesk, project))["name"] == "Alice's name"


async def test_a_project_goes_into_the_archive_and_back(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Spring", user="bob")
    await copydesk.project("Summer")
    alice = await open_page(copydesk, "alice")
    bob = await open_page(copydesk, "bob")
    await expect(bob.get_by_role("button", name="Archive Summer")).to_be_hidden()
    await bob.get_by_role("button", name="Archive Spring").click()
    await expect(names(bob)).to_have_text(["Summer"])
    await expect(names(alice)).to_have_text(["Summer"])
    await expect(bob.get_by_role("button", name="Undo")).to_be_focused()
    await bob.keyboard.press("Enter")
    await expect(names(bob)).to_have_text(["Summer", "Spring"])
    await bob.get_by_role("button", name="Archive Spring").click()
    await expect(names(bob)).to_have_text(["Summer"])
    await bob.get_by_role("button", name="Archived", exact=True).click()
    await expect(names(bob)).to_have_text(["Spring"])
    await bob.get_by_role("button", name="Take Spring back from the archive").click()
    await expect(names(bob)).to_have_count(0)
    assert "archived_at" not in await project_of(copydesk, project)
    await bob.get_by_role("button", name="All", exact=True).click()
    await expect(names(bob)).to_have_text(["Summer", "Spring"])


async def test_only_what_a_role_allows_is_offered(copydesk: Copydesk, open_page: OpenPage) -> None:
    viewer = [{"principal": "user:bob", "role": "viewer"}]
    await copydesk.project("To look at", visibility="private", members=viewer)
    await copydesk.project("To change")
    await copydesk.project("To manage", members=[*owned("bob"), *owned("alice")])
    bob = await open_page(copydesk, "bob")
    await expect(names(bob)).to_have_count(3)
    for name, edit, archive in (("To look at", False, False), ("To change", True, False), ("To manage", True, True)):
        await expect(bob.get_by_role("button", name=f"Edit {name}")).to_be_visible(visible=edit)
        await expect(bob.get_by_role("button", name=f"Archive {name}")).to_be_visible(visible=archive)
    await bob.get_by_role("button", name="Edit To change").click()
    await expect(bob.get_by_role("form").get_by_label("Who may see it")).to_have_count(0)


async def test_what_is_typed_into_a_card_survives_what_others_do(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project("Spring")
    bob = await open_page(copydesk, "bob")
    await bob.get_by_role("button", name="Edit Spring").click()
    description = bob.get_by_role("form", name="Edit Spring").get_by_label("Description")
    await description.fill("Half a sen")
    await copydesk.project("Summer")
    await copydesk.call("PATCH", f"/projects/{project}", {"labels": ["shop"]})
    await expect(names(bob)).to_have_text(["Summer", "Spring"])
    await expect(bob.locator(".card .label")).to_have_text(["shop"])
    await expect(description).to_be_focused()
    await expect(description).to_have_value("Half a sen")


@pytest.mark.parametrize("copydesk", [{"websockets_enabled": False, "fallback": "none"}], indirect=True)
async def test_without_a_server_the_list_says_so_and_tries_again(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_FAILED")
    await copydesk.project("Spring")
    bob = await open_page(copydesk, "bob", "#/preferences")
    await expect(bob.get_by_role("button", name="Save")).to_be_visible()
    await bob.route("**/api/v1/projects?**", lambda route: route.abort())
    await bob.get_by_role("link", name="All projects").click()
    await expect(bob.get_by_text("The projects cannot be read. The server cannot be reached.")).to_be_visible()
    await bob.unroute("**/api/v1/projects?**")
    await bob.get_by_role("button", name="Try again").click()
    await expect(names(bob)).to_have_text(["Spring"])


async def test_many_projects_come_in_portions(copydesk: Copydesk, open_page: OpenPage) -> None:
    fields = {"visibility": "public", "labels": [], "members": [], "version": 1}
    await copydesk.database["projects"].insert_many(
        [{"_id": f"p{at}", "name": f"Project {at}", **fields} for at in range(130)]
    )
    bob = await open_page(copydesk, "bob")
    await expect(names(bob)).to_have_count(60)
    await bob.get_by_role("button", name="Show 60 more projects").click()
    await expect(names(bob)).to_have_count(120)
    await bob.get_by_role("button", name="Show 10 more projects").click()
    await expect(names(bob)).to_have_count(130)
    await bob.get_by_role("searchbox", name="Search projects").fill("129")
    await expect(names(bob)).to_have_text(["Project 129"])


async def test_the_list_fits_on_a_narrow_screen_with_everything_open(copydesk: Copydesk, open_page: OpenPage) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 3
    await copydesk.project(long, user="bob", labels=[long[:40]])
    bob = await open_page(copydesk, "bob", width=360, height=640)
    await bob.get_by_role("button", name="New project").click()
    await bob.get_by_role("button", name=f"Edit {long}").click()
    await expect(bob.get_by_role("form", name=f"Edit {long}")).to_be_visible()
    assert await fits(bob)
