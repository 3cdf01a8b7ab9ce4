"""The collections: their indexes, expiry and change-stream images. Applied at every start and whenever one was dropped.

There are no validators: other programs write here too, and what they write is judged when it is read.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pymongo.errors import CollectionInvalid, OperationFailure

from models.database_types import Collection, Database

WATCHED: tuple[str, ...] = (
    "projects",
    "items",
    "comments",
    "activities",
    "notifications",
    "inboxes",
    "postings",
    "users",
    "sessions",
    "meta",
)
"""Collections of which every change is followed; they keep the images from before and after each one."""

COLLECTIONS: tuple[str, ...] = (*WATCHED, "subscriptions", "preferences", "mails", "idempotency", "leases")

_NAMESPACE_EXISTS = 48
_INDEX_IS_DIFFERENT = (85, 86)
_WAS_DROPPED = 26
_DUPLICATE = 11000


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """One index. `expires` deletes a document when the date in the (only) key has passed."""

    collection: str
    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    partial: dict[str, Any] | None = None
    expires: bool = False

    @property
    def name(self) -> str:
        """As MongoDB itself would name it."""
        return "_".join(f"{field}_{direction}" for field, direction in self.keys)

    @property
    def options(self) -> dict[str, Any]:
        """What MongoDB reports of an index besides its keys and name."""
        options: dict[str, Any] = {}
        if self.unique:
            options["unique"] = True
        if self.partial is not None:
            options["partialFilterExpression"] = self.partial
        if self.expires:
            options["expireAfterSeconds"] = 0
        return options


def _index(collection: str, *fields: str, **options: Any) -> Index:
    keys = tuple((field.removeprefix("-"), -1 if field.startswith("-") else 1) for field in fields)
    return Index(collection=collection, keys=keys, **options)


INDEXES: tuple[Index, ...] = (
    # Equality first, then the order of the list, then `_id` for ties: one index walk per page, in both directions.
    _index("projects", "deleted_at", "created_at", "_id"),
    _index("projects", "deleted_at", "updated_at", "_id"),
    _index("projects", "deleted_at", "name", "_id"),
    _index("projects", "labels"),
    _index("projects", "members.principal"),
    _index("items", "project_id", "deleted_at", "rank", "_id"),
    _index("items", "project_id", "deleted_at", "name", "_id"),
    _index("items", "project_id", "deleted_at", "changed_at", "_id"),
    _index("items", "project_id", "deleted_at", "status", "_id"),
    _index("items", "project_id", "deleted_at", "type", "_id"),
    _index("items", "content.id", "deleted_at", "changed_at", "_id"),
    # One version of a content, in one language, stands in one project. Only where there is a content: what other
    # programs wrote without one is unfit, but must not collide with each other.
    _index(
        "items",
        "content.id",
        "content.version",
        "language",
        unique=True,
        partial={"deleted_at": None, "content.id": {"$type": "string"}, "content.version": {"$type": "string"}},
    ),
    _index("comments", "project_id", "created_at", "_id"),
    _index("comments", "project_id", "item_id", "created_at", "_id"),
    _index("comments", "project_id", "thread_id", "created_at", "_id"),
    _index("activities", "project_id", "at", "_id"),
    _index("activities", "expires_at", expires=True),
    # Tombstones have neither `updated_at` nor a subject, so that counting living entries needs these indexes alone.
    _index("notifications", "user_id", "updated_at", "_id"),
    _index("notifications", "user_id", "subject.project_id", "updated_at", "_id"),
    _index("notifications", "subject.project_id", "user_id"),
    _index("notifications", "events.comment_id"),
    _index("notifications", "expires_at", expires=True),
    _index("subscriptions", "user_id", "since", "_id"),
    _index("subscriptions", "subject"),
    _index("postings", "sent_at", "due_at", "_id"),
    _index("postings", "expires_at", expires=True),
    _index("mails", "next_attempt_at"),
    _index("mails", "stream", "state"),
    _index("mails", "group"),
    _index("mails", "state", "died_at", "_id"),
    _index("mails", "event.comment_id"),
    _index("mails", "expires_at", expires=True),
    _index("users", "words"),
    _index("users", "name", "_id"),
    _index("users", "groups", "_id"),
    _index("sessions", "user_id"),
    _index("sessions", "expires_at", expires=True),
    _index("idempotency", "expires_at", expires=True),
)


async def apply(database: Database) -> list[str]:
    """Make the database as it should be; harmless and cheap where it already is.

    Returns a sentence for everything that a person has to put right first, such as duplicates that stand in the way of
    a unique index. The server can run meanwhile, without what the sentence names.
    """
    problems: list[str] = []
    existing = {info["name"]: info async for info in await database.list_collections()}
    for name in COLLECTIONS:
        info = existing.get(name)
        if info is not None and info.get("type", "collection") != "collection":
            problems.append(f"{name} is a {info['type']}; it has to be a collection.")
            continue
        await _collection(database, name, info)
        problems += await _indexes(database[name], [index for index in INDEXES if index.collection == name])
    return problems


async def prepare(database: Database, name: str) -> None:
    """Make one collection as `apply` does, for a command that writes to it perhaps before the first start.

    Its first insert would make it too, but without images; indexes can wait for the start.
    """
    if name not in await database.list_collection_names():
        await _collection(database, name, None)


async def _collection(database: Database, name: str, info: dict[str, Any] | None) -> None:
    images = {"changeStreamPreAndPostImages": {"enabled": True}} if name in WATCHED else {}
    if info is None:
        try:
            await database.create_collection(name, **images)
        except CollectionInvalid:
            pass
        except OperationFailure as problem:
            if problem.code != _NAMESPACE_EXISTS:
                raise
        else:
            return
    # Also after a lost race: whoever was first may have been a writer whose insert made the collection.
    enabled = (info or {}).get("options", {}).get("changeStreamPreAndPostImages", {}).get("enabled", False)
    if images and not enabled:
        await database.command("collMod", name, **images)


async def _indexes(collection: Collection, wanted: list[Index]) -> list[str]:
    try:
        existing = {index["name"]: index async for index in collection.list_indexes()}
    except OperationFailure as problem:
        if problem.code != _WAS_DROPPED:
            raise
        existing = {}  # dropped a moment ago; making an index makes the collection, and the feed will call again
    problems = []
    for index in wanted:
        found = existing.get(index.name)
        if found is not None:
            if _same(found, index):
                continue
            await collection.drop_index(index.name)
        try:
            await collection.create_index(list(index.keys), name=index.name, **index.options)
        except OperationFailure as problem:
            if problem.code in _INDEX_IS_DIFFERENT:
                problems.append(f"{collection.name} has another index in the place of {index.name}; drop it.")
            elif problem.code == _DUPLICATE:
                fields = ", ".join(dict(index.keys))
                problems.append(
                    f"{collection.name} has documents with the same {fields}: remove all but one of each. "
                    "Until then more can be added."
                )
            else:
                raise
    return problems


def _same(found: dict[str, Any], index: Index) -> bool:
    options = {key: value for key, value in found.items() if key not in ("v", "key", "name", "ns")}
    return list(found["key"].items()) == list(index.keys) and _plain(options) == _plain(index.options)


def _plain(value: Any) -> Any:
    """The driver's mappings, whose order counts when they are compared, as plain ones."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
