"""Documents about the deployment as a whole, in the watched collection `meta`: the epoch and the run-time settings."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from bson import Timestamp as ClusterTime
from msgspec import UNSET, Meta, UnsetType
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from models.database_types import Database
from models.errors import Conflict
from models.fields import Report, Timestamp, Unfit, UserId, Version, from_document, utc_now
from models.notification import NotificationType
from models.preferences import EmailChoice, TypeDefault
from models.revision import stored

EPOCH_ID = "epoch"
SETTINGS_ID: Literal["settings"] = "settings"
_ATTEMPTS = 5

Limit = Annotated[int, Meta(ge=1, le=2**53)]
# Whole seconds stay integers, so that what was written as 25 is shown as 25.
LimitSeconds = Annotated[int, Meta(gt=0, le=86_400)] | Annotated[float, Meta(gt=0, le=86_400)]


class Overrides(msgspec.Struct, kw_only=True, frozen=True):
    """The settings that an admin changed while the server runs, for every process; absent ones are as started."""

    websockets_enabled: bool | UnsetType = UNSET
    fallback: Literal["sse", "poll", "none"] | UnsetType = UNSET
    log_level: Literal["debug", "info", "warning", "error"] | UnsetType = UNSET
    poll_seconds: LimitSeconds | UnsetType = UNSET
    max_connections: Limit | UnsetType = UNSET
    max_connections_per_user: Limit | UnsetType = UNSET
    max_connections_per_address: Limit | UnsetType = UNSET
    max_pending_bytes: Limit | UnsetType = UNSET
    max_pending_seconds: LimitSeconds | UnsetType = UNSET
    notification_defaults: dict[NotificationType, TypeDefault] | UnsetType = UNSET
    updated_at: Timestamp | UnsetType = UNSET
    updated_by: UserId | UnsetType = UNSET
    id: Literal["settings"] = "settings"
    version: Version = 1

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Overrides:
        """Raises `models.fields.Unfit`."""
        return from_document(document, cls, times=("updated_at",), defaults={})


class TypeDefaultPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch of a `TypeDefault`."""

    in_app: bool | UnsetType | None = UNSET
    email: EmailChoice | UnsetType | None = UNSET


class SettingsPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A merge patch of the run-time settings: null goes back to what the server was started with."""

    websockets_enabled: bool | UnsetType | None = UNSET
    fallback: Literal["sse", "poll", "none"] | UnsetType | None = UNSET
    log_level: Literal["debug", "info", "warning", "error"] | UnsetType | None = UNSET
    poll_seconds: LimitSeconds | UnsetType | None = UNSET
    max_connections: Limit | UnsetType | None = UNSET
    max_connections_per_user: Limit | UnsetType | None = UNSET
    max_connections_per_address: Limit | UnsetType | None = UNSET
    max_pending_bytes: Limit | UnsetType | None = UNSET
    max_pending_seconds: LimitSeconds | UnsetType | None = UNSET
    notification_defaults: dict[NotificationType, TypeDefaultPatch | None] | UnsetType | None = UNSET
    """The preferences of those who chose nothing; null, here or further in, goes back to what is built in."""


class Epoch(NamedTuple):
    """One unbroken history of the database."""

    id: bytes
    """8 bytes that no other history has."""
    begun: tuple[int, int]
    """The moment of the database's clock; nobody has a position from before. Zeros where an older release made it."""


