"""What admins see and do: users, run-time settings, live connections: `/admin/...`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar

import msgspec
import structlog
from msgspec import UNSET, Meta, UnsetType

from app.connections import Connection
from app.metrics import Transport
from app.permissions import Action
from app.runtime import Runtime, RuntimeSettings
from handlers.base import ApiHandler, Edge, Operation, Query
from handlers.users import DEFAULT_SORT, LISTING, UserHandler
from models.errors import Conflict, NotFound, StaleVersion
from models.fields import Id, Timestamp, UserId, stamp
from models.meta import MetaStore, SettingsPatch
from models.page import LIMIT, Limit, Page
from models.user import Account, UserStore

log = structlog.get_logger("copydesk.admin")


class AdminUsersHandler(ApiHandler):
    """GET /api/v1/admin/users"""

    route = "/api/v1/admin/users"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="All users, with all that admins see.",
            action=Action.ADMINISTER,
            query=LISTING,
            answer=Page[Account],
        )
    }

    def initialize(self, *, edge: Edge, users: UserStore) -> None:
        super().initialize(edge=edge)
        self.users = users

    async def get(self) -> None:
        request = self.page_request(default_sort=DEFAULT_SORT)
        self.reply_page(await self.users.accounts(request, q=self.query("q", default="")))


class AdminUserHandler(UserHandler):
    """GET and PATCH /api/v1/admin/users/{user_id}: the same as under `/users`."""

    route = "/api/v1/admin/users/{user_id}"


class SignOutHandler(ApiHandler):
    """POST /api/v1/admin/users/{user_id}/sign-out"""

    route = "/api/v1/admin/users/{user_id}/sign-out"
    operations: ClassVar[Mapping[str, Operation]] = {
        "POST": Operation(
            summary="End all sessions and tokens that a user has now. Later ones are good.",
            action=Action.ADMINISTER,
            answer=Account,
            idempotent=True,
            refusals=(NotFound,),
        )
    }

    def initialize(self, *, edge: Edge, users: UserStore) -> None:
        super().initialize(edge=edge)
        self.users = users

    async def post(self, user_id: str) -> None:
        await self.edge.authenticator.sign_out_user(user_id, by=self.caller.user_id)
        log.info("user_signed_out", user_id=user_id, by=self.caller.user_id, request_id=self.request_id)
        self.reply(await self.users.account(user_id), etag="document")


class SettingsHandler(ApiHandler):
    """GET and PATCH /api/v1/admin/settings"""

    route = "/api/v1/admin/settings"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="The settings that can be changed while the server runs, as they are now.",
            action=Action.ADMINISTER,
            answer=RuntimeSettings,
        ),
        "PATCH": Operation(
            summary="Change them for every process; null goes back to what each was started with.",
            action=Action.ADMINISTER,
            body=SettingsPatch,
            answer=RuntimeSettings,
            refusals=(StaleVersion, Conflict),
        ),
    }

    def initialize(self, *, edge: Edge, meta: MetaStore, runtime: Runtime) -> None:
        super().initialize(edge=edge)
        self.meta, self.runtime = meta, runtime

    async def get(self) -> None:
        self.reply(self.runtime.effective(await self.meta.overrides()), etag="document")

    async def patch(self) -> None:
        patch = self.read(SettingsPatch)
        # This process obeys like all others: when the feed tells it.
        overrides = await self.meta.patch(
            patch,
            by=self.caller.user_id,
            precondition=lambda stored: self.precondition(self.runtime.effective(stored)),
        )
        log.info(
            "settings_changed", changes=msgspec.to_builtins(patch), by=self.caller.user_id, request_id=self.request_id
        )
        self.reply(self.runtime.effective(overrides), etag="document")


class LiveConnection(msgspec.Struct, kw_only=True):
    """One client that is connected to the process that answers."""

    id: str
    user_id: Annotated[UserId | UnsetType, Meta(description="Absent until the client has said who it is.")] = UNSET
    transport: Transport
    address: str
    since: Timestamp
    topics: list[str]
    pending_bytes: Annotated[int, Meta(description="Bytes that wait for the client to read them.")]


class ConnectionsHandler(ApiHandler):
    """GET /api/v1/admin/connections"""

    route = "/api/v1/admin/connections"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Who is connected to the process that answers, oldest first.",
            action=Action.ADMINISTER,
            query=(
                Query(name="limit", shape=Limit),
                Query(name="cursor", shape=Id),
            ),
            answer=Page[LiveConnection],
        )
    }

    def initialize(self, *, edge: Edge, connections: Iterable[Connection]) -> None:
        super().initialize(edge=edge)
        self.connections = connections

    async def get(self) -> None:
        limit, after = self.query("limit", default=LIMIT), self.query("cursor", default="")
        # Ids are time-ordered; the id of the last one shown is all that a cursor has to hold.
        found = sorted((one for one in self.connections if one.id > after), key=lambda one: one.id)
        self.reply_page(
            Page(
                items=[_public(connection) for connection in found[:limit]],
                next_cursor=found[limit - 1].id if len(found) > limit else UNSET,
                position=self.edge.position(),
            )
        )


def _public(connection: Connection) -> LiveConnection:
    identity = connection.identity
    return LiveConnection(
        id=connection.id,
        user_id=UNSET if identity is None else identity.user_id,
        transport=connection.transport,
        address=connection.address,
        since=stamp(datetime.fromtimestamp(connection.opened_at, UTC)),
        topics=sorted(connection.topics),
        pending_bytes=connection.pending_bytes,
    )
