"""Handshakes, frames and messages that are wrong or meant to confuse, directly and through nginx.

Each refusal of the handshake is told in tests/handlers/test_realtime_handshake.py, each of a command in
tests/handlers/test_realtime_commands.py, and frames in test_rfc6455.py; here are whole classes, at a real process, with
somebody beside who must not notice.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import pytest
from tornado.httpclient import AsyncHTTPClient

from tests.handlers.raw_socket import RawSocket
from tests.security.stage import CUT, Door, Row, Stage, http, try_all, undisturbed
from tests.security.test_rfc6455 import BROKEN
from tests.security.wire import CLOSE, CONTINUATION, PING, TEXT, frame

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"


def shake(*headers: str, line: str = "GET /api/v1/realtime", without: str = "", body: bytes | None = None) -> bytes:
    """A good handshake but for what is added and left out, and a close frame behind it."""
    good = ["Connection: Upgrade", "Upgrade: websocket", VERSION, KEY]
    lines = [name for name in good if not without or not name.startswith(without)]
    sent = http(line, *lines, *headers, body=body).replace(b"Connection: close\r\n", b"", 1)
    return sent + frame(CLOSE, b"\x03\xe8")


HANDSHAKES = [
    Row("a good one", shake(), (101,)),
    Row("a foreign origin", shake("Origin: https://evil.example"), (403,)),
    Row("an origin of null", shake("Origin: null"), (403,)),
    Row("an empty origin", shake("Origin:"), (403,)),
    Row("our origin with more behind it", shake("Origin: http://%HOST%.evil.example"), (403,)),
    Row("our origin as a user", shake("Origin: http://%HOST%@evil.example"), (403,)),
    Row("our origin as a path", shake("Origin: http://evil.example/%HOST%"), (403,)),
    Row("our origin on another port", shake("Origin: http://127.0.0.1:1"), (403,)),
    Row("our origin twice", shake("Origin: http://%HOST%", "Origin: http://%HOST%"), (400, 403)),
    Row("our origin and a foreign one", shake("Origin: http://%HOST%", "Origin: http://evil.example"), (400, 403)),
    Row("a foreign origin and ours", shake("Origin: http://evil.example", "Origin: http://%HOST%"), (400, 403)),
    Row("two in one", shake("Origin: http://%HOST% http://evil.example"), (403,)),
    Row("half an address", shake("Origin: http://["), (403,)),
    Row("an origin of another scheme", shake("Origin: file://%HOST%"), (403,)),
    Row("a browser that says cross-site", shake("Origin: http://%HOST%", "Sec-Fetch-Site: cross-site"), (403,)),
    Row("a browser that says cross-site only", shake("Sec-Fetch-Site: cross-site"), (403,)),
    Row("a browser that says none", shake("Origin: http://%HOST%", "Sec-Fetch-Site: none"), (403,)),
    Row("a session without origin", shake("Cookie: %COOKIE%"), (403,)),
    Row("a session with a foreign origin", shake("Cookie: %COOKIE%", "Origin: http://evil.example"), (403,)),
    Row("a session with ours", shake("Cookie: %COOKIE%", "Origin: http://%HOST%"), (101,)),
    Row("a foreign origin with a token", shake("Origin: https://evil.example", "Authorization: Bearer %ALICE%"),
    (403,)),
    Row("a bad token", shake("Authorization: Bearer x"), (401,)),
    Row("another scheme of authorization", shake("Authorization: Basic YTpi"), (101,)),
    *[Row(f"version {text}", shake(f"Sec-WebSocket-Version: {text}", without="Sec-WebSocket-Version"), (426,))
      for text in ("8", "99", "", "13, 8", "013", "-13", "x", "1" * 1000)],
    Row("two versions", shake("Sec-WebSocket-Version: 8"), (400, 426)),
    Row("no version", shake(without="Sec-WebSocket-Version"), (426,)),
    *[Row(f"key {text[:30]!r}", shake(f"Sec-WebSocket-Key: {text}", without="Sec-WebSocket-Key"), (400,))
      for text in ("", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ==, x", "A" * 5000, "\xff" * 24, "====")],
    Row("no key", shake(without="Sec-WebSocket-Key"), (400,)),
    Row("two keys", shake(KEY), (400,)),
    Row("40 sub-protocols", shake("Sec-WebSocket-Protocol: " + ",".join(map(str, range(40)))), (101,)),
    Row("3,000 sub-protocols", shake("Sec-WebSocket-Protocol: " + ",".join(["copydesk.v1"] * 500)), (101,)),
    Row("sub-protocols that are none", shake("Sec-WebSocket-Protocol: ,,,"), (101, 400)),
    Row("a sub-protocol with a quote", shake('Sec-WebSocket-Protocol: "x"'), (101, 400)),
    Row("a sub-protocol with a tab", shake("Sec-WebSocket-Protocol: a\tb"), (101, 400)),
    Row("a sub-protocol in bytes", shake("Sec-WebSocket-Protocol: \xff\xfe"), (101, 400)),
    Row("compression", shake("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8"), (101,)),
    Row("compression 100 times", shake("Sec-WebSocket-Extensions: " + "permessage-deflate; x=8," * 100), (101, 400)),
    Row("extensions that are none", shake('Sec-WebSocket-Extensions: ;;=,,"'), (101, 400)),
    Row("7 KB of extensions", shake("Sec-WebSocket-Extensions: " + "x;" * 3500), (101, 400)),
    *[Row(f"a token as {name}", shake(line=f"GET /api/v1/realtime?{name}=%ALICE%"), (400,))
      for name in ("token", "access_token", "TOKEN", "%74oken", "jwt", "auth", "authorization")],
    Row("HTTP/1.0", shake().replace(b"HTTP/1.1", b"HTTP/1.0", 1), (426,), (101,)),
    Row("POST", shake(line="POST /api/v1/realtime"), (400, 405)),
    Row("a length", shake(body=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), (400,)),
    Row("a length of nothing", shake("Content-Length: 0"), (101,)),
    Row("chunks", shake("Transfer-Encoding: chunked")[:-8] + b"0\r\n\r\n", (400,), (101,)),
    *[Row(f"an upgrade to {text}", shake(f"Upgrade: {text}", without="Upgrade"), (400, 426))
      for text in ("h2c", "websocket, h2c", "h2c, websocket", "", "websocket\x0b", "websockets")],
    Row("two upgrades", shake("Upgrade: h2c"), (400, 426), (400, 426, 101)),
    *[Row(f"a connection of {text}", shake(f"Connection: {text}", without="Connection"), (426,), (101,))
      for text in ("close", "upgradex", "x")],
    Row("WEBSOCKET", shake("Upgrade: WEBSOCKET", without="Upgrade"), (101,)),
    Row("UPGRADE among others", shake("Connection: keep-alive, UPGRADE", without="Connection"), (101,)),
    Row("an argument that nobody knows", shake(line="GET /api/v1/realtime?x[$ne]=1"), (101, 422)),
    Row("a host that is not ours", shake().replace(b"%HOST%", b"evil.example"), (404,), (421,)),
    Row("host and origin that are not ours", shake("Origin: http://%HOST%").replace(b"%HOST%", b"evil.example"), (404,),
        (421,)),
]  # fmt: skip


async def test_handshakes_that_are_wrong_are_refused_and_nobody_notices(stage: Stage, door: Door) -> None:
    await stage.add_user("member")
    cookie = (await stage.sign_in("member")).encode()
    logged = len(stage.log), len(stage.proxy.access_log)
    rows = [row._replace(sent=row.sent.replace(b"%COOKIE%", cookie)) for row in HANDSHAKES]
    async with undisturbed(stage):
        assert await try_all(stage, door, rows, first_only=True) == ""
    # What was sent where it does not belong is in no log.
    for text in (stage.log[logged[0] :], stage.proxy.access_log[logged[1] :]):
        assert stage.token() not in text
        assert cookie.decode().partition("=")[2] not in text


@asynccontextmanager
async def socket(stage: Stage, door: Door, user: str | None = "mallory") -> AsyncIterator[RawSocket]:
    """A connection after a good handshake; with a user, after hello."""
    opened = await RawSocket.open(door)
    try:
        answer = await opened.request(door, {"Host": door.host})
        assert answer.status == 101, answer
        assert "sec-websocket-extensions" not in answer.headers
        if user is not None:
            opened.say(op="hello", id=0, token=stage.token(user))
            assert "ok" in await told(opened)
        yield opened
    finally:
        await opened.close()


async def told(opened: RawSocket) -> dict[str, Any]:
    """The next message but for pings, which come when they come."""
    while (heard := await opened.hear()).get("push") == "ping":
        continue
    return heard


async def test_frames_that_break_a_rule_are_told_so_through_nginx_too(stage: Stage, door: Door) -> None:
    async def ends(frames: tuple[bytes, ...]) -> int | None:
        async with socket(stage, door, None) as opened:
            opened.writer.write(b"".join(frames))
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                return await opened.close_code()
            return None

    async with undisturbed(stage):
        codes = await asyncio.gather(*(ends(frames) for _code, frames in BROKEN.values()))
    assert dict(zip(BROKEN, codes, strict=True)) == {name: code for name, (code, _frames) in BROKEN.items()}


async def test_a_command_in_frames_of_one_byte_among_pings_is_understood(stage: Stage, door: Door) -> None:
    async with undisturbed(stage), socket(stage, door) as opened:
        text = json.dumps({"op": "subscribe", "id": 1, "topic": "projects", "snapshot": False, "since": "x"}).encode()
        parts = [frame(TEXT, text[:1], first=0)]
        for byte in text[1:-1]:
            parts += [frame(CONTINUATION, bytes([byte]), first=0), frame(CONTINUATION, b"", first=0)]
        opened.writer.write(b"".join([*parts, frame(PING, b"x"), frame(CONTINUATION, text[-1:])]))
        assert (await opened.frame())[0] == 0xA
        assert (await told(opened))["ok"]["resumed"] is False


async def test_a_handshake_and_what_follows_may_come_in_one_piece(stage: Stage, door: Door) -> None:
    hello = frame(TEXT, json.dumps({"op": "hello", "id": 1, "token": stage.token("mallory")}).encode())
    opened = await RawSocket.open(door)
    answer = await opened.request(
        door, {"Host": door.host}, body=hello + frame(TEXT, b'{"op": "unsubscribe", "id": 2, "topic": "x"}')
    )
    assert answer.status == 101
    assert [(await told(opened))["id"] for _ in range(2)] == [1, 2]
    await opened.close()


UNREADABLE: dict[str, str] = {
    "nothing": "", "white space": " ", "a word": "hello", "half": '{"op": "hello"', "a list": "[]", "a number": "1",
    "null": "null", "100 times a list": "[" * 100, "brackets": "[" * 60_000, "NaN": '{"op": "pong", "x": NaN}',
    "two": "{}{}",
    "a byte order mark": "\ufeff{}", "an integer of 5,000 digits": '{"op": "pong", "id": ' + "1" * 5000 + "}",
    "the same key twice": '{"op": "pong", "op": "hello"}', "a text": '"hello"', "single quotes": "{'op': 'pong'}",
}  # fmt: skip


async def test_the_third_message_that_cannot_be_read_ends_the_connection(stage: Stage, door: Door) -> None:
    async def attempt(text: str) -> tuple[list[Any], int]:
        async with socket(stage, door) as opened:
            for _ in range(3):
                opened.send(text.encode())
            heard = []
            while (got := await opened.frame())[0] == TEXT:
                heard += [] if b'"push":"ping"' in got[1] else [json.loads(got[1])]
            return [message.get("error", message).get("code", message) for message in heard], int.from_bytes(got[1][:2])

    async with undisturbed(stage):
        ends = await asyncio.gather(*map(attempt, UNREADABLE.values()))
    for name, (codes, close) in zip(UNREADABLE, ends, strict=True):
        assert (set(codes), close) == ({"malformed"}, 4400), name


INVALID: list[Any] = [
    {"op": "subscribe"}, {"op": "subscribe", "topic": {"$ne": ""}}, {"op": "subscribe", "topic": ["inbox"]},
    {"op": "subscribe", "topic": None}, {"op": "subscribe", "topic": 1}, {"op": "subscribe", "topic": ""},
    {"op": "subscribe", "topic": "users"}, {"op": "subscribe", "topic": "inbox:alice"},
    {"op": "subscribe", "topic": "Inbox"},
    {"op": "subscribe", "topic": "project"}, {"op": "subscribe", "topic": "project:" + "x" * 200},
    {"op": "subscribe", "topic": "\u0440roject:x"}, {"op": "subscribe", "topic": "inb\u200box"},
    {"op": "subscribe", "topic": "*"},
    {"op": "subscribe", "topic": "projects", "snapshot": "yes"},
    {"op": "subscribe", "topic": "projects", "since": {"$gt": ""}},
    {"op": "subscribe", "topic": "projects", "since": 1}, {"op": "subscribe", "topic": "projects", "user_id": "alice"},
    {"op": "subscribe", "topic": "projects", "__proto__": {"admin": True}}, {"op": "subscribe", "topic": "x\ud800"},
    {"op": "unsubscribe", "topic": [[]]}, {"op": "refresh"}, {"op": "refresh", "token": None},
    {"op": "refresh", "token": {"$ne": 1}},
    {"op": "signal", "topic": "projects", "data": "x"}, {"op": "publish", "topic": "projects"}, {"op": ""},
    {"op": None},
    {"op": ["subscribe"]}, {"op": "SUBSCRIBE", "topic": "projects"}, {"op": "constructor"}, {"op": "hello\u0000"}, {},
    {"op": "subscribe", "topic": "projects", "deep": json.loads("[" * 50 + "]" * 50)},
    {"op": "subscribe", "topic": "x\u0000"},
    {"op": "hello", "token": "x"}, {"op": "subscribe", "topic": "projects", "n": 2**63},
]  # fmt: skip
IDS: list[Any] = [None, "1", 1.5, 2**53 + 1, -(2**63), True, [1], {"$ne": 1}]
REFUSED = ("invalid", "malformed", "conflict")
HIDDEN = ["project:missing", "project:$where", "project:-", "project:__proto__", "project:" + "x" * 64]


async def test_commands_that_are_invalid_are_refused_and_the_socket_lives(stage: Stage, door: Door) -> None:
    other = (await stage.call("POST", "/projects", {"name": "x", "visibility": "private"}))["id"]

    async def attempt(command: Any) -> str:
        async with socket(stage, door) as opened:
            opened.send(json.dumps(command).encode())
            heard = await told(opened)
            opened.say(op="unsubscribe", id=77, topic="inbox")
            assert (await told(opened)) == {"id": 77, "ok": {}}, (command, heard)
            return str(heard.get("error", heard)["code"])

    commands = [{**command, "id": 1} for command in INVALID]
    commands += [{"op": "unsubscribe", "topic": "inbox", "id": id_} for id_ in IDS]
    async with undisturbed(stage):
        codes = await asyncio.gather(*map(attempt, commands))
    assert [found for found in zip(codes, commands, strict=True) if found[0] not in REFUSED] == []
    async with socket(stage, door) as opened:
        refusals = []
        for number, topic in enumerate([*HIDDEN, f"project:{other}"]):
            opened.say(op="subscribe", id=number, topic=topic)
            refusals.append({**await told(opened), "id": 0})
        assert all(refusal == refusals[0] for refusal in refusals), refusals
        assert refusals[0]["error"]["code"] == "not_found"


RAW_TOKENS = ["82" + "6" * 100, "8266A1B2C3000000012B0229296E04", "82" + "F" * 200, "00", "-1", "9" * 19]
"""As MongoDB's own look; they must never get there (HMAC first)."""


