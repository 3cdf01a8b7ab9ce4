"""A run through all of the API, recorded: every answer and every frame is as the API documents describe it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import AsyncHTTPClient

from app import asyncapi, openapi
from app.asyncapi import COMMANDS, PUSHES, tag
from handlers.routes import operations
from tests.conftest import Copydesk
from tests.contract.conformance import (
    Recorded,
    answer_complaints,
    command_complaints,
    frame_complaints,
    template_of,
)
from tests.editor import Editor

REST = openapi.document(operations(), version="1")
LIVE = asyncapi.document(version="1")

ADMIN = ("admin",)


class Recorder:
    """Makes requests and keeps what came back."""

    def __init__(self, copydesk: Copydesk) -> None:
        self._copydesk = copydesk
        self.answers: list[Recorded] = []

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str | None = "alice",
        roles: tuple[str, ...] = (),
        **headers: str,
    ) -> Any:
        """The JSON of the answer, whatever it is; `path` from the root on."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            sent["Authorization"] = f"Bearer {self._copydesk.token(user, *roles)}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        answer = await AsyncHTTPClient().fetch(
            self._copydesk.url + path,
            method=method,
            headers=sent,
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            raise_error=False,
        )
        self.answers.append(
            Recorded(
                method=method,
                path=urlsplit(path).path,
                status=answer.code,
                headers=answer.headers,
                body=answer.body,
            )
        )
        kind = answer.headers.get("Content-Type", "")
        return json.loads(answer.body) if answer.body and "json" in kind else None

    @property
    def last(self) -> Recorded:
        return self.answers[-1]


async def _through_projects(call: Recorder) -> str:
    new = {"name": "Spring", "description": "d", "labels": ["launch"], "due_at": "2027-01-01T00:00:00Z"}
    made = await call("POST", "/api/v1/projects", new, Idempotency_Key="first")
    path = call.last.headers["Location"]
    again = await call("POST", "/api/v1/projects", new, Idempotency_Key="first")
    assert again == made
    assert call.last.headers["Idempotency-Replayed"] == "true"
    await call("POST", "/api/v1/projects", {"name": "Autumn"}, Idempotency_Key="first")
    await call("POST", "/api/v1/projects", {"name": "Autumn", "visibility": "private"})
    await call("GET", "/api/v1/projects?limit=1&sort=name&q=s&mine=true&label=launch")
    etag = call.last.headers["ETag"]
    await call("GET", "/api/v1/projects?limit=1&sort=name&q=s&mine=true&label=launch", If_None_Match=etag)
    await call("GET", "/api/v1/projects?limit=0")
    await call("GET", path)
    etag = call.last.headers["ETag"]
    await call("GET", path, If_None_Match=etag)
    await call("GET", path, user="mallory", If_None_Match="nonsense")
    await call("PATCH", path, {"due_at": None, "archived": True}, If_Match=etag)
    await call("PATCH", path, {"name": "Summer"}, If_Match=etag)
    await call("PATCH", path, {"visibility": "private"}, user="bob")
    await call("PATCH", path, {"archived": False})
    return path


async def _through_items(call: Recorder, project: str) -> str:
    content = {"id": "home", "version": "1", "provider": "cms"}
    new = {"name": "Home", "content": content, "language": "en", "url": "https://example.org/", "rank": 1.5}
    await call("POST", f"{project}/items", new)
    item = call.last.headers["Location"]
    await call("POST", f"{project}/items", new)
    bulk = [{"name": f"Page {n}", "content": {"id": f"page-{n}", "version": "1"}} for n in range(3)]
    many = await call("POST", f"{project}/items", {"items": [*bulk, new]})
    assert [result["status"] for result in many["results"]] == [201, 201, 201, 409]
    await call("POST", f"{project}/items", {"items": [bulk[0], bulk[0]]})
    await call("POST", f"{project}/items", {"name": "No content"})
    page = await call("GET", f"{project}/items?limit=2&sort=-name&status=draft&type=page")
    await call("GET", f"{project}/items?limit=2&sort=-name&status=draft&type=page&cursor={page['next_cursor']}")
    await call("GET", f"{project}/items?limit=2&cursor={page['next_cursor']}")
    await call("GET", f"{project}/items?colour=red")
    ids = [entry["id"] for entry in page["items"]]
    await call("POST", f"{project}/items/status", {"ids": [*ids, "nowhere"], "status": "ready"})
    await call("POST", f"{project}/items/status", {"ids": ids, "status": "published"}, user="bob")
    await call("GET", item)
    await call("PATCH", item, {"assignee": "bob", "rank": None, "publish_at": "2027-01-01T00:00:00+01:00"})
    await call("PATCH", item, {"content": {}})
    await call("PATCH", f"{project}/items/nowhere", {"name": "n"})
    await call("GET", "/api/v1/items?content_id=home")
    await call("GET", "/api/v1/items")
    await call("DELETE", f"{project}/items/{ids[0]}", If_Match='"9-stale"')
    await call("DELETE", f"{project}/items/{ids[0]}")
    return item.rpartition("/")[2]


