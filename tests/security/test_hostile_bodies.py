"""Bodies and query arguments that are no JSON, no BSON, too much or meant for MongoDB, sent to every route.

What is wrong with the text of a body in itself is shown in tests/app/test_strict_json.py, its media types and sizes in
tests/handlers/test_conventions.py. Here every route of the table gets it, so that none can do without.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, get_args
from urllib.parse import quote

import msgspec
import pytest

from handlers.operation import Operation
from handlers.routes import operations
from tests.security.stage import Door, Row, Stage, http, in_one_go, try_all, undisturbed

ROOT = "Authorization: Bearer %ROOT%"

THINNED = 7

BROKEN: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "nothing": (b"", (400,)),
    "half": (b'{"name": ', (400,)),
    "trailing": (b"{}x", (400,)),
    "two": (b"{}{}", (400,)),
    "byte order mark": (b"\xef\xbb\xbf{}", (400,)),
    "UTF-16": ("{}".encode("utf-16"), (400,)),
    "Latin-1": (b'{"name": "\xe9"}', (400,)),
    "overlong UTF-8": (b'{"name": "\xc0\x80"}', (400,)),
    "a surrogate in UTF-8": (b'{"name": "\xed\xa0\x80"}', (400,)),
    "100,000 brackets": (b"[" * 100_000, (400,)),
    "30,000 objects": (b'{"a":' * 30_000, (400,)),
    "21 levels": (b"[" * 21 + b"]" * 21, (422,)),
    "990 levels": (b'{"a":' * 990 + b"1" + b"}" * 990, (400,)),
    "NaN": (b'{"x": NaN}', (400,)),
    "5,000 digits": (b'{"x": ' + b"1" * 5000 + b"}", (400,)),
    "2**63": (b'{"x": 9223372036854775808}', (422,)),
    "1e400": (b'{"x": 1e400}', (422,)),
    "the same key twice": (b'{"x": 1, "x": 2}', (400,)),
    "the same key in two spellings": (b'{"x": 1, "\\u0078": 2}', (400,)),
    "a surrogate": (b'{"x": "\\ud800"}', (422,)),
    "a surrogate as key": (b'{"\\ud800": 1}', (422,)),
    "NUL": (b'{"x": "\\u0000"}', (422,)),
    "null": (b"null", (422,)),
    "a list": (b"[]", (422,)),
    "a text": (b'"x"', (422,)),
    "a number": (b"1", (422,)),
    "true": (b"true", (422,)),
    "JSON in single quotes": (b"{'name': 1}", (400,)),
    "a comment": (b"{/**/}", (400,)),
    "a form": (b"name=x", (400,)),
    "XML": (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', (400,)),
}
FIELDS = [
    "id", "_id", "version", "author", "created_at", "created_by", "updated_by", "role", "roles", "is_admin", "acl",
    "deleted_at", "user_id", "owner", "project_id", "thread", "seq", "unread", "edited_at", "mentions", "password_hash",
    "__proto__", "constructor", "$set", "$where", "$", "a.b", "name.first", "", " name", "NAME", "na\u200bme",
    "\u0430rchived",
]  # fmt: skip
"""What nobody may set, and names that are none. The last two only look like ours."""
VALUES: list[Any] = [
    {"$ne": None}, {"$gt": ""}, {"$regex": "^a"}, {"$where": "sleep(1000)"}, {"$oid": "0" * 24}, {"$date": 0},
    [{"$ne": 1}], [[]], 2**63, {"a": {"b": {"c": "d"}}},
]  # fmt: skip
DATES = [
    "+999999-01-01", "0000-00-00", "2024-02-30T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00",
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2024-01-01T24:00:00Z", "2024-01-01T00:00:60Z", "now",
    2**55, 1e300, -1, "", "2024-01-01T00:00:00Z\u0000", "\u0662\u0660\u0662\u0664-01-01T00:00:00Z",
]  # fmt: skip
BASES: dict[str, list[dict[str, Any]]] = {
    "POST /api/v1/projects": [{"name": "x"}],
    "POST /api/v1/projects/{project_id}/items": [
        {"name": "x", "content": {"id": "never", "version": "1"}, "assignee": "bob"},
        {"items": [{"name": "x", "content": {"id": "never", "version": "1"}}]},
    ],
    "POST /api/v1/projects/{project_id}/items/status": [{"ids": ["missing"], "status": "draft"}],
    "POST /api/v1/projects/{project_id}/comments": [{"body": "x"}],
    "POST /api/v1/notifications": [{"recipients": ["user:bob"], "type": "custom", "title": "x"}],
    "POST /api/v1/notifications/mark": [{"until": 1, "read": True}],
    "POST /api/v1/session": [{"username": "nobody", "password": "x"}],
}
"""Bodies to which one thing is done; where none is given, an empty one is good."""


class World(msgspec.Struct):
    """What there is in a project of alice."""

    ids: dict[str, str]

    def path(self, route: str) -> str:
        return route.format(**self.ids)


@pytest.fixture
def world(io_loop: Any, stage: Stage) -> World:
    """A private project with an item and a comment."""

    async def make() -> World:
        project = (await stage.call("POST", "/projects", {"name": "World", "visibility": "private"}))["id"]
        content = {"id": f"content-{project}", "version": "1"}
        item = await stage.call("POST", f"/projects/{project}/items", {"name": "Home", "content": content})
        comment = await stage.call("POST", f"/projects/{project}/comments", {"body": "Hello"})
        return World(
            {
                "project_id": project, "item_id": item["id"], "comment_id": comment["id"], "user_id": "alice",
                "notification_id": "missing", "letter_id": "missing", "subject": f"project:{project}",
            }
        )  # fmt: skip

    made: World = io_loop.run_sync(make)
    return made


def taking_a_body() -> Iterator[tuple[str, str, Operation]]:
    for route, verbs in operations().items():
        for method, operation in verbs.items():
            if operation.body is not None:
                yield method, route, operation


def names(body: Any) -> set[str]:
    """The fields of a body's type, or of any of its types."""
    shapes = get_args(body) or (body,)
    return {field.encode_name for shape in shapes for field in msgspec.structs.fields(shape)}


