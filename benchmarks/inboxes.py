"""Notifications: how long until the mentioned hear of it, and what a thread with many followers costs its author.

    .venv/bin/python -m benchmarks.inboxes [--comments 200] [--followers 1000]

Prints a table; ends with exit code 1 if an inbox is not what it has to be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pymongo
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from benchmarks.editors import Listener
from benchmarks.processes import Served, copydesk, pin

MENTIONED = ("ann", "ben", "cem")
PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 120.0


class Inbox(Listener):
    """A listener of an inbox: how long after each commit its newest event arrived, in seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.delays: dict[str, float] = {}

    def heard(self, payload: bytes) -> None:
        """Note when the newest event of each entry came."""
        now = time.time()
        for event in json.loads(payload)["events"]:
            if event["kind"] == "notification":
                newest = event["doc"]["events"][0]
                self.delays.setdefault(newest["id"], now - datetime.fromisoformat(newest["at"]).timestamp())


class Author:
    """Posts comments over REST and takes the time of each."""

    def __init__(self, served: Served) -> None:
        self._url, self._client = served.url, AsyncHTTPClient(force_instance=True)
        self._headers = {
            "Authorization": f"Bearer {served.token('author')}",
            "Content-Type": "application/json",
        }

    async def post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """The answer, and how many seconds it took."""
        begun = time.perf_counter()
        response = await self._client.fetch(
            HTTPRequest(f"{self._url}/api/v1{path}", method="POST", headers=self._headers, body=json.dumps(body))
        )
        return json.loads(response.body), time.perf_counter() - begun


async def mentions(served: Served, author: Author, project: str, comments: int) -> list[float]:
    """Each comment mentions three people, who have their inboxes open: the seconds from its commit to their sockets."""
    inboxes = [await Inbox.connect(served.url, served.token(user), "inbox") for user in MENTIONED]
    tasks = [asyncio.ensure_future(inbox.listen()) for inbox in inboxes]
    await asyncio.gather(*(inbox.live.wait() for inbox in inboxes))
    text = " ".join(f"@{user}" for user in MENTIONED)
    for number in range(comments):
        await author.post(f"/projects/{project}/comments", {"body": f"Number {number}: {text}"})
        await asyncio.sleep(PAUSE_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(len(inbox.delays) < comments for inbox in inboxes):  # noqa: ASYNC110 - told by sockets
            await asyncio.sleep(0.05)
    for inbox in inboxes:
        inbox.close()
    await asyncio.gather(*tasks)
    return sorted(delay for inbox in inboxes for delay in inbox.delays.values())


async def many_followers(
    author: Author, project: str, database: Any, comments: int, followers: int
) -> tuple[float, float, float, int]:
    """Replies in turn in a thread that nobody follows and in one with many followers.

    The median seconds of a POST in each, how long the inboxes took to be complete, and how many are wrong then.
    """
    threads = [(await author.post(f"/projects/{project}/comments", {"body": "First"}))[0]["id"] for _ in range(2)]
    quiet, busy = threads
    now = datetime.now(UTC)
    database.subscriptions.insert_many(
        {
            "_id": f"follower-{number}",
            "user_id": f"follower{number}",
            "subject": f"thread:{busy}",
            "level": "follow",
            "since": now,
            "version": 1,
        }
        for number in range(followers)
    )
    seconds: dict[str, list[float]] = {quiet: [], busy: []}
    for _ in range(comments):
        for thread in threads:
            _, took = await author.post(f"/projects/{project}/comments", {"body": "More", "thread_id": thread})
            seconds[thread].append(took)
            await asyncio.sleep(PAUSE_SECONDS)
    begun = time.perf_counter()
    complete = {"subject.thread_id": busy, "event_count": comments, "deleted_at": None}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while database.notifications.count_documents(complete) < followers:  # noqa: ASYNC110 - the database is asked
            await asyncio.sleep(0.1)
    settled = time.perf_counter() - begun
    right = {"unseen": 1, "unread": 1, "_id": {"$regex": "^follower"}}
    wrong = followers - database.inboxes.count_documents(right)
    return statistics.median(seconds[quiet]), statistics.median(seconds[busy]), settled, wrong


async def run(comments: int, followers: int) -> int:
    """One run; returns the exit code."""
    with copydesk() as served:
        pin(0, pid=served.pid)
        pin(1)
        author = Author(served)
        project = (await author.post("/projects", {"name": "Bench"}))[0]["id"]
        delays = await mentions(served, author, project, comments)
        with pymongo.MongoClient[dict[str, Any]](served.mongodb_uri) as client:
            quiet, busy, settled, wrong = await many_followers(
                author, project, client["copydesk"], comments // 10, followers
            )
    rows = [
        ("comments that mention three people", comments),
        ("commit to the mentioned editor's socket, p50", f"{statistics.median(delays) * 1000:.1f} ms"),
        ("the same, p99", f"{delays[int(len(delays) * 0.99)] * 1000:.1f} ms"),
        ("POST in a thread without followers, median", f"{quiet * 1000:.1f} ms"),
        (f"POST in a thread with {followers} followers, median", f"{busy * 1000:.1f} ms"),
        ("ratio", f"{busy / quiet:.2f}"),
        (f"all inboxes complete after the last of {comments // 10} replies", f"{settled:.1f} s"),
        ("inboxes that are wrong then", wrong),
    ]
    print("| what | figure |\n| --- | --- |")
    for name, figure in rows:
        print(f"| {name} | {figure} |")
    return 1 if wrong else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--comments", type=int, default=200)
    parser.add_argument("--followers", type=int, default=1000)
    arguments = parser.parse_args()
    return asyncio.run(run(arguments.comments, arguments.followers))


if __name__ == "__main__":
    sys.exit(main())
