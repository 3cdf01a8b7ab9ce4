"""What was proved may end in the moment in which a connection is let in, when nobody would yet close it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo.errors import AutoReconnect
from tornado.ioloop import IOLoop

from app.auth import Authenticator
from tests.conftest import Copydesk
from tests.handlers.event_source import EventSource, poll
from tests.handlers.raw_socket import sign_in
from tests.handlers.relayed import settled

ADMIN: dict[str, Any] = {"user": "root", "roles": ("admin",)}
SECONDS = 10.0
"""Far less than a long poll waits."""


class Door:
    """Carol's way in by cookie, where whoever has just been let in waits until `open`."""

    def __init__(self, copydesk: Copydesk, cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copydesk, self.headers = copydesk, {"Cookie": cookie, "Origin": copydesk.url}
        self._monkeypatch = monkeypatch
        self._arrived, self._open = asyncio.Event(), asyncio.Event()

    def watch(self, proving: str, holder: object = Authenticator) -> None:
        """The next answer of this method is held back."""
        prove = getattr(holder, proving)

        async def held(*arguments: Any) -> Any:
            proved = await prove(*arguments)
            if not self._arrived.is_set():
                self._arrived.set()
                await self._open.wait()
            return proved

        self._monkeypatch.setattr(holder, proving, held)

    async def meanwhile(self, change: Callable[[], Awaitable[Any]]) -> None:
        """Once somebody waits, do something, and let them go when the feed has told of it."""
        await asyncio.wait_for(self._arrived.wait(), SECONDS)
        await change()
        await settled(self.copydesk)
        self._open.set()


@pytest.fixture
def door(io_loop: IOLoop, copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(copydesk, io_loop.run_sync(lambda: sign_in(copydesk)), monkeypatch)


async def by_socket(door: Door) -> tuple[str, Any]:
    """The code with which a socket is closed, and what was said before."""
    socket = await door.copydesk.socket(headers=door.headers)
    door.watch("confirm")
    assert "ok" in await socket.command("hello")
    code, _reason = await asyncio.wait_for(asyncio.shield(socket.closed), SECONDS)
    return str(code), socket.frames[-1]["code"]


async def by_stream(door: Door) -> tuple[str, Any]:
    door.watch("identify")
    headers = "".join(f"{name}: {value}\r\n" for name, value in door.headers.items())
    source = await EventSource.open(door.copydesk.url, None, "projects", headers=headers)
    refusal = await source.until("error")
    assert await source.end() == b""
    source.close()
    return "ended", refusal["code"]


async def by_poll(door: Door) -> tuple[str, Any]:
    position = (await poll(door.copydesk, "projects"))["position"]
    door.watch("identify")
    path = f"/events?topics=projects&since={position}&wait=25"
    asked = door.copydesk.request("GET", path, user=None, **door.headers)
    answer = await asyncio.wait_for(asked, SECONDS)
    return str(answer.code), answer.code == 401 and "unauthenticated"


async def sign_out(door: Door) -> None:
    answer = await door.copydesk.request("DELETE", "/session", user=None, **door.headers)
    assert answer.code == 204


async def sign_out_elsewhere(copydesk: Copydesk) -> None:
    """At another process: here only the feed tells of it."""
    await copydesk.database.sessions.delete_many({})


async def disable(door: Door) -> None:
    await door.copydesk.call("PATCH", "/admin/users/carol", {"disabled": True}, **ADMIN)


async def become_admin(door: Door) -> None:
    """A token says so, and it holds for sessions."""
    await door.copydesk.call("GET", "/session", user="carol", roles=("admin",))


@pytest.mark.parametrize("end", [sign_out, disable])
@pytest.mark.parametrize(("come", "ends_with"), [(by_socket, "4102"), (by_stream, "ended"), (by_poll, "401")])
async def test_who_is_signed_out_while_they_are_let_in_does_not_stay(
    door: Door,
    come: Callable[[Door], Awaitable[tuple[str, Any]]],
    ends_with: str,
    end: Callable[[Door], Awaitable[None]],
) -> None:
    coming = asyncio.ensure_future(come(door))
    await door.meanwhile(lambda: end(door))
    assert await coming == (ends_with, "unauthenticated")
    assert not door.copydesk.server.connections.polls


async def test_a_session_that_ends_while_its_user_is_read_is_not_remembered(copydesk: Copydesk, door: Door) -> None:
    assert (await copydesk.request("GET", "/session", user=None, **door.headers)).code == 200
    users = copydesk.server._authenticator._users
    users.forget("carol")  # as where something of hers has changed
    door.watch("_read", users)
    asked = asyncio.ensure_future(copydesk.request("GET", "/session", user=None, **door.headers))
    await door.meanwhile(lambda: sign_out_elsewhere(copydesk))
    await asked
    assert (await copydesk.request("GET", "/session", user=None, **door.headers)).code == 401


async def test_hello_has_the_roles_of_now_and_not_those_of_the_handshake(copydesk: Copydesk, door: Door) -> None:
    hidden = await copydesk.project("Hidden", visibility="private")
    socket = await copydesk.socket(headers=door.headers)
    await become_admin(door)
    await settled(copydesk)
    assert "ok" in await socket.command("hello")
    assert "ok" in await socket.command("subscribe", topic=f"project:{hidden}")


async def test_a_poll_of_somebody_whose_roles_change_while_they_are_let_in_is_answered_and_loses_nothing(
    copydesk: Copydesk, door: Door
) -> None:
    position = (await poll(copydesk, "projects"))["position"]
    door.watch("identify")
    path = f"/events?topics=projects&since={position}&wait=25"
    coming = asyncio.ensure_future(copydesk.call("GET", path, user=None, **door.headers))
    await door.meanwhile(lambda: become_admin(door))
    assert await asyncio.wait_for(coming, SECONDS) == {"position": position, "pushes": [], "more": False}
    again = await copydesk.call("GET", path, user=None, **door.headers)
    # From the same position, and with the new roles.
    assert again["pushes"] == [{"push": "reset", "topic": "projects", "reason": "rights"}]


async def test_nobody_is_told_a_position_before_it_is_known_whether_they_may_stay(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would come back with it, and miss what was before it."""
    since = (await poll(copydesk, "projects"))["position"]
    missed = await copydesk.project("Missed")
    asked, answer = asyncio.Event(), asyncio.Event()

    async def unreachable(*_arguments: Any) -> bool:
        asked.set()
        await answer.wait()
        raise AutoReconnect("gone")

    with monkeypatch.context() as patched:
        patched.setattr(Authenticator, "still_holds", unreachable)
        first = await EventSource.open(copydesk.url, copydesk.token("bob"), "projects", last_id=since)
        await asyncio.wait_for(asked.wait(), SECONDS)
        for _ in range(round(copydesk.server.settings.ping_seconds)):
            copydesk.server.connections.tick()
        answer.set()
        await first.until("ping")
        await first.end()
        first.close()
    assert first.last_id is None
    second = await EventSource.open(copydesk.url, copydesk.token("bob"), "projects", last_id=since)
    assert (await second.until_event(missed))["change"] == "enter"
    second.close()


async def test_who_cannot_be_asked_about_comes_again(
    copydesk: Copydesk, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database does not answer in the moment after hello: a close code that says to reconnect."""

    async def unreachable(*_arguments: Any) -> bool:
        raise AutoReconnect("gone")

    monkeypatch.setattr(Authenticator, "still_holds", unreachable)
    socket = await copydesk.socket(headers=door.headers)
    assert "ok" in await socket.command("hello")
    assert (await asyncio.wait_for(asyncio.shield(socket.closed), SECONDS))[0] == 4003
