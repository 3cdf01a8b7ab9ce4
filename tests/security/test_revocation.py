"""Rights that are taken away at one process are gone at another within 5 seconds, on every transport.

Two processes of the command line on one replica set. What is pushed to sockets when rights change is in
tests/handlers/test_realtime_rights.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.editor import Editor
from tests.real.processes import Process
from tests.security.stage import Door, Stage, exchange, http

SECONDS = 5.0
PATIENCE = 20.0
"""For what is not measured; a busy machine is no defect."""
SECRET = "not-for-who-is-out"

Revoke = Callable[[Stage, str, str, str], Awaitable[Any]]


@pytest.fixture(scope="module")
def another(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A second process on the same database, where the listeners are."""
    process = Process(log=tmp_path_factory.mktemp("another") / "server.log", **stage.settings)
    yield process
    assert process.stop() == 0


class Listener:
    """One user on the three transports of a process, listening to a project; `headers` say who it is."""

    def __init__(self, process: Process, project: str, headers: dict[str, str]) -> None:
        self._process, self._topic, self._headers = process, f"project:{project}", headers
        self.door = Door("another", process.port, f"127.0.0.1:{process.port}")
        self.streamed = b""

    async def open(self) -> None:
        """Listen on all of them."""
        self.socket = await Editor.connect(self._process.url, headers=self._headers)
        await self.socket.subscribe(self._topic)
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._process.port)
        self._writer.write(self._request(f"/events/stream?topics={self._topic}"))
        await self.until_streamed(b"event: live", PATIENCE)
        position = (await self.get(f"/events?topics={self._topic}"))[1]["position"]
        self.polled = asyncio.ensure_future(self.get(f"/events?topics={self._topic}&since={position}&wait=25"))

    def _request(self, path: str) -> bytes:
        lines = [f"{name}: {value}" for name, value in self._headers.items()]
        return http(f"GET /api/v1{path}", *lines).replace(b"%HOST%", self.door.host.encode())

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of one request."""
        (answer,) = await exchange(self.door, self._request(path))
        return answer.status, answer.json

    async def until_streamed(self, text: bytes | None, seconds: float) -> None:
        """Read the event stream up to a text, or to its end."""
        async with asyncio.timeout(seconds):
            while text is None or text not in self.streamed:
                piece = await self._reader.read(65536)
                if not piece:
                    assert text is None, self.streamed[-500:]
                    return
                self.streamed += piece

    async def close(self) -> None:
        """Leave."""
        await self.socket.close()
        self._writer.close()
        await self._writer.wait_closed()


async def role_lost(stage: Stage, project: str, _user: str, _cookie: str) -> None:
    await stage.call("PATCH", f"/projects/{project}", {"members": [{"principal": "user:alice", "role": "owner"}]})


async def made_private(stage: Stage, project: str, _user: str, _cookie: str) -> None:
    await stage.call("PATCH", f"/projects/{project}", {"visibility": "private"})


async def deleted(stage: Stage, project: str, _user: str, _cookie: str) -> None:
    await stage.call("DELETE", f"/projects/{project}")


async def disabled(stage: Stage, _project: str, user: str, _cookie: str) -> None:
    await stage.call("PATCH", f"/admin/users/{user}", {"disabled": True}, user="root")


async def signed_out(stage: Stage, _project: str, user: str, _cookie: str) -> None:
    await stage.call("POST", f"/admin/users/{user}/sign-out", {}, user="root")


async def session_ended(stage: Stage, _project: str, _user: str, cookie: str) -> None:
    door = stage.doors["direct"]
    headers = [f"Cookie: {cookie}", f"Origin: http://{door.host}"]
    answer = await stage.request(door, "DELETE", "/session", user=None, headers=headers)
    assert answer.status == 204, answer


async def write_more(stage: Stage, project: str) -> None:
    """Something that whoever is out must not be told of."""
    await stage.request(stage.doors["direct"], "POST", f"/projects/{project}/comments", {"body": SECRET})


def remaining(begun: float) -> float:
    """Of the seconds that a revocation may take."""
    return max(0.01, begun + SECONDS - time.monotonic())


@pytest.mark.parametrize(
    ("visibility", "revoke"),
    [("private", role_lost), ("public", made_private), ("public", deleted)],
    ids=["role lost", "made private", "deleted"],
)
async def test_a_project_is_lost_at_another_process_on_every_transport(
    stage: Stage, another: Process, visibility: str, revoke: Revoke
) -> None:
    user = f"member-{revoke.__name__}"
    members = [{"principal": f"user:{user}", "role": "viewer"}] if visibility == "private" else []
    new = {"name": "x", "visibility": visibility, "members": members}
    project = (await stage.call("POST", "/projects", new))["id"]
    listener = Listener(another, project, {"Authorization": f"Bearer {stage.token(user)}"})
    await listener.open()
    assert (await listener.get(f"/projects/{project}"))[0] == 200

    begun = time.monotonic()
    await revoke(stage, project, user, "")
    topic = f"project:{project}"
    await listener.socket.until(lambda: bool(listener.socket.of("unsubscribed", topic)), remaining(begun))
    await listener.until_streamed(b"event: unsubscribed", remaining(begun))
    status, polled = await asyncio.wait_for(listener.polled, remaining(begun))
    while not (told := [push["push"] for push in polled["pushes"]]) or told[-1] != "unsubscribed":
        # The change of the project itself may come first.
        again = f"/events?topics={topic}&since={polled['position']}&wait=5"
        status, polled = await asyncio.wait_for(listener.get(again), remaining(begun))
    assert status == 200
    assert (await listener.get(f"/projects/{project}"))[0] == 404
    assert time.monotonic() - begun < SECONDS

    await write_more(stage, project)
    beside = (await stage.call("POST", "/projects", {"name": "Beside"}))["id"]
    await listener.socket.subscribe("projects")  # begins with a snapshot of a later moment
    assert beside in listener.socket.stores["projects"].of("project")
    assert not any(SECRET in str(frame) for frame in listener.socket.frames)
    assert SECRET.encode() not in listener.streamed
    _status, later = await listener.get(f"/events?topics={topic}&since={polled['position']}")
    assert [push["push"] for push in later["pushes"]] == ["unsubscribed"]
    await listener.close()


@pytest.mark.parametrize(
    ("by", "revoke"),
    [
        ("token", disabled),
        ("token", signed_out),
        ("session", disabled),
        ("session", signed_out),
        ("session", session_ended),  # a token is no session, and stays good
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_user_is_out_at_another_process_on_every_transport(
    stage: Stage, another: Process, by: str, revoke: Revoke
) -> None:
    user = f"user-{revoke.__name__}-{by}"
    project = (await stage.call("POST", "/projects", {"name": "x"}))["id"]
    headers, cookie = {"Authorization": f"Bearer {stage.token(user)}"}, ""
    if by == "session":
        await stage.add_user(user)
        cookie = await stage.sign_in(user)
        headers = {"Cookie": cookie, "Origin": another.url}
    listener = Listener(another, project, headers)
    await listener.open()

    begun = time.monotonic()
    await revoke(stage, project, user, cookie)
    async with asyncio.timeout(remaining(begun)):
        code, _reason = await asyncio.shield(listener.socket.closed)
    await listener.until_streamed(None, remaining(begun))
    await asyncio.wait_for(listener.polled, remaining(begun))
    status, problem = await listener.get("/session")
    assert time.monotonic() - begun < SECONDS
    assert (code, status, problem["code"]) == (4102, 401, "unauthenticated")
    assert b'"code":"unauthenticated"' in listener.streamed

    await write_more(stage, project)
    assert not any(SECRET in str(frame) for frame in listener.socket.frames)
    assert (await listener.get(f"/events?topics=project:{project}"))[0] == 401
    await listener.close()


async def test_who_keeps_the_right_goes_on_hearing_on_every_transport(stage: Stage, another: Process) -> None:
    """Else silence would prove nothing above."""
    project = (await stage.call("POST", "/projects", {"name": "x"}))["id"]
    listener = Listener(another, project, {"Authorization": f"Bearer {stage.token('bystander')}"})
    await listener.open()
    await write_more(stage, project)
    await listener.socket.until(lambda: any(SECRET in str(frame) for frame in listener.socket.frames))
    await listener.until_streamed(SECRET.encode(), PATIENCE)
    _status, polled = await asyncio.wait_for(listener.polled, PATIENCE)
    assert [push["push"] for push in polled["pushes"]] == ["events"]
    assert not listener.socket.closed.done()
    await listener.close()
