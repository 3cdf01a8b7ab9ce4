"""Notifications: the caller's inbox under /notifications, and what programs send by POST there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec import UNSET

from app.permissions import Action, may_on_server
from handlers.base import ApiHandler, Edge, Operation, Query, list_query
from models.errors import Conflict, NotFound, StaleVersion
from models.fields import Id, ShortText
from models.inbox_store import NEWEST_FIRST, InboxStore
from models.notification import Counts, Notification, NotificationType
from models.notification_input import Mark, NotificationFilter, NotificationPatch, State
from models.page import Page
from models.posting import NewPosting, Posting, PostingStore

COUNTS_HEADER = "Copydesk-Counts"


class NotificationsBaseHandler(ApiHandler):
    """What all handlers of notifications share. Everybody has one inbox: their own."""

    def initialize(self, *, edge: Edge, inbox: InboxStore, postings: PostingStore) -> None:
        super().initialize(edge=edge)
        self.inbox, self.postings = inbox, postings

    def tell_counts(self, counts: Counts) -> None:
        """Say in a header what waits after a change, so that no tab has to count."""
        self.set_header(COUNTS_HEADER, msgspec.json.encode(counts))


class NotificationsHandler(NotificationsBaseHandler):
    """The caller's notifications, and sending some."""

    route = "/api/v1/notifications"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Your notifications, newest first; archived ones only with `state=archived`",
            action=Action.SIGNED_IN,
            query=list_query(
                Query(name="state", shape=State, summary="Only in this state; absent: all but the archived ones."),
                Query(name="type", shape=NotificationType, summary="Only of this type."),
                Query(name="project_id", shape=Id, summary="Only about this project and what is in it."),
                Query(name="item_id", shape=Id, summary="Only about this item and its threads."),
                Query(name="thread_id", shape=Id, summary="Only about this thread."),
                Query(name="category", shape=ShortText, summary="Only of this category, which its sender chose."),
            ),
            answer=Page[Notification],
        ),
        "POST": Operation(
            summary="Send a notification to users and groups, at once or at a time",
            action=Action.NOTIFY,
            body=NewPosting,
            answer=Posting,
            status=201,
            idempotent=True,
            refusals=(Conflict,),
        ),
    }

    async def get(self) -> None:
        request = self.page_request(default_sort=NEWEST_FIRST)
        wanted = NotificationFilter(**{name: self.query(name, UNSET) for name in NotificationFilter.__struct_fields__})
        # Rights may be gone since the entries were made, and the worker may not have got to it yet.
        projects = await self.inbox.projects_of(self.caller.user_id)
        hidden = await self.edge.access.hidden(self.caller, projects)
        self.reply_page(await self.inbox.page(self.caller.user_id, wanted, request, hidden=hidden))

    async def post(self) -> None:
        new = self.read(NewPosting)
        posting = await self.postings.create(new, by=self.caller.user_id, make_id=self.make_id)
        self.reply(posting, status=201, location=f"/api/v1/notifications/{posting.id}", etag="document")


class NotificationCountHandler(NotificationsBaseHandler):
    """What waits in the caller's inbox."""

    route = "/api/v1/notifications/count"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="How many of your notifications are unseen and unread", action=Action.SIGNED_IN, answer=Counts
        )
    }

    async def get(self) -> None:
        self.reply(await self.inbox.counts(self.caller.user_id))


class NotificationsMarkHandler(NotificationsBaseHandler):
    """Many entries at once."""

    route = "/api/v1/notifications/mark"
    operations: ClassVar[Mapping[str, Operation]] = {
        "POST": Operation(
            summary="Mark many of your notifications; what arrives meanwhile stays as it is",
            action=Action.SIGNED_IN,
            body=Mark,
            answer=Counts,
            idempotent=True,
        )
    }

    async def post(self) -> None:
        self.reply(await self.inbox.mark(self.caller.user_id, self.read(Mark)))


class NotificationHandler(NotificationsBaseHandler):
    """One entry of the caller's inbox; read by its sender, a posting."""

    route = "/api/v1/notifications/{notification_id}"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Read one of your notifications, or as a program what you sent",
            action=Action.SIGNED_IN,
            answer=Notification | Posting,
        ),
        "PATCH": Operation(
            summary="Mark one of your notifications as seen, read or archived, or as not",
            action=Action.SIGNED_IN,
            body=NotificationPatch,
            answer=Notification,
            headers=(COUNTS_HEADER,),
            refusals=(Conflict, StaleVersion),
        ),
        "DELETE": Operation(
            summary="Remove one of your notifications for good",
            action=Action.SIGNED_IN,
            status=204,
            headers=(COUNTS_HEADER,),
            refusals=(Conflict, StaleVersion),
        ),
    }

    async def get(self, notification_id: str) -> None:
        found: Notification | Posting
        try:
            found = await self.inbox.get(self.caller.user_id, notification_id)
        except NotFound:
            found = await self._sent(notification_id)
        else:
            await self._check_right(found)
        self.reply(found, etag="document")

    async def patch(self, notification_id: str) -> None:
        patch = self.read(NotificationPatch)
        await self._check_right(await self.inbox.get(self.caller.user_id, notification_id))
        notification, counts = await self.inbox.patch(
            self.caller.user_id, notification_id, patch, precondition=self.precondition
        )
        self.tell_counts(counts)
        self.reply(notification, etag="document")

    async def delete(self, notification_id: str) -> None:
        self.tell_counts(await self.inbox.delete(self.caller.user_id, notification_id, precondition=self.precondition))
        self.reply()

    async def _check_right(self, notification: Notification) -> None:
        """Entries of a project that the caller may not see any more do not exist for them."""
        project_id = notification.subject.project_id
        if project_id is not UNSET and await self.edge.access.hidden(self.caller, [project_id]):
            raise NotFound

    async def _sent(self, posting_id: str) -> Posting:
        """What the caller has sent: where the `Location` of the POST leads."""
        if not may_on_server(self.caller, Action.NOTIFY):
            raise NotFound
        posting = await self.postings.get(posting_id)
        if posting.created_by != self.caller.user_id:
            raise NotFound
        return posting
