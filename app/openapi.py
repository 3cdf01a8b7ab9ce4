"""The OpenAPI 3.1 document, made from the route table's operations and the Structs, so that it cannot lag behind them.

Answers are closed: a field that is not described is never sent. Handlers are not imported here; what they say about
themselves comes in as data.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from app import shapes
from app.openapi_parts import HEADERS, SECURITY, UPGRADE_EXTRAS, problem
from app.permissions import NEEDED_ROLE, Action
from models import errors
from models.bulk import BulkAnswer
from models.errors import Refusal
from models.fields import Id, UserId
from models.subscription import SubjectKey

Schema = dict[str, Any]
Shapes = Sequence[Any]

_PARAMETER = re.compile(r"\{(\w+)\}")
_FOR_OPERATORS = ("config", "diagnostics", "healthz", "metrics", "readyz")
_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
_PROBLEM = "application/problem+json"
_JSON = "application/json"
_SUCCESS = {
    101: "The connection speaks WebSocket from here on.",
    200: "Done.",
    201: "Created.",
    204: "Done; there is no body.",
}
_IN_PATHS = {"user_id": UserId, "subject": SubjectKey}
"""What else than an id of ours stands in a path."""
_POLLED = ("Copydesk-Position", "X-Poll-Interval")
_ON_REFUSAL = {"WWW-Authenticate": (401,), "Retry-After": (429, 503)}
_LIMITS = ("RateLimit", "RateLimit-Policy")

_WHO = {
    Action.ANYONE: "Needs no sign-in.",
    Action.SIGNED_IN: "Needs a sign-in.",
    Action.NOTIFY: "Needs the instance role `service` or `admin`.",
    Action.ADMINISTER: "Needs the instance role `admin`.",
    **{action: f"Needs the project role `{role}` or a higher one." for action, role in NEEDED_ROLE.items()},
}

_DESCRIPTION = """\
Projects, items and comments of Copydesk. Optional fields are absent, never null. Times are RFC 3339 in UTC with
milliseconds. Every GET can be asked with HEAD as well, and every address with OPTIONS. What is live comes over the
WebSocket at `/api/v1/realtime`, described at `/api/v1/asyncapi.json`. Readable: `/docs`."""


class Argument(Protocol):
    """One query argument of an operation."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Any: ...

    @property
    def summary(self) -> str: ...

    @property
    def required(self) -> bool: ...


class Operation(Protocol):
    """What a handler says about one of its verbs (`handlers.operation.Operation`)."""

    @property
    def summary(self) -> str: ...

    @property
    def action(self) -> Action: ...

    @property
    def query(self) -> Sequence[Argument]: ...

    @property
    def body(self) -> Any: ...

    @property
    def answer(self) -> Any: ...

    @property
    def status(self) -> int: ...

    @property
    def body_limit(self) -> int: ...

    @property
    def idempotent(self) -> bool: ...

    @property
    def creates(self) -> bool: ...

    @property
    def headers(self) -> Sequence[str]: ...

    @property
    def refusals(self) -> Sequence[type[Refusal]]: ...

    @property
    def media_type(self) -> str: ...


Routes = Mapping[str, Mapping[str, Operation]]
"""Operations by path, in OpenAPI's form, and method."""


def document(routes: Routes, *, version: str) -> Schema:
    """The whole document, ready to be encoded. `version` is that of the server."""
    operations = [operation for methods in routes.values() for operation in methods.values()]
    described = shapes.Described(
        answers=[part for operation in operations for part in _union(operation.answer)],
        others=[
            *(part for operation in operations for part in _union(operation.body)),
            *(argument.shape for operation in operations for argument in operation.query),
            *_IN_PATHS.values(),
            Id,
        ],
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Copydesk",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            path: {
                method.lower(): _operation(path, method, operation, described) for method, operation in methods.items()
            }
            for path, methods in sorted(routes.items())
        },
        "components": {
            "schemas": {
                **described.components,
                "Problem": problem({}),
                "UpgradeProblem": problem(UPGRADE_EXTRAS),
            },
            "headers": HEADERS,
            "securitySchemes": SECURITY,
        },
        "security": [{"bearer": []}, {"session": []}],
    }


