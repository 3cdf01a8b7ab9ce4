"""What a handler says about itself: `handlers.base` enforces it, and the API document is made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from app.access import Access
from app.admission import Admission
from app.auth import Authenticator
from app.listening import Unfinished
from app.metrics import Metrics
from app.permissions import Action
from app.runtime import Runtime
from app.settings import Settings
from models.errors import Refusal
from models.fields import Ids
from models.idempotency import IdempotencyStore
from models.page import CursorText, Limit

BODY_LIMIT = 256 * 1024
BULK_BODY_LIMIT = 1024 * 1024


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One query argument of an operation, for reading and for the API document."""

    name: str
    shape: Any = str
    """The type that the text is read as: `str`, `int`, `bool`, a `Literal` or an annotated one."""
    summary: str = ""
    required: bool = False


def list_query(*filters: Query, sorts: Iterable[str] = ()) -> tuple[Query, ...]:
    """The query arguments of a list: its filters, and what every list takes. `sorts`: every value of `sort`."""
    shared = [
        Query(name="limit", shape=Limit, summary="How many at most; 50 where absent."),
        Query(name="cursor", shape=CursorText, summary="The `next_cursor` of the page before, of this same query."),
    ]
    names = tuple(sorts)
    if names:
        shared.append(Query(name="sort", shape=Literal[names], summary="Order; ties go by id."))
    return (*filters, *shared)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One verb of one path: what it needs, takes and answers."""

    summary: str
    action: Action
    """What the caller must be allowed to do; a project's action needs a `project_id` in the path."""
    query: tuple[Query, ...] = ()
    body: Any = None
    """The type of the JSON body, or None: then a body is ignored."""
    answer: Any = None
    """The type of the JSON answer, or None: then there is no body."""
    status: int = 200
    body_limit: int = BODY_LIMIT
    idempotent: bool = False
    """Whether `Idempotency-Key` is honoured: every POST but the sign-in."""
    creates: bool = False
    """Whether it answers 201 where it made what was not there, and `status` otherwise."""
    headers: tuple[str, ...] = ()
    """Headers of every successful answer beyond those that follow from its kind; described in `app.openapi_parts`."""
    refusals: tuple[type[Refusal], ...] = ()
    """What it may refuse beyond what every operation may."""
    media_type: str = "application/json"


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """What all handlers share; each gets it by name through the route table."""

    settings: Settings
    authenticator: Authenticator
    access: Access
    idempotency: IdempotencyStore
    metrics: Metrics
    ids: Ids
    position: Callable[[], str]
    """The position of the relay now, as clients see it."""
    runtime: Runtime
    admission: Admission
    unfinished: Unfinished
