"""Users: who has been seen, what their newest token says about them, and whether they may come in at all."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from models.database_types import Database
from models.errors import Conflict, NotFound
from models.etag import Precondition
from models.fields import (
    GroupName,
    InstanceRole,
    Name,
    Report,
    Timestamp,
    Unfit,
    Url,
    UserId,
    Version,
    from_document,
    utc_now,
)
from models.page import Page, PageRequest, Sort, fit, read_page

Email = Annotated[str, Meta(max_length=254, pattern=r"^[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+(?!\n)$")]

T = TypeVar("T")

SORTS = {"name": Sort("name", "text")}

_ATTEMPTS = 5
_WORD = re.compile(r"[^\W_]+")


class User(msgspec.Struct, kw_only=True):
    """A user as others see them. `email` is there only for the user and for admins."""

    id: UserId
    name: Name
    avatar_url: Url | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    email: Email | UnsetType = UNSET

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, with_email: bool = False) -> User:
        """Raises `models.fields.Unfit`."""
        hidden = {} if with_email else {"email": None}
        return from_document({**_readable(document), **hidden}, cls, times=(), defaults={})


class Account(msgspec.Struct, kw_only=True):
    """A user as admins see them."""

    id: UserId
    name: Name
    avatar_url: Url | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    roles: list[InstanceRole] = msgspec.field(default_factory=lambda: ["editor"])
    """The instance roles that the newest token gave."""
    groups: list[GroupName] = []
    signed_out_at: Timestamp | UnsetType = UNSET
    """Sessions and tokens that are older than this are refused."""
    created_at: Timestamp | UnsetType = UNSET
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Account:
        """Raises `models.fields.Unfit`."""
        return from_document(_readable(document), cls, times=("signed_out_at", "created_at"), defaults={})


class UserPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an admin may change of a user. Everything else comes from the user's token."""

    disabled: bool | UnsetType | None = UNSET
    """null means false: a merge patch takes an optional field away with it."""


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether somebody's credentials still hold. Times are Unix times in seconds."""

    user_id: str
    name: str
    email: str | None = None
    roles: frozenset[InstanceRole] = frozenset({"editor"})
    groups: frozenset[str] = frozenset()
    roles_at: float = 0.0
    """When the token was issued, or the account made, that the roles are from."""
    disabled: bool = False
    signed_out_at: float = float("-inf")
    """Credentials issued at this time or before are over."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> UserRecord:
        """Raises `models.fields.Unfit`."""
        account = Account.from_document(document)
        return cls(
            user_id=account.id,
            name=account.name,
            email=account.email or None,
            roles=frozenset(account.roles),
            groups=frozenset(account.groups),
            roles_at=_seconds(document.get("roles_at"), 0.0),
            disabled=account.disabled is True,
            signed_out_at=_seconds(document.get("signed_out_at"), float("-inf")),
        )

    def refuses(self, issued_at: float) -> bool:
        """Whether credentials issued at that Unix time no longer let this user in.

        A time equal to the sign-out is refused: tokens count whole seconds, and one made just before the sign-out must
        not survive it.
        """
        return self.disabled or issued_at <= self.signed_out_at


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Who may see a private project, besides those whose instance role lets them see everything."""

    user_ids: frozenset[str]
    groups: frozenset[str]


