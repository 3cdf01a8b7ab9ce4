"""Measures Copydesk and what a user would pick instead, on the same work in the same run.

    python -m benchmarks [--quick] [--shape one-at-a-time ...] [--rounds 5] [--kinds copydesk,ws] [--into FILE]

All shapes, once each, take twenty minutes to half an hour; a quick run takes two.

Starts all it needs: a MongoDB of its own, every relay in turn pinned to one core, load and MongoDB on the other. With
`--into benchmarks/RESULTS.md` each table takes the place of the one of that shape in the page, and the figures by
number of listeners are kept for `python -m benchmarks.picture`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app import mongod
from benchmarks import growth, relays, shapes
from benchmarks.machine import LOAD_CORE, described, pin
from benchmarks.overview import overview
from benchmarks.shapes import Figures
from benchmarks.table import merged, table

Runs = dict[str, list[Figures]]
FIGURES = Path(__file__).with_name("by-listeners.json")


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    rounds: int
    listeners: int
    events: int
    burst: int
    latency_events: int
    changes: int
    connections: int
    idle_seconds: float
    rest_seconds: float
    """Before anything is measured on connections that were just opened, and to see what is used without events."""
    per_socket: int
    by_listeners: tuple[int, ...]
    returning: int
    projects: tuple[int, ...]
    others: tuple[int, ...]
    lone_events: int
    overviews: int


FULL = Plan(
    rounds=1,
    listeners=1000,
    events=300,
    burst=10_000,
    latency_events=500,
    changes=20_000,
    connections=10_000,
    idle_seconds=26.0,
    rest_seconds=6.0,
    per_socket=20,
    by_listeners=(10, 100, 1000, 5000),
    returning=5000,
    projects=(10, 10_000),
    others=(100, 10_000),
    lone_events=1000,
    overviews=30,
)
QUICK = Plan(
    rounds=1,
    listeners=200,
    events=50,
    burst=300,
    latency_events=30,
    changes=2000,
    connections=500,
    idle_seconds=1.0,
    rest_seconds=0.5,
    per_socket=5,
    by_listeners=(10, 100),
    returning=300,
    projects=(10, 1000),
    others=(100, 500),
    lone_events=100,
    overviews=3,
)
NOT_QUICK = {"copydesk-relay", "bare-send", "python-socketio", "parse"}
"""Kinds that are left out of a quick run where nobody asks for them: slow ones, and variants of others."""
SLOW_IN_A_BURST = {"tornado", "python-socketio", "parse"}
"""Kinds that would need ten minutes for what others do in one: they get a tenth of the changes."""
HELD_IDLE = {"copydesk", "tornado", "ws"}
"""Kinds whose idle connections are measured; each takes a minute and a half."""
ONLY_ONE_SHAPE = {"tornado-per-socket", "copydesk-relay", "bare-send"}
"""Kinds that say something in one shape only."""


class Bench:
    """One run of the command."""

    def __init__(self, plan: Plan, kinds: list[str], uri: str, *, keep: bool) -> None:
        """`keep`: the figures by number of listeners, for the picture."""
        self.plan, self.kinds, self.uri, self.keep = plan, kinds, uri, keep

    def one_at_a_time(self) -> str:
        """Listeners of one project, one event at a time."""
        runs = self._rounds(
            [kind for kind in self.kinds if kind != "tornado-per-socket"],
            lambda kind: shapes.one_at_a_time(kind, self.uri, listeners=self.plan.listeners, events=self.plan.events),
        )
        return self._told(f"{self.plan.listeners} listeners of one project, one event at a time", runs)

    def burst(self) -> str:
        """The same listeners, an import."""
        fewer = self.plan.burst // 10
        runs = self._rounds(
            self._common,
            lambda kind: shapes.burst(
                kind,
                self.uri,
                listeners=self.plan.listeners,
                events=fewer if kind in SLOW_IN_A_BURST else self.plan.burst,
            ),
        )
        slow = {relays.KINDS[kind].name for kind in SLOW_IN_A_BURST}
        runs = {f"{name} ({fewer:,} changes)" if name in slow else name: run for name, run in runs.items()}
        return self._told(
            f"{self.plan.listeners} listeners of one project, a burst of {self.plan.burst:,} changes", runs
        )

    def per_socket(self) -> str:
        """One stream per socket, as far as that goes."""
        runs = self._rounds(
            [kind for kind in self.kinds if kind in ("copydesk", "tornado", "tornado-per-socket")],
            lambda kind: shapes.one_at_a_time(kind, self.uri, listeners=self.plan.per_socket, events=self.plan.events),
        )
        return self._told(
            f"{self.plan.per_socket} listeners, one event at a time: one change stream for each, or one for all", runs
        )

    def latency(self) -> str:
        """From the write to the read."""
        parts = []
        for listeners in (1, 100):
            runs: Runs = {}
            for _ in range(self.plan.rounds):
                if listeners == 1:
                    bare = shapes.bare_latency(self.uri, events=self.plan.latency_events, rate=100)
                    runs.setdefault("bare PyMongo watcher", []).append(
                        {
                            **bare,
                            "last listener p99 ms": bare["p99 ms"],
                            "cores": float("nan"),
                            "core taken by others": float("nan"),
                        }
                    )
                for kind in self._common:
                    runs.setdefault(relays.KINDS[kind].name, []).append(
                        shapes.latency(kind, self.uri, listeners=listeners, events=self.plan.latency_events, rate=100)
                    )
            parts.append(table(runs, first=f"100 writes/s, {listeners} listener{'s' if listeners > 1 else ''}"))
        return "## From the write to the socket\n\n" + "\n\n".join(parts)

    def reading(self) -> str:
        """Changes that lie there already."""
        runs: Runs = {}
        for _ in range(self.plan.rounds):
            for way, figures in shapes.reading(self.uri, changes=self.plan.changes).items():
                runs.setdefault(way, []).append(figures)
        names = {
            "feed": "Copydesk's feed",
            "async-for": "Motor, `async for`",
            "pymongo": "PyMongo, `for`",
            "undecoded": "MongoDB alone, nothing decoded",
        }
        named = {names[way]: figures for way, figures in runs.items()}
        return f"## Reading {self.plan.changes:,} inserts and as many updates, with images\n\n" + table(
            named, first="reader", against=names["feed"]
        )

    def idle(self) -> str:
        """Connections on which nothing happens."""
        runs: Runs = {}
        for kind in [kind for kind in self._common if kind in HELD_IDLE]:
            for _ in range(self.plan.rounds):
                figures = shapes.idle(
                    kind,
                    self.uri,
                    listeners=self.plan.connections,
                    seconds=self.plan.idle_seconds,
                    rest_seconds=self.plan.rest_seconds,
                )
                runs.setdefault(relays.KINDS[kind].name, []).append(figures)
        return f"## {self.plan.connections:,} idle connections\n\n" + table(runs, first="server")

    def by_listeners(self) -> str:
        """One event at a time, to few and to many."""
        kept: dict[str, dict[int, Figures]] = {}
        parts = []
        for listeners in self.plan.by_listeners:
            events = max(20, min(self.plan.lone_events, 100_000 // listeners))
            runs = self._rounds(
                self._common,
                lambda kind, count=listeners, events=events: shapes.one_at_a_time(  # type: ignore[misc]  # its defaults
                    kind, self.uri, listeners=count, events=events, watched=count
                ),
            )
            parts.append(self._told("", runs, first=f"{listeners:,} listeners"))
            for name, figures in runs.items():
                kept.setdefault(name, {})[listeners] = {
                    figure: statistics.median(run[figure] for run in figures) for figure in figures[0]
                }
        if self.keep:
            FIGURES.write_text(json.dumps(kept, indent=1) + "\n")
        return "## By number of listeners, one event at a time\n" + "\n".join(parts)

    def returning(self) -> str:
        """Everyone at once, after a server or a network was away."""
        runs: Runs = {}
        for _ in range(self.plan.rounds):
            figures = growth.returning(self.uri, clients=self.plan.returning, missed=100)
            runs.setdefault("Copydesk", []).append(figures)
        return f"## {self.plan.returning:,} clients come back at once, each having missed 100 events\n\n" + table(
            runs, first="server"
        )

    def growth(self) -> str:
        """The same event with more around it."""
        runs: Runs = {}
        for _ in range(self.plan.rounds):
            for count in self.plan.projects:
                runs.setdefault(f"10 listeners, {count:,} projects", []).append(
                    growth.projects(
                        self.uri, count=count, events=self.plan.lone_events, rest_seconds=self.plan.rest_seconds
                    )
                )
            for count in self.plan.others:
                runs.setdefault(f"100 listeners, {count:,} other connections", []).append(
                    growth.connections(
                        self.uri, count=count, events=self.plan.lone_events, rest_seconds=self.plan.rest_seconds
                    )
                )
        return "## What one event costs as the rest grows\n\n" + table(runs, first="Copydesk with")

    def processes(self) -> str:
        """The same listeners on one process and on two."""
        runs: Runs = {}
        for _ in range(self.plan.rounds):
            for count in (1, 2):
                runs.setdefault(f"{count} process{'es' if count > 1 else ''}", []).append(
                    growth.processes(self.uri, count=count, listeners=self.plan.listeners, events=self.plan.events)
                )
        return f"## {self.plan.listeners:,} listeners shared by processes, one event at a time\n\n" + table(
            runs, first="Copydesk in"
        )

    def overview(self) -> str:
        """A project's page."""
        runs: Runs = {}
        for _ in range(self.plan.rounds):
            for way, figures in overview(self.uri, items=1000, comments=5000, times=self.plan.overviews).items():
                runs.setdefault(way, []).append(figures)
        return "## The overview of 1,000 items and 5,000 comments\n\n" + table(runs, first="what")

    @property
    def _common(self) -> list[str]:
        return [kind for kind in self.kinds if kind not in ONLY_ONE_SHAPE]

    def _rounds(self, kinds: list[str], measure: Callable[[str], Figures]) -> Runs:
        """Round by round, so that what disturbs a part of the run disturbs everyone."""
        runs: Runs = {}
        for number in range(self.plan.rounds):
            for kind in kinds:
                begun = time.monotonic()
                figures = measure(kind)
                runs.setdefault(relays.KINDS[kind].name, []).append(figures)
                say(
                    f"round {number + 1}, {kind}: {time.monotonic() - begun:.0f} s, {next(iter(figures.values())):,.0f}"
                )
        return runs

    @staticmethod
    def _told(title: str, runs: Runs, *, first: str = "server") -> str:
        ours = relays.KINDS["copydesk"].name
        head = f"## {title}\n" if title else ""
        return f"{head}\n" + table(runs, first=first, against=ours if ours in runs else None)


