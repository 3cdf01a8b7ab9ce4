"""The AsyncAPI 3.0 document of the socket, made from the tagged unions in `app.protocol`.

In AsyncAPI 3 a document speaks for the application that it describes: the server *receives* commands and *sends*
replies and pushes (https://www.asyncapi.com/docs/reference/specification/v3.0.0).
"""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from app import protocol, shapes
from app.protocol import CloseCode
from models import errors
from models.activity import Activity
from models.comment import Comment
from models.item import Item
from models.notification import Counts, Notification
from models.project import Project

Schema = dict[str, Any]

COMMANDS: tuple[type[msgspec.Struct], ...] = typing.get_args(protocol.Command)
PUSHES: tuple[type[msgspec.Struct], ...] = typing.get_args(protocol.Push)

CLOSE_CODES: dict[CloseCode, str] = {
    CloseCode.BINARY: "A binary frame; messages are text.",
    CloseCode.BAD_UTF8: "Text that is not UTF-8.",
    CloseCode.TOO_BIG: f"A message over {protocol.MAX_MESSAGE_BYTES} bytes.",
    CloseCode.DRAIN: "The server is stopping: reconnect and resume.",
    CloseCode.SLOW: "Too much waited for this client, or for too long: reconnect and resume.",
    CloseCode.NO_PONG: "Nothing was heard for `ping_seconds` and 10 s more: reconnect and resume.",
    CloseCode.LOST: "A fault of the server on this socket: reconnect and resume.",
    CloseCode.TRY_LATER: "Over a limit: wait for `retry_after_ms`, then reconnect.",
    CloseCode.TOKEN_EXPIRED: "Get a new token, then reconnect.",
    CloseCode.ROLES_CHANGED: "Roles changed, the user was disabled or signed out: read rights again, then reconnect.",
    CloseCode.MALFORMED: f"The {protocol.MALFORMED_LIMIT}rd bad message within {protocol.MALFORMED_WINDOW_SECONDS} s.",
    CloseCode.UNAUTHENTICATED: f"No `hello` within {protocol.HELLO_SECONDS} s, a bad token, or a command before it.",
    CloseCode.FORBIDDEN: "Not allowed.",
    CloseCode.PROTOCOL: f"None of the sub-protocols that were offered is `{protocol.SUBPROTOCOL}`.",
    CloseCode.DISABLED: "WebSockets were switched off: take the next transport of `/api/v1/config`.",
}
"""What each close code tells a client."""

TOPICS = {
    "project:<id>": "One project: snapshot `{project, items, comments}`; events of the kinds project, item, comment, "
    "activity.",
    "projects": "All projects that the caller may see: snapshot `{projects}`; events of the kind project.",
    "inbox": "The caller's notifications: snapshot `{notifications, counts}`, the newest 200 that are not archived and "
    "how many wait; events of the kinds notification and counts.",
}
"""What there is to subscribe to."""

_KINDS: dict[str, type[msgspec.Struct]] = {
    "project": Project,
    "item": Item,
    "comment": Comment,
    "activity": Activity,
    "notification": Notification,
    "counts": Counts,
}
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ERROR = "#/components/schemas/ErrorBody"


def document(*, version: str) -> Schema:
    """The whole document, ready to be encoded. `version` is that of the server."""
    described = shapes.Described(
        answers=[*PUSHES, protocol.Event, protocol.Subscribed, protocol.ErrorBody, *_KINDS.values()],
        others=[*COMMANDS],
    )
    schemas = described.components
    _complete(schemas)
    messages = {
        **{f"command.{tag(command)}": _message(command) for command in COMMANDS},
        **{f"reply.{name}": {"name": name, "payload": schema} for name, schema in _replies().items()},
        **{f"push.{tag(push)}": _message(push) for push in PUSHES},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Copydesk, live",
            "version": version,
            "description": "JSON text frames, one object each. Full rules: docs/protocol.md; readable: `/docs`.",
            "license": {"name": "BSD-3-Clause"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "this": {
                "host": "{host}",
                "protocol": "wss",
                "variables": {"host": {"default": "localhost:8888", "description": "Where this document came from."}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            "realtime": {
                "address": "/api/v1/realtime",
                "title": f"Sub-protocol `{protocol.SUBPROTOCOL}`, which is also what an offer of none means",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
                "x-close-codes": {
                    str(int(code)): {"name": code.name.lower(), "description": sentence}
                    for code, sentence in CLOSE_CODES.items()
                },
                "x-topics": TOPICS,
            }
        },
        "operations": {
            **{f"receive_{tag(command)}": _receive(command) for command in COMMANDS},
            "send_pushes": {
                "action": "send",
                "channel": {"$ref": "#/channels/realtime"},
                "messages": [_in_channel(f"push.{tag(push)}") for push in PUSHES],
            },
        },
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In the handshake, or as `token` of `hello`; a same-origin session cookie does.",
                }
            },
        },
    }


