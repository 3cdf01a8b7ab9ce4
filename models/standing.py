"""How entries of inboxes stand at the moment, for whoever is about to tell of them in another way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from models.database_types import Database
from models.notification import MAX_EVENTS

_FIELDS = ["read_at", "archived_at", "deleted_at", "event_count", "events.id", "events.text"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One entry."""

    settled: bool
    """Read, archived or removed by its owner, or withdrawn: there is nothing to tell any more."""
    texts: Mapping[str, str]
    """What its events say now, by their ids; an event without a text has an empty one."""
    whole: bool
    """Whether these are all its events: the oldest of very many are not kept."""

    def tells(self, event_id: str) -> bool:
        """Whether the entry is still news, and that event a part of it."""
        return not self.settled and (event_id in self.texts or not self.whole)


class StandingStore:
    """Reads `notifications`; what does not fit there counts as not there."""

    def __init__(self, database: Database) -> None:
        self._notifications = database["notifications"]

    async def of(self, entry_ids: Collection[str]) -> dict[str, Standing]:
        """Those of the entries that there are, removed ones included."""
        found = self._notifications.find({"_id": {"$in": sorted(set(entry_ids))}}, _FIELDS)
        return {document["_id"]: _standing(document) async for document in found}


def _standing(document: Mapping[str, Any]) -> Standing:
    listed = document.get("events")
    events = [event for event in listed if isinstance(event, Mapping)] if isinstance(listed, list) else []
    count = document.get("event_count")
    return Standing(
        settled=any(document.get(name) is not None for name in ("read_at", "archived_at", "deleted_at")),
        texts={str(event.get("id")): str(event.get("text") or "") for event in events},
        whole=not isinstance(count, int) or count <= MAX_EVENTS,
    )
