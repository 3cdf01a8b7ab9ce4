"""Notifications on a real database, worked off by hand: what a worker does, one step at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from app.access import Access
from app.audience import Audiences
from app.catchup import read_stretch
from app.changes import Change
from app.notifications import MailQueue, Notifications
from app.position import Position, after_time
from models import schema
from models.comment_store import CommentStore
from models.fields import utc_now
from models.inbox_store import InboxStore
from models.item_store import ItemStore
from models.posting import PostingStore
from models.preferences import PreferencesStore
from models.project import ProjectStore
from models.subscription import SubscriptionStore
from models.user import UserStore

MONTH = timedelta(days=30)


class Clock:
    """The present, or what a test makes of it."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class Newsroom:
    """The stores, the notifications over them, and a place in the stream."""

    def __init__(self, database: Any, *, mail: MailQueue | None = None, group_limit: int = 100) -> None:
        self.database, self.clock = database, Clock()
        self.reports: list[tuple[str, object]] = []
        report = lambda collection, id_, _problem: self.reports.append((collection, id_))  # noqa: E731
        self.projects = ProjectStore(database, report=report)
        self.access = Access(self.projects.accesses)
        self.inbox = InboxStore(database, report=report, retention=MONTH)
        self.subscriptions = SubscriptionStore(database, report=report)
        self.preferences = PreferencesStore(database, report=report)
        self.postings = PostingStore(database, report=report)
        self.audiences = Audiences(
            access=self.access,
            users=UserStore(database, report=report),
            projects=self.projects,
            items=ItemStore(database, report=report),
            comments=CommentStore(database, report=report),
            subscriptions=self.subscriptions,
            group_limit=group_limit,
        )
        self.notifications = Notifications(
            audiences=self.audiences,
            inbox=self.inbox,
            subscriptions=self.subscriptions,
            preferences=self.preferences,
            postings=self.postings,
            mail=mail,
            now=self.clock,
        )
        self.start = self.position = Position(0, 0)

    async def open(self) -> None:
        """Prepare the database; what happens from here on is told."""
        assert await schema.apply(self.database) == []
        self.start = self.position = await self._now()

    async def clear(self) -> None:
        """Begin again with an empty database."""
        for name in schema.COLLECTIONS:
            await self.database[name].delete_many({})
        self.access.forget_all()
        self.start = self.position = await self._now()

    async def read(self) -> list[Change]:
        """The changes since the last call, or since the place that a test set."""
        now = await self._now()
        found = [change async for changes in read_stretch(self.database, self.position, now) for change in changes]
        self.position = now
        for change in found:
            if change.collection == "projects":
                self.access.forget(change.id)  # as the relay does
        return found

    async def work_off(self) -> bool:
        """Tell people of all that happened since the last call."""
        return await self.notifications.work_off(await self.read())

    async def replay(self) -> None:
        """The same for all that ever happened."""
        self.position = self.start
        await self.work_off()

    async def told(self) -> dict[str, dict[str, list[str]]]:
        """By user and subject: the events, newest first, as "type/reason: text"."""
        found: dict[str, dict[str, list[str]]] = {}
        async for entry in self.database.notifications.find({"deleted_at": None}):
            subject = entry["subject"]
            key = subject.get("thread_id") or subject.get("item_id") or subject.get("posting_id")
            found.setdefault(entry["user_id"], {})[key] = [
                f"{event['type']}/{event['reason']}: {event.get('text', '')}" for event in entry["events"]
            ]
        return found

    async def check_counts(self) -> None:
        """What the inboxes say is what their entries give."""
        async for inbox in self.database.inboxes.find():
            assert await self.inbox.counts(inbox["_id"]) == await self.inbox.recount(inbox["_id"])

    async def everything(self) -> dict[str, list[Any]]:
        """All that was derived, exactly as it is stored."""
        names = ("notifications", "inboxes", "subscriptions", "postings")
        return {name: await self.database[name].find().sort("_id").to_list(None) for name in names}

    async def _now(self) -> Position:
        moment = (await self.database.command("ping"))["operationTime"]
        return after_time((moment.time, moment.inc))


def stored_comment(id_: str, body: str = "Hello", **fields: Any) -> dict[str, Any]:
    """A comment of alice's on project p, as another program writes it."""
    return {"_id": id_, "project_id": "p", "body": body, "author": "alice", "created_at": utc_now(), **fields}


def stored_item(id_: str, **fields: Any) -> dict[str, Any]:
    """An item of project p, as another program writes it."""
    content = {"id": id_, "version": "1"}
    return {"_id": id_, "project_id": "p", "content": content, "name": f"Item {id_}", "type": "page", "status": "draft",
            **fields}  # fmt: skip


def stored_user(id_: str, *groups: str, **fields: Any) -> dict[str, Any]:
    """A user who has been seen."""
    return {"_id": id_, "name": id_, "roles": ["editor"], "groups": list(groups), "version": 1, **fields}