def tag(shape: type[msgspec.Struct]) -> str:
    """The value of `op` or `push` that a message is told by."""
    return str(shape.__struct_config__.tag)


def _message(shape: type[msgspec.Struct]) -> Schema:
    return {
        "name": tag(shape),
        "summary": (shape.__doc__ or "").strip(),
        "payload": {"$ref": f"#/components/schemas/{shape.__name__}"},
    }


def _receive(command: type[msgspec.Struct]) -> Schema:
    name = tag(command)
    operation: Schema = {
        "action": "receive",
        "channel": {"$ref": "#/channels/realtime"},
        "messages": [_in_channel(f"command.{name}")],
    }
    if name in _replies():
        operation["reply"] = {
            "channel": {"$ref": "#/channels/realtime"},
            "messages": [_in_channel(f"reply.{name}"), _in_channel("reply.error")],
        }
    return operation


def _in_channel(message: str) -> Schema:
    return {"$ref": f"#/channels/realtime/messages/{message}"}


# -- what no Struct says -----------------------------------------------------------------------------------------------


def _replies() -> dict[str, Schema]:
    """The frames that answer commands, by the command; `error` answers any."""
    user = _closed({"id": _TEXT, "name": _TEXT})
    limits = _closed({"message_bytes": _COUNT, "topics": _COUNT})
    when = {"type": "string", "format": "date-time"}
    greeted = {
        "user": user,
        "session": _TEXT,
        "expires_at": when,
        "ping_seconds": {"type": "number", "exclusiveMinimum": 0},
        "limits": limits,
    }
    number = {"type": "integer"}
    return {
        "hello": _closed({"id": number, "ok": _closed(greeted)}),
        "subscribe": _closed({"id": number, "ok": {"$ref": "#/components/schemas/Subscribed"}}),
        "unsubscribe": _closed({"id": number, "ok": _closed({})}),
        "refresh": _closed({"id": number, "ok": _closed({"expires_at": when})}),
        "error": _closed({"id": number, "error": {"$ref": _ERROR}}),
    }


def _complete(schemas: dict[str, Schema]) -> None:
    """Put in place of what Structs leave open: which documents events and snapshots carry, and the list of codes."""
    event = schemas["Event"]
    event["allOf"] = [
        {"if": {"properties": {"kind": {"const": kind}}}, "then": {"properties": {"doc": _reference(shape)}}}
        for kind, shape in _KINDS.items()
    ]
    schemas["Events"]["properties"]["events"] = {
        "type": "array",
        "minItems": 1,
        "items": {"$ref": "#/components/schemas/Event"},
    }
    listed = ("project", "item", "comment", "notification")
    many = {f"{kind}s": {"type": "array", "items": _reference(_KINDS[kind])} for kind in listed}
    things = {"project": _reference(Project), "items": many["items"], "comments": many["comments"]}
    schemas["Snapshot"]["properties"]["data"] = {
        "oneOf": [
            # The project itself stands in the first part only.
            _closed(things, required=("items", "comments")),
            _closed({"projects": many["projects"]}),
            _closed({"notifications": many["notifications"], "counts": _reference(Counts)}),
        ]
    }
    for name in ("ErrorBody", "ErrorPush", "Unsubscribed"):
        schemas[name]["properties"]["code"] = {"enum": sorted(errors.family())}


def _closed(properties: dict[str, Schema], *, required: tuple[str, ...] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _reference(shape: type[msgspec.Struct]) -> Schema:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}
