"""Inboxes while processes die: everybody is told of what concerns them, once, and the counts are always right."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from tests.ledger import ledger, leftovers
from tests.ledger.editors import ReconnectingEditor
from tests.ledger.inbox_truth import INBOX_FAULTS, Remark, Room, check_entries, check_steps, expected
from tests.ledger.ledger import Findings
from tests.ledger.replica_set import ReplicaSet
from tests.ledger.result import WARNINGS_PER_FAULT, Figures, Result, Size, result
from tests.ledger.stage import Stage, stage
from tests.ledger.writers import request

READERS = [f"reader{number}" for number in range(8)]
"""They see the open project only, and are mentioned in the private one all the same."""
MEMBER = "member"
CREATOR = "alice"
LANES = 12
TABS_PAUSE = 0.2


async def inboxes(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """Three processes; a random one is killed again and again while people are mentioned and read what they got."""
    rng = random.Random(seed)
    async with stage(members, folder, seed=seed, servers=3, inbox_max_entries="100000") as on:
        everybody = [*READERS, MEMBER, CREATOR]
        on.editors += [on.editor(f"{user}-{tab}", user, ["inbox"]) for user in everybody for tab in range(2)]
        for editor in on.editors:
            editor.start()
        await on.until(lambda: _live(on), "everybody to be connected")
        kills = 0

        async def kill() -> None:
            nonlocal kills
            await asyncio.sleep(size.seconds)
            process = rng.choice(on.processes)
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start)
            kills += 1

        reading = [asyncio.ensure_future(_read_along(on, user, random.Random(rng.random()))) for user in everybody]
        try:
            await on.during(_discuss(on, rng, size), kill, times=size.times)
        finally:
            for one in reading:
                one.cancel()
            await asyncio.wait(reading)
        remarks = await asyncio.to_thread(_remarks, on)
        wanted = expected(remarks, _rooms(on))
        findings = Findings()
        begun = time.monotonic()
        with contextlib.suppress(AssertionError):  # what is missing then is found below, and named
            await on.until(lambda: _complete(on, wanted), "the inboxes to be complete")
        behind = time.monotonic() - begun
        findings.merge(check_entries(wanted, await _entries(on)))
        findings.merge(check_steps(await asyncio.to_thread(_steps, on)))
        findings.merge(await _compared(on))
        await _close(on)
        secret = {remark.thread for remark in remarks if remark.project == on.private_project}
        for editor in on.editors:
            findings.merge(_leaked(editor, secret, allowed=editor.log.name.split("-")[0] in (MEMBER, CREATOR)))
        for number in range(len(on.processes)):
            lines = (folder / f"server-{number}.log").read_text(encoding="utf-8").splitlines()
            findings.merge(leftovers.check_log(lines, warnings=WARNINGS_PER_FAULT * (kills + 1)))
        figures: Figures = {
            "comments": len(remarks),
            "kills": kills,
            "entries": len(wanted),
            "events": sum(len(told) for told in wanted.values()),
            "steps recounted": findings.counts["steps"],
            "complete after, s": round(behind, 1),
            **{name: findings.counts[name] for name in INBOX_FAULTS},
            "leaked": findings.counts["leaked"],
        }
        return result(findings, figures, never={name: findings.counts[name] for name in INBOX_FAULTS}, bounds={})


async def _live(on: Stage) -> bool:
    return all(editor.settled for editor in on.editors)


def _rooms(on: Stage) -> dict[str, Room]:
    return {
        on.open_project: Room({*READERS, MEMBER, CREATOR}, CREATOR),
        on.private_project: Room({MEMBER, CREATOR}, CREATOR),
    }


# -- people -----------------------------------------------------------------------------------------------------------


async def _discuss(on: Stage, rng: random.Random, size: Size) -> None:
    """Another program writes comments with mentions; each thread belongs to one lane, so that its order is known."""
    numbers = iter(range(size.writes))
    begin = time.monotonic()

    async def lane(own: random.Random) -> None:
        threads: list[tuple[str, str]] = []
        for number in numbers:
            await asyncio.sleep(max(0.0, begin + number / size.per_second - time.monotonic()))
            await _remark(on, own, threads, f"remark-{number}")

    async with asyncio.TaskGroup() as lanes:
        for _ in range(LANES):
            lanes.create_task(lane(random.Random(rng.random())))


async def _remark(on: Stage, rng: random.Random, threads: list[tuple[str, str]], id_: str) -> None:
    if threads and rng.random() < 0.85:
        project, thread = rng.choice(threads)
    else:
        project, thread = rng.choice([on.open_project, on.open_project, on.private_project]), id_
        threads.append((project, thread))
        del threads[:-8]
    people = READERS if project == on.open_project else [MEMBER]
    named = rng.sample([*READERS, MEMBER], rng.choice((0, 1, 1, 3)))
    document = {
        "_id": id_,
        "project_id": project,
        **({} if thread == id_ else {"thread_id": thread}),
        "body": " ".join([id_, *(f"@{user}" for user in named)]),
        "author": rng.choice(people),
    }
    while True:
        try:
            await on.database.comments.insert_one({**document, "created_at": datetime.now(UTC)})
        except DuplicateKeyError:
            return  # an attempt before this one
        except PyMongoError:
            await asyncio.sleep(0.1)
        else:
            return


async def _read_along(on: Stage, user: str, rng: random.Random) -> None:
    """Two tabs of a person, who looks, reads, puts away and takes back while more arrives.

    Mostly one entry or a few; all of them now and then, since that writes each entry that there is.
    """
    editor = next(one for one in on.editors if one.log.name == f"{user}-0")
    while True:
        await asyncio.sleep(rng.uniform(0, 2 * TABS_PAUSE))
        store = editor.log.stores.get("inbox")
        entries = list(store.of("notification")) if store is not None else []
        seq = (store.counts or {}).get("seq", 0) if store is not None else 0
        state = rng.choice(("seen", "read", "read", "archived"))
        path, body, method = "/notifications/mark", {state: rng.random() < 0.8, "until": seq}, "POST"
        choice = rng.random() if entries else 1.0
        if choice < 0.8:
            path, body, method = f"/notifications/{rng.choice(entries)}", {state: rng.random() < 0.7}, "PATCH"
        elif choice < 0.98:
            body["ids"] = rng.sample(entries, min(len(entries), 10))
        await request(on.http, rng.choice(on.doors), method, path, body, token=on.token(user))


# -- what there is ----------------------------------------------------------------------------------------------------


def _remarks(on: Stage) -> list[Remark]:
    """All comments, in the order in which the database committed them."""
    remarks = []
    for change in _changes(on, ["comments"]):
        if change["operationType"] == "insert":
            document = change["fullDocument"]
            names = tuple(word[1:] for word in document["body"].split() if word.startswith("@"))
            thread = document.get("thread_id", document["_id"])
            remarks.append(Remark(document["_id"], document["project_id"], thread, document["author"], names))
    return remarks


def _steps(on: Stage) -> Iterator[list[dict[str, Any]]]:
    """The changes of inboxes by transaction."""
    changes = _changes(on, ["inboxes", "notifications"])
    for _, step in itertools.groupby(changes, key=lambda change: (change["clusterTime"], change.get("txnNumber"))):
        yield list(step)


def _changes(on: Stage, collections: Sequence[str]) -> Iterator[dict[str, Any]]:
    watched = {"$match": {"ns.coll": {"$in": list(collections)}}}
    # The events of an entry are most of it, and not what is counted.
    short = {"$unset": "fullDocument.events"}
    with pymongo.MongoClient[dict[str, Any]](on.replica_set.uri) as client:
        end = client.admin.command("ping")["operationTime"]
        with client[on.database_name].watch(
            [watched, short], "whenAvailable", start_at_operation_time=on.begin, max_await_time_ms=200
        ) as stream:
            while True:
                change = stream.try_next()
                if change is not None and change["clusterTime"] <= end:
                    yield dict(change)
                elif change is not None or _passed(stream.resume_token, end):
                    return


def _passed(token: Any, end: Any) -> bool:
    return (int(token["_data"][2:10], 16), int(token["_data"][10:18], 16)) > (end.time, end.inc)


async def _entries(on: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await on.database.notifications.find({"deleted_at": None}).to_list()
    return found


async def _complete(on: Stage, wanted: Any) -> bool:
    pipeline = [{"$match": {"deleted_at": None}}, {"$group": {"_id": None, "told": {"$sum": "$event_count"}}}]
    totals = await (await on.database.notifications.aggregate(pipeline)).to_list()
    return bool(totals) and totals[0]["told"] >= sum(len(told) for told in wanted.values())


async def _compared(on: Stage) -> Findings:
    """Every tab holds what a fresh read gives, the counts too."""
    findings = Findings()
    for editor in on.editors:
        user = editor.log.name.split("-")[0]
        fresh = await on.call("GET", "/notifications?limit=200", user=user)
        counts = await on.call("GET", "/notifications/count", user=user)

        async def level(editor: ReconnectingEditor = editor, counts: Any = counts) -> bool:
            store = editor.log.stores.get("inbox")
            return store is not None and store.counts is not None and store.counts["seq"] >= counts["seq"]

        with contextlib.suppress(AssertionError):
            await on.until(level, f"{editor.log.name} to have heard of everything")
        store = editor.log.stores["inbox"]
        held = {id_: store.of("notification").get(id_) for id_ in (entry["id"] for entry in fresh["items"])}
        findings.merge(ledger.check_converged(editor.log.name, held, {one["id"]: one for one in fresh["items"]}))
        counts.pop("code")
        if store.counts != counts:
            findings.add("not converged", f"{editor.log.name} counts {store.counts} where there are {counts}")
    return findings


def _leaked(editor: ReconnectingEditor, secret: set[str], *, allowed: bool) -> Findings:
    findings = Findings()
    if not allowed:
        for entry in editor.log.stores["inbox"].of("notification").values():
            if entry["subject"].get("thread_id") in secret:
                findings.add("leaked", f"{editor.log.name} was told of {entry['subject']}")
    return findings


async def _close(on: Stage) -> None:
    for editor in on.editors:
        await editor.stop()
