"""Every refusal that REST knows, produced once by a real request, in the one shape that all of them have."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from app import openapi
from app.guesses import ACCOUNT_GUESSES
from app.passwords import MAX_WAITING
from handlers.routes import operations
from models.errors import family
from models.idempotency import IdempotencyStore
from tests.conftest import Copydesk
from tests.contract.conformance import Recorded, problem_complaints

REST = openapi.document(operations(), version="1")
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
ITEM = {"name": "Home", "content": {"id": "home", "version": "1"}}


async def _raw(copydesk: Copydesk, method: str, path: str, body: Any = None, **headers: str) -> HTTPResponse:
    """A request with just these headers; `path` from the root on."""
    return await AsyncHTTPClient().fetch(
        f"{copydesk.url}{path}",
        method=method,
        headers=headers,
        body=body,
        allow_nonstandard_methods=True,
        raise_error=False,
    )


async def malformed(copydesk: Copydesk) -> HTTPResponse:
    token = copydesk.token("alice")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return await _raw(copydesk, "POST", "/api/v1/projects", '{"name": ', **headers)


async def unauthenticated(copydesk: Copydesk) -> HTTPResponse:
    return await copydesk.request("GET", "/projects", user=None)


async def token_expired(copydesk: Copydesk) -> HTTPResponse:
    token = copydesk.token("alice", ttl_seconds=-3600)
    return await copydesk.request("GET", "/projects", user=None, Authorization=f"Bearer {token}")


async def forbidden(copydesk: Copydesk) -> HTTPResponse:
    project = await copydesk.project()
    return await copydesk.request("DELETE", f"/projects/{project}", user="bob")


async def cross_origin(copydesk: Copydesk) -> HTTPResponse:
    return await copydesk.request(
        "POST", "/session", {"username": "a", "password": "b"}, user=None, Origin="https://evil.example"
    )


async def websockets_disabled(copydesk: Copydesk) -> HTTPResponse:
    # With the roles of who changes the setting, or it would be closed for having other ones.
    obeying = await copydesk.editor("alice", "admin")
    await copydesk.call("PATCH", "/admin/settings", {"websockets_enabled": False}, roles=("admin",))
    # The process obeys when its feed has brought the change: then this socket is closed with 4409.
    assert (await obeying.closed)[0] == 4409
    return await _raw(copydesk, "GET", "/api/v1/realtime", **UPGRADE)


async def not_found(copydesk: Copydesk) -> HTTPResponse:
    return await copydesk.request("GET", "/projects/nowhere")


async def method_not_allowed(copydesk: Copydesk) -> HTTPResponse:
    return await copydesk.request("PUT", "/projects", {})


async def conflict(copydesk: Copydesk) -> HTTPResponse:
    project = await copydesk.project()
    comment = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Gone soon"})
    await copydesk.call("DELETE", f"/projects/{project}/comments/{comment['id']}")
    reply = {"body": "Too late", "thread_id": comment["id"]}
    return await copydesk.request("POST", f"/projects/{project}/comments", reply)


async def duplicate_content(copydesk: Copydesk) -> HTTPResponse:
    project = await copydesk.project()
    await copydesk.call("POST", f"/projects/{project}/items", ITEM)
    return await copydesk.request("POST", f"/projects/{project}/items", ITEM)


async def in_progress(copydesk: Copydesk) -> HTTPResponse:
    body = {"name": "Spring"}
    await IdempotencyStore(copydesk.database).claim(
        user_id="alice", method="POST", path="/api/v1/projects", key="running", body=json.dumps(body).encode()
    )
    return await copydesk.request("POST", "/projects", body, Idempotency_Key="running")


async def stale_version(copydesk: Copydesk) -> HTTPResponse:
    project = await copydesk.project()
    return await copydesk.request("PATCH", f"/projects/{project}", {"name": "Summer"}, If_Match='"7-old"')


async def too_large(copydesk: Copydesk) -> HTTPResponse:
    return await copydesk.request("POST", "/projects", {"name": "n", "description": "x" * 300_000})


async def unsupported_media_type(copydesk: Copydesk) -> HTTPResponse:
    return await copydesk.request("POST", "/projects", {"name": "n"}, Content_Type="text/plain")


async def invalid(copydesk: Copydesk) -> HTTPResponse:
    return await copydesk.request("POST", "/projects", {"name": "", "colour": "red"})


async def idempotency_mismatch(copydesk: Copydesk) -> HTTPResponse:
    await copydesk.call("POST", "/projects", {"name": "Spring"}, Idempotency_Key="k")
    return await copydesk.request("POST", "/projects", {"name": "Summer"}, Idempotency_Key="k")


async def upgrade_required(copydesk: Copydesk) -> HTTPResponse:
    return await _raw(copydesk, "GET", "/api/v1/realtime", Via="1.1 proxy")


async def rate_limited(copydesk: Copydesk) -> HTTPResponse:
    sign_in = {"username": "mallory", "password": "guess"}
    for _ in range(ACCOUNT_GUESSES):
        copydesk.server._authenticator._guesses.take("mallory", "192.0.2.1")
    return await copydesk.request("POST", "/session", sign_in, user=None)


async def internal(copydesk: Copydesk) -> HTTPResponse:
    project = await copydesk.project()

    async def fail(_project_id: str) -> None:
        raise RuntimeError("planted: a defect of ours")

    copydesk.server.stores.projects.get = fail  # type: ignore[method-assign, assignment]
    return await copydesk.request("GET", f"/projects/{project}")


async def unavailable(copydesk: Copydesk) -> HTTPResponse:
    copydesk.server._draining = True
    return await _raw(copydesk, "GET", "/readyz")


async def busy(copydesk: Copydesk) -> HTTPResponse:
    copydesk.server._passwords._waiting = MAX_WAITING
    return await copydesk.request("POST", "/session", {"username": "a", "password": "b"}, user=None)


# The last four leave a server behind that is of no use to the others.
_WAYS: dict[str, Callable[[Copydesk], Awaitable[HTTPResponse]]] = {
    way.__name__: way
    for way in (
        malformed, unauthenticated, token_expired, forbidden, cross_origin, not_found, method_not_allowed, conflict,
        duplicate_content, in_progress, stale_version, too_large, unsupported_media_type, invalid, idempotency_mismatch,
        upgrade_required, rate_limited, websockets_disabled, busy, internal, unavailable,
    )
}  # fmt: skip


def test_there_is_a_way_to_every_refusal() -> None:
    assert set(_WAYS) == set(family())


async def test_every_refusal_has_the_one_shape_and_its_own_status(copydesk: Copydesk) -> None:
    for code, way in _WAYS.items():
        answer = await way(copydesk)
        problem = json.loads(answer.body)
        assert (problem["code"], answer.code) == (code, family()[code].status)
        recorded = Recorded(method="GET", path="/", status=answer.code, headers=answer.headers, body=answer.body)
        assert (code, problem_complaints(REST, recorded)) == (code, [])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


async def test_refusals_that_no_handler_of_ours_makes_have_the_shape_as_well(copydesk: Copydesk) -> None:
    bearer = {"Authorization": f"Bearer {copydesk.token('alice')}"}
    ways = [
        ("GET", "/nowhere", {}, 404),
        ("POST", "/nowhere", {}, 404),
        ("GET", "/api/v1/projects", {"Host": "evil.example"}, 404),
        ("GET", "/", {"Host": "evil.example"}, 404),
        ("GET", "/static/nothing.js", {}, 404),
        ("GET", "/static/..%2f..%2fsetup.cfg", {}, 404),
        ("POST", "/", {}, 405),
        ("DELETE", "/static/client.js", {}, 405),
        ("BREW", "/api/v1/projects", {}, 405),
        ("GET", "/api/v1/projects/%ff", bearer, 400),
        ("GET", "/api/v1/projects?q=%ff", bearer, 400),
        ("GET", "/api/v1/projects", {"Authorization": "Bearer x"}, 401),
    ]
    for method, path, headers, status in ways:
        answer = await _raw(copydesk, method, path, **headers)
        recorded = Recorded(method=method, path=path, status=answer.code, headers=answer.headers, body=answer.body)
        assert (method, path, answer.code, problem_complaints(REST, recorded)) == (method, path, status, [])
