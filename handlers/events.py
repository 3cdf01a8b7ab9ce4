"""The same stream for those whom a proxy keeps from WebSockets: Server-Sent Events and long poll."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import structlog
from msgspec import Meta
from tornado.httputil import format_timestamp
from tornado.iostream import StreamClosedError

from app.connections import Connections
from app.conversation import Expiry
from app.follower import Follower, Sources
from app.metrics import Transport
from app.permissions import Action
from app.polling import Poll, Polled
from app.position import Position
from app.protocol import MAX_TOPICS, CloseCode, ErrorPush, Frame, error_body, push
from app.runtime import Runtime
from handlers.base import ApiHandler, Edge, Operation, Query
from handlers.outbox import Outbox, OutboxConnection
from models import errors
from models.errors import Refusal

log = structlog.get_logger("copydesk.events")

UNACKNOWLEDGED_MS = 45_000
"""A peer that acknowledges nothing for so long is gone; it never says anything that could be missed."""

Topics = Annotated[str, Meta(min_length=1, max_length=MAX_TOPICS * 81, description="Separated by commas.")]
Since = Annotated[str, Meta(max_length=1000, description="A position; absent: see docs/protocol.md.")]

TOPICS = Query(
    name="topics",
    shape=Topics,
    summary="`project:<id>`, `projects`, `inbox`; separated by commas.",
    required=True,
)
SINCE = Query(name="since", shape=Since, summary="The position from which to go on.")
_REFUSALS = (errors.RateLimited, errors.Unavailable, errors.Unauthenticated, errors.CrossOrigin, errors.Invalid)


def _topics(text: str) -> list[str]:
    topics = list(dict.fromkeys(topic.strip() for topic in text.split(",")))
    if len(topics) > MAX_TOPICS:
        raise errors.Invalid(f"At most {MAX_TOPICS} topics at once.")
    return topics


class EventStreamHandler(OutboxConnection, ApiHandler):
    """GET /api/v1/events/stream. Implements `app.connections.Connection`."""

    route = "/api/v1/events/stream"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="The pushes of the realtime protocol as Server-Sent Events.",
            action=Action.SIGNED_IN,
            query=(
                TOPICS,
                SINCE,
                Query(name="snapshot", shape=bool, summary="Whether topics begin with a snapshot; true where absent."),
            ),
            refusals=_REFUSALS,
            media_type="text/event-stream",
        )
    }
    transport: Transport = "sse"
    live = True
    heard_at = float("inf")

    def initialize(
        self,
        *,
        edge: Edge,
        sources: Sources,
        connections: Connections,
        runtime: Runtime,
        ready: Callable[[], bool],
    ) -> None:
        super().initialize(edge=edge)
        self.sources, self.connections, self.runtime, self.ready = sources, connections, runtime, ready
        self.opened_at = time.time()

    async def get(self) -> None:
        topics = _topics(self.query("topics"))
        since = self.request.headers.get("Last-Event-ID") or self.query("since")
        snapshot = self.query("snapshot", default=True)
        identity = self.caller
        self.address = self.origin.address
        if not self.ready():
            raise errors.Unavailable("This server is not ready yet, or is stopping.", retry_after=2.0)
        self.edge.admission.join(identity.user_id, len(topics))
        self.connections.check_room(self.address, identity)
        self._open()
        self.follower = Follower(self.sources, identity, deliver=self._deliver, room=self.room, close=self.leave)
        self.connections.add(self)
        self.connections.admit(self, identity, paced=True)
        expiry = Expiry(
            identity.expires_at,
            announce=lambda frame: self._deliver(frame, None),
            expire=lambda: self.leave(CloseCode.TOKEN_EXPIRED),
            later=asyncio.get_running_loop().call_later,
        )
        try:
            if await self.may_stay(identity):
                await self.follower.run(topics, since=since, snapshot=snapshot)
        finally:
            expiry.cancel()
            self.follower.stop()
            self.connections.remove(self)
            self._end()

    def _open(self) -> None:
        """Send the head, and take the stream: the body has no end, and its pace is the client's."""
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Connection", "close")
        self.set_header("Date", format_timestamp(time.time()))
        self.set_header("X-Accel-Buffering", "no")
        head = "".join(f"{name}: {value}\r\n" for name, value in self._headers.get_all() if name != "Content-Length")
        self._stream = self.detach()
        if self._stream.socket is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            self._stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        self._outbox = Outbox(
            self._stream,
            max_bytes=lambda: self.runtime.now.max_pending_bytes,
            too_slow=lambda: self.leave(CloseCode.SLOW),
            stuck=self.connections.stuck,
        )
        self._stream.set_close_callback(self._gone)
        self._outbox.send(f"HTTP/1.1 200 OK\r\n{head}\r\n:\n\n".encode("latin-1"))

    # -- app.connections.Connection -----------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.request_id

    @property
    def all_live(self) -> bool:
        return self.follower.all_live

    @property
    def topics(self) -> list[str]:
        return self.follower.topics

    def send(self, frame: Frame) -> None:
        """A frame that is not of a topic: a ping, or that the server is going."""
        if frame.name == "ping":
            # Its position is the hub's: what came before it is told first.
            self._deliver(frame, self.follower.caught_up())
            self.put(b":\n\n")
        else:
            self._deliver(frame, None)

    def leave(self, code: CloseCode) -> None:
        """End the stream, with the reason where there is something to do about it."""
        if self._closing:
            return
        refusal: Refusal | None = None
        if code is CloseCode.SLOW:
            self.edge.metrics.slow_closes.inc()
        elif code is CloseCode.TOKEN_EXPIRED:
            refusal = errors.TokenExpired("Get a new token, then connect again.")
        elif code is CloseCode.ROLES_CHANGED:
            refusal = errors.Unauthenticated("Your roles have changed, or you have signed out.")
        if refusal is not None:
            body = error_body(refusal)
            self._deliver(push(ErrorPush(code=body.code, detail=body.detail, retry=body.retry)), None)
        self._closing = True
        self.edge.metrics.closes.labels(str(int(code))).inc()
        self.follower.stop()

    # -- the bytes ----------------------------------------------------------------------------------------------------

    def _deliver(self, frame: Frame, position: Position | None) -> None:
        mark = b"" if position is None else b"id: " + self.sources.encode(position).encode() + b"\n"
        self.put(b"event: " + frame.name.encode() + b"\n" + mark + b"data: " + frame.payload + b"\n\n")

    def _gone(self) -> None:
        self._closing = True
        if self._outbox is not None:
            self._outbox.shut()
        self.follower.stop()

    def _end(self) -> None:
        """Close once what is on its way was read, or soon."""
        self._closing = True
        stream = self._stream
        if not stream.writing():
            stream.close()
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(5.0, stream.close)

        async def close_when_sent() -> None:
            with contextlib.suppress(StreamClosedError):
                await stream.write(b"")
            timer.cancel()
            stream.close()

        self._closer = loop.create_task(close_when_sent())


