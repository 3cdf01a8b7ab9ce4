"""Users: to be mentioned, and one of them for admins: `/users` and `/users/{user_id}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import structlog

from app.audience import members_of
from app.permissions import Action
from handlers.base import ApiHandler, Edge, Operation, Query, list_query
from models.errors import Conflict, NotFound, StaleVersion
from models.fields import Id
from models.page import Page, SearchText, sort_names
from models.user import SORTS, Account, User, UserPatch, UserStore

log = structlog.get_logger("copydesk.admin")

LISTING = list_query(
    Query(name="q", shape=SearchText, summary="The beginning of an id or name, or of words of a name."),
    sorts=sort_names(SORTS),
)
DEFAULT_SORT = "name"


class UsersHandler(ApiHandler):
    """GET /api/v1/users"""

    route = "/api/v1/users"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Users that can be mentioned: all who are known, or those who may see a project.",
            action=Action.SIGNED_IN,
            query=(
                *LISTING,
                Query(name="project_id", shape=Id, summary="Only who may see this project and is not disabled."),
            ),
            answer=Page[User],
            refusals=(NotFound,),
        )
    }

    def initialize(self, *, edge: Edge, users: UserStore) -> None:
        super().initialize(edge=edge)
        self.users = users

    async def get(self) -> None:
        request = self.page_request(default_sort=DEFAULT_SORT)
        project_id = self.query("project_id")
        audience = None
        if project_id is not None:
            await self.edge.access.require(self.identity, Action.VIEW, project_id)
            audience = members_of(await self.edge.access.of(project_id))
        page = await self.users.search(
            request, q=self.query("q", default=""), enabled=project_id is not None, audience=audience
        )
        self.reply_page(page)


class UserHandler(ApiHandler):
    """GET and PATCH /api/v1/users/{user_id}"""

    route = "/api/v1/users/{user_id}"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="A user with all that admins see.",
            action=Action.ADMINISTER,
            answer=Account,
            refusals=(NotFound,),
        ),
        "PATCH": Operation(
            summary="Disable or enable a user. Disabled ones are refused everywhere, with tokens and sessions that "
            "are good again once they are enabled.",
            action=Action.ADMINISTER,
            body=UserPatch,
            answer=Account,
            refusals=(NotFound, StaleVersion, Conflict),
        ),
    }

    def initialize(self, *, edge: Edge, users: UserStore) -> None:
        super().initialize(edge=edge)
        self.users = users

    async def get(self, user_id: str) -> None:
        self.reply(await self.users.account(user_id), etag="document")

    async def patch(self, user_id: str) -> None:
        patch = self.read(UserPatch)
        account = await self.users.patch(user_id, patch, by=self.caller.user_id, precondition=self.precondition)
        self.edge.authenticator.forget_user(user_id)
        log.info(
            "user_changed",
            user_id=user_id,
            disabled=account.disabled is True,
            by=self.caller.user_id,
            request_id=self.request_id,
        )
        self.reply(account, etag="document")