def positions(real: str) -> list[str]:
    """Positions that are none of ours, among them a real one with one character changed, at every place."""
    changed = [real[:place] + ("A" if real[place] != "A" else "B") + real[place + 1 :] for place in range(len(real))]
    made_up = [
        "",
        " ",
        "0",
        "null",
        "NaN",
        "x" * 1000,
        real + "x",
        real[:-1],
        real * 2,
        real[::-1],
        "../" * 20,
        "\u00e9",
        "=" * 40,
    ]
    return [*changed, *made_up, *RAW_TOKENS]


async def test_positions_that_are_none_start_anew_and_reach_no_database(stage: Stage, door: Door) -> None:
    real = (await stage.call("GET", "/events?topics=inbox", user="mallory"))["position"]
    async with undisturbed(stage):
        logged = len(stage.log)
        rows = [
            *[Row(f"since {text[:40]!r}", http(f"GET /api/v1/events?topics=inbox&since={quote(text)}", MALLORY), (200,))
              for text in positions(real)],
            Row("one of 1,001", http(f"GET /api/v1/events?topics=inbox&since={'x' * 1001}", MALLORY), (422,)),
            Row("two", http("GET /api/v1/events?topics=inbox&since=a&since=b", MALLORY), (422,)),
        ]  # fmt: skip
        assert await try_all(stage, door, rows) == ""
        for text in positions(real)[::8]:
            async with socket(stage, door) as opened:
                opened.say(op="subscribe", id=1, topic="projects", since=text, snapshot=False)
                reply = (await told(opened))["ok"]
                assert (reply["resumed"], reply["reason"]) == (False, "unknown"), text
        assert "database_error" not in stage.log[logged:]


