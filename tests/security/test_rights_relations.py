"""Who may do what where the route alone does not decide: fields of an owner, statuses of a publisher, others' words.

Routes by roles are the table of tests/contract/test_rights.py. Here every role of a private project and somebody from
outside try each row, on something of their own and of others, and what was refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from tornado.ioloop import IOLoop

from tests.conftest import Copydesk
from tests.contract.test_rights import CALLERS

ROLES = ("viewer", "commenter", "editor", "publisher", "owner")
EVERYBODY = [caller for caller in CALLERS if caller != "nobody"]


class Row(NamedTuple):
    """One attempt. `{mine}` and `{other}` are comments, `{item}` an item, `{note}` somebody else's notification."""

    method: str
    path: str
    body: Any
    allowed: str
    """Those who may, separated by spaces. Outsiders and those without a right get what `refused` says."""
    refused: Mapping[str, int] = {}
    """By caller, where it is neither 403 nor, from outside, 404."""


COMMENTS, ITEMS = "/projects/{project}/comments", "/projects/{project}/items"
ALL_BUT = "commenter editor publisher owner service admin"
ABOVE_EDITOR = "publisher owner service admin"
TABLE = [
    Row("POST", COMMENTS, {"body": "x"}, ALL_BUT),
    Row("PATCH", COMMENTS + "/{mine}", {"body": "changed"}, ALL_BUT, {"viewer": 403}),
    Row("PATCH", COMMENTS + "/{other}", {"body": "changed"}, ""),
    Row("PATCH", COMMENTS + "/{other}", {"body": "changed", "resolved": True}, ""),
    Row("PATCH", COMMENTS + "/{other}", {"resolved": True}, ALL_BUT),
    Row("PATCH", COMMENTS + "/{other}", {"resolved": False}, ALL_BUT),
    Row("DELETE", COMMENTS + "/{mine}", None, ALL_BUT),
    Row("DELETE", COMMENTS + "/{other}", None, "owner admin"),
    Row("PATCH", "/projects/{project}", {"name": "Renamed"}, "editor publisher owner service admin"),
    Row("PATCH", "/projects/{project}", {"visibility": "public"}, "owner admin"),
    Row("PATCH", "/projects/{project}", {"members": "SELF"}, "owner admin"),
    Row("PATCH", "/projects/{project}", {"name": "x", "members": "SELF"}, "owner admin"),
    Row("PATCH", "/projects/{project}", {"archived": True}, "owner admin"),
    Row("PATCH", "/projects/{project}", {"archived": False}, "owner admin"),
    Row("PATCH", ITEMS + "/{item}", {"status": "ready"}, "editor publisher owner service admin"),
    Row("PATCH", ITEMS + "/{item}", {"status": "published"}, ABOVE_EDITOR),
    Row("POST", ITEMS + "/status", {"ids": ["{item}"], "status": "scheduled"}, ABOVE_EDITOR),
    Row("POST", ITEMS, {"items": [{"name": "x", "content": {"id": "{caller}", "version": "9"}, "status": "published"}]},
        ABOVE_EDITOR),
    Row("GET", "/notifications/{note}", None, "", dict.fromkeys(EVERYBODY, 404)),
    Row("PATCH", "/notifications/{note}", {"read": True}, "", dict.fromkeys(EVERYBODY, 404)),
    Row("PATCH", "/users/{caller}", {"disabled": False}, "admin", {"outsider": 403}),
    Row("POST", "/admin/users/founder/sign-out", {}, "admin", {"outsider": 403}),
    Row("PATCH", "/admin/settings", {"log_level": "info"}, "admin", {"outsider": 403}),
    Row("POST", "/notifications", {"recipients": {"users": ["founder"]}, "type": "custom", "title": "x"},
    "service admin",
        {"outsider": 403}),
]  # fmt: skip


class World(NamedTuple):
    """A private project in which founder has written."""

    project: str
    item: str
    other: str
    note: str


