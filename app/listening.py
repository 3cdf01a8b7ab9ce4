"""The HTTP server, able to stop without breaking off a request: not one that runs, nor one that has just arrived.

It also ends connections that only take up room: heads of requests that do not get finished, and, where descriptors run
out, those on which nothing is asked.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream

HEAD_SECONDS = 10.0
"""From the first byte of a request to the end of its head. Tornado has one limit for this and for idle connections."""
IDLE_SECONDS = 1.0
"""A connection on which nothing was asked for so long can be closed where its descriptor is needed."""
CLOSED_AT_ONCE = 64
SILENT_SECONDS = 0.5
"""A proxy connects when it has a request to send; a browser also in advance. That one is waited for no longer."""

_SO_ATTACH_FILTER = 26
_BPF_RET = 0x06


class Unfinished:
    """What was begun and has to be finished before the server ends."""

    def __init__(self) -> None:
        self._things: set[object] = set()
        self._nothing = asyncio.Event()

    def add(self, thing: object) -> None:
        """It has begun; fine to say twice."""
        self._things.add(thing)
        self._nothing.clear()

    def discard(self, thing: object) -> None:
        """It is finished, or does not count any more."""
        self._things.discard(thing)
        if not self._things:
            self._nothing.set()

    @contextmanager
    def work(self) -> Iterator[None]:
        """For a request that is carried out. Who hangs up in the middle of a write has asked for it all the same."""
        thing = object()
        self.add(thing)
        try:
            yield
        finally:
            self.discard(thing)

    async def nothing(self) -> None:
        """Wait until there is nothing; what begins meanwhile is waited for as well."""
        while self._things:
            await self._nothing.wait()


class ListeningServer(HTTPServer):
    """Knows on which of its connections an answer is due.

    On a new one it is at once, because its request may be on the way. On one that was answered already it is from the
    next request on; until then closing it breaks nothing (RFC 9112, 9.3.1).
    """

    def initialize(self, *arguments: Any, **options: Any) -> None:
        """As `HTTPServer`; Tornado calls this in place of a constructor."""
        super().initialize(*arguments, **options)
        self._listening: list[socket.socket] = []
        self._seen: set[object] = set()
        # Since when each waits for a request, longest first; and since when there are bytes of one.
        self._awaiting: dict[HTTP1ServerConnection, float] = {}
        self._trickling: dict[HTTP1ServerConnection, float] = {}
        self.clock: Callable[[], float] = time.monotonic
        self.crowded: Callable[[int], bool] = lambda _descriptor: False
        """Whether a new connection with this descriptor is one too many."""
        self._silent: set[object] = set()
        self.unfinished = Unfinished()
        """Connections on which an answer is due, and what handlers are at."""

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Listen on these."""
        listening = list(sockets)
        self._listening += listening
        super().add_sockets(listening)

    def stop_listening(self) -> None:
        """Refuse new connections. Those that the system has accepted for us are taken first.

        Closing the listening socket would reset them, and nginx has sent their requests: it does not repeat a POST.
        """
        for listening in self._listening:
            admit_nobody(listening)
            while True:
                try:
                    accepted, address = listening.accept()
                except OSError:
                    break
                accepted.setblocking(False)
                self.handle_stream(IOStream(accepted), address)
        self._listening = []
        self.stop()

    async def finished(self) -> None:
        """After `stop_listening`: wait until no answer is due and nothing is unfinished. WebSockets do not count."""
        waiting = asyncio.get_running_loop().call_later(SILENT_SECONDS, self._forget_silent)
        try:
            await self.unfinished.nothing()
        finally:
            waiting.cancel()

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """A new connection. Tornado waits for its request in a task that has not begun when this returns."""
        if self.crowded(stream.socket.fileno()) and not self._close_idle():
            stream.close()  # an answer would need what there is no more of
            return
        self.unfinished.add(stream)
        super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Tornado calls it when it begins to wait for a request, not when there is one."""
        self._stop_waiting(server_conn)
        if server_conn in self._seen:
            self.unfinished.discard(server_conn)
        else:
            self._seen.add(server_conn)
            self._silent.add(server_conn)
            self.unfinished.add(server_conn)
        if isinstance(server_conn, HTTP1ServerConnection):
            self._awaiting[server_conn] = self.clock()
            self.unfinished.discard(server_conn.stream)
        return _Noticing(super().start_request(server_conn, request_conn), self, server_conn)

    def begun(self, server_conn: object) -> None:
        """A request has come."""
        self._stop_waiting(server_conn)
        self._silent.discard(server_conn)
        self.unfinished.add(server_conn)

    def on_close(self, server_conn: object) -> None:
        """Also called where a connection becomes a WebSocket."""
        self._stop_waiting(server_conn)
        self._seen.discard(server_conn)
        self._silent.discard(server_conn)
        self.unfinished.discard(server_conn)
        super().on_close(server_conn)

    def sweep(self) -> None:
        """Called about once a second: end connections on which the head of a request takes too long."""
        now = self.clock()
        for connection in tuple(self._awaiting):
            # Private, and the only way to tell a head that trickles in from a browser that keeps a connection.
            if not connection.stream._read_buffer_size:  # noqa: SLF001
                continue
            if now - self._trickling.setdefault(connection, now) > HEAD_SECONDS:
                connection.stream.close()

    def _close_idle(self) -> bool:
        """Make room: close those on which nothing was asked for longest. Returns whether there were any."""
        now = self.clock()
        idle = [connection for connection, since in self._awaiting.items() if now - since > IDLE_SECONDS]
        for connection in idle[:CLOSED_AT_ONCE]:
            connection.stream.close()
            self._stop_waiting(connection)
        return bool(idle)

    def _stop_waiting(self, server_conn: object) -> None:
        if isinstance(server_conn, HTTP1ServerConnection):
            self._awaiting.pop(server_conn, None)
            self._trickling.pop(server_conn, None)

    def _forget_silent(self) -> None:
        for server_conn in tuple(self._silent):
            self.unfinished.discard(server_conn)


def admit_nobody(listening: socket.socket) -> None:
    """Have the system drop what asks for a connection, so that none comes between the last `accept` and `close`.

    Who asks in that moment asks again after a second, and is refused then. Linux only; elsewhere the gap stays.
    """
    if sys.platform != "linux":
        return
    # A socket filter of one instruction, "return 0 bytes": https://docs.kernel.org/networking/filter.html
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET, 0, 0, 0))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(instruction)))


class _Noticing(HTTPMessageDelegate):
    """Hands everything on, and notices that a request has begun."""

    def __init__(self, delegate: HTTPMessageDelegate, server: ListeningServer, connection: object) -> None:
        self._delegate, self._server, self._connection = delegate, server, connection

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._server.begun(self._connection)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()
