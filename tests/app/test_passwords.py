"""Passwords are compared slowly, and for everybody equally slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import argon2
import pytest

from app import passwords as module
from app.passwords import MAX_WAITING, Passwords
from models.errors import Busy


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


async def test_only_the_right_password_fits(passwords: Passwords) -> None:
    hashed = await passwords.hash("secret")
    assert hashed != await passwords.hash("secret")
    assert await passwords.verify(hashed, "secret")
    for wrong in ("", "Secret", "secret ", "secret\0", "x" * 1024):
        assert not await passwords.verify(hashed, wrong)


async def test_how_a_letter_was_typed_does_not_matter(passwords: Passwords) -> None:
    assert await passwords.verify(await passwords.hash("A\u030angstro\u0308m"), "\u00c5ngstr\u00f6m")


async def test_nobody_gets_in_without_a_password_of_their_own(passwords: Passwords) -> None:
    assert not await passwords.verify(None, "secret")
    assert not await passwords.verify("no hash", "secret")


async def test_an_unknown_user_costs_as_much_work_as_a_known_one(passwords: Passwords) -> None:
    real = argon2.extract_parameters(await passwords.hash("secret"))
    assert argon2.extract_parameters(module._NOBODY) == real


async def test_not_everybody_may_wait_at_once(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_matches", lambda _hashed, _password: True)
    answers = await asyncio.gather(
        *(passwords.verify("hash", "x") for _ in range(MAX_WAITING + 3)), return_exceptions=True
    )
    assert sum(answer is True for answer in answers) == MAX_WAITING
    assert sum(isinstance(answer, Busy) for answer in answers) == 3
    assert await passwords.verify("hash", "x")