async def _through_comments(call: Recorder, project: str, item_id: str) -> None:
    anchor = {"property": "title", "quote": "Hello"}
    first = await call(
        "POST", f"{project}/comments", {"body": "Look, @bob and @role:editors", "item_id": item_id, "anchor": anchor}
    )
    path = call.last.headers["Location"]
    reply = await call("POST", f"{project}/comments", {"body": "Done", "thread_id": first["id"]}, user="bob")
    await call("POST", f"{project}/comments", {"body": "Elsewhere", "thread_id": "nowhere"})
    await call("POST", f"{project}/comments", {"body": " "})
    await call("GET", f"{project}/comments?item_id={item_id}&resolved=false&author=alice")
    await call("GET", path)
    await call("PATCH", path, {"resolved": True}, user="bob")
    await call("PATCH", path, {"body": "Mine now"}, user="bob")
    await call("PATCH", path, {"resolved": False, "body": "Look again"})
    await call("DELETE", f"{project}/comments/{reply['id']}")
    await call("POST", f"{project}/comments", {"body": "Late", "parent_id": reply["id"]})
    await call("GET", f"{project}/comments")
    await call("GET", f"{project}/overview")
    etag = call.last.headers["ETag"]
    await call("GET", f"{project}/overview", If_None_Match=etag)


async def _through_notifications(call: Recorder, copydesk: Copydesk, project: str) -> None:
    """After the comments: bob was mentioned, and a thread of his moved on."""
    me: dict[str, Any] = {"user": "bob"}
    bob = await copydesk.editor("bob")
    await bob.subscribe("inbox")
    await bob.until(lambda: bool(bob.stores["inbox"].of("notification")))
    page = await call("GET", "/api/v1/notifications?state=unread&type=mention&limit=1", **me)
    await call("GET", "/api/v1/notifications", If_None_Match=call.last.headers["ETag"], **me)
    await call("GET", "/api/v1/notifications?state=lost", **me)
    await call("GET", "/api/v1/notifications/count", **me)
    until = (await call("GET", "/api/v1/notifications/count", **me))["seq"]
    entry = f"/api/v1/notifications/{page['items'][0]['id']}"
    await call("GET", entry, **me)
    etag = call.last.headers["ETag"]
    await call("GET", entry, If_None_Match=etag, **me)
    await call("GET", entry)
    await call("PATCH", entry, {"read": True}, **me)
    await call("PATCH", entry, {"archived": True}, If_Match=etag, **me)
    await call("PATCH", entry, {"read": True, "seen": False}, **me)
    await call("POST", "/api/v1/notifications/mark", {"seen": True, "until": until}, Idempotency_Key="all", **me)
    await call("POST", "/api/v1/notifications/mark", {"seen": True, "until": until}, Idempotency_Key="all", **me)
    await call("POST", "/api/v1/notifications/mark", {"seen": True}, **me)
    await call("DELETE", entry, If_Match=etag, **me)
    await call("DELETE", entry, **me)
    await call("GET", entry, **me)
    new = {"recipients": {"users": ["bob"]}, "title": "Done", "link": "/x", "send_at": "2030-01-01T00:00:00Z"}
    # Not alice: a change of her roles would reset what she polls.
    robot: dict[str, Any] = {"user": "robot", "roles": ("service",)}
    await call("POST", "/api/v1/notifications", new, Idempotency_Key="sent", **robot)
    await call("GET", call.last.headers["Location"], **robot)
    await call("POST", "/api/v1/notifications", new)
    await call("POST", "/api/v1/notifications", {**new, "recipients": {}}, **robot)
    subject = f"/api/v1/subscriptions/project:{project.rpartition('/')[2]}"
    await call("GET", subject, **me)
    await call("PUT", subject, {"level": "follow"}, **me)
    await call("PUT", subject, {"level": "mute"}, **me)
    await call("PUT", subject, {"level": "shout"}, **me)
    await call("PUT", "/api/v1/subscriptions/item:nowhere", {"level": "mute"}, **me)
    await call("GET", subject, **me)
    await call("GET", subject, If_None_Match=call.last.headers["ETag"], **me)
    await call("GET", "/api/v1/subscriptions?kind=thread&level=follow&limit=1", **me)
    await call("DELETE", subject, If_Match='"9-stale"', **me)
    await call("DELETE", subject, **me)
    await call("GET", "/api/v1/preferences", **me)
    quiet = {"from": "22:00", "to": "07:00"}
    await call("PUT", "/api/v1/preferences", {"quiet_hours": quiet, "time_zone": "Europe/Stockholm"}, **me)
    await call("PUT", "/api/v1/preferences", {"time_zone": "Mars/Olympus"}, **me)


