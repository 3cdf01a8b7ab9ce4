"""Who is connected to any process, so that nobody is sent a mail about what stands on their screen.

Each process keeps the set of its users in a document that expires by the database's clock: a process that died is
forgotten by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog
from pymongo.errors import PyMongoError

from models.database_types import Database, Document

log = structlog.get_logger("copydesk.presence")

WRITE_SECONDS = 10.0
EXPIRES_SECONDS = 30.0
"""A process that has not written for so long counts as dead, and its users as gone."""
_LOOK_SECONDS = 1.0
"""How often a process looks whether anybody is there at all; that is told at once."""

_PREFIX = "online:"
_OURS = {"$regex": f"^{_PREFIX}"}


class Presence:
    """Tells of the users of this process, and knows those of all. `run` ends after `stop`."""

    def __init__(self, database: Database, *, process: str, users: Callable[[], Collection[str]]) -> None:
        """`process` names this process; `users` answers whose connections it has."""
        self._leases, self._id, self._users = database["leases"], _PREFIX + process, users
        self._written: frozenset[str] = frozenset()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Write for ever; on `stop`, take it back."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while not self._stopping.is_set():
                if loop.time() >= due or bool(self._users()) != bool(self._written):
                    await self._write_or_wait()
                    due = loop.time() + WRITE_SECONDS
                try:
                    await asyncio.wait_for(self._stopping.wait(), _LOOK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            await self._forget()

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    async def write(self) -> None:
        """Tell who is here now. A process without users leaves no document."""
        users = frozenset(self._users())
        if users:
            expires = {"$add": ["$$NOW", round(EXPIRES_SECONDS * 1000)]}
            fields: Document = {"expires_at": expires}
            if users != self._written:
                fields["users"] = {"$literal": sorted(users)}
            result = await self._leases.update_one({"_id": self._id}, [{"$set": fields}], upsert=users != self._written)
            if users == self._written and not result.matched_count:
                # Somebody removed the document; the next time all of it is written.
                self._written = frozenset()
                return
        elif self._written:
            await self._leases.delete_one({"_id": self._id})
        self._written = users
        await self._leases.delete_many({"_id": _OURS, "$expr": {"$lt": ["$expires_at", "$$NOW"]}})

    async def online(self, user_ids: Collection[str]) -> set[str]:
        """Those of the users who have a live connection to any process."""
        wanted = sorted(user_ids)
        where = {"_id": _OURS, "users": {"$in": wanted}, "$expr": {"$gt": ["$expires_at", "$$NOW"]}}
        pipeline = [{"$match": where}, {"$project": {"users": {"$setIntersection": ["$users", {"$literal": wanted}]}}}]
        return {user async for document in self._leases.aggregate(pipeline) for user in document["users"]}

    async def _write_or_wait(self) -> None:
        try:
            await self.write()
        except PyMongoError as error:
            log.warning("presence_not_written", detail=str(error)[:300])

    async def _forget(self) -> None:
        try:
            await self._leases.delete_one({"_id": self._id})
        except PyMongoError as error:
            log.warning("presence_not_removed", detail=str(error)[:300])
