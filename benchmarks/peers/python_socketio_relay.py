"""A relay with python-socketio, as its documentation shows it (getting started): aiohttp, `emit` to a room.

    python python_socketio_relay.py URI DATABASE

One change stream for all, read with PyMongo's asyncio client. Prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import socketio
from aiohttp import web
from pymongo import AsyncMongoClient

ROOM = "project"
WITH_TIMES = SimpleNamespace(dumps=partial(json.dumps, default=str), loads=json.loads)
"""In the place of the module `json`, which knows no times; a comment has one."""


async def main() -> None:
    uri, database = sys.argv[1:]
    # Polling first would only make the connecting longer. Packets are compressed for those who ask for it: nobody here.
    server = socketio.AsyncServer(async_mode="aiohttp", transports=["websocket"], json=WITH_TIMES)

    @server.event
    async def connect(sid: str, environ: dict[str, Any], auth: object) -> None:
        await server.enter_room(sid, ROOM)

    application = web.Application()
    server.attach(application)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    collection = AsyncMongoClient[dict[str, Any]](uri)[database].comments
    async with await collection.watch(full_document="updateLookup") as stream:
        print(runner.addresses[0][1], flush=True)
        async for change in stream:
            event = {"change": change["operationType"], "doc": change["fullDocument"]}
            await server.emit("change", event, room=ROOM)


if __name__ == "__main__":
    asyncio.run(main())
