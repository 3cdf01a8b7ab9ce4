"""Signing in with a password, being somebody, and signing out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookies import Morsel, SimpleCookie
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from app import passwords
from app.guesses import ACCOUNT_GUESSES, ADDRESS_GUESSES
from tests.handlers.identity import Answer, Server, running

SESSION = "/api/v1/session"
ALICE = {"username": "alice", "password": "correct horse"}


@pytest.fixture
def server(io_loop: IOLoop, database: Any) -> Iterator[Server]:
    with running(io_loop, database) as server:
        io_loop.run_sync(
            lambda: server.add_user("alice", "correct horse", name="Alice", email="alice@example.org", groups=["desk"])
        )
        yield server


@pytest.fixture
def proxied(io_loop: IOLoop, database: Any) -> Iterator[Server]:
    """Behind a trusted proxy on the same machine."""
    with running(io_loop, database, trusted_proxies=("127.0.0.1", "::1")) as server:
        io_loop.run_sync(lambda: server.add_user("alice", "correct horse"))
        yield server


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are wrong at once, so that no new attempts are granted while the old ones are being refused."""
    monkeypatch.setattr(passwords, "_matches", lambda _hashed, _password: False)


def cookie_of(answer: Answer) -> Morsel[str]:
    (text,) = answer.headers.get_list("Set-Cookie")
    (morsel,) = SimpleCookie(text).values()
    return morsel


async def sign_in(server: Server, **how: Any) -> str:
    """What a browser sends from then on."""
    answer = await server("POST", SESSION, ALICE, **how)
    assert answer.status == 201, answer.body
    morsel = cookie_of(answer)
    return f"{morsel.key}={morsel.value}"


async def test_a_password_starts_a_session(server: Server) -> None:
    answer = await server("POST", SESSION, ALICE)
    assert (answer.status, answer.headers["Location"]) == (201, SESSION)
    assert answer.json["user"] == {"id": "alice", "name": "Alice", "email": "alice@example.org"}
    assert answer.json["roles"] == ["editor", "desk"]
    assert set(answer.json) == {"user", "expires_at", "roles"}
    morsel = cookie_of(answer)
    assert morsel.key == "copydesk_session"
    assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["secure"]) == (True, "Lax", "/", "")
    assert (morsel["max-age"], morsel["domain"]) == (str(7 * 86_400), "")
    assert morsel.value not in answer.body.decode()
    mine = await server("GET", SESSION, cookie=f"{morsel.key}={morsel.value}")
    assert (mine.status, mine.json) == (200, answer.json)


async def test_a_bearer_learns_who_they_are_too(server: Server) -> None:
    token = server.token("bob", "admin", "art", name="Bob", ttl_seconds=600)
    answer = await server("GET", SESSION, headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200
    assert answer.json["user"] == {"id": "bob", "name": "Bob"}
    assert answer.json["roles"] == ["admin", "art"]


async def test_nobody_is_told_to_sign_in(server: Server) -> None:
    for method in ("GET", "DELETE"):
        answer = await server(method, SESSION)
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated")


async def test_every_wrong_sign_in_looks_the_same(server: Server) -> None:
    await server.add_user("disabled", "correct horse")
    assert (
        await server("PATCH", "/api/v1/users/disabled", {"disabled": True}, who="root", roles=("admin",))
    ).status == 200
    assert (await server("GET", SESSION, who="tokenonly")).status == 200
    wrong = [
        {"username": "alice", "password": "wrong"},
        {"username": "Alice", "password": "correct horse"},
        {"username": "nobody", "password": "correct horse"},
        {"username": "no body / \u2028", "password": "x"},
        {"username": "tokenonly", "password": "x"},
        {"username": "disabled", "password": "correct horse"},
    ]
    answers = [await server("POST", SESSION, body) for body in wrong]
    assert {answer.status for answer in answers} == {401}
    seen = [{name: value for name, value in answer.json.items() if name != "request_id"} for answer in answers]
    assert all(one == seen[0] for one in seen)
    assert not any("Set-Cookie" in answer.headers for answer in answers)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"username": "alice"},
        {"username": {"$ne": None}, "password": {"$ne": None}},
        {"username": "alice", "password": ""},
        {"username": "", "password": "x"},
        {"username": "alice", "password": "x" * 1025},
        {"username": "alice", "password": "x", "remember": True},
        {"username": "alice", "password": "x\0"},
        {"username": ["alice"], "password": "x"},
    ],
)
async def test_what_is_no_sign_in_is_invalid(server: Server, body: Any) -> None:
    answer = await server("POST", SESSION, body)
    assert (answer.status, answer.json["code"]) == (422, "invalid")


