"""How a stored document changes: what a patch means, and one atomic update that raises `version`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET
from pymongo import ReturnDocument

from models.database_types import Collection, Document
from models.errors import Conflict, Invalid, NotFound

Pipeline = list[dict[str, Any]]
"""An aggregation pipeline as MongoDB's updates take it."""

ATTEMPTS = 8
"""Rounds before giving up: each lost one means that somebody else's change of this very document went through."""

_NEXT_VERSION = {
    # What another program wrote into `version` may be no number; adding to it would fail the whole update.
    "$cond": [{"$isNumber": "$version"}, {"$add": ["$version", 1]}, 2]
}


def revise(
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - MongoDB's own word for it
    unset: Iterable[str] = (),
) -> Pipeline:
    """The update that sets and removes fields and raises `version` by one; a missing one counts as 1.

    Values are literals: text that begins with ``$`` stays text and never becomes an expression.
    """
    assigned = {name: {"$literal": stored(value)} for name, value in (set or {}).items()}
    pipeline: Pipeline = [{"$set": {**assigned, "version": _NEXT_VERSION}}]
    removed = list(unset)
    if removed:
        pipeline.append({"$unset": removed})
    return pipeline


def stored(value: Any) -> Any:
    """What MongoDB keeps of an input value: Structs as documents without unset fields, times in UTC to the millisecond.

    Raises `Invalid` for a time outside the years 1 to 9999 of UTC.
    """
    if isinstance(value, datetime):
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise Invalid("Expected a time in the years 1 to 9999 of UTC.") from None
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    if isinstance(value, msgspec.Struct):
        return {name: stored(field) for name, field in msgspec.structs.asdict(value).items() if field is not UNSET}
    if isinstance(value, Mapping):
        return {name: stored(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [stored(entry) for entry in value]
    return value


def changes(
    patch: Mapping[str, Any], document: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> tuple[Document, list[str]]:
    """What of a merge patch (RFC 7396) really changes a stored document: fields to set, and fields to unset.

    `patch` maps field names to input values; None removes, `UNSET` leaves alone. `defaults` are the read-time defaults:
    setting a missing field to its default changes nothing.
    """
    assigned: Document = {}
    removed: list[str] = []
    for name, value in patch.items():
        now = document.get(name)
        if value is UNSET:
            continue
        if value is None:
            if now is not None:
                removed.append(name)
            continue
        wanted = stored(value)
        if wanted != ((defaults or {}).get(name) if now is None else now):
            assigned[name] = wanted
    return assigned, removed


async def change(
    collection: Collection,
    where: Mapping[str, Any],
    plan: Callable[[Document], Pipeline | None],
    *,
    missing: str = "",
) -> Document:
    """Read the undeleted document that `where` names, ask `plan` what to do, and do it to just that version.

    `plan` raises a refusal, answers None where there is nothing to change, or an update made by `revise`. It is asked
    again about the newer document when another change came first, so a precondition belongs into it. Returns the
    document as it then is. A foreign `$set` that leaves the version alone goes unnoticed, and keeps what it set.
    Raises `NotFound` (its detail: `missing`) and, after `ATTEMPTS` lost races, `Conflict`.
    """
    undeleted = {**where, "deleted_at": None}
    for _ in range(ATTEMPTS):
        before: Document | None = await collection.find_one(undeleted)
        if before is None:
            raise NotFound(missing)
        update = plan(before)
        if update is None:
            return before
        after: Document | None = await collection.find_one_and_update(
            {**undeleted, "version": before.get("version")}, update, return_document=ReturnDocument.AFTER
        )
        if after is not None:
            return after
    raise Conflict("Others keep changing this at the same moment. Read it again, then repeat your change.")
