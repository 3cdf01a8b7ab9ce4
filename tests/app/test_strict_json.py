"""Strict JSON: what is refused, how, and that nothing at all breaks it."""

from __future__ import annotations

import contextlib
import json
import time
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.strict_json import MAX_DEPTH, MAX_MARKS, _has_many_marks, convert, parse
from models.errors import Invalid, Malformed, Refusal
from models.preferences import Preferences
from models.project import NewProject


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"{}{}",
        b"[1,]",
        b"{'a': 1}",
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'"\xff"',
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 5000,
        b'"\n"',
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        str(2**63),
        str(-(2**63) - 1),
        "1e400",
        '"\\u0000"',
        '{"\\u0000": 1}',
        '"\\ud800"',
        '{"\\udfff": 1}',
        '["\\ud83d"]',
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
    ],
    ids=lambda body: body[:12],
)
def test_json_that_cannot_be_kept_is_invalid_and_the_answer_can_be_sent(body: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(body)
    msgspec.json.encode([refused.value.detail, refused.value.errors])


def test_the_bounds_themselves_are_fine() -> None:
    assert parse(f"[{2**63 - 1}, {-(2**63)}]") == [2**63 - 1, -(2**63)]
    nested = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse(nested)) == nested
    assert parse('"\\ud83d\\ude00"') == "😀"
    assert parse('"' + "[{" * 500 + '"') == "[{" * 500
    assert parse('["\\"[", "' + "[" * 300 + '\\\\"]') == ['"[', "[" * 300 + "\\"]


def test_text_is_normalised_so_that_lengths_are_those_of_what_is_kept() -> None:
    decomposed = "e\N{COMBINING ACUTE ACCENT}"
    assert parse(json.dumps({decomposed: [decomposed]})) == {"é": ["é"]}
    assert convert(parse(json.dumps({"name": decomposed * 255})), NewProject).name == "é" * 255


@given(st.binary(max_size=200))
def test_no_bytes_break_it(body: bytes) -> None:
    try:
        value = parse(body)
    except Refusal:
        return
    msgspec.json.encode(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_what_gets_through_can_be_encoded_again(value: object) -> None:
    try:
        kept = parse(json.dumps(value))
    except Refusal:
        return
    assert msgspec.json.decode(msgspec.json.encode(kept)) == kept


def test_a_key_that_does_not_fit_and_a_complaint_about_the_whole_have_a_place_too() -> None:
    for value, path in (
        ({"types": {"gossip": {"in_app": True, "email": "off"}}}, "$.types"),
        ({"time_zone": "Mars/Olympus"}, "$.time_zone"),
        ({"quiet_hours": {"from": "08:00", "to": "08:00"}}, "$.quiet_hours"),
    ):
        with pytest.raises(Invalid) as refused:
            convert(value, Preferences)
        (error,) = refused.value.errors
        assert error.path == path
        assert "`$" not in error.message


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], "$"),
        (None, "$"),
        ({}, "$"),
        ({"name": {"$ne": None}}, "$.name"),
        ({"name": ""}, "$.name"),
        ({"name": " \t"}, "$.name"),
        ({"name": "x" * 256}, "$.name"),
        ({"name": "x", "version": 2}, "$"),
        ({"name": "x", "labels": ["a", 7]}, "$.labels[1]"),
        ({"name": "x", "members": [{"principal": "user:a b", "role": "owner"}]}, "$.members[0].principal"),
        ({"name": "x", "members": [{"principal": "user:a\n", "role": "owner"}]}, "$.members[0].principal"),
        ({"name": "x", "due_at": "2026-02-30T00:00:00Z"}, "$.due_at"),
        ({"name": "x", "due_at": "2026-02-01T00:00:00"}, "$.due_at"),
        ({"name": "x", "due_at": 5}, "$.due_at"),
        ({"name": "x", "description": None}, "$.description"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place_where(value: object, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        convert(value, NewProject)
    assert [error.path for error in refused.value.errors] == [path]


MARKS = "\u0315", "\u0300", "\u0344", "\u0f73"
"""Of several classes, so that they have to be put in order; the last two become two each."""


def test_thirty_marks_in_a_row_are_kept_and_more_are_refused_before_they_are_put_in_order() -> None:
    for mark in MARKS:
        assert parse(json.dumps("a" + mark * MAX_MARKS + "b" + mark * MAX_MARKS))
        with pytest.raises(Invalid, match="marks in a row"):
            parse(json.dumps({"a": "a" + mark * (MAX_MARKS + 1)}))
    assert parse('"' + "\u2014\u2026\u3002" * 50 + '"') == "\u2014\u2026\u3002" * 50
    every = (chr(number) for number in range(0x110000))
    composed = (one for one in every if unicodedata.combining(one) or unicodedata.decomposition(one))
    hidden = {one for one in composed if unicodedata.combining(unicodedata.normalize("NFD", one)[0])}
    assert {mark for mark in hidden if not _has_many_marks(mark * (MAX_MARKS + 1))} == set()
    assert {mark for mark in hidden if mark.isalnum() or mark == "_"} == set()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps("a" + "\u0315" * 60_000 + "\u0300" * 60_000, ensure_ascii=False),
        json.dumps("\u0f73" * 80_000, ensure_ascii=False),
        json.dumps("\u2014\u0315" * 50_000, ensure_ascii=False),
        json.dumps({"k" * 130_000: [0] * 60_000}),
        json.dumps({"k" * 130_000: dict.fromkeys(map(str, range(15_000)), 0)}),
        json.dumps("[{" * 60_000),
        json.dumps(['\\"' * 30_000]),
    ],
    ids=[
        "marks",
        "marks in one",
        "marks apart",
        "a long key of a list",
        "a long key of an object",
        "brackets",
        "quotes",
    ],
)
def test_no_body_of_a_quarter_of_a_mebibyte_takes_long(body: str) -> None:
    begun = time.process_time()
    with contextlib.suppress(Refusal):
        parse(body)
    assert time.process_time() - begun < 0.5
