"""Cursor lists: one page of a collection in a stable order, and a cursor that says where the next one begins.

A cursor is stateless: the sort value and the id of the last document read, and a digest of the query it belongs to. It
holds scalars only, so nothing that a client makes up can become an operator.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from bson.datetime_ms import DatetimeMS
from msgspec import UNSET, Meta, UnsetType

from models.database_types import Collection, Document, Session
from models.errors import FieldError, Invalid
from models.fields import Report, Unfit

T = TypeVar("T")

LIMIT = 50
MAX_LIMIT = 200
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
CursorText = Annotated[str, Meta(min_length=1, max_length=8000)]
SearchText = Annotated[str, Meta(max_length=100, description="Prefixes of words, in any order and case.")]

_TEXT_LIMIT = 1000
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # user ids have dots as well
_TYPES = [
    "double", "string", "object", "array", "binData", "undefined", "objectId", "bool", "date", "regex", "dbPointer",
    "javascript", "javascriptWithScope", "symbol", "int", "timestamp", "long", "decimal", "minKey", "maxKey",
]  # fmt: skip
_KINDS: dict[str, tuple[type, ...]] = {"text": (str,), "number": (int, float), "date": (int,)}
_EXPECTED = {"text": ["string"], "number": ["int", "long", "double"], "date": ["date"]}


class Page(msgspec.Struct, Generic[T], kw_only=True):
    """One page. `next_cursor` is absent on the last; `position` is from before the read (see the realtime protocol)."""

    items: list[T]
    next_cursor: str | UnsetType = UNSET
    position: str


class Sort(msgspec.Struct, frozen=True):
    """A field that a list may be sorted by, and the type of what belongs into it."""

    field: str
    kind: Literal["text", "number", "date"]


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for."""

    sort: str
    """A name of the list's allow-list, with ``-`` in front for descending."""
    scope: bytes
    """`scope(...)` of the query; a cursor of another one is refused."""
    position: str
    """The relay's position before the read, handed through to the page."""
    limit: int = LIMIT
    cursor: str | None = None


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    scope: bytes
    value: str | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | None
    id: str


def scope(path: str, sort: str, filters: Iterable[tuple[str, str]] = ()) -> bytes:
    """What a cursor is bound to: the list, its order, its filters. Not the page size, which may change on the way."""
    return hashlib.blake2b(msgspec.json.encode([path, sort, sorted(filters)]), digest_size=9).digest()


def sort_names(sorts: Mapping[str, Sort]) -> tuple[str, ...]:
    """Every value that `sort` may have."""
    return tuple(name for plain in sorts for name in (plain, f"-{plain}"))


def word_prefixes(field: str, text: str) -> Document:
    """The filter for `q`: every word of `text` begins some word of the field, in any case. No words: no filter."""
    conditions = []
    for token in text.split():
        word = re.sub(r"^[\W_]+", "", token) or token
        # `re.escape` is for Python's syntax; MongoDB's (PCRE) reads its result the same way.
        conditions.append({field: {"$regex": r"(^|[^\p{L}\p{N}])" + re.escape(word), "$options": "i"}})
    return {"$and": conditions} if conditions else {}


async def read_page(
    collection: Collection,
    where: Mapping[str, Any],
    request: PageRequest,
    *,
    sorts: Mapping[str, Sort],
    convert: Callable[[Mapping[str, Any]], T],
    report: Report,
    session: Session = None,
) -> Page[T]:
    """The page of the documents that match `where`. Raises `Invalid` for a foreign cursor or an unknown sort.

    Documents that `convert` finds unfit are reported and left out, so a page may be short; the cursor passes over them.
    """
    by, direction = _order(request.sort, sorts)
    conditions = [dict(where)]
    if request.cursor is not None:
        conditions += [_after(_decode(request.cursor, request.scope, by), by, direction), _comparable(by)]

    async def read() -> list[Document]:
        cursor = collection.find(
            {"$and": conditions},
            sort=[(by.field, direction), ("_id", direction)],
            limit=request.limit + 1,
            batch_size=request.limit + 2,  # more than the limit, so that one batch is all and no cursor stays open
            session=session,
        )
        documents: list[Document] = await cursor.to_list(None)
        return documents

    documents = await read()
    if request.cursor is None and not all(_fits_a_cursor(document, by) for document in documents):
        # Values that no cursor can point at would end the list early: say so once, then read on without them.
        for document in documents:
            if not _fits_a_cursor(document, by):
                fit(document, convert, collection.name, report)
        conditions.append(_comparable(by))
        documents = await read()
    shown = documents[: request.limit]
    found = (fit(document, convert, collection.name, report) for document in shown)
    return Page(
        items=[thing for thing in found if thing is not None],
        next_cursor=_encode(shown[-1], request.scope, by) if len(documents) > request.limit else UNSET,
        position=request.position,
    )