SHAPES: dict[str, Callable[[Bench], str]] = {
    "one-at-a-time": Bench.one_at_a_time,
    "burst": Bench.burst,
    "per-socket": Bench.per_socket,
    "latency": Bench.latency,
    "reading": Bench.reading,
    "idle": Bench.idle,
    "by-listeners": Bench.by_listeners,
    "returning": Bench.returning,
    "growth": Bench.growth,
    "processes": Bench.processes,
    "overview": Bench.overview,
}


def say(text: str) -> None:
    """Progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, once: to see that it works")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this; may be repeated")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--listeners", type=int)
    parser.add_argument("--events", type=int, help="of the shapes with one event at a time")
    parser.add_argument("--burst", type=int)
    parser.add_argument("--latency-events", type=int)
    parser.add_argument("--lone-events", type=int)
    parser.add_argument("--into", type=Path, help="the page whose tables are replaced by these")
    parser.add_argument("--kinds", help="only these relays, with commas between")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    given = ("rounds", "listeners", "events", "burst", "latency_events", "lone_events")
    plan = replace(plan, **{name: value for name in given if (value := getattr(arguments, name)) is not None})
    versions = relays.install()
    absent = [kind for kind, text in versions.items() if text.startswith("absent")]
    usual = [kind for kind in relays.KINDS if not (arguments.quick and kind in NOT_QUICK)]
    kinds = [kind for kind in (arguments.kinds.split(",") if arguments.kinds else usual) if kind not in absent]
    pin(LOAD_CORE)
    # What was started has to end with this, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="copydesk-bench-") as folder:
        database = mongod.start(Path(folder), say=say)
        try:
            bench = Bench(plan, kinds, database.uri, keep=arguments.into is not None)
            for fact in (*described(), *versions.values()):
                print(f"* {fact}")
            for name in arguments.shape or SHAPES:
                begun = time.monotonic()
                text = SHAPES[name](bench)
                print(f"\n{text}", flush=True)
                if arguments.into:
                    rounds = f"{plan.rounds} rounds" if plan.rounds > 1 else "1 round"
                    text += f"\n\n{time.strftime('%Y-%m-%d %H:%M')}, {rounds}; {described()[-1]}."
                    arguments.into.write_text(merged(arguments.into.read_text(), name, text))
                say(f"{name}: {time.monotonic() - begun:.0f} s")
        finally:
            database.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
