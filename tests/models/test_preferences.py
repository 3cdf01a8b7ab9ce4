"""Preferences in MongoDB, and what counts where a user chose nothing."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from msgspec import UNSET

from models.notification import NotificationType
from models.preferences import BUILT_IN, Preferences, PreferencesStore, QuietHours, TypeDefault, TypePreference

Reported = list[tuple[str, object, str]]
OFF = TypePreference(in_app=False, email="off")


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def defaults() -> dict[NotificationType, TypeDefault]:
    return {}


@pytest.fixture
def preferences(database: Any, reported: Reported, defaults: dict[NotificationType, TypeDefault]) -> PreferencesStore:
    return PreferencesStore(database, report=lambda *what: reported.append(what), defaults=lambda: defaults)


def test_every_type_has_a_default() -> None:
    assert tuple(BUILT_IN) == get_args(NotificationType)
    assert all(preference.in_app for preference in BUILT_IN.values())


async def test_who_chose_nothing_has_the_defaults(preferences: PreferencesStore) -> None:
    assert await preferences.get("bob") == Preferences(types=dict(BUILT_IN))


async def test_what_was_chosen_is_kept_and_the_rest_follows_the_defaults(
    preferences: PreferencesStore, defaults: dict[NotificationType, TypeDefault]
) -> None:
    quiet = QuietHours(from_="22:00", to="07:30")
    chosen = Preferences(types={"reply": OFF}, quiet_hours=quiet, time_zone="Europe/Stockholm")
    complete = Preferences(types={**BUILT_IN, "reply": OFF}, quiet_hours=quiet, time_zone="Europe/Stockholm")
    assert await preferences.put("bob", chosen) == complete
    assert await preferences.get("bob") == complete
    defaults |= {"comment": TypeDefault(email="daily"), "reply": TypeDefault(in_app=True)}
    types = (await preferences.get("bob")).types
    assert types == {**BUILT_IN, "comment": TypePreference(in_app=True, email="daily"), "reply": OFF}
    await preferences.put("bob", Preferences())
    defaults.clear()
    assert await preferences.get("bob") == Preferences(types=dict(BUILT_IN))


async def test_many_are_read_at_once(preferences: PreferencesStore) -> None:
    await preferences.put("bob", Preferences(types={"custom": OFF}))
    found = await preferences.of_many(["alice", "bob"])
    assert found == {user: await preferences.get(user) for user in ("alice", "bob")}
    assert found["bob"].types["custom"] == OFF
    assert await preferences.of_many([]) == {}


async def test_switching_mail_off_for_a_type_chooses_nothing_else(
    preferences: PreferencesStore, plain_database: Any, defaults: dict[NotificationType, TypeDefault]
) -> None:
    await preferences.without_mail("bob", ["mention"])
    assert plain_database.preferences.find_one() == {"_id": "bob", "types": {"mention": {"email": "off"}}}
    defaults |= {"reply": TypeDefault(email="daily"), "mention": TypeDefault(in_app=False, email="daily")}
    types = (await preferences.get("bob")).types
    assert types == {**BUILT_IN, "reply": TypePreference(in_app=True, email="daily"), "mention": OFF}
    await preferences.without_mail("carol", [])
    assert plain_database.preferences.count_documents({}) == 1


async def test_switching_mail_off_keeps_what_was_chosen(preferences: PreferencesStore) -> None:
    daily = TypePreference(in_app=False, email="daily")
    quiet = QuietHours(from_="22:00", to="07:30")
    chosen = Preferences(types={"reply": daily, "custom": daily}, quiet_hours=quiet, time_zone="Europe/Stockholm")
    before = await preferences.put("bob", chosen)
    await preferences.without_mail("bob", ["reply", "assigned"])
    assigned = TypePreference(in_app=True, email="off")
    expected = msgspec.structs.replace(before, types={**before.types, "reply": OFF, "assigned": assigned})
    assert await preferences.get("bob") == expected


@pytest.mark.parametrize(
    "broken",
    [
        {"types": None},
        {"types": "none"},
        {"types": []},
        {"types": {"mention": "now"}},
        {"types": {"reply": {"email": "weekly"}}},
        {"time_zone": "Mars/Olympus"},
    ],
)
async def test_mail_can_be_switched_off_whatever_another_program_wrote(
    preferences: PreferencesStore, plain_database: Any, broken: dict[str, Any]
) -> None:
    plain_database.preferences.insert_one({"_id": "bob", **broken})
    await preferences.without_mail("bob", ["mention"])
    assert (await preferences.get("bob")).types == {**BUILT_IN, "mention": TypePreference(in_app=True, email="off")}


async def test_what_does_not_fit_is_reported_and_counts_as_nothing(
    preferences: PreferencesStore, plain_database: Any, reported: Reported
) -> None:
    plain_database.preferences.insert_many(
        [
            {"_id": "bob", "types": {"mention": {"in_app": "no", "email": "off"}}},
            {"_id": "carol", "time_zone": "Mars/Olympus"},
            {"_id": "dave", "types": None, "colour": "red"},
        ]
    )
    found = await preferences.of_many(["bob", "carol", "dave"])
    assert set(map(str, found.values())) == {str(Preferences(types=dict(BUILT_IN)))}
    assert {what[1] for what in reported} == {"bob", "carol"}


@pytest.mark.parametrize(
    "text",
    [
        '{"types": {"gossip": {"in_app": true, "email": "off"}}}',
        '{"types": {"mention": {"in_app": true}}}',
        '{"types": {"mention": {"in_app": true, "email": "weekly"}}}',
        '{"types": {"mention": {"in_app": true, "email": "off", "push": true}}}',
        '{"quiet_hours": {"from": "22:00"}}',
        '{"quiet_hours": {"from": "24:00", "to": "07:00"}}',
        '{"quiet_hours": {"from": "7:00", "to": "08:00"}}',
        '{"quiet_hours": {"from": "07:00", "to": "07:00"}}',
        '{"time_zone": "CEST"}',
        '{"time_zone": "localtime"}',
        '{"time_zone": "../../etc/passwd"}',
        '{"time_zone": ""}',
        '{"time_zone": null}',
        '{"colour": "red"}',
    ],
)
def test_preferences_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Preferences)


def test_preferences_go_out_as_they_came_in() -> None:
    text = (
        b'{"types":{"mention":{"in_app":true,"email":"now"}},"quiet_hours":{"from":"22:00","to":"07:00"},'
        b'"time_zone":"America/New_York"}'
    )
    decoded = msgspec.json.decode(text, type=Preferences)
    assert msgspec.json.encode(decoded) == text
    assert Preferences().quiet_hours is UNSET
