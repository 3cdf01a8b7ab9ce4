"""JSON Schemas of the Structs, for the API documents: closed, and with every field required that is always sent."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import NODEFAULT, UNSET
from msgspec import inspect as mi

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_PLAIN: dict[type, type] = {mi.StrType: str, mi.IntType: int, mi.ListType: list}


class Described:
    """The schemas of some types, and of all Structs that they are made of."""

    def __init__(self, *, answers: Sequence[Any], others: Sequence[Any]) -> None:
        """`answers` are sent by the server, `others` are sent to it."""
        shapes = [*answers, *others]
        schemas, self.components = msgspec.json.schema_components(shapes, ref_template=_REFERENCE)
        # By identity: annotated types compare equal to the plain ones in some cases, and `Any` need not be hashable.
        self._schemas = {id(shape): schema for shape, schema in zip(shapes, schemas, strict=True)}
        self._shapes = shapes  # kept alive, so that no id is given out anew
        taken = {struct.cls for struct in _structs(others)}
        for struct in _structs(answers):
            component = self.components[_component(struct.cls)]
            component["additionalProperties"] = False
            if struct.cls not in taken:
                sent = [field.encode_name for field in struct.fields if _is_always_sent(field)]
                component["required"] = sent if struct.tag_field is None else [struct.tag_field, *sent]
                for schema in component["properties"].values():
                    schema.pop("default", None)

    def schema(self, shape: Any) -> Schema:
        """The schema of one of the types."""
        return self._schemas[id(shape)]

    def any_of(self, shapes: Sequence[Any]) -> Schema:
        """The schema of a value that has one of these types."""
        schemas = [self.schema(shape) for shape in shapes]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


@functools.cache  # asked for each answer several times, and looking into a Struct takes milliseconds
def field_kind(shape: Any, name: str) -> type | None:
    """`str`, `int` or `list` where a Struct has such a field of that kind, else None; also for what is no Struct."""
    origin = typing.get_origin(shape) or shape
    if not (isinstance(origin, type) and issubclass(origin, msgspec.Struct)):
        return None
    info = mi.type_info(shape)
    assert isinstance(info, mi.StructType)  # noqa: S101 - narrows what the check above made certain
    kinds = {field.encode_name: _bare(field.type) for field in info.fields}
    return _PLAIN.get(type(kinds.get(name)))


def _is_always_sent(field: mi.Field) -> bool:
    """A field without a default is, and one with a default too, unless the default is to be absent."""
    has_default = field.default is not NODEFAULT and field.default is not UNSET
    return field.required or has_default or field.default_factory is not NODEFAULT


def _component(cls: Any) -> str:
    """The name that msgspec gives a Struct: a generic one is named with its arguments."""
    origin = typing.get_origin(cls)
    if origin is None:
        return str(cls.__name__)
    arguments = "__".join(argument.__name__ for argument in typing.get_args(cls))
    return f"{origin.__name__}_{arguments}_"


def _structs(shapes: Sequence[Any]) -> Iterable[mi.StructType]:
    found: dict[Any, mi.StructType] = {}
    waiting = [mi.type_info(shape) for shape in shapes]
    while waiting:
        info = waiting.pop()
        if isinstance(info, mi.StructType):
            if info.cls in found:
                continue
            found[info.cls] = info
        waiting.extend(_inside(info))
    return found.values()


def _inside(info: mi.Type) -> Iterator[mi.Type]:
    """The types that a type is made of."""
    match info:
        case mi.StructType():
            yield from (field.type for field in info.fields)
        case mi.UnionType():
            yield from info.types
        case mi.Metadata():
            yield info.type
        case mi.TupleType():
            yield from info.item_types
        case mi.DictType():
            yield info.value_type
        case mi.ListType() | mi.VarTupleType() | mi.SetType() | mi.FrozenSetType():
            yield info.item_type
        case _:
            return


def _bare(info: mi.Type) -> mi.Type:
    while isinstance(info, mi.Metadata):
        info = info.type
    return info
