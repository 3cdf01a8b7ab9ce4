"""One way to watch an inbox for each transport, so that a test of what is told is a test of all three."""

from __future__ import annotations

import json
from typing import Any, Protocol

from tests.conftest import Copydesk
from tests.editor import Editor, Push, Store
from tests.handlers.event_source import EventSource, poll

TOPIC = "inbox"


class Watch(Protocol):
    """What one client hears of its inbox, and of another topic where it asked for one."""

    pushes: list[Push]
    """Everything that was pushed, whatever the topic."""

    @property
    def position(self) -> str:
        """Where to go on from."""

    @property
    def not_resumed(self) -> str | None:
        """Why what came was not what was missed."""

    async def hear(self) -> None:
        """Wait for more."""

    async def close(self) -> None: ...


def store_of(watch: Watch) -> Store:
    """What the client holds of its inbox."""
    store = Store()
    for push in watch.pushes:
        if push.get("topic") != TOPIC:
            continue
        match push["push"]:
            case "snapshot":
                store.snapshot(push["data"])
            case "reset":
                store = Store()
            case "events":
                for event in push["events"]:
                    store.apply(event)
    return store


def events_of(watch: Watch) -> list[dict[str, Any]]:
    """All events of the inbox so far."""
    return [
        event
        for push in watch.pushes
        if push["push"] == "events" and push["topic"] == TOPIC
        for event in push["events"]
    ]


async def until_event(watch: Watch, **fields: Any) -> dict[str, Any]:
    """Wait for an event of the inbox with these fields."""
    while True:
        for event in events_of(watch):
            if all(event.get(name) == value for name, value in fields.items()):
                return event
        await watch.hear()


async def until_withdrawn(watch: Watch) -> None:
    """Wait until the client knows of the loss of an entry.

    Who polls with a position from before a right was lost is not told of what came after, but to read again.
    """
    while not any(event["change"] == "delete" for event in events_of(watch)) and watch.not_resumed != "rights":
        await watch.hear()


async def until_push(watch: Watch, kind: str) -> Push:
    """Wait for a push of the inbox."""
    while True:
        for push in watch.pushes:
            if push["push"] == kind and push.get("topic") == TOPIC:
                return push
        await watch.hear()


def said(watch: Watch) -> str:
    """All that the client was told, as text."""
    return json.dumps(watch.pushes)


def _reset(watch: Watch) -> str | None:
    return next((push["reason"] for push in watch.pushes if push["push"] == "reset"), None)


class BySocket:
    """A WebSocket."""

    def __init__(self, editor: Editor, not_resumed: str | None) -> None:
        self._editor, self.not_resumed = editor, not_resumed

    @classmethod
    async def open(cls, copydesk: Copydesk, user: str, since: str | None = None) -> BySocket:
        editor = await copydesk.editor(user)
        reply = await editor.subscribe(TOPIC, **({} if since is None else {"since": since}))
        return cls(editor, reply["ok"].get("reason"))

    @property
    def pushes(self) -> list[Push]:
        return [frame for frame in self._editor.frames if "push" in frame]

    @property
    def position(self) -> str:
        return self._editor.positions[TOPIC]

    async def hear(self) -> None:
        heard = len(self._editor.frames)
        await self._editor.until(lambda: len(self._editor.frames) > heard)

    async def close(self) -> None:
        await self._editor.close()


class ByStream:
    """Server-Sent Events."""

    def __init__(self, source: EventSource) -> None:
        self._source = source

    @classmethod
    async def open(cls, copydesk: Copydesk, user: str, since: str | None = None) -> ByStream:
        watch = cls(await EventSource.open(copydesk.url, copydesk.token(user), TOPIC, last_id=since))
        await until_push(watch, "live")
        return watch

    @property
    def pushes(self) -> list[Push]:
        return [push for _, push, _ in self._source.messages]

    @property
    def position(self) -> str:
        assert self._source.last_id is not None
        return self._source.last_id

    @property
    def not_resumed(self) -> str | None:
        return _reset(self)

    async def hear(self) -> None:
        await self._source.next()

    async def close(self) -> None:
        self._source.close()


class ByPoll:
    """Long poll."""

    def __init__(self, copydesk: Copydesk, user: str, position: str) -> None:
        self._copydesk, self._user = copydesk, user
        self.pushes: list[Push] = []
        self.position = position

    @classmethod
    async def open(cls, copydesk: Copydesk, user: str, since: str | None = None) -> ByPoll:
        if since is not None:
            return cls(copydesk, user, since)
        return cls(copydesk, user, (await poll(copydesk, TOPIC, user))["position"])

    @property
    def not_resumed(self) -> str | None:
        return _reset(self)

    async def hear(self) -> None:
        answer = await poll(self._copydesk, TOPIC, self._user, since=self.position, wait=20)
        self.position = answer["position"]
        self.pushes += answer["pushes"]

    async def close(self) -> None:
        """There is nothing to end."""


TRANSPORTS = {"websocket": BySocket, "sse": ByStream, "poll": ByPoll}
