"""One request to nginx is one request to Copydesk, however its length is told: request smuggling and its kin.

The forms are those of CL.TE, TE.CL, TE.TE, CL.0 and of upgrades (https://portswigger.net/web-security/request-smuggling,
RFC 9112, 6.3 and 11.2). nginx runs with deploy/nginx.conf, before Copydesk, and before a server that believes anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient

from tests.real import nginx
from tests.real.nginx import Nginx
from tests.security.stage import Door, Stage, exchange, log_faults

SMUGGLED = (
    b"POST /api/v1/projects HTTP/1.1\r\nHost: %HOST%\r\nAuthorization: Bearer %ALICE%\r\nConnection: close\r\n"
    b'Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{"name": "smuggled"}'
)
CHUNKED = b"Transfer-Encoding: chunked"


def first(*lines: bytes, body: bytes, line: bytes = b"POST /api/v1/projects") -> bytes:
    """A request before the one that is hidden in or behind it."""
    head = b"X-Shape: first\r\nHost: %HOST%\r\nAuthorization: Bearer %ALICE%\r\nContent-Type: text/plain\r\n"
    return line + b" HTTP/1.1\r\n" + head + b"".join(each + b"\r\n" for each in lines) + b"\r\n" + body


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"
UPGRADE = (
    b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)  # fmt: skip
REALTIME = b"GET /api/v1/realtime"
H2C = b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__"
OBFUSCATED = [
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\tchunked", b" Transfer-Encoding: chunked", b"X: x\nTransfer-Encoding: chunked",
    b"Transfer-Encoding\n: chunked", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked", b"Transfer_Encoding: chunked", b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: 'chunked'", b"X: x\rTransfer-Encoding: chunked",
    b"Transfer-Encoding\x00: chunked", b"tRANSFER-ENCODING: cHUNKED", b"Transfer-Encoding: chunked,",
    b"Content-Encoding: chunked", b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: ch\xc3\xbcnked",
    b"Transfer-Encoding:",
]  # fmt: skip


def shapes(smuggled: bytes) -> dict[str, bytes]:
    """Requests that may be taken for two, the second of them being `smuggled`."""
    in_chunk = chunk(smuggled) + END
    return {
        "CL.TE": first(length(END + smuggled), CHUNKED, body=END + smuggled),
        "TE.CL": first(CHUNKED, b"Content-Length: 4", body=in_chunk),
        "two lengths, the first short": first(b"Content-Length: 0", length(smuggled), body=smuggled),
        "two lengths, the last short": first(length(smuggled), b"Content-Length: 0", body=smuggled),
        "two lengths in one": first(b"Content-Length: 0, %d" % len(smuggled), body=smuggled),
        "a length with a sign": first(b"Content-Length: +%d" % len(smuggled), body=smuggled),
        "a length with a space": first(b"Content-Length : %d" % len(smuggled), b"Content-Length: 0", body=smuggled),
        "a length of eight digits too many": first(b"Content-Length: 1844674407370955%04d" % 1616, body=smuggled),
        "CL.0": first(length(smuggled), body=smuggled, line=b"GET /static/client.js"),
        "CL.0 by HEAD": first(length(smuggled), body=smuggled, line=b"HEAD /api/v1/projects"),
        "CL.0 by OPTIONS": first(length(smuggled), body=smuggled, line=b"OPTIONS /api/v1/projects"),
        "CL.0 by a page that is not there": first(length(smuggled), body=smuggled, line=b"POST /nothing"),
        "TE.0": first(CHUNKED, body=in_chunk, line=b"OPTIONS /api/v1/projects"),
        "a length in the trailers": first(CHUNKED, body=b"0\r\n" + length(smuggled) + b"\r\n\r\n" + smuggled[:0]),
        "LF in an extension": first(CHUNKED, body=b"2;\nxx\r\n%x\r\n" % len(smuggled) + in_chunk),
        "an extension": first(CHUNKED, body=b"%x;a=\"\r\n" % len(smuggled) + smuggled + b"\r\n" + END),
        "a size of more than 64 bits": first(CHUNKED, body=b"1" + b"0" * 16 + b"\r\n" + in_chunk),
        "a chunk longer than its size": first(CHUNKED, body=b"1\r\nx" + END + smuggled),
        "LF in the path": first(length(b""), body=b"", line=b"GET /api/v1/x\nHost: evil\n\n" + smuggled),
        "a request in the path": first(body=b"", line=b"GET /api/v1/x%20HTTP/1.1%0d%0aHost:%20x%0d%0a%0d%0aPOST%20/y"),
        "websocket with a body": first(*UPGRADE, length(smuggled), body=smuggled, line=REALTIME),
        "websocket with chunks": first(*UPGRADE, CHUNKED, body=in_chunk, line=REALTIME),
        "h2c with a body": first(*H2C, length(smuggled), body=smuggled, line=b"GET /api/v1/config"),
        "h2c by POST": first(*H2C, length(smuggled), body=smuggled),
        "another upgrade": first(b"Upgrade: TLS/1.0", b"Connection: Upgrade", length(smuggled), body=smuggled),
        **{
            f"TE.TE {name[:40]!r}": first(name, length(in_chunk), body=in_chunk)
            for name in OBFUSCATED
        },
        **{
            f"TE.TE {name[:40]!r}, short": first(CHUNKED, name, b"Content-Length: 4", body=in_chunk)
            for name in OBFUSCATED
        },
    }  # fmt: skip


class Recorder:
    """A server that reads as many requests as it can find, and takes every upgrade."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.tunnelled: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                size = re.search(rb"(?im)^content-length: *(\d+)\r$", head)
                self.bodies.append(await reader.readexactly(int(size[1])) if size else b"")
                if re.search(rb"(?im)^upgrade:", head):
                    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
                    while data := await reader.read(65536):
                        self.tunnelled.append(data)
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