async def wrong_answers(
    stage: Stage, door: Door, attacks: list[tuple[str, bytes, tuple[int, ...]]], *, all_of_them: bool = False
) -> str:
    """What was not answered as it should be; refusals in the one shape of refusals."""
    if door.name == "nginx" and not all_of_them:
        # It hands bodies and arguments on as they are; some of all kinds show that.
        attacks = attacks[::THINNED]
    heard = await in_one_go(stage, door, [sent for _name, sent, _expected in attacks])
    found = []
    for (name, _sent, expected), answer in zip(attacks, heard, strict=True):
        if answer.status not in expected:
            found.append(f"{name}: {answer.status} {answer.body[:200]!r}, expected {expected}")
        elif answer.status >= 400 and (answer.code is None or answer.json["status"] != answer.status):
            found.append(f"{name}: {answer}")
    return "\n".join(found)


async def everything(stage: Stage, world: World) -> list[Any]:
    """All that an attack could have changed."""
    base = f"/projects/{world.ids['project_id']}"
    told = [await stage.call("GET", f"{base}{rest}") for rest in ("", "/items", "/comments")]
    told += [await stage.call("GET", path, user="root") for path in ("/preferences", "/admin/settings", "/session")]
    for listed in told:
        listed.pop("position", None)
    return told


async def test_a_body_that_cannot_be_read_is_refused_by_every_route(stage: Stage, door: Door, world: World) -> None:
    before = await everything(stage, world)
    attacks = [
        (f"{method} {route}: {name}", http(f"{method} {world.path(route)}", ROOT, body=body), expected)
        for method, route, _operation in taking_a_body()
        for name, (body, expected) in BROKEN.items()
    ]
    async with undisturbed(stage):
        assert await wrong_answers(stage, door, attacks) == ""
        assert await everything(stage, world) == before


