"""MongoDB counts exactly the documents that lists show: both rules agree on whatever other programs write."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Code, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from models.comment import Comment
from models.fields import Unfit
from models.fitting import fitting_comments, fitting_items
from models.item import Item

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING = object()
"""The field is left out."""

TEXTS = ["x", "", " ", "é" * 255, "x" * 256, "a\nb", "https://a.example/", "/a", "//a", "en", "de-AT", "e_n", "alice"]
ODD = [
    None, NOTHING, 7, 1.5, math.nan, math.inf, True, [], ["x"], {}, ObjectId("0123456789abcdef01234567"),
    Decimal128("1"), Int64(2**53 + 1), -(2**53), 0, b"x",
]  # fmt: skip
TIMES = [NOON, DatetimeMS(2**45), DatetimeMS(-(2**55)), DatetimeMS(253402300799999), DatetimeMS(253402300800000)]
ANYTHING = [*TEXTS, *ODD, *TIMES, "x\n"]

SPACES = [chr(code) for code in range(0x3100) if chr(code).isspace()] + ["\u200b", "\u180e", "\ufeff"]
"""What Python calls space, and what looks like it."""
LONG = [[*(f"user{number}" for number in range(60)), last] for last in ("bob", "a\nb", "user1")]
"""More than a text could mention."""

ITEM: dict[str, Any] = {
    "project_id": "P",
    "content": {"id": "page-1", "version": "1"},
    "name": "Start page",
    "type": "page",
    "status": "draft",
}
ITEM_FIELDS: dict[str, list[Any]] = {
    "project_id": ["P", "a b", "x" * 64, "x" * 65, *ODD],
    "content": [
        {"id": "a", "version": "1", "provider": "cms", "more": [1]},
        {"id": "a"},
        {"id": "", "version": "1"},
        {"id": "a", "version": 1},
        {"id": "a", "version": "1", "provider": None},
        {"id": "x" * 256, "version": "1"},
        *ODD,
    ],
    "name": [*ANYTHING, *SPACES],
    "type": ANYTHING,
    "language": [*ANYTHING, "x" * 36],
    "status": ["draft", "published", "gone", *ODD],
    "publish_at": [*TIMES, "2026-03-01T12:00:00.000Z", *ODD],
    "url": ANYTHING,
    "thumbnail_url": ANYTHING,
    "path": [*ANYTHING, "x" * 2001],
    "assignee": ANYTHING,
    "rank": [*ANYTHING, -1e300, 2.0**53, Int64(2**62)],
    "changed_at": ANYTHING,
    "created_by": ANYTHING,
    "version": [*ANYTHING, 1, 2.0, Int64(2**62), -1],
    "note": ANYTHING,
}
COMMENT: dict[str, Any] = {"project_id": "P", "body": "Hello @bob", "author": "alice", "created_at": NOON}
COMMENT_FIELDS: dict[str, list[Any]] = {
    "project_id": ITEM_FIELDS["project_id"],
    "item_id": ANYTHING,
    "thread_id": ANYTHING,
    "parent_id": ANYTHING,
    "anchor": [
        {"property": "title"},
        {"property": "title", "quote": "x", "more": 1},
        {"property": ""},
        {"property": "title", "quote": "x" * 1001},
        {"quote": "x"},
        *ODD,
    ],
    "body": [*ANYTHING, *SPACES, "x" * 10_000, "x" * 10_001],
    "mentions": [["bob"], [Code("bob")], ["a b"], ["bob", 7], "bob", *LONG, *ODD],
    "mention_groups": [["press"], [Code("press")], [""], *([space] for space in SPACES), *LONG, *ODD],
    "author": ANYTHING,
    "created_at": ANYTHING,
    "edited_at": ANYTHING,
    "deleted_at": [*ANYTHING, NOON, NOON, NOON],
    "deleted_by": ANYTHING,
    "resolved": [
        {"by": "bob", "at": NOON},
        {"by": "bob", "at": NOON, "more": 1},
        {"by": "bob"},
        {"at": NOON},
        {"by": "a b", "at": NOON},
        {"by": "bob", "at": "now"},
        *ODD,
    ],
    "version": ITEM_FIELDS["version"],
}


def made_up(base: Mapping[str, Any], fields: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Every odd value of every field by itself, and some hundreds of mixtures."""
    dice = random.Random(7)
    documents = [{**base, field: value} for field, values in fields.items() for value in values]
    for _ in range(600):
        mixed = dict(base)
        for field in dice.sample(list(fields), 2):
            mixed[field] = dice.choice(fields[field])
        documents.append(mixed)
    ids: list[object] = [f"d{n}" for n in range(len(documents))]
    odd_ids = [7, "a b", "", "x" * 65, {"a": 1}, ObjectId("0123456789abcdef01234567")]
    documents += [dict(base) for _ in odd_ids]
    return [
        {"_id": key, **{field: value for field, value in document.items() if value is not NOTHING}}
        for key, document in zip([*ids, *odd_ids], documents, strict=True)
    ]


@pytest.mark.parametrize(
    ("shape", "rule", "documents"),
    [
        (Item, fitting_items(), made_up(ITEM, ITEM_FIELDS)),
        (Comment, fitting_comments(), made_up(COMMENT, COMMENT_FIELDS)),
    ],
    ids=["items", "comments"],
)
async def test_mongodb_and_the_structs_agree_on_every_document(
    database: Any, shape: type[Item | Comment], rule: dict[str, Any], documents: list[dict[str, Any]]
) -> None:
    await database.things.insert_many(documents)
    fits = []
    for document in await database.things.find().to_list(None):
        try:
            shape.from_document(document)
        except Unfit:
            continue
        fits.append(repr(document["_id"]))
    counted = [repr(document["_id"]) for document in await database.things.find(rule).to_list(None)]
    by_id = {repr(document["_id"]): document for document in documents}
    assert 100 < len(fits) < len(documents) - 100
    assert not [by_id[key] for key in set(fits) ^ set(counted)]
