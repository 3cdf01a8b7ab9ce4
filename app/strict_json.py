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
MAX_MARKS = 30
"""Combining marks in a row, as in Unicode's Stream-Safe Text Format (UAX #15, 13). They have to be put in order, and
the time for that grows with the square of their number: those of a body of 256 KiB would take half a minute."""
_NO_LETTERS = re.compile(rf"[^\w\x00-\x7f]{{{MAX_MARKS + 1},}}")
"""Where more of them may be. No mark is a letter or a digit."""
_COMPOSED_MARKS = "\u0f73\u0f75\u0f81"
"""Three that are no marks by themselves, and become two each where text is taken apart."""
_KEY_SHOWN = 40
"""Characters of a key in the path of what is wrong. The path is made for every value, and a key can be very long."""
_PLACE = re.compile(r"^(.*?)(?:(?: -|,) at `(?:key` in `)?(.*)`)?$", re.DOTALL)
"""Message and place of a complaint: msgspec's own, or one of a `__post_init__` that ends with a field of the root."""


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


def convert(value: Any, shape: type[T], *, at: str = "$") -> T:
    """`value`, which stands at `at`, as `shape`.

    Raises `Invalid` with the path and the reason of the first thing that does not fit.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as problem:
        match = _PLACE.match(str(problem))
        message, path = (match[1], match[2]) if match else (str(problem), None)
        path = f"$.{path}" if path and not path.startswith("$") else path
        place = at + (path or "$")[1:]
        raise Invalid(
            f"{message} at {place}." if path else f"{message}.",
            errors=(FieldError(place, message),),
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
        return normal(value, path)
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
    return {normal(key, path): _checked(entry, f"{path}.{key[:_KEY_SHOWN]}", depth + 1) for key, entry in value.items()}


def normal(value: str, path: str) -> str:
    """Text that can be kept, in NFC. Raises `Invalid`, with the path of it, for any other."""
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
    for run in _NO_LETTERS.findall(value):
        if _has_many_marks(run):
            _refuse(path, f"Expected at most {MAX_MARKS} combining marks in a row")
    return unicodedata.normalize("NFC", value)


def _has_many_marks(text: str) -> bool:
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) or character in _COMPOSED_MARKS else 0
        if marks > MAX_MARKS:
            return True
    return False


def _refuse(path: str, message: str) -> NoReturn:
    path = path.encode("utf-8", "replace").decode()[:200]
    raise Invalid(f"{message} at {path}.", errors=(FieldError(path, message),))