async def test_guessing_is_limited_per_account(server: Server) -> None:
    for _ in range(ACCOUNT_GUESSES):
        assert (await server("POST", SESSION, {**ALICE, "password": "wrong"})).status == 401
    for password in ("wrong", "correct horse"):
        answer = await server("POST", SESSION, {**ALICE, "password": password})
        assert (answer.status, answer.json["code"]) == (429, "rate_limited")
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await server("POST", SESSION, {"username": "bob", "password": "x"})).status == 401


async def test_guessing_is_limited_per_address_as_trusted_proxies_report_it(proxied: Server, hasty: None) -> None:
    for number in range(ADDRESS_GUESSES):
        body = {"username": f"user{number}", "password": "x"}
        answer = await proxied("POST", SESSION, body, headers={"X-Forwarded-For": f"198.51.100.{number}, 192.0.2.1"})
        assert answer.status == 401
    for address, status in (("192.0.2.1", 429), ("192.0.2.2", 401)):
        assert (await proxied("POST", SESSION, ALICE, headers={"X-Forwarded-For": address})).status == status


async def test_a_client_cannot_choose_its_address(server: Server, hasty: None) -> None:
    for number in range(ADDRESS_GUESSES):
        body = {"username": f"user{number}", "password": "x"}
        await server("POST", SESSION, body, headers={"X-Forwarded-For": f"192.0.2.{number}", "X-Real-IP": "192.0.2.1"})
    assert (await server("POST", SESSION, ALICE, headers={"X-Forwarded-For": "192.0.2.99"})).status == 429


async def test_every_sign_in_makes_a_new_session_and_ends_the_one_before(server: Server) -> None:
    chosen = "copydesk_session=chosen-by-somebody-else"
    first = await sign_in(server, cookie=chosen)
    assert first != chosen
    assert (await server("GET", SESSION, cookie=chosen)).status == 401
    second = await sign_in(server, cookie=first)
    assert second != first
    assert (await server("GET", SESSION, cookie=first)).status == 401
    assert (await server("GET", SESSION, cookie=second)).status == 200


async def test_signing_out_ends_this_session_only(server: Server) -> None:
    first, second = await sign_in(server), await sign_in(server)
    answer = await server("DELETE", SESSION, cookie=first)
    assert (answer.status, answer.body) == (204, b"")
    morsel = cookie_of(answer)
    assert (morsel.key, morsel.value, morsel["path"]) == ("copydesk_session", "", "/")
    assert parsedate_to_datetime(morsel["expires"]) < datetime.now(UTC)
    assert (await server("GET", SESSION, cookie=first)).status == 401
    assert (await server("GET", SESSION, cookie=second)).status == 200


async def test_signing_out_everywhere_ends_sessions_and_tokens(server: Server) -> None:
    first, second = await sign_in(server), await sign_in(server)
    token = {"Authorization": f"Bearer {server.token('alice')}"}
    assert (await server("GET", SESSION, headers=token)).status == 200
    assert (await server("DELETE", f"{SESSION}?everywhere=true", cookie=first)).status == 204
    for cookie in (first, second):
        assert (await server("GET", SESSION, cookie=cookie)).status == 401
    assert (await server("GET", SESSION, headers=token)).json["code"] == "unauthenticated"
    assert (await server("GET", SESSION, who="alice")).status == 200
    assert (await server("GET", SESSION, cookie=await sign_in(server))).status == 200


async def test_a_bearer_can_sign_out_everywhere_too(server: Server) -> None:
    cookie = await sign_in(server)
    assert (await server("DELETE", SESSION, who="alice")).status == 204
    assert (await server("GET", SESSION, cookie=cookie)).status == 200
    assert (await server("DELETE", f"{SESSION}?everywhere=true", who="alice")).status == 204
    assert (await server("GET", SESSION, cookie=cookie)).status == 401


