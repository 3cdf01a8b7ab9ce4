"""A flood of messages: refused by name, then cut off, and nobody else notices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop

from app.allowance import Pace
from app.protocol import MAX_TOPICS
from tests.conftest import Copydesk
from tests.handlers.raw_socket import RawSocket, started_with


@pytest.fixture
def sockets(io_loop: IOLoop) -> Iterator[list[RawSocket]]:
    """Raw sockets that end with the test."""
    opened: list[RawSocket] = []
    yield opened
    for one in opened:
        io_loop.run_sync(one.close)


async def editor(copydesk: Copydesk, sockets: list[RawSocket], user: str = "bob") -> RawSocket:
    """A raw socket that has said hello."""
    socket = await RawSocket.open(copydesk)
    sockets.append(socket)
    assert (await socket.request(copydesk)).status == 101
    socket.say(op="hello", id=0, token=copydesk.token(user))
    assert "ok" in await socket.hear()
    return socket


def outcome(message: dict[str, object]) -> str:
    """How a command ended, or which push came."""
    if "error" in message:
        error = message["error"]
        assert isinstance(error, dict)
        return f"error {error['code']}"
    return "ok" if "ok" in message else f"push {message['push']}"


async def until_closed(socket: RawSocket) -> tuple[Counter[str], dict[str, object], int]:
    """What was heard by kind, the last of it, and the close code."""
    heard: Counter[str] = Counter()
    last: dict[str, object] = {}
    while (frame := await socket.frame())[0] == 1:
        last = json.loads(frame[1])
        heard[outcome(last)] += 1
    assert frame[0] == 8
    return heard, last, int.from_bytes(frame[1][:2])


@started_with(max_messages_per_second=20)
async def test_a_flood_of_good_commands_is_refused_and_then_cut_off(
    copydesk: Copydesk, sockets: list[RawSocket]
) -> None:
    flooding, calm = await editor(copydesk, sockets), await copydesk.editor("bob")
    flooding.hold()
    for number in range(1, 1001):
        flooding.say(op="unsubscribe", id=number, topic="projects")
    flooding.flush()
    heard, last, code = await until_closed(flooding)
    # How many come back while the flood is read depends on the machine; all at once it would be 39 and 40.
    assert 39 <= heard["ok"] < 100
    assert heard["error rate_limited"] >= 39
    assert (last["push"], last["code"], last["retry"], code) == ("error", "rate_limited", True, 4008)
    assert isinstance(last["retry_after_ms"], int)
    assert last["retry_after_ms"] >= 1000
    # It was this socket's doing, not the user's.
    assert "ok" in await calm.subscribe("projects")


@started_with(max_messages_per_second=1)
async def test_who_slows_down_when_told_to_stays(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    socket = await editor(copydesk, sockets)
    now = 100.0
    (handler,) = copydesk.server.connections
    # With a clock of its own: a busy machine would spread the messages, and then none of them is too fast.
    handler._conversation._pace = Pace(1, clock=lambda: now)  # type: ignore[attr-defined]  # the handler is one of ours
    for number in range(1, 6):
        socket.say(op="unsubscribe", id=number, topic="projects")
        now += 0.1234567
        answer = await socket.hear()
        if "error" in answer:
            break
    assert (answer["id"], outcome(answer), answer["error"]["retry"]) == (3, "error rate_limited", True)
    assert answer["error"]["retry_after_ms"] >= 1000
    # Exactly as long as told, and not a moment longer.
    now += answer["error"]["retry_after_ms"] / 1000
    socket.say(op="unsubscribe", id=6, topic="projects")
    assert await socket.hear() == {"id": 6, "ok": {}}
    socket.say(op="unsubscribe", id=7, topic="projects")
    assert outcome(await socket.hear()) == "error rate_limited"


@started_with(max_messages_per_second=20)
async def test_messages_that_are_no_commands_count_too(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    for message in ({"op": "pong"}, {"op": "hello", "id": 1, "token": "x"}, {"op": "nonsense", "id": 1}):
        socket = await editor(copydesk, sockets)
        socket.hold()
        for _ in range(1000):
            socket.say(**message)
        socket.flush()
        heard, last, code = await until_closed(socket)
        assert (last["code"], code) == ("rate_limited", 4008), (message, heard)


@started_with(max_messages_per_second=20)
async def test_a_long_message_counts_as_several(copydesk: Copydesk, sockets: list[RawSocket]) -> None:
    socket = await editor(copydesk, sockets)
    socket.hold()
    for number in range(1, 20):
        socket.say(op="subscribe", id=number, topic="projects", since="x" * 60_000)
    socket.flush()
    heard, _, code = await until_closed(socket)
    assert (heard["ok"] < 10, code) == (True, 4008)


async def test_all_the_topics_of_a_socket_may_be_asked_for_at_once(
    copydesk: Copydesk, sockets: list[RawSocket]
) -> None:
    socket = await editor(copydesk, sockets)
    socket.hold()
    for number in range(MAX_TOPICS):
        socket.say(op="subscribe", id=number, topic=f"project:{number:026}")
    socket.flush()
    assert [outcome(await socket.hear()) for _ in range(MAX_TOPICS)] == ["error not_found"] * MAX_TOPICS
