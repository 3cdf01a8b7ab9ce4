"""A process of listeners, started and asked; and the comments that are written for them."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pymongo import MongoClient, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from app.consequences import apply_schema
from app.database import Connection
from benchmarks.machine import LOAD_CORE
from benchmarks.relays import Running, ask, child, said

PROJECT = "bench"
FILLER = "Could we have the second paragraph a little shorter, and a picture with more light in it? "


class Listeners:
    """Listeners that are all subscribed."""

    def __init__(self, process: subprocess.Popen[str], count: int) -> None:
        self._process, self.count, self.pid = process, count, process.pid

    def await_all(self, events: int) -> dict[str, Any]:
        """Wait until each has had so many since the start. Raises `RuntimeError` where not each of them had its own."""
        ask(self._process, events)
        report: dict[str, Any] = json.loads(said(self._process))
        if not report["right"] or not report["ordered"]:
            raise RuntimeError("events were lost, doubled or out of order")
        return report


@contextmanager
def listening(running: Running, count: int, *, watched: int = 10, project: str = PROJECT) -> Iterator[Listeners]:
    """So many listeners of the project, in one process on the other core."""
    command = (sys.executable, "-m", "benchmarks.load", running.dialect, str(running.port), str(count), str(watched))
    arguments = (running.token, f"project:{project}") if running.token else ()
    with child(*command, *arguments, core=LOAD_CORE) as process:
        said(process)
        yield Listeners(process, count)


class Writer:
    """Writes comments straight into MongoDB, as a CMS does, or as the relay wants it."""

    save: Callable[[dict[str, Any]], None] | None = None
    """What writes a comment instead."""

    def __init__(self, uri: str, database: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.database: Database[dict[str, Any]] = self._client[database]
        self._numbers = itertools.count(1)
        self.written = 0

    @property
    def comments(self) -> Collection[dict[str, Any]]:
        """Where they go."""
        return self.database.comments

    def project(self, *others: str) -> None:
        """The project that they belong to, and others."""
        self.database.projects.insert_many(
            {"_id": id_, "name": "Benchmark", "version": 1, "created_at": datetime.now(UTC)}
            for id_ in (PROJECT, *others)
        )

    def one(self) -> None:
        """One more comment, committed."""
        if self.save is not None:
            self.save(self._next())
        else:
            self.comments.insert_one(self._next())
        self.written += 1

    def elsewhere(self, project: str) -> None:
        """A comment in another project, of which no listener hears."""
        self.comments.insert_one({**self._next(), "project_id": project})

    def many(self, count: int) -> None:
        """An import."""
        if self.save is not None:
            # Several at once would come in any order.
            for _ in range(count):
                self.save(self._next())
        else:
            for begin in range(0, count, 1000):
                self.comments.insert_many([self._next() for _ in range(begin, min(begin + 1000, count))])
        self.written += count

    def edit_all(self) -> None:
        """Every comment is changed once."""
        ids = [document["_id"] for document in self.comments.find({}, {"_id": 1})]
        edits = [UpdateOne({"_id": one}, {"$set": {"body": FILLER}, "$inc": {"version": 1}}) for one in ids]
        for begin in range(0, len(edits), 1000):
            self.comments.bulk_write(edits[begin : begin + 1000])

    def _next(self) -> dict[str, Any]:
        number = next(self._numbers)
        return {
            "_id": f"comment{number:08}",
            "project_id": PROJECT,
            "body": f"{FILLER}{number} {time.perf_counter_ns()}^",
            "author": "alice",
            "created_at": datetime.now(UTC),
            "version": 1,
        }

    def close(self) -> None:
        """Leave, and the database with it."""
        self._client.drop_database(self.database.name)
        self._client.close()


def with_images(uri: str, name: str) -> None:
    """Collections as Copydesk makes them, where it does not run itself."""

    async def make() -> None:
        connection = Connection(uri, name)
        try:
            await apply_schema(connection.database)
        finally:
            connection.close()

    asyncio.run(make())