@pytest.fixture
def world(io_loop: IOLoop, copydesk: Copydesk) -> World:
    async def make() -> World:
        members = [{"principal": f"user:{role}", "role": role} for role in ROLES]
        project = await copydesk.project(user="founder", visibility="private", members=members)
        item = await copydesk.call(
            "POST",
            f"/projects/{project}/items",
            {"name": "Home", "content": {"id": "home", "version": "1"}},
            user="founder",
        )
        other = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "by founder"}, user="founder")
        founder = await copydesk.editor("founder")
        await founder.subscribe("inbox")
        body = {"body": "@founder", "thread_id": other["id"]}
        await copydesk.call("POST", f"/projects/{project}/comments", body, user="owner")
        await founder.until(lambda: bool(founder.stores["inbox"].of("notification")))
        return World(project, item["id"], other["id"], next(iter(founder.stores["inbox"].of("notification"))))

    made: World = io_loop.run_sync(make)
    return made


async def documents(copydesk: Copydesk, world: World) -> list[Any]:
    """What an attempt could have changed."""
    database = copydesk.database
    found = [document async for document in database.comments.find({"project_id": world.project}).sort("_id", 1)]
    found += [document async for document in database.items.find({"project_id": world.project}).sort("_id", 1)]
    return [*found, await database.projects.find_one({"_id": world.project})]


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """A body with names in their places."""
    if value == "SELF":
        return [
            {"principal": f"user:{names['caller']}", "role": "owner"},
            {"principal": "user:founder", "role": "owner"},
        ]
    if isinstance(value, dict):
        return {key: filled(entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        return [filled(entry, names) for entry in value]
    return value.format(**names) if isinstance(value, str) else value


async def faults(copydesk: Copydesk, world: World, table: Sequence[Row], callers: Sequence[str]) -> list[str]:
    """Where the server and the table disagree."""
    wrong = []
    for caller in callers:
        roles = CALLERS[caller] or ()
        names = {**world._asdict(), "caller": caller, "mine": await _comment_of(copydesk, world, caller)}
        before = await documents(copydesk, world)
        for row in table:
            allowed = caller in row.allowed.split()
            answer = await copydesk.request(
                row.method, row.path.format(**names), filled(row.body, names), user=caller, roles=roles
            )
            expected = row.refused.get(caller, 404 if caller == "outsider" else 403)
            if allowed != (answer.code < 300) or (not allowed and answer.code != expected):
                wrong.append(f"{row.method} {row.path} {row.body} by {caller}: {answer.code} {answer.body[:200]!r}")
            if answer.code < 300:
                await _restore(copydesk, world, before)
            elif await documents(copydesk, world) != before:
                wrong.append(f"{row.method} {row.path} {row.body} by {caller} was refused and changed something")
    return wrong


async def test_every_role_may_do_to_its_own_and_to_others_what_the_table_says(copydesk: Copydesk, world: World) -> None:
    assert await faults(copydesk, world, TABLE, EVERYBODY) == []


async def test_a_right_too_much_and_one_too_little_are_noticed(copydesk: Copydesk, world: World) -> None:
    for index, allowed in ((2, "owner"), (0, "owner"), (7, ALL_BUT)):
        assert len(await faults(copydesk, world, [TABLE[index]._replace(allowed=allowed)], ["owner", "editor"])) == 1


async def _comment_of(copydesk: Copydesk, world: World, caller: str) -> str:
    """A comment that says it is the caller's, though they may not write any now."""
    comment = f"by-{caller}"
    found = await copydesk.database.comments.find_one({"_id": world.other})
    mine = {**found, "_id": comment, "thread_id": comment, "author": caller}
    await copydesk.database.comments.replace_one({"_id": comment}, mine, upsert=True)
    return comment


async def _restore(copydesk: Copydesk, world: World, before: list[Any]) -> None:
    """As it was, and forgotten what this process knew of it."""
    database = copydesk.database
    for name in ("comments", "items"):
        await database[name].delete_many({"project_id": world.project})
    for document in before[:-1]:
        await database["items" if "content" in document else "comments"].insert_one(document)
    await database.projects.replace_one({"_id": world.project}, before[-1])
    copydesk.server._access.forget(world.project)
