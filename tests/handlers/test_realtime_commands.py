"""Commands on an open socket: what is carried out, what is refused, and what ends the conversation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from tornado.ioloop import IOLoop

from app.protocol import MAX_MESSAGE_BYTES, MAX_TOPICS
from tests.conftest import Copydesk
from tests.editor import Editor
from tests.handlers.raw_socket import BINARY, RawSocket, sign_in, started_with


@pytest.fixture
def sockets(io_loop: IOLoop) -> Iterator[list[RawSocket]]:
    """Raw sockets that end with the test."""
    opened: list[RawSocket] = []
    yield opened
    for opened_one in opened:
        io_loop.run_sync(opened_one.close)


async def say(editor: Editor, text: str | bytes, *, binary: bool = False) -> None:
    """A message that is no command of `Editor`'s."""
    await editor.socket.write_message(text, binary=binary)


# -- hello ------------------------------------------------------------------------------------------------------------


async def test_a_command_before_hello_ends_the_conversation(copydesk: Copydesk) -> None:
    for op in (
        {"op": "subscribe", "topic": "projects"},
        {"op": "unsubscribe", "topic": "x"},
        {"op": "refresh", "token": "x"},
    ):
        socket = await copydesk.socket()
        await say(socket, json.dumps({"id": 1, **op}))
        assert (await socket.next_push("error"))["code"] == "unauthenticated"
        assert (await socket.closed)[0] == 4401
    assert copydesk.server.hub.subscriptions == 0


async def test_a_hello_without_a_good_token_ends_the_conversation(copydesk: Copydesk) -> None:
    claims = {"sub": "bob", "aud": "copydesk", "iat": 1_600_000_000, "exp": 1_600_003_600}
    expired = jwt.encode(claims, copydesk.server.settings.auth_secret)
    cases: tuple[tuple[dict[str, str], str], ...] = (
        ({}, "unauthenticated"),
        ({"token": ""}, "unauthenticated"),
        ({"token": "nonsense"}, "unauthenticated"),
        ({"token": copydesk.token("bob")[:-2] + "xx"}, "unauthenticated"),
        ({"token": expired}, "token_expired"),
    )
    for fields, code in cases:
        socket = await copydesk.socket()
        reply = await socket.command("hello", **fields)
        assert reply["error"]["code"] == code
        assert (await socket.next_push("error"))["code"] == code
        assert (await socket.closed)[0] == 4401