MALLORY = "Authorization: Bearer %MALLORY%"
WAITS = ["-1", "25.1", "26", "1e400", "NaN", "inf", "-inf", "x", "0x1", "", "1,5", "1;2", str(2**70)]
TOPICS: list[tuple[str, tuple[int, ...]]] = [
    ("", (422,)), (",", (200, 422)), (",".join(["x"] * 10_000), (400, 414, 422, CUT)),
    (",".join(["inbox"] * 200), (200,)),
    (",".join(f"t{number}" for number in range(200)), (422,)), ("%00", (200, 422)), ("%FF", (400,)), ("$where", (200,)),
    ("project:../../x", (200,)), ("inbox%0d%0aX:%20y", (200, 422)), ("\u0440rojects", (200,)),
    ("inbox&topics=projects", (422,)),
    ("inbox&topics[$ne]=1", (422,)), ("%5B%22inbox%22%5D", (200,)), ("project:" + "x" * 5000, (200, 422)),
]  # fmt: skip
LAST_IDS = ["x", "x" * 7000, "\xff\xfe", "0", "82" + "6" * 200, '{"$gt": ""}', "a\tb", ", ,", "null"]


async def test_polls_and_streams_take_no_wrong_arguments(stage: Stage, door: Door) -> None:
    rows = [
        Row(f"wait {text}", http(f"GET /api/v1/events?topics=inbox&wait={text}", MALLORY), (422,)) for text in WAITS
    ]
    for path in ("/events", "/events/stream"):
        for text, expected in TOPICS:
            if path == "/events/stream" and 200 in expected:
                continue  # has no end
            sent = http(f"GET /api/v1{path}?topics={quote(text, safe='%&=:,[]$')}", MALLORY)
            rows.append(Row(f"{path} {text[:40]!r}", sent, expected))
    rows += [
        Row(f"stream {more}", http(f"GET /api/v1/events/stream?topics=inbox&{more}", MALLORY), (422,))
        for more in ("snapshot=maybe", "snapshot=", "snapshot=1&snapshot=0", "since=a&since=b", "wait=1")
    ]
    rows += [
        Row("nobody", http("GET /api/v1/events/stream?topics=inbox"), (401,)),
        Row("a token in the address", http("GET /api/v1/events/stream?topics=inbox&access_token=%ALICE%"), (400,)),
    ]
    async with undisturbed(stage):
        assert await try_all(stage, door, rows) == ""
        for text in LAST_IDS:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            sent = http("GET /api/v1/events/stream?topics=inbox&snapshot=false", MALLORY, f"Last-Event-ID: {text}")
            writer.write(stage.fill(sent, door))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            if b" 200 " in head:
                streamed = await asyncio.wait_for(reader.readuntil(b"event: live"), 20)
                assert b"event: reset" in streamed, (text, streamed)
            else:
                assert re.match(rb"HTTP/1.1 4\d\d ", head), (text, head)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def sockets(stage: Stage) -> float:
    """How many WebSockets the server has."""
    text = (await AsyncHTTPClient().fetch(f"{stage.process.url}/metrics")).body.decode()
    found = re.search(r'(?m)^copydesk_connections\{transport="websocket"\} (\S+)$', text)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("how", ["reset in a frame", "end in a frame", "end after hello", "reset in the handshake"])
async def test_who_is_gone_without_a_word_is_forgotten(stage: Stage, door: Door, how: str) -> None:
    before = await sockets(stage)
    async with undisturbed(stage):
        for _ in range(5):
            if how == "reset in the handshake":
                opened = await RawSocket.open(door)
                opened.writer.write(shake().replace(b"%HOST%", door.host.encode())[:-30])
            else:
                async with socket(stage, door) as opened:
                    if "frame" in how:
                        opened.writer.write(frame(TEXT, b"x" * 1000)[:500])
                    if how.startswith("end"):
                        opened.writer.write_eof()
            await opened.close()
        async with asyncio.timeout(20):
            while await sockets(stage) > before + 1:  # noqa: ASYNC110 - asks the server; the one is beside
                await asyncio.sleep(0.02)