class UserStore:
    """The collection `users`; nothing else touches it."""

    def __init__(self, database: Database, *, report: Report, now: Callable[[], datetime] = utc_now) -> None:
        self._users = database["users"]
        self._report, self._now = report, now

    async def get(self, user_id: str) -> UserRecord | None:
        """What decides about a user; None for one never seen (or whose document another program broke)."""
        document = await self._users.find_one({"_id": user_id})
        return None if document is None else self._fit(document, UserRecord.from_document)

    async def of_many(self, user_ids: Collection[str]) -> dict[str, UserRecord | None]:
        """What decides about each of these users that was ever seen; None where another program broke the document."""
        if not user_ids:
            return {}
        found = self._users.find({"_id": {"$in": sorted(user_ids)}})
        return {document["_id"]: self._fit(document, UserRecord.from_document) async for document in found}

    async def members(
        self, group: str, *, after: str = "", limit: int, audience: Audience | None = None
    ) -> dict[str, UserRecord | None]:
        """The enabled users of a group, by id, who belong to an audience; at most `limit` with ids behind `after`."""
        where: dict[str, Any] = {"groups": group, "_id": {"$gt": after}, "disabled": {"$ne": True}}
        found = self._users.find(where | _among(audience), sort=[("_id", 1)], limit=limit)
        return {document["_id"]: self._fit(document, UserRecord.from_document) async for document in found}

    async def search(
        self, request: PageRequest, *, q: str, enabled: bool = False, audience: Audience | None = None
    ) -> Page[User]:
        """Users by the beginning of their id or name, only those who are not disabled, or who belong to an audience."""
        where = _search(q)
        if enabled:
            where["disabled"] = {"$ne": True}
        return await read_page(
            self._users, where | _among(audience), request, sorts=SORTS, convert=User.from_document, report=self._report
        )

    async def accounts(self, request: PageRequest, *, q: str) -> Page[Account]:
        """The same with all that admins see."""
        return await read_page(
            self._users, _search(q), request, sorts=SORTS, convert=Account.from_document, report=self._report
        )

    async def account(self, user_id: str) -> Account:
        """A user in full. Raises `NotFound`."""
        return self._account(await self._users.find_one({"_id": user_id}))

    async def password(self, user_id: str) -> tuple[UserRecord, str] | None:
        """A user and their password hash; None for one without a password."""
        document = await self._users.find_one({"_id": user_id, "password_hash": {"$type": "string"}})
        record = None if document is None else self._fit(document, UserRecord.from_document)
        return None if document is None or record is None else (record, document["password_hash"])

    async def seen(
        self,
        user_id: str,
        *,
        name: str | None,
        email: str | None,
        roles: Iterable[InstanceRole],
        groups: Iterable[str],
        issued_at: float,
    ) -> UserRecord | None:
        """Keep what a token says about its user, unless a token issued later has already said something.

        `issued_at` is the token's `iat`. Of two of the same second the one seen last counts. Returns what holds now.
        """
        moment = datetime.fromtimestamp(issued_at, UTC)
        said: dict[str, Any] = {"roles": sorted(roles), "groups": sorted(groups), "roles_at": moment}
        if email is not None:
            said["email"] = email
        named = {"name": name or user_id, "words": _words(user_id, name or user_id)}
        try:
            document = await self._users.find_one_and_update(
                {"_id": user_id, "$or": [{"roles_at": None}, {"roles_at": {"$lte": moment}}]},
                self._change(said | named) if name is not None else self._change(said, first=named),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:  # known, and from a newer token
            return await self.get(user_id)
        return self._fit(document, UserRecord.from_document)

    async def add(
        self,
        user_id: str,
        *,
        password_hash: str,
        roles: Iterable[InstanceRole] = ("editor",),
        groups: Iterable[str] = (),
        name: str | None = None,
        email: str | None = None,
    ) -> Account:
        """Make an account with a password (hashed by `app.passwords`), or give one to a user known from tokens.

        Raises `Conflict` where the user has a password already, `models.fields.Unfit` where the fields do not fit.
        """
        said: dict[str, Any] = {
            "name": unicodedata.normalize("NFC", name or user_id),
            "roles": sorted(roles),
            "groups": sorted(groups),
            "roles_at": self._now(),
            "password_hash": password_hash,
        }
        said["words"] = _words(user_id, said["name"])
        if email is not None:
            said["email"] = email
        Account.from_document({"_id": user_id, **said, "version": 1})
        try:
            document = await self._users.find_one_and_update(
                {"_id": user_id, "password_hash": None},
                self._change(said),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            raise Conflict(f"There is already a user {user_id} with a password.") from None
        return self._account(document)

    async def patch(self, user_id: str, patch: UserPatch, *, by: str, precondition: Precondition) -> Account:
        """Disable or enable a user. Raises `NotFound`, `StaleVersion` or `Conflict`."""
        for _attempt in range(_ATTEMPTS):
            stored = await self._users.find_one({"_id": user_id})
            account = self._account(stored)
            precondition(account)
            if patch.disabled is UNSET or bool(patch.disabled) == (account.disabled is True):
                return account
            document = await self._users.find_one_and_update(
                {"_id": user_id, "version": stored.get("version")},
                self._change({"disabled": bool(patch.disabled), "updated_by": by}),
                return_document=ReturnDocument.AFTER,
            )
            if document is not None:
                return self._account(document)
            # Somebody changed the user meanwhile, a token with new roles for instance: judge the precondition again.
        raise Conflict("This user keeps changing. Try again.")

    async def sign_out_everywhere(self, user_id: str, *, by: str) -> Account:
        """End all of a user's tokens and sessions that were issued up to now. Raises `NotFound`."""
        return self._account(
            await self._users.find_one_and_update(
                {"_id": user_id},
                self._change({"signed_out_at": self._now(), "updated_by": by}),
                return_document=ReturnDocument.AFTER,
            )
        )

    def _change(self, fields: Mapping[str, Any], first: Mapping[str, Any] | None = None) -> dict[str, Any]:
        now = self._now()
        return {
            "$set": {**fields, "updated_at": now},
            "$setOnInsert": {**(first or {}), "created_at": now},
            "$inc": {"version": 1},
        }

    def _account(self, document: Mapping[str, Any] | None) -> Account:
        account = None if document is None else self._fit(document, Account.from_document)
        if account is None:
            raise NotFound("There is no such user.")
        return account

    def _fit(self, document: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T | None:
        return fit(document, read, "users", self._report)


def _among(audience: Audience | None) -> dict[str, Any]:
    """The filter for an audience; None: everybody."""
    if audience is None:
        return {}
    everything = {"roles": {"$in": ["admin", "service"]}}
    named = [{"_id": {"$in": sorted(audience.user_ids)}}, {"groups": {"$in": sorted(audience.groups)}}]
    return {"$or": [everything, *named]}


def _search(q: str) -> dict[str, Any]:
    """The filter for `q`: an id or name that begins with it, or a name in which every word of `q` begins a word.

    It walks the index on `words`, which holds folded text: so `q` is folded, and every prefix anchored.
    """
    folded = _fold(q)
    if not folded:
        return {}
    every_word = [_begins_with(word) for word in _WORD.findall(folded)]
    return {"$and": [{"$or": [_begins_with(folded), *([{"$and": every_word}] if every_word else [])]}]}


def _begins_with(prefix: str) -> dict[str, Any]:
    return {"words": {"$regex": "^" + re.escape(prefix)}}


def _words(user_id: str, name: str) -> list[str]:
    """What a search may begin with: the whole id and name, and each of their words."""
    whole = [_fold(user_id), _fold(name)]
    return sorted({*whole, *(word for text in whole for word in _WORD.findall(text))})


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip().casefold())


def _readable(document: Mapping[str, Any]) -> dict[str, Any]:
    """With read-time defaults, and `disabled` only where it is so."""
    return {"name": document.get("_id"), "version": 1, **document, "disabled": document.get("disabled") or None}


def _seconds(moment: object, default: float) -> float:
    if moment is None:
        return default
    if not isinstance(moment, datetime):
        raise Unfit(f"expected a date, got {type(moment).__name__}")
    return moment.timestamp()
