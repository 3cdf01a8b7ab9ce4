"""Preferences over REST, the administrators' defaults under them, and what they do to the inbox."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from models.notification import NotificationType
from tests.conftest import Copydesk

PATH = "/preferences"
TYPES = set(get_args(NotificationType))


async def test_without_a_choice_the_defaults_are_shown(api: Any) -> None:
    answer = await api("bob", "GET", PATH)
    assert (answer.status, set(answer.json)) == (200, {"types", "time_zone"})
    assert set(answer.json["types"]) == TYPES
    assert answer.json["types"]["mention"] == {"in_app": True, "email": "now"}
    assert answer.json["types"]["comment"] == {"in_app": True, "email": "off"}
    assert answer.json["time_zone"] == "UTC"


async def test_a_choice_is_kept_and_replaced_as_a_whole(api: Any) -> None:
    chosen = {
        "types": {"comment": {"in_app": False, "email": "daily"}},
        "quiet_hours": {"from": "22:00", "to": "07:30"},
        "time_zone": "Europe/Stockholm",
    }
    put = await api("bob", "PUT", PATH, chosen)
    assert put.status == 200
    assert put.json == (await api("bob", "GET", PATH)).json
    assert set(put.json["types"]) == TYPES
    assert put.json["types"]["comment"] == {"in_app": False, "email": "daily"}
    assert put.json["types"]["mention"] == {"in_app": True, "email": "now"}
    assert (put.json["quiet_hours"], put.json["time_zone"]) == ({"from": "22:00", "to": "07:30"}, "Europe/Stockholm")
    assert (await api("alice", "GET", PATH)).json["time_zone"] == "UTC"
    replaced = await api("bob", "PUT", PATH, {})
    assert replaced.json == (await api("alice", "GET", PATH)).json


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"types": {"gossip": {"in_app": True, "email": "off"}}}, "$.types"),
        ({"types": {"comment": {"in_app": True, "email": "weekly"}}}, "$.types[...].email"),
        ({"types": {"comment": {"in_app": "yes", "email": "off"}}}, "$.types[...].in_app"),
        ({"types": {"comment": {"in_app": True}}}, "$.types[...]"),
        ({"types": {"comment": {"in_app": True, "email": "off", "sms": True}}}, "$.types[...]"),
        ({"types": None}, "$.types"),
        ({"quiet_hours": {"from": "22:00"}}, "$.quiet_hours"),
        ({"quiet_hours": {"from": "22:00", "to": "24:00"}}, "$.quiet_hours.to"),
        ({"quiet_hours": {"from": "8:00", "to": "09:00"}}, "$.quiet_hours.from"),
        ({"quiet_hours": {"from": "08:00", "to": "08:00"}}, "$.quiet_hours"),
        ({"time_zone": "Mars/Olympus"}, "$.time_zone"),
        ({"time_zone": "../../etc/passwd"}, "$.time_zone"),
        ({"time_zone": 1}, "$.time_zone"),
        ({"user_id": "alice"}, "$"),
        ([], "$"),
    ],
)
async def test_a_choice_that_does_not_fit_is_refused_with_the_place(api: Any, body: Any, path: str) -> None:
    answer = await api("bob", "PUT", PATH, body)
    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert [error["path"] for error in answer.json["errors"]] == [path]
    assert (await api("bob", "GET", PATH)).json == (await api("alice", "GET", PATH)).json


async def test_what_administrators_set_counts_for_who_chose_nothing(copydesk: Copydesk) -> None:
    await copydesk.call("PUT", PATH, {"types": {"reply": {"in_app": True, "email": "off"}}}, user="carol")
    defaults = {"notification_defaults": {"reply": {"email": "daily"}}}
    before = copydesk.server.runtime.now
    told: Any = []
    copydesk.server.runtime.on_change(lambda _before, now: told.append(now))
    tab = await copydesk.editor("alice")
    await tab.subscribe("projects")
    await copydesk.call("PATCH", "/admin/settings", defaults, user="root", roles=("admin",))
    # What was written after it is told after it: then the process has obeyed.
    project = await copydesk.project()
    await tab.until_event("projects", id=project)
    assert told[-1] != before
    bob = await copydesk.call("GET", PATH, user="bob")
    carol = await copydesk.call("GET", PATH, user="carol")
    assert bob["types"]["reply"] == {"in_app": True, "email": "daily"}
    assert carol["types"]["reply"] == {"in_app": True, "email": "off"}


async def test_a_type_that_is_switched_off_does_not_reach_the_inbox(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    await copydesk.call("PUT", f"/subscriptions/project:{project}", {"level": "follow"}, user="bob")
    await copydesk.call("PUT", PATH, {"types": {"comment": {"in_app": False, "email": "off"}}}, user="bob")
    tab = await copydesk.editor("bob")
    await tab.subscribe("inbox")
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Just so"})
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Look, @bob"})
    await tab.until_event("inbox", kind="notification")
    entries = (await copydesk.call("GET", "/notifications", user="bob"))["items"]
    assert [entry["body"] for entry in entries] == ["Look, @bob"]
