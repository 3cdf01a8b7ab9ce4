"""What admins see and do: users, settings that change at run time, live connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from app.permissions import Identity
from tests.handlers.identity import Server, running

ADMIN: dict[str, Any] = {"who": "root", "roles": ("admin",)}
SETTINGS, USERS, CONNECTIONS = "/api/v1/admin/settings", "/api/v1/admin/users", "/api/v1/admin/connections"


class Connected(msgspec.Struct, kw_only=True):
    """What `app.connections` knows of a client."""

    id: str
    identity: Identity | None = None
    transport: str = "websocket"
    address: str = "192.0.2.1"
    opened_at: float = 1_800_000_000.0
    topics: list[str] = []
    pending_bytes: int = 0


@pytest.fixture
def server(io_loop: IOLoop, database: Any) -> Iterator[Server]:
    with running(io_loop, database) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", USERS),
        ("GET", f"{USERS}/bob"),
        ("PATCH", f"{USERS}/bob"),
        ("POST", f"{USERS}/bob/sign-out"),
        ("GET", SETTINGS),
        ("PATCH", SETTINGS),
        ("GET", CONNECTIONS),
    ],
)
async def test_only_admins_get_in(server: Server, method: str, path: str) -> None:
    body = {} if method == "PATCH" else None
    for who, roles, status in ((None, (), 401), ("alice", (), 403), ("robot", ("service", "Admin", "admins"), 403)):
        answer = await server(method, path, body, who=who, roles=roles)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")


async def test_all_users_are_listed_in_full(server: Server) -> None:
    await server.add_user("bob", "secret", name="Bob", email="bob@example.org", roles=["service"])
    answer = await server("GET", f"{USERS}?q=bo", **ADMIN)
    (bob,) = answer.json["items"]
    assert (bob["email"], bob["roles"], bob["groups"], bob["version"]) == ("bob@example.org", ["service"], [], 1)
    assert "password_hash" not in bob
    assert "words" not in bob
    assert answer.json["position"] == "here"


async def test_an_admin_signs_a_user_out_everywhere(server: Server) -> None:
    await server.add_user("bob", "secret")
    signed_in = await server("POST", "/api/v1/session", {"username": "bob", "password": "secret"})
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0]
    token = {"Authorization": f"Bearer {server.token('bob')}"}
    answer = await server("POST", f"{USERS}/bob/sign-out", headers={"Idempotency-Key": "k"}, **ADMIN)
    assert (answer.status, answer.json["version"]) == (200, 2)
    assert "signed_out_at" in answer.json
    assert (await server("GET", "/api/v1/session", headers=token)).status == 401
    assert (await server("GET", "/api/v1/session", cookie=cookie)).status == 401
    assert (await server("GET", "/api/v1/session", who="bob")).status == 200
    # The same request again, for its answer was lost: nobody is signed out a second time.
    again = await server("POST", f"{USERS}/bob/sign-out", headers={"Idempotency-Key": "k"}, **ADMIN)
    assert (again.status, again.body) == (200, answer.body)
    assert (await server("POST", f"{USERS}/nobody/sign-out", **ADMIN)).status == 404


async def test_settings_are_shown_as_they_count(server: Server) -> None:
    answer = await server("GET", SETTINGS, **ADMIN)
    assert answer.json == {
        "websockets_enabled": True,
        "fallback": "sse",
        "log_level": "info",
        "poll_seconds": 10,
        "max_connections": 20_000,
        "max_connections_per_user": 100,
        "max_connections_per_address": 1000,
        "max_pending_bytes": 1_048_576,
        "max_pending_seconds": 30,
        "notification_defaults": {
            "mention": {"in_app": True, "email": "now"},
            "reply": {"in_app": True, "email": "hourly"},
            "comment": {"in_app": True, "email": "off"},
            "assigned": {"in_app": True, "email": "now"},
            "item_status": {"in_app": True, "email": "off"},
            "publish_result": {"in_app": True, "email": "off"},
            "custom": {"in_app": True, "email": "now"},
        },
        "version": 1,
    }


async def test_settings_are_changed_for_every_process(server: Server) -> None:
    answer = await server("PATCH", SETTINGS, {"websockets_enabled": False, "max_connections": 5}, **ADMIN)
    assert answer.status == 200
    changed = answer.json
    assert (changed["websockets_enabled"], changed["max_connections"], changed["version"]) == (False, 5, 2)
    assert changed["updated_by"] == "root"
    again = await server("GET", SETTINGS, **ADMIN)
    assert (again.json, again.headers["Etag"]) == (changed, answer.headers["Etag"])
    # Every process obeys when the feed tells it, this one included; here the test is the feed.
    assert server.runtime.now.websockets_enabled
    server.runtime.apply(await server.meta.overrides())
    assert not server.runtime.now.websockets_enabled
    answer = await server("PATCH", SETTINGS, {"websockets_enabled": None}, **ADMIN)
    assert (answer.json["websockets_enabled"], answer.json["max_connections"]) == (True, 5)


async def test_an_admin_sets_what_those_get_who_chose_nothing(server: Server) -> None:
    patch = {"notification_defaults": {"comment": {"email": "daily"}, "custom": {"in_app": False}}}
    changed = (await server("PATCH", SETTINGS, patch, **ADMIN)).json["notification_defaults"]
    assert changed["comment"] == {"in_app": True, "email": "daily"}
    assert changed["custom"] == {"in_app": False, "email": "now"}
    assert changed["mention"] == {"in_app": True, "email": "now"}
    assert (await server("GET", SETTINGS, **ADMIN)).json["notification_defaults"] == changed
    answer = await server("PATCH", SETTINGS, {"notification_defaults": {"comment": None}}, **ADMIN)
    assert answer.json["notification_defaults"]["comment"] == {"in_app": True, "email": "off"}


async def test_settings_are_not_changed_on_an_old_version(server: Server) -> None:
    etag = (await server("GET", SETTINGS, **ADMIN)).headers["Etag"]
    first = await server("PATCH", SETTINGS, {"fallback": "none"}, headers={"If-Match": etag}, **ADMIN)
    assert first.status == 200
    second = await server("PATCH", SETTINGS, {"fallback": "poll"}, headers={"If-Match": etag}, **ADMIN)
    assert (second.status, second.json["code"]) == (412, "stale_version")
    assert (await server("GET", SETTINGS, **ADMIN)).json["fallback"] == "none"


@pytest.mark.parametrize(
    "body",
    [
        {"websockets_enabled": "no"},
        {"fallback": "carrier pigeon"},
        {"log_level": "trace"},
        {"max_connections": 0},
        {"max_connections": 2**63},
        {"max_pending_seconds": 0},
        {"poll_seconds": 1e9},
        {"auth_secret": "x" * 32},
        {"version": 7},
        {"_id": "epoch"},
        {"updated_by": "bob"},
        {"notification_defaults": []},
        {"notification_defaults": {"gossip": {"email": "now"}}},
        {"notification_defaults": {"comment": {"email": "weekly"}}},
        {"notification_defaults": {"comment": {"sms": True}}},
        [],
        None,
    ],
)
async def test_settings_that_do_not_fit_are_refused(server: Server, plain_database: Any, body: Any) -> None:
    answer = await server("PATCH", SETTINGS, body if body is not None else msgspec.Raw(b"null"), **ADMIN)
    assert answer.status == 422
    assert plain_database.meta.find_one({"_id": "settings"}) is None


async def test_connections_are_listed_oldest_first(server: Server) -> None:
    identity = Identity(user_id="alice", name="Alice", expires_at=0.0)
    server.connections += [
        Connected(id="02", identity=identity, topics=["projects", "inbox"], pending_bytes=5),
        Connected(id="01"),
        Connected(id="03", identity=identity, transport="sse"),
    ]
    answer = await server("GET", CONNECTIONS, **ADMIN)
    since = "2027-01-15T08:00:00.000Z"
    shared = {"address": "192.0.2.1", "since": since}
    assert answer.json == {
        "items": [
            {"id": "01", "transport": "websocket", **shared, "topics": [], "pending_bytes": 0},
            {
                "id": "02",
                "user_id": "alice",
                "transport": "websocket",
                **shared,
                "topics": ["inbox", "projects"],
                "pending_bytes": 5,
            },
            {"id": "03", "user_id": "alice", "transport": "sse", **shared, "topics": [], "pending_bytes": 0},
        ],
        "position": "here",
    }


async def test_many_connections_have_pages(server: Server) -> None:
    server.connections += [Connected(id=f"{number:02}") for number in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        answer = await server("GET", f"{CONNECTIONS}?limit=2{cursor}", **ADMIN)
        seen += [connection["id"] for connection in answer.json["items"]]
        cursor = f"&cursor={answer.json.get('next_cursor')}"
    assert seen == ["00", "01", "02", "03", "04"]
    assert cursor == "&cursor=None"
    for query in ("limit=0", "cursor=", "cursor=a/b", "user_id=alice"):
        assert (await server("GET", f"{CONNECTIONS}?{query}", **ADMIN)).status == 422
