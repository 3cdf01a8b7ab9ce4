"""Many listeners in one process, as cheap as Python can read: `recv_into` one buffer, count one byte.

    python -m benchmarks.load DIALECT PORT LISTENERS WATCHED [TOKEN TOPIC]

Every written comment's text ends with `^`, a byte that is nowhere else, so that counting it counts events, however
they are framed. The first WATCHED listeners look closer: the number and the time before it give order and delay.

Pings are answered as they come.

Prints JSON lines: `{"ready": n}` when all are subscribed; for a line `N` on standard input `{"reached": ...}` once
every listener has had N events in all. Ends when standard input does.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import selectors
import socket
import sys
import time
from typing import Literal, NoReturn

Dialect = Literal["copydesk", "plain", "greeting", "socketio", "nchan", "livequery"]
MARK = b"^"
NUMBERED = re.compile(rb"(\d+) (\d+)\^")
PONG_SECONDS = {"copydesk": 15.0, "livequery": 5.0}
"""How often those who are there already say so while others connect, where they would be taken for dead."""
_PATHS = {
    "copydesk": "/api/v1/realtime",
    "socketio": "/socket.io/?EIO=4&transport=websocket",
    "nchan": "/sub?id=project",
}
_READY = {
    "copydesk": b'"push":"live"',
    "greeting": b'{"live": true}',
    "socketio": b'40{"sid"',
    "livequery": b'"op":"subscribed"',
}
"""What says that a listener is subscribed; for the others the handshake does."""


def frame(text: bytes) -> bytes:
    """A client's text frame; the mask is zero, which is cheap and valid."""
    header = bytes([0x81, 0x80 | len(text)]) if len(text) < 126 else b"\x81\xfe" + len(text).to_bytes(2)
    return header + bytes(4) + text


_PINGS = {
    "copydesk": (b'"push":"ping"', frame(b'{"op":"pong"}')),
    "socketio": (b"\x81\x012", frame(b"3")),
    "livequery": (b"\x89\x00", b"\x8a\x80" + bytes(4)),
}
"""What asks whether a listener is there, nowhere part of an event, and its answer; LiveQuery's is a frame of its own.

Others do not ask.
"""


class Listener:
    """One connection."""

    __slots__ = ("arrived", "count", "socket", "tail")

    def __init__(self, connection: socket.socket, *, watched: bool) -> None:
        self.socket, self.count, self.tail = connection, 0, b""
        self.arrived: list[tuple[int, int]] | None = [] if watched else None
        """Number and nanoseconds of delay of each event; None where they are only counted."""

    def look(self, data: bytes) -> None:
        """Read numbers and times. An event may be cut in two."""
        if self.arrived is None:
            return
        now = time.perf_counter_ns()
        text = self.tail + data
        self.arrived.extend((int(number), now - int(at)) for number, at in NUMBERED.findall(text))
        self.tail = text[text.rfind(MARK) + 1 :][-100:]


def handshake(dialect: Dialect, port: int) -> bytes:
    """The request that becomes a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {_PATHS.get(dialect, '/')} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )


def connect(dialect: Dialect, port: int, *, token: str, topic: str) -> socket.socket:
    """Open, shake hands, subscribe; returns when the server has said that events come from here on."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(handshake(dialect, port))
    if dialect == "copydesk":
        connection.sendall(frame(json.dumps({"op": "hello", "id": 1, "token": token}).encode()))
        subscribe = {"op": "subscribe", "id": 2, "topic": topic, "snapshot": False}
        connection.sendall(frame(json.dumps(subscribe).encode()))
    if dialect == "livequery":
        connection.sendall(frame(json.dumps({"op": "connect", "applicationId": token}).encode()))
    data = b""
    wanted = _READY.get(dialect, b"\r\n\r\n")
    asked = False
    while wanted not in data:
        more = connection.recv(65536)
        if not more or (b"\r\n" in data and b" 101 " not in data):
            raise RuntimeError(f"refused: {(data + more)[:500]!r}")
        data += more
        if dialect == "socketio" and not asked and b'"pingInterval"' in data:
            asked = True
            connection.sendall(frame(b"40"))
        elif dialect == "livequery" and not asked and b'"op":"connected"' in data:
            asked = True
            query = {"className": "Comment", "where": {"project_id": topic.removeprefix("project:")}}
            connection.sendall(frame(json.dumps({"op": "subscribe", "requestId": 1, "query": query}).encode()))
    connection.setblocking(False)
    return connection


