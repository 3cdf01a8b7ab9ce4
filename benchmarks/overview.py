"""The overview of a large project: over HTTP, by the driver alone, and when nothing has changed."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database

from benchmarks.listeners import FILLER, PROJECT, Writer
from benchmarks.machine import Meter
from benchmarks.relays import Running, copydesk
from benchmarks.shapes import Figures, database_name
from models.overview import ITEMS_SHOWN
from models.overview_store import FACETS

REPLIES = 9
"""Behind each first comment."""


def fill(database: Database[dict[str, Any]], *, items: int, comments: int) -> None:
    """A project as people leave it: every item has its share of the comments, in threads of ten."""
    begun = datetime.now(UTC) - timedelta(days=30)
    database.items.insert_many(
        {
            "_id": f"item{number:06}",
            "project_id": PROJECT,
            "content": {"id": f"content{number}", "version": "1"},
            "name": f"Article number {number}",
            "type": "page",
            "status": "draft",
            "rank": number,
            "version": 1,
            "created_at": begun,
        }
        for number in range(items)
    )
    database.comments.insert_many(
        {
            "_id": f"comment{number:08}",
            "project_id": PROJECT,
            "item_id": f"item{number // (REPLIES + 1) % items:06}",
            **({"thread_id": f"comment{number - number % (REPLIES + 1):08}"} if number % (REPLIES + 1) else {}),
            "body": FILLER,
            "author": "alice",
            "version": 1,
            "created_at": begun + timedelta(minutes=number),
        }
        for number in range(comments)
    )


def by_driver(database: Database[dict[str, Any]]) -> None:
    """The same questions, with nothing done to the answers."""
    list(database.projects.find({"_id": PROJECT}))
    here = {"project_id": PROJECT, "deleted_at": None}
    list(database.items.find(here, sort=[("rank", 1), ("_id", 1)], limit=ITEMS_SHOWN + 1))
    list(database.items.aggregate([{"$match": here}, {"$group": {"_id": "$status", "count": {"$sum": 1}}}]))
    (facets,) = database.comments.aggregate([{"$match": {"project_id": PROJECT}}, *FACETS])
    threads = [entry["_id"] for entry in facets["newest"]]
    either = [{"thread_id": {"$in": threads}}, {"_id": {"$in": threads}, "thread_id": None}]
    list(database.comments.find({"project_id": PROJECT, "$or": either}))


def nothing() -> None:
    """Before what needs no preparation."""


def over_http(running: Running, tag: str | None = None) -> tuple[int, str, int]:
    """Status, entity tag and length of one answer."""
    client = http.client.HTTPConnection("127.0.0.1", running.port)
    headers = {"Authorization": f"Bearer {running.token}", **({"If-None-Match": tag} if tag else {})}
    client.request("GET", f"/api/v1/projects/{PROJECT}/overview", headers=headers)
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer.status, answer.headers["ETag"], len(body)


def post_comment(running: Running) -> None:
    """By the API, on the project itself."""
    client = http.client.HTTPConnection("127.0.0.1", running.port)
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}
    client.request("POST", f"/api/v1/projects/{PROJECT}/comments", json.dumps({"body": FILLER}), headers)
    status = client.getresponse().status
    client.close()
    if status != 201:
        raise RuntimeError(f"a comment is answered with {status}")


def median_ms(work: Callable[[], object], times: int, *, before: Callable[[], object]) -> float:
    """How long it takes, without what is done before each."""
    taken = []
    for _ in range(times):
        before()
        begun = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(taken)


def overview(uri: str, *, items: int, comments: int, times: int) -> dict[str, Figures]:
    """In turn, so that what disturbs one disturbs all."""
    name = database_name()
    writer = Writer(uri, name)
    try:
        writer.project()
        with copydesk(uri, name) as running, copydesk(uri, name, "--overviews-bytes", "1") as forgetful:
            fill(writer.database, items=items, comments=comments)
            status, tag, length = over_http(running)
            tags = [tag]
            if status != 200 or over_http(running, tag)[0] != 304:
                raise RuntimeError(f"the overview is answered with {status}, and not with 304 the second time")
            documents = writer.database

            def item() -> None:
                documents.items.update_one({"_id": "item000000"}, {"$set": {"name": f"Name {time.time()}"}})
                time.sleep(0.2)  # what follows from it is written down, and no more in the way

            def comment() -> None:
                last = f"comment{comments - 1:08}"
                documents.comments.update_one({"_id": last}, {"$set": {"body": f"{FILLER} {time.time()}"}})
                time.sleep(0.2)

            ways: dict[str, tuple[Running, Callable[[], object], Callable[[], object]]] = {
                "bare queries by PyMongo": (running, nothing, lambda: by_driver(documents)),
                "GET overview after a change of an item": (running, item, lambda: over_http(running)),
                "GET overview after a change of a comment": (running, comment, lambda: over_http(running)),
                "GET overview right after a comment was posted": (
                    running,
                    lambda: post_comment(running),
                    lambda: over_http(running),
                ),
                "GET overview again": (running, nothing, lambda: over_http(running)),
                "GET overview again, 304": (running, nothing, lambda: over_http(running, tags[-1])),
                "GET overview with nothing kept": (forgetful, nothing, lambda: over_http(forgetful)),
            }
            figures: dict[str, Figures] = {}
            for way, (server, before, work) in ways.items():
                tags.append(over_http(server)[1])
                meter = Meter(server.pid)
                figures[way] = {
                    "p50 ms": median_ms(work, times, before=before),
                    "server CPU ms": 1e3 * meter.read().total / times,
                    "KiB": 0.0 if way.endswith(("PyMongo", "304")) else length / 1024,
                    "core taken by others": meter.taken_by_others,
                }
            return figures
    finally:
        writer.close()
