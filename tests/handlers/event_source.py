"""Clients of the transports beside the socket: Server-Sent Events and long poll."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlsplit

from tests.conftest import Copydesk
from tests.editor import Store


class EventSource:
    """Reads a stream of Server-Sent Events as the HTML standard says (9.2.6), from a bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.head, self._reader, self._writer = head, reader, writer
        self.messages: list[tuple[str, dict[str, Any], str | None]] = []
        self.comments = 0
        self.last_id: str | None = None
        self.stores: dict[str, Store] = {}

    @classmethod
    async def open(
        cls,
        url: str,
        token: str | None,
        topics: str,
        *,
        last_id: str | None = None,
        more: str = "",
        headers: str = "",
    ) -> EventSource:
        """`headers` are lines; they say who it is where there is no token."""
        parts = urlsplit(url)
        # A line is a whole push.
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
        headers += f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        headers += f"Authorization: Bearer {token}\r\n" if token else ""
        writer.write(
            f"GET /api/v1/events/stream?topics={quote(topics)}{more} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"{headers}\r\n".encode()
        )
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
        return cls(reader, writer, head)

    async def next(self) -> tuple[str, dict[str, Any], str | None]:
        """The next message: its event, its data, and the id it came with."""
        name, data, mark = "", "", None
        while True:
            line = (await asyncio.wait_for(self._reader.readline(), 20)).decode()
            assert line, "the stream ended"
            line = line.rstrip("\n")
            if line == "":
                if not data:
                    continue
                push = json.loads(data)
                self.last_id = mark or self.last_id
                self.messages.append((name, push, mark))
                store = self.stores.setdefault(push.get("topic", ""), Store())
                if name == "snapshot":
                    store.snapshot(push["data"])
                for event in push.get("events", ()):
                    store.apply(event)
                return self.messages[-1]
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "":
                self.comments += 1
            elif field == "event":
                name = value
            elif field == "data":
                data = value
            elif field == "id":
                mark = value

    async def until(self, name: str, **fields: Any) -> dict[str, Any]:
        """Read on until a push with these fields."""
        while True:
            got, push, _ = await self.next()
            if got == name and all(push.get(key) == value for key, value in fields.items()):
                return push

    async def until_event(self, identifier: str) -> dict[str, Any]:
        """Read on until an event of this document."""
        while True:
            for event in (await self.until("events"))["events"]:
                if event["id"] == identifier:
                    found: dict[str, Any] = event
                    return found

    async def end(self) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self._reader.read(), 20)

    def close(self) -> None:
        self._writer.close()


Open = Callable[..., Awaitable[EventSource]]
"""The fixture `listen`."""


async def poll(copydesk: Copydesk, topics: str, user: str = "bob", **query: Any) -> dict[str, Any]:
    text = "".join(f"&{name}={value}" for name, value in query.items())
    answer: dict[str, Any] = await copydesk.call("GET", f"/events?topics={quote(topics)}{text}", user=user)
    return answer