class MetaStore:
    """The documents of `meta`. The epoch's is read by `read_epoch`."""

    def __init__(self, database: Database, *, report: Report, now: Callable[[], datetime] = utc_now) -> None:
        self._meta = database["meta"]
        self._report, self._now = report, now

    async def overrides(self) -> Overrides:
        """What admins changed; nothing where no one did, or where another program wrote nonsense (reported)."""
        return self.read(await self._meta.find_one({"_id": SETTINGS_ID}))

    def read(self, document: Mapping[str, Any] | None) -> Overrides:
        """The same of a document that is at hand already."""
        if document is None:
            return Overrides()
        try:
            return Overrides.from_document(document)
        except Unfit as problem:
            self._report("meta", SETTINGS_ID, str(problem))
            return Overrides()

    async def patch(self, patch: SettingsPatch, *, by: str, precondition: Callable[[Overrides], None]) -> Overrides:
        """Change the run-time settings of every process; they obey when the feed tells them.

        Raises `StaleVersion` as `precondition` says, `Conflict` where others keep changing them at the same time or
        another program wrote nonsense.
        """
        changes = {name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not UNSET}
        for _attempt in range(_ATTEMPTS):
            document = await self._meta.find_one({"_id": SETTINGS_ID})
            try:
                current = Overrides() if document is None else Overrides.from_document(document)
            except Unfit as problem:
                raise Conflict(f"Another program broke `settings` in `meta`, remove it: {problem}.") from None
            precondition(current)
            if isinstance(patch.notification_defaults, dict):
                merged = _merged(current.notification_defaults or {}, patch.notification_defaults)
                changes["notification_defaults"] = merged or None
            differing = {
                name: value
                for name, value in changes.items()
                if value != (None if getattr(current, name) is UNSET else getattr(current, name))
            }
            if not differing:
                return current
            try:
                changed = await self._meta.find_one_and_update(
                    {"_id": SETTINGS_ID, "version": None if document is None else document.get("version")},
                    self._update(differing, by=by, version=current.version + 1),
                    upsert=document is None,
                    return_document=ReturnDocument.AFTER,
                )
            except DuplicateKeyError:  # made by someone else since we looked
                continue
            if changed is not None:
                return self.read(changed)
        raise Conflict("Others are changing the settings at the same time. Try again.")

    def _update(self, changes: Mapping[str, Any], *, by: str, version: int) -> dict[str, Any]:
        kept = {name: stored(value) for name, value in changes.items() if value is not None}
        gone = {name: "" for name, value in changes.items() if value is None}
        update: dict[str, Any] = {"$set": {**kept, "version": version, "updated_at": self._now(), "updated_by": by}}
        return {**update, "$unset": gone} if gone else update


def _merged(
    now: Mapping[NotificationType, TypeDefault], patch: Mapping[NotificationType, TypeDefaultPatch | None]
) -> dict[NotificationType, TypeDefault]:
    """A merge patch (RFC 7396) of the defaults per type. A type about which nothing is left is left out."""
    merged = dict(now)
    for kind, change in patch.items():
        fields = msgspec.structs.asdict(now.get(kind, TypeDefault()))
        for name in fields if change is None else change.__struct_fields__:
            value = None if change is None else getattr(change, name)
            if value is not UNSET:
                fields[name] = UNSET if value is None else value
        merged[kind] = TypeDefault(**fields)
    return {kind: default for kind, default in merged.items() if default != TypeDefault()}


async def renew_epoch(database: Database) -> None:
    """Begin another history: processes that start after this take no position from before."""
    begun = {"value": {"$literal": secrets.token_hex(8)}, "created_at": utc_now(), "begun": "$$CLUSTER_TIME"}
    await database["meta"].update_one({"_id": EPOCH_ID}, [{"$set": begun}], upsert=True)


async def read_epoch(database: Database, *, make: Callable[[], str] = lambda: secrets.token_hex(8)) -> Epoch:
    """The one unbroken history of this database; made at the first call, the same ever after.

    The UUID of the collection is part of it, so that a dropped and re-created database has another epoch though a
    backup of its documents is put back. The collection must exist or be creatable.
    """
    meta = database["meta"]
    begun = {"value": {"$literal": make()}, "created_at": utc_now(), "begun": "$$CLUSTER_TIME"}
    is_there = {"$gt": ["$value", None]}
    document = await meta.find_one_and_update(
        {"_id": EPOCH_ID},
        [{"$replaceWith": {"$cond": [is_there, "$$ROOT", {"$mergeObjects": ["$$ROOT", begun]}]}}],
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    collections = await database.list_collections(filter={"name": "meta"})
    uuids = [bytes(collection["info"]["uuid"]) async for collection in collections]
    begun_at = document.get("begun")
    return Epoch(
        id=hashlib.blake2b(uuids[0] + str(document["value"]).encode(), digest_size=8).digest(),
        begun=(begun_at.time, begun_at.inc) if isinstance(begun_at, ClusterTime) else (0, 0),
    )
