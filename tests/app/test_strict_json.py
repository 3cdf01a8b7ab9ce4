"""Strict JSON: what is refused, how, and that nothing at all breaks it."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.strict_json import MAX_DEPTH, convert, parse
from models.errors import Invalid, Malformed, Refusal
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