def fit(
    document: Mapping[str, Any], convert: Callable[[Mapping[str, Any]], T], collection: str, report: Report
) -> T | None:
    """The public shape of a stored document; None, and a report, where another program wrote what does not fit."""
    try:
        return convert(document)
    except Unfit as problem:
        report(collection, document.get("_id"), str(problem))
        return None


def _order(name: str, sorts: Mapping[str, Sort]) -> tuple[Sort, int]:
    by = sorts.get(name.removeprefix("-"))
    if by is None:
        known = ", ".join(sort_names(sorts))
        raise Invalid(f"Sort by one of: {known}.", errors=(FieldError("?sort", "unknown"),))
    return by, -1 if name.startswith("-") else 1


def _after(last: _Cursor, by: Sort, direction: int) -> Document:
    """Everything behind `last`. MongoDB puts missing and null before every value, and `$gt` alone would drop them."""
    beyond = "$gt" if direction > 0 else "$lt"
    value = DatetimeMS(last.value) if by.kind == "date" and isinstance(last.value, int) else last.value
    tie = {by.field: value, "_id": {beyond: last.id}}
    if value is None:
        return {"$or": [tie, {by.field: {"$ne": None}}]} if direction > 0 else tie
    rest = [tie, {by.field: {beyond: value}}]
    return {"$or": rest} if direction > 0 else {"$or": [*rest, {by.field: None}]}


def _comparable(by: Sort) -> Document:
    """Only documents that a cursor can point at: the sort value of the declared type or none, and an id like ours."""
    wrong: list[Document] = [
        {by.field: {"$type": [name for name in _TYPES if name not in _EXPECTED[by.kind]]}},
        {"_id": {"$not": {"$regex": f"^{_ID.pattern}$"}}},
    ]
    if by.kind == "text":
        wrong.append({by.field: {"$regex": rf"^[\s\S]{{{_TEXT_LIMIT + 1}}}"}})
    if by.kind == "number":
        wrong.append({by.field: math.nan})
    return {"$nor": wrong}


def _fits_a_cursor(document: Document, by: Sort) -> bool:
    try:
        _value(document, by)
    except ValueError:
        return False
    return isinstance(document["_id"], str) and _ID.fullmatch(document["_id"]) is not None


def _value(document: Document, by: Sort) -> str | int | float | None:
    """The sort value as a cursor holds it. Raises ValueError where none can."""
    value = document.get(by.field)
    if value is None:
        return None
    if by.kind == "text" and isinstance(value, str) and len(value) <= _TEXT_LIMIT:
        return value
    if by.kind == "number" and isinstance(value, int | float) and not isinstance(value, bool) and not _is_nan(value):
        return float(value) if isinstance(value, float) else int(value)
    if by.kind == "date" and isinstance(value, datetime | DatetimeMS):
        return int(value if isinstance(value, DatetimeMS) else DatetimeMS(value))
    raise ValueError(by.field)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _encode(document: Document, scope_: bytes, by: Sort) -> str:
    packed = msgspec.msgpack.encode(_Cursor(scope_, _value(document, by), document["_id"]))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _decode(text: str, scope_: bytes, by: Sort) -> _Cursor:
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.msgpack.decode(packed, type=_Cursor)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        cursor = None
    if (
        cursor is None
        or cursor.scope != scope_
        or not (cursor.value is None or isinstance(cursor.value, _KINDS[by.kind]))
        or _is_nan(cursor.value)
        or _ID.fullmatch(cursor.id) is None
    ):
        raise Invalid(
            "The cursor does not belong to this list with these filters and this order. Start again without it.",
            errors=(FieldError("?cursor", "foreign"),),
        )
    return cursor
