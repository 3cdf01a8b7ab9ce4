"""Links that stop mail: only ours are read, and each stops just what it names."""

from __future__ import annotations

import base64
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.unsubscribe import Scope, Unsubscriptions, stopped
from models.errors import NotFound
from models.notification import NotificationType
from models.preferences import Preferences, TypePreference

LINKS = Unsubscriptions(secrets=("s" * 32,))


@pytest.mark.parametrize("scope", ["mention", "custom", "now", "hourly", "daily", "all"])
def test_a_link_names_its_user_and_what_it_stops(scope: Scope) -> None:
    assert LINKS.read(LINKS.token("a" * 64, scope)) == ("a" * 64, scope)
    assert len(LINKS.token("a" * 64, scope)) <= 250


def test_links_made_with_the_secret_before_are_good() -> None:
    renewed = Unsubscriptions(secrets=("n" * 32, "s" * 32))
    assert renewed.read(LINKS.token("bob", "all")) == ("bob", "all")
    assert renewed.token("bob", "all") != LINKS.token("bob", "all")
    with pytest.raises(NotFound):
        Unsubscriptions(secrets=("n" * 32,)).read(LINKS.token("bob", "all"))


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_not_ours_is_not_found(token: str) -> None:
    with pytest.raises(NotFound):
        LINKS.read(token)


def test_no_part_of_a_link_can_be_changed() -> None:
    token = LINKS.token("bob", "mention")
    for index, character in enumerate(token):
        for other in "AZ":
            changed = token[:index] + other + token[index + 1 :]
            # The last character carries bits that mean nothing.
            if other != character and index < len(token) - 1:
                with pytest.raises(NotFound):
                    LINKS.read(changed)
    with pytest.raises(NotFound):
        LINKS.read(token[:-1])


def _preferences() -> Preferences:
    choices: tuple[Any, ...] = ("now", "hourly", "daily", "off")
    kinds = get_args(NotificationType)
    types = {kind: TypePreference(in_app=index % 2 == 0, email=choices[index % 4]) for index, kind in enumerate(kinds)}
    return Preferences(types=types, time_zone="Europe/Stockholm")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("mention", {"mention"}),
        ("assigned", set()),
        ("now", {"mention", "item_status"}),
        ("hourly", {"reply", "publish_result"}),
        ("daily", {"comment", "custom"}),
        ("all", {"mention", "reply", "comment", "item_status", "publish_result", "custom"}),
    ],
)
def test_a_link_stops_what_it_names_and_nothing_else(scope: Scope, expected: set[str]) -> None:
    assert set(stopped(_preferences(), scope)) == expected