async def test_who_does_not_say_hello_in_time_is_sent_away(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hasty:
        hasty.setattr("handlers.realtime.HELLO_SECONDS", 0.05)
        silent = await copydesk.socket()
        assert (await silent.next_push("error"))["code"] == "unauthenticated"
        assert (await silent.closed)[0] == 4401
        # Noise is not hello.
        noisy = await copydesk.socket()
        await say(noisy, '{"op": "pong"}')
        assert (await noisy.closed)[0] == 4401
    bob = await copydesk.editor("bob")
    await bob.subscribe("inbox")


async def test_a_second_hello_is_refused_and_changes_nothing(copydesk: Copydesk) -> None:
    project = await copydesk.project(visibility="private")
    bob = await copydesk.editor("bob")
    reply = await bob.command("hello", token=copydesk.token("alice"))
    assert reply["error"]["code"] == "conflict"
    assert (await bob.subscribe(f"project:{project}"))["error"]["code"] == "not_found"
    assert [connection.identity.user_id for connection in copydesk.server.connections if connection.identity] == ["bob"]


async def test_a_hello_that_is_repeated_while_the_first_is_under_way_is_refused(copydesk: Copydesk) -> None:
    socket = await copydesk.socket()
    replies = await asyncio.gather(
        socket.command("hello", token=copydesk.token("bob")), socket.command("hello", token=copydesk.token("alice"))
    )
    assert replies[0]["ok"]["user"]["id"] == "bob"
    assert replies[1]["error"]["code"] == "conflict"


async def test_a_handshake_that_was_signed_out_since_is_not_good_for_hello(copydesk: Copydesk) -> None:
    cookie = await sign_in(copydesk)
    by_cookie = await copydesk.socket(headers={"Cookie": cookie, "Origin": copydesk.url})
    by_token = await copydesk.socket(headers={"Authorization": f"Bearer {copydesk.token('bob')}"})
    response = await copydesk.request("DELETE", "/session", user=None, Cookie=cookie, Origin=copydesk.url)
    assert response.code == 204
    await copydesk.call("PATCH", "/admin/users/bob", {"disabled": True}, user="root", roles=("admin",))
    for socket in (by_cookie, by_token):
        reply = await socket.command("hello")
        assert reply["error"]["code"] == "unauthenticated"
        assert (await socket.closed)[0] == 4401


# -- what is no command -----------------------------------------------------------------------------------------------


async def test_an_invalid_command_is_refused_with_its_id_and_the_socket_lives(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    cases: tuple[dict[str, Any], ...] = (
        {"op": "nonsense"},
        {"op": None},
        {"op": "subscribe"},
        {"op": "subscribe", "topic": 5},
        {"op": "subscribe", "topic": {"$ne": ""}},
        {"op": "subscribe", "topic": "projects", "since": 5},
        {"op": "subscribe", "topic": "projects", "snapshot": "no"},
        {"op": "subscribe", "topic": "projects", "filter": {"x": 1}},
        {"op": "unsubscribe"},
        {"op": "refresh"},
        {"op": "hello", "token": 5},
    )
    for fields in cases:
        reply = await bob.command(**fields)
        assert reply["error"]["code"] == "invalid", fields
        assert reply["error"]["retry"] is False
    await say(bob, '{"op": "subscribe", "topic": "projects"}')
    await say(bob, '{"op": "subscribe", "topic": "projects", "id": "5"}')
    await bob.next_push("error", after=1)
    assert [push["code"] for push in bob.of("error")] == ["invalid", "invalid"]
    assert "ok" in await bob.subscribe("projects")


async def test_the_third_bad_message_within_ten_seconds_ends_the_conversation(copydesk: Copydesk) -> None:
    bad = (
        "nonsense",
        "[]",
        "5",
        "",
        '{"op": NaN}',
        "[" * 50_000,
        '{"op": "pong", "op": "pong"}',
        '{"op": "\\ud800"}',
        '"x"',
    )
    for start in range(0, len(bad), 3):
        bob = await copydesk.editor("bob")
        for text in bad[start : start + 3]:
            await say(bob, text)
        assert (await bob.closed)[0] == 4400
        assert [push["code"] for push in bob.of("error")] == ["malformed"] * 3


async def test_bad_messages_that_lie_apart_are_forgiven(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    handler = next(iter(copydesk.server.connections))
    now = 0.0
    handler._conversation._clock = lambda: now  # type: ignore[attr-defined]  # the handler is one of ours
    for number in range(6):
        await say(bob, "nonsense")
        await bob.next_push("error", after=number)
        now += 6
    assert "ok" in await bob.command("unsubscribe", topic="projects")


async def test_a_binary_message_ends_the_connection(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    bob = await copydesk.editor("bob")
    await say(bob, b'{"op": "pong"}', binary=True)
    assert (await bob.closed)[0] == 1003
    sockets.append(await RawSocket.open(copydesk))
    assert (await sockets[0].request(copydesk)).status == 101
    sockets[0].send(b"\x00", BINARY)
    assert await sockets[0].close_code() == 1003


async def test_a_message_of_64_kib_is_read_and_one_more_byte_is_too_much(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    command = json.dumps({"op": "unsubscribe", "id": 99, "topic": "x"})
    await say(bob, command + " " * (MAX_MESSAGE_BYTES - len(command)))
    await bob.until(lambda: any(frame.get("id") == 99 for frame in bob.frames))
    await say(bob, command + " " * (MAX_MESSAGE_BYTES + 1 - len(command)))
    assert (await bob.closed)[0] == 1009


async def test_broken_utf_8_ends_the_connection_and_nobody_elses(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    bob = await copydesk.editor("bob")
    sockets.append(await RawSocket.open(copydesk))
    assert (await sockets[0].request(copydesk)).status == 101
    sockets[0].send(b'{"op": "\xff"}')
    assert await sockets[0].close_code() == 1007
    assert "ok" in await bob.command("unsubscribe", topic="x")


# -- subscribe and unsubscribe ----------------------------------------------------------------------------------------


async def test_a_missing_a_deleted_and_a_forbidden_project_are_the_same(copydesk: Copydesk) -> None:
    hidden = await copydesk.project(visibility="private")
    gone = await copydesk.project()
    await copydesk.call("DELETE", f"/projects/{gone}")
    bob = await copydesk.editor("bob")
    answers = [
        (await bob.command("subscribe", topic=f"project:{project}", **fields))["error"]
        for project in ("missing", gone, hidden, "not an id", "x" * 65, "", "a\nb")
        for fields in ({}, {"snapshot": False}, {"since": "nonsense"})
    ]
    assert answers == [answers[0]] * len(answers)
    assert answers[0]["code"] == "not_found"
    assert copydesk.server.hub.subscriptions == 0


async def test_what_is_no_topic_is_invalid(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    for topic in ("", "nonsense", "Projects", "project", "inbox:bob", "x" * 1000, "user:alice", "projects\n"):
        assert (await bob.command("subscribe", topic=topic))["error"]["code"] == "invalid", topic
    assert (copydesk.server.hub.subscriptions, copydesk.server.hub.topics) == (0, 0)


async def test_unsubscribing_ends_the_events_and_is_fine_where_there_was_nothing(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    for unsubscribed in (topic, topic, "project:never", "nonsense"):
        assert (await bob.command("unsubscribe", topic=unsubscribed))["ok"] == {}
    seen = len(bob.pushes[topic])
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "New"})
    await bob.subscribe("projects")
    await bob.subscribe("inbox")
    assert len(bob.pushes[topic]) == seen
    assert copydesk.server.hub.subscriptions == 2


async def test_a_second_subscribe_replaces_the_first(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    await bob.subscribe(topic)
    assert copydesk.server.hub.subscriptions == 1
    comment = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Once"})
    await bob.until_event(topic, id=comment["id"])
    await copydesk.call("PATCH", f"/projects/{project}/comments/{comment['id']}", {"body": "Twice"})
    await bob.until_event(topic, id=comment["id"], change="update")
    assert len([event for event in bob.events(topic) if event["id"] == comment["id"]]) == 2


async def test_every_subscribe_gets_its_reply_though_a_later_command_overtakes_it(
    copydesk: Copydesk, sockets: list[RawSocket]
) -> None:
    topic = f"project:{await copydesk.project()}"
    bob = await RawSocket.open(copydesk)
    sockets.append(bob)
    await bob.request(copydesk, {"Authorization": f"Bearer {copydesk.token('bob')}"})
    bob.say(op="hello", id=0)
    await bob.hear()
    bob.hold()  # so that no snapshot can be read in between
    for number in (1, 2, 3):
        bob.say(op="subscribe", id=number, topic=topic)
    bob.say(op="unsubscribe", id=4, topic=topic)
    bob.say(op="subscribe", id=5, topic=topic)
    bob.flush()
    heard = [await bob.hear() for _ in range(7)]
    codes = {frame["id"]: frame["error"]["code"] for frame in heard if "error" in frame}
    assert codes == {1: "conflict", 2: "conflict", 3: "conflict"}
    assert {frame["id"] for frame in heard if "ok" in frame} == {4, 5}
    assert [frame["push"] for frame in heard if "push" in frame] == ["snapshot", "live"]
    assert copydesk.server.hub.subscriptions == 1


async def test_a_socket_has_a_limited_number_of_topics(copydesk: Copydesk) -> None:
    now = (await copydesk.database.command("ping"))["operationTime"].as_datetime()
    await copydesk.database.projects.insert_many(
        [{"_id": f"p{number}", "name": "Many", "created_at": now} for number in range(MAX_TOPICS)]
    )
    bob = await copydesk.editor("bob")
    replies = await asyncio.gather(
        *(bob.command("subscribe", topic=f"project:p{number}", snapshot=False) for number in range(MAX_TOPICS))
    )
    assert all("ok" in reply for reply in replies)
    assert (await bob.command("subscribe", topic="projects"))["error"]["code"] == "invalid"
    # The same topic again is no further one, and one less makes room.
    assert "ok" in await bob.command("subscribe", topic="project:p5", snapshot=False)
    await bob.command("unsubscribe", topic="project:p7")
    assert "ok" in await bob.command("subscribe", topic="projects")
    assert (await bob.command("subscribe", topic="project:p7"))["error"]["code"] == "invalid"
    await bob.close()
    assert copydesk.server.hub.subscriptions == 0


# -- refresh and pong -------------------------------------------------------------------------------------------------


async def test_a_newer_token_of_the_same_user_prolongs_the_conversation(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    reply = await bob.command("refresh", token=copydesk.token("bob", ttl_seconds=86_400))
    assert set(reply["ok"]) == {"expires_at"}
    assert reply["ok"]["expires_at"] > bob.frames[0]["ok"]["expires_at"]


async def test_another_users_or_a_bad_token_is_refused_and_changes_nothing(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    assert (await bob.command("refresh", token=copydesk.token("carol")))["error"]["code"] == "forbidden"
    assert (await bob.command("refresh", token="nonsense"))["error"]["code"] == "unauthenticated"
    assert "ok" in await bob.subscribe("projects")
    assert [connection.identity.user_id for connection in copydesk.server.connections if connection.identity] == ["bob"]


async def test_a_newer_token_with_other_roles_means_connecting_again(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    # Not awaiting a reply: the change stream may be first to say that the roles have changed.
    await say(bob, json.dumps({"op": "refresh", "id": 50, "token": copydesk.token("bob", "admin")}))
    assert (await bob.closed)[0] == 4102


@started_with(ping_seconds=0.2)
async def test_a_pong_is_heard_and_not_answered(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.connections.SILENCE_SECONDS", 0.3)
    bob, silent = await copydesk.editor("bob"), await copydesk.editor("carol")
    for number in range(8):
        await bob.next_push("ping", after=number)
        await say(bob, '{"op": "pong"}')
    assert (await silent.closed)[0] == 4002
    assert [frame for frame in bob.frames if frame.get("push") != "ping"] == bob.frames[:1]
