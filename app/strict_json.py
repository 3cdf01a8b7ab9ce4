"""JSON as strict as what we store: no duplicate keys, NaN, NUL, lone surrogates, deep nesting or 65-bit integers.

Text is normalised to NFC on the way in, so that lengths are counted in the same code points that are kept.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, NoReturn, TypeVar

import msgspec

from models.errors import FieldError, Invalid, Malformed

T = TypeVar("T")

MAX_DEPTH = 20
_PARSER_DEPTH = 200
"""Deeper than this is not even parsed; in between, the answer can say where."""
_PLACE = re.compile(r"^(.*?)(?: - at `(.*)`)?$", re.DOTALL)


def parse(body: bytes | str) -> Any:
    """The value that `body` holds. Raises `Malformed` where it is no JSON, `Invalid` where we could not keep it."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as problem:
        raise Malformed(f"The body is not JSON: {problem.msg} at character {problem.pos}.") from None
    except ValueError:  # an integer of thousands of digits
        raise Malformed("The body holds a number that is too long.") from None
    return _checked(value, "$")


def convert(value: Any, shape: type[T]) -> T:
    """`value` as `shape`. Raises `Invalid` with the path and the reason of the first thing that does not fit."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as problem:
        match = _PLACE.match(str(problem))
        message, path = (match[1], match[2]) if match else (str(problem), None)
        raise Invalid(
            f"{message} at {path or '$'}." if path else f"{message}.",
            errors=(FieldError(path or "$", message),),
        ) from None


_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]+")


def _check_depth(text: str) -> None:
    """Refuse deep nesting before a recursive parser meets it. Brackets inside strings do not count."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _NOT_BRACKETS.sub("", _STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > _PARSER_DEPTH:
            raise Malformed(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Malformed("An object has the same key twice.")
    return result


def _checked(value: Any, path: str, depth: int = 0) -> Any:
    """`value` with all its text normalised. Raises `Invalid` for what cannot be stored or sent on."""
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            _refuse(path, "Expected an integer of at most 64 bits")
        return value
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            _refuse(path, "Expected a number that fits a double")
        return value
    if depth >= MAX_DEPTH:
        _refuse(path, f"Expected at most {MAX_DEPTH} levels of nesting")
    if isinstance(value, list):
        return [_checked(entry, f"{path}[{index}]", depth + 1) for index, entry in enumerate(value)]
    return {_text(key, path): _checked(entry, f"{path}.{key}", depth + 1) for key, entry in value.items()}


def _text(value: str, path: str) -> str:
    if value.isascii():
        if "\0" in value:
            _refuse(path, "Expected text without NUL")
        return value
    if "\0" in value:
        _refuse(path, "Expected text without NUL")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        _refuse(path.encode("utf-8", "replace").decode(), "Expected text without lone surrogates")
    return unicodedata.normalize("NFC", value)


def _refuse(path: str, message: str) -> NoReturn:
    path = path.encode("utf-8", "replace").decode()[:200]
    raise Invalid(f"{message} at {path}.", errors=(FieldError(path, message),))
