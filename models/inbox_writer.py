"""Writes changed entries and the counts of their inboxes in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import msgspec
from pymongo import InsertOne, ReplaceOne, UpdateOne

from models.database_types import Collection as MongoCollection
from models.database_types import Database, Document, Session
from models.evolving import evolve, finish, has_a_fence, is_tombstone, next_version, reweigh, tombstone
from models.fields import Report, Unfit
from models.notification import MOST, Counts, Delivery, Notification, entry_id
from models.page import fit

T = TypeVar("T")

LIVING: Document = {"updated_at": {"$gt": datetime.min.replace(tzinfo=UTC)}}
"""Entries that are no tombstones, as an index alone can tell."""

_USERS_AT_ONCE = 50
_ENTRIES_AT_ONCE = 200


class Changed(NamedTuple):
    """An entry as it is stored, None for a new one, and as it is to be."""

    before: Document | None
    after: Document


class Written(NamedTuple):
    """What was stored: the entries in the order they came, and the counts of each user concerned."""

    entries: list[Document]
    counts: dict[str, Counts]


def portions(things: Iterable[T], *, user_of: Callable[[T], str], at_most: int = _ENTRIES_AT_ONCE) -> list[list[T]]:
    """What goes into one transaction each, in the same order: so many things, and 50 users."""
    found: list[list[T]] = []
    users: set[str] = set()
    for thing in things:
        user_id = user_of(thing)
        if not found or len(found[-1]) >= at_most or (user_id not in users and len(users) >= _USERS_AT_ONCE):
            found.append([])
            users = set()
        found[-1].append(thing)
        users.add(user_id)
    return found


class InboxWriter:
    """What is done within a transaction. All take its session."""

    def __init__(
        self,
        database: Database,
        *,
        report: Report,
        retention: timedelta,
        max_entries: int,
        now: Callable[[], datetime],
    ) -> None:
        self._notifications, self._inboxes = database["notifications"], database["inboxes"]
        self._report, self._retention, self._max_entries, self._now = report, retention, max_entries, now

    async def deliver(self, deliveries: Sequence[Delivery], session: Session) -> int:
        """Put events into entries; the number of those that were new. At most `max_entries` at a time."""
        wanted = [entry_id(delivery.user_id, delivery.subject) for delivery in deliveries]
        found = self._notifications.find({"_id": {"$in": wanted}}, session=session)
        before: dict[str, Document] = {entry["_id"]: entry async for entry in found}
        entries: dict[str, Document | None] = {
            id_: entry if self._usable(entry) else None for id_, entry in before.items()
        }
        told = 0
        evolved: dict[str, Document] = {}
        for id_, delivery in zip(wanted, deliveries, strict=True):
            after = evolve(entries.get(id_), delivery)
            if after is not None and self._shows(after):
                entries[id_] = evolved[id_] = after
                told += 1
        changed = [Changed(before.get(id_), after) for id_, after in evolved.items()]
        await self.write([*changed, *await self._overflow(changed, session)], session)
        return told

    async def write(self, changed: Sequence[Changed], session: Session) -> Written:
        """Number the entries, store them and count them."""
        if not changed:
            return Written([], {})
        user_ids = {after["user_id"] for _, after in changed}
        inboxes = self._inboxes.find({"_id": {"$in": list(user_ids)}}, session=session)
        stored = {inbox["_id"]: inbox async for inbox in inboxes}
        counts = {user_id: self._counts(stored.get(user_id)) for user_id in user_ids}
        uncounted = [user_id for user_id, found in counts.items() if found is None]
        known: dict[str, Counts] = {user_id: found for user_id, found in counts.items() if found is not None}
        known |= await self.recount(uncounted, session)
        entries = []
        for before, after in changed:
            user_id = after["user_id"]
            seq = known[user_id].seq + 1
            done = finish(before, after, seq=seq, retention=self._retention)
            known[user_id] = reweigh(known[user_id], before, done, seq=seq)
            entries.append(done)
        await self._inboxes.bulk_write(
            [_inbox_operation(user_id, known[user_id], stored.get(user_id)) for user_id in sorted(user_ids)],
            session=session,
        )
        operations = [_operation(before, done) for (before, _), done in zip(changed, entries, strict=True)]
        await self._notifications.bulk_write(operations, session=session)
        return Written(entries, known)

    async def counts(self, user_id: str, session: Session = None) -> Counts:
        """The stored counts; where there are none that can be read, those that the entries give."""
        counts = self._counts(await self._inboxes.find_one({"_id": user_id}, session=session))
        return counts or (await self.recount([user_id], session))[user_id]

    async def recount(self, user_ids: Collection[str], session: Session = None) -> dict[str, Counts]:
        """The counts of each user as the entries give them."""
        return await recount(self._notifications, user_ids, session)

    def _usable(self, entry: Document) -> bool:
        """Whether an entry can be built on. Another program wrote one that cannot; a new one takes its place."""
        if not is_tombstone(entry) and not self._shows(entry):
            return False
        if not has_a_fence(entry):
            self._report("notifications", entry["_id"], "Expected `[seconds, increment, ordinal]` as `last_applied`")
            return False
        return True

    def _shows(self, entry: Document) -> bool:
        numbered = {"seq": 0, "version": 1, **entry}
        return fit(numbered, Notification.from_document, "notifications", self._report) is not None

    def _counts(self, inbox: Mapping[str, object] | None) -> Counts | None:
        if inbox is None:
            return None
        try:
            return Counts.from_document(inbox)
        except Unfit as problem:
            self._report("inboxes", inbox.get("_id"), str(problem))
            return None

    async def _overflow(self, changed: Sequence[Changed], session: Session) -> list[Changed]:
        """The oldest entries of inboxes that hold too many, to be tombstones; read and archived ones go first."""
        new: dict[str, int] = {}
        for before, after in changed:
            if before is None or is_tombstone(before):
                new[after["user_id"]] = new.get(after["user_id"], 0) + 1
        if not new:
            return []
        groups = self._notifications.aggregate(
            [
                {"$match": {"user_id": {"$in": list(new)}, **LIVING}},
                {"$group": {"_id": "$user_id", "living": {"$sum": 1}}},
            ],
            session=session,
        )
        living = {group["_id"]: group["living"] async for group in groups}
        kept = [after["_id"] for _, after in changed]
        overflow: list[Changed] = []
        for user_id, count in new.items():
            excess = living.get(user_id, 0) + count - self._max_entries
            for settled in ({"$ne": None}, None):
                if excess <= 0:
                    break
                where = {"user_id": user_id, **LIVING, "_id": {"$nin": kept}, "expires_at": settled}
                oldest = await self._notifications.find(
                    where, {"events": 0}, sort=[("updated_at", 1), ("_id", 1)], limit=excess, session=session
                ).to_list(None)
                excess -= len(oldest)
                overflow += [Changed(entry, tombstone(entry, now=self._now())) for entry in oldest]
        return overflow


def _operation(before: Document | None, after: Document) -> InsertOne[Document] | ReplaceOne[Document] | UpdateOne:
    if before is None:
        return InsertOne(after)
    if is_tombstone(after) or is_tombstone(before):
        return ReplaceOne({"_id": after["_id"]}, after)
    # Only what differs, so that marking an entry does not write its fifty events into the oplog.
    update: Document = {"$set": {name: value for name, value in after.items() if before.get(name) != value}}
    gone = {name: "" for name in before if name not in after}
    return UpdateOne({"_id": after["_id"]}, {**update, "$unset": gone} if gone else update)


def _inbox_operation(user_id: str, counts: Counts, before: Document | None) -> InsertOne[Document] | UpdateOne:
    values = {**msgspec.structs.asdict(counts), "version": next_version(before)}
    return InsertOne({"_id": user_id, **values}) if before is None else UpdateOne({"_id": user_id}, {"$set": values})


async def recount(
    notifications: MongoCollection, user_ids: Collection[str], session: Session = None
) -> dict[str, Counts]:
    """The counts of each user as the entries give them."""
    if not user_ids:
        return {}
    waiting = [_absent("deleted_at"), _absent("archived_at")]
    groups = notifications.aggregate(
        [
            {"$match": {"user_id": {"$in": list(user_ids)}}},
            {
                "$group": {
                    "_id": "$user_id",
                    "unseen": {"$sum": {"$cond": [{"$and": [*waiting, _absent("seen_at")]}, 1, 0]}},
                    "unread": {"$sum": {"$cond": [{"$and": [*waiting, _absent("read_at")]}, 1, 0]}},
                    "seq": {"$max": {"$cond": [_countable("$seq"), "$seq", 0]}},
                }
            },
        ],
        session=session,
    )
    counted = {
        group["_id"]: Counts(unseen=group["unseen"], unread=group["unread"], seq=int(group["seq"]))
        async for group in groups
    }
    return {user_id: counted.get(user_id, Counts()) for user_id in user_ids}


def _countable(field: str) -> Document:
    """Whether one can be added to it. NaN comes before every number."""
    return {"$and": [{"$isNumber": field}, {"$gte": [field, 0]}, {"$lt": [field, MOST]}]}


def _absent(field: str) -> Document:
    """A missing field and null come before every value."""
    return {"$lte": [f"${field}", None]}
