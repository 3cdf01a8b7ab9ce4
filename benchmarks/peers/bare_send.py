"""No relay anybody could run, but the limit of one in Python: the naive one with one `send` to each socket, unchecked.

    python bare_send.py URI DATABASE

One frame for all, and nothing is done for a client that does not read. Prints its port.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from typing import Any

from motor.motor_tornado import MotorClient
from naive_relay import Relay, text_of
from tornado.web import Application


def frame_of(text: str) -> bytes:
    """A server's frame of a text between 126 bytes and 64 KiB."""
    data = text.encode()
    return b"\x81\x7e" + struct.pack(">H", len(data)) + data


def tell_all(change: dict[str, Any]) -> None:
    frame = frame_of(text_of(change))
    for client in Relay.clients:
        client.ws_connection.stream.socket.send(frame)


async def main() -> None:
    uri, database = sys.argv[1:]
    collection = MotorClient(uri)[database].comments
    application = Application([("/", Relay, {"collection": collection, "per_socket": False})])
    server = application.listen(0, "127.0.0.1", backlog=4096)
    async with collection.watch(full_document="updateLookup") as stream:
        print(next(iter(server._sockets.values())).getsockname()[1], flush=True)  # noqa: SLF001 - as in the naive one
        async for change in stream:
            tell_all(change)


if __name__ == "__main__":
    asyncio.run(main())