async def test_fields_that_nobody_may_set_are_refused_by_every_route(stage: Stage, door: Door, world: World) -> None:
    before = await everything(stage, world)
    attacks = []
    for method, route, operation in taking_a_body():
        for base in BASES.get(f"{method} {route}", [{}]):
            for name in [name for name in FIELDS if name not in names(operation.body)]:
                body = json.dumps({**base, name: "x"}).encode()
                sent = http(f"{method} {world.path(route)}", ROOT, body=body)
                attacks.append((f"{method} {route}: {body!r}", sent, (422,)))
    async with undisturbed(stage):
        assert await wrong_answers(stage, door, attacks) == ""
        assert await everything(stage, world) == before


async def test_operators_where_a_value_belongs_are_refused_by_every_field(
    stage: Stage, door: Door, world: World
) -> None:
    before = await everything(stage, world)
    attacks = []
    for method, route, operation in taking_a_body():
        base = BASES.get(f"{method} {route}", [{}])[0]
        for name in sorted(names(operation.body)):
            for value in VALUES:
                body = json.dumps({**base, name: value}).encode()
                sent = http(f"{method} {world.path(route)}", ROOT, body=body)
                attacks.append((f"{method} {route}: {body!r}", sent, (422,)))
    async with undisturbed(stage):
        assert await wrong_answers(stage, door, attacks) == ""
        assert await everything(stage, world) == before


async def test_dates_that_are_none_or_too_far_away_are_refused(stage: Stage, door: Door, world: World) -> None:
    project = world.path("/api/v1/projects/{project_id}")
    attacks = []
    for date in DATES:
        for method, path, base, name in (
            ("POST", "/api/v1/projects", {"name": "x"}, "due_at"),
            ("PATCH", project, {}, "due_at"),
            ("PATCH", world.path(f"{project}/items/{{item_id}}"), {}, "publish_at"),
            ("POST", "/api/v1/notifications", {"recipients": ["user:bob"], "type": "custom", "title": "x"}, "send_at"),
        ):
            body = json.dumps({**base, name: date}).encode()
            attacks.append((f"{path}: {body!r}", http(f"{method} {path}", ROOT, body=body), (422,)))
        asked = f"GET {project}/comments?created_after={quote(str(date))}"
        attacks.append((asked, http(asked, ROOT), (200,) if date == -1 else (422,)))
    async with undisturbed(stage):
        assert await wrong_answers(stage, door, attacks) == ""


TEXTS: list[tuple[str, str, int]] = [
    ("nothing", "", 422),
    ("white space", " \t\n\u00a0\u2003", 422),
    ("one character", "x", 201),
    ("the limit", "x" * 10_000, 201),
    ("one more", "x" * 10_001, 422),
    ("the limit in characters of four bytes", "\U0001f600" * 10_000, 201),
    ("composed to the limit", "e\u0301" * 10_000, 201),
    ("taken apart to over the limit", "\u0958" * 10_000, 422),
    ("30 marks on one letter", "x" + "\u0301" * 30, 201),
    ("10,000 marks on one letter", "x" + "\u0301" * 9_999, 422),
    ("right to left", "\u202ereversed", 201),
    ("nothing to see", "\u200b", 201),
    ("not a character", "\uffff", 201),
    ("a script", "<script>alert(1)</script>", 201),
    ("a template", "{{7*7}}${7*7}<%= 7*7 %>", 201),
    ("a formula", "=cmd|' /C calc'!A0", 201),
    ("a line of a log", 'x\r\n{"level": "error", "event": "Traceback"}', 201),
    ("a regular expression", "(a+)+$" * 100, 201),
    ("10,000 at signs", "@" * 10_000, 201),
    ("51 mentions", " ".join(f"@user{number}" for number in range(51)), 422),
    ("2,000 mentions", "@a " * 1000 + "@b " * 1000, 201),
]


async def test_texts_are_kept_as_they_are_or_refused(stage: Stage, door: Door, world: World) -> None:
    path = f"POST {world.path('/api/v1/projects/{project_id}/comments')}"
    bodies = [json.dumps({"body": text}).encode() for _name, text, _status in TEXTS]
    attacks = [
        (name, http(path, ROOT, body=body), (status,))
        for (name, _text, status), body in zip(TEXTS, bodies, strict=True)
    ]
    async with undisturbed(stage):
        assert await wrong_answers(stage, door, attacks, all_of_them=True) == ""
        listed = await stage.call("GET", f"/projects/{world.ids['project_id']}/comments?limit=200")
        kept = {comment["body"] for comment in listed["items"]}
        assert {text for name, text, status in TEXTS if status == 201 and name != "composed to the limit"} <= kept


