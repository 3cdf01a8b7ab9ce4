"""The change log of a project: /projects/{project_id}/activities"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from app.permissions import Action
from handlers.base import ApiHandler, Edge, Operation, Query, list_query
from models.activity import NEWEST_FIRST, Activity, ActivityFilter, ActivityStore, ActivityType
from models.fields import Id, UserId
from models.page import Page


class ActivitiesHandler(ApiHandler):
    """What happened in a project, also through other programs."""

    route = "/api/v1/projects/{project_id}/activities"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Read the change log of a project, newest first",
            action=Action.VIEW,
            query=list_query(
                Query(name="type", shape=ActivityType, summary="Only of this type."),
                Query(name="item_id", shape=Id, summary="Only about this item."),
                Query(name="actor", shape=UserId, summary="Only what this user did."),
            ),
            answer=Page[Activity],
        ),
    }

    def initialize(self, *, edge: Edge, activities: ActivityStore) -> None:
        super().initialize(edge=edge)
        self.activities = activities

    async def get(self, project_id: str) -> None:
        wanted = ActivityFilter(type=self.query("type"), item_id=self.query("item_id"), actor=self.query("actor"))
        self.reply_page(await self.activities.page(project_id, wanted, self.page_request(default_sort=NEWEST_FIRST)))
