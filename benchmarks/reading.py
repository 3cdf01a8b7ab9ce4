"""How fast one process reads what lies in the change stream already: through our feed, with `async for`, bare, unread.

    python -m benchmarks.reading feed|async-for|pymongo|undecoded URI DATABASE OPERATION COUNT SECONDS

So many changes of that kind were made in its comments since that Unix time, and nothing after them. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from bson import CodecOptions, Timestamp
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient

from app.database import Connection
from app.feed import IMAGES, PIPELINE, ChangeFeed
from app.process import spare_what_stays


class Clock:
    """Counts changes of one kind, and notes what they took."""

    def __init__(self, operation: str, count: int, since: int) -> None:
        self._operation, self._count, self.since = operation, count, since
        self._waiting = count
        self._begun, self._cpu = time.perf_counter(), time.process_time()
        self.figures: dict[str, float] = {}

    def saw(self, change: Mapping[str, Any]) -> bool:
        """Whether that was all."""
        return self.counted(change["operationType"] == self._operation and change["ns"]["coll"] == "comments")

    def counted(self, number: int) -> bool:
        """Whether with so many more that was all."""
        self._waiting -= number
        if self._waiting > 0:
            return False
        self.figures[f"{self._operation}s per second"] = self._count / (time.perf_counter() - self._begun)
        self.figures[f"CPU microseconds per {self._operation}"] = 1e6 * (time.process_time() - self._cpu) / self._count
        return True

    @property
    def start(self) -> dict[str, Any]:
        """Where a stream has to begin."""
        return {"start_at_operation_time": Timestamp(self.since, 1), **IMAGES}


async def feed(uri: str, name: str, clock: Clock) -> None:
    """What Copydesk does."""
    spare_what_stays()
    connection = Connection(uri, name)
    reader = ChangeFeed(connection.stream_database, history_seconds=time.time() - clock.since, stale_seconds=60)
    async for batch in reader.batches():
        if any(map(clock.saw, batch.changes)):
            break
    await reader.stop()
    connection.close()


async def async_for(uri: str, name: str, clock: Clock) -> None:
    """What Motor's documentation shows."""
    async with AsyncIOMotorClient(uri)[name].watch(PIPELINE, **clock.start) as stream:
        async for change in stream:
            if clock.saw(change):
                return


def pymongo(uri: str, name: str, clock: Clock) -> None:
    """The driver alone."""
    with MongoClient[dict[str, Any]](uri)[name].watch(PIPELINE, **clock.start) as stream:
        for change in stream:
            if clock.saw(change):
                return


def undecoded(uri: str, name: str, clock: Clock) -> None:
    """What MongoDB hands out by itself: the same changes, counted and not looked into."""
    with MongoClient[dict[str, Any]](uri) as client:
        database = client[name]
        stream = {
            "fullDocument": IMAGES["full_document"],
            "fullDocumentBeforeChange": IMAGES["full_document_before_change"],
            "startAtOperationTime": clock.start["start_at_operation_time"],
        }
        command: dict[str, Any] = {"aggregate": 1, "pipeline": [{"$changeStream": stream}, *PIPELINE], "cursor": {}}
        while True:
            cursor = database.command(command, codec_options=CodecOptions(document_class=RawBSONDocument))["cursor"]
            if clock.counted(len(cursor["firstBatch" if "aggregate" in command else "nextBatch"])):
                return
            command = {"getMore": cursor["id"], "collection": "$cmd.aggregate"}


def main() -> None:
    """The command line."""
    way, uri, name, operation, count, since = sys.argv[1:]
    clock = Clock(operation, int(count), int(since))
    if way in ("pymongo", "undecoded"):
        {"pymongo": pymongo, "undecoded": undecoded}[way](uri, name, clock)
    else:
        asyncio.run({"feed": feed, "async-for": async_for}[way](uri, name, clock))
    print(json.dumps(clock.figures), flush=True)


if __name__ == "__main__":
    main()