async def _through_mail(call: Recorder, copydesk: Copydesk) -> None:
    token = copydesk.server._informing.unsubscriptions.token("bob", "all")
    await call("GET", f"/api/v1/unsubscribe?token={token}", user=None)
    await call("POST", f"/api/v1/unsubscribe?token={token}", user=None)
    await call("GET", "/api/v1/unsubscribe?token=nonsense", user=None)
    await call("GET", "/api/v1/unsubscribe", user=None)
    await _dead_letters(copydesk, "one", "two")
    await call("GET", "/api/v1/admin/dead-letters?limit=1", roles=ADMIN)
    await call("POST", "/api/v1/admin/dead-letters/one/requeue", roles=ADMIN, Idempotency_Key="again")
    await call("POST", "/api/v1/admin/dead-letters/one/requeue", roles=ADMIN)
    await call("DELETE", "/api/v1/admin/dead-letters/two", roles=ADMIN, If_Match='"9-stale"')
    await call("DELETE", "/api/v1/admin/dead-letters/two", roles=ADMIN)
    await call("DELETE", "/api/v1/admin/dead-letters/two", roles=ADMIN)
    await call("GET", "/api/v1/admin/dead-letters")


async def _dead_letters(copydesk: Copydesk, *ids: str) -> None:
    """Mail as it is left when the mail server would not take it."""
    now = datetime.now(UTC)
    event = {"id": "e", "type": "mention", "reason": "mentioned", "at": now}
    await copydesk.database.mails.insert_many(
        [
            {
                "_id": letter_id, "user_id": "bob", "frequency": "now", "in_app": True, "entry_id": "n", "title": "t",
                "body": "b", "subject": {"kind": "thread", "project_id": "p", "thread_id": "c"}, "event": event,
                "at": now, "state": "dead", "attempts": 5, "error": "550 no such user", "created_at": now,
                "died_at": now, "next_attempt_at": now, "group": letter_id, "stream": letter_id, "version": 1,
            }
            for letter_id in ids
        ]
    )  # fmt: skip


async def _through_polls(call: Recorder, project: str) -> None:
    topics = f"project:{project.rpartition('/')[2]},projects,inbox,project:nowhere"
    start = await call("GET", f"/api/v1/events?topics={topics}")
    await call("PATCH", project, {"description": "Told by poll"})
    pushes: list[dict[str, Any]] = []
    while not any(push["push"] == "events" for push in pushes):
        answer = await call("GET", f"/api/v1/events?topics={topics}&since={start['position']}&wait=20")
        pushes += answer["pushes"]
    answer = await call("GET", f"/api/v1/events?topics={topics}&since=unknown")
    pushes += answer["pushes"]
    assert {push["push"] for push in pushes} == {"events", "reset", "unsubscribed"}
    assert [problem for push in pushes for problem in frame_complaints(LIVE, push)] == []
    await call("GET", "/api/v1/events?topics=weather")
    await call("GET", "/api/v1/events")
    await call("GET", "/api/v1/events/stream?topics=")


