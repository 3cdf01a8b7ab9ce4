"""Who has to have been told of which comments, worked out by the simplest rules there are, and not by Copydesk's. Pure.

The discussion is one without items, so that four rules decide: who is mentioned, who wrote in the thread before, who
follows the thread since being mentioned in it or writing in it, and who made the project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.ledger.ledger import Findings

KEPT = 50
"""The newest events of an entry that are kept."""


class Remark(NamedTuple):
    """One comment, in the order of the database."""

    id: str
    project: str
    thread: str
    author: str
    mentions: tuple[str, ...]


class Room(NamedTuple):
    """A project: who may see it, and who made it."""

    readers: Collection[str]
    creator: str


Told = dict[tuple[str, str], list[tuple[str, str]]]
"""By recipient and thread: the comments told of, each with the type, oldest first."""


def expected(remarks: Iterable[Remark], rooms: Mapping[str, Room]) -> Told:
    """What every inbox has to hold."""
    told: Told = {}
    wrote: dict[str, set[str]] = {}
    follow: dict[str, set[str]] = {}
    for remark in remarks:
        room = rooms[remark.project]
        authors, followers = wrote.setdefault(remark.thread, set()), follow.setdefault(remark.thread, set())
        kinds = {room.creator: "comment"}
        kinds |= dict.fromkeys(followers, "comment") | dict.fromkeys(authors, "reply")
        kinds |= dict.fromkeys(remark.mentions, "mention")
        for user, kind in kinds.items():
            if user != remark.author and user in room.readers:
                told.setdefault((user, remark.thread), []).append((remark.id, kind))
        authors.add(remark.author)
        followers |= {user for user in (*remark.mentions, remark.author) if user in room.readers}
    return told


def check_entries(wanted: Told, entries: Iterable[Mapping[str, Any]]) -> Findings:
    """Each entry is there and holds just what it has to; `entries` as they are stored, tombstones left out."""
    findings = Findings()
    found: set[tuple[str, str]] = set()
    for entry in entries:
        place = (entry["user_id"], entry["subject"].get("thread_id", "?"))
        if place in found:
            findings.add("doubled entry", place)
        found.add(place)
        events = [(event["comment_id"], event["type"]) for event in reversed(entry["events"])]
        due = wanted.get(place, [])
        if not due:
            findings.add("told without cause", f"{place}: {events}")
            continue
        missing, extra = Counter(due[-KEPT:]) - Counter(events), Counter(events) - Counter(due[-KEPT:])
        findings.add("not told", f"{place}: {missing}", missing.total())
        findings.add("told twice or wrongly", f"{place}: {extra}", extra.total())
        if not missing and not extra and events != due[-KEPT:]:
            findings.add("told out of order", f"{place}: {events}, not {due[-KEPT:]}")
        if entry["event_count"] != len(due):
            findings.add("counted wrongly", f"{place}: {entry['event_count']} events where there were {len(due)}")
    for place in wanted.keys() - found:
        findings.add("not told", f"{place} has no entry", len(wanted[place]))
    return findings


def check_steps(steps: Iterable[Sequence[Mapping[str, Any]]]) -> Findings:
    """After each transaction the counts are those of a recount, and `seq` has risen.

    A step holds the change-stream documents of one transaction on `inboxes` and `notifications`.
    """
    findings = Findings()
    states: dict[str, dict[str, tuple[bool, bool]]] = {}
    counted: dict[str, tuple[int, int, int]] = {}
    for step in steps:
        touched: set[str] = set()
        for change in step:
            document, id_ = change.get("fullDocument"), change["documentKey"]["_id"]
            if change["ns"]["coll"] == "inboxes":
                if document is None:
                    continue
                touched.add(id_)
                seq = document["seq"]
                if seq <= counted.get(id_, (0, 0, 0))[2]:
                    findings.add("seq did not rise", f"{id_}: {seq}")
                counted[id_] = (document["unseen"], document["unread"], seq)
            elif document is not None:
                touched.add(document["user_id"])
                waits = document.get("deleted_at") is None and document.get("archived_at") is None
                states.setdefault(document["user_id"], {})[id_] = (
                    waits and document.get("seen_at") is None,
                    waits and document.get("read_at") is None,
                )
        for user in touched:
            findings.counts["steps"] += 1
            entries = states.get(user, {}).values()
            recounted = (sum(unseen for unseen, _ in entries), sum(unread for _, unread in entries))
            if counted.get(user, (0, 0, 0))[:2] != recounted:
                findings.add("miscounted", f"{user}: {counted.get(user)} where there are {recounted}")
    return findings


INBOX_FAULTS = (
    "doubled entry",
    "told without cause",
    "not told",
    "told twice or wrongly",
    "told out of order",
    "counted wrongly",
    "seq did not rise",
    "miscounted",
)
"""What breaks the promise of the inbox."""
