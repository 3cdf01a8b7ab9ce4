"""Positions: opaque, signed, comparable, and nothing else gets through."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.position import Position, PositionCodec, UnknownPosition, following, token_time

EPOCH = b"12345678"
CODEC = PositionCodec(secrets=(b"a" * 32,), epoch=EPOCH)
NUMBERS = st.integers(0, 2**32 - 1)
POSITIONS = st.builds(Position, NUMBERS, NUMBERS, NUMBERS)


@given(POSITIONS)
def test_a_position_comes_back_as_it_was(position: Position) -> None:
    text = CODEC.encode(position)
    assert CODEC.decode(text) == position
    assert len(text) < 64
    assert text.replace("-", "").replace("_", "").isalnum()


@given(POSITIONS, POSITIONS)
def test_order_is_time_and_then_the_events_of_that_time(one: Position, other: Position) -> None:
    assert (one < other) == ((one.time, one.ordinal) < (other.time, other.ordinal))


@given(POSITIONS, st.integers(0, 10_000))
def test_a_flipped_bit_makes_it_unknown(position: Position, place: int) -> None:
    text = CODEC.encode(position)
    raw = bytearray(base64.urlsafe_b64decode(text))
    raw[place // 8 % len(raw)] ^= 1 << place % 8
    with pytest.raises(UnknownPosition):
        CODEC.decode(base64.urlsafe_b64encode(bytes(raw)).decode())


@given(st.text())
def test_any_other_text_is_unknown(text: str) -> None:
    with pytest.raises(UnknownPosition):
        CODEC.decode(text)


@given(st.text(min_size=44, max_size=44))
def test_any_other_text_of_the_right_length_is_unknown(text: str) -> None:
    with pytest.raises(UnknownPosition):
        CODEC.decode(text)


def test_white_space_padding_and_other_lengths_are_unknown() -> None:
    text = CODEC.encode(Position(5, 6, 7))
    for changed in (text + "=", text + "\n", f" {text}", text[:-1] + "\n", text[:-1], "x" * 1_000_000, ""):
        with pytest.raises(UnknownPosition):
            CODEC.decode(changed)


def test_another_secret_or_epoch_is_unknown_and_a_previous_secret_is_accepted() -> None:
    text = CODEC.encode(Position(5, 6, 7))
    for stranger in (
        PositionCodec(secrets=(b"b" * 32,), epoch=EPOCH),
        PositionCodec(secrets=(b"a" * 32,), epoch=b"87654321"),
    ):
        with pytest.raises(UnknownPosition):
            stranger.decode(text)
    after_rotation = PositionCodec(secrets=(b"b" * 32, b"a" * 32), epoch=EPOCH)
    assert after_rotation.decode(text) == Position(5, 6, 7)
    assert after_rotation.encode(Position(5, 6, 7)) != text


def test_equal_secret_and_epoch_give_equal_text_on_every_process() -> None:
    assert PositionCodec(secrets=(b"a" * 32,), epoch=EPOCH).encode(Position(1, 2, 3)) == CODEC.encode(Position(1, 2, 3))


def test_events_of_one_time_are_counted() -> None:
    position = Position(10, 0)
    for time, expected in (((10, 0), 1), ((10, 0), 2), ((10, 1), 1), ((11, 0), 1), ((11, 0), 2)):
        position = following(position, time)
        assert position == Position(*time, expected)


def test_a_codec_that_does_not_sign_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.keys.Keys._mac", lambda _keys, _key, _body: bytes(12))
    forged = PositionCodec(secrets=(b"b" * 32,), epoch=EPOCH).encode(Position(5, 6, 7))
    assert CODEC.decode(forged) == Position(5, 6, 7)


@pytest.mark.parametrize(
    ("token", "time"),
    [
        ({"_data": "8265E1A2B3000000052B0429296E04"}, (0x65E1A2B3, 5)),
        ({"_data": "8265E1A2B300000005"}, (0x65E1A2B3, 5)),
        ({"_data": "8265E1A2B3000000"}, None),
        ({"_data": "7065E1A2B300000005"}, None),
        ({"_data": "82ZZE1A2B300000005"}, None),
        ({"_data": 5}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_time_of_a_resume_token_is_read_where_there_is_one(token: object, time: tuple[int, int] | None) -> None:
    assert token_time(token) == time