async def _through_the_rest(call: Recorder) -> None:
    await call("GET", "/api/v1/users?q=b&sort=-name")
    await call("GET", "/api/v1/users?project_id=nowhere")
    for users in ("/api/v1/users", "/api/v1/admin/users"):
        await call("GET", f"{users}/bob", roles=ADMIN)
        await call("PATCH", f"{users}/bob", {"disabled": True}, roles=ADMIN)
        await call("PATCH", f"{users}/bob", {"disabled": False}, roles=ADMIN)
        await call("GET", f"{users}/bob")
        await call("GET", f"{users}/no.body", roles=ADMIN)
    await call("GET", "/api/v1/admin/users", roles=ADMIN)
    await call("POST", "/api/v1/admin/users/bob/sign-out", roles=ADMIN, Idempotency_Key="out")
    await call("GET", "/api/v1/admin/settings", roles=ADMIN)
    await call("PATCH", "/api/v1/admin/settings", {"poll_seconds": 12.5, "log_level": None}, roles=ADMIN)
    await call("PATCH", "/api/v1/admin/settings", {"poll_seconds": -1}, roles=ADMIN)
    await call("GET", "/api/v1/admin/connections", roles=ADMIN)
    for path in ("config", "diagnostics", "openapi.json", "asyncapi.json", "realtime"):
        await call("GET", f"/api/v1/{path}", user=None)
    for path in ("/healthz", "/readyz", "/metrics"):
        await call("GET", path, user=None)
    await call("GET", "/metrics", user=None, X_Forwarded_For="192.0.2.1")
    await call("GET", "/api/v1/session")
    await call("GET", "/api/v1/session", user=None)
    await call("DELETE", "/api/v1/session")
    await call("DELETE", "/api/v1/session", user="carol")


async def _through_a_session(call: Recorder, copydesk: Copydesk) -> None:
    hashed = await copydesk.server._passwords.hash("correct horse")
    await copydesk.server.stores.users.add(
        "dora", password_hash=hashed, roles=frozenset({"editor"}), groups=frozenset(), name=None, email=None
    )
    sign_in = {"username": "dora", "password": "correct horse"}
    await call("POST", "/api/v1/session", {**sign_in, "password": "wrong"}, user=None)
    await call("POST", "/api/v1/session", sign_in, user=None)
    cookie = call.last.headers["Set-Cookie"].partition(";")[0]
    await call("GET", "/api/v1/session", user=None, Cookie=cookie)
    await call("DELETE", "/api/v1/session", user=None, Cookie=cookie)
    await call("DELETE", "/api/v1/session", user=None, Cookie=cookie, Origin=copydesk.url)


async def test_every_answer_of_a_run_through_the_api_is_as_described(copydesk: Copydesk) -> None:
    call = Recorder(copydesk)
    editor = await copydesk.editor("bob")
    project = await _through_projects(call)
    await editor.subscribe(f"project:{project.rpartition('/')[2]}")
    item_id = await _through_items(call, project)
    await _through_comments(call, project, item_id)
    await editor.until_event(f"project:{project.rpartition('/')[2]}", kind="activity")
    await call("GET", f"{project}/activities?type=item_added")
    await _through_notifications(call, copydesk, project)
    await _through_polls(call, project)
    await _through_mail(call, copydesk)
    await _through_the_rest(call)
    await _through_a_session(call, copydesk)
    await call("DELETE", project, user="bob")
    await call("DELETE", project)

    assert [problem for answer in call.answers for problem in answer_complaints(REST, answer)] == []
    # These two never end; what they send is checked below.
    endless = {("GET", "/api/v1/realtime"), ("GET", "/api/v1/events/stream")}
    assert _operations_without_success(call.answers) == endless


def _operations_without_success(answers: list[Recorded]) -> set[tuple[str, str]]:
    seen = {(answer.method, template_of(REST, answer.path)) for answer in answers if answer.status < 300}
    return {(method, path) for path, verbs in operations().items() for method in verbs} - seen


def test_an_operation_that_the_run_leaves_out_is_noticed() -> None:
    assert ("DELETE", "/api/v1/projects/{project_id}") in _operations_without_success([])


# -- the socket -------------------------------------------------------------------------------------------------------


async def _every_command(copydesk: Copydesk, editor: Editor, topic: str) -> list[dict[str, Any]]:
    """Each command once as it is meant, and some that are refused."""
    sent: list[dict[str, Any]] = []

    async def command(op: str, **fields: Any) -> dict[str, Any]:
        sent.append({"op": op, "id": len(sent), **fields})
        return await editor.command(op, **fields)

    assert "ok" in await command("hello", token=copydesk.token("alice", ttl_seconds=30), client="test/1")
    assert "error" in await command("hello")
    assert "ok" in await command("subscribe", topic=topic)
    assert "ok" in await command("subscribe", topic="projects", snapshot=False)
    assert "ok" in await command("subscribe", topic="inbox")
    assert "error" in await command("subscribe", topic="project:nowhere")
    assert "error" in await command("subscribe", topic="weather")
    assert "ok" in await command("unsubscribe", topic="inbox")
    assert "ok" in await command("refresh", token=copydesk.token("alice", ttl_seconds=30))
    assert "error" in await command("refresh", token=copydesk.token("bob"))
    sent.append({"op": "pong"})
    await editor.socket.write_message(json.dumps(sent[-1]))
    await editor.socket.write_message("this is no JSON")
    return sent


