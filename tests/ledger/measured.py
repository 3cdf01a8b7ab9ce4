"""What is asked of the database and of the processes themselves, beside everything that Copydesk says."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pymongo
from bson import Timestamp
from tornado.httpclient import AsyncHTTPClient

from tests.ledger.ledger import Truth, commit_of
from tests.ledger.leftovers import Usage
from tests.real.processes import Process

WATCHED = ("projects", "items", "comments", "activities")


def commits(uri: str, database: str, begin: Timestamp) -> Truth:
    """All that was committed since then, in the database's own order. Blocks."""
    found = []
    topics: dict[str, str] = {}
    watched = {"$match": {"ns.coll": {"$in": list(WATCHED)}}}
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        end = client.admin.command("ping")["operationTime"]
        with client[database].watch([watched], start_at_operation_time=begin, max_await_time_ms=200) as stream:
            while True:
                change = stream.try_next()
                if change is not None and change["clusterTime"] <= end:
                    found.append(commit_of(change, topics))
                elif change is not None or _time_of(stream.resume_token) > (end.time, end.inc):
                    return Truth(found)


def _time_of(token: Any) -> tuple[int, int]:
    """As in `app.position.token_time`, but not by it."""
    return int(token["_data"][2:10], 16), int(token["_data"][10:18], 16)


async def metrics(client: AsyncHTTPClient, process: Process) -> dict[str, float]:
    """What `/metrics` says, by name with labels."""
    answer = await client.fetch(f"{process.url}/metrics")
    lines = re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", answer.body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in lines}


async def usage(client: AsyncHTTPClient, process: Process) -> Usage:
    """Files and threads as the system counts them, connections and subscriptions as the process does."""
    said = await metrics(client, process)
    system = Path(f"/proc/{process.pid}")
    return Usage(
        files=len(list((system / "fd").iterdir())),
        threads=len(list((system / "task").iterdir())),
        connections=int(sum(value for name, value in said.items() if name.startswith("copydesk_connections"))),
        subscriptions=int(said["copydesk_subscriptions"]),
    )


def resident_bytes(process: Process) -> int:
    """Memory that the process has, as the system counts it."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def unix_time(text: str) -> float:
    """Of a public time."""
    return datetime.fromisoformat(text).timestamp()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
