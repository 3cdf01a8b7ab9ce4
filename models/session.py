"""Sessions behind the cookie: kept by the hash of their token, so that a copy of the database signs nobody in."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from models.database_types import Database
from models.fields import utc_now


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One signed-in browser. Times are Unix times in seconds."""

    id: str
    """SHA-256 of the token, in hexadecimal: known to everybody who may read the database, and of no use to them."""
    user_id: str
    created_at: float
    touched_at: float
    """When it was last used, give or take `SessionStore.touch_seconds`."""
    expires_at: float


class SessionStore:
    """The collection `sessions`; nothing else touches it. MongoDB removes what has expired (a TTL index)."""

    def __init__(
        self,
        database: Database,
        *,
        idle_seconds: float,
        max_seconds: float,
        now: Callable[[], datetime] = utc_now,
        make_token: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        """A session ends `idle_seconds` after it was last used and `max_seconds` after it was made, at the latest."""
        self._sessions = database["sessions"]
        self._idle, self._max = timedelta(seconds=idle_seconds), timedelta(seconds=max_seconds)
        self._now, self._make_token = now, make_token
        self.touch_seconds = min(180.0, idle_seconds / 10)
        """A use is written down at most this often: every write is an event for every process."""

    async def create(self, user_id: str, *, not_before: float) -> tuple[str, Session]:
        """Start a session; returns its token, which is kept nowhere, and the session.

        `not_before` is the user's last sign-out everywhere: the session counts as newer, though the clock of the
        process that signed out may be ahead of ours.
        """
        token = self._make_token()
        created = self._now()
        if created.timestamp() <= not_before:
            created = datetime.fromtimestamp(not_before, created.tzinfo) + timedelta(milliseconds=1)
        document = {
            "_id": session_id(token),
            "user_id": user_id,
            "created_at": created,
            "touched_at": created,
            "expires_at": self._end(created, created),
        }
        await self._sessions.insert_one(document)
        return token, _read(document)

    async def get(self, id: str) -> Session | None:  # noqa: A002 - the field's name
        """The session, if there is one that has not ended."""
        document = await self._sessions.find_one({"_id": id, "expires_at": {"$gt": self._now()}})
        return None if document is None else _read(document)

    def is_due(self, session: Session) -> bool:
        """Whether the last note of its use is so long ago that `touch` makes another."""
        return self._now().timestamp() - session.touched_at >= self.touch_seconds

    async def touch(self, session: Session) -> Session | None:
        """Note that the session is used, if that was long enough ago. None where it has ended meanwhile."""
        now = self._now()
        if now.timestamp() >= session.expires_at:
            return None
        if not self.is_due(session):
            return session
        created = datetime.fromtimestamp(session.created_at, now.tzinfo)
        changed = {"touched_at": now, "expires_at": self._end(created, now)}
        result = await self._sessions.update_one({"_id": session.id}, {"$set": changed})
        if not result.matched_count:
            return None
        return msgspec.structs.replace(
            session, touched_at=now.timestamp(), expires_at=changed["expires_at"].timestamp()
        )

    async def delete(self, id: str) -> None:  # noqa: A002 - the field's name
        """End one session; fine where there is none."""
        await self._sessions.delete_one({"_id": id})

    async def delete_all(self, user_id: str) -> None:
        """End all sessions of a user."""
        await self._sessions.delete_many({"user_id": user_id})

    def _end(self, created: datetime, used: datetime) -> datetime:
        return min(created + self._max, used + self._idle)


def session_id(token: str) -> str:
    """Under which id the session of a token is kept. The token has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _read(document: Mapping[str, Any]) -> Session:
    return Session(
        id=document["_id"],
        user_id=document["user_id"],
        created_at=document["created_at"].timestamp(),
        touched_at=document["touched_at"].timestamp(),
        expires_at=document["expires_at"].timestamp(),
    )
