"""What has to follow a change besides telling its listeners: rights remembered, sockets ended, settings obeyed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from pymongo.errors import PyMongoError

from app import logs
from app.auth import Authenticator, is_over
from app.connections import Connection, Connections
from app.protocol import CloseCode
from app.runtime import Runtime, RuntimeSettings
from models import meta, schema
from models.database_types import Database
from models.fields import Unfit
from models.user import UserRecord

log = structlog.get_logger("copydesk.consequences")


class Consequences:
    """Told by the relay, before listeners hear of a change."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        connections: Connections,
        runtime: Runtime,
        meta: meta.MetaStore,
        repair: Callable[[], Awaitable[None]],
    ) -> None:
        """`repair` puts back what the server needs in the database."""
        self._authenticator, self._connections = authenticator, connections
        self._runtime, self._meta, self._repair_once = runtime, meta, repair
        self._tasks: set[asyncio.Task[None]] = set()
        runtime.on_change(self._obey)

    def user_changed(self, user_id: str, document: Mapping[str, Any] | None) -> None:
        """Roles, a disabled user, a sign-out everywhere: live connections that this ends are closed."""
        self._authenticator.forget_user(user_id)
        try:
            user = None if document is None else UserRecord.from_document(document)
        except Unfit:
            user = None

        def concerned(connection: Connection) -> bool:
            identity = connection.identity
            return identity is not None and identity.user_id == user_id and is_over(identity, user)

        self._connections.close_where(concerned, CloseCode.ROLES_CHANGED)

    def session_changed(self, session_id: str, *, ended: bool) -> None:
        """Another process noted that a session is used, or a sign-out, here or there, or its age ended it."""
        self._authenticator.forget_session(session_id)
        if not ended:
            return
        self._connections.close_where(
            lambda connection: connection.identity is not None and connection.identity.session_id == session_id,
            CloseCode.ROLES_CHANGED,
        )

    def meta_changed(self, document_id: str, document: Mapping[str, Any] | None) -> None:
        """An admin changed a run-time setting, on whichever process."""
        if document_id == meta.SETTINGS_ID:
            self._runtime.apply(self._meta.read(document))

    def collection_lost(self, collection: str) -> None:
        """A collection was dropped or renamed: it gets its indexes and images back as soon as it can."""
        log.warning("schema_applied_again", collection=collection)
        self._authenticator.forget_all()
        task = asyncio.ensure_future(self._repair())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def everything_lost(self) -> None:
        """The feed lost its place: nothing remembered is believed."""
        self._authenticator.forget_all()

    async def close(self) -> None:
        """End what is under way; the next start does it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _repair(self) -> None:
        """Until it is done: without it updates of the collection are told without their documents."""
        while True:
            try:
                await self._repair_once()
            except PyMongoError as error:
                log.warning("schema_not_applied", detail=str(error)[:300])
                await asyncio.sleep(1.0)
            else:
                return

    def _obey(self, before: RuntimeSettings, now: RuntimeSettings) -> None:
        if now.log_level != before.log_level:
            logs.set_level(now.log_level)
        if before.websockets_enabled and not now.websockets_enabled:
            self._connections.close_where(lambda connection: connection.transport == "websocket", CloseCode.DISABLED)


async def apply_schema(database: Database) -> None:
    """Bring the collections into shape, and say what only an operator can put right."""
    for sentence in await schema.apply(database):
        log.warning("schema_needs_attention", detail=sentence)
