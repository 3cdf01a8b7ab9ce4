"""Commands in, frames out: the codec of the realtime protocol."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol import (
    BadCommand,
    CloseCode,
    ErrorPush,
    Event,
    Frame,
    Hello,
    Pong,
    Subscribe,
    Unsubscribe,
    push,
    read_command,
    reply_error,
    reply_ok,
)
from models.errors import Invalid, Malformed, NotFound, RateLimited


def test_commands_are_read() -> None:
    assert read_command('{"op": "hello", "id": 1, "token": "t", "client": "x/1"}') == Hello(
        id=1, token="t", client="x/1"
    )
    assert read_command('{"op": "subscribe", "id": -5, "topic": "projects"}') == Subscribe(id=-5, topic="projects")
    assert read_command('{"op": "unsubscribe", "id": 0, "topic": "x"}') == Unsubscribe(id=0, topic="x")
    assert read_command(' {"op": "pong"} ') == Pong()


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "nonsense", "[]", "5", "null", '"hello"', "NaN", '{"op": "pong", "x": NaN}', "\ufeff{}",
        '{"op": "pong"} x', '{"op": "pong", "op": "pong"}', "[" * 100_000, '{"a":' * 500, '{"op": "\\ud800"}',
        '{"\\ud800": 1}', '{"op": "a\\u0000"}', '{"id": 9223372036854775808}', '{"id": ' + "9" * 5000 + "}",
        '{"op": 1e999}', "[" * 30 + "]" * 30,
    ],
)  # fmt: skip
def test_what_is_no_message_is_malformed(text: str) -> None:
    with pytest.raises(BadCommand) as problem:
        read_command(text)
    assert isinstance(problem.value.refusal, Malformed)
    assert "body" not in problem.value.refusal.detail.lower()


@pytest.mark.parametrize(
    ("text", "command_id"),
    [
        ("{}", None),
        ('{"id": 3}', 3),
        ('{"op": "nonsense", "id": 3}', 3),
        ('{"op": 5, "id": 3}', 3),
        ('{"op": null, "id": 3}', 3),
        ('{"op": "subscribe", "topic": "projects"}', None),
        ('{"op": "subscribe", "id": "3", "topic": "projects"}', None),
        ('{"op": "subscribe", "id": true, "topic": "projects"}', None),
        ('{"op": "subscribe", "id": null, "topic": "projects"}', None),
        ('{"op": "subscribe", "id": 3}', 3),
        ('{"op": "subscribe", "id": 3, "topic": 5}', 3),
        ('{"op": "subscribe", "id": 3, "topic": {"$ne": ""}}', 3),
        ('{"op": "subscribe", "id": 3, "topic": "projects", "since": null}', 3),
        ('{"op": "subscribe", "id": 3, "topic": "projects", "snapshot": 1}', 3),
        ('{"op": "subscribe", "id": 3, "topic": "projects", "filter": {}}', 3),
        ('{"op": "hello", "id": 3, "token": 5}', 3),
        ('{"op": "refresh", "id": 3}', 3),
        ('{"op": "pong", "id": 3}', 3),
    ],
)
def test_what_is_no_command_is_invalid_and_keeps_its_id(text: str, command_id: int | None) -> None:
    with pytest.raises(BadCommand) as problem:
        read_command(text)
    assert isinstance(problem.value.refusal, Invalid)
    assert problem.value.command_id == command_id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON | st.fixed_dictionaries({"op": st.sampled_from(["hello", "subscribe", "x"]), "id": JSON, "topic": JSON}))
def test_no_json_breaks_the_reader(value: Any) -> None:
    try:
        read_command(json.dumps(value))
    except BadCommand as problem:
        assert isinstance(problem.refusal, Malformed | Invalid)  # noqa: PT017 - success is fine as well


@pytest.mark.parametrize(("size", "header"), [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_a_frame_is_a_final_unmasked_text_frame(size: int, header: int) -> None:
    frame = Frame(b"x" * size)
    data = frame.websocket
    assert data is frame.websocket
    assert (len(data), data[0], data[header:]) == (header + size, 0x81, b"x" * size)
    length = data[1] if header == 2 else int.from_bytes(data[2:header])
    assert length == size


def test_replies_carry_the_id_and_pushes_do_not() -> None:
    assert json.loads(reply_ok(3, {}).payload) == {"id": 3, "ok": {}}
    refused = json.loads(reply_error(3, NotFound("Gone.")).payload)
    assert refused == {"id": 3, "error": {"code": "not_found", "detail": "Gone.", "retry": False}}
    pushed = json.loads(reply_error(None, RateLimited("Slow.", retry_after=1.5)).payload)
    assert pushed == {"push": "error", "code": "rate_limited", "detail": "Slow.", "retry": True, "retry_after_ms": 1500}
    assert push(ErrorPush(code="x", detail="y", retry=False)).name == "error"


def test_a_version_that_was_not_raised_is_null_and_other_optional_fields_are_absent() -> None:
    event = json.loads(msgspec.json.encode(Event(kind="item", change="delete", id="i", version=None, at="now")))
    assert event == {"kind": "item", "change": "delete", "id": "i", "version": None, "at": "now"}


def test_close_codes_lie_in_the_range_that_says_what_to_do() -> None:
    reconnect = {CloseCode.DRAIN, CloseCode.SLOW, CloseCode.NO_PONG, CloseCode.LOST, CloseCode.TRY_LATER}
    new_token = {CloseCode.TOKEN_EXPIRED, CloseCode.ROLES_CHANGED}
    standard = {CloseCode.BINARY, CloseCode.BAD_UTF8, CloseCode.TOO_BIG}
    assert {code for code in CloseCode if 4000 <= code < 4100} == reconnect
    assert {code for code in CloseCode if 4100 <= code < 4200} == new_token
    assert {code for code in CloseCode if 4400 <= code < 4500} == set(CloseCode) - reconnect - new_token - standard
