"""The checks of inboxes find what they are there for: each is shown a run without fault, and one with it planted."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.ledger.inbox_truth import INBOX_FAULTS, Remark, Room, check_entries, check_steps, expected

USERS = [f"r{number}" for number in range(5)]
ROOMS = {"open": Room({*USERS, "alice"}, "alice"), "private": Room({"r0", "alice"}, "alice")}

Entry = dict[str, Any]


def _remarks(count: int = 400) -> list[Remark]:
    rng = random.Random(5)
    remarks: list[Remark] = []
    for number in range(count):
        project = rng.choice(("open", "open", "private"))
        threads = [remark.thread for remark in remarks if remark.project == project]
        id_ = f"c{number}"
        mentions = tuple(rng.sample(USERS, rng.randrange(3)))
        author = rng.choice(["r0"] if project == "private" else USERS)
        thread = rng.choice(threads) if threads and rng.random() < 0.8 else id_
        remarks.append(Remark(id_, project, thread, author, mentions))
    return remarks


REMARKS = _remarks()
WANTED = expected(REMARKS, ROOMS)


def _entries() -> list[Entry]:
    return [
        {
            "user_id": user,
            "subject": {"thread_id": thread},
            "events": [{"comment_id": comment, "type": kind} for comment, kind in reversed(told[-50:])],
            "event_count": len(told),
        }
        for (user, thread), told in WANTED.items()
    ]


def _found(entries: list[Entry]) -> dict[str, int]:
    counts = check_entries(WANTED, entries).counts
    return {name: counts[name] for name in INBOX_FAULTS if counts[name]}


def _long(entries: list[Entry]) -> Entry:
    return next(entry for entry in entries if len(entry["events"]) > 2)


def _swap(entries: list[Entry]) -> None:
    events = _long(entries)["events"]
    events[0], events[1] = events[1], events[0]


def _weaker(entries: list[Entry]) -> None:
    event = next(event for entry in entries for event in entry["events"] if event["type"] == "mention")
    event["type"] = "comment"


def _probe(entries: list[Entry]) -> None:
    entries.append({**copy.deepcopy(entries[0]), "user_id": "r4", "subject": {"thread_id": _private_thread()}})


def _private_thread() -> str:
    return next(remark.thread for remark in REMARKS if remark.project == "private")


PLANTED: dict[str, tuple[Callable[[list[Entry]], object], dict[str, int]]] = {
    "one event left out": (lambda entries: _long(entries)["events"].pop(0), {"not told": 1}),
    "one event twice": (
        lambda entries: _long(entries)["events"].insert(0, _long(entries)["events"][0]),
        {"told twice or wrongly": 1},
    ),
    "two events swapped": (_swap, {"told out of order": 1}),
    "a mention told as a comment": (_weaker, {"not told": 1, "told twice or wrongly": 1}),
    "somebody told who may not see it": (_probe, {"told without cause": 1}),
    "two entries of one thread": (lambda entries: entries.append(copy.deepcopy(entries[0])), {"doubled entry": 1}),
    "counted once too often": (
        lambda entries: _long(entries).update(event_count=_long(entries)["event_count"] + 1),
        {"counted wrongly": 1},
    ),
}


def test_a_run_without_fault_is_clean() -> None:
    assert len(WANTED) > 100
    assert _found(_entries()) == {}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    plant, found = PLANTED[name]
    entries = _entries()
    plant(entries)
    assert _found(entries) == found


def test_an_entry_that_is_missing_is_found() -> None:
    entries = _entries()
    gone = entries.pop(7)
    assert _found(entries) == {"not told": gone["event_count"]}


def _step(seq: int, unseen: int, unread: int, **states: Any) -> list[dict[str, Any]]:
    inbox = {"_id": "bob", "unseen": unseen, "unread": unread, "seq": seq}
    entry = {"_id": "e", "user_id": "bob", **states}
    return [
        {"ns": {"coll": name}, "documentKey": {"_id": document["_id"]}, "fullDocument": document}
        for name, document in (("inboxes", inbox), ("notifications", entry))
    ]


def test_counts_are_recounted_at_every_step() -> None:
    good = [_step(1, 1, 1), _step(2, 0, 1, seen_at=1), _step(3, 0, 0, seen_at=1, archived_at=1)]
    assert {name: count for name, count in check_steps(good).counts.items() if name in INBOX_FAULTS} == {}
    drifting = [_step(1, 1, 1), _step(2, 1, 1, seen_at=1), _step(3, 0, 0, seen_at=1, archived_at=1)]
    assert check_steps(drifting).counts["miscounted"] == 1
    standing = [_step(1, 1, 1), _step(1, 0, 1, seen_at=1)]
    assert check_steps(standing).counts["seq did not rise"] == 1
    halved = [_step(1, 1, 1)[:1]]
    assert check_steps(halved).counts["miscounted"] == 1
