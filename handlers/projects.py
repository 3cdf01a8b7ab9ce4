"""Projects and the overview of one: /projects, /projects/{project_id}, /projects/{project_id}/overview"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta

from app.overviews import Overviews
from app.permissions import Action, allowed_actions, may
from handlers.base import ApiHandler, Edge, Operation, Query, list_query
from models.errors import Conflict, Forbidden, StaleVersion
from models.overview import ITEMS_SHOWN, Me, Overview
from models.page import Page, PageRequest, SearchText, scope, sort_names
from models.project import (
    DEFAULT_SORT,
    SORTS,
    NewProject,
    Project,
    ProjectPatch,
    ProjectQuery,
    ProjectStore,
)

_OWNERS_FIELDS = ("members", "visibility", "archived")
"""What of a project only an owner may change."""


class ProjectsHandler(ApiHandler):
    """The projects that the caller may see."""

    route = "/api/v1/projects"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="List the projects that you may see",
            action=Action.SIGNED_IN,
            query=list_query(
                Query(
                    name="label",
                    shape=Annotated[str, Meta(min_length=1, max_length=40)],
                    summary="Only with this label.",
                ),
                Query(name="q", shape=SearchText, summary="Only where each of these begins a word of the name."),
                Query(name="mine", shape=bool, summary="true: only what you created or are a member of."),
                Query(name="archived", shape=bool, summary="true: only archived ones; else only the others."),
                sorts=sort_names(SORTS),
            ),
            answer=Page[Project],
        ),
        "POST": Operation(
            summary="Create a project; you become its owner",
            action=Action.SIGNED_IN,
            body=NewProject,
            answer=Project,
            status=201,
            idempotent=True,
            refusals=(Conflict,),
        ),
    }

    def initialize(self, *, edge: Edge, projects: ProjectStore) -> None:
        super().initialize(edge=edge)
        self.projects = projects

    async def get(self) -> None:
        query = ProjectQuery(
            user_id=self.caller.user_id,
            groups=self.caller.groups,
            sees_everything=self.caller.sees_everything,
            label=self.query("label"),
            q=self.query("q"),
            mine=self.query("mine", default=False),
            archived=self.query("archived", default=False),
        )
        self.reply_page(await self.projects.list(query, self.page_request(default_sort=DEFAULT_SORT)))

    async def post(self) -> None:
        new = self.read(NewProject)
        project = await self.projects.create(new, by=self.caller.user_id, make_id=self.make_id)
        self.edge.access.forget(project.id)
        self.reply(project, status=201, location=f"/api/v1/projects/{project.id}", etag="document")


class ProjectHandler(ApiHandler):
    """One project."""

    route = "/api/v1/projects/{project_id}"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(summary="Read a project", action=Action.VIEW, answer=Project),
        "PATCH": Operation(
            summary="Change a project: an editor its name, description, labels and due date; an owner the rest too",
            action=Action.EDIT,
            body=ProjectPatch,
            answer=Project,
            refusals=(Conflict, StaleVersion),
        ),
        "DELETE": Operation(
            summary="Delete a project with its items and comments; the contents in the CMS stay",
            action=Action.MANAGE,
            status=204,
            refusals=(Conflict, StaleVersion),
        ),
    }

    def initialize(self, *, edge: Edge, projects: ProjectStore) -> None:
        super().initialize(edge=edge)
        self.projects = projects

    async def get(self, project_id: str) -> None:
        self.reply(await self.projects.get(project_id), etag="document")

    async def patch(self, project_id: str) -> None:
        patch = self.read(ProjectPatch)
        for field in _OWNERS_FIELDS:
            if getattr(patch, field) is not UNSET and not may(self.member.role, Action.MANAGE):
                raise Forbidden(f"Only an owner may change {field}; your role in this project is {self.member.role}.")
        project = await self.projects.patch(
            project_id,
            patch,
            by=self.caller.user_id,
            precondition=self.precondition,
            may_orphan="admin" in self.caller.roles,
        )
        # The change stream says so too, a moment later; the caller's own next request must not wait for it.
        self.edge.access.forget(project_id)
        self.reply(project, etag="document")

    async def delete(self, project_id: str) -> None:
        try:
            await self.projects.delete(project_id, by=self.caller.user_id, precondition=self.precondition)
        finally:
            self.edge.access.forget(project_id)
        self.reply()


class OverviewHandler(ApiHandler):
    """All that a project's page shows at first, in one call."""

    route = "/api/v1/projects/{project_id}/overview"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Read a project with its first items, newest threads and counters, all of one moment",
            action=Action.VIEW,
            answer=Overview,
        ),
    }

    def initialize(self, *, edge: Edge, overviews: Overviews) -> None:
        super().initialize(edge=edge)
        self.overviews = overviews

    async def get(self, project_id: str) -> None:
        # The cursor of an overview goes on in the list of items, in its default order.
        items = f"/api/v1/projects/{project_id}/items"
        request = PageRequest(limit=ITEMS_SHOWN, sort="rank", scope=scope(items, "rank"), position=self.edge.position())
        role = self.member.role
        contents, unread = await self.overviews.read(project_id, request, user_id=self.caller.user_id)
        me = msgspec.json.encode(Me(role=role, can=allowed_actions(role), unread=unread))

        def overview(position: str) -> bytes:
            """`models.overview.Overview`, of which most is encoded already."""
            return b'%b,"position":"%b","me":%b}' % (contents[:-1], position.encode(), me)

        self.reply_encoded_at_position(overview, request.position)
