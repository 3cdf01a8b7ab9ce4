"""The shared ring of recent changes, from which returning clients are served without asking the database.

Bounded by count, bytes and age. It always knows from which position on it is complete; whoever is older than that is
not resumed from here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet

from app.permissions import Identity
from app.position import Position
from app.record import Record, without_text
from app.topics import INBOX, PROJECTS, is_project, key_of, project_key


class History:
    """The ring, with an index by `app.topics` keys so that a client pays for its own topics only."""

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
        self._by_key: dict[str, deque[Record]] = {}
        self.bytes = 0
        self.start: Position | None = None
        """Complete from this position on; None before the feed is open."""
        self.beginnings = 0
        """How often it began. What was concluded from it before the last time holds no more."""

    def __len__(self) -> int:
        return len(self._records)

    def begin(self, position: Position) -> None:
        """Forget everything: the feed starts, or starts anew, at `position`."""
        self._records.clear()
        self._by_key.clear()
        self.bytes = 0
        self.start = position
        self.beginnings += 1

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
            for key in _keys(record):
                self._by_key.setdefault(key, deque()).append(record)
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
            for key in _keys(record):
                kept = self._by_key[key]
                kept.popleft()
                if not kept:
                    del self._by_key[key]

    def covers(self, since: Position) -> bool:
        """Whether everything after `since` is here."""
        return self.start is not None and since >= self.start

    def events(
        self, topic: str, identity: Identity, since: Position, *, withdrawn: AbstractSet[str] = frozenset()
    ) -> list[tuple[Position, bytes]]:
        """The events of a topic after `since`, as this caller is told of them, in order.

        The text of a comment that was deleted since is not told again; `withdrawn` names those of which that is known
        from elsewhere.
        """
        events: list[tuple[Position, bytes]] = []
        gone = set(withdrawn)
        key = key_of(topic, identity.user_id)
        for record in self._newest_first(key, since):
            if topic == PROJECTS:
                told = record.project.for_listener(identity) if record.project is not None else None
                if told is not None:
                    events.append((record.position, told))
                continue
            hidden = record.quotes & gone
            events.extend(
                (record.position, without_text(part, hidden) if hidden else part)
                for part_key, part in reversed(record.parts)
                if part_key == key
            )
            gone |= record.withdrawn
        events.reverse()
        return events

    def withdrawn(self, topic: str, identity: Identity, since: Position) -> set[str]:
        """The comments whose text was taken from a topic after `since`."""
        key = key_of(topic, identity.user_id)
        return {comment for record in self._newest_first(key, since) for comment in record.withdrawn}

    def role_changed(self, identity: Identity, topic: str, since: Position) -> bool:
        """Whether the caller's rights on a topic changed after `since`: a replay would tell too much or too little.

        An inbox holds entries of any project: those of one that was lost since are not told again.
        """
        if any(True for _ in self._newest_first(_user_key(identity.user_id), since)):
            return True
        if topic == INBOX:
            return any(
                record.project is not None and record.project.is_lost_to(identity)
                for record in self._newest_first(_RIGHTS, since)
            )
        return is_project(topic) and any(
            record.project is not None and record.project.changes_role_of(identity)
            for record in self._newest_first(topic, since)
        )

    def _newest_first(self, key: str, since: Position) -> Iterator[Record]:
        for record in reversed(self._by_key.get(key, ())):
            if record.position <= since:
                return
            yield record


_RIGHTS = "rights"


def _user_key(user_id: str) -> str:
    return f"user:{user_id}"


def _keys(record: Record) -> set[str]:
    """Where a record is found: by its events, as a change of rights in a project, or of a user's roles."""
    keys = {key for key, _ in record.parts}
    if record.project is not None:
        keys |= {PROJECTS, project_key(record.project.id)}
        if record.project.changes_access:
            keys.add(_RIGHTS)
    if record.user_id is not None:
        keys.add(_user_key(record.user_id))
    return keys
