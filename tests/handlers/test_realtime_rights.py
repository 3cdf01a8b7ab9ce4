"""Who sees what on a live socket, and how soon it ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from pymongo.database import Database

from app.conversation import EXPIRY_NOTICE_SECONDS
from tests.conftest import Copydesk
from tests.editor import Editor
from tests.handlers.raw_socket import sign_in
from tests.handlers.relayed import Listening, foreign_comment, settled

Plain = Database[dict[str, Any]]

ALICE = {"principal": "user:alice", "role": "owner"}
BOB = {"principal": "user:bob", "role": "viewer"}
DESK = {"principal": "role:desk", "role": "commenter"}


@pytest.fixture
def another(copydesk: Copydesk, start_server: Callable[..., Copydesk]) -> Copydesk:
    """A second process on the same database."""
    return start_server()


def token(
    copydesk: Copydesk, user: str, *, ttl_seconds: float = 3600, age_seconds: float = 0, roles: tuple[str, ...] = ()
) -> str:
    """A token with times of its own."""
    issued = time.time() - age_seconds
    claims = {"sub": user, "aud": "copydesk", "iat": issued, "exp": time.time() + ttl_seconds, "roles": list(roles)}
    return jwt.encode(claims, copydesk.server.settings.auth_secret)


async def test_a_private_project_is_invisible_and_members_admins_and_services_see_it(copydesk: Copydesk) -> None:
    hidden = await copydesk.project("Hidden", visibility="private", members=[BOB, DESK])
    topic = f"project:{hidden}"
    who: dict[str, tuple[tuple[str, ...], bool]] = {
        "alice": ((), True),
        "bob": ((), True),
        "carol": ((), False),
        "dora": (("desk",), True),
        "erin": (("role:desk", "Desk"), False),
        "root": (("admin",), True),
        "robot": (("service",), True),
    }
    listeners = {}
    for user, (roles, sees) in who.items():
        editor = listeners[user] = await copydesk.editor(user, *roles)
        reply = await editor.subscribe(topic)
        assert ("ok" in reply) is sees, user
        await editor.subscribe("projects")
        assert (hidden in editor.stores["projects"].of("project")) is sees, user
    await copydesk.call("PATCH", f"/projects/{hidden}", {"name": "Still hidden"})
    await settled(copydesk, *listeners.values())
    for user, (_, sees) in who.items():
        assert len(listeners[user].events("projects")) == int(sees), user
        assert len([event for event in listeners[user].events(topic) if event["kind"] == "project"]) == int(sees), user
    assert not any(hidden in json.dumps(frame) for frame in listeners["carol"].frames)


async def test_membership_is_followed_live_in_every_direction(copydesk: Copydesk, plain_database: Plain) -> None:
    project = await copydesk.project("Team", visibility="private")
    base, topic = f"/projects/{project}", f"project:{project}"
    bob, dora = await copydesk.editor("bob"), await copydesk.editor("dora", "desk")
    for editor in (bob, dora):
        await editor.subscribe("projects")
    heard = {editor: Listening(copydesk, editor, "projects") for editor in (bob, dora)}

    async def both() -> list[list[tuple[str, int | None]]]:
        told = [await heard[editor].told() for editor in (bob, dora)]
        return [[(change, version) for change, _, version in listed] for (listed,) in told]

    await copydesk.call("PATCH", base, {"members": [ALICE, BOB]})
    assert await both() == [[("enter", 2)], []]
    await bob.subscribe(topic)
    await copydesk.call("PATCH", base, {"members": [ALICE, BOB, DESK]})
    assert await both() == [[("update", 3)], [("enter", 3)]]
    await dora.subscribe(topic)

    # Removed: what came before is told, nothing after it.
    await copydesk.call("POST", f"{base}/comments", {"body": "Before"})
    await copydesk.call("PATCH", base, {"members": [ALICE, DESK]})
    await copydesk.call("POST", f"{base}/comments", {"body": "After"})
    assert await both() == [[("leave", 4)], [("update", 4)]]
    assert (bob.pushes[topic][-1]["push"], bob.pushes[topic][-1]["code"]) == ("unsubscribed", "not_found")
    assert [event["doc"]["body"] for event in bob.events(topic) if event["kind"] == "comment"] == ["Before"]
    assert [event["doc"]["body"] for event in dora.events(topic) if event["kind"] == "comment"] == ["Before", "After"]
    assert "doc" not in bob.events("projects")[-1]
    assert (await bob.command("subscribe", topic=topic))["error"]["code"] == "not_found"

    # Another program does it, and says nothing of a version.
    plain_database.projects.update_one({"_id": project}, {"$set": {"members": [ALICE]}})
    assert await both() == [[], [("leave", None)]]
    assert dora.pushes[topic][-1]["push"] == "unsubscribed"
    plain_database.projects.update_one({"_id": project}, {"$set": {"visibility": "public"}})
    assert await both() == [[("enter", None)]] * 2
    await bob.subscribe(topic)
    await copydesk.call("PATCH", base, {"archived": True})
    assert await both() == [[("update", 5)]] * 2
    plain_database.projects.update_one({"_id": project}, {"$set": {"visibility": "private"}})
    assert await both() == [[("leave", None)]] * 2
    assert bob.pushes[topic][-1]["push"] == "unsubscribed"
    assert copydesk.server.hub.subscriptions == 2


async def test_a_project_deleted_by_anyone_ends_its_topic(copydesk: Copydesk, plain_database: Plain) -> None:
    ours, theirs, broken = [await copydesk.project(name) for name in ("Ours", "Theirs", "Broken")]
    root = await copydesk.editor("root", "admin")
    for topic in ("projects", *(f"project:{project}" for project in (ours, theirs, broken))):
        await root.subscribe(topic)
    await copydesk.call("POST", f"/projects/{ours}/comments", {"body": "x"})
    await copydesk.call("DELETE", f"/projects/{ours}")
    plain_database.projects.delete_one({"_id": theirs})
    plain_database.projects.update_one({"_id": broken}, {"$set": {"name": 5}})
    plain_database.comments.insert_one(foreign_comment("c", ours))
    await settled(copydesk, root)
    assert [(event["change"], event["id"]) for event in root.events("projects")] == [
        ("delete", ours), ("delete", theirs), ("delete", broken),
    ]  # fmt: skip
    for project in (ours, theirs, broken):
        assert root.pushes[f"project:{project}"][-1]["code"] == "not_found"
        assert (await root.command("subscribe", topic=f"project:{project}"))["error"]["code"] == "not_found"
    assert copydesk.server.hub.subscriptions == 1


# -- what ends a connection -------------------------------------------------------------------------------------------


async def closed_with(editor: Editor) -> int | None:
    return (await asyncio.wait_for(asyncio.shield(editor.closed), 20))[0]


async def test_whoever_is_disabled_or_signed_out_is_cut_off_on_every_process(
    copydesk: Copydesk, another: Copydesk
) -> None:
    admin = {"user": "root", "roles": ("admin",)}
    here, there = [await process.editor("bob") for process in (copydesk, another)]
    bystander = await another.editor("carol")
    await copydesk.call("PATCH", "/admin/users/bob", {"disabled": True}, **admin)
    assert [await closed_with(here), await closed_with(there)] == [4102, 4102]
    for editor in (here, there):
        assert (editor.frames[-1]["push"], editor.frames[-1]["code"]) == ("error", "unauthenticated")
    refused = await another.socket()
    assert (await refused.command("hello", token=another.token("bob")))["error"]["code"] == "unauthenticated"
    assert await closed_with(refused) == 4401
    await copydesk.call("PATCH", "/admin/users/bob", {"disabled": False}, **admin)

    here, there = [await process.editor("bob") for process in (copydesk, another)]
    await copydesk.call("POST", "/admin/users/bob/sign-out", {}, **admin)
    assert [await closed_with(here), await closed_with(there)] == [4102, 4102]
    assert not bystander.closed.done()
    assert "ok" in await bystander.subscribe("projects")


async def test_signing_out_ends_the_sockets_of_that_session_on_every_process(
    copydesk: Copydesk, another: Copydesk
) -> None:
    cookie = await sign_in(copydesk)
    mine = [
        await process.editor("carol", headers={"Cookie": cookie, "Origin": process.url})
        for process in (copydesk, another)
    ]
    by_session = [
        await process.socket(headers={"Cookie": cookie, "Origin": process.url}) for process in (copydesk, another)
    ]
    for socket in by_session:
        assert "ok" in await socket.command("hello")
    response = await copydesk.request("DELETE", "/session", user=None, Cookie=cookie, Origin=copydesk.url)
    assert response.code == 204
    assert [await closed_with(socket) for socket in by_session] == [4102, 4102]
    # A token is no session, though its bearer has one too.
    assert [socket.closed.done() for socket in mine] == [False, False]


async def test_other_instance_roles_in_a_newer_token_end_the_sockets_of_older_ones_on_every_process(
    copydesk: Copydesk, another: Copydesk
) -> None:
    sockets = [await process.socket() for process in (copydesk, another)]
    for process, socket in zip((copydesk, another), sockets, strict=True):
        assert "ok" in await socket.command("hello", token=token(process, "bob", age_seconds=60, roles=("admin",)))
    newer = await another.editor("bob", "desk")
    assert [await closed_with(socket) for socket in sockets] == [4102, 4102]
    assert not newer.closed.done()
    # A newer token that says the same ends nobody.
    await copydesk.editor("bob", "desk")
    assert "ok" in await newer.subscribe("projects")


async def test_a_token_that_expires_is_announced_and_ends_the_connection(copydesk: Copydesk) -> None:
    lasting = await copydesk.socket()
    assert "ok" in await lasting.command("hello", token=token(copydesk, "bob", ttl_seconds=EXPIRY_NOTICE_SECONDS + 60))
    short = await copydesk.socket()
    reply = await short.command("hello", token=token(copydesk, "bob", ttl_seconds=1.5))
    announced = await short.next_push("token_expiring")
    assert announced["expires_at"] == reply["ok"]["expires_at"]
    assert await closed_with(short) == 4101
    assert short.of("error")[0]["code"] == "token_expired"
    assert not lasting.of("token_expiring")


async def test_a_refresh_in_time_keeps_the_connection(copydesk: Copydesk) -> None:
    bob = await copydesk.socket()
    await bob.command("hello", token=token(copydesk, "bob", ttl_seconds=2))
    await bob.next_push("token_expiring")
    assert "ok" in await bob.command("refresh", token=copydesk.token("bob"))
    short = await copydesk.socket()
    await short.command("hello", token=token(copydesk, "bob", ttl_seconds=2.5))
    assert await closed_with(short) == 4101
    assert not bob.closed.done()
    assert len(bob.of("token_expiring")) == 1
