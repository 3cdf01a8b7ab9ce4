"""What one editor was told, in the order and at the time it was told: small enough to keep all of it.

Pure: pushes and times go in. Documents are kept only as the client's own store has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from tests.editor import Store

Key = tuple[str, int | str | None]
"""One commit: the document and the version that it raised. Where none was raised the mark stands in, for a delete
for good the word."""

DELETED = "deleted for good"
DOCUMENTS = {"projects": "project", "items": "item", "comments": "comment"}


class Seen(NamedTuple):
    """One event as it arrived."""

    key: Key
    mark: str | None
    """The text that its writer gave this one change; None where the event brought no document."""
    kind: str
    at: str
    applied: bool
    """Whether the client's version rule let it through."""


Held = Mapping[str, tuple[int | None, str | None]]
"""What a snapshot says: version and mark by document."""


class Entry(NamedTuple):
    """One thing that happened to a topic, at a Unix time."""

    at: float
    what: Literal["events", "snapshot", "live", "reset", "unsubscribed", "resumed", "not resumed", "went back"]
    topic: str
    events: tuple[Seen, ...] = ()
    held: Held = MappingProxyType({})
    reason: str = ""


def mark_of(document: Mapping[str, Any]) -> str | None:
    """The text of a public document that its writer chose: a comment's body, an item's or project's name."""
    mark = document.get("body", document.get("name"))
    return mark if isinstance(mark, str) else None


def key_of(document_id: str, *, version: int | None, mark: str | None, deleted: bool) -> Key:
    """The name of one commit, the same for the reader of the database and the reader of events."""
    if deleted:
        return document_id, DELETED
    return document_id, version if version is not None else mark


class EditorLog:
    """Everything that one editor heard, over all of its connections."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: list[Entry] = []
        self.stores: dict[str, Store] = {}
        self.positions: dict[str, str] = {}
        """The last one of each topic; what a client comes back with."""
        self.old_positions: list[str] = []
        """Some that were good once."""
        self.live: set[str] = set()
        """Topics that are live on the present connection."""
        self.closes: list[int | None] = []
        self._joining: dict[str, dict[str, tuple[int | None, str | None]]] = {}

    def connected(self) -> None:
        """A new connection: nothing is live on it yet."""
        self.live.clear()
        self._joining.clear()

    def take(self, at: float, push: Mapping[str, Any]) -> None:
        """One push. What it says is done to the store, as the protocol tells clients to."""
        topic = push.get("topic")
        if topic is None:
            self._heard_position(push)
            return
        match push["push"]:
            case "snapshot":
                self._snapshot(at, topic, push)
            case "events":
                store = self.stores.setdefault(topic, Store())
                events = tuple(_seen(event, applied=store.apply(event)) for event in push["events"])
                self.entries.append(Entry(at, "events", topic, events=events))
                # Before `live` a position does not count: who is cut off there comes back with the one before.
                if topic in self.live:
                    self.positions[topic] = push["position"]
                if len(self.entries) % 50 == 0:
                    self.old_positions.append(push["position"])
            case "live":
                self.entries.append(Entry(at, "live", topic))
                self.live.add(topic)
                self.positions[topic] = push["position"]
            case "reset" | "unsubscribed" as what:
                self._drop(topic)
                reason = push.get("reason") or push.get("code") or ""
                self.entries.append(Entry(at, what, topic, reason=reason))

    def answered(self, at: float, reply: Mapping[str, Any]) -> None:
        """The reply to a `subscribe`."""
        what: Literal["resumed", "not resumed"] = "resumed" if reply["resumed"] else "not resumed"
        if what == "not resumed":
            self._drop(reply["topic"])
        self.entries.append(Entry(at, what, reply["topic"], reason=reply.get("reason", "")))

    def went_back(self, at: float) -> None:
        """The editor comes back with a position older than its last: what it forgot since, it is told again."""
        self.entries += [Entry(at, "went back", topic) for topic in self.stores]

    def of(self, what: str, topic: str) -> list[Entry]:
        """The entries of a kind on a topic."""
        return [entry for entry in self.entries if entry.what == what and entry.topic == topic]

    def holds(self, topic: str, comment_id: str) -> bool:
        """Whether a comment is in the store."""
        return topic in self.stores and comment_id in self.stores[topic].of("comment")

    def _drop(self, topic: str) -> None:
        """What comes next stands alone; coming back with a position from before would mix the two."""
        self.live.discard(topic)
        self.stores.pop(topic, None)
        self.positions.pop(topic, None)

    def _snapshot(self, at: float, topic: str, push: Mapping[str, Any]) -> None:
        if push["part"] == 1:
            self.stores[topic] = Store()
            self._joining[topic] = {}
        self.stores[topic].snapshot(push["data"])
        held = self._joining[topic]
        documents = [document for name in DOCUMENTS for document in push["data"].get(name, ())]
        if "project" in push["data"]:
            documents.append(push["data"]["project"])
        held.update({one["id"]: (one.get("version"), mark_of(one)) for one in documents})
        if push["last"]:
            self.entries.append(Entry(at, "snapshot", topic, held=self._joining.pop(topic)))

    def _heard_position(self, push: Mapping[str, Any]) -> None:
        """A ping's position holds for what is live on this connection; another topic would skip what it missed."""
        if push["push"] == "ping" and "position" in push:
            self.positions |= dict.fromkeys(self.live, push["position"])


def _seen(event: Mapping[str, Any], *, applied: bool) -> Seen:
    mark = mark_of(event["doc"]) if "doc" in event else None
    deleted = event["change"] in ("delete", "leave") and event["version"] is None
    key = key_of(event["id"], version=event["version"], mark=mark, deleted=deleted)
    return Seen(key, mark, event["kind"], event["at"], applied)
