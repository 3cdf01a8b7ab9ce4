"""What inboxes should be, told once more in the simplest way: the measure that `InboxStore` is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Place = tuple[int, int, int]


class Event(NamedTuple):
    id: str
    comment_id: str
    text: str
    place: Place


class Entry(NamedTuple):
    """`events` newest first; none: there is only a tombstone."""

    events: tuple[Event, ...]
    fence: Place
    arrived: int
    """The seq of the newest event."""
    seen: bool = False
    read: bool = False
    archived: bool = False


Entries = Mapping[tuple[str, str], Entry]
"""By user and subject."""


class Inboxes(NamedTuple):
    entries: Entries
    seqs: Mapping[str, int]

    def of(self, key: tuple[str, str]) -> Entry | None:
        """One entry, without what depends on who was numbered first."""
        entry = self.entries.get(key)
        return None if entry is None else entry._replace(arrived=0)


class Deliver(NamedTuple):
    events: Sequence[tuple[str, str, Event]]


class Patch(NamedTuple):
    user: str
    subject: str
    states: Mapping[str, bool]


class Mark(NamedTuple):
    user: str
    states: Mapping[str, bool]
    until: int | None
    subjects: Sequence[str] | None
    state: str | None


class Delete(NamedTuple):
    user: str
    subject: str


class Quote(NamedTuple):
    comment_id: str
    text: str | None
    place: Place


class Withdraw(NamedTuple):
    subjects: Sequence[str]


Operation = Deliver | Patch | Mark | Delete | Quote | Withdraw


def read(
    documents: Sequence[Mapping[str, Any]],
    inboxes: Sequence[Mapping[str, Any]],
    names: Mapping[str, tuple[str, str]],
) -> Inboxes:
    """What is stored; `names` gives the user and the subject of each id."""
    entries = {}
    for document in documents:
        events = tuple(
            Event(event["id"], event["comment_id"], event["text"], tuple(event["place"]))
            for event in document.get("events", [])
        )
        states = {name: f"{name}_at" in document for name in ("seen", "read", "archived")}
        fence = tuple(document["last_applied"])
        entries[names[document["_id"]]] = Entry(events, fence, document.get("event_seq", 0), **states)
    return Inboxes(entries, {inbox["_id"]: inbox["seq"] for inbox in inboxes})


def count(documents: Sequence[Mapping[str, Any]], user: str) -> tuple[int, int]:
    """Unseen and unread of one user."""
    living = [
        document
        for document in documents
        if document["user_id"] == user and "deleted_at" not in document and "archived_at" not in document
    ]
    return sum("seen_at" not in entry for entry in living), sum("read_at" not in entry for entry in living)


def apply(before: Inboxes, operation: Operation) -> Inboxes:
    """The inboxes after an operation that nothing interrupts."""
    entries, seqs = dict(before.entries), dict(before.seqs)

    def put(key: tuple[str, str], entry: Entry, *, arrived: bool = False) -> None:
        if entry != entries.get(key) or arrived:
            seqs[key[0]] = seqs.get(key[0], 0) + 1
            entries[key] = entry._replace(arrived=seqs[key[0]]) if arrived else entry

    if isinstance(operation, Deliver):
        arriving = dict[tuple[str, str], Entry]()
        for user, subject, event in operation.events:
            known = arriving.get((user, subject)) or entries.get((user, subject))
            if known is None or event.place > known.fence:
                arriving[user, subject] = Entry((event, *(known.events if known else ())), event.place, 0)
        for key, entry in arriving.items():
            put(key, entry, arrived=True)
        return Inboxes(entries, seqs)
    for key, entry in before.entries.items():
        if not entry.events:
            continue
        if isinstance(operation, Quote):
            put(key, _quoted(entry, operation))
        elif isinstance(operation, Patch | Mark):
            put(key, _states(entry, operation.states) if _meant(key, entry, operation) else entry)
        elif key[1] in operation.subjects if isinstance(operation, Withdraw) else key == operation:
            put(key, Entry((), entry.fence, 0))
    return Inboxes(entries, seqs)


def _meant(key: tuple[str, str], entry: Entry, mark: Patch | Mark) -> bool:
    if isinstance(mark, Patch):
        return key == (mark.user, mark.subject)
    user, subject = key
    if user != mark.user or (mark.subjects is not None and subject not in mark.subjects):
        return False
    if mark.until is not None and entry.arrived > mark.until:
        return False
    if mark.state is None:
        return mark.subjects is not None or entry.archived == (mark.states.get("archived") is False)
    return {
        "unseen": not entry.archived and not entry.seen,
        "unread": not entry.archived and not entry.read,
        "read": not entry.archived and entry.read,
        "archived": entry.archived,
    }[mark.state]


def _states(entry: Entry, states: Mapping[str, bool]) -> Entry:
    entry = entry._replace(**states)
    if states.get("seen") is False:
        return entry._replace(read=False)
    return entry._replace(seen=True) if states.get("read") else entry


def _quoted(entry: Entry, quote: Quote) -> Entry:
    kept = []
    for event in entry.events:
        if event.comment_id != quote.comment_id or event.place >= quote.place or event.text == quote.text:
            kept.append(event)
        elif quote.text is not None:
            kept.append(event._replace(text=quote.text, place=quote.place))
    return entry._replace(events=tuple(kept)) if kept else Entry((), entry.fence, 0)
