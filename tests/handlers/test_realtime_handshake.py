"""Who is let in to the WebSocket endpoint, and how everybody else is told why not."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from tornado.ioloop import IOLoop

from tests.conftest import Copydesk
from tests.handlers.raw_socket import RawSocket, shake, sign_in, started_with


@pytest.fixture
def sockets(io_loop: IOLoop) -> Iterator[list[RawSocket]]:
    """Raw sockets that end with the test."""
    opened: list[RawSocket] = []
    yield opened
    for opened_one in opened:
        io_loop.run_sync(opened_one.close)


# -- who may ----------------------------------------------------------------------------------------------------------


async def test_a_script_without_origin_gets_in_and_says_hello_with_a_token(
    copydesk: Copydesk, sockets: list[RawSocket]
) -> None:
    sockets.append(await RawSocket.open(copydesk))
    answer = await sockets[0].request(copydesk)
    assert answer.status == 101
    assert "sec-websocket-protocol" not in answer.headers
    assert "sec-websocket-extensions" not in answer.headers
    sockets[0].say(op="hello", id=7, token=copydesk.token("bob"), client="test/1")
    reply = await sockets[0].hear()
    assert reply["id"] == 7
    assert reply["ok"]["user"] == {"id": "bob", "name": "bob"}
    assert reply["ok"]["ping_seconds"] == 25
    assert set(reply["ok"]) == {"user", "session", "expires_at", "ping_seconds", "limits"}


async def test_a_bearer_in_the_handshake_needs_no_token_in_hello(copydesk: Copydesk) -> None:
    bob = await copydesk.socket(headers={"Authorization": f"Bearer {copydesk.token('bob')}"})
    reply = await bob.command("hello")
    assert reply["ok"]["user"]["id"] == "bob"


async def test_a_bad_bearer_in_the_handshake_is_refused(copydesk: Copydesk) -> None:
    answer = await shake(copydesk, {"Authorization": "Bearer nonsense"})
    assert (answer.status, answer.problem["code"]) == (401, "unauthenticated")


async def test_a_session_cookie_counts_where_the_origin_is_ours(copydesk: Copydesk) -> None:
    cookie = await sign_in(copydesk)
    carol = await copydesk.socket(headers={"Cookie": cookie, "Origin": copydesk.url})
    assert (await carol.command("hello"))["ok"]["user"]["id"] == "carol"


async def test_a_token_in_hello_wins_over_a_cookie(copydesk: Copydesk) -> None:
    cookie = await sign_in(copydesk)
    socket = await copydesk.socket(headers={"Cookie": cookie, "Origin": copydesk.url})
    assert (await socket.command("hello", token=copydesk.token("bob")))["ok"]["user"]["id"] == "bob"


async def test_a_bearer_in_the_handshake_wins_over_a_cookie(copydesk: Copydesk) -> None:
    cookie = await sign_in(copydesk)
    socket = await copydesk.socket(
        headers={"Cookie": cookie, "Origin": copydesk.url, "Authorization": f"Bearer {copydesk.token('bob')}"}
    )
    assert (await socket.command("hello"))["ok"]["user"]["id"] == "bob"


async def test_a_cookie_without_origin_is_refused(copydesk: Copydesk) -> None:
    answer = await shake(copydesk, {"Cookie": await sign_in(copydesk)})
    assert (answer.status, answer.problem["code"]) == (403, "cross_origin")


async def test_a_foreign_origin_is_refused_with_a_token_and_without(copydesk: Copydesk) -> None:
    address = urlsplit(copydesk.url)
    foreign = (
        "http://evil.example",
        "null",
        "",
        f"http://{address.netloc}.evil.example",
        f"http://{address.hostname}:1",
        f"http://{address.hostname}",
        f"http://evil.example#{address.netloc}",
        f"http://evil.example/{address.netloc}",
        f"http://{address.netloc}@evil.example",
        "http://[",
    )
    for origin in foreign:
        for token in (None, f"Bearer {copydesk.token('bob')}"):
            answer = await shake(copydesk, {"Origin": origin, "Authorization": token})
            assert (answer.status, answer.problem["code"]) == (403, "cross_origin"), origin


async def test_a_browser_that_says_cross_site_is_believed_over_the_origin(copydesk: Copydesk) -> None:
    for site in ("cross-site", "same-site"):
        answer = await shake(copydesk, {"Origin": copydesk.url, "Sec-Fetch-Site": site})
        assert (answer.status, answer.problem["code"]) == (403, "cross_origin"), site
    answer = await shake(copydesk, {"Origin": copydesk.url, "Sec-Fetch-Site": "same-origin"})
    assert answer.status == 101


TRUSTED = "https://cms.example"


@started_with(trusted_origins=(TRUSTED,))
async def test_a_trusted_origin_gets_in_and_needs_a_token(copydesk: Copydesk) -> None:
    answer = await shake(copydesk, {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site"})
    assert answer.status == 101
    answer = await shake(copydesk, {"Origin": f"{TRUSTED}.evil"})
    assert answer.status == 403
    # A cookie that a trusted site makes a browser send is nobody's intent.
    answer = await shake(copydesk, {"Origin": TRUSTED, "Cookie": await sign_in(copydesk)})
    assert answer.status == 403


async def test_a_host_that_is_not_ours_is_not_found(copydesk: Copydesk) -> None:
    answer = await shake(copydesk, {"Host": "evil.example", "Origin": "http://evil.example"})
    assert (answer.status, answer.problem["code"]) == (404, "not_found")


async def test_a_token_in_the_address_is_refused(copydesk: Copydesk) -> None:
    for name in ("token", "access_token", "Token"):
        answer = await shake(copydesk, path=f"/api/v1/realtime?{name}={copydesk.token('bob')}")
        assert (answer.status, answer.problem["code"]) == (400, "malformed"), name


# -- what is a handshake ----------------------------------------------------------------------------------------------


async def test_a_key_that_is_no_key_is_refused(copydesk: Copydesk) -> None:
    for key in (None, "", "short", "!" * 24, "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ=="):
        answer = await shake(copydesk, {"Sec-WebSocket-Key": key})
        assert (answer.status, answer.problem["code"]) == (400, "malformed"), key


async def test_two_keys_are_refused(copydesk: Copydesk) -> None:
    answer = await shake(copydesk, more=[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
    assert (answer.status, answer.problem["code"]) == (400, "malformed")


async def test_another_version_of_websocket_is_told_which_one_we_speak(copydesk: Copydesk) -> None:
    for version in ("8", "99", "", None):
        answer = await shake(copydesk, {"Sec-WebSocket-Version": version})
        assert (answer.status, answer.problem["code"]) == (426, "upgrade_required"), version
        assert answer.headers["sec-websocket-version"] == "13"


async def test_a_request_without_upgrade_is_told_what_is_missing(copydesk: Copydesk) -> None:
    cases: tuple[tuple[dict[str, str | None], list[str]], ...] = (
        ({"Upgrade": None, "Connection": None}, ["Upgrade", "Connection"]),
        ({"Upgrade": None}, ["Upgrade"]),
        ({"Connection": "close"}, ["Connection"]),
        ({"Upgrade": "h2c"}, ["Upgrade"]),
    )
    for headers, missing in cases:
        answer = await shake(copydesk, {**headers, "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"})
        assert (answer.status, answer.problem["code"]) == (426, "upgrade_required")
        assert answer.headers["upgrade"] == "websocket"
        for name in missing:
            assert f"{name}: " in answer.problem["detail"]
        assert [entry["path"] for entry in answer.problem["errors"]] == [f"header {name}" for name in missing]
        assert answer.problem["received"]["X-Forwarded-For"] == "192.0.2.1"
        assert "X-Forwarded-Proto" in answer.problem["detail"]
        assert "nginx" in answer.problem["detail"]


async def test_an_upgrade_among_other_words_is_understood(copydesk: Copydesk) -> None:
    answer = await shake(copydesk, {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"})
    assert answer.status == 101


async def test_a_body_with_the_handshake_is_refused_and_is_no_second_request(
    copydesk: Copydesk, sockets: list[RawSocket]
) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sockets.append(await RawSocket.open(copydesk))
    answer = await sockets[0].request(copydesk, {"Content-Length": str(len(smuggled))}, body=smuggled)
    assert (answer.status, answer.problem["code"]) == (400, "malformed")
    chunked = await shake(copydesk, {"Transfer-Encoding": "chunked"}, body=b"0\r\n\r\n")
    assert (chunked.status, chunked.problem["code"]) == (400, "malformed")


async def test_another_verb_is_refused(copydesk: Copydesk) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await shake(copydesk, {"Upgrade": None, "Connection": None, "Content-Length": "0"}, method=method)
        assert (answer.status, answer.problem["code"]) == (405, "method_not_allowed"), method
        assert "GET" in answer.headers["allow"]


# -- sub-protocols ----------------------------------------------------------------------------------------------------


async def test_our_sub_protocol_is_echoed_where_it_is_offered(copydesk: Copydesk) -> None:
    for offered in ("copydesk.v1", "other, copydesk.v1", "copydesk.v2,copydesk.v1"):
        answer = await shake(copydesk, {"Sec-WebSocket-Protocol": offered})
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "copydesk.v1"), offered


async def test_unknown_sub_protocols_are_told_by_a_close_code_that_a_browser_sees(
    copydesk: Copydesk, sockets: list[RawSocket]
) -> None:
    sockets.append(await RawSocket.open(copydesk))
    answer = await sockets[0].request(copydesk, {"Sec-WebSocket-Protocol": "copydesk.v9, other"})
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "copydesk.v9")
    assert await sockets[0].close_code() == 4406
    assert len(copydesk.server.connections) == 0


# -- how many ---------------------------------------------------------------------------------------------------------


@started_with(max_connections_per_user=2)
async def test_a_user_has_a_limited_number_of_connections(copydesk: Copydesk) -> None:
    for _ in range(2):
        await copydesk.editor("bob")
    answer = await shake(copydesk, {"Authorization": f"Bearer {copydesk.token('bob')}"})
    assert (answer.status, answer.problem["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 0
    late = await copydesk.socket()
    reply = await late.command("hello", token=copydesk.token("bob"))
    assert reply["error"]["code"] == "rate_limited"
    assert reply["error"]["retry_after_ms"] > 0
    assert (await late.next_push("error"))["retry_after_ms"] > 0
    assert (await late.closed)[0] == 4008
    await copydesk.editor("carol")


@started_with(max_connections_per_user=1)
async def test_a_user_who_leaves_makes_room(copydesk: Copydesk) -> None:
    bob = await copydesk.editor("bob")
    await bob.close()
    await copydesk.server.connections.emptied()
    await copydesk.editor("bob")


@started_with(max_connections_per_address=1)
async def test_an_address_has_a_limited_number_of_connections(copydesk: Copydesk) -> None:
    await copydesk.editor("bob")
    answer = await shake(copydesk)
    assert (answer.status, answer.problem["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 0


@started_with(max_connections_per_address=1, trusted_proxies=("127.0.0.1",))
async def test_an_address_that_a_trusted_proxy_names_is_the_one_that_counts(copydesk: Copydesk) -> None:
    await copydesk.editor("bob", headers={"X-Forwarded-For": "192.0.2.1"})
    assert (await shake(copydesk, {"X-Forwarded-For": "192.0.2.1"})).status == 429
    assert (await shake(copydesk, {"X-Forwarded-For": "192.0.2.2"})).status == 101


@started_with(max_connections=1)
async def test_a_full_server_is_unavailable(copydesk: Copydesk) -> None:
    await copydesk.editor("bob")
    answer = await shake(copydesk)
    assert (answer.status, answer.problem["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


@started_with(websockets_enabled=False)
async def test_switched_off_websockets_are_a_clear_refusal(copydesk: Copydesk) -> None:
    answer = await shake(copydesk)
    assert (answer.status, answer.problem["code"]) == (403, "websockets_disabled")
    config = await copydesk.call("GET", "/config", user=None)
    assert "websocket" not in config["transports"]
