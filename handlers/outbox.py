"""What waits to be sent on one connection: bounded in bytes and time, and no queue while the socket takes it all."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog
from tornado.iostream import IOStream, StreamClosedError

from app.connections import Connections, Stuck
from app.permissions import Identity
from app.protocol import CloseCode
from handlers import straight
from handlers.operation import Edge
from models.errors import translate

log = structlog.get_logger("copydesk.outbox")

CHUNK = 64 * 1024
"""How much is handed to the stream at once; what the client has not read of it counts as waiting until all is gone."""
LITTLE = 128 * 1024
"""With less than this waiting, a long snapshot may go on."""


class Outbox:
    """Frames on their way to one client. `too_slow` is called once, when the client does not keep up."""

    __slots__ = (
        "_blocked_since",
        "_clock",
        "_free",
        "_in_flight",
        "_max_bytes",
        "_queue",
        "_queued_bytes",
        "_shut",
        "_straight",
        "_stream",
        "_stuck",
        "_too_slow",
        "_waiters",
    )

    def __init__(
        self,
        stream: IOStream,
        *,
        max_bytes: Callable[[], int],
        too_slow: Callable[[], None],
        stuck: set[Stuck],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_bytes` is asked each time, because an admin may change it. `stuck`: where this is while bytes wait."""
        self._stream, self._max_bytes, self._too_slow, self._clock = stream, max_bytes, too_slow, clock
        self._stuck = stuck
        self._straight = self._free = straight.can_take(stream)
        # `_free`: nothing waits, and nothing forbids to go straight to the socket. One question for each frame.
        self._queue: deque[tuple[float, bytes]] | None = None
        """None while nothing has ever had to wait: an empty one takes more memory than all of this."""
        self._queued_bytes = 0
        self._in_flight = 0
        self._blocked_since: float | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._shut = False

    @property
    def pending_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._queued_bytes + self._in_flight

    @property
    def blocked_seconds(self) -> float:
        """How long the oldest waiting byte has been waiting."""
        return 0.0 if self._blocked_since is None else self._clock() - self._blocked_since

    def give_up(self) -> None:
        """It has been waiting for too long."""
        self._too_slow()

    def send(self, data: bytes) -> None:
        """Send now, or as soon as the client reads. Never blocks or raises."""
        if self._free:
            taken = straight.send(self._stream, data)
            if taken < len(data):
                self._write(memoryview(data)[taken:], self._clock())
            return
        if self._shut:
            return
        if not self._in_flight and not self._queue:
            self._write(data, self._clock())
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append((self._clock(), data))
        self._queued_bytes += len(data)
        if self.pending_bytes > self._max_bytes():
            self.shut()
            self._too_slow()

    def shut(self) -> None:
        """Forget what waits and take no more: the connection is about to end."""
        self._shut = True
        self._free = False
        self._queue = None
        self._queued_bytes = 0
        self._stuck.discard(self)
        self._release()

    async def room(self) -> bool:
        """Wait until little is waiting; False once the connection is over."""
        while not self._shut and self.pending_bytes > LITTLE:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return not self._shut

    def _write(self, data: bytes | memoryview, since: float) -> None:
        """Hand over what has been waiting since then."""
        try:
            written = self._stream.write(data)
        except StreamClosedError:
            self.shut()
            return
        if self._stream.writing():
            self._in_flight = len(data)
            self._free = False
            self._blocked_since = since
            self._stuck.add(self)
            written.add_done_callback(self._written)

    def _written(self, written: asyncio.Future[None]) -> None:
        self._in_flight = 0
        self._blocked_since = None
        self._stuck.discard(self)
        if written.cancelled() or written.exception() is not None:
            self.shut()
            return
        if self._queue:
            since, chunk, size = self._queue[0][0], [], 0
            while self._queue and size < CHUNK:
                _, data = self._queue.popleft()
                chunk.append(data)
                size += len(data)
            self._queued_bytes -= size
            self._write(b"".join(chunk), since)
            if not self._in_flight and self._queue:
                # The socket took it all at once: go on, but let others have their turn.
                asyncio.get_running_loop().call_soon(self._written, written)
        self._free = self._straight and not (self._shut or self._in_flight or self._queue)
        if self.pending_bytes <= LITTLE:
            self._release()

    def _release(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class OutboxConnection:
    """What every handler that holds a connection open has of `app.connections.Connection`."""

    edge: Edge
    connections: Connections
    _outbox: Outbox | None = None
    _closing = False

    def leave(self, code: CloseCode) -> None:
        """End the connection."""
        raise NotImplementedError

    async def may_stay(self, identity: Identity) -> bool:
        """To be asked once `connections` knows who this is; who may not, or of whom it cannot be told, leaves."""
        try:
            code = None if await self.edge.authenticator.still_holds(identity) else CloseCode.ROLES_CHANGED
        except Exception as error:
            if translate(error) is None:
                log.exception("not_confirmed", user_id=identity.user_id)
            code = CloseCode.LOST
        if code is not None:
            self.leave(code)
        return code is None

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for the client to read them."""
        return 0 if self._outbox is None else self._outbox.pending_bytes

    def put(self, data: bytes) -> None:
        """Send, and count it. Never blocks or raises."""
        if self._outbox is not None and not self._closing:
            self.connections.frames_out += 1
            self.connections.bytes_out += len(data)
            self._outbox.send(data)

    async def room(self) -> bool:
        """Wait until little is waiting to be sent; False when the connection is gone."""
        return self._outbox is not None and await self._outbox.room()
