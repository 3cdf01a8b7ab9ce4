"""The shared ring of recent changes, from which returning clients are served without asking the database.

Bounded by count, bytes and age. It always knows from which position on it is complete; whoever is older than that is
not resumed from here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator

from app.permissions import Identity
from app.position import Position
from app.record import Record, without_text

PROJECTS = "projects"


class History:
    """The ring, with an index by topic so that a client pays for its own topics only."""

    def __init__(
        self,
        *,
        max_events: int,
        max_bytes: int,
        max_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_events, self._max_bytes, self._max_seconds = max_events, max_bytes, max_seconds
        self._clock = clock
        self._records: deque[tuple[float, Record]] = deque()
        self._by_topic: dict[str, deque[Record]] = {}
        self.bytes = 0
        self.start: Position | None = None
        """Complete from this position on; None before the feed is open."""

    def __len__(self) -> int:
        return len(self._records)

    def begin(self, position: Position) -> None:
        """Forget everything: the feed starts, or starts anew, at `position`."""
        self._records.clear()
        self._by_topic.clear()
        self.bytes = 0
        self.start = position

    def extend(self, records: Iterable[Record]) -> None:
        """Remember, and let go of what is over the bounds."""
        now = self._clock()
        for record in records:
            if record.is_empty:
                continue
            if record.project is not None:
                record.size += record.project.seal()
            self._records.append((now, record))
            self.bytes += record.size
            for topic in _topics(record):
                self._by_topic.setdefault(topic, deque()).append(record)
        self.trim()

    def trim(self) -> None:
        """Let go of what is too much or too old."""
        too_old = self._clock() - self._max_seconds
        while self._records and (
            len(self._records) > self._max_events or self.bytes > self._max_bytes or self._records[0][0] < too_old
        ):
            _, record = self._records.popleft()
            self.bytes -= record.size
            self.start = record.position
            for topic in _topics(record):
                kept = self._by_topic[topic]
                kept.popleft()
                if not kept:
                    del self._by_topic[topic]

    def covers(self, since: Position) -> bool:
        """Whether everything after `since` is here."""
        return self.start is not None and since >= self.start

    def events(
        self, topic: str, identity: Identity, since: Position, *, deleted: Container[str] = ()
    ) -> list[tuple[Position, bytes]]:
        """The events of a topic after `since`, as this caller is told of them, in order.

        The text of a comment that was deleted since is not told again; `deleted` names those whose deletion is known
        from elsewhere.
        """
        events: list[tuple[Position, bytes]] = []
        gone: set[str] = set()
        for record in self._newest_first(topic, since):
            if topic == PROJECTS:
                told = record.project.for_listener(identity) if record.project is not None else None
                if told is not None:
                    events.append((record.position, told))
                continue
            hide = record.comment_id is not None and (record.comment_id in gone or record.comment_id in deleted)
            events.extend(
                (record.position, without_text(part) if hide else part)
                for part_topic, part in reversed(record.parts)
                if part_topic == topic
            )
            if record.tombstone and record.comment_id is not None:
                gone.add(record.comment_id)
        events.reverse()
        return events

    def deleted_comments(self, topic: str, since: Position) -> set[str]:
        """The comments of a topic that were deleted after `since`."""
        return {
            record.comment_id
            for record in self._newest_first(topic, since)
            if record.tombstone and record.comment_id is not None
        }

    def role_changed(self, identity: Identity, topic: str, since: Position) -> bool:
        """Whether the caller's rights on a topic changed after `since`: a replay would tell too much or too little."""
        if any(True for _ in self._newest_first(f"user:{identity.user_id}", since)):
            return True
        return topic.startswith("project:") and any(
            record.project is not None and record.project.changes_role_of(identity)
            for record in self._newest_first(topic, since)
        )

    def _newest_first(self, topic: str, since: Position) -> Iterator[Record]:
        for record in reversed(self._by_topic.get(topic, ())):
            if record.position <= since:
                return
            yield record


def _topics(record: Record) -> set[str]:
    """Under which topics a record is found: its events', `projects`, and the user whose roles changed."""
    topics = {topic for topic, _ in record.parts}
    if record.project is not None:
        topics |= {PROJECTS, f"project:{record.project.id}"}
    if record.user_id is not None:
        topics.add(f"user:{record.user_id}")
    return topics
