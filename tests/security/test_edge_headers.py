"""What every answer says to browsers, and what no request may have in its address or head."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from handlers.refusing import MAX_HEADERS, SECRET_ARGUMENTS
from tests.conftest import Copydesk
from tests.handlers.raw_socket import started_with

PAGES = ("/", "/docs", "/diagnosis")
FILES = ("/static/client.js", "/favicon.ico")
OTHERS = (
    "/api/v1/config",
    "/api/v1/projects",
    "/api/v1/realtime",
    "/nothing",
    "/static/nothing.js",
    "/healthz",
    "/metrics",
)


async def get(copydesk: Copydesk, path: str, **headers: str) -> HTTPResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await AsyncHTTPClient().fetch(copydesk.url + path, headers=sent, raise_error=False, follow_redirects=False)


def complaints(path: str, answer: HTTPResponse) -> Iterator[str]:
    """What is missing in an answer, or too much."""
    wanted = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "cross-origin" if path in FILES[:1] else "same-origin",
    }
    for name, value in wanted.items():
        if path in FILES + PAGES and name == "Cross-Origin-Resource-Policy":
            continue
        if answer.headers.get(name) != value:
            yield f"{path}: {name} is {answer.headers.get(name)}"
    policy = answer.headers.get("Content-Security-Policy", "")
    if "default-src 'none'" not in policy or "frame-ancestors 'none'" not in policy or "unsafe" in policy:
        yield f"{path}: the policy is {policy!r}"
    if "Server" in answer.headers:
        yield f"{path}: a banner"
    if "Strict-Transport-Security" in answer.headers:
        yield f"{path}: for TLS without TLS"


async def test_every_answer_says_what_browsers_may_do_with_it(copydesk: Copydesk) -> None:
    found = []
    for path in PAGES + FILES + OTHERS:
        found += complaints(path, await get(copydesk, path))
    assert found == []


async def test_a_missing_header_is_found(copydesk: Copydesk) -> None:
    answer = await get(copydesk, "/api/v1/config")
    for name in ("X-Content-Type-Options", "Content-Security-Policy", "Cross-Origin-Resource-Policy"):
        kept = answer.headers.pop(name)
        assert len(list(complaints("/api/v1/config", answer))) == 1
        answer.headers[name] = kept
    answer.headers["Server"] = "TornadoServer/6.6.1"
    assert list(complaints("/api/v1/config", answer)) == ["/api/v1/config: a banner"]


@started_with(trusted_proxies=("127.0.0.1",))
async def test_tls_is_to_stay_where_a_trusted_proxy_says_that_there_is_some(copydesk: Copydesk) -> None:
    for path in ("/", "/docs", "/static/client.js", "/api/v1/config", "/api/v1/projects", "/nothing"):
        answer = await get(copydesk, path, X_Forwarded_Proto="https")
        assert answer.headers.get_list("Strict-Transport-Security") == ["max-age=31536000"], path
        assert "Strict-Transport-Security" not in (await get(copydesk, path, X_Forwarded_Proto="http")).headers


async def test_nobody_else_can_say_so(copydesk: Copydesk) -> None:
    assert "Strict-Transport-Security" not in (await get(copydesk, "/", X_Forwarded_Proto="https")).headers


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/static/client.js", "/api/v1/projects", "/api/v1/realtime", "/nothing"]
)
async def test_a_token_in_an_address_is_refused_everywhere_and_repeated_nowhere(copydesk: Copydesk, path: str) -> None:
    for name in (*sorted(SECRET_ARGUMENTS), "Access_Token"):
        answer = await get(copydesk, f"{path}?x=1&{name}=canary-word")
        assert (answer.code, json.loads(answer.body)["code"]) == (400, "malformed"), name
        assert b"canary" not in answer.body


@pytest.mark.parametrize("path", ["/", "/api/v1/config", "/nothing"])
async def test_a_head_of_too_many_lines_is_refused(copydesk: Copydesk, path: str) -> None:
    many = {f"X_Line_{number}": "y" for number in range(MAX_HEADERS + 1)}
    answer = await get(copydesk, path, **many)
    assert (answer.code, json.loads(answer.body)["code"]) == (400, "malformed")
    few = {f"X_Line_{number}": "y" for number in range(MAX_HEADERS // 2)}
    assert (await get(copydesk, path, **few)).code in (200, 404)


async def test_how_often_to_poll_is_what_an_admin_said_last(copydesk: Copydesk) -> None:
    assert (await copydesk.request("GET", "/projects")).headers["X-Poll-Interval"] == "10"
    await copydesk.call("PATCH", "/admin/settings", {"poll_seconds": 77}, user="root", roles=("admin",))
    await copydesk.until(lambda: copydesk.server.runtime.now.poll_seconds == 77)
    assert (await copydesk.request("GET", "/projects")).headers["X-Poll-Interval"] == "77"
