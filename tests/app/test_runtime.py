"""The settings that change while the server runs."""

from __future__ import annotations

import typing

import msgspec
import pytest

from app.runtime import Readiness, Runtime, RuntimeSettings, transports
from app.settings import Settings
from models.meta import Overrides, SettingsPatch
from models.notification import NotificationType
from models.preferences import TypeDefault

EVERYTHING = ("websocket", "sse", "poll")
Changes = list[tuple[RuntimeSettings, RuntimeSettings]]


def test_at_first_what_the_server_was_started_with_counts() -> None:
    now = Runtime(Settings(max_connections=7, fallback="none", poll_seconds=2.5)).now
    assert (now.max_connections, now.fallback, now.poll_seconds, now.websockets_enabled) == (7, "none", 2.5, True)
    assert now.version == 1


def test_every_setting_that_can_be_patched_is_one_of_the_servers() -> None:
    names = set(SettingsPatch.__struct_fields__)
    assert names - {"notification_defaults"} <= set(Settings.__struct_fields__)
    assert names | {"updated_at", "updated_by", "version"} == set(RuntimeSettings.__struct_fields__)
    assert names | {"updated_at", "updated_by", "version", "id"} == set(Overrides.__struct_fields__)


def test_overrides_count_until_they_are_taken_back() -> None:
    runtime = Runtime(Settings(max_connections=7))
    runtime.apply(Overrides(max_connections=8, log_level="debug", version=2, updated_by="root"))
    assert (runtime.now.max_connections, runtime.now.log_level, runtime.now.version) == (8, "debug", 2)
    runtime.apply(Overrides(log_level="debug", version=3))
    assert (runtime.now.max_connections, runtime.now.log_level) == (7, "debug")
    runtime.apply(Overrides())
    assert runtime.now == Runtime(Settings(max_connections=7)).now


def test_defaults_of_notifications_count_one_by_one_over_the_built_in_ones() -> None:
    runtime = Runtime(Settings())
    built_in = runtime.now.notification_defaults
    assert set(built_in) == set(typing.get_args(NotificationType))
    runtime.apply(Overrides(notification_defaults={"comment": TypeDefault(email="daily")}, version=2))
    now = runtime.now.notification_defaults
    assert now["comment"] == TypeDefault(in_app=True, email="daily")
    assert {**now, "comment": built_in["comment"]} == built_in
    runtime.apply(Overrides(version=3))
    assert runtime.now.notification_defaults == built_in


def test_listeners_are_told_what_changed_and_nothing_when_nothing_did() -> None:
    runtime, changes = Runtime(Settings()), Changes()
    runtime.on_change(lambda before, now: changes.append((before, now)))
    runtime.apply(Overrides())
    assert changes == []
    runtime.apply(Overrides(websockets_enabled=False, version=2))
    runtime.apply(Overrides(websockets_enabled=False, version=2))
    ((before, now),) = changes
    assert (before.websockets_enabled, now.websockets_enabled) == (True, False)


def test_asking_what_would_count_changes_nothing() -> None:
    runtime = Runtime(Settings())
    assert runtime.effective(Overrides(fallback="poll")).fallback == "poll"
    assert runtime.now.fallback == "sse"


@pytest.mark.parametrize(
    ("enabled", "fallback", "available", "expected"),
    [
        (True, "sse", EVERYTHING, ["websocket", "sse", "poll"]),
        (True, "poll", EVERYTHING, ["websocket", "poll"]),
        (True, "none", EVERYTHING, ["websocket"]),
        (False, "sse", EVERYTHING, ["sse", "poll"]),
        (False, "none", EVERYTHING, []),
        (True, "sse", ("websocket",), ["websocket"]),
        (False, "sse", ("websocket",), []),
    ],
)
def test_only_transports_that_exist_and_are_on_are_offered(
    enabled: bool, fallback: str, available: tuple[str, ...], expected: list[str]
) -> None:
    now = msgspec.structs.replace(Runtime(Settings()).now, websockets_enabled=enabled, fallback=fallback)
    assert transports(now, available) == expected


def test_a_server_is_ready_when_nothing_is_in_the_way() -> None:
    assert Readiness(database=True, feed=True).reasons == ()
    failing = Readiness(database=False, feed=False, draining=True)
    assert [name for name, _ in failing.reasons] == ["database", "feed", "draining"]