async def test_query_arguments_reach_the_database_as_values_or_not_at_all(
    stage: Stage, door: Door, world: World
) -> None:
    attacks = []
    for route, verbs in operations().items():
        if route in ("/api/v1/events/stream", "/api/v1/realtime", "/api/v1/unsubscribe"):
            continue
        for method, operation in verbs.items():
            required = "".join(f"&{query.name}=x" for query in operation.query if query.required)
            for query in operation.query:
                name = query.name
                refused = [
                    f"{name}[$ne]=x", f"{name}[]=x", f"{name}.x=1", f"{name}%00=1", f"{name.upper()}=1", f"%24{name}=1",
                    f"{name}=1&{name}=1", f"{name}=1&%{ord(name[0]):x}{name[1:]}=2",
                ]  # fmt: skip
                tried = [
                    "", "$where", "$natural", "-_id", "x%00", "NaN", "-1", str(2**70), "x" * 7000, "true%0a",
                    "(a%2B)%2B%24" * 8,
                ]  # fmt: skip
                cases = [(argument, (422,)) for argument in refused]
                cases += [(f"{name}={value}", (200, 404, 422)) for value in tried]
                cases += [(f"{name}=%FF", (400,)), (f"{name}=%ED%A0%80", (400,))]
                for argument, expected in cases:
                    if name == "everywhere" and expected != (422,):
                        continue  # or everybody is signed out
                    more = "" if query.required else required
                    attacks.append((
                        f"{method} {route}?{argument[:60]}",
                        http(f"{method} {world.path(route)}?{argument}{more}", ROOT),
                        expected,
                    ))  # fmt: skip
    async with undisturbed(stage):
        assert await wrong_answers(stage, door, attacks) == ""


@pytest.mark.parametrize(
    "bad", ["0", "-1", "201", "1e9", str(2**70), "1.5", "", "NaN", "0x10", "%2b5", "1_0", "\u0665"]
)
async def test_no_list_can_be_asked_for_more_than_its_limit(stage: Stage, world: World, bad: str) -> None:
    attacks = [
        (f"{route}?limit={bad}", http(f"GET {world.path(route)}?limit={quote(bad, safe='%')}", ROOT), (422,))
        for route, verbs in operations().items()
        if "GET" in verbs
        and any(query.name == "limit" for query in verbs["GET"].query)
        and not any(query.required for query in verbs["GET"].query)
    ]
    assert len(attacks) > 8
    assert await wrong_answers(stage, stage.doors["direct"], attacks) == ""


def cursors(real: str) -> list[str]:
    """A cursor with one bit changed, for every eighth bit, and cursors that were made up."""
    packed = bytearray(base64.urlsafe_b64decode(real + "=" * (-len(real) % 4)))
    found = []
    for bit in range(0, len(packed) * 8, 8):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << bit % 7
        found.append(bytes(changed))
    scope, value, document = msgspec.msgpack.decode(bytes(packed))
    made_up: list[Any] = [
        [scope, {"$gt": ""}, document], [scope, [], document], [scope, float("nan"), document],
        [scope, 2**63, document], [scope, value, {"$ne": None}], [scope, value, "x\n"], [scope, value, ""],
        [scope, value], [scope, value, document, 1], [scope, True, document], [b"", value, document], {}, None,
        [scope, msgspec.msgpack.Ext(1, b"x"), document], [scope, -(2**63), document], [scope, 2**63 - 1, document],
        [scope, None, document], [scope, "x" * 5000, document],
    ]  # fmt: skip
    found += [msgspec.msgpack.encode(one) for one in made_up] + [b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 3000]
    return [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in found] + ["=", "%00", "a", "....", "\u00e9"]