async def test_a_token_wins_over_a_cookie_and_a_bad_one_is_refused(server: Server) -> None:
    cookie = await sign_in(server)
    answer = await server("GET", SESSION, cookie=cookie, who="bob")
    assert answer.json["user"]["id"] == "bob"
    for bad in ("Bearer x", "Bearer", "bearer a.b.c", f"Bearer {server.token('bob')}x"):
        answer = await server("GET", SESSION, cookie=cookie, headers={"Authorization": bad})
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated"), bad
    expired = f"Bearer {server.token('bob', now=time.time() - 1000)}"
    answer = await server("GET", SESSION, cookie=cookie, headers={"Authorization": expired})
    assert (answer.status, answer.json["code"]) == (401, "token_expired")
    # What a proxy asks for itself is not for us.
    assert (await server("GET", SESSION, cookie=cookie, headers={"Authorization": "Basic eDp5"})).status == 200


async def test_changes_with_a_cookie_must_come_from_our_own_pages(server: Server) -> None:
    cookie = await sign_in(server)
    refused = [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"{server.root}.evil.example"},
        {"Origin": server.root.rpartition(":")[0]},
        {"Origin": server.root, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in refused:
        answer = await server("DELETE", SESSION, headers={"Cookie": cookie, **headers})
        assert (answer.status, answer.json["code"]) == (403, "cross_origin"), headers
    assert (await server("GET", SESSION, headers={"Cookie": cookie})).status == 200
    answer = await server("DELETE", SESSION, headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"})
    assert answer.status == 204


async def test_another_site_cannot_sign_its_visitor_in(server: Server) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = await server("POST", SESSION, ALICE, headers=headers)
        assert (answer.status, answer.json["code"]) == (403, "cross_origin")
    answer = await server("POST", SESSION, ALICE, headers={"Content-Type": "text/plain"})
    assert answer.status == 415
    assert (await server("POST", SESSION, ALICE, headers={"Origin": server.root})).status == 201


async def test_under_tls_the_cookie_is_bound_to_the_host(proxied: Server) -> None:
    tls = {"X-Forwarded-Proto": "https"}
    answer = await proxied("POST", SESSION, ALICE, headers=tls)
    morsel = cookie_of(answer)
    assert (morsel.key, morsel["secure"], morsel["path"], morsel["domain"]) == (
        "__Host-copydesk_session",
        True,
        "/",
        "",
    )
    good = f"__Host-copydesk_session={morsel.value}"
    assert (await proxied("GET", SESSION, cookie=good, headers=tls)).status == 200
    # A cookie that anybody on the way, or a neighbouring site, could have set does not count.
    assert (await proxied("GET", SESSION, cookie=f"copydesk_session={morsel.value}", headers=tls)).status == 401
    assert (await proxied("GET", SESSION, cookie=good)).status == 401
    page = {**tls, "Origin": proxied.root.replace("http://", "https://")}
    answer = await proxied("DELETE", SESSION, cookie=good, headers=page)
    morsel = cookie_of(answer)
    assert (morsel.key, morsel.value, morsel["secure"]) == ("__Host-copydesk_session", "", True)


async def test_under_tls_a_page_that_came_without_is_another_site(proxied: Server) -> None:
    tls = {"X-Forwarded-Proto": "https"}
    morsel = cookie_of(await proxied("POST", SESSION, ALICE, headers=tls))
    cookie = f"{morsel.key}={morsel.value}"
    secure = proxied.root.replace("http://", "https://")
    for origin, status in ((proxied.root, 403), (secure, 204)):
        out = await proxied("DELETE", SESSION, cookie=cookie, headers={**tls, "Origin": origin})
        assert out.status == status, origin
    assert (await proxied("POST", SESSION, ALICE, headers={**tls, "Origin": proxied.root})).status == 403
    # What ends TLS before us need not say so.
    assert (await proxied("POST", SESSION, ALICE, headers={"Origin": secure})).status == 201


async def test_a_scheme_that_the_client_claims_is_not_believed(server: Server) -> None:
    answer = await server("POST", SESSION, ALICE, headers={"X-Forwarded-Proto": "https"})
    assert cookie_of(answer).key == "copydesk_session"


@pytest.mark.parametrize(
    "cookie", ["copydesk_session=", "copydesk_session=\u00e9", "copydesk_session=" + "x" * 10_000, ";;;"]
)
async def test_a_cookie_that_is_none_signs_nobody_in(server: Server, cookie: str) -> None:
    assert (await server("GET", SESSION, cookie=cookie)).status == 401
    assert (await server("GET", "/api/v1/config", cookie=cookie)).status == 200


async def test_an_unknown_query_argument_is_refused(server: Server) -> None:
    for path in (f"{SESSION}?everywhere=maybe", f"{SESSION}?all=true"):
        assert (await server("DELETE", path, who="alice")).status == 422
