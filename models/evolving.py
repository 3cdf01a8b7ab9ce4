"""How an entry of an inbox evolves: pure functions from the stored document to what it becomes.

A stored entry has more than `models.notification.Notification` shows: `user_id`; `last_applied`, the place of the
newest change that put an event in; `event_seq`, the `seq` that the newest event gave it; `expires_at`; and in each
event `place`, the change that its text is from. A tombstone (`deleted_at`) keeps the fence and loses the content.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import UNSET

from models.database_types import Document
from models.notification import MAX_ACTORS, MAX_EVENTS, MOST, Counts, Delivery, Place, entry_id
from models.notification_input import States
from models.revision import stored


def evolve(entry: Document | None, delivery: Delivery) -> Document | None:
    """The entry with one more event, unread again; None where it has had that event. `entry` may be a tombstone."""
    if entry is not None and delivery.place <= _fence(entry):
        return None
    living = entry if entry is not None and not is_tombstone(entry) else {}
    events = living.get("events", [])
    event = _stored_event(delivery)
    if any(other["id"] == event["id"] for other in events):
        return None
    events = [event, *events][:MAX_EVENTS]
    after = {
        "_id": entry_id(delivery.user_id, delivery.subject),
        "user_id": delivery.user_id,
        "type": event["type"],
        "reason": event["reason"],
        "subject": stored(delivery.subject),
        "title": delivery.title,
        "body": delivery.body,
        "link": delivery.link,
        "category": delivery.category,
        "actors": _actors(events),
        "events": events,
        "event_count": min(living.get("event_count", 0) + 1, MOST),
        "created_at": living.get("created_at", event["at"]),
        "updated_at": event["at"],
        "last_applied": list(delivery.place),
    }
    return {name: value for name, value in after.items() if value is not UNSET}


def requote(entry: Document, comment_id: str, text: str | None, place: Place, *, now: datetime) -> Document | None:
    """The entry with the comment as it reads since `place`, or (None) without it; None where that changes nothing."""
    events = []
    for event in entry["events"]:
        if event.get("comment_id") != comment_id or place <= tuple(event["place"]) or event.get("text") == text:
            events.append(event)
        elif text is not None:
            events.append({**event, "text": text, "place": list(place)})
    if events == entry["events"]:
        return None
    event_count = entry["event_count"] - len(entry["events"]) + len(events)
    if not events and event_count <= 0:
        return tombstone(entry, now=now)
    after = {**entry, "events": events, "actors": _actors(events), "event_count": event_count}
    if not events:
        # Older ones than are kept still stand, and what they were about is still to be read.
        return {**after, "body": ""}
    newest = events[0]
    if newest != entry["events"][0]:
        after |= {"type": newest["type"], "reason": newest["reason"], "body": newest.get("text", "")}
        after["updated_at"] = newest["at"]
    return after


def mark(entry: Document, wanted: States, *, now: datetime) -> Document | None:
    """The entry in the wanted states; None where it is in them."""
    seen, read, archived = (entry.get(name) is not None for name in ("seen_at", "read_at", "archived_at"))
    if wanted.seen is not UNSET:
        seen, read = wanted.seen, read and wanted.seen
    if wanted.read is not UNSET:
        seen, read = seen or wanted.read, wanted.read
    if wanted.archived is not UNSET:
        archived = wanted.archived
    after = dict(entry)
    for name, holds in (("seen_at", seen), ("read_at", read), ("archived_at", archived)):
        if not holds:
            after.pop(name, None)
        elif after.get(name) is None:
            after[name] = now
    return None if after == entry else after


def tombstone(entry: Document, *, now: datetime) -> Document:
    """What stays of a deleted entry."""
    return {**{name: entry[name] for name in _OUTLASTS if name in entry}, "deleted_at": now}


def is_tombstone(entry: Mapping[str, Any]) -> bool:
    """Whether the entry was deleted."""
    return entry.get("deleted_at") is not None


def finish(before: Document | None, after: Document, *, seq: int, retention: timedelta) -> Document:
    """The changed entry as it is stored: numbered, and to expire once nobody waits for it."""
    done = {**after, "seq": seq, "version": next_version(before)}
    settled = [value for name in _SETTLES if isinstance(value := after.get(name), datetime)]
    done.pop("expires_at", None)
    if settled:
        done["expires_at"] = max(settled) + retention
    if not is_tombstone(after):
        done.setdefault("event_seq", seq)
    return done


_OUTLASTS: tuple[str, ...] = ("_id", "user_id", "seq", "version", "last_applied")
_SETTLES = ("read_at", "archived_at", "deleted_at")


def next_version(before: Mapping[str, Any] | None) -> int:
    """The version after one more change; what has none that can be read counts as 1."""
    if before is None:
        return 1
    version = before.get("version")
    return version + 1 if isinstance(version, int) and version < MOST else 2


def weigh(entry: Mapping[str, Any] | None) -> tuple[int, int]:
    """What an entry adds to `unseen` and to `unread`."""
    if entry is None or is_tombstone(entry) or entry.get("archived_at") is not None:
        return 0, 0
    return int(entry.get("seen_at") is None), int(entry.get("read_at") is None)


def reweigh(counts: Counts, before: Mapping[str, Any] | None, after: Mapping[str, Any], *, seq: int) -> Counts:
    """The counts after one entry changed."""
    (unseen_before, unread_before), (unseen_after, unread_after) = weigh(before), weigh(after)
    return Counts(
        unseen=max(0, counts.unseen + unseen_after - unseen_before),
        unread=max(0, counts.unread + unread_after - unread_before),
        seq=seq,
    )


def has_a_fence(entry: Mapping[str, Any]) -> bool:
    """Whether `last_applied` and the events' places can be compared, as in everything that was written here."""
    places = [entry.get("last_applied")]
    if not is_tombstone(entry):
        places += [event.get("place") for event in entry["events"]]
    return all(_is_place(place) for place in places)


def _is_place(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(part, int) for part in value)


def _fence(entry: Document) -> tuple[int, ...]:
    return tuple(entry["last_applied"])


def _actors(events: list[Document]) -> list[str]:
    return list(dict.fromkeys(event["actor"] for event in events if "actor" in event))[:MAX_ACTORS]


def _stored_event(delivery: Delivery) -> Document:
    event: Document = stored(delivery.event)
    return {**event, "at": stored(datetime.fromisoformat(event["at"])), "place": list(delivery.place)}
