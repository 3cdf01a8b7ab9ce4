"""The collections `notifications` and `inboxes`: entries and their counts, always changed together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter

from msgspec import UNSET
from pymongo.errors import PyMongoError

from models.database_types import Database, Document, Session
from models.errors import NotFound
from models.etag import Precondition
from models.evolving import has_a_fence, is_tombstone, requote, tombstone
from models.evolving import mark as marked
from models.fields import Report, utc_now
from models.inbox_writer import Changed, InboxWriter, Written, portions
from models.notification import Counts, Delivery, Notification, Place
from models.notification_input import Mark, NotificationFilter, NotificationPatch, States
from models.page import Page, PageRequest, Sort, fit, read_page
from models.transaction import transact, transact_in_parts

SORTS = {"updated_at": Sort("updated_at", "date")}
NEWEST_FIRST = "-updated_at"

_DELIVERIES_AT_ONCE = 500
_MISSING = "There is no such notification."
_WITHOUT_EVENTS = {"events": 0}
_STATES: dict[str, Document] = {
    "unseen": {"archived_at": None, "seen_at": None},
    "unread": {"archived_at": None, "read_at": None},
    "read": {"archived_at": None, "read_at": {"$ne": None}},
    "archived": {"archived_at": {"$ne": None}},
}


class InboxStore:
    """The inboxes of all users. Entries that do not fit are reported and left out; asked for, they are not found.

    Every change of an entry takes the next `seq` of its inbox, and comes with the new counts in one transaction.
    """

    def __init__(
        self,
        database: Database,
        *,
        report: Report,
        retention: timedelta,
        max_entries: int = 1000,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`retention`: how long an entry is kept once it is read or archived. `max_entries`: of one inbox."""
        self._database, self._notifications = database, database["notifications"]
        self._report, self._max_entries, self._now = report, max_entries, now
        self._writer = InboxWriter(database, report=report, retention=retention, max_entries=max_entries, now=now)

    # -- what the worker does -----------------------------------------------------------------------------------------

    async def deliver(self, deliveries: Sequence[Delivery]) -> int:
        """Put events into inboxes; for one user, in this order. What an entry has had is passed over.

        Returns the number of the others. An inbox that holds too many loses its oldest, read and archived ones first.
        """
        told = 0
        for portion in portions(
            sorted(deliveries, key=_recipient),
            user_of=_recipient,
            at_most=min(_DELIVERIES_AT_ONCE, self._max_entries),
        ):
            try:
                told += sum(await transact_in_parts(self._database, portion, self._deliver, owner_of=_recipient))
            except PyMongoError:
                raise
            except Exception:  # noqa: BLE001 - one inbox that takes nothing must not keep the others from theirs
                told += await self._deliver_one_by_one(portion)
        return told

    async def _deliver(self, session: Session, deliveries: Sequence[Delivery]) -> int:
        return await self._writer.deliver(deliveries, session)

    async def _deliver_one_by_one(self, deliveries: Sequence[Delivery]) -> int:
        told = 0
        for delivery in deliveries:
            try:
                told += await transact(self._database, partial(self._deliver, deliveries=[delivery]))
            except PyMongoError:
                raise
            except Exception as problem:  # noqa: BLE001 - as above; it is reported
                self._report("inboxes", delivery.user_id, f"Takes no notification: {problem}")
        return told

    async def quote(self, comment_id: str, text: str | None, place: Place) -> int:
        """Let entries quote a comment as it reads since `place`, or (None: it was deleted) lose the event.

        What was delivered at a later place stays as it is. Returns the number of entries that changed.
        """

        def change(entry: Document) -> Document | None:
            if self._fit(entry) is None or not has_a_fence(entry):
                return None
            return requote(entry, comment_id, text, place, now=self._now())

        changed, _ = await self._change_all({"events.comment_id": comment_id}, change)
        return changed

    async def mentioned_already(self, comment_id: str, user_ids: Collection[str]) -> set[str]:
        """Those of the users whom an entry tells that the comment mentions them."""
        mention = {"$elemMatch": {"comment_id": comment_id, "type": "mention"}}
        where = {"events.comment_id": comment_id, "events": mention, "user_id": {"$in": list(user_ids)}}
        return set(await self._notifications.distinct("user_id", where))

    async def withdraw(self, project_id: str, *, keep: Collection[str] | None = None) -> int:
        """Remove the entries of a project from all inboxes but those of `keep`; their number."""
        return await self._remove_all({"subject.project_id": project_id, "user_id": {"$nin": list(keep or ())}})

    async def withdraw_from(self, user_id: str, *, project_ids: Collection[str]) -> int:
        """Remove the entries of some projects from one inbox; their number."""
        return await self._remove_all({"user_id": user_id, "subject.project_id": {"$in": list(project_ids)}})

    async def holders(self, project_id: str) -> set[str]:
        """The users who have entries of a project."""
        return set(await self._notifications.distinct("user_id", {"subject.project_id": project_id}))

    async def projects_of(self, user_id: str) -> set[str]:
        """The projects that a user has entries of."""
        where = {"user_id": user_id, "subject.project_id": {"$gt": ""}}
        return set(await self._notifications.distinct("subject.project_id", where))

    # -- what the recipient reads -------------------------------------------------------------------------------------

    async def page(
        self, user_id: str, wanted: NotificationFilter, request: PageRequest, *, hidden: Collection[str] = ()
    ) -> Page[Notification]:
        """Entries of an inbox, without those of the projects `hidden`. Raises `Invalid` for a foreign cursor."""
        where = {"user_id": user_id, "deleted_at": None, **_matching(wanted)}
        if wanted.state is UNSET:
            where["archived_at"] = None
        return await read_page(
            self._notifications,
            {"$and": [where, _outside(hidden)]} if hidden else where,
            request,
            sorts=SORTS,
            convert=Notification.from_document,
            report=self._report,
        )

    async def get(self, user_id: str, notification_id: str) -> Notification:
        """One entry of the user's, archived or not. Raises `NotFound`."""
        return self._found(await self._notifications.find_one(_own(user_id, notification_id)))

    async def counts(self, user_id: str) -> Counts:
        """What waits in an inbox."""
        return await self._writer.counts(user_id)

    async def recount(self, user_id: str) -> Counts:
        """The counts as the entries themselves give them, to check the stored ones by."""
        return (await self._writer.recount([user_id]))[user_id]

    # -- what the recipient does --------------------------------------------------------------------------------------

    async def patch(
        self, user_id: str, notification_id: str, patch: NotificationPatch, *, precondition: Precondition
    ) -> tuple[Notification, Counts]:
        """Change the states of one entry; what is as wanted already is not written.

        Raises `NotFound` and `StaleVersion`.
        """

        async def work(session: Session) -> tuple[Notification, Counts]:
            before = await self._notifications.find_one(_own(user_id, notification_id), session=session)
            entry = self._found(before)
            precondition(entry)
            after = marked(before, patch, now=self._now())
            if after is None:
                return entry, await self._writer.counts(user_id, session)
            written = await self._writer.write([Changed(before, after)], session)
            return self._found(written.entries[0]), written.counts[user_id]

        return await transact(self._database, work)

    async def delete(self, user_id: str, notification_id: str, *, precondition: Precondition) -> Counts:
        """Remove one entry; again is no error. Raises `NotFound` and `StaleVersion`."""

        async def work(session: Session) -> Counts:
            before = await self._notifications.find_one({"_id": notification_id, "user_id": user_id}, session=session)
            if before is not None and is_tombstone(before):
                return await self._writer.counts(user_id, session)
            precondition(self._found(before))
            removed = Changed(before, tombstone(before, now=self._now()))
            return (await self._writer.write([removed], session)).counts[user_id]

        return await transact(self._database, work)

    async def mark(self, user_id: str, mark: Mark) -> Counts:
        """Change the states of many entries, those in which nothing newer happens than when this begins.

        Several transactions where they are many; the counts are of the last.
        """
        counts = await self._writer.counts(user_id)
        watermark = counts.seq if mark.until is UNSET else min(mark.until, counts.seq)
        where: Document = {"user_id": user_id, "deleted_at": None, "event_seq": {"$lte": watermark}}
        wanted = NotificationFilter() if mark.filter is UNSET else mark.filter
        conditions = [where, _matching(wanted), _unlike(mark)]
        if mark.ids is not UNSET:
            conditions.append({"_id": {"$in": mark.ids}})
        elif wanted.state is UNSET:
            conditions.append({"archived_at": {"$ne": None} if mark.archived is False else None})
        _, latest = await self._change_all(
            {"$and": conditions}, lambda entry: marked(entry, mark, now=self._now()), projection=_WITHOUT_EVENTS
        )
        return latest.get(user_id) or await self._writer.counts(user_id)

    # -- how ----------------------------------------------------------------------------------------------------------

    async def _remove_all(self, where: Document) -> int:
        removed, _ = await self._change_all(
            where, lambda entry: tombstone(entry, now=self._now()), projection=_WITHOUT_EVENTS
        )
        return removed

    async def _change_all(
        self,
        where: Document,
        change: Callable[[Document], Document | None],
        *,
        projection: Mapping[str, int] | None = None,
    ) -> tuple[int, dict[str, Counts]]:
        """Change the entries that match now and still do when their turn comes; how many, and the latest counts."""
        rows = await self._notifications.find(where, {"user_id": 1}).sort("user_id").to_list(None)
        changed, counts = 0, dict[str, Counts]()
        for portion in portions(rows, user_of=itemgetter("user_id")):

            async def work(session: Session, rows: Sequence[Document]) -> Written:
                named = {"_id": {"$in": [row["_id"] for row in rows]}}
                found = self._notifications.find({"$and": [named, where]}, projection, session=session)
                pairs = [(entry, change(entry)) async for entry in found]
                changes = [Changed(before, after) for before, after in pairs if after is not None]
                return await self._writer.write(changes, session)

            for written in await transact_in_parts(self._database, portion, work, owner_of=itemgetter("user_id")):
                changed += len(written.entries)
                counts |= written.counts
        return changed, counts

    def _found(self, document: Document | None) -> Notification:
        notification = None if document is None else self._fit(document)
        if notification is None:
            raise NotFound(_MISSING)
        return notification

    def _fit(self, document: Document) -> Notification | None:
        return fit(document, Notification.from_document, "notifications", self._report)


def _recipient(delivery: Delivery) -> str:
    return delivery.user_id


def _own(user_id: str, notification_id: str) -> Document:
    return {"_id": notification_id, "user_id": user_id, "deleted_at": None}


def _matching(wanted: NotificationFilter) -> Document:
    fields = {
        "type": wanted.type,
        "subject.project_id": wanted.project_id,
        "subject.item_id": wanted.item_id,
        "subject.thread_id": wanted.thread_id,
        "category": wanted.category,
    }
    state = {} if wanted.state is UNSET else _STATES[wanted.state]
    return {**state, **{name: value for name, value in fields.items() if value is not UNSET}}


def _outside(project_ids: Collection[str]) -> Document:
    """Entries of no such project. An expression, because MongoDB would walk an index by project and sort for `$nin`."""
    return {"$expr": {"$not": {"$in": ["$subject.project_id", {"$literal": list(project_ids)}]}}}


def _unlike(states: States) -> Document:
    """Entries that are not in one of the states yet."""
    wanted = {"seen_at": states.seen, "read_at": states.read, "archived_at": states.archived}
    return {"$or": [{name: None if holds else {"$ne": None}} for name, holds in wanted.items() if holds is not UNSET]}
