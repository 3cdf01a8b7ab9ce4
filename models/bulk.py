"""Bulk calls on items: what they take, and one result for each entry, in the order of the request."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.errors import FieldError, Invalid, Refusal
from models.fields import Id
from models.item import Item, NewItem, Status

BULK_LIMIT = 200
"""Entries of one bulk call."""


class NewItems(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Items to add in one call; each content, version and language at most once."""

    items: Annotated[list[NewItem], Meta(max_length=BULK_LIMIT)]


class Entries(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`NewItems` whose entries have yet to be read, so that one that does not fit is refused for itself."""

    items: Annotated[list[Any], Meta(max_length=BULK_LIMIT)]


class StatusChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One status for many items; each id at most once."""

    ids: Annotated[list[Id], Meta(max_length=BULK_LIMIT)]
    status: Status


class BulkError(msgspec.Struct, kw_only=True, frozen=True):
    """Why one entry was refused; the fields mean what they mean in a problem+json answer."""

    code: str
    detail: str
    errors: tuple[FieldError, ...] | UnsetType = UNSET


class BulkResult(msgspec.Struct, kw_only=True, frozen=True):
    """What became of one entry: an HTTP status, and the item or the error."""

    status: int
    id: Id | UnsetType = UNSET
    item: Item | UnsetType = UNSET
    error: BulkError | UnsetType = UNSET


class BulkAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """One result for each entry, in the order of the request."""

    results: list[BulkResult]

    @classmethod
    def of(cls, outcomes: Sequence[Item | Refusal], *, done: int, ids: Sequence[str] = ()) -> BulkAnswer:
        """`done` is the HTTP status of a success; `ids` are those that the caller named, if the call names any."""
        return cls(
            results=[
                BulkResult(status=done, id=outcome.id, item=outcome)
                if isinstance(outcome, Item)
                else BulkResult(
                    status=outcome.status,
                    id=ids[index] if ids else UNSET,
                    error=BulkError(code=outcome.code, detail=outcome.detail, errors=outcome.errors or UNSET),
                )
                for index, outcome in enumerate(outcomes)
            ]
        )


def refuse_repeats(entries: Iterable[Hashable], *, path: str, what: str) -> None:
    """Raise `Invalid` for the first entry that stands twice: doing it twice, or once, would both surprise somebody."""
    first: dict[Hashable, int] = {}
    for index, entry in enumerate(entries):
        if first.setdefault(entry, index) != index:
            raise Invalid(
                f"Entry {index} repeats the {what} of entry {first[entry]}; nothing was done.",
                errors=(FieldError(f"{path}[{index}]", f"Repeats entry {first[entry]}"),),
            )
