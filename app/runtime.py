"""The settings that change while the server runs: what it was started with, and what admins set for all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from app.settings import Settings
from models.fields import Timestamp, UserId, Version
from models.meta import Overrides
from models.notification import NotificationType
from models.preferences import BUILT_IN, TypeDefault

_BUILT_IN: dict[NotificationType, TypeDefault] = {
    kind: TypeDefault(in_app=preference.in_app, email=preference.email) for kind, preference in BUILT_IN.items()
}


class RuntimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What counts now in this process. The names are those of `app.settings.Settings`."""

    websockets_enabled: bool
    fallback: Literal["sse", "poll", "none"]
    log_level: Literal["debug", "info", "warning", "error"]
    poll_seconds: int | float
    max_connections: int
    max_connections_per_user: int
    max_connections_per_address: int
    max_pending_bytes: int
    max_pending_seconds: int | float
    notification_defaults: dict[NotificationType, TypeDefault] = msgspec.field(default_factory=_BUILT_IN.copy)
    """What those get who chose nothing: every type, each with all it has. Not among the settings of the start."""
    updated_at: Timestamp | UnsetType = UNSET
    updated_by: UserId | UnsetType = UNSET
    version: Version = 1


_NAMES = RuntimeSettings.__struct_fields__
_NOT_AT_THE_START = ("notification_defaults", "updated_at", "updated_by", "version")

Changed = Callable[[RuntimeSettings, RuntimeSettings], None]
"""Told of a change: what counted before, and what counts now. Must not raise."""


class Runtime:
    """Holds what counts now, and tells whoever has to act when it changes; one per process."""

    def __init__(self, settings: Settings) -> None:
        self._started_with = RuntimeSettings(
            **{name: getattr(settings, name) for name in _NAMES if name not in _NOT_AT_THE_START}
        )
        self.now = self._started_with
        self._listeners: list[Changed] = []

    def on_change(self, listener: Changed) -> None:
        """Have `listener` called after every change, in the order of the calls to this method."""
        self._listeners.append(listener)

    def effective(self, overrides: Overrides) -> RuntimeSettings:
        """What counts with these overrides."""
        changed = {name: value for name in _NAMES if (value := getattr(overrides, name)) is not UNSET}
        if overrides.notification_defaults is not UNSET:
            changed["notification_defaults"] = {
                kind: _filled(overrides.notification_defaults.get(kind, TypeDefault()), built_in)
                for kind, built_in in _BUILT_IN.items()
            }
        return msgspec.structs.replace(self._started_with, **changed)

    def apply(self, overrides: Overrides) -> RuntimeSettings:
        """Obey what the database says (`models.meta.MetaStore.read` makes it of a document, or of none)."""
        before, self.now = self.now, self.effective(overrides)
        if self.now != before:
            for listener in self._listeners:
                listener(before, self.now)
        return self.now


def _filled(chosen: TypeDefault, built_in: TypeDefault) -> TypeDefault:
    return TypeDefault(
        in_app=built_in.in_app if chosen.in_app is UNSET else chosen.in_app,
        email=built_in.email if chosen.email is UNSET else chosen.email,
    )


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this process can serve: what `/readyz` answers from."""

    database: bool
    """MongoDB answers."""
    feed: bool
    """The change stream is open, and everything before it has been read."""
    draining: bool = False
    """The process has been told to stop."""

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """What is in the way: each the name of a field and a sentence. Empty: ready."""
        checks = (
            ("database", not self.database, "MongoDB does not answer."),
            ("feed", not self.feed, "The change stream is not open yet, or has lost its place."),
            ("draining", self.draining, "The server is stopping."),
        )
        return tuple((name, sentence) for name, failing, sentence in checks if failing)


def transports(now: RuntimeSettings, available: tuple[str, ...]) -> list[str]:
    """The ways to live updates that this server has (`available`) and offers, best first. Empty: there are none."""
    ladder = {"sse": ("sse", "poll"), "poll": ("poll",), "none": ()}[now.fallback]
    offered = (*(("websocket",) if now.websockets_enabled else ()), *ladder)
    return [transport for transport in offered if transport in available]
