"""Those who write while things break: other programs by plain PyMongo, and editors over REST. All of it is logged.

Every write has a mark, a text of its own that is found again in the database and in events.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse

from tests.ledger.editors import Door
from tests.ledger.ledger import Outcome, Write

PATIENCE_SECONDS = 90.0
"""For one write, with all its repetitions: the mark of a key whose process was killed lapses after 60 s."""
ITEMS = 0.1
"""Of what programs insert; each has to give one entry of the change log."""
LARGEST = 2000
"""Comments that one writer keeps changing; so a snapshot stays small however long it writes."""


class Writer:
    """Writes at a pace to some projects, several writes at once, until it has made as many as it should."""

    def __init__(self, name: str, projects: Sequence[str], rng: random.Random, *, lanes: int) -> None:
        self.name, self._projects, self._rng, self._lanes = name, projects, rng, lanes
        self.writes: list[Write] = []
        self.patience_seconds = PATIENCE_SECONDS
        self._numbers = itertools.count(1)
        self._free: list[tuple[str, str]] = []
        """Comments of this writer that nobody is changing just now, with their projects."""

    async def run(self, count: int, per_second: float) -> None:
        """Returns when everything was answered, or given up."""
        due = _pace(count, per_second)
        async with asyncio.TaskGroup() as lanes:
            for _ in range(self._lanes):
                lanes.create_task(self._lane(due))

    async def _lane(self, due: Iterator[float]) -> None:
        for moment in due:
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            mark = f"{self.name}-{next(self._numbers)}"
            outcome = await self._write(mark)
            self.writes.append(Write(self.name, mark, outcome, time.time()))

    async def _write(self, mark: str) -> Outcome:
        """One write. What was changed last comes last again, so that versions spread."""
        if not self._free or (len(self._free) < LARGEST and self._rng.random() < 0.5):
            return await self._insert(self._rng.choice(self._projects), mark)
        place = self._free.pop(self._rng.randrange(len(self._free)))
        outcome = await self._change(*place, mark)
        if outcome != "failed":
            self._free.append(place)
        return outcome

    async def _insert(self, project: str, mark: str) -> Outcome:
        raise NotImplementedError

    async def _change(self, project: str, comment: str, mark: str) -> Outcome:
        raise NotImplementedError


def _pace(count: int, per_second: float) -> Iterator[float]:
    """When each write is due. What was late is not made up for all at once: five seconds of it at most."""
    begin = time.monotonic()
    for number in range(count):
        moment = begin + number / per_second
        late = time.monotonic() - moment - 5.0
        if late > 0:
            begin += late
        yield moment


class ProgramWriter(Writer):
    """Another program: plain PyMongo, majority writes, ids decided before the first attempt."""

    def __init__(
        self,
        name: str,
        projects: Sequence[str],
        rng: random.Random,
        *,
        database: AsyncDatabase[dict[str, Any]],
        bare: bool,
    ) -> None:
        """`bare`: now and then it changes a comment without raising its version, or removes one for good."""
        super().__init__(name, projects, rng, lanes=12)
        self._comments, self._items, self._bare = database.comments, database.items, bare

    async def _insert(self, project: str, mark: str) -> Outcome:
        document: dict[str, Any] = {
            "_id": mark,
            "project_id": project,
            "created_at": datetime.now(UTC),
            "version": 1,
        }
        if self._rng.random() < ITEMS:
            content = {"id": mark, "version": "1"}
            item = {**document, "name": mark, "content": content, "type": "page", "status": "draft"}
            return await self._until_inserted(self._items, item)
        comment = {**document, "body": mark, "author": self.name}
        outcome = await self._until_inserted(self._comments, comment)
        if outcome == "ok":
            self._free.append((project, mark))
        return outcome

    async def _until_inserted(self, collection: AsyncCollection[dict[str, Any]], document: dict[str, Any]) -> Outcome:
        deadline = time.monotonic() + self.patience_seconds
        while time.monotonic() < deadline:
            try:
                await collection.insert_one(document)
            except DuplicateKeyError:
                return "ok"  # an attempt before this one
            except PyMongoError:
                await asyncio.sleep(self._rng.uniform(0.05, 0.3))
            else:
                return "ok"
        return "unknown"

    async def _change(self, project: str, comment: str, mark: str) -> Outcome:
        chance = self._rng.random() if self._bare else 1.0
        try:
            if chance < 0.02:
                await self._comments.delete_one({"_id": comment})
                return "failed"  # this mark is nowhere, and the comment is not changed again
            raised = {"$inc": {"version": 1}} if chance >= 0.06 else {}
            done = await self._comments.update_one({"_id": comment}, {"$set": {"body": mark}, **raised})
        except PyMongoError:
            await asyncio.sleep(self._rng.uniform(0.05, 0.3))
            return "unknown"
        return "ok" if done.matched_count else "failed"


class RestWriter(Writer):
    """An editor's program: POST with a key, repeated with the same key until it is answered; PATCH likewise."""

    def __init__(
        self,
        name: str,
        projects: Sequence[str],
        rng: random.Random,
        *,
        token: str,
        doors: Callable[[], Sequence[Door]],
        client: AsyncHTTPClient,
    ) -> None:
        super().__init__(name, projects, rng, lanes=4)
        self._token, self._doors, self._client = token, doors, client

    async def _insert(self, project: str, mark: str) -> Outcome:
        answer = await self._until_answered("POST", f"/projects/{project}/comments", mark, Idempotency_Key=mark)
        if answer is None:
            return "unknown"
        if answer.code != 201:
            return "failed"
        self._free.append((project, json.loads(answer.body)["id"]))
        return "ok"

    async def _change(self, project: str, comment: str, mark: str) -> Outcome:
        # A PATCH that changes nothing writes nothing, so this one may be repeated.
        answer = await self._until_answered("PATCH", f"/projects/{project}/comments/{comment}", mark)
        if answer is None:
            return "unknown"
        return "ok" if answer.code == 200 else "failed"

    async def _until_answered(self, method: str, path: str, mark: str, **headers: str) -> HTTPResponse | None:
        """Repeat what had no answer, or one that says to; None where patience ended."""
        deadline = time.monotonic() + self.patience_seconds
        while time.monotonic() < deadline:
            answer = await request(
                self._client,
                self._rng.choice(self._doors()),
                method,
                path,
                {"body": mark},
                token=self._token,
                **headers,
            )
            if answer is not None and answer.code not in (409, 429, 503):
                return answer
            await asyncio.sleep(self._rng.uniform(0.1, 0.5))
        return None


