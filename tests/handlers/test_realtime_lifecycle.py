"""A connection from its first ping to its end: heartbeat, slow clients, sudden goodbyes, switching off, draining."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo.database import Database
from tornado.ioloop import IOLoop

from app.auth import Authenticator
from app.position import Position
from models.comment_store import CommentStore
from models.preferences import PreferencesStore
from tests.conftest import Copydesk
from tests.editor import Editor
from tests.handlers.raw_socket import RawSocket, shake, started_with
from tests.handlers.relayed import foreign_comment, settled
from tests.stepped import Stepped

Plain = Database[dict[str, Any]]


@pytest.fixture
def another(copydesk: Copydesk, start_server: Callable[..., Copydesk]) -> Copydesk:
    """A second process on the same database."""
    return start_server()


@pytest.fixture
def sockets(io_loop: IOLoop) -> Iterator[list[RawSocket]]:
    """Raw sockets that end with the test."""
    opened: list[RawSocket] = []
    yield opened
    for opened_one in opened:
        io_loop.run_sync(opened_one.close)


async def nothing_left(copydesk: Copydesk) -> None:
    """That nobody is connected and nothing remembers that somebody was."""
    server = copydesk.server
    await asyncio.wait_for(server.connections.emptied(), 20)
    if server._live.joiner._tasks:
        await asyncio.wait(server._live.joiner._tasks, timeout=20)
    assert (server.hub.subscriptions, server.hub.topics, len(server.connections)) == (0, 0, 0)
    assert not server._live.joiner._tasks
    assert not server._live.joiner._views._shared
    assert not server.connections._by_user
    assert not server.connections._by_address


# -- heartbeat --------------------------------------------------------------------------------------------------------


@started_with(ping_seconds=0.2)
async def test_a_ping_carries_the_position_unless_a_topic_is_still_being_joined(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe("projects")
    seen = len(bob.of("ping"))
    ping = await bob.next_push("ping", after=seen)
    assert set(ping) == {"push", "position", "lag_ms", "stale", "time"}
    assert ping["stale"] is False
    assert ping["lag_ms"] >= 0

    views, reading, go_on = copydesk.server._live.joiner._views, asyncio.Event(), asyncio.Event()
    original = views.of

    async def held(*asked: Any) -> Any:
        reading.set()
        await go_on.wait()
        return await original(*asked)

    monkeypatch.setattr(views, "of", held)
    subscribing = asyncio.ensure_future(bob.subscribe(f"project:{project}"))
    await reading.wait()
    seen = len(bob.of("ping"))
    assert "position" not in await bob.next_push("ping", after=seen + 1)
    go_on.set()
    await subscribing
    seen = len(bob.of("ping"))
    assert "position" in await bob.next_push("ping", after=seen + 1)


@started_with(ping_seconds=0.2)
async def test_a_ping_carries_no_position_that_a_returning_client_could_take_for_its_own(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    assert "position" not in await bob.next_push("ping")
    await bob.subscribe("projects")
    seen = len(bob.of("ping"))
    assert "position" in await bob.next_push("ping", after=seen)
    await bob.command("unsubscribe", topic="projects")
    seen = len(bob.of("ping"))
    assert "position" not in await bob.next_push("ping", after=seen)


# -- slow clients -----------------------------------------------------------------------------------------------------


@started_with(max_pending_bytes=600_000)
async def test_a_client_that_does_not_read_is_cut_off_and_nobody_else_suffers(
    copydesk: Copydesk, plain_database: Plain, sockets: list[RawSocket]
) -> None:
    topic = f"project:{await copydesk.project()}"
    project = topic.removeprefix("project:")
    slow = await RawSocket.open(copydesk, receive_buffer=4096)
    sockets.append(slow)
    await slow.request(copydesk, {"Authorization": f"Bearer {copydesk.token('carol')}"})
    for command in ({"op": "hello", "id": 1}, {"op": "subscribe", "id": 2, "topic": topic}):
        slow.say(**command)
    while (await slow.hear()).get("push") != "live":
        continue
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    handler = next(one for one in copydesk.server.connections if one.identity and one.identity.user_id == "carol")
    most = 0
    body = "Ä" * 10_000
    for number in range(60):
        plain_database.comments.insert_many(
            [foreign_comment(f"c{number}-{entry}", project, body=body) for entry in range(10)]
        )
        await settled(copydesk, bob)
        most = max(most, handler.pending_bytes)
        if copydesk.server.metrics.slow_closes._value.get():
            break
    # At most the bound, the frame that overstepped it and the one in flight.
    assert 0 < most < 600_000 + 2 * 300_000
    assert handler.pending_bytes <= 300_000
    assert [push["seq"] for push in bob.of("events", topic)] == list(range(1, len(bob.of("events", topic)) + 1))
    assert not bob.closed.done()
    assert copydesk.server.hub.subscriptions == 1
    assert copydesk.server.metrics.slow_closes._value.get() == 1
    # Who reads on after all hears why.
    assert await slow.close_code() == 4001


# -- goodbyes ---------------------------------------------------------------------------------------------------------


@started_with(catch_up_events=1)
async def test_a_client_may_vanish_at_any_point_of_subscribing(copydesk: Copydesk, plain_database: Plain) -> None:
    project = await copydesk.project()
    topic = f"project:{project}"
    bob = await copydesk.editor("bob")
    await bob.subscribe(topic)
    since = bob.positions[topic]
    await bob.close()
    plain_database.comments.insert_one(foreign_comment("c", project))
    await settled(copydesk)
    joiner = copydesk.server._live.joiner
    original = joiner._start
    # Older than the ring, and more than may be read from the database.
    too_many = copydesk.server._codec.encode(Position(1, 1))
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        (topic, {}),
        (topic, {"since": since}),
        (topic, {"since": too_many}),
        (topic, {"snapshot": False}),
        ("projects", {}),
    )
    for subscribed, fields in ways:
        point, ran = 0, True
        while ran:
            bob = await copydesk.editor("bob")
            ran = await _vanish(copydesk, bob, {"op": "subscribe", "id": 9, "topic": subscribed, **fields}, point)
            joiner._start = original  # type: ignore[method-assign]
            await bob.close()
            await nothing_left(copydesk)
            point += 1
        assert point > 1


async def _vanish(copydesk: Copydesk, bob: Editor, command: dict[str, Any], point: int) -> bool:
    """Send a command, and leave at a suspension point of what it starts; whether there was such a point."""
    joiner = copydesk.server._live.joiner
    original, ended = joiner._start, asyncio.Event()
    stepped: list[Stepped] = []

    async def leave() -> None:
        await bob.close()
        await copydesk.server.connections.emptied()

    def start(work: Any) -> None:
        stepped.append(Stepped(work, point, leave))

        async def whole() -> None:
            await stepped[-1]
            ended.set()

        original(whole())

    joiner._start = start  # type: ignore[method-assign]
    await bob.socket.write_message(json.dumps(command))
    await asyncio.wait_for(ended.wait(), 20)
    return stepped[0].ran


async def test_a_client_may_vanish_before_and_during_hello(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    for messages in ((), ("hello",), ("hello", "subscribe"), ("hello", "subscribe", "unsubscribe"), ("nonsense",)):
        for politely in (True, False):
            client = await RawSocket.open(copydesk)
            sockets.append(client)
            await client.request(copydesk)
            for number, op in enumerate(messages):
                fields = {"hello": {"token": copydesk.token("bob")}}.get(op, {"topic": "projects"})
                client.say(op=op, id=number, **fields)
            if politely:
                client.send(b"\x03\xe8", 8)
            await client.close()
            await nothing_left(copydesk)
    # Before the handshake was answered.
    client = await RawSocket.open(copydesk)
    sockets.append(client)
    client.writer.write(b"GET /api/v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n")
    await client.close()
    await nothing_left(copydesk)


# -- switching off ----------------------------------------------------------------------------------------------------


async def test_websockets_are_switched_off_and_on_for_every_process_while_they_run(
    copydesk: Copydesk, another: Copydesk
) -> None:
    admin = {"user": "root", "roles": ("admin",)}
    here, there, silent = await copydesk.editor("bob"), await another.editor("bob"), await another.socket()
    await here.subscribe("projects")
    await copydesk.call("PATCH", "/admin/settings", {"websockets_enabled": False}, **admin)
    for socket in (here, there, silent):
        assert (await asyncio.wait_for(asyncio.shield(socket.closed), 20))[0] == 4409
        assert (socket.frames[-1]["push"], socket.frames[-1]["code"]) == ("error", "websockets_disabled")
    for process in (copydesk, another):
        await settled(process)
        answer = await shake(process)
        assert (answer.status, answer.problem["code"]) == (403, "websockets_disabled")
        assert "websocket" not in (await process.call("GET", "/config", user=None))["transports"]
        # A proxy that drops the upgrade is still diagnosed.
        assert (await shake(process, {"Upgrade": None, "Connection": None})).status == 426
    assert copydesk.server.hub.subscriptions == 0
    await another.call("PATCH", "/admin/settings", {"websockets_enabled": None}, **admin)
    for process in (copydesk, another):
        await settled(process)
        assert "websocket" in (await process.call("GET", "/config", user=None))["transports"]
        await process.editor("bob")


# -- draining ---------------------------------------------------------------------------------------------------------


def request(copydesk: Copydesk, method: str, path: str, body: Any = None, *, user: str | None = "alice") -> bytes:
    """One request on a connection that is kept."""
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} /api/v1{path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}"]
    head += [f"Authorization: Bearer {copydesk.token(user)}"] if user else []
    head += ["Content-Type: application/json"] if content else []
    return "\r\n".join([*head, "", ""]).encode() + content


async def test_a_drain_sends_everyone_away_and_finishes_what_was_begun(
    copydesk: Copydesk, sockets: list[RawSocket]
) -> None:
    project = await copydesk.project()
    bob, silent = await copydesk.editor("bob"), await copydesk.socket()
    await bob.subscribe(f"project:{project}")
    watching, writing = await RawSocket.open(copydesk), await RawSocket.open(copydesk)
    sockets += [watching, writing]
    plain = {"Upgrade": None, "Connection": None}
    assert (await watching.request(copydesk, plain, path="/readyz")).status == 200

    post = request(copydesk, "POST", f"/projects/{project}/comments", {"body": "In flight"})
    writing.writer.write(post[:-5])
    # Its answer comes after the head of the other was read.
    assert (await watching.request(copydesk, plain, path="/healthz")).status == 200

    stopping = asyncio.ensure_future(copydesk.server.stop(drain_seconds=1.0))
    drains = [await socket.next_push("drain") for socket in (bob, silent)]
    assert all(0 <= drain["reconnect_in_ms"] <= 1000 for drain in drains)
    answer = await watching.request(copydesk, plain, path="/readyz")
    assert (answer.status, answer.problem["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    writing.writer.write(post[-5:])
    assert (await writing.answer()).status == 201
    for socket in (bob, silent):
        assert (await asyncio.wait_for(asyncio.shield(socket.closed), 20))[0] == 4000
    await stopping
    assert (copydesk.server.hub.subscriptions, len(copydesk.server.connections)) == (0, 0)


async def kept_connection(copydesk: Copydesk, sockets: list[RawSocket]) -> RawSocket:
    """One on which a request was answered already."""
    kept = await RawSocket.open(copydesk)
    sockets.append(kept)
    kept.writer.write(request(copydesk, "GET", "/projects"))
    assert (await kept.answer()).status == 200
    return kept


class Held:
    """The next call of a method begins when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holder: type, method: str) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        self.done = False
        original = getattr(holder, method)

        async def held(*arguments: Any, **options: Any) -> Any:
            self.begun.set()
            await self.let_go.wait()
            result = await original(*arguments, **options)
            self.done = True
            return result

        monkeypatch.setattr(holder, method, held)

    async def hung_up(self, copydesk: Copydesk, sent: bytes) -> None:
        """Send this, and hang up when it has come so far."""
        leaving = await RawSocket.open(copydesk)
        leaving.writer.write(sent)
        await asyncio.wait_for(self.begun.wait(), 20)
        await leaving.close()


