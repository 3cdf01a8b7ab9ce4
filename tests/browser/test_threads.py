"""Threads and comments on the edit page: editing, deleting, mentioning, filtering, and what colleagues do meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from app.protocol import CloseCode
from tests.browser.conftest import Complaints, OpenPage
from tests.browser.test_edit_page import add_item, comment_field, fits
from tests.conftest import Copydesk

MakeUser = Callable[..., Awaitable[None]]
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def say(copydesk: Copydesk, project: str, body: str, *, user: str = "alice", **about: str) -> dict[str, Any]:
    """Comment as somebody."""
    path = f"/projects/{project}/comments"
    made: dict[str, Any] = await copydesk.call("POST", path, {"body": body, **about}, user=user)
    return made


async def rewrite(copydesk: Copydesk, comment: dict[str, Any], body: str) -> None:
    """Edit a comment as its author, in another place than the page."""
    path = f"/projects/{comment['project_id']}/comments/{comment['id']}"
    await copydesk.call("PATCH", path, {"body": body}, user=comment["author"])


def comment(page: Page, text: str) -> Locator:
    return page.locator(".comment", has_text=text)


def thread(page: Page, text: str) -> Locator:
    return page.locator(".thread", has_text=text)


def row_of(page: Page, item: str) -> Locator:
    return page.locator(".item", has_text=item)


def bodies(page: Page) -> Locator:
    return page.locator(".comment .body")


def edit_field(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Edit your comment")


def edit(page: Page) -> Locator:
    return page.get_by_role("button", name="Edit what you wrote")


async def lose_the_answer(route: Route) -> None:
    """The server does what is asked, and nobody hears of it."""
    if route.request.method == "GET":
        await route.continue_()
    else:
        await route.fetch()
        await route.abort()


async def begin_edit(page: Page, text: str) -> Locator:
    """Press Edit on a comment; the field."""
    await page.locator(".comment", has_text=text).get_by_role("button", name="Edit what you wrote").click()
    field = edit_field(page)
    await expect(field).to_be_focused()
    return field


async def test_an_author_edits_a_comment_in_its_place_and_the_others_see_that(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    await say(copydesk, project, "The headlin is wrong", user="bob")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = await begin_edit(bob, "The headlin")
    await expect(field).to_have_value("The headlin is wrong")
    await field.fill("The headline is wrong")
    await field.press("Control+Enter")

    await expect(bodies(alice)).to_have_text("The headline is wrong")
    await expect(comment(alice, "The headline").get_by_text("edited")).to_have_attribute("datetime", RFC3339)
    await expect(bodies(bob)).to_have_text("The headline is wrong")
    await expect(field).to_have_count(0)
    await expect(edit(bob)).to_be_focused()
    await expect(edit(alice)).to_have_count(0)
    stored = await copydesk.database["comments"].find_one({})
    assert (stored["body"], stored["version"]) == ("The headline is wrong", 2)


async def test_escape_ends_an_edit_only_where_nothing_is_lost_by_it(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    await say(copydesk, project, "As it was", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = await begin_edit(bob, "As it was")
    await field.press("Escape")
    await expect(field).to_have_count(0)
    await expect(edit(bob)).to_be_focused()
    field = await begin_edit(bob, "As it was")
    await field.fill("As it was, nearly")
    await field.press("Escape")
    await expect(field).to_have_value("As it was, nearly")
    await bob.get_by_role("button", name="Cancel").click()
    await expect(bodies(bob)).to_have_text("As it was")


async def test_an_edit_that_meets_another_shows_both_and_the_writer_chooses(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    said = await say(copydesk, project, "We need 10 pictures", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = await begin_edit(bob, "We need 10")
    await field.fill("We need 12 pictures")
    await rewrite(copydesk, said, "We need 11 pictures")

    conflict = bob.locator(".conflict")
    await expect(conflict).to_have_text("It was changed meanwhile, and now says:We need 11 pictures")
    await expect(field).to_have_value("We need 12 pictures")
    await expect(field).to_be_focused()
    await bob.get_by_role("button", name="Save mine").click()
    await expect(bodies(bob)).to_have_text("We need 12 pictures")

    field = await begin_edit(bob, "We need 12")
    await field.fill("We need 13 pictures")
    await rewrite(copydesk, said, "We need 14 pictures")
    await bob.get_by_role("button", name="Keep the other").click()
    await expect(bodies(bob)).to_have_text("We need 14 pictures")
    await expect(field).to_have_count(0)


async def test_a_change_in_the_very_moment_of_saving_is_refused_by_the_server_and_shown(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("412 (Precondition Failed)")
    project = await copydesk.project()
    said = await say(copydesk, project, "First", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    statuses: list[int] = []

    async def overtake(route: Route) -> None:
        if route.request.method == "PATCH" and not statuses:
            await rewrite(copydesk, said, "From the other tab")
            answer = await route.fetch()
            statuses.append(answer.status)
            await route.fulfill(response=answer)
        else:
            await route.continue_()

    await bob.route("**/comments/*", overtake)
    field = await begin_edit(bob, "First")
    await field.fill("From this tab")
    await bob.get_by_role("button", name="Save", exact=True).click()
    await expect(bob.locator(".conflict")).to_contain_text("From the other tab")
    assert statuses == [412]
    await expect(field).to_have_value("From this tab")
    await bob.get_by_role("button", name="Save mine").click()
    await expect(bodies(bob)).to_have_text("From this tab")


async def test_a_thread_that_is_resolved_meanwhile_is_no_conflict_of_texts(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    said = await say(copydesk, project, "First", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = await begin_edit(bob, "First")
    await field.fill("First, and more")
    await copydesk.call("PATCH", f"/projects/{project}/comments/{said['id']}", {"resolved": True})
    await expect(bob.get_by_text("resolved by")).to_be_visible()
    await expect(field).to_be_focused()
    await bob.get_by_role("button", name="Save", exact=True).click()
    await expect(bodies(bob)).to_have_text("First, and more")
    stored = await copydesk.database["comments"].find_one({})
    assert stored["resolved"]["by"] == "alice"


async def test_what_is_deleted_while_it_is_edited_leaves_the_text_to_be_copied(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    said = await say(copydesk, project, "First", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = await begin_edit(bob, "First")
    await field.fill("A long thought")
    await copydesk.call("DELETE", f"/projects/{project}/comments/{said['id']}")
    await expect(bob.get_by_text("It was deleted meanwhile.")).to_be_visible()
    await expect(field).to_have_value("A long thought")
    await bob.reload()
    await expect(edit_field(bob)).to_have_value("A long thought")
    await expect(bob.get_by_text("It was deleted meanwhile.")).to_be_visible()
    await bob.get_by_role("button", name="Discard").click()
    await expect(bob.locator(".comment")).to_have_count(0)


async def test_an_edit_survives_a_reload_an_outage_and_an_answer_that_is_lost(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_")
    project = await copydesk.project()
    item = await add_item(copydesk, project)
    await say(copydesk, project, "First", user="bob", item_id=item)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}/items/{item}")
    field = await begin_edit(bob, "First")
    await field.fill("First, better")
    await bob.reload()
    await expect(edit_field(bob)).to_have_value("First, better")
    await bob.goto(f"{copydesk.url}/#/projects/{project}")
    await expect(bob.get_by_role("heading", name="About this project")).to_be_visible()
    await expect(edit_field(bob)).to_have_count(0)
    await bob.go_back()
    await expect(edit_field(bob)).to_have_value("First, better")

    await bob.context.set_offline(True)
    await bob.get_by_role("button", name="Save", exact=True).click()
    await expect(bob.get_by_role("alert").filter(has_text="Not saved.")).to_be_visible()
    await expect(edit_field(bob)).to_have_value("First, better")
    await bob.context.set_offline(False)

    await bob.route("**/comments/*", lose_the_answer)
    await bob.get_by_role("button", name="Retry").click()
    await expect(bob.get_by_role("alert").filter(has_text="Not saved.")).to_be_visible()
    await bob.unroute("**/comments/*")
    await bob.get_by_role("button", name="Retry").click()
    await expect(edit_field(bob)).to_have_count(0)
    await expect(bodies(bob)).to_have_text("First, better")
    stored = await copydesk.database["comments"].find_one({})
    assert stored["version"] == 2


async def test_a_comment_that_may_have_been_sent_before_a_reload_can_be_sent_again(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.append("net::ERR_")
    project = await copydesk.project()
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await bob.route("**/comments", lose_the_answer)
    await comment_field(bob).fill("Only once, please")
    await bob.get_by_role("button", name="Comment").click()
    await expect(bob.get_by_role("alert").filter(has_text="Not sent.")).to_be_visible()
    await bob.unroute("**/comments")
    await bob.reload()
    await expect(bob.get_by_text("This may not have been sent.")).to_be_visible()
    await bob.get_by_role("button", name="Retry").click()
    await expect(comment_field(bob)).to_have_value("")
    await expect(bob.get_by_text("This may not have been sent.")).to_have_count(0)
    assert await copydesk.database["comments"].count_documents({}) == 1


async def test_an_author_deletes_a_comment_after_a_question(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    said = await say(copydesk, project, "Stays")
    await say(copydesk, project, "Goes", user="bob", thread_id=said["id"])
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    await expect(bob.get_by_role("button", name="Delete what Alice")).to_have_count(0)
    delete = bob.get_by_role("button", name="Delete what you wrote")
    await delete.click()
    question = bob.get_by_role("group", name="Delete this comment?")
    await expect(question.get_by_role("button", name="Keep it")).to_be_focused()
    await bob.keyboard.press("Escape")
    await expect(question).to_be_hidden()
    await expect(delete).to_be_focused()
    await delete.click()
    await question.get_by_role("button", name="Delete for everybody").click()

    for page in (alice, bob):
        await expect(bodies(page).nth(0)).to_have_text("Stays")
        await expect(bodies(page).nth(1)).to_contain_text("This comment was deleted by Bob, ")
    await expect(alice.locator(".comment[data-fresh]")).to_have_count(1)
    await expect(alice.locator("#announcer")).to_have_text("Bob deleted a comment on the project.", timeout=10_000)
    await expect(question).to_be_hidden()
    await expect(delete).to_be_hidden()
    await expect(bob.locator(".comment").nth(1)).to_be_focused()


async def test_an_owner_may_delete_what_others_wrote_and_edit_nothing_of_it(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    said = await say(copydesk, project, "Rude", user="bob")
    await say(copydesk, project, "An answer", user="bob", thread_id=said["id"])
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    await comment(alice, "Rude").get_by_role("button", name="Delete what Bob wrote").click()
    await expect(edit(alice)).to_have_count(0)
    await alice.get_by_role("button", name="Delete for everybody").click()
    await expect(alice.get_by_text("This comment was deleted by Alice, ")).to_be_visible()
    # A thread without its first comment takes no more replies.
    await expect(alice.get_by_text("nobody can reply any more")).to_be_visible()
    await expect(alice.get_by_role("textbox", name="Reply")).to_be_hidden()


async def test_a_name_is_completed_from_those_who_may_see_the_project(
    copydesk: Copydesk, open_page: OpenPage, make_user: MakeUser
) -> None:
    for user in ("carol", "cedric"):
        await make_user(copydesk, user)
    members = [{"principal": f"user:{user}", "role": "editor"} for user in ("bob", "carol", "cedric")]
    project = await copydesk.project(
        visibility="private", members=[*members, {"principal": "role:checkers", "role": "viewer"}]
    )
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = comment_field(bob)
    await field.press_sequentially("Dear @c")
    options = bob.get_by_role("option")
    await expect(options).to_have_text(["Carol @carol", "Cedric @cedric", "checkers @role:checkers group"])
    await expect(options.nth(0)).to_have_attribute("aria-selected", "true")
    first = await options.nth(0).get_attribute("id")
    await expect(field).to_have_attribute("aria-activedescendant", first or "")
    await expect(bob.get_by_role("listbox", name="People and groups")).to_be_visible()
    await field.press("ArrowDown")
    await expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    await field.press("ArrowUp")
    await field.press("ArrowUp")
    await expect(options.nth(2)).to_have_attribute("aria-selected", "true")
    await field.press("ArrowDown")
    await field.press("ArrowDown")
    await field.press("Enter")
    await expect(field).to_have_value("Dear @cedric ")
    await expect(field).to_be_focused()
    await expect(options).to_have_count(0)

    await field.press_sequentially("or @CA")
    await expect(options).to_have_text(["Carol @carol"])
    await field.press("Tab")
    await expect(field).to_have_value("Dear @cedric or @carol ")
    await field.press_sequentially("and @role:c")
    await options.nth(0).click()
    await expect(field).to_have_value("Dear @cedric or @carol and @role:checkers ")
    await field.press("Control+z")
    await expect(field).to_have_value("Dear @cedric or @carol and @role:c")
    await field.press("End")
    await field.press_sequentially("h")
    await expect(options).to_have_text(["checkers @role:checkers group"])
    await field.press("Control+Enter")
    await expect(options).to_have_count(0)
    await expect(bob.locator(".mention")).to_have_text(["@cedric", "@carol", "@role:ch"])
    await expect(bob.locator(".mention").first).to_have_attribute("title", "Cedric")
    stored = await copydesk.database["comments"].find_one({})
    assert (stored["mentions"], stored["mention_groups"]) == (["cedric", "carol"], ["ch"])


async def test_nobody_is_offered_who_may_not_see_the_project(
    copydesk: Copydesk, open_page: OpenPage, make_user: MakeUser
) -> None:
    for user in ("dagmar", "dora"):
        await make_user(copydesk, user)
    members = [{"principal": f"user:{user}", "role": "editor"} for user in ("bob", "dagmar")]
    project = await copydesk.project(visibility="private", members=members)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await comment_field(bob).press_sequentially("@d")
    await expect(bob.get_by_role("option")).to_have_text(["Dagmar @dagmar"])
    await expect(bob.get_by_text("1 suggestion.")).to_have_count(1)


async def test_escape_leaves_a_mention_as_it_is_typed(
    copydesk: Copydesk, open_page: OpenPage, make_user: MakeUser
) -> None:
    await make_user(copydesk, "carol")
    project = await copydesk.project()
    await say(copydesk, project, "First", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    field = await begin_edit(bob, "First")
    await field.press_sequentially(" @car")
    options = bob.get_by_role("option")
    await expect(options).to_have_text(["Carol @carol"])
    await field.press("Escape")
    await expect(options).to_have_count(0)
    await expect(field).to_have_value("First @car")
    await field.press("Enter")
    await field.press_sequentially("me@c, @c")
    await expect(options).to_have_text(["Carol @carol"])
    await bob.get_by_role("button", name="Save", exact=True).click()
    await expect(bodies(bob)).to_have_text("First @car\nme@c, @c")


async def test_threads_are_filtered_and_what_one_is_in_stays(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    done = await say(copydesk, project, "Done")
    await copydesk.call("PATCH", f"/projects/{project}/comments/{done['id']}", {"resolved": True})
    doing = await say(copydesk, project, "Doing")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator(".thread")).to_have_count(2)
    await bob.get_by_text("Open (1)").click()
    await expect(bob.get_by_role("radio", name="Open (1)")).to_be_checked()
    await expect(bob.locator(".thread")).to_have_count(1)
    await thread(bob, "Doing").get_by_role("textbox", name="Reply").fill("Half a thought")
    await copydesk.call("PATCH", f"/projects/{project}/comments/{doing['id']}", {"resolved": True})
    await expect(bob.get_by_role("radio", name="Open (0)")).to_be_checked()
    await expect(bob.get_by_role("textbox", name="Reply")).to_be_focused()
    await expect(bob.get_by_role("textbox", name="Reply")).to_have_value("Half a thought")

    await bob.get_by_role("radio", name="Open (0)").focus()
    await bob.keyboard.press("ArrowRight")
    await expect(bob.get_by_role("radio", name="Resolved (2)")).to_be_checked()
    await expect(bob.locator(".thread")).to_have_count(2)
    # An address that names a thread shows it, whatever the filter says.
    open_one = await say(copydesk, project, "Open again")
    await expect(bob.get_by_role("radio", name="Open (1)")).to_be_visible()
    await expect(thread(bob, "Open again")).to_have_count(0)
    await bob.goto(f"{copydesk.url}/#/projects/{project}/threads/{open_one['id']}")
    await expect(thread(bob, "Open again")).to_be_focused()
    await expect(bob.get_by_role("radio", name="All")).to_be_checked()


@pytest.mark.parametrize("width", [360, 1280])
async def test_what_arrives_does_not_move_what_one_is_typing(
    copydesk: Copydesk, open_page: OpenPage, width: int
) -> None:
    project = await copydesk.project()
    lower = await say(copydesk, project, "Lower")
    upper = await say(copydesk, project, "Upper")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}", width=width, height=640)
    reply = thread(bob, "Lower").get_by_role("textbox", name="Reply")
    await reply.press_sequentially("Half")
    before = await reply.bounding_box()
    assert before is not None
    await say(copydesk, project, "Quite new")
    await expect(thread(bob, "Quite new")).to_be_visible()
    long = "A reply of many words that takes some lines. " * 12
    await say(copydesk, project, long, thread_id=upper["id"])
    await say(copydesk, project, "Another reply", thread_id=upper["id"])
    await expect(bob.get_by_text("Another reply")).to_have_count(1)
    # The thread's own comments come above the field, where it has to make room.
    await reply.press_sequentially(" a thought")
    await expect(reply).to_have_value("Half a thought")
    after = await reply.bounding_box()
    assert after is not None
    assert after["y"] == pytest.approx(before["y"], abs=2)
    await say(copydesk, project, "Right above", thread_id=lower["id"])
    await expect(thread(bob, "Lower").get_by_text("Right above")).to_be_visible()
    await expect(reply).to_be_focused()
    await expect(bob.locator(".thread .body").first).to_have_text("Upper")


async def test_threads_with_something_new_are_marked_until_one_was_there(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project)
    await say(copydesk, project, "@bob please look", item_id=item)
    await say(copydesk, project, "Nothing for bob", item_id=item)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator(".badge")).to_have_text("1")
    await bob.get_by_role("link", name="2 open, 2 comments on Home page").click()
    # Opening the item read the entry; what was new is still to be found.
    marked = bob.get_by_role("article", name="Thread by Alice, something is new")
    await expect(marked).to_have_count(1)
    await expect(marked).to_contain_text("please look")
    await expect(marked.get_by_text("New", exact=True)).to_be_visible()
    await expect(bob.locator(".badge")).to_have_text("")
    await marked.get_by_text("please look").click()
    await expect(marked).to_have_count(0)

    # About the project nothing is read by opening it: the mark goes when the inbox has it as read, in any tab.
    told = await say(copydesk, project, "@bob and here")
    await expect(bob.locator(".badge")).to_have_text("1")
    await bob.get_by_role("link", name="About this project (1, something is new)").click()
    await expect(marked).to_contain_text("and here")
    answer = await copydesk.call("GET", "/notifications?state=unread", user="bob")
    assert [entry["subject"]["thread_id"] for entry in answer["items"]] == [told["id"]]
    entry = answer["items"][0]["id"]
    await copydesk.call("PATCH", f"/notifications/{entry}", {"read": True}, user="bob")
    await expect(marked).to_have_count(0)
    # Who is in the thread has read what comes there.
    await thread(bob, "and here").get_by_role("textbox", name="Reply").fill("Yes?")
    await say(copydesk, project, "@bob you are there", thread_id=told["id"])
    await expect(bob.get_by_text("you are there")).to_be_visible()
    async with asyncio.timeout(10):
        while (await copydesk.call("GET", f"/notifications/{entry}", user="bob"))["event_count"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while "read_at" not in await copydesk.call("GET", f"/notifications/{entry}", user="bob"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await expect(marked).to_have_count(0)


async def test_many_threads_are_shown_page_by_page(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    seen = await copydesk.database["projects"].find_one({"_id": project})
    await copydesk.database["comments"].insert_many(
        {
            "_id": f"c{number:03}",
            "project_id": project,
            "body": f"Number {number}",
            "author": "cms",
            "created_at": seen["created_at"],
        }
        for number in range(70)
    )
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator(".thread")).to_have_count(50)
    await bob.get_by_role("button", name="Show 20 more of 70 threads").press("Enter")
    await expect(bob.locator(".thread")).to_have_count(70)
    await expect(bob.locator(".thread").nth(50)).to_be_focused()
    await bob.goto(f"{copydesk.url}/#/projects/{project}/threads/c000")
    await bob.reload()
    await expect(thread(bob, "Number 0").first).to_be_focused()


async def test_a_break_of_the_connection_leaves_edit_and_reply_as_they_are(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    said = await say(copydesk, project, "First", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bob.locator("#connection")).to_have_text("Live")
    await bob.get_by_role("textbox", name="Reply").fill("A reply")
    field = await begin_edit(bob, "First")
    await field.fill("First, and more")
    copydesk.server.connections.close_where(lambda _connection: True, CloseCode.LOST)
    await say(copydesk, project, "Meanwhile", thread_id=said["id"])
    await expect(bob.get_by_text("Meanwhile")).to_be_visible()
    await expect(field).to_be_focused()
    await expect(field).to_have_value("First, and more")
    await expect(bob.get_by_role("textbox", name="Reply")).to_have_value("A reply")


async def test_an_open_edit_and_an_open_list_fit_on_a_narrow_screen(
    copydesk: Copydesk, open_page: OpenPage, make_user: MakeUser
) -> None:
    long = "Donaudampfschifffahrtsgesellschaft" * 5
    await make_user(copydesk, "c" * 64)
    project = await copydesk.project()
    said = await say(copydesk, project, long, user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}", width=360, height=640)
    field = await begin_edit(bob, long)
    await field.press_sequentially(" @c")
    await expect(bob.get_by_role("option")).to_have_count(1)
    await rewrite(copydesk, said, long.upper())
    await expect(bob.locator(".theirs")).to_have_text(long.upper())
    assert await fits(bob)


async def test_a_click_hits_what_it_was_aimed_at_though_the_page_changes_by_it(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    item = await add_item(copydesk, project)
    lower = await say(copydesk, project, "Lower", user="bob", item_id=item)
    await say(copydesk, project, "Upper", user="bob", item_id=item)
    await say(copydesk, project, "@bob yes", item_id=item, thread_id=lower["id"])
    bob = await open_page(copydesk, "bob")
    await expect(bob.locator(".badge")).to_have_text("1")
    await bob.goto(f"{copydesk.url}/#/projects/{project}/items/{item}")
    # The mark goes with the first click into the thread.
    marked = bob.locator(".thread[data-unread]")
    await expect(marked).to_contain_text("Lower")
    await marked.get_by_role("button", name="Edit what you wrote").click()
    await expect(edit_field(bob)).to_be_focused()
    await expect(marked).to_have_count(0)
    await bob.keyboard.press("Escape")
    # An empty form shrinks when one leaves it, and all below it goes up.
    await comment_field(bob).click()
    await expect(bob.get_by_role("button", name="Comment", exact=True)).to_be_visible()
    await thread(bob, "Lower").get_by_role("button", name="Resolve").click()
    await expect(bob.get_by_text("resolved by Bob")).to_be_visible()
    await expect(bob.get_by_role("button", name="Comment", exact=True)).to_be_hidden()


async def test_what_is_written_stays_when_the_item_or_the_right_to_comment_is_gone(
    copydesk: Copydesk, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expected.extend(["403 (Forbidden)", "404 (Not Found)"])
    project = await copydesk.project(visibility="private", members=[{"principal": "user:bob", "role": "editor"}])
    item = await add_item(copydesk, project)
    said = await say(copydesk, project, "First", item_id=item)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}/items/{item}")
    await bob.get_by_role("textbox", name="Reply").fill("Half a reply")
    await comment_field(bob).fill("Half a thought")
    members = [{"principal": "user:alice", "role": "owner"}, {"principal": "user:bob", "role": "viewer"}]
    await copydesk.call("PATCH", f"/projects/{project}", {"members": members})
    await expect(bob.get_by_role("button", name="Resolve")).to_be_hidden()
    await expect(comment_field(bob)).to_have_value("Half a thought")
    await expect(bob.get_by_role("textbox", name="Reply")).to_have_value("Half a reply")
    await copydesk.call("DELETE", f"/projects/{project}/items/{item}")
    await expect(bob.get_by_role("heading", name="This item was removed")).to_be_visible()
    await bob.get_by_role("button", name="Comment", exact=True).click()
    await expect(bob.get_by_role("alert").filter(has_text="Not sent.")).to_be_visible()
    await expect(comment_field(bob)).to_have_value("Half a thought")
    await copydesk.call("DELETE", f"/projects/{project}/comments/{said['id']}")
    await expect(bob.get_by_text("This comment was deleted by Alice, ")).to_be_visible()
    await expect(bob.get_by_role("textbox", name="Reply")).to_have_value("Half a reply")
    await bob.reload()
    await expect(bob.get_by_role("textbox", name="Reply")).to_have_value("Half a reply")


async def test_a_comment_that_a_colleague_takes_away_is_seen_to_be_deleted_before_it_goes(
    copydesk: Copydesk, open_page: OpenPage
) -> None:
    project = await copydesk.project()
    said = await say(copydesk, project, "Alone", user="bob")
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    alice = await open_page(copydesk, "alice", f"#/projects/{project}")
    # What it reads at the beginning is no news.
    await expect(comment(alice, "Alone")).to_be_visible()
    await expect(alice.locator("#connection")).to_have_text("Live")
    await rewrite(copydesk, said, "Alone in here")
    await expect(comment(alice, "Alone in here").locator(".line")).to_contain_text(re.compile(r"Bob .* · edited \d"))
    await expect(alice.locator("#announcer")).to_have_text("Bob edited a comment on the project.", timeout=10_000)
    await bob.get_by_role("button", name="Delete what you wrote").click()
    await bob.get_by_role("button", name="Delete for everybody").click()
    # Whoever did it knows.
    await expect(bodies(bob)).to_have_count(0)
    await expect(bodies(alice)).to_have_text([re.compile("This comment was deleted by Bob, ")])
    await expect(bodies(alice)).to_have_count(0, timeout=15_000)


async def test_what_is_said_of_all_selected_items_stands_beside_them(copydesk: Copydesk, open_page: OpenPage) -> None:
    project = await copydesk.project()
    ids = {name: await add_item(copydesk, project, name) for name in ("One", "Two", "Three")}
    await say(copydesk, project, "About all")
    for name, item in ids.items():
        await say(copydesk, project, f"About {name}", item_id=item)
    bob = await open_page(copydesk, "bob", f"#/projects/{project}")
    await expect(bodies(bob)).to_have_text(["About all"])
    await bob.get_by_role("checkbox", name="Select One").click()
    await expect(bob.get_by_role("heading", name="One", level=2)).to_be_visible()
    await expect(bodies(bob)).to_have_text(["About One"])
    await bob.get_by_role("checkbox", name="Select Three").click()
    await expect(bob.get_by_role("heading", name="About 2 selected items")).to_be_visible()
    await expect(bodies(bob)).to_have_text(["About Three", "About One"])
    await expect(bob.locator(".thread .about")).to_have_text(["Three", "One"])
    await expect(bob.get_by_role("article", name="Thread by Alice on Three")).to_be_visible()

    # A new thread is about the item that was turned to last, and says so.
    await expect(bob.get_by_text("A new thread is about One.")).to_be_visible()
    await comment_field(bob).fill("And this")
    await bob.get_by_role("button", name="Comment", exact=True).click()
    await expect(bodies(bob)).to_have_text(["And this", "About Three", "About One"])
    await thread(bob, "About Three").get_by_role("textbox", name="Reply").fill("Yes")
    await thread(bob, "About Three").get_by_role("button", name="Reply").click()
    await expect(thread(bob, "About Three").locator(".body")).to_have_text(["About Three", "Yes"])
    # What is said meanwhile comes too, if it is about one of them, and below where one is.
    await say(copydesk, project, "Not this", item_id=ids["Two"])
    await say(copydesk, project, "Also this", item_id=ids["Three"])
    await expect(bodies(bob)).to_have_text(["And this", "About Three", "Yes", "Also this", "About One"])

    await thread(bob, "Also this").get_by_role("link", name="Three").click()
    await expect(bob.get_by_role("heading", name="Three", level=2)).to_be_focused()
    await expect(bodies(bob)).to_have_text(["Also this", "About Three", "Yes"])
    await bob.get_by_role("checkbox", name="Select Two").click()
    await expect(bob.get_by_role("heading", name="About 3 selected items")).to_be_visible()
    await bob.get_by_role("tab", name="Changes").click()
    await expect(bob.get_by_text("These are the changes of the whole project.")).to_be_visible()
    await bob.get_by_role("tab", name="Comments").click()
    await bob.get_by_role("link", name="About this project (1)").click()
    await expect(bodies(bob)).to_have_text(["About all"])
    await row_of(bob, "Two").focus()
    await bob.keyboard.press("ControlOrMeta+a")
    await expect(bob.locator(".thread")).to_have_count(6)
    await expect(bob.get_by_text("To begin a thread, click the item")).to_be_visible()
    # An address that is open already leads there once more.
    await bob.get_by_role("link", name="About this project (1)").click()
    await expect(bob.get_by_role("heading", name="About this project")).to_be_focused()
    await expect(bodies(bob)).to_have_text(["About all"])
    await row_of(bob, "Two").focus()
    await bob.keyboard.press("Escape")
    await expect(bob.get_by_role("heading", name="About this project")).to_be_visible()