class EventPollHandler(ApiHandler):
    """GET /api/v1/events"""

    route = "/api/v1/events"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="The pushes of the realtime protocol since a position, by long poll.",
            action=Action.SIGNED_IN,
            query=(
                TOPICS,
                SINCE,
                Query(
                    name="wait",
                    shape=Annotated[float, Meta(ge=0, le=25)],
                    summary="Seconds to wait for something to tell; 0 where absent.",
                ),
            ),
            answer=Polled,
            refusals=_REFUSALS,
        )
    }
    live = True

    def initialize(self, *, edge: Edge, sources: Sources, connections: Connections, ready: Callable[[], bool]) -> None:
        super().initialize(edge=edge)
        self.sources, self.connections, self.ready = sources, connections, ready
        self._poll: Poll | None = None

    async def get(self) -> None:
        topics = _topics(self.query("topics"))
        if not self.ready():
            raise errors.Unavailable("This server is not ready yet, or is stopping.", retry_after=2.0)
        self._poll = Poll(self.sources, self.caller)
        self.connections.begin_poll(self._poll)
        try:
            if not await self.edge.authenticator.still_holds(self.caller):
                self._poll.stop()
            answer = await self._poll.answer(
                topics, since=self.query("since"), wait_seconds=self.query("wait", default=0.0)
            )
        finally:
            self.connections.end_poll(self._poll)
        # Who was signed out or disabled meanwhile is told that, and nothing that happened after it.
        await self.edge.authenticator.confirm(self.caller)
        self.reply(answer)

    def on_connection_close(self) -> None:
        """The client did not wait for the answer."""
        if self._poll is not None:
            self._poll.stop()
