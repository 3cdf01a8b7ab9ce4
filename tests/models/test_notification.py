"""The public shape of entries and counts, made from what is stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from models.evolving import evolve
from models.fields import Unfit
from models.notification import Counts, Notification, Subject, entry_id
from tests.models.inboxes import delivery, thread


def stored(**fields: Any) -> dict[str, Any]:
    entry = evolve(None, delivery(1))
    assert entry is not None
    return {**entry, "seq": 1, "version": 1, **fields}


def test_what_is_not_the_recipients_to_see_stays_behind() -> None:
    shown = msgspec.to_builtins(Notification.from_document(stored(expires_at=7, event_seq=3)))
    assert not {"user_id", "last_applied", "event_seq", "expires_at", "_id"} & set(shown)
    assert set(shown["events"][0]) == {"id", "type", "reason", "at", "actor", "comment_id", "text"}
    assert shown["events"][0]["at"].endswith("Z")


@pytest.mark.parametrize(
    "broken",
    [
        {"title": None},
        {"title": "x" * 256},
        {"events": {}},
        {"events": ["x"]},
        {"events": [{"id": "e", "type": "comment", "reason": "participant", "at": "today"}]},
        {"updated_at": "today"},
        {"seq": -1},
        {"seq": 2**63 - 1},
        {"event_count": 2**63 - 1},
        {"link": "//evil.example"},
        {"link": "/\\evil.example"},
        {"link": "javascript:alert(1)"},
        {"type": "gossip"},
    ],
)
def test_what_does_not_fit_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(Unfit):
        Notification.from_document(stored(**broken))


@pytest.mark.parametrize("inbox", [{}, {"unseen": 1, "unread": 2, "seq": 3, "version": 4, "_id": "bob"}])
def test_counts_are_read_from_an_inbox(inbox: dict[str, Any]) -> None:
    assert Counts.from_document(inbox) == Counts(**{name: inbox.get(name, 0) for name in ("unseen", "unread", "seq")})


@pytest.mark.parametrize("name", ["unseen", "unread", "seq"])
def test_counts_that_one_cannot_be_added_to_do_not_fit(name: str) -> None:
    with pytest.raises(Unfit):
        Counts.from_document({name: 2**63 - 1})


def test_an_entry_is_the_same_wherever_its_thread_moves() -> None:
    assert entry_id("bob", thread("T", "P", "I")) == entry_id("bob", thread("T", "Q", None))
    others = [thread("U"), Subject(kind="item", item_id="T"), Subject(kind="custom", posting_id="T")]
    ids = {entry_id(user, subject) for user in ("bob", "carol") for subject in (thread("T"), *others)}
    assert len(ids) == 8
