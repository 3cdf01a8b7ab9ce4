"""HTTP framing, headers and addresses that are wrong or meant to confuse: `hostile-inputs`, first table, and its kin.

Shown elsewhere and not repeated here: hosts, verbs, and lengths that are none (tests/handlers/test_conventions.py),
forwarding headers, hosts and absolute addresses through nginx, trickled headers (tests/real/test_behind_nginx.py),
requests within requests (test_smuggling.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.security.stage import (
    CUT,
    Door,
    Row,
    Stage,
    answers,
    exchange,
    http,
    in_one_go,
    log_faults,
    told_of,
    try_all,
    undisturbed,
    wrong,
)

CPU_SECONDS = 0.05
"""For one request. Ticks are of 10 ms, hence several requests."""
REPEATED = 4
READ = "GET /api/v1/projects"
ALICE = "Authorization: Bearer %ALICE%"
WRITE = (
    b"POST /api/v1/projects HTTP/1.1\r\nHost: %HOST%\r\nAuthorization: Bearer %ALICE%\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\n"
)
NAME = b'{"name": "x"}'


def write(*lines: bytes, body: bytes = NAME) -> bytes:
    """A POST whose framing is all its own."""
    return WRITE + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def read(*lines: bytes, first: bytes = b"GET /api/v1/projects HTTP/1.1") -> bytes:
    """A GET with lines as they are."""
    head = b"Host: %HOST%\r\nAuthorization: Bearer %ALICE%\r\nConnection: close\r\n"
    return first + b"\r\n" + head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
ONE = b"d\r\n" + NAME + b"\r\n0\r\n\r\n"

LENGTHS = [
    Row("a length and chunked", write(b"Content-Length: 13", CHUNKED, body=ONE), (400,)),
    Row("chunked and a length", write(CHUNKED, b"Content-Length: 13", body=ONE), (400,)),
    Row("two lengths", write(b"Content-Length: 13", b"Content-Length: 14"), (400,)),
    Row("the same length twice", write(b"Content-Length: 13", b"Content-Length: 13"), (400, 201)),
    Row("two lengths in one", write(b"Content-Length: 13, 14"), (400,)),
    Row("a length with a sign", write(b"Content-Length: +13"), (400,)),
    Row("a length in hexadecimal", write(b"Content-Length: 0xd"), (400,)),
    Row("a length with an underscore", write(b"Content-Length: 1_3"), (400,)),
    Row("an empty length", write(b"Content-Length:"), (400,)),
    Row("a length with a fraction", write(b"Content-Length: 13.0"), (400,)),
    Row("a length in other digits", write("Content-Length: \u0661\u0663".encode()), (400,)),
    Row("a length of 2**64 + 13", write(b"Content-Length: 18446744073709551629"), (400, 413)),
]
CODINGS = [
    Row("xchunked", write(b"Transfer-Encoding: xchunked", body=ONE), (400, 501)),
    Row("chunked, identity", write(b"Transfer-Encoding: chunked, identity", body=ONE), (400, 501)),
    Row("identity, chunked", write(b"Transfer-Encoding: identity, chunked", body=ONE), (400, 501)),
    Row("identity", write(b"Transfer-Encoding: identity", b"Content-Length: 13"), (400, 501)),
    Row("gzip, chunked", write(b"Transfer-Encoding: gzip, chunked", body=ONE), (400, 501)),
    Row("chunked, chunked", write(b"Transfer-Encoding: chunked, chunked", body=ONE), (400, 501)),
    Row("twice", write(CHUNKED, CHUNKED, body=ONE), (400, 501)),
    Row("chunked and then another", write(CHUNKED, b"Transfer-Encoding: x", body=ONE), (400, 501)),
    Row("with a tab before it", write(b"Transfer-Encoding:\tchunked", body=ONE), (400, 201), (501,)),
    Row("with a form feed", write(b"Transfer-Encoding: \x0cchunked", body=ONE), (400, 501)),
    Row("with a vertical tab in the name", write(b"Transfer-Encoding\x0b: chunked", body=ONE), (400, 501)),
    Row("in capitals", write(b"TRANSFER-ENCODING: CHUNKED", body=ONE), (201,)),
    Row("quoted", write(b'Transfer-Encoding: "chunked"', body=ONE), (400, 501)),
    Row("empty", write(b"Transfer-Encoding:", b"Content-Length: 13"), (400, 501)),
    Row("in HTTP/1.0", write(CHUNKED, body=ONE).replace(b"HTTP/1.1", b"HTTP/1.0", 1), (400, 201)),
]
CHUNKS = [
    Row(name, write(CHUNKED, body=body), expected)
    for name, body, expected in (
        ("a size of 0xd", b"0xd\r\n" + NAME + b"\r\n0\r\n\r\n", (400,)),
        ("a size of -1", b"-1\r\n" + NAME + b"\r\n0\r\n\r\n", (400,)),
        ("a size of +d", b"+d\r\n" + NAME + b"\r\n0\r\n\r\n", (400,)),
        ("a size of 0_d", b"0_d\r\n" + NAME + b"\r\n0\r\n\r\n", (400,)),
        ("a size with spaces", b"d \r\n" + NAME + b"\r\n0\r\n\r\n", (400, 201)),
        ("no size", b"\r\n" + NAME + b"\r\n0\r\n\r\n", (400,)),
        ("no line after the chunk", b"d\r\n" + NAME + b"0\r\n\r\n", (400,)),
        ("something after the chunk", b"d\r\n" + NAME + b"xx\r\n0\r\n\r\n", (400,)),
        ("a size of 2**64", b"1" + b"0" * 16 + b"\r\n" + NAME, (400, 413)),
        ("a size of 1,000 digits", b"1" * 1000 + b"\r\n" + NAME, (400, 413, CUT)),
        ("an extension", b"d;a=b\r\n" + NAME + b"\r\n0\r\n\r\n", (400, 201)),
        ("an extension of 60 KB", b"d;" + b"a" * 60_000 + b"\r\n" + NAME + b"\r\n0\r\n\r\n", (400, 201, CUT)),
        ("a length in the trailers", b"d\r\n" + NAME + b"\r\n0\r\nContent-Length: 5\r\n\r\n", (400, 201)),
        ("a coding in the trailers", b"d\r\n" + NAME + b"\r\n0\r\nTransfer-Encoding: x\r\n\r\n", (400, 201)),
    )
]
# nginx leaves out lines whose name it cannot read, and lets the rest through.
SYNTAX = [
    Row("a line that goes on", read(b"X: a", b" b"), (400,)),
    Row("a line that goes on with a tab", read(b"X: a", b"\tb"), (400,)),
    Row("a first line that goes on", b"GET /api/v1/projects HTTP/1.1\r\n Host: x\r\nHost: %HOST%\r\n\r\n", (400,)),
    Row("a space before the colon", read(b"X : a"), (400,), (200, 400)),
    Row("NUL in a value", read(b"X: a\0b"), (400,)),
    Row("NUL in a name", read(b"X\0: a"), (400,)),
    Row("CR in a value", read(b"X: a\rY: b"), (400,)),
    Row("a name with brackets", read(b"(X): a"), (400,), (200, 400)),
    Row("a name in Latin-1", read(b"X\xe9: a"), (400,), (200, 400)),
    Row("no name", read(b": a"), (400,), (200, 400)),
    Row("no colon", read(b"X"), (400,), (200, 400)),
    Row("bytes in a value", read(b"X: \xff\xfe"), (200, 400)),
    Row("ESC in a value", read(b"X: \x1b[2J"), (200, 400)),
    Row("DEL in a value", read(b"X: \x7f"), (200, 400)),
]
HOSTS = [
    Row("none", b"GET /api/v1/config HTTP/1.1\r\nConnection: close\r\n\r\n", (400,)),
    Row("two", read(b"Host: %HOST%"), (400,)),
    Row("two, one of them evil", read(b"Host: evil.example"), (400,)),
    Row("one behind another's comma", http("GET /api/v1/config", "Host: %HOST%, evil", host=False), (400, 404)),
    Row("a path in it", http("GET /api/v1/config", "Host: %HOST%/evil", host=False), (400, 404)),
    Row("a user in it", http("GET /api/v1/config", "Host: a@%HOST%", host=False), (400, 404), (400, 404, 421)),
    Row("a port that is none", http("GET /api/v1/config", "Host: 127.0.0.1:x", host=False), (400, 404), (400, 421)),
    Row("a port of 99999", http("GET /api/v1/config", "Host: 127.0.0.1:99999", host=False), (400, 404), (421,)),
    Row("a dot at the end", http("GET /api/v1/config", "Host: localhost.", host=False), (404,), (421,)),
    Row("in other letters", http("GET /api/v1/config", "Host: loc\xe4lhost", host=False), (400, 404), (400, 421)),
    Row("another address of this machine", http("GET /api/v1/config", "Host: 0.0.0.0", host=False), (404,), (421,)),
    Row("as a number", http("GET /api/v1/config", "Host: 2130706433", host=False), (404,), (421,)),
]
FIRST_LINES = [
    Row("HTTP/0.9", b"GET /api/v1/projects\r\n\r\n", (400, CUT), (400, CUT, 421)),
    Row("HTTP/2.0", read(first=b"GET /api/v1/projects HTTP/2.0"), (400, 505)),
    Row("HTTP/1.10", read(first=b"GET /api/v1/projects HTTP/1.10"), (400, 505), (200,)),
    Row("HTTP/1.1 and more", read(first=b"GET /api/v1/projects HTTP/1.1x"), (400, 505)),
    Row("http/1.1", read(first=b"GET /api/v1/projects http/1.1"), (400, 505)),
    Row("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505), (400, 405, 505)),
    Row("get", read(first=b"get /api/v1/projects HTTP/1.1"), (400, 405)),
    Row("a tab", read(first=b"GET\t/api/v1/projects\tHTTP/1.1"), (400,)),
    Row("spaces", read(first=b"GET  /api/v1/projects  HTTP/1.1"), (400,), (400, 200)),
    Row("a space in the address", read(first=b"GET /api/v1/projects x HTTP/1.1"), (400,)),
    Row("no address", read(first=b"GET HTTP/1.1"), (400,)),
    Row("only spaces", read(first=b"   "), (400,)),
    Row("empty lines before it", b"\r\n\r\n" + read(), (200, 400)),
    Row("an asterisk", read(first=b"GET * HTTP/1.1"), (400, 404)),
    Row("OPTIONS of all", read(first=b"OPTIONS * HTTP/1.1"), (400, 404)),
    Row("CONNECT", read(first=b"CONNECT evil.example:443 HTTP/1.1"), (400, 404, 405)),
    Row("TRACE", read(first=b"TRACE /api/v1/projects HTTP/1.1"), (405,)),
    Row("an address of 2,000 characters", read(first=b"GET /" + b"a" * 2000 + b" HTTP/1.1"), (404,)),
    Row("an address of 60 KB", read(first=b"GET /" + b"a" * 60_000 + b" HTTP/1.1"), (400, 414, CUT)),
    Row("a verb of 60 KB", read(first=b"A" * 60_000 + b" / HTTP/1.1"), (400, 405, 414, CUT)),
    Row("a fragment", read(first=b"GET /api/v1/projects#x HTTP/1.1"), (400, 404), (200, 400, 404)),
    Row("bytes in the address", read(first=b"GET /api/v1/projects/\xff HTTP/1.1"), (400, 404)),
    Row("NUL in the address", read(first=b"GET /api/v1/projects/\0 HTTP/1.1"), (400, 404)),
    Row("another scheme", read(first=b"GET file:///etc/passwd HTTP/1.1"), (400, 404, 421)),
    Row("two slashes and a host", read(first=b"GET //evil.example/api/v1/config HTTP/1.1"), (404,)),
]
SIZES = [
    Row("5,000 headers", read(*(b"X%d: a" % number for number in range(5000))), (400, 431, CUT)),
    Row("a header of 40 KB", read(b"X: " + b"a" * 40_000), (400, 431, CUT)),
    Row("a name of 30 KB", read(b"X" * 30_000 + b": a"), (200, 400, 431)),
    Row("1,500 times the same header", read(*[b"X: a"] * 1500), (200, 400, 431)),
    Row("a cookie of 16 KB with 4,000 pairs", read(b"Cookie: " + b"a=b;" * 4000), (200, 400, 431)),
    Row("a cookie of quotes", read(b'Cookie: a="' + b'\\"' * 7000), (200, 400, 431)),
    Row(
        "a type with 7,000 semicolons",
        write(b"Content-Type: application/json" + b";" * 7000, b"Content-Length: 13"),
        (400, 415),
    ),
    Row(
        "a disposition of 30 KB",
        write(
            b"Content-Type: multipart/form-data; boundary=x",
            b"Content-Length: 30100",
            body=b"--x\r\nContent-Disposition: form-data; " + b";" * 30_063,
        ),
        (415,),
    ),
    Row(
        "10,000 parts",
        http(
            "POST /api/v1/projects",
            ALICE,
            "Content-Type: multipart/form-data; boundary=x",
            body=b"--x\r\n\r\n\r\n" * 10_000,
        ),
        (415,),
    ),
    Row(
        "10,000 tags",
        read(b"If-None-Match: " + b", ".join(b'"%d"' % number for number in range(3500))),
        (200,),
        (200, 400),
    ),
    Row("10,000 ranges", read(b"Range: bytes=" + b",".join(b"%d-" % number for number in range(1200))), (200,)),
    Row("an accept of 28 KB", read(b"Accept: " + b"a/b;q=0.1," * 2800), (200,), (200, 400)),
    Row(
        "1,001 arguments",
        read(first=b"GET /api/v1/projects?" + b"&".join([b"limit=1"] * 1001) + b" HTTP/1.1"),
        (400, 422),
    ),
    Row("1,001 pairs of nothing", read(first=b"GET /api/v1/projects?" + b"&" * 1001 + b" HTTP/1.1"), (200, 400)),
]


PREFLIGHT = "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: authorization"
EXPECTATIONS = [
    *[Row(f"expect {text[:20]}", write(b"Expect: " + text, b"Content-Length: 13"), expected)
      for text,
      expected in ((b"100-continue", (201,)), (b"100-Continue, x", (201, 400, 417)), (b"x" * 5000, (201, 400, 417)))],
    *[Row(f"expect without a right {number}", http("POST /api/v1/projects", "Expect: 100-continue", body=NAME), (401,))
      for number in range(10)],
    Row("expect a body of a terabyte", write(b"Expect: 100-continue", b"Content-Length: 1000000000000", body=b""),
    (413,)),
    *[Row(f"a preflight from {origin}", http("OPTIONS /api/v1/projects", f"Origin: {origin}", *PREFLIGHT), (204,))
      for origin in ("https://evil.example", "null", "http://%HOST%.evil.example", "*")],
]  # fmt: skip

TABLES = {
    "expectations": EXPECTATIONS,
    "lengths": LENGTHS,
    "codings": CODINGS,
    "chunks": CHUNKS,
    "syntax of headers": SYNTAX,
    "hosts": HOSTS,
    "first lines": FIRST_LINES,
    "sizes": SIZES,
}


@pytest.mark.parametrize("table", TABLES)
async def test_requests_that_are_wrong_are_refused_and_nobody_notices(stage: Stage, door: Door, table: str) -> None:
    async with undisturbed(stage):
        # After a refused body nginx waits for the client to hang up.
        assert await try_all(stage, door, TABLES[table], first_only=table == "expectations") == ""


def cpu_seconds(stage: Stage) -> float:
    """What the server has used of a processor, whatever else the machine does (proc(5): utime and stime)."""
    fields = Path(f"/proc/{stage.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_what_is_large_or_many_costs_little(stage: Stage) -> None:
    door = stage.doors["direct"]
    costs = {}
    for row in SIZES:
        begun = cpu_seconds(stage)
        for _ in range(REPEATED):
            await exchange(door, stage.fill(row.sent, door))
        costs[row.name] = (cpu_seconds(stage) - begun) / REPEATED
    assert {name: cost for name, cost in costs.items() if cost > CPU_SECONDS} == {}


ADDRESSES = [
    "//api/v1/config", "/api//v1/config", "/api/v1//config", "/api/v1/config/", "/./api/v1/config", "/api/v1/./config",
    "/api/v1/x/../config", "/api/v1/%2e%2e/config", "/api/v1/..;/config", "/api/v1/config;a=b", "/api/v1/config%00",
    "/api/v1/config%20", "/api/v1/config%0d%0aX:%20y", "/API/v1/config", "/api/v1/config.json", "/api/v1/%63onfig",
    "/api/v1/%2563onfig", "/api%2fv1%2fconfig", "/api\\v1\\config", "/api/v1/config%23", "/api/v1/config%3flimit=1",
    "/static/../setup.cfg", "/static/%2e%2e/setup.cfg", "/static/..%2fsetup.cfg", "/static/..%5csetup.cfg",
    "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/client.js/", "/static/client.js%00.css", "/static/",
    "/static",
    "/.git/config", "/.env", "/setup.cfg", "/admin", "/api", "/api/v1", "/api/v2/projects", "/metrics/", "/healthz/x",
    "/api/v1/projects/\u0440roject", "/api/v1/projects/%D1%80", "/api/v1/projects/\uff21", "/api/v1/projects/a%CC%81",
    "/api/v1/projects/%E2%80%8Bx", "/api/v1/projects/__proto__", "/api/v1/projects/constructor",
    "/api/v1/projects/$where", "/api/v1/projects/[object%20Object]", "/api/v1/projects/null", "/api/v1/projects/-1",
    "/api/v1/projects/%7B%22$ne%22:1%7D", "/api/v1/projects/*", "/api/v1/projects/x/items/../../../config",
    "/api/v1/users/..%2fadmin", "/api/v1/subscriptions/project%3ax", "/api/v1/subscriptions/project%253ax",
]  # fmt: skip


async def test_an_address_that_was_played_with_leads_nowhere(stage: Stage, door: Door) -> None:
    """Also where other servers would take it for the same address as another (RFC 3986, 6.2.2)."""
    rows = [
        # nginx refuses NUL by itself.
        Row(
            address,
            http(f"GET {address}".encode().decode("latin-1"), ALICE),
            (404,),
            (404, 400) if "%00" in address else None,
        )
        for address in ADDRESSES
    ]
    async with undisturbed(stage):
        assert await try_all(stage, door, rows) == ""


async def test_requests_one_behind_the_other_on_one_connection_get_their_own_answers(stage: Stage, door: Door) -> None:
    sent = [
        http(
            *(
                ("GET /api/v1/projects?limit=0", ALICE)
                if number % 5 == 0
                else (f"GET /api/v1/projects/p{number}", ALICE)
            )
        )
        for number in range(100)
    ]
    async with undisturbed(stage):
        heard = await in_one_go(stage, door, sent)
    expected = [422 if b"limit=0" in request else 404 for request in sent]
    assert [answer.status for answer in heard] == expected
    assert len({answer.json["request_id"] for answer in heard}) == len(heard)


def test_what_is_answered_wrongly_is_noticed() -> None:
    row = Row("x", b"", (400,))
    good = b"HTTP/1.1 400 Bad\r\nContent-Type: application/problem+json\r\nContent-Length: 32\r\n\r\n"
    good += b'{"status": 400, "code": "wrong"}'
    assert wrong(row, (400,), answers(good)) is None
    assert wrong(row, (400, CUT), []) is None
    for heard in (
        b"", good.replace(b"400 Bad", b"200 OK"), good.replace(b"400 Bad", b"500 No"),
        good.replace(b'"status": 400', b'"status": 500'), good + good.replace(b"400 Bad", b"500 No"), b"<html>\r\n\r\n",
    ):  # fmt: skip
        assert wrong(row, (400,), answers(heard)) is not None
    assert log_faults('{"event": "ok"}\n{"event": "unhandled", "exception": "Traceback (most recent"}') != []


def test_a_secret_in_a_log_is_noticed() -> None:
    token = f"{'h' * 20}.{'p' * 20}.{'s' * 20}"
    assert told_of({token, "password"}, {"a": "GET /x 200", "b": "nothing"}) == []
    for text in (f"GET /x?t={token}", f"... {'s' * 20}", "password=password"):
        assert [line[:3] for line in told_of({token, "password"}, {"a": "", "b": text})][:1] == ["b: "]
