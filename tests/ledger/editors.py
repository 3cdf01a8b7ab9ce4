"""Editors who never give up: they come back after every cut as the protocol's client rules say, and log what they hear.

One text that many of them get is parsed once, so that twenty editors cost the test little more than one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket as sockets
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketError, websocket_connect

from tests.ledger.log import EditorLog

BASE_SECONDS, CAP_SECONDS = 1.0, 30.0
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0

_parsed: dict[str | bytes, dict[str, Any]] = {}


def parse(text: str | bytes) -> dict[str, Any]:
    """The JSON of a frame; the same object for the same text."""
    frame = _parsed.get(text)
    if frame is None:
        if len(_parsed) > 2000:
            _parsed.clear()
        frame = _parsed[text] = json.loads(text)
    return frame


class Door(NamedTuple):
    """Where to connect: straight to a process, or to nginx, which wants the site's name."""

    port: int
    host: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Host": self.host}


class Lost(Exception):  # noqa: N818 - says what happened
    """The connection is over."""


class ReconnectingEditor:
    """One editor over WebSockets. `run` until `stop`."""

    ping_seconds = 25.0

    def __init__(
        self,
        name: str,
        token: str,
        topics: Sequence[str],
        *,
        doors: Callable[[], Sequence[Door]],
        rng: random.Random,
    ) -> None:
        """`doors` are the ways in, asked for each time; one of them is taken."""
        self.log = EditorLog(name)
        self._token, self._topics, self._doors, self._rng = token, topics, doors, rng
        self.forge: Callable[[str], str] = lambda position: position
        """May spoil the position that the editor comes back with."""
        self.refused: set[str] = set()
        self.connections = 0
        self._over = False
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._running = asyncio.create_task(self.run())

    async def stop(self) -> None:
        """Leave for good."""
        self._over = True
        self.cut()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    @property
    def settled(self) -> bool:
        """Whether every topic is live, or refused for good."""
        return self.log.live | self.refused >= set(self._topics)

    async def run(self) -> None:
        """Connect, listen, come back: with full jitter, for ever."""
        attempt = 0
        while not self._over:
            door = self._rng.choice(self._doors())
            wait: float | None = None
            try:
                wait = await self._once(door)
            except HTTPClientError as refused:
                if refused.response is not None and "Retry-After" in refused.response.headers:
                    wait = int(refused.response.headers["Retry-After"]) * self._rng.uniform(1.0, 1.5)
            except (Lost, OSError, StreamClosedError, WebSocketError, TimeoutError):
                pass
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass
            attempt = 0 if self.settled else attempt + 1
            self.log.connected()
            if wait is None:
                wait = self._rng.uniform(0.0, min(CAP_SECONDS, BASE_SECONDS * 2.0**attempt))
            await asyncio.sleep(0.0 if self._over else wait)

    def cut(self) -> None:
        """Break the connection with a reset, as a train that enters a tunnel does."""
        if self._socket is not None and self._socket.protocol is not None:
            stream = self._socket.protocol.stream
            if not stream.closed():
                stream.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
                stream.close()

    _socket: WebSocketClientConnection | None = None
    _frames: asyncio.Queue[str | bytes | None]

    async def _once(self, door: Door) -> float | None:
        """One connection; how long to wait before the next, where the server said so."""
        self._frames = asyncio.Queue()
        request = HTTPRequest(
            f"ws://127.0.0.1:{door.port}/api/v1/realtime",
            headers={**door.headers, "Authorization": f"Bearer {self._token}"},
            connect_timeout=CONNECT_SECONDS,
        )
        self._socket = await websocket_connect(request, on_message_callback=self._hear)
        self._wait: float | None = None
        self._replies: dict[int, str] = {}
        try:
            self._say({"op": "hello", "id": 0})
            await self._listen()
        finally:
            self.log.closes.append(self._socket.close_code)
            self._socket.close()
            self._socket = None
        return self._wait

    def _say(self, command: dict[str, Any]) -> None:
        if self._socket is None:
            raise Lost
        with contextlib.suppress(WebSocketClosedError):
            # Whether it went out is seen by what comes back; the future's error is looked at so that nobody logs it.
            asyncio.ensure_future(self._socket.write_message(json.dumps(command))).add_done_callback(
                lambda sent: sent.cancelled() or sent.exception()
            )

    def _hear(self, text: str | bytes | None) -> None:
        """Tornado's callback. What changes the log is taken at once: in its order, and at its time."""
        if text is None:
            self._frames.put_nowait(None)
            return
        frame = parse(text)
        if "push" in frame:
            self._take(frame)
        elif "topic" in frame.get("ok", ()):
            self.log.answered(time.time(), frame["ok"])
        if "push" not in frame or frame["push"] in ("ping", "unsubscribed"):
            self._frames.put_nowait(text)

    def _take(self, push: dict[str, Any]) -> None:
        self.log.take(time.time(), push)
        if push["push"] == "drain":
            # Full jitter of its own: what the server says is when it closes, not when to come.
            self._wait = self._rng.uniform(0.0, BASE_SECONDS)

    async def _listen(self) -> None:
        while True:
            async with asyncio.timeout(self.ping_seconds + 10.0):
                text = await self._frames.get()
            if text is None:
                raise Lost
            frame = parse(text)
            if "push" in frame:
                self._answer_push(frame)
            elif "ok" in frame and frame["id"] == 0:
                self.connections += 1
                for number, topic in enumerate(self._topics, 1):
                    self._subscribe(number, topic)
            elif "error" in frame:
                self._refused(frame)

    def _subscribe(self, number: int, topic: str) -> None:
        self._replies[number] = topic
        since = self.log.positions.get(topic)
        self._say(
            {
                "op": "subscribe",
                "id": number,
                "topic": topic,
                **({} if since is None else {"since": self.forge(since)}),
            }
        )

    def _refused(self, reply: dict[str, Any]) -> None:
        topic = self._replies.get(reply["id"])
        if topic is None:  # it was the hello
            raise Lost
        self._again(topic, reply["error"])

    def _answer_push(self, push: dict[str, Any]) -> None:
        if push["push"] == "ping":
            self._say({"op": "pong"})
        else:
            self._again(push["topic"], push)

    def _again(self, topic: str, refusal: dict[str, Any]) -> None:
        """Refused: for good, or to be asked again on the same connection."""
        if refusal["code"] == "not_found":
            self.refused.add(topic)
            return
        wait = max(refusal.get("retry_after_ms", 1000) / 1000, 0.1) * self._rng.uniform(1.0, 1.5)
        number = max(self._replies) + 1
        asking = self._socket
        self._replies[number] = topic

        def ask() -> None:
            if self._socket is asking and asking is not None:
                self._subscribe(number, topic)

        asyncio.get_running_loop().call_later(wait, ask)