@pytest.fixture
def pinging(start_server: Callable[..., Copydesk]) -> Copydesk:
    """A server that pings every second."""
    return start_server(ping_seconds=1)


async def test_every_frame_of_a_conversation_is_as_described(pinging: Copydesk) -> None:
    copydesk = pinging
    project = await copydesk.project()
    topic = f"project:{project}"
    item = {"name": "Home", "content": {"id": "home", "version": "1"}}
    made = await copydesk.call("POST", f"/projects/{project}/items", item)
    comment = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Hello @bob"})

    editor = await copydesk.socket()
    sent = await _every_command(copydesk, editor, topic)
    live = await editor.next_push("live", topic)
    await copydesk.call("PATCH", f"/projects/{project}/items/{made['id']}", {"status": "ready"})
    await copydesk.call("DELETE", f"/projects/{project}/comments/{comment['id']}")
    await editor.until_event(topic, kind="activity", change="enter")
    resumed = await editor.command("subscribe", topic=topic, since=live["position"])
    assert resumed["ok"]["resumed"] is True
    unknown = await editor.command("subscribe", topic="projects", since="no position of ours")
    assert unknown["ok"]["reason"] == "unknown"
    await editor.next_push("live", topic, after=1)
    copydesk.server.hub.reset("collection_lost")
    await editor.next_push("reset", topic)
    await editor.next_push("live", topic, after=2)
    await copydesk.call("DELETE", f"/projects/{project}")
    await editor.next_push("unsubscribed", topic)
    for kind in ("ping", "token_expiring", "error"):
        await editor.next_push(kind)
    await asyncio.gather(copydesk.server.stop(), editor.next_push("drain"))

    assert [problem for frame in editor.frames for problem in frame_complaints(LIVE, frame)] == []
    assert {frame["push"] for frame in editor.frames if "push" in frame} == {tag(push) for push in PUSHES}
    assert [problem for command in sent for problem in command_complaints(LIVE, command)] == []
    assert {command["op"] for command in sent} == {tag(command) for command in COMMANDS}


# -- Server-Sent Events -----------------------------------------------------------------------------------------------


async def test_every_event_of_a_stream_is_as_described(pinging: Copydesk) -> None:
    project = await pinging.project()
    reader, writer = await asyncio.open_connection("127.0.0.1", pinging.server.port)
    try:
        writer.write(
            f"GET /api/v1/events/stream?topics=project:{project},projects,project:nowhere HTTP/1.1\r\n"
            f"Host: localhost\r\nAuthorization: Bearer {pinging.token('alice', ttl_seconds=30)}\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        names: set[str] = set()
        wanted = {"snapshot", "live", "unsubscribed", "token_expiring", "ping", "events"}
        async with asyncio.timeout(20):
            while not wanted <= names:
                event = _fields(await reader.readuntil(b"\n\n"))
                if "data" not in event:  # a comment line, for proxies
                    continue
                frame = json.loads(event["data"])
                names.add(event["event"])
                assert event["event"] == frame["push"]
                assert frame_complaints(LIVE, frame) == []
                if names >= {"live"} and "events" not in names:
                    await pinging.call("PATCH", f"/projects/{project}", {"description": f"{len(names)}"})
    finally:
        writer.close()
        await writer.wait_closed()

    assert head.startswith("HTTP/1.1 200 ")
    described = REST["paths"]["/api/v1/events/stream"]["get"]["responses"]["200"]["content"]
    assert "Content-Type: text/event-stream" in head
    assert list(described) == ["text/event-stream"]


def _fields(event: bytes) -> dict[str, str]:
    """The fields of one event (HTML standard, 9.2.6); each stands there once at most."""
    lines = (line.partition(": ") for line in event.decode().splitlines() if line and not line.startswith(":"))
    return {name: value for name, _, value in lines}
