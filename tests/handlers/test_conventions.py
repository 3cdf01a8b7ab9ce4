"""What holds for every route: how refusals look, what is read, and that nothing a client sends is answered with 500."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any
from urllib.parse import urlsplit

import jwt
import msgspec
import pytest
from pymongo.errors import AutoReconnect

from app.access import Access
from models.errors import family
from models.project import ProjectStore
from tests.handlers.conftest import SECRET, Answer, Api


def bearer(who: str = "alice") -> str:
    claims = {"sub": who, "aud": "copydesk", "exp": time.time() + 600, "iat": time.time()}
    return f"Authorization: Bearer {jwt.encode(claims, SECRET)}\r\n"


async def raw(api: Api, request: bytes | str, *more: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """What the server answers to these very bytes, until it closes: status, headers (names in lower case), body."""
    reader, writer = await asyncio.open_connection("localhost", urlsplit(api.root).port)
    try:
        for part in (request.encode() if isinstance(request, str) else request, *more):
            writer.write(part)
            await writer.drain()
        received = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        answers.append((int(first.split(" ")[1]), headers, received[:length]))
        received = received[length:]
    return answers


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = answer.json
    assert set(body) - {"errors"} == {"type", "title", "status", "code", "detail", "request_id"}
    assert (body["status"], body["code"]) == (status, code)
    assert family()[code].status == status
    return body


# -- addresses and verbs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/projects/",
        "//projects",
        "/projects/..;/",
        "/projects/%2e%2e",
        "/projects/%00",
        "/projects/a%2Fb",
        "/projects/a%20b",
        "/projects/" + "x" * 65,
        "/projects/$where",
        "/projects/P%0a",
        "/projects/é".encode().decode("latin-1"),
    ],
)
async def test_an_address_where_nothing_is_answers_not_found(api: Api, path: str) -> None:
    problem(await api("alice", "GET", path), 404, "not_found")
    problem(await api("alice", "PATCH", path, b"{}"), 404, "not_found")


async def test_an_id_that_none_of_ours_can_be_never_reaches_the_database(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Access, "of", asked)
    for project_id in ("a%20b", "%00", "$where", "x" * 65, "P%0a"):
        problem(await api("alice", "GET", f"/projects/{project_id}"), 404, "not_found")


async def test_a_path_that_is_no_utf8_is_malformed(api: Api) -> None:
    problem(await api("alice", "GET", "/projects/%ff"), 400, "malformed")
    problem(await api("alice", "GET", "/projects?q=%ff"), 400, "malformed")


async def test_a_nul_in_the_query_is_refused(api: Api) -> None:
    problem(await api("alice", "GET", "/projects?q=a%00b"), 422, "invalid")
    problem(await api("alice", "GET", "/notifications?category=a%00b"), 422, "invalid")


async def test_an_unknown_path_is_not_found_whatever_is_sent_there(api: Api) -> None:
    multipart = {"Content-Type": "multipart/form-data"}
    problem(await api(None, "POST", "/nothing", b"x", headers=multipart), 404, "not_found")
    problem(await api(None, "POST", "/nothing", b"x" * 2_000_000), 404, "not_found")
    ((status, _headers, _body),) = await raw(
        api, "BREW /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert status == 404


async def test_a_verb_that_a_path_does_not_have_is_refused_with_those_it_has(api: Api) -> None:
    answer = await api("alice", "PUT", "/projects", {})
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    for verb in ("TRACE", "CONNECT", "FOO"):
        request = f"{verb} /api/v1/projects HTTP/1.1\r\nHost: localhost\r\n{bearer()}Connection: close\r\n\r\n"
        ((status, headers, body),) = await raw(api, request)
        assert (status, headers["allow"]) == (405, "GET, POST, HEAD, OPTIONS")
        assert msgspec.json.decode(body)["code"] == "method_not_allowed"


async def test_verbs_in_disguise_are_ignored(api: Api, database: Any) -> None:
    await database.projects.insert_one({"_id": "P", "name": "x"})
    disguise = {"X-HTTP-Method-Override": "DELETE"}
    assert (await api("root", "GET", "/projects/P", roles=("admin",), headers=disguise)).status == 200
    problem(await api("root", "GET", "/projects/P?_method=DELETE", roles=("admin",)), 422, "invalid")


async def test_head_is_get_without_the_body(api: Api) -> None:
    get = await api("alice", "GET", "/projects")
    head = await api("alice", "HEAD", "/projects")
    assert (head.status, head.body) == (200, b"")
    for name in ("Etag", "Content-Length", "Content-Type", "Copydesk-Position"):
        assert head.headers[name] == get.headers[name]
    missing = await api("alice", "HEAD", "/projects/nothing")
    assert (missing.status, missing.body) == (404, b"")
    assert (await api("alice", "HEAD", "/projects?limit=0")).status == 422


async def test_options_needs_no_sign_in_and_names_the_verbs(api: Api) -> None:
    answer = await api(None, "OPTIONS", "/projects/P")
    assert (answer.status, answer.headers["Allow"]) == (204, "GET, PATCH, DELETE, HEAD, OPTIONS")
    assert "Access-Control-Allow-Origin" not in answer.headers


# -- who and from where -----------------------------------------------------------------------------------------------


async def test_nobody_is_asked_to_sign_in_before_anything_else_is_said(api: Api) -> None:
    for method, path, body in (
        ("GET", "/projects", None),
        ("GET", "/projects/a%20b", None),
        ("GET", "/projects?nonsense=1", None),
        ("POST", "/projects", b"not json"),
        ("PATCH", "/projects/P", b"x" * 2_000_000),
    ):
        answer = await api(None, method, path, body)
        problem(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "[::1", "", "localhost@evil.example", "a b"]
)
async def test_a_host_name_that_is_not_ours_is_refused(api: Api, host: str) -> None:
    request = f"GET /api/v1/projects HTTP/1.1\r\nHost: {host}\r\n{bearer()}Connection: close\r\n\r\n"
    ((status, _headers, body),) = await raw(api, request)
    assert status in (400, 404)
    assert b"items" not in body


async def test_our_host_name_counts_in_any_case_and_with_any_port(api: Api) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8888"):
        request = f"GET /api/v1/projects HTTP/1.1\r\nHost: {host}\r\n{bearer()}Connection: close\r\n\r\n"
        ((status, _headers, _body),) = await raw(api, request)
        assert status == 200


async def test_an_origin_that_is_not_trusted_may_not_read_answers(api: Api) -> None:
    for method, path in (("GET", "/projects"), ("OPTIONS", "/projects"), ("GET", "/nothing")):
        answer = await api("alice", method, path, headers={"Origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_a_trusted_origin_may_read_answers_and_refusals(api: Api) -> None:
    trusted = {"Origin": "https://cms.example"}
    for path in ("/projects", "/projects/nothing", "/projects?limit=0"):
        answer = await api("alice", "GET", path, headers=trusted)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://cms.example"
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed == {
            "ETag", "Location", "Retry-After", "Copydesk-Position", "X-Poll-Interval", "Copydesk-Counts", "RateLimit",
            "RateLimit-Policy",
        }  # fmt: skip
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
    preflight = await api(None, "OPTIONS", "/projects", headers={**trusted, "Access-Control-Request-Method": "POST"})
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]


# -- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
        "application/jsonp",
        "application/json, text/plain",
    ],
)
async def test_a_body_of_another_kind_is_refused(api: Api, kind: str) -> None:
    for body in (b'{"name": "x"}', b"--x\r\n" * 10_000, b""):
        answer = await api("alice", "POST", "/projects", body, headers={"Content-Type": kind})
        problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_json_in_utf8_is_taken_however_it_is_spelt(api: Api, kind: str) -> None:
    answer = await api("alice", "POST", "/projects", {"name": "x"}, headers={"Content-Type": kind})
    assert answer.status == 201


async def test_a_compressed_body_is_refused_and_never_inflated(api: Api) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    answer = await api("alice", "POST", "/projects", bomb, headers={"Content-Encoding": "gzip"})
    problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"null", 422, "invalid"),
        (b'"x"', 422, "invalid"),
        (b"[" * 100_000, 400, "malformed"),
        (b"[" * 50 + b"]" * 50, 422, "invalid"),
        (b'{"name": NaN}', 400, "malformed"),
        (b'{"name": "a", "name": "b"}', 400, "malformed"),
        (b'{"name": "\\ud800"}', 422, "invalid"),
        (b'{"\\ud800": 1}', 422, "invalid"),
        (b'{"name": "a\\u0000"}', 422, "invalid"),
        (b'{"a\\u0000": 1}', 422, "invalid"),
        (b'{"name": 9223372036854775808}', 422, "invalid"),
        (b'{"name": ' + b"1" * 5000 + b"}", 400, "malformed"),
        (b'{"$where": "1"}', 422, "invalid"),
        (b'{"a.b": 1}', 422, "invalid"),
        (b'{"": 1}', 422, "invalid"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
async def test_a_broken_body_is_refused_in_words(api: Api, body: bytes, status: int, code: str) -> None:
    problem(await api("alice", "POST", "/projects", body), status, code)
    with_key = await api("alice", "POST", "/projects", body, headers={"Idempotency-Key": "k"})
    problem(with_key, status, code)


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_too_large(api: Api) -> None:
    limit = 256 * 1024
    fits = b'{"name": "x"' + b" " * (limit - 13) + b"}"
    assert len(fits) == limit
    assert (await api("alice", "POST", "/projects", fits)).status == 201
    problem(await api("alice", "POST", "/projects", fits + b" "), 413, "too_large")
    problem(await api("alice", "POST", "/projects", b" " * 20_000_000), 413, "too_large")


async def test_a_body_in_pieces_is_counted_as_it_comes(api: Api) -> None:
    head = (
        f"POST /api/v1/projects HTTP/1.1\r\nHost: localhost\r\n{bearer()}Content-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    ((status, _headers, body),) = await raw(api, head, *([piece] * 40), b"0\r\n\r\n")
    assert (status, msgspec.json.decode(body)["code"]) == (413, "too_large")
    ((status, _headers, body),) = await raw(api, head, b'd\r\n{"name": "x"}\r\n0\r\n\r\n')
    assert status == 201, body


@pytest.mark.parametrize(
    ("first_line", "known", "kind", "status"),
    [
        ("POST /api/v1/projects", True, "application/json", 413),
        ("POST /api/v1/projects", True, "text/plain", 415),
        ("POST /api/v1/projects", False, "application/json", 401),
        ("PUT /api/v1/projects", True, "application/json", 405),
        ("PATCH /api/v1/projects/P", True, "application/json", 404),
        ("DELETE /api/v1/projects?x=1", True, "application/json", 405),
        ("POST /nothing", False, "multipart/form-data", 404),
    ],
)
async def test_after_a_refused_body_the_connection_goes_on(
    api: Api, first_line: str, known: bool, kind: str, status: int
) -> None:
    # Not among the parameters: a token made when tests are collected has expired when a long run comes to this one.
    refused = (
        f"{first_line} HTTP/1.1\r\nHost: localhost\r\n{bearer() if known else ''}Content-Type: {kind}\r\n"
        "Content-Length: 3000000\r\n\r\n"
    )
    second = f"GET /api/v1/projects HTTP/1.1\r\nHost: localhost\r\n{bearer()}Connection: close\r\n\r\n"
    answers = await raw(api, refused, b" " * 3_000_000, second.encode())
    assert [status for status, _headers, _body in answers] == [status, 200]


async def test_an_endless_body_is_refused_before_it_comes_and_answered_once(api: Api) -> None:
    request = (
        f"POST /api/v1/projects HTTP/1.1\r\nHost: localhost\r\n{bearer()}Content-Type: application/json\r\n"
        f"Content-Length: {10**15}\r\n\r\n"
    )
    ((status, _headers, body),) = await raw(api, request)
    assert (status, msgspec.json.decode(body)["code"]) == (413, "too_large")


@pytest.mark.parametrize("length", ["abc", "-1", "\xb2", "1e3", "9" * 40, "5, 6"])
async def test_a_length_that_is_none_is_malformed(api: Api, length: str) -> None:
    head = f"POST /api/v1/projects HTTP/1.1\r\nHost: localhost\r\n{bearer()}Content-Length: {length}\r\n\r\n"
    answers = await raw(api, head.encode("latin-1"))
    assert [status for status, _headers, _body in answers] == [400]


async def test_who_waits_for_a_go_ahead_is_refused_before_sending_anything(api: Api) -> None:
    reader, writer = await asyncio.open_connection("localhost", urlsplit(api.root).port)
    writer.write(
        b"POST /api/v1/projects HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_leaves_in_the_middle_of_its_body_changes_nothing(api: Api, database: Any) -> None:
    head = (
        f"POST /api/v1/projects HTTP/1.1\r\nHost: localhost\r\n{bearer()}Content-Type: application/json\r\n"
        "Content-Length: 100\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("localhost", urlsplit(api.root).port)
    writer.write(head.encode() + b'{"name": "x"}')
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert await database.projects.count_documents({}) == 0


async def test_a_body_where_none_is_expected_is_ignored(api: Api, database: Any) -> None:
    await database.projects.insert_one({"_id": "P", "name": "x"})
    assert (await api("alice", "GET", "/projects/P", b"{")).status == 200
    assert (await api("alice", "GET", "/projects/P", b"x" * 2_000_000)).status == 200
    deleted = await api(
        "root", "DELETE", "/projects/P", b"\xff", roles=("admin",), headers={"Content-Type": "text/plain"}
    )
    assert deleted.status == 204


# -- answers ----------------------------------------------------------------------------------------------------------


async def test_answers_are_json_whatever_is_accepted_and_name_no_server(api: Api) -> None:
    answer = await api("alice", "GET", "/projects", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers
    assert answer.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (AutoReconnect("mongodb://user:secret@db:27017"), 503, "unavailable"),
        (ZeroDivisionError("secret"), 500, "internal"),
    ],
)
async def test_a_fault_behind_the_edge_is_told_without_its_words(
    api: Api, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int, code: str
) -> None:
    async def fail(*_arguments: Any, **_named: Any) -> None:
        raise fault

    monkeypatch.setattr(ProjectStore, "get", fail)
    monkeypatch.setattr(ProjectStore, "list", fail)
    answer = await api("alice", "GET", "/projects")
    problem(answer, status, code)
    assert b"secret" not in answer.body
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_every_request_has_an_id_of_its_own(api: Api) -> None:
    ids = {(await api("alice", "GET", "/projects/nothing")).json["request_id"] for _ in range(5)}
    assert len(ids) == 5


async def test_nothing_of_a_request_ends_up_in_the_headers_of_its_answer(api: Api) -> None:
    for path in ("/projects/x%0d%0aSet-Cookie:%20a=b", "/projects?cursor=x%0d%0aSet-Cookie:%20a=b"):
        answer = await api("alice", "GET", path)
        assert answer.status in (404, 422)
        assert "Set-Cookie" not in answer.headers
