"""Credentials that are none, at every entrance: REST, event streams, polls, the handshake and hello.

What makes a token good or bad is shown in tests/app/test_tokens.py, sessions in tests/handlers/test_session.py. Here is
shown that no entrance does without.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from tests.handlers.raw_socket import RawSocket
from tests.security.stage import PASSWORD, SECRET, Door, Row, Stage, http, try_all, undisturbed

NOW = time.time()
GOOD: dict[str, Any] = {"sub": "eve", "aud": "copydesk", "iat": NOW, "exp": NOW + 3600}
ENTRANCES = ("/session", "/projects", "/events?topics=inbox", "/events/stream?topics=inbox", "/admin/users")


def token(
    *without: str, key: str = SECRET, algorithm: str | None = "HS256", head: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token that is good but for what is said."""
    payload = {name: value for name, value in {**GOOD, **claims}.items() if name not in without}
    return jwt.encode(payload, key, algorithm=algorithm, headers=head)


def by_hand(head: Any, payload: Any = GOOD, signature: bytes = b"") -> str:
    """Parts that no library would write."""
    parts = [json.dumps(head).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hs512() -> str:
    """Rightly signed by an algorithm that this secret is not for."""
    text = by_hand({"alg": "HS512", "typ": "JWT"}).rstrip(".")
    signature = hmac.new(SECRET.encode(), text.encode(), hashlib.sha512).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


TOKENS: dict[str, str] = {
    "nothing": "",
    "a word": "x",
    "two dots": "..",
    "a thousand dots": "." * 1000,
    "too long": "x" * 17_000,
    **{f"algorithm {name}": by_hand({"alg": name, "typ": "JWT"}) for name in ("none", "None", "nOnE", "", "HS384",
    None, 1, ["HS256"])},
    "no algorithm": by_hand({"typ": "JWT"}),
    "a header that is a list": by_hand([]),
    "without its signature": token().rpartition(".")[0] + ".",
    "with another signature": token()[:-4] + "AAAA",
    "another secret": token(key="t" * 32),
    "HS512 with the secret": hs512(),
    **{f"kid {kid}": token(head={"kid": kid}, key="x" * 32) for kid in ("../../etc/passwd", "http://127.0.0.1:1/k",
    "' OR 1=1 --", "\x00")},
    **{f"header {name}": token(head={name: "http://127.0.0.1:1/keys"}) for name in ("jku", "x5u", "jwk", "x5c")},
    "critical": token(head={"crit": ["exp"]}),
    "a refresh token": token(token_use="refresh"),
    "an ID token": token(nonce="x"),
    "an ID token by its type": token(head={"typ": "id+jwt"}),
    "expired": token(exp=NOW - 61),
    "from the future": token(nbf=NOW + 3600),
    "issued in the future": token(iat=NOW + 3600),
    **{f"without {name}": token(name) for name in ("sub", "exp", "aud")},
    **{f"exp {value!r}": token(exp=value) for value in ("9e99", float("nan"), float("inf"), 1e300, None, True, [NOW],
    -1)},
    **{f"aud {value!r}": token(aud=value) for value in ("copydesk.evil", "", "Copydesk", ["x"], {"copydesk": 1},
    "copydes")},
    **{f"sub {value!r}": jwt.api_jws.encode(json.dumps({**GOOD, "sub": value}).encode(), SECRET)
       for value in ("", "a b", "a/b", "\u0430lice", "alice\n", "x" * 65, {"$ne": ""}, ["alice"], 1, None)},
    **{f"roles {value!r}": token(roles=value) for value in ("admin", {"admin": True}, [1], [["admin"]])},
}  # fmt: skip
SHAPES: dict[str, str] = {
    "no scheme": "%ALICE%",
    "another scheme": "Basic %ALICE%",
    "two tokens": "Bearer %ALICE% %ALICE%",
    "a comma": "Bearer %ALICE%, Bearer %ALICE%",
    "only the scheme": "Bearer",
    "a parameter": "Bearer token=%ALICE%",
    "quotes": 'Bearer "%ALICE%"',
}


@pytest.mark.parametrize("way", ["rest", "handshake", "hello"])
async def test_no_entrance_takes_a_token_that_is_none(stage: Stage, door: Door, way: str) -> None:
    async with undisturbed(stage):
        if way == "rest":
            rows = [
                Row(
                    f"{name} at {path}", http(f"GET /api/v1{path}", f"Authorization: Bearer {text}"), (401,), (400, 401)
                )
                for name, text in TOKENS.items()
                for path in ENTRANCES
            ]
            rows += [
                Row(f"{name} at {path}", http(f"GET /api/v1{path}", f"Authorization: {text}"), (401,))
                for name, text in SHAPES.items()
                for path in ENTRANCES
            ]
            assert await try_all(stage, door, rows) == ""
            return
        accepted = []
        for name, text in TOKENS.items():
            opened = await RawSocket.open(door)
            bearer = {"Authorization": f"Bearer {text}"} if way == "handshake" else {}
            answer = await opened.request(door, {"Host": door.host, **bearer})
            if way == "hello" and answer.status == 101:
                opened.say(op="hello", id=1, token=text)
                reply = await opened.hear()
                assert reply["error"]["code"] in ("unauthenticated", "token_expired", "invalid"), (name, reply)
                assert await opened.close_code() == 4401, name
            elif answer.status not in (400, 401):
                accepted.append(name)
            await opened.close()
        assert accepted == []


COOKIES = ["x", "", '"', "x" * 4000, "../../x", '{"$ne": ""}', "%00", "null", "0" * 64, "a; copydesk_session=b", "\xff"]


async def test_no_entrance_takes_a_session_that_is_none(stage: Stage, door: Door) -> None:
    rows = []
    for path in ENTRANCES:
        for cookie in COOKIES:
            for name in ("copydesk_session", "__Host-copydesk_session"):
                headers = f"Cookie: {name}={cookie}", "Origin: http://%HOST%"
                rows.append(Row(f"{name} {cookie[:20]} at {path}", http(f"GET /api/v1{path}", *headers), (401,)))
    async with undisturbed(stage):
        assert await try_all(stage, door, rows) == ""


async def test_the_good_ones_get_in(stage: Stage, door: Door) -> None:
    """Else all that is refused above would prove nothing."""
    for path in ENTRANCES[:3]:
        answer = await stage.request(door, "GET", path, user=None, headers=[f"Authorization: Bearer {token()}"])
        assert answer.status == 200


async def test_a_session_that_was_there_before_the_sign_in_is_not_the_one_after_it(stage: Stage) -> None:
    await stage.add_user("member")
    door = stage.doors["nginx"]
    brought = ["Cookie: copydesk_session=" + "a" * 43, "Origin: http://%HOST%"]
    sign_in = {"username": "member", "password": PASSWORD}
    answer = await stage.request(door, "POST", "/session", sign_in, user=None, headers=brought)
    (given,) = answer.headers["set-cookie"]
    cookie, *rules = [part.strip() for part in given.split(";")]
    assert "a" * 43 not in cookie
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(rules)
    assert (await stage.request(door, "GET", "/session", user=None, headers=brought)).status == 401
    mine = await stage.request(door, "GET", "/session", user=None, headers=[f"Cookie: {cookie}"])
    assert mine.json["user"]["id"] == "member"