@asynccontextmanager
async def recording(folder: Path, *edits: nginx.Edit) -> AsyncIterator[tuple[Recorder, Nginx]]:
    """nginx before a recorder."""
    recorder = Recorder()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    proxy = await asyncio.to_thread(nginx.start, folder, [server.sockets[0].getsockname()[1]], *edits)
    try:
        yield recorder, proxy
    finally:
        await asyncio.to_thread(proxy.stop)
        server.close()
        await server.wait_closed()


def seen_by_nginx(proxy: Nginx) -> int:
    """Requests that it sent on. Its lines are no JSON where a client sends bytes that are no UTF-8."""
    return len(re.findall(r'"upstream":"127\.', proxy.access_log))


async def logged(proxy: Nginx, count: int) -> None:
    """Until nginx has so many in its log, where a request stands only when all is over. At its end, count them."""
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while seen_by_nginx(proxy) < count:  # noqa: ASYNC110 - a file says it
                await asyncio.sleep(0.02)


def filled(stage: Stage, proxy: Nginx) -> bytes:
    """The request to smuggle, as long as it will be."""
    return stage.fill(SMUGGLED, Door("nginx", proxy.port, proxy.host))


async def attack_with_all(stage: Stage, proxy: Nginx) -> dict[str, list[int]]:
    """Every shape at once; the statuses of each."""
    hidden = shapes(filled(stage, proxy))
    statuses = await asyncio.gather(*(attack(stage, proxy, sent) for sent in hidden.values()))
    return dict(zip(hidden, statuses, strict=True))


async def attack(stage: Stage, proxy: Nginx, sent: bytes) -> list[int]:
    """The statuses that an attacker sees. What waits for more of a request is ended by closing."""
    door = Door("nginx", proxy.port, proxy.host)
    return [answer.status for answer in await exchange(door, stage.fill(sent, door), patience=2.0)]


async def test_nginx_sends_on_one_request_for_one(stage: Stage, tmp_path: Path) -> None:
    async with recording(tmp_path) as (recorder, proxy):
        await attack_with_all(stage, proxy)
        assert [head for head in recorder.requests if head.count(b"X-Shape: first") != 1] == []
        assert [
            head for head in recorder.requests if len(re.findall(rb"(?im)^content-length:|^transfer-", head)) > 1
        ] == []
        assert recorder.tunnelled == []
        await logged(proxy, len(recorder.requests))
        assert seen_by_nginx(proxy) == len(recorder.requests) > 10


async def test_a_request_that_is_hidden_in_another_is_never_carried_out(stage: Stage) -> None:
    begun = len(stage.log)
    before = await answered(stage), seen_by_nginx(stage.proxy)
    statuses = await attack_with_all(stage, stage.proxy)
    answers = await answered(stage)
    await logged(stage.proxy, before[1] + answers - before[0] - 1)
    after = answers, seen_by_nginx(stage.proxy)
    assert {name: seen for name, seen in statuses.items() if len(seen) > 1 or 500 in seen} == {}
    # What Tornado cannot read is not counted by Copydesk. The one is the question how many there were.
    assert after[0] - before[0] - 1 <= after[1] - before[1]
    projects = await stage.call("GET", "/projects?limit=200&sort=-created_at")
    assert "smuggled" not in {project["name"] for project in projects["items"]}
    assert log_faults(stage.log[begun:]) == []


async def test_one_behind_the_other_are_two_for_both(stage: Stage) -> None:
    """Else the tests above would see nothing."""
    two = first(length(b"xx"), body=b"xx") + SMUGGLED
    before = await answered(stage), seen_by_nginx(stage.proxy)
    statuses = await attack(stage, stage.proxy, two)
    assert statuses == [415, 201]
    await logged(stage.proxy, before[1] + 2)
    assert await answered(stage) - before[0] - 1 == seen_by_nginx(stage.proxy) - before[1] == 2


async def test_a_tunnel_past_nginx_would_be_noticed(stage: Stage, tmp_path: Path) -> None:
    lax = (
        nginx.replaced(r"~\*\^websocket\$ websocket;", "default $http_upgrade;"),
        nginx.replaced(r'^    default       "";\n', ""),
    )
    async with recording(tmp_path, *lax) as (recorder, proxy):
        await attack(stage, proxy, shapes(SMUGGLED)["h2c with a body"])
        assert len(recorder.requests) + len(recorder.tunnelled) > seen_by_nginx(proxy)


async def answered(stage: Stage) -> int:
    """How many requests Copydesk has answered, this one not counted."""
    answer = await AsyncHTTPClient().fetch(f"{stage.process.url}/metrics")
    counts = re.findall(r"(?m)^copydesk_request_seconds_count\{.*\} (\S+)$", answer.body.decode())
    return int(sum(map(float, counts)))