async def request(
    client: AsyncHTTPClient,
    door: Door,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None,
    seconds: float = 12.0,
    **headers: str,
) -> HTTPResponse | None:
    """One REST request; None where there was no answer. Underscores in header names become hyphens."""
    sent = {**door.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    if body is not None:
        sent["Content-Type"] = "application/json"
    with suppress(OSError, TimeoutError, HTTPClientError):
        answer: HTTPResponse = await client.fetch(
            f"http://127.0.0.1:{door.port}{'' if path.startswith('/readyz') else '/api/v1'}{path}",
            method=method,
            headers=sent,
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            raise_error=False,
            connect_timeout=3.0,
            request_timeout=seconds,
        )
        return answer
    return None


def program(uri: str, name: str) -> tuple[pymongo.AsyncMongoClient[dict[str, Any]], AsyncDatabase[dict[str, Any]]]:
    """A client of another program, and its database."""
    client = pymongo.AsyncMongoClient[dict[str, Any]](
        uri,
        w="majority",
        # A writer that waits for a hung member writes nothing meanwhile, and there would be nothing to measure.
        serverSelectionTimeoutMS=5000,
        socketTimeoutMS=3000,
        connectTimeoutMS=1000,
        heartbeatFrequencyMS=1000,
    )
    return client, client[name]
