"""A client as an integrator would write it: one socket, and stores that follow the version rule of the protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

Push = dict[str, Any]


class Store:
    """What a client holds of one topic: documents by kind and id, and the versions it knows."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, dict[str, Any]]] = {}
        self.known: dict[tuple[str, str], int] = {}
        self.counts: dict[str, int] | None = None

    def snapshot(self, data: dict[str, Any]) -> None:
        names = {"projects": "project", "items": "item", "comments": "comment", "notifications": "notification"}
        for name, kind in names.items():
            for document in data.get(name, ()):
                self._put(kind, document)
        if "project" in data:
            self._put("project", data["project"])
        self.counts = data.get("counts", self.counts)

    def apply(self, event: dict[str, Any]) -> bool:
        """Whether the event was applied, and not dropped as known."""
        key = (event["kind"], event["id"])
        version = event["version"]
        if event["change"] in ("leave", "delete"):
            self.documents.get(event["kind"], {}).pop(event["id"], None)
            self.known.pop(key, None)
            return True
        if version is not None and version <= self.known.get(key, -1):
            return False
        if "doc" in event:
            if event["kind"] == "counts":
                self.counts = event["doc"]
            else:
                self._put(event["kind"], event["doc"])
            if version is not None:
                self.known[key] = version
        return True

    def _put(self, kind: str, document: dict[str, Any]) -> None:
        self.documents.setdefault(kind, {})[document["id"]] = document
        if kind == "notification" and "archived_at" in document:
            # Put away: not in the inbox, and what is known of it stays known.
            del self.documents[kind][document["id"]]
        if "version" in document:
            self.known[kind, document["id"]] = document["version"]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        return self.documents.get(kind, {})


class Editor:
    """A connected editor. Every frame is kept; stores are brought up to date as frames arrive."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []
        self.pushes: dict[str, list[Push]] = {}
        self.stores: dict[str, Store] = {}
        self.positions: dict[str, str] = {}
        self.closed: asyncio.Future[tuple[int | None, str | None]] = asyncio.get_running_loop().create_future()
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(cls, url: str, token: str | None = None, *, hello: bool = True, **options: Any) -> Editor:
        """Open a socket to `url` (http://...) and, unless told otherwise, say hello with the token."""
        request = HTTPRequest(url.replace("http", "ws", 1) + "/api/v1/realtime", **options)
        editor = cls(await websocket_connect(request))
        if hello:
            try:
                reply = await editor.command("hello", **({} if token is None else {"token": token}))
                assert "ok" in reply, reply
            except BaseException:
                await editor.close()
                raise
        return editor

    async def _read(self) -> None:
        while (text := await self.socket.read_message()) is not None:
            frame = json.loads(text)
            self.frames.append(frame)
            if "push" in frame:
                self._take(frame)
            elif frame["id"] in self._replies:
                self._replies.pop(frame["id"]).set_result(frame)
            async with self._changed:
                self._changed.notify_all()
        self.closed.set_result((self.socket.close_code, self.socket.close_reason))
        async with self._changed:
            self._changed.notify_all()

    def _take(self, push: Push) -> None:
        topic = push.get("topic", "")
        self.pushes.setdefault(topic, []).append(push)
        store = self.stores.setdefault(topic, Store())
        match push["push"]:
            case "snapshot":
                store.snapshot(push["data"])
            case "events":
                for event in push["events"]:
                    store.apply(event)
                self.positions[topic] = push["position"]
            case "live":
                self.positions[topic] = push["position"]
            case "reset" | "unsubscribed":
                self.stores[topic] = Store()

    async def command(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a command and wait for its reply."""
        number = next(self._ids)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self.socket.write_message(json.dumps({"op": op, "id": number, **fields}))
        return await asyncio.wait_for(reply, 20)

    async def subscribe(self, topic: str, **fields: Any) -> dict[str, Any]:
        """Subscribe and wait until it is live; answers the reply."""
        seen = len(self.pushes.get(topic, ()))
        reply = await self.command("subscribe", topic=topic, **fields)
        if "ok" in reply:
            await self.until(lambda: any(push["push"] == "live" for push in self.pushes.get(topic, ())[seen:]))
        return reply

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for frames until something is true."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: condition() or self.closed.done())
        assert condition(), f"the socket was closed: {self.closed.result()}"

    async def next_push(self, kind: str, topic: str = "", *, after: int = 0) -> Push:
        """The first push of a kind on a topic, from the `after`-th on."""
        await self.until(lambda: len(self.of(kind, topic)) > after)
        return self.of(kind, topic)[after]

    def of(self, kind: str, topic: str = "") -> list[Push]:
        """All pushes of a kind on a topic so far."""
        return [push for push in self.pushes.get(topic, ()) if push["push"] == kind]

    def events(self, topic: str) -> list[dict[str, Any]]:
        """All events of a topic so far."""
        return [event for push in self.of("events", topic) for event in push["events"]]

    async def until_event(self, topic: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event with these fields, such as ``id=...``."""

        def matching() -> list[dict[str, Any]]:
            return [
                event for event in self.events(topic) if all(event.get(name) == value for name, value in fields.items())
            ]

        await self.until(lambda: bool(matching()))
        return matching()[0]

    async def close(self) -> None:
        """Leave, and wait until the server knows."""
        self.socket.close()
        await asyncio.wait_for(self._reading, 20)
