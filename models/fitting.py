"""What fits, as a filter: the rule of `from_document` for MongoDB itself, so that counting there skips what lists skip.

Made from the Structs, through their JSON Schema; MongoDB's dialect is at
https://www.mongodb.com/docs/manual/reference/operator/query/jsonSchema/
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from models.comment import Comment
from models.database_types import Document
from models.item import Item

_COMPONENT = "#/{name}"
_BSON = {
    "string": ["string"],
    "boolean": ["bool"],
    "integer": ["int", "long"],
    "number": ["int", "long", "double"],
    "array": ["array"],
    "object": ["object"],
}
_SAME_WORD = ("minLength", "maxLength", "pattern", "minimum", "maximum", "minItems", "maxItems", "enum")
_TOMBSTONE_LOSES = ("body", "mentions", "mention_groups", "anchor")
# MongoDB's `\S` knows the spaces of ASCII only.
_NO_SPACE = r"[^\x{9}-\x{d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"


def fitting_items() -> Document:
    """Matches the documents that `Item.from_document` takes."""
    return _fitting(*_fields(Item))


def fitting_comments() -> Document:
    """Matches the documents that `Comment.from_document` takes."""
    fields, required = _fields(Comment)
    text = {name: fields.pop(name) for name in _TOMBSTONE_LOSES}
    # Whatever stands there, a comment is shown; it is left out where it names nobody.
    del fields["deleted_by"]
    alive = _fitting(text, ["body"])
    return {
        "$and": [
            _fitting(fields, [name for name in required if name != "thread_id"]),
            {"$or": [{"deleted_at": {"$ne": None}}, alive]},
        ]
    }


def _fitting(fields: Mapping[str, Any], required: list[str]) -> Document:
    properties = {name: _optional(schema, name in required) for name, schema in fields.items()}
    times = [name for name, schema in fields.items() if schema == {"bsonType": "date"}]
    # MongoDB keeps dates of more years than there are for `models.fields.stamp`.
    beyond = [
        {name: limit}
        for name in times
        for limit in ({"$lt": datetime.min.replace(tzinfo=UTC)}, {"$gt": datetime.max.replace(tzinfo=UTC)})
    ]
    schema = {"properties": properties, **({"required": required} if required else {})}
    return {"$jsonSchema": schema, **({"$nor": beyond} if beyond else {})}


def _optional(schema: Document, required: bool) -> Document:
    """At the top of a document, null is as good as nothing."""
    return schema if required else {"anyOf": [{"bsonType": "null"}, schema]}


def _fields(shape: type[msgspec.Struct]) -> tuple[dict[str, Any], list[str]]:
    (reference,), components = msgspec.json.schema_components([shape], ref_template=_COMPONENT)
    whole = components[_name(reference)]
    fields = {_stored(name): _translated(schema, components) for name, schema in whole["properties"].items()}
    # `from_document` supplies the version where there is none.
    return fields, [_stored(name) for name in whole["required"] if name != "version"]


def _translated(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Document:
    if "$ref" in schema:
        return _translated(components[_name(schema)], components)
    if schema.get("format") == "date-time":
        return {"bsonType": "date"}
    if "anyOf" in schema:
        return {"anyOf": [_translated(part, components) for part in schema["anyOf"]]}
    translated: Document = {key: schema[key] for key in _SAME_WORD if key in schema}
    if "pattern" in translated:
        translated["pattern"] = translated["pattern"].replace(r"\S", _NO_SPACE)
    if "type" in schema:
        translated["bsonType"] = _BSON[schema["type"]]
    if "items" in schema:
        translated["items"] = _translated(schema["items"], components)
    if "properties" in schema:
        translated["properties"] = {name: _translated(part, components) for name, part in schema["properties"].items()}
        if schema["required"]:
            translated["required"] = schema["required"]
    return translated


def _name(reference: Mapping[str, Any]) -> str:
    name: str = reference["$ref"].removeprefix("#/")
    return name


def _stored(name: str) -> str:
    return "_id" if name == "id" else name