async def test_a_cursor_that_was_tampered_with_is_refused(stage: Stage, door: Door, world: World) -> None:
    for _ in range(2):
        await stage.call("POST", f"/projects/{world.ids['project_id']}/comments", {"body": "x"})
    comments = world.path("/projects/{project_id}/comments?limit=1")
    attacks = []
    for listed in (comments, "/projects?limit=1", "/projects?limit=1&sort=name", "/users?limit=1"):
        real = (await stage.call("GET", listed))["next_cursor"]
        attacks += [
            (f"{listed}: {cursor[:100]}", http(f"GET /api/v1{listed}&cursor={quote(cursor)}", ALICE), (200, 422))
            for cursor in cursors(real)
        ]
        attacks.append(
            (listed, http(f"GET /api/v1{comments}&cursor={real}", "Authorization: Bearer %ROOT%"), (200, 422))
        )
    async with undisturbed(stage):
        assert await wrong_answers(stage, door, attacks) == ""


ALICE = "Authorization: Bearer %ALICE%"
HEADERS: list[tuple[str, str, tuple[int, ...]]] = [
    *[
        (f"Idempotency-Key: {key}", "POST", expected)
        for key, expected in (
            ("", (201, 400, 422)), ("x" * 256, (201, 400, 422)), ("x" * 20_000, (400, 422)),
            ("\xff\xfe", (201, 400, 422)),
            ("$ne", (201,)), ("a b", (201, 400, 422)), ('{"$gt": ""}', (201, 400, 422)), ("../../x", (201, 400, 422)),
            ("a\tb", (201, 400, 422)), ("a,b", (201, 400, 422)),
        )
    ],
    *[
        (f"If-Match: {tag}", "PATCH", expected)
        for tag, expected in (
            ("", (200, 400, 412)), ('"', (400,)), ("x", (400,)), ('"x', (400,)), ('W/"x"', (412,)), ('"x", "y', (400,)),
            ("*", (200,)), ('"*"', (412,)), ('"\xff"', (412,)), (", ".join(['"x"'] * 3000), (412,)),
            ("," * 10_000, (400,)),
            ('"x" "y"', (400,)), ('"1", *', (400, 412)), ("W/", (400,)), ('"a"' + " " * 20_000, (412,)),
        )
    ],
    *[
        (header, "GET", (200,))
        for header in (
            "Range: bytes=0-0", "If-Range: x", "If-Modified-Since: never", "If-Unmodified-Since: x",
            "Accept: text/html", "Accept-Encoding: gzip;q=nan, identity;q=0", "Accept-Encoding: " + "gzip," * 3000,
            "Accept-Language: ../../etc", "X-HTTP-Method-Override: DELETE", "X-Original-URL: /api/v1/admin/users",
            "X-Rewrite-URL: /api/v1/admin/users",
            "X-Forwarded-Prefix: /x", "Max-Forwards: 0", "Via: 1.1 x", "Cache-Control: only-if-cached", "TE: trailers",
            "Trailer: Content-Length", "Upgrade: h2c", "Upgrade: TLS/1.0", "HTTP2-Settings: AAMAAABkAAQAAP__",
            "Sec-Fetch-Site: cross-site", "Cookie: copydesk_session=\"", "Cookie: ;;;=;a;=b", "Cookie: $Version=1; a=b",
            "Content-Type: application/json; charset=utf-7", "Content-Encoding: gzip",
            "Expect: 200-maybe", "Origin: null",
        )
    ],
]  # fmt: skip


async def test_headers_of_every_shape_are_understood_or_refused(stage: Stage, door: Door, world: World) -> None:
    attacks = []
    for header, method, expected in HEADERS:
        path = world.path("/api/v1/projects/{project_id}/comments")
        body = {"POST": b'{"body": "x"}', "PATCH": b'{"name": "Home"}', "GET": None}[method]
        if method == "PATCH":
            path = world.path("/api/v1/projects/{project_id}/items/{item_id}")
        big = len(header) > 8000  # which is more than nginx takes
        sent = http(f"{method} {path}", ALICE, header, body=body)
        attacks.append(Row(header[:60], sent, expected, (400, *expected) if big else None))
    async with undisturbed(stage):
        assert await try_all(stage, door, attacks) == ""
