"""One holder among all processes, kept in MongoDB: for what must be done once, not once per process.

The database's clock decides, so processes need not agree on the time. A holder that cannot renew stops believing in its
lease before anyone else may take it. Even so, what a holder does has deterministic keys: a holder that was frozen and
wakes up does the same thing again, not another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from models.database_types import Database

log = structlog.get_logger("copydesk.lease")

LEASE_SECONDS = 6.0
"""A dead holder is replaced within this and one `RENEW_SECONDS`."""
RENEW_SECONDS = 1.5
MARGIN_SECONDS = 1.0
"""The holder gives up this much earlier than the database does."""


class Lease:
    """A named lease. `run` keeps trying to hold it until it is stopped."""

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        holder: str,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[bool], None] = lambda _held: None,
    ) -> None:
        """`holder` names this process; `changed` hears of every gain and loss."""
        self._leases, self._name, self._holder = database.leases, name, holder
        self._clock, self._changed = clock, changed
        self._good_until = 0.0
        self._was_held = False
        self._stopping = asyncio.Event()
        self.gained = asyncio.Event()
        """Set while held, as far as was known at the last renewal; `held` is the exact answer."""

    @property
    def held(self) -> bool:
        """Whether this process is the holder now."""
        return self._clock() < self._good_until

    async def run(self) -> None:
        """Take and renew, for ever; on `stop`, give the lease back so that another process need not wait."""
        try:
            while not self._stopping.is_set():
                await self.renew()
                try:
                    await asyncio.wait_for(self._stopping.wait(), RENEW_SECONDS)
                except TimeoutError:
                    continue
        finally:
            await self.release()

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    async def renew(self) -> bool:
        """Take the lease if it is free or ours; answers whether it is held."""
        asked_at = self._clock()
        free = {"$or": [{"$eq": ["$holder", self._holder]}, {"$lt": ["$expires_at", "$$NOW"]}]}
        until = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
        update = [
            {
                "$set": {
                    "holder": {"$cond": [free, self._holder, "$holder"]},
                    "expires_at": {"$cond": [free, until, "$expires_at"]},
                }
            }
        ]
        try:
            lease = await self._leases.find_one_and_update(
                {"_id": self._name}, update, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            # Two processes made the document at the same moment, and this one came second.
            self._good_until = 0.0
        except PyMongoError as error:
            # Held or not, nobody can tell; what was known runs out by itself.
            log.warning("lease_not_renewed", name=self._name, detail=str(error)[:300])
        else:
            held = lease["holder"] == self._holder
            self._good_until = asked_at + LEASE_SECONDS - MARGIN_SECONDS if held else 0.0
        self._note()
        return self.held

    async def release(self) -> None:
        """Give the lease back."""
        self._good_until = 0.0
        self._note()
        try:
            await self._leases.delete_one({"_id": self._name, "holder": self._holder})
        except PyMongoError as error:
            log.warning("lease_not_released", name=self._name, detail=str(error)[:300])

    def _note(self) -> None:
        held = self.held
        (self.gained.set if held else self.gained.clear)()
        if held != self._was_held:
            self._was_held = held
            log.info("lease_gained" if held else "lease_lost", name=self._name)
            self._changed(held)
