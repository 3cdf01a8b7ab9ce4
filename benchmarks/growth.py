"""What stays the same as the work grows: projects, other connections, processes; and everyone coming back at once."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import Any

from pymongo import MongoClient

from benchmarks.listeners import PROJECT, Listeners, Writer, listening
from benchmarks.load import newest_position
from benchmarks.machine import LOAD_CORE, Meter
from benchmarks.relays import Running, ask, child, copydesk, said
from benchmarks.shapes import Figures, database_name


def _per_event(
    running: Running, heard: Listeners, writer: Writer, *, events: int, rest_seconds: float, others: list[str]
) -> Figures:
    """CPU for each event, one at a time, beyond what is used in `rest_seconds` without; nobody hears of `others`."""
    for number in range(20):
        writer.one()
        heard.await_all(writer.written)
        if others:
            writer.elsewhere(others[number % len(others)])
    meter = Meter(*running.pids)
    time.sleep(rest_seconds)
    idle = meter.read().total / meter.seconds
    meter = Meter(*running.pids)
    for number in range(events):
        if others:
            writer.elsewhere(others[number * 7919 % len(others)])
        writer.one()
        heard.await_all(writer.written)
    cost, seconds = meter.read().total, meter.seconds
    written = events * (2 if others else 1)
    return {
        "CPU microseconds per event": 1e6 * (cost - idle * seconds) / written,
        "cores in use without events": idle,
        "core taken by others": meter.taken_by_others,
    }


def projects(uri: str, *, count: int, events: int, rest_seconds: float) -> Figures:
    """Ten listeners of one project among many; every second comment is in one of the others."""
    name = database_name()
    others = [f"other{number}" for number in range(count - 1)]
    writer = Writer(uri, name)
    try:
        writer.project(*others)
        with copydesk(uri, name) as running, listening(running, 10) as heard:
            writer.one()
            heard.await_all(writer.written)
            return _per_event(running, heard, writer, events=events, rest_seconds=rest_seconds, others=others)
    finally:
        writer.close()


def connections(uri: str, *, count: int, events: int, rest_seconds: float) -> Figures:
    """A hundred listeners of one project beside so many of another one, in which nothing happens."""
    name = database_name()
    writer = Writer(uri, name)
    try:
        writer.project("quiet")
        with (
            copydesk(uri, name) as running,
            listening(running, count, watched=0, project="quiet") as quiet,
            listening(running, 100) as heard,
        ):
            writer.one()
            heard.await_all(writer.written)
            figures = _per_event(running, heard, writer, events=events, rest_seconds=rest_seconds, others=[])
            quiet.await_all(0)  # they are still there, and heard nothing
            return figures
    finally:
        writer.close()


def processes(uri: str, *, count: int, listeners: int, events: int) -> Figures:
    """The same listeners shared by several processes on one core: what one delivery costs all of them together."""
    name = database_name()
    writer = Writer(uri, name)
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    try:
        writer.project()
        with ExitStack() as stack:
            before = _change_streams(client)
            running = [stack.enter_context(copydesk(uri, name)) for _ in range(count)]
            heard = [stack.enter_context(listening(one, listeners // count)) for one in running]
            meter: Meter | None = None
            for number in range(events + 10):
                if number == 10:
                    meter = Meter(*(one.pid for one in running))
                writer.one()
                for each in heard:
                    each.await_all(writer.written)
            if meter is None:
                raise ValueError("no events")
            cost = meter.read().total
            return {
                "deliveries per CPU-second": events * listeners / cost,
                "change streams open": _change_streams(client) - before,
                "core taken by others": meter.taken_by_others,
            }
    finally:
        client.close()
        writer.close()


def _change_streams(client: MongoClient[dict[str, Any]]) -> float:
    """How many change streams MongoDB serves, at work or waiting."""
    found = client.admin.aggregate(
        [
            {"$currentOp": {"idleCursors": True, "allUsers": True}},
            {"$match": {"cursor.originatingCommand.pipeline.0.$changeStream": {"$exists": True}}},
            {"$group": {"_id": "$cursor.cursorId"}},
        ]
    )
    return float(len(list(found)))


def returning(uri: str, *, clients: int, missed: int) -> Figures:
    """All come back in the same moment, each with a position that the ring still covers."""
    name = database_name()
    writer = Writer(uri, name)
    database = writer.database
    try:
        writer.project()
        with copydesk(uri, name) as running:
            topic = f"project:{PROJECT}"
            with listening(running, 1) as heard:
                writer.one()
                heard.await_all(1)
            position = newest_position(running.port, token=running.token, topic=topic)
            with listening(running, 1) as heard:
                writer.many(missed)
                heard.await_all(missed)
            arguments = (str(running.port), str(clients), str(missed), running.token, topic, position)
            with child(sys.executable, "-m", "benchmarks.returning", *arguments, core=LOAD_CORE) as process:
                said(process)
                database.command("profile", 2)
                meter = Meter(running.pid)
                ask(process, 1)
                report: dict[str, Any] = json.loads(said(process))
                cost, seconds = meter.read().total, meter.seconds
                database.command("profile", 0)
                if not report["right"]:
                    raise RuntimeError("a client did not get what it had missed")
                # The server asks about other things too: its lease, the change stream.
                asked = database["system.profile"].count_documents(
                    {"op": {"$in": ["query", "command"]}, "ns": {"$nin": [f"{name}.leases", f"{name}.$cmd.aggregate"]}}
                )
                return {
                    "seconds until all were live": report["last"],
                    "seconds until half were live": report["half"],
                    "CPU milliseconds per client": 1e3 * cost / clients,
                    "queries in all": asked,
                    "seconds in all": seconds,
                    "core taken by others": meter.taken_by_others,
                }
    finally:
        time.sleep(0.2)
        writer.close()