@pytest.fixture
def comment_held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch, CommentStore, "create")


async def test_what_somebody_asked_for_who_has_hung_up_is_done_before_the_end(
    copydesk: Copydesk, plain_database: Plain, comment_held: Held
) -> None:
    project = await copydesk.project()
    post = request(copydesk, "POST", f"/projects/{project}/comments", {"body": "Written while leaving"})
    await comment_held.hung_up(copydesk, post)
    asyncio.get_running_loop().call_later(0.5, comment_held.let_go.set)
    await copydesk.server.stop(drain_seconds=10.0)
    assert [comment["body"] for comment in plain_database.comments.find()] == ["Written while leaving"]


async def test_so_is_what_nobody_has_signed_in_for(copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsubscribing by one click (RFC 8058), where a mail provider does not wait."""
    await copydesk.call("GET", "/session", user="carol")
    token = copydesk.server._informing.unsubscriptions.token("carol", "all")
    unsubscribing = Held(monkeypatch, PreferencesStore, "without_mail")
    await unsubscribing.hung_up(copydesk, request(copydesk, "POST", f"/unsubscribe?token={token}", user=None))
    asyncio.get_running_loop().call_later(0.5, unsubscribing.let_go.set)
    await copydesk.server.stop(drain_seconds=10.0)
    assert unsubscribing.done


async def test_what_comes_while_that_is_waited_for_is_answered_too(
    copydesk: Copydesk, sockets: list[RawSocket], comment_held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    kept = await kept_connection(copydesk, sockets)
    await comment_held.hung_up(copydesk, request(copydesk, "POST", f"/projects/{project}/comments", {"body": "x"}))
    stopping = asyncio.ensure_future(copydesk.server.stop(drain_seconds=10.0))
    coming = Held(monkeypatch, Authenticator, "identify")
    kept.writer.write(request(copydesk, "GET", "/projects"))
    await asyncio.wait_for(coming.begun.wait(), 20)
    comment_held.let_go.set()
    await copydesk.until(lambda: comment_held.done)
    asyncio.get_running_loop().call_later(0.2, coming.let_go.set)
    assert (await kept.answer()).status == 200
    await stopping


@pytest.mark.parametrize("hang_up", [True, False], ids=["client gone", "client waits"])
async def test_what_takes_too_long_is_not_waited_for_and_connections_are_closed(
    copydesk: Copydesk, sockets: list[RawSocket], comment_held: Held, hang_up: bool
) -> None:
    project = await copydesk.project()
    kept = await kept_connection(copydesk, sockets)
    waiting = await RawSocket.open(copydesk)
    sockets.append(waiting)
    post = request(copydesk, "POST", f"/projects/{project}/comments", {"body": "x"})
    if hang_up:
        await comment_held.hung_up(copydesk, post)
    else:
        waiting.writer.write(post)
        await asyncio.wait_for(comment_held.begun.wait(), 20)
    await asyncio.wait_for(copydesk.server.stop(drain_seconds=0.0), 20)
    assert not comment_held.done
    for left in (kept, waiting):
        assert await asyncio.wait_for(left.reader.read(), 20) == b""
    comment_held.let_go.set()
    await copydesk.until(lambda: comment_held.done)


async def test_a_handshake_during_a_drain_is_sent_elsewhere(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    early = await RawSocket.open(copydesk)
    sockets.append(early)
    plain = {"Upgrade": None, "Connection": None}
    assert (await early.request(copydesk, plain, path="/readyz")).status == 200
    copydesk.server._draining = True
    answer = await early.request(copydesk)
    assert (answer.status, answer.problem["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
