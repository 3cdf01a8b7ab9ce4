"""What the caller follows and has muted: /subscriptions and /subscriptions/{subject}"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from app.access import NOWHERE
from app.permissions import Action
from handlers.base import ApiHandler, Edge, Operation, Query, list_query
from models.comment_store import CommentStore
from models.errors import StaleVersion
from models.item_store import ItemStore
from models.page import Page
from models.subscription import (
    NEWEST_FIRST,
    Level,
    SubjectKind,
    Subscription,
    SubscriptionInput,
    SubscriptionStore,
)


class SubscriptionsHandler(ApiHandler):
    """All of the caller's."""

    route = "/api/v1/subscriptions"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="What you follow and have muted, newest first",
            action=Action.SIGNED_IN,
            query=list_query(
                Query(name="level", shape=Level, summary="Only what you follow, or only what you have muted."),
                Query(name="kind", shape=SubjectKind, summary="Only subjects of this kind."),
            ),
            answer=Page[Subscription],
        )
    }

    def initialize(self, *, edge: Edge, subscriptions: SubscriptionStore) -> None:
        super().initialize(edge=edge)
        self.subscriptions = subscriptions

    async def get(self) -> None:
        request = self.page_request(default_sort=NEWEST_FIRST)
        self.reply_page(
            await self.subscriptions.page(
                self.caller.user_id, request, level=self.query("level"), kind=self.query("kind")
            )
        )


class SubscriptionHandler(ApiHandler):
    """One project, item or thread that the caller follows or has muted."""

    route = "/api/v1/subscriptions/{subject}"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Whether you follow or have muted a project, item or thread",
            action=Action.SIGNED_IN,
            answer=Subscription,
        ),
        "PUT": Operation(
            summary="Follow or mute a project, item or thread of a project that you may see",
            action=Action.SIGNED_IN,
            body=SubscriptionInput,
            answer=Subscription,
            creates=True,
        ),
        "DELETE": Operation(
            summary="Neither follow nor mute it any more",
            action=Action.SIGNED_IN,
            status=204,
            refusals=(StaleVersion,),
        ),
    }

    def initialize(
        self, *, edge: Edge, subscriptions: SubscriptionStore, items: ItemStore, comments: CommentStore
    ) -> None:
        super().initialize(edge=edge)
        self.subscriptions, self.items, self.comments = subscriptions, items, comments

    async def get(self, subject: str) -> None:
        self.reply(await self.subscriptions.get(self.caller.user_id, subject), etag="document")

    async def put(self, subject: str) -> None:
        level = self.read(SubscriptionInput).level
        # Refused alike where there is no such subject and where the caller may not see it.
        project_id = await self._project_of(subject) or NOWHERE
        await self.edge.access.require(self.identity, Action.VIEW, project_id)
        subscription, created = await self.subscriptions.put(self.caller.user_id, subject, level)
        location = f"/api/v1/subscriptions/{subject}" if created else None
        self.reply(subscription, status=201 if created else 200, location=location, etag="document")

    async def delete(self, subject: str) -> None:
        if "If-Match" in self.request.headers:
            self.precondition(await self.subscriptions.get(self.caller.user_id, subject))
        await self.subscriptions.delete(self.caller.user_id, subject)
        self.reply()

    async def _project_of(self, subject: str) -> str | None:
        """The project whose members may see the subject; None where there is no such subject."""
        kind, _, name = subject.partition(":")
        if kind == "project":
            return name
        if kind == "item":
            return await self.items.project_of(name)
        return await self.comments.project_of_thread(name)
