"""What was answered under an `Idempotency-Key`, so that a request that is sent again does nothing twice.

A key is claimed before the work and settled with the answer after it. Ids of what the request creates derive from the
claim, so a second attempt after a crash in the middle finds its own documents instead of making others.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from models.database_types import Database, Document
from models.errors import FieldError, IdempotencyMismatch, InProgress, Invalid
from models.fields import ulid, utc_now

KEPT = timedelta(hours=24)
LAPSES_AFTER = timedelta(seconds=60)
"""How long a claim is believed to be at work; then its process is taken for dead."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class Mark:
    """A claimed key. Belongs to one attempt of one request."""

    def __init__(self, mark_id: str, *, claim: str, started_at: datetime) -> None:
        self.id, self.claim = mark_id, claim
        self._milliseconds = round(started_at.timestamp() * 1000)
        # The top bit stays free, as in `Ids`, so that counting up cannot overflow.
        self._tail = int(mark_id, 16) & (1 << 79) - 1

    def make_id(self) -> str:
        """The next id: every attempt under the same mark gets the same ones in the same order, each above the last."""
        self._tail += 1
        return ulid(self._milliseconds, self._tail)


class IdempotencyStore:
    """The marks of all users, for 24 hours from a key's first use."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        self._marks, self._now = database.idempotency, now

    async def claim(self, *, user_id: str, method: str, path: str, key: str, body: bytes) -> Answer | Mark:
        """Take a key, or learn what was answered under it.

        Raises `Invalid` for a key that is none, `IdempotencyMismatch` where it was used for another body, and
        `InProgress` while another attempt is at work.
        """
        if _KEY.fullmatch(key) is None:
            problem = "Expected 1 to 255 visible ASCII characters"
            raise Invalid(f"{problem} in Idempotency-Key.", errors=(FieldError("Idempotency-Key", problem),))
        mark_id = hashlib.blake2b(msgspec.json.encode([user_id, method, path, key]), digest_size=20).hexdigest()
        digest = hashlib.blake2b(body, digest_size=20).hexdigest()
        while True:
            now = self._now()
            fresh = {
                "_id": mark_id,
                "body": digest,
                "claim": secrets.token_hex(8),
                "started_at": now,
                "lapses_at": now + LAPSES_AFTER,
                "expires_at": now + KEPT,
            }
            try:
                await self._marks.insert_one(fresh)
            except DuplicateKeyError:
                outcome = await self._again(fresh)
                if outcome is not None:
                    return outcome
            else:
                return _mark(fresh)

    async def _again(self, fresh: Document) -> Answer | Mark | None:
        """What a key that was used before gives; None where it changed under our eyes, so that all begins anew."""
        found: Document | None = await self._marks.find_one({"_id": fresh["_id"]})
        if found is None:
            return None
        now, seen = fresh["started_at"], {"_id": found["_id"], "claim": found["claim"], "lapses_at": found["lapses_at"]}
        if found["expires_at"] <= now:
            # MongoDB removes expired documents once a minute; until then they count as gone.
            replaced = await self._marks.find_one_and_replace(seen, fresh)
            return None if replaced is None else _mark(fresh)
        if found["body"] != fresh["body"]:
            raise IdempotencyMismatch("This Idempotency-Key was used with another body. A new request needs a new key.")
        if found.get("answer") is not None:
            return msgspec.convert(found["answer"], Answer)
        if found["lapses_at"] > now:
            raise InProgress("The first request with this key is still running. Repeat it shortly.", retry_after=1)
        taken = await self._marks.find_one_and_update(
            {**seen, "answer": None},
            {"$set": {"claim": fresh["claim"], "lapses_at": fresh["lapses_at"]}},
            return_document=ReturnDocument.AFTER,
        )
        return None if taken is None else _mark(taken)

    async def settle(self, mark: Mark, answer: Answer) -> None:
        """Keep the answer for whoever asks again. Nothing happens where another attempt has taken the mark over."""
        await self._marks.update_one(
            {"_id": mark.id, "claim": mark.claim}, {"$set": {"answer": msgspec.structs.asdict(answer)}}
        )

    async def release(self, mark: Mark, *, keep_ids: bool) -> None:
        """Let the next attempt in at once; with `keep_ids` under the same ids, as our write may yet prove committed."""
        mine = {"_id": mark.id, "claim": mark.claim}
        if keep_ids:
            await self._marks.update_one(mine, {"$set": {"lapses_at": self._now()}})
        else:
            await self._marks.delete_one(mine)


def _mark(document: Document) -> Mark:
    return Mark(document["_id"], claim=document["claim"], started_at=document["started_at"])
