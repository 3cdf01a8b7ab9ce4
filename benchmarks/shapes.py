"""The shapes of work that are measured. Each takes what it needs and returns its figures, by name."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.listeners import Listeners, Writer, listening, with_images
from benchmarks.machine import Meter, forget_peak, peak_bytes, resident_bytes
from benchmarks.relays import HERE, KINDS, Running, ask, child, said
from tests.held_up import held_up

Figures = dict[str, float]
_names = (f"bench-{number}" for number in itertools.count(1))


def database_name() -> str:
    """Of a database that nobody has used."""
    return next(_names)


@contextmanager
def stage(kind: str, uri: str, listeners: int, *, watched: int = 10) -> Iterator[tuple[Running, Listeners, Writer]]:
    """A relay on a database of its own, its listeners, and who writes."""
    name = database_name()
    writer = Writer(uri, name)
    try:
        writer.project()
        with KINDS[kind].start(uri, name) as running, listening(running, listeners, watched=watched) as heard:
            writer.save = running.save
            writer.one()
            heard.await_all(1)
            yield running, heard, writer
    finally:
        writer.close()


def one_at_a_time(kind: str, uri: str, *, listeners: int, events: int, watched: int = 10) -> Figures:
    """The next comment is written when everyone has the last one: nothing can be sent together."""
    with stage(kind, uri, listeners, watched=watched) as (running, heard, writer):
        for _ in range(10):
            writer.one()
            report = heard.await_all(writer.written)
        meter, load_before = Meter(*running.pids), report["cpu"]
        last = []
        for _ in range(events):
            writer.one()
            report = heard.await_all(writer.written)
            last.append(max(delay for delays in report["delays"] for delay in delays) / 1e6)
        took, cost = meter.seconds, meter.read()
        deliveries = events * listeners
        return {
            "deliveries per CPU-second": deliveries / cost.total,
            "system share": cost.system / cost.total,
            "deliveries per second": deliveries / took,
            **({"last listener p50 ms": quantile(last, 0.5)} if watched >= listeners else {}),
            "load CPU, of the server's": (report["cpu"] - load_before) / cost.total,
            "core taken by others": meter.taken_by_others,
        }


def burst(kind: str, uri: str, *, listeners: int, events: int) -> Figures:
    """An import while everyone listens: order and number are checked, and how much memory it took."""
    with stage(kind, uri, listeners) as (running, heard, writer):
        for _ in range(5):
            writer.one()
        earlier = heard.await_all(writer.written)
        memory = resident_bytes(running.pid)
        forget_peak(running.pid)
        meter = Meter(*running.pids)
        writer.many(events)
        wrote = meter.seconds
        report = heard.await_all(writer.written)
        took, cost = meter.seconds, meter.read()
        return {
            "deliveries per CPU-second": events * listeners / cost.total,
            "system share": cost.system / cost.total,
            "deliveries per second": events * listeners / took,
            "seconds until all had all": took,
            "seconds to write": wrote,
            "memory grew by, MiB": (peak_bytes(running.pid) - memory) / 2**20,
            "bytes per event": (report["bytes"] - earlier["bytes"]) / (events * listeners),
            "events per read": events * listeners / (report["reads"] - earlier["reads"]),
            "load CPU, of the server's": (report["cpu"] - earlier["cpu"]) / cost.total,
            "core taken by others": meter.taken_by_others,
        }


def latency(kind: str, uri: str, *, listeners: int, events: int, rate: float) -> Figures:
    """From before the write to the listener's read, at a steady rate; all listeners are watched."""
    with stage(kind, uri, listeners, watched=listeners) as (running, heard, writer):
        for _ in range(20):
            writer.one()
        heard.await_all(writer.written)
        meter, begun = Meter(*running.pids), time.perf_counter()
        for number in range(events):
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            writer.one()
        report = heard.await_all(writer.written)
        cost = meter.read().total / meter.seconds
        each = [delay / 1e6 for delays in report["delays"] for delay in delays]
        last = [max(delays) / 1e6 for delays in zip(*report["delays"], strict=True)]
        return {
            "p50 ms": quantile(each, 0.5),
            "p99 ms": quantile(each, 0.99),
            "last listener p99 ms": quantile(last, 0.99),
            "cores": cost,
            "core taken by others": meter.taken_by_others,
        }


def idle(kind: str, uri: str, *, listeners: int, seconds: float, rest_seconds: float) -> Figures:
    """Connections on which nothing happens. They rest first: connecting leaves things to be done."""
    name = database_name()
    writer = Writer(uri, name)
    try:
        writer.project()
        with KINDS[kind].start(uri, name) as running:
            with listening(running, 100):
                pass
            time.sleep(1.0)
            memory = resident_bytes(running.pid)
            alone = _cores(running, seconds)
            with listening(running, listeners) as heard:
                grown = resident_bytes(running.pid) - memory
                time.sleep(rest_seconds)
                answered = _cores(running, seconds) - alone
                # Not for so long that they are taken for dead.
                with held_up(heard.pid):
                    unanswered = _cores(running, seconds / 2) - alone
                return {
                    "KiB per connection": grown / listeners / 1024,
                    "% of a core for pings": 100 * unanswered,
                    "% of a core for pings and their answers": 100 * answered,
                }
    finally:
        writer.close()


def _cores(running: Running, seconds: float) -> float:
    meter = Meter(*running.pids)
    time.sleep(seconds)
    return meter.read().total / meter.seconds


def quantile(values: list[float], share: float) -> float:
    """The value that so great a share of them is below or at."""
    if share == 0.5:
        return statistics.median(values)
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def bare_latency(uri: str, *, events: int, rate: float) -> Figures:
    """The same by a watcher with nothing behind it, on the server's core."""
    name = database_name()
    writer = Writer(uri, name)
    try:
        writer.project()
        with_images(uri, name)
        script = str(HERE / "bare_watcher.py")
        with child(sys.executable, script, uri, name) as watcher:
            said(watcher)
            for count in (20, events):
                ask(watcher, count)
                begun = time.perf_counter()
                for number in range(count):
                    time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
                    writer.one()
                delays: list[float] = json.loads(said(watcher))
        return {"p50 ms": quantile(delays, 0.5), "p99 ms": quantile(delays, 0.99)}
    finally:
        writer.close()


def reading(uri: str, *, changes: int) -> dict[str, Figures]:
    """Changes that lie there already, read in four ways; everyone reads the same ones."""
    name = database_name()
    writer = Writer(uri, name)
    try:
        with_images(uri, name)
        found: dict[str, Figures] = {"feed": {}, "async-for": {}, "pymongo": {}, "undecoded": {}}
        for operation, write in (("insert", lambda: writer.many(changes)), ("update", writer.edit_all)):
            # A stream can begin at a whole second.
            time.sleep(1.1)
            since = int(time.time())
            write()
            for way, figures in found.items():
                command = ("-m", "benchmarks.reading", way, uri, name, operation, str(changes), str(since))
                with child(sys.executable, *command) as reader:
                    figures.update(json.loads(said(reader)))
        return found
    finally:
        writer.close()
