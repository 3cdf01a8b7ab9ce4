"""Checks of recorded answers and frames against the API documents, and of the AsyncAPI document itself. Pure.

Every function returns complaints; none means that all is well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import jsonschema
import msgspec

Document = Mapping[str, Any]

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z")
_formats = jsonschema.FormatChecker()


@_formats.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    """The one form in which the server writes times."""
    return not isinstance(value, str) or (_TIME.fullmatch(value) is not None and bool(datetime.fromisoformat(value)))


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as a client saw it."""

    method: str
    path: str
    """With the parameters filled in, without the query."""
    status: int
    headers: Mapping[str, str]
    body: bytes


def against_schema(schema: Document, value: Any, components: Document) -> list[str]:
    """What is wrong with a value; references point into `components`."""
    whole = {"$ref": "#/checked", "checked": schema, "components": components}
    validator = jsonschema.Draft202012Validator(whole, format_checker=_formats)
    return [f"{problem.json_path}: {problem.message[:300]}" for problem in validator.iter_errors(value)]


def template_of(openapi: Document, path: str) -> str | None:
    """The documented path that an address belongs to: the one with the fewest parameters."""
    fitting = [
        template
        for template in openapi["paths"]
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path)
    ]
    return min(fitting, key=lambda template: template.count("{"), default=None)


def answer_complaints(openapi: Document, answer: Recorded) -> list[str]:
    """What of a recorded answer the OpenAPI document does not say."""
    where = f"{answer.method} {answer.path} {answer.status}"
    return [f"{where}: {problem}" for problem in _answer_problems(openapi, answer)]


def _answer_problems(openapi: Document, answer: Recorded) -> Iterator[str]:
    template = template_of(openapi, answer.path)
    operation = openapi["paths"].get(template, {}).get(answer.method.lower())
    if operation is None:
        if answer.status not in (404, 405):
            yield "there is no such operation"
        else:
            yield from problem_complaints(openapi, answer)
        return
    described = operation["responses"].get(str(answer.status))
    if described is None:
        yield f"the status is not described; body {answer.body[:300]!r}"
        return
    yield from _header_problems(openapi, described, answer)
    content = described.get("content", {})
    if not content:
        if answer.body:
            yield "there is a body, and none is described"
        return
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    fitting = [media for name, media in content.items() if name.partition(";")[0] == kind]
    if not fitting:
        yield f"the media type {kind!r} is not described"
    elif "json" in kind:
        yield from against_schema(fitting[0]["schema"], json.loads(answer.body), openapi["components"])


def _header_problems(openapi: Document, described: Document, answer: Recorded) -> Iterator[str]:
    for name, reference in described.get("headers", {}).items():
        header = openapi["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        value = answer.headers.get(name)
        if value is None:
            if header.get("required"):
                yield f"the header {name} is missing"
        else:
            yield from against_schema(header["schema"], value, openapi["components"])


def problem_complaints(openapi: Document, answer: Recorded) -> list[str]:
    """What is wrong with an error answer, whichever it is: type, shape, status, and no word of the inside."""
    found = []
    kind = answer.headers.get("Content-Type", "")
    if kind != "application/problem+json":
        return [f"the media type is {kind!r}"]
    problem = json.loads(answer.body)
    name = "UpgradeProblem" if answer.status == 426 else "Problem"
    found += against_schema({"$ref": f"#/components/schemas/{name}"}, problem, openapi["components"])
    if problem.get("status") != answer.status:
        found.append("the status in the body is another one")
    if problem.get("type") != f"/docs#error-{problem.get('code')}":
        found.append("the type does not point to the code's explanation")
    if answer.status in (429, 503) and not answer.headers.get("Retry-After", "").isdigit():
        found.append("Retry-After is missing")
    text = answer.body.decode()
    found += [f"the answer tells of the inside: {word}" for word in _INSIDE if word in text]
    return found


_INSIDE = ("Traceback", ".py", "pymongo", "motor", "mongod:", "E11000", "RuntimeError", "planted")


def frame_complaints(asyncapi: Document, frame: Mapping[str, Any]) -> list[str]:
    """What of a frame that the server sent the AsyncAPI document does not say."""
    messages = asyncapi["components"]["messages"]
    if "push" in frame:
        message = messages.get(f"push.{frame['push']}")
        if message is None:
            return [f"there is no push {frame['push']!r}"]
        schemas = [message["payload"]]
    else:
        schemas = [message["payload"] for name, message in messages.items() if name.startswith("reply.")]
    tries = [against_schema(schema, frame, asyncapi["components"]) for schema in schemas]
    return [] if any(not problems for problems in tries) else min(tries, key=len)


def command_complaints(asyncapi: Document, command: Mapping[str, Any]) -> list[str]:
    """What of a command the AsyncAPI document does not allow."""
    message = asyncapi["components"]["messages"].get(f"command.{command.get('op')}")
    if message is None:
        return [f"there is no command {command.get('op')!r}"]
    return against_schema(message["payload"], command, asyncapi["components"])


def asyncapi_complaints(document: Document) -> list[str]:
    """What of the rules of AsyncAPI 3.0 a document breaks, as far as we use them."""
    parts = ("asyncapi", "info", "channels", "operations", "components")
    found = [f"{name} is missing" for name in parts if name not in document]
    if found:
        return found
    if not re.fullmatch(r"3\.0\.\d+", document["asyncapi"]):
        found.append("the version is not 3.0")
    found += [f"info.{name} is missing" for name in ("title", "version") if name not in document["info"]]
    known = {
        "asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components",
    }  # fmt: skip
    found += [f"{name} is no field of the root" for name in document if name not in known and not name.startswith("x-")]
    for reference in _references(document):
        if _resolved(document, reference) is None:
            found.append(f"{reference} points to nothing")
    for name, operation in document["operations"].items():
        if operation.get("action") not in ("send", "receive"):
            found.append(f"operation {name} has no action")
        found += [f"operation {name}: {problem}" for problem in _operation_problems(document, operation)]
    for name, message in document["components"]["messages"].items():
        if "payload" not in message:
            found.append(f"message {name} has no payload")
    for name, schema in document["components"]["schemas"].items():
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as problem:
            found.append(f"schema {name}: {problem.message}")
    return found


def _operation_problems(document: Document, operation: Document) -> Iterator[str]:
    """The messages of an operation must be those of its channel, by reference (specification, Operation Object)."""
    for part in (operation, operation.get("reply", {})):
        if not part:
            continue
        channel = part.get("channel", {}).get("$ref", "")
        if not channel.startswith("#/channels/"):
            yield "the channel is no reference to one of the document"
        for message in part.get("messages", ()):
            if not message.get("$ref", "").startswith(f"{channel}/messages/"):
                yield f"{message} is no message of the channel"
    if not operation.get("messages"):
        yield "there is no message"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def _resolved(document: Document, reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found
