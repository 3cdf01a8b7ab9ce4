"""What has to follow a change besides telling its listeners: rights remembered, sockets ended, settings obeyed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog
from pymongo.errors import PyMongoError

from app import logs
from app.auth import Authenticator, is_over
from app.connections import Connections, Known
from app.protocol import CloseCode
from app.runtime import Runtime, RuntimeSettings
from models import meta, schema
from models.database_types import Database
from models.fields import Unfit
from models.user import UserRecord

log = structlog.get_logger("copydesk.consequences")

READ_AGAIN = ("users", "sessions", "meta")
"""Collections that say who may stay and what counts, and of which nobody holds a topic."""
READS_AT_ONCE = 20
"""Of MongoDB, for one connection each: the requests of those who stay are not to wait for all of them."""


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
        self._settings_told = 0
        self._tasks: set[asyncio.Task[None]] = set()
        runtime.on_change(self._obey)

    def user_changed(self, user_id: str, document: Mapping[str, Any] | None) -> None:
        """Roles, a disabled user, a sign-out everywhere: live connections that this ends are closed."""
        self._authenticator.forget_user(user_id)
        try:
            user = None if document is None else UserRecord.from_document(document)
        except Unfit:
            user = None

        def concerned(known: Known) -> bool:
            identity = known.identity
            return identity is not None and identity.user_id == user_id and is_over(identity, user)

        self._connections.close_where(concerned, CloseCode.ROLES_CHANGED)

    def session_changed(self, session_id: str, *, ended: bool) -> None:
        """Another process noted that a session is used, or a sign-out, here or there, or its age ended it."""
        self._authenticator.forget_session(session_id)
        if not ended:
            return
        self._connections.close_where(
            lambda known: known.identity is not None and known.identity.session_id == session_id,
            CloseCode.ROLES_CHANGED,
        )

    def meta_changed(self, document_id: str, document: Mapping[str, Any] | None) -> None:
        """An admin changed a run-time setting, on whichever process."""
        if document_id == meta.SETTINGS_ID:
            self._settings_told += 1
            self._runtime.apply(self._meta.read(document))

    def collection_lost(self, collection: str) -> None:
        """A collection was dropped or renamed: it gets its indexes and images back as soon as it can."""
        log.warning("schema_applied_again", collection=collection)
        self._authenticator.forget_all()
        self._start(self._until_done(self._repair_once, "schema_not_applied"))
        if collection in READ_AGAIN:
            # Each of its documents is gone, and no change says so one by one.
            self._start(self._until_done(self._read_again, "not_read_again"))

    def everything_lost(self) -> None:
        """The feed lost its place: nothing remembered is believed, and what it would have said is read."""
        self._authenticator.forget_all()
        self._start(self._until_done(self._read_again, "not_read_again"))

    async def close(self) -> None:
        """End what is under way; the next start does it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_done(self, work: Callable[[], Awaitable[None]], event: str) -> None:
        """Until MongoDB lets it: without a repair updates are told without their documents, and whoever was disabled
        while the feed was lost would stay."""
        while True:
            try:
                await work()
            except PyMongoError as error:
                log.warning(event, detail=str(error)[:300])
                await asyncio.sleep(1.0)
            else:
                return

    async def _read_again(self) -> None:
        """What users, sessions and settings say now, for what changed while nobody told us."""
        told = self._settings_told
        overrides = await self._meta.overrides()
        if told == self._settings_told:  # else the feed has brought something newer
            self._runtime.apply(overrides)
        connected = [known for known in (*self._connections, *self._connections.polls) if known.identity is not None]
        for start in range(0, len(connected), READS_AT_ONCE):
            some = connected[start : start + READS_AT_ONCE]
            await asyncio.gather(*(self._close_if_over(known) for known in some))

    async def _close_if_over(self, known: Known) -> None:
        identity = known.identity
        if identity is None or not await self._authenticator.has_ended(identity):
            return
        if known.identity is identity:  # else it was refreshed meanwhile, and judged then
            known.leave(CloseCode.ROLES_CHANGED)

    def _obey(self, before: RuntimeSettings, now: RuntimeSettings) -> None:
        if now.log_level != before.log_level:
            logs.set_level(now.log_level)
        if before.websockets_enabled and not now.websockets_enabled:
            self._connections.close_where(lambda known: known.transport == "websocket", CloseCode.DISABLED)


async def apply_schema(database: Database) -> None:
    """Bring the collections into shape, and say what only an operator can put right."""
    for sentence in await schema.apply(database):
        log.warning("schema_needs_attention", detail=sentence)
