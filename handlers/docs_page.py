"""Renders the page at `/docs` from the API documents, the family of refusals and the settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from tornado.template import Loader

from app.settings import describe
from models.errors import family

Document = Mapping[str, Any]

_TEMPLATES = Path(__file__).parent / "templates"
_VERBS = ("get", "post", "put", "patch", "delete")
_BOUNDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "maxItems": "at most {} entries",
}
_BIGGEST_SHOWN = 2**31
"""Bounds beyond this are those of the number's type, and tell a reader nothing."""


def render(openapi: Document, asyncapi: Document) -> bytes:
    """The page, in UTF-8."""
    loader = Loader(str(_TEMPLATES), autoescape="xhtml_escape")
    page: bytes = loader.load("docs.html").generate(
        openapi=openapi,
        groups=_groups(openapi),
        schemas=_schemas(openapi, asyncapi),
        messages=asyncapi["components"]["messages"],
        channel=asyncapi["channels"]["realtime"],
        refusals=sorted(family().values(), key=lambda refusal: (refusal.status, refusal.code)),
        settings=list(describe()),
        type_of=type_of,
        marked=marked,
        schema_of=schema_of,
        resolved=lambda header: openapi["components"]["headers"][header["$ref"].rpartition("/")[2]],
    )
    return page


def type_of(schema: Document) -> str:
    """A schema in words, as HTML; what has a name of its own is a link to it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{escape(name)}">{escape(_shown(name))}</a>'
    for key, word in (("anyOf", " or "), ("oneOf", " or "), ("allOf", " with ")):
        if key in schema:
            texts = dict.fromkeys(text for part in schema[key] if (text := type_of(part)))
            return word.join(texts)
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "object" or "properties" in schema:
        return _object_of(schema)
    return _plain_of(schema)


def _object_of(schema: Document) -> str:
    if schema.get("properties"):
        fields = (f"{escape(name)}: {type_of(part)}" for name, part in schema["properties"].items())
        return "{" + ", ".join(fields) + "}"
    values = schema.get("additionalProperties")
    return f"object of {type_of(values)}" if isinstance(values, Mapping) and values else "object"


def _plain_of(schema: Document) -> str:
    match schema.get("type"):
        case None:
            text = "anything"
        case "array":
            text = f"list of {type_of(schema.get('items', {}))}"
        case "string":
            text = "time" if schema.get("format") == "date-time" else "text"
        case "boolean":
            text = "true or false"
        case other:
            text = str(other)
    return text + "".join(
        f", {words.format(schema[bound])}"
        for bound, words in _BOUNDS.items()
        if bound in schema and abs(schema[bound]) < _BIGGEST_SHOWN
    )


def marked(text: str) -> str:
    """Escaped text in which what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def schema_of(content: Document) -> Document:
    """The schema of a body, whatever its media type."""
    schema: Document = next(iter(content.values()))["schema"]
    return schema


def _groups(openapi: Document) -> dict[str, list[dict[str, Any]]]:
    """Operations under the heading of their tag, each with its path and verb."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in openapi["paths"].items():
        for method in _VERBS:
            if method in methods:
                operation = methods[method]
                groups.setdefault(operation["tags"][0], []).append(
                    {"path": path, "method": method.upper(), **operation}
                )
    return groups


def _schemas(openapi: Document, asyncapi: Document) -> dict[str, dict[str, Any]]:
    """Every shape by its name: the title to show, and its fields."""
    both = {**asyncapi["components"]["schemas"], **openapi["components"]["schemas"]}
    return {
        name: {
            "title": _shown(name),
            "description": schema.get("description", ""),
            "fields": schema.get("properties", {}),
            "required": set(schema.get("required", ())),
        }
        for name, schema in sorted(both.items())
    }


def _shown(name: str) -> str:
    """`Page_Item_` is `Page[Item]` to a reader."""
    generic = re.fullmatch(r"(\w+?)_(\w+)_", name)
    return f"{generic[1]}[{generic[2]}]" if generic else name