def refusals_of(path: str, method: str, operation: Operation) -> list[type[Refusal]]:
    """Everything an operation may refuse, by status: what it lists, and what follows from its kind."""
    below_api = path.startswith("/api/")
    found: set[type[Refusal]] = {*operation.refusals, errors.Malformed, errors.Invalid, errors.Internal}
    if below_api:
        # Besides a path's own: a host name that is not ours, a bad token, a database that does not answer.
        found |= {errors.NotFound, errors.Unauthenticated, errors.Unavailable}
        # And limits of one user and address, and of the process.
        found |= {errors.RateLimited, errors.Busy}
    if errors.Unauthenticated in found:
        found.add(errors.TokenExpired)
    if method in _UNSAFE:
        found.add(errors.CrossOrigin)
    if operation.action not in (Action.ANYONE, Action.SIGNED_IN):
        found.add(errors.Forbidden)
    if operation.body is not None:
        found |= {errors.TooLarge, errors.UnsupportedMediaType}
    if operation.idempotent:
        found |= {errors.InProgress, errors.IdempotencyMismatch}
    return sorted(found, key=lambda refusal: (refusal.status, refusal.code))


def operation_id(path: str, method: str) -> str:
    """A name such as ``get_projects_by_project_id_items``."""
    words = path.removeprefix("/api/v1").strip("/").replace(".", "_").replace("-", "_").split("/")
    return "_".join([method.lower(), *(_PARAMETER.sub(r"by_\1", word) for word in words)])


def _operation(path: str, method: str, operation: Operation, described: shapes.Described) -> Schema:
    entry: Schema = {
        "operationId": operation_id(path, method),
        "tags": [_tag(path)],
        "summary": operation.summary.rstrip("."),
        "description": _WHO[operation.action],
        "parameters": [*_path_parameters(path, described), *_parameters(method, operation, described)],
        "responses": _responses(path, method, operation, described),
    }
    if operation.action is Action.ANYONE:
        known = errors.Unauthenticated in operation.refusals or operation.status == 101
        entry["security"] = [{}, {"bearer": []}, {"session": []}] if known else []
    if operation.body is not None:
        entry["requestBody"] = {
            "required": True,
            "description": f"At most {operation.body_limit} bytes, UTF-8, not compressed.",
            "content": {_JSON: {"schema": described.any_of(_union(operation.body))}},
        }
    return entry


def _tag(path: str) -> str:
    words = [word for word in path.removeprefix("/api/v1").split("/") if word and not word.startswith("{")]
    if words[0] in _FOR_OPERATORS:
        return "operations"
    return words[1] if words[0] == "projects" and len(words) > 1 else words[0].partition(".")[0]


# -- what is asked -----------------------------------------------------------------------------------------------------


def _path_parameters(path: str, described: shapes.Described) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": described.schema(_IN_PATHS.get(name, Id)),
        }
        for name in _PARAMETER.findall(path)
    ]


def _parameters(method: str, operation: Operation, described: shapes.Described) -> list[Schema]:
    parameters = [
        {
            "name": argument.name,
            "in": "query",
            **({"required": True} if argument.required else {}),
            **({"description": argument.summary} if argument.summary else {}),
            "schema": described.schema(argument.shape),
        }
        for argument in operation.query
    ]
    if method == "GET" and _has_etag(operation.answer):
        parameters.append(_header("If-None-Match", "Entity tags that the caller has: 304 where one still holds."))
    if errors.StaleVersion in operation.refusals:
        parameters.append(_header("If-Match", "The entity tag that was read, also a weak one: 412 where it is stale."))
    if operation.idempotent:
        parameters.append(
            _header(
                "Idempotency-Key",
                "Visible ASCII. Kept for 24 hours: the same key and body give the first answer again.",
                minLength=1,
                maxLength=255,
                pattern="^[!-~]+$",
            )
        )
    return parameters


