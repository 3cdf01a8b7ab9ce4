"""Events of several topics in one order: for transports that have one position for all of their topics. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from app.hub import PlacedEvent
from app.position import Position

RUN_EVENTS = 250
"""Events in one push."""


class Run(msgspec.Struct, frozen=True):
    """Events of one topic that follow each other."""

    topic: str
    events: tuple[bytes, ...]
    position: Position
    """Where a client is on this topic once it has them."""
    resumable: bool
    """Whether it is there on all topics: not where another topic has an event of the same change."""


def runs(by_topic: Mapping[str, Sequence[PlacedEvent]], end: Position) -> Iterator[Run]:
    """The events of all topics in commit order, in runs of one topic each. The last one leads to `end`."""
    merged = heapq.merge(
        *([(position, topic, event) for position, event in events] for topic, events in by_topic.items()),
        key=lambda entry: entry[0],
    )
    run: list[tuple[Position, str, bytes]] = []
    for entry in merged:
        if run and (entry[1] != run[-1][1] or len(run) >= RUN_EVENTS):
            yield _run(run, run[-1][0], resumable=entry[0] > run[-1][0])
            run = []
        run.append(entry)
    if run:
        yield _run(run, end, resumable=True)


def _run(entries: list[tuple[Position, str, bytes]], position: Position, *, resumable: bool) -> Run:
    return Run(entries[0][1], tuple(event for _, _, event in entries), position, resumable)
