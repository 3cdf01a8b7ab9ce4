"""Many clients that come back at once, each with its position: how long until all are live again.

    python -m benchmarks.returning PORT CLIENTS EVENTS TOKEN TOPIC POSITION

All sockets are opened and speak before the first answer is read. Prints `{"ready": n}` when it may begin, begins with a
line on standard input, and prints a JSON object once every client is live and has had EVENTS events.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

from benchmarks.load import MARK, frame, handshake

LIVE = b'"push":"live"'


class Client:
    """One that comes back."""

    __slots__ = ("events", "live_after", "socket", "tail")

    def __init__(self, port: int, words: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.sendall(words)
        self.socket.setblocking(False)
        self.events, self.live_after, self.tail = 0, 0.0, b""

    def read(self, begun: float) -> bool:
        """Take what is there; whether that made it live."""
        data = self.socket.recv(262_144)
        if not data:
            raise RuntimeError(f"the server closed a client: {self.tail!r}")
        self.events += data.count(MARK)
        text, self.tail = self.tail + data, data[-len(LIVE) :]
        if LIVE in text:
            self.live_after = time.perf_counter() - begun
            return True
        return False


def main() -> None:
    port, count, events, token, topic, position = sys.argv[1:]
    hello = frame(json.dumps({"op": "hello", "id": 1, "token": token}).encode())
    subscribe = {"op": "subscribe", "id": 2, "topic": topic, "since": position}
    words = handshake("copydesk", int(port)) + hello + frame(json.dumps(subscribe).encode())
    print(json.dumps({"ready": int(count)}), flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    selector = selectors.EpollSelector()
    clients = [Client(int(port), words) for _ in range(int(count))]
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    waiting = len(clients)
    while waiting:
        for key, _ in selector.select():
            if key.data.read(begun):
                selector.unregister(key.fileobj)
                waiting -= 1
    times = sorted(client.live_after for client in clients)
    right = all(client.events == int(events) for client in clients)
    print(json.dumps({"half": times[len(times) // 2], "last": times[-1], "right": right}), flush=True)


if __name__ == "__main__":
    main()