def _header(name: str, description: str, **bounds: int | str) -> Schema:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **bounds}}


# -- what is answered --------------------------------------------------------------------------------------------------


def _responses(path: str, method: str, operation: Operation, described: shapes.Described) -> Schema:
    responses: Schema = {}
    for status, parts in _answers(operation):
        responses[str(status)] = _success(status, parts, operation, described)
    if method == "GET" and _has_etag(operation.answer):
        names = [*_LIMITS, "ETag", *(_POLLED if _is_list(operation.answer) else ())]
        responses["304"] = {"description": "Unchanged since the entity tag.", "headers": _headers(names)}
    by_status: dict[int, list[type[Refusal]]] = {}
    for refusal in refusals_of(path, method, operation):
        by_status.setdefault(refusal.status, []).append(refusal)
    for status, refusals in by_status.items():
        responses[str(status)] = _refused(status, refusals)
    return responses


def _answers(operation: Operation) -> Iterable[tuple[int, list[Any]]]:
    """Statuses and shapes of success. A bulk answer is 200, also where the same call makes a single thing with 201."""
    parts = _union(operation.answer)
    if operation.status == 201 and BulkAnswer in parts:
        return [(200, [BulkAnswer]), (201, [part for part in parts if part is not BulkAnswer])]
    if operation.creates:
        return [(operation.status, parts), (201, parts)]
    return [(operation.status, parts)]


def _success(status: int, parts: list[Any], operation: Operation, described: shapes.Described) -> Schema:
    names = [*_LIMITS, *operation.headers, *(["Location"] if status == 201 else [])]
    if parts and _has_etag(parts[0]):
        names.append("ETag")
    if parts and _is_list(parts[0]):
        names += _POLLED
    if operation.idempotent:
        names.append("Idempotency-Replayed")
    response: Schema = {"description": _SUCCESS[status]}
    if names:
        response["headers"] = _headers(names)
    if parts:
        response["content"] = {_JSON: {"schema": described.any_of(parts)}}
    elif status == 200:
        response["content"] = {operation.media_type: {"schema": {"type": "string"}}}
    return response


def _refused(status: int, refusals: Sequence[type[Refusal]]) -> Schema:
    codes = [refusal.code for refusal in refusals]
    shape = "UpgradeProblem" if status == 426 else "Problem"
    names = [*_LIMITS, *(name for name, statuses in _ON_REFUSAL.items() if status in statuses)]
    return {
        "description": "; ".join(f"`{refusal.code}`: {refusal.title}" for refusal in refusals),
        **({"headers": _headers(names)} if names else {}),
        "content": {
            _PROBLEM: {
                "schema": {
                    "allOf": [
                        {"$ref": f"#/components/schemas/{shape}"},
                        {"properties": {"status": {"const": status}, "code": {"enum": codes}}},
                    ]
                }
            }
        },
    }


def _has_etag(answer: Any) -> bool:
    """Documents and lists have one. `/config` tells a version too, which is text and no document's."""
    first = next(iter(_union(answer)), None)
    return shapes.field_kind(first, "version") is int or _is_list(first)


def _is_list(answer: Any) -> bool:
    """Whether it is a list, or the overview: what may be read again and again, and joined with the stream."""
    return shapes.field_kind(answer, "items") is list and shapes.field_kind(answer, "position") is str


def _union(shape: Any) -> list[Any]:
    """The parts of a union of Structs, which msgspec takes only one by one: handlers tell untagged ones apart."""
    if shape is None:
        return []
    return list(typing.get_args(shape)) if isinstance(shape, types.UnionType) else [shape]


def _headers(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