class StreamingEditor(ReconnectingEditor):
    """The same over Server-Sent Events: one position for all topics."""

    _writer: asyncio.StreamWriter | None = None
    _last_id: str | None = None

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def _once(self, door: Door) -> float | None:
        self._wait = None
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, self._writer = await asyncio.open_connection("127.0.0.1", door.port, limit=2**26)
        try:
            topics = ",".join(topic for topic in self._topics if topic not in self.refused)
            # HTTP/1.0, so that nginx sends no chunks.
            lines = [f"GET /api/v1/events/stream?topics={topics} HTTP/1.0", f"Host: {door.host}"]
            lines.append(f"Authorization: Bearer {self._token}")
            if self._last_id is not None:
                lines.append(f"Last-Event-ID: {self.forge(self._last_id)}")
            self._writer.write("\r\n".join([*lines, "", ""]).encode())
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise Lost
            self.connections += 1
            while True:
                async with asyncio.timeout(self.ping_seconds + 10.0):
                    block = await reader.readuntil(b"\n\n")
                self._block(block.decode())
        finally:
            self.log.closes.append(None)
            self._writer.transport.abort()
            self._writer = None

    def _block(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" not in fields:
            return
        push = parse(fields["data"])
        self._take(push)
        if "id" in fields:
            self._last_id = fields["id"]
        elif push["push"] == "reset":
            self._last_id = None
        if push["push"] == "unsubscribed" and push["code"] == "not_found":
            self.refused.add(push["topic"])
        elif push["push"] == "unsubscribed":
            raise Lost
