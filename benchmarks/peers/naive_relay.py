"""A relay as Motor's documentation shows it (examples, "change stream"): Tornado, `async for`, `write_message` to each.

    python naive_relay.py URI DATABASE shared|per-socket|bare-send

Prints its port. `shared` is one change stream for all sockets; `per-socket` opens one for each. `bare-send` is no relay
that anybody could run, but the limit of one in Python: `shared` with one `send` of one ready frame to each socket, and
nothing done for a client that does not read.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from motor.motor_tornado import MotorClient, MotorCollection
from tornado.web import Application
from tornado.websocket import WebSocketHandler


def text_of(change: dict[str, Any]) -> str:
    """What clients are sent."""
    return json.dumps({"change": change["operationType"], "doc": change["fullDocument"]}, default=str)


class Relay(WebSocketHandler):
    """One client."""

    clients: ClassVar[set[Relay]] = set()

    def initialize(self, collection: MotorCollection, per_socket: bool) -> None:
        self.collection, self.per_socket = collection, per_socket
        self.task: asyncio.Task[None] | None = None

    def open(self) -> None:
        Relay.clients.add(self)
        if self.per_socket:
            self.task = asyncio.ensure_future(self.relay())

    def on_close(self) -> None:
        Relay.clients.discard(self)
        if self.task is not None:
            self.task.cancel()

    def on_message(self, message: str | bytes) -> None:
        """Clients have nothing to say here."""

    async def relay(self) -> None:
        async with self.collection.watch(full_document="updateLookup") as stream:
            await stream.try_next()
            await self.write_message('{"live": true}')
            async for change in stream:
                await self.write_message(text_of(change))


async def relay_to_all(collection: MotorCollection, tell: Callable[[dict[str, Any]], None]) -> None:
    async with collection.watch(full_document="updateLookup") as stream:
        async for change in stream:
            tell(change)


def tell_all(change: dict[str, Any]) -> None:
    message = text_of(change)
    for client in Relay.clients:
        client.write_message(message)


def send_to_all(change: dict[str, Any]) -> None:
    """As `tell_all`, for texts between 126 bytes and 64 KiB."""
    text = text_of(change).encode()
    frame = b"\x81\x7e" + struct.pack(">H", len(text)) + text
    for client in Relay.clients:
        client.ws_connection.stream.socket.send(frame)


async def main() -> None:
    uri, database, mode = sys.argv[1:]
    collection = MotorClient(uri)[database].comments
    application = Application([("/", Relay, {"collection": collection, "per_socket": mode == "per-socket"})])
    server = application.listen(0, "127.0.0.1", backlog=4096)
    tell = send_to_all if mode == "bare-send" else tell_all
    relaying = None if mode == "per-socket" else asyncio.ensure_future(relay_to_all(collection, tell))
    port = next(iter(server._sockets.values())).getsockname()[1]  # noqa: SLF001 - a port of 0 shows nowhere else
    print(port, flush=True)
    await (relaying or asyncio.Event().wait())


if __name__ == "__main__":
    asyncio.run(main())
