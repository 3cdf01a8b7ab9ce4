"""Fuzzed messages: commands with something wrong in them, and what is no command at all. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from app.strict_json import parse
from models.errors import Refusal

TOPICS = ("projects", "inbox", "project:00000000000000000000000000", "project:", "projects ", "nonsense", "")


class Message(NamedTuple):
    """One text, and what has to come of it."""

    text: str
    unreadable: bool
    """No JSON object that could be kept: the third within ten seconds ends the connection."""
    reply_to: int | None
    """The id that its one reply has; None where it has no id that could be repeated, or needs no reply."""


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.0, 1.5, -0.0, 1e308, 2**31, 2**53, 2**53 + 1, -(2**63), 2**63 - 1, 2**63, 2**64,
    10**400, "", " ", "\0", "\ud800", "a\udfff", "\ufeff", "\u202e", "e\u0301" * 50, "😀" * 50, "x" * 81, "x" * 5000,
    "projects\n", "../..", "$where", "project:$ne", "1; DROP TABLE", "<script>", "%00", [], [[]], {},
    {"": 1}, {"a.b": 1}, {"$ne": None}, {"$gt": ""}, {"$regex": "^a"}, {"__proto__": {"admin": True}}, [1] * 2000,
    _deep(18), _deep(19), _deep(20), _deep(150), {str(number): number for number in range(500)},
)  # fmt: skip
NAMES = (
    "id",
    "op",
    "topic",
    "since",
    "snapshot",
    "token",
    "client",
    "_id",
    "$where",
    "",
    "a.b",
    "role",
    "user",
    "push",
    "ok",
)
TEXTS: tuple[Callable[[str], str], ...] = (
    lambda text: text[:-1],
    lambda text: text + "x",
    lambda text: text + text,
    lambda text: "\ufeff" + text,
    lambda text: "[" * 60_000,
    lambda text: '{"a":' * 10_000,
    lambda text: text.replace("{", '{"op":"pong",', 1),
    lambda text: text.replace(":", ":NaN,", 1),
    lambda text: text.replace(":", "=", 1),
    lambda text: text.replace('"', "'"),
    lambda text: '{"op":"pong","n":' + "9" * 5000 + "}",
    lambda text: '{"op":"pong","n":1e999}',
    lambda text: '{"op":"\\ud800"}',
    lambda text: '{"op":"\\u00zz"}',
    lambda text: '{"op":Infinity}',
    lambda text: f"[{text}]",
    json.dumps,
    lambda text: "null",
    lambda text: "-",
    lambda text: "",
    lambda text: "\0" + text,
)


def message(rng: random.Random, number: int, *, topics: tuple[str, ...], tokens: tuple[str, ...]) -> Message:
    """One message whose id is `number`, unless that is what is wrong with it."""
    command = _command(rng, number, topics, tokens)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        name = rng.choice((*command, rng.choice(NAMES)))
        if rng.random() < 0.25:
            command.pop(name, None)
        else:
            command[name] = rng.choice(HOSTILE)
    text = json.dumps(command, ensure_ascii=rng.random() < 0.5 or "\\ud" in json.dumps(command))
    if rng.random() < 0.1:
        text = rng.choice(TEXTS)(text)
    return judged(text)


def judged(text: str) -> Message:
    """What has to come of a text."""
    try:
        value = parse(text)
    except Refusal:
        return Message(text, unreadable=True, reply_to=None)
    if not isinstance(value, dict):
        return Message(text, unreadable=True, reply_to=None)
    given = value.get("id")
    has_id = isinstance(given, int) and not isinstance(given, bool)
    return Message(text, unreadable=False, reply_to=given if has_id and value != {"op": "pong"} else None)


def _command(rng: random.Random, number: int, topics: tuple[str, ...], tokens: tuple[str, ...]) -> dict[str, Any]:
    topic = rng.choice(topics if rng.random() < 0.5 else TOPICS)
    kind = rng.randrange(6)
    if kind == 0:
        return {"op": "subscribe", "id": number, "topic": topic, "snapshot": rng.random() < 0.5}
    if kind == 1:
        return {"op": "subscribe", "id": number, "topic": topic, "since": rng.randbytes(rng.choice((0, 8, 60))).hex()}
    if kind == 2:
        return {"op": "unsubscribe", "id": number, "topic": topic}
    if kind == 3:
        token = rng.choice(tokens)
        at = rng.randrange(len(token))
        return {"op": "refresh", "id": number, "token": rng.choice((token, token[:at] + "!" + token[at + 1 :]))}
    if kind == 4:
        return {"op": "hello", "id": number, "token": rng.choice(tokens), "client": "fuzz"}
    return {"op": "pong"}
