"""The shapes in which MongoDB and other programs break a change stream, for the tests one by one and for the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

RESUMABLE = (6, 7, 43, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436)
"""Codes after which the driver's specification resumes; 43 is a lost cursor."""
UNLABELLED = (6, 43, 91, 189, 11600)
"""Some of them without the label that tells the driver to resume by itself."""
FATAL = (136, 260, 280, 286)
"""Codes that no token survives."""


def resumable_shapes() -> dict[str, dict[str, Any]]:
    """How the stream's commands fail, by name, as arguments of `ReplicaSet.fail`: none of it may be noticed."""
    labelled = {"errorLabels": ["ResumableChangeStreamError"]}
    shapes: dict[str, dict[str, Any]] = {f"{code}": {"errorCode": code, **labelled} for code in RESUMABLE}
    shapes |= {f"{code} without a label": {"errorCode": code} for code in UNLABELLED}
    return {**shapes, "a cut connection": {"closeConnection": True}}


def foreign_comment(project: str, number: object, **fields: Any) -> dict[str, Any]:
    """A comment as another program writes it; its id says which."""
    return {
        "_id": f"{project}-{number}",
        "project_id": project,
        "body": f"Number {number}",
        "author": "import",
        "created_at": datetime.now(UTC),
        **fields,
    }


def _deep(levels: int) -> dict[str, Any]:
    return {"a": _deep(levels - 1)} if levels else {}


def _broken_utf8(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document).replace(b"PLACEHOLDER", b"\xff\xfe\xfaACEHOLDE"))


Poison = Callable[[str, object], Any]
"""A document for the `comments` of a project, with a name of its own."""

POISON: dict[str, Poison] = {
    "a date that Python has not": lambda project, name: foreign_comment(
        project, name, created_at=bson.DatetimeMS(2**55)
    ),
    "a date before the year 1": lambda project, name: foreign_comment(
        project, name, edited_at=bson.DatetimeMS(-(2**55))
    ),
    "broken UTF-8": lambda project, name: _broken_utf8(foreign_comment(project, name, body="PLACEHOLDER")),
    "170 levels": lambda project, name: foreign_comment(project, name, deep=_deep(170)),
    "another type of id": lambda project, name: {**foreign_comment(project, name), "_id": {"a": [1, str(name)]}},
    "an id of 5,000 characters": lambda project, name: {
        **foreign_comment(project, name),
        "_id": f"{name}" + "x" * 5000,
    },
}