def newest_position(port: int, *, token: str, topic: str) -> str:
    """Where a client of Copydesk is that has everything up to now."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    subscribe = {"op": "subscribe", "id": 2, "topic": topic, "snapshot": False}
    hello = {"op": "hello", "id": 1, "token": token}
    words = b"".join(frame(json.dumps(message).encode()) for message in (hello, subscribe))
    with connection:
        connection.sendall(handshake("copydesk", port) + words)
        data = b""
        while (found := re.search(rb'"push":"live".*?"position":"([^"]+)"', data)) is None:
            data += connection.recv(65536)
        return found[1].decode()


def say_pong(dialect: Dialect, listeners: list[Listener]) -> None:
    """Say that everyone is still there."""
    _, pong = _PINGS[dialect]
    for listener in listeners:
        listener.socket.send(pong)


class Load:
    """All listeners."""

    def __init__(self, dialect: Dialect, listeners: list[Listener]) -> None:
        self._listeners, (self._ping, self._pong) = listeners, _PINGS.get(dialect, (b"", b""))
        self._selector = selectors.EpollSelector()
        for listener in listeners:
            self._selector.register(listener.socket, selectors.EVENT_READ, listener)
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        self._buffer = bytearray(512 * 1024)
        self._total = self._bytes = self._reads = 0
        self._wanted: int | None = None

    def run(self) -> None:
        """Until standard input ends."""
        while True:
            for key, _ in self._selector.select(1.0):
                if key.data is not None:
                    self._read(key.data)
                elif line := sys.stdin.readline():
                    self._wanted = int(line)
                else:
                    return
            if self._wanted is not None and self._total >= self._wanted * len(self._listeners):
                self._report()

    def _read(self, listener: Listener) -> None:
        buffer = self._buffer
        try:
            size = listener.socket.recv_into(buffer)
        except BlockingIOError:
            return
        if not size:
            self._closed(listener)
        events = buffer.count(MARK, 0, size)
        listener.count += events
        self._total += events
        self._bytes += size
        self._reads += 1
        if listener.arrived is not None:
            listener.look(bytes(buffer[:size]))
        if self._ping and buffer.find(self._ping, 0, size) >= 0:
            listener.socket.send(self._pong)

    def _closed(self, listener: Listener) -> NoReturn:
        """A listener that the server gave up makes the run worthless."""
        sys.exit(f"the server closed a listener that had had {listener.count} events")

    def _report(self) -> None:
        wanted, self._wanted = self._wanted, None
        watched = [listener.arrived for listener in self._listeners if listener.arrived is not None]
        times = os.times()
        report = {
            "reached": wanted,
            "right": all(listener.count == wanted for listener in self._listeners),
            "ordered": all(
                [number for number, _ in arrived] == sorted({number for number, _ in arrived}) for arrived in watched
            ),
            "delays": [[delay for _, delay in arrived] for arrived in watched],
            "cpu": times.user + times.system,
            "bytes": self._bytes,
            "reads": self._reads,
        }
        for arrived in watched:
            arrived.clear()
        print(json.dumps(report), flush=True)


def main() -> None:
    """The command line."""
    dialect, port, count, watched, *rest = sys.argv[1:]
    token, topic = rest or ("", "")
    listeners: list[Listener] = []
    pong_seconds = PONG_SECONDS.get(dialect, math.inf)
    pong_at = time.monotonic() + pong_seconds
    for number in range(int(count)):
        connection = connect(dialect, int(port), token=token, topic=topic)
        listeners.append(Listener(connection, watched=number < int(watched)))
        if time.monotonic() > pong_at:
            # Those who came first must not be taken for dead before the last one is there.
            pong_at = time.monotonic() + pong_seconds
            say_pong(dialect, listeners)
    print(json.dumps({"ready": len(listeners)}), flush=True)
    Load(dialect, listeners).run()


if __name__ == "__main__":
    main()
