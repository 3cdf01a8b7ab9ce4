"""The realtime protocol: commands, pushes, close codes, limits, and the frames that carry them (docs/protocol.md)."""

from __future__ import annotations

import enum
import math
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.strict_json import convert, parse
from models.errors import FieldError, Invalid, Malformed, Refusal
from models.fields import Timestamp

SUBPROTOCOL = "copydesk.v1"
MAX_MESSAGE_BYTES = 64 * 1024
MAX_TOPICS = 128
HELLO_SECONDS = 10
SNAPSHOT_PART = 500
"""Documents in one `snapshot` push."""
MALFORMED_LIMIT = 3
MALFORMED_WINDOW_SECONDS = 10


class CloseCode(enum.IntEnum):
    """4000-4099: reconnect and resume. 4100-4199: get a new token, then reconnect. 4400-4499: stop using WebSockets."""

    BINARY = 1003
    BAD_UTF8 = 1007
    TOO_BIG = 1009
    DRAIN = 4000
    SLOW = 4001
    NO_PONG = 4002
    LOST = 4003
    TRY_LATER = 4008
    TOKEN_EXPIRED = 4101
    ROLES_CHANGED = 4102
    MALFORMED = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    PROTOCOL = 4406
    DISABLED = 4409


# -- commands: client to server -------------------------------------------------------------------------------------

CommandId = Annotated[int, Meta(ge=-(2**53), le=2**53, description="Chosen by the client; the reply repeats it.")]
Topic = Annotated[str, Meta(max_length=80, description="`project:<id>`, `projects` or `inbox`.")]


class Hello(msgspec.Struct, tag_field="op", tag="hello", forbid_unknown_fields=True, kw_only=True):
    """Says who is there. `token` is absent where the handshake was authenticated."""

    id: CommandId
    token: str | UnsetType = UNSET
    client: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class Subscribe(msgspec.Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True, kw_only=True):
    """Asks for a topic, from a position on, or with a snapshot."""

    id: CommandId
    topic: Topic
    since: str | UnsetType = UNSET
    snapshot: bool = True


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True, kw_only=True):
    """Ends a topic; fine where there was none."""

    id: CommandId
    topic: Topic


class Refresh(msgspec.Struct, tag_field="op", tag="refresh", forbid_unknown_fields=True, kw_only=True):
    """Gives a newer token of the same user."""

    id: CommandId
    token: str


class Pong(msgspec.Struct, tag_field="op", tag="pong", forbid_unknown_fields=True, kw_only=True):
    """Answers a `ping` push; any text frame does as well."""


PONG = '{"op":"pong"}'
"""As JavaScript writes it."""

Command = Hello | Subscribe | Unsubscribe | Refresh | Pong


class BadCommand(Exception):  # noqa: N818 - an answer to a client
    """A message that is no command: the refusal, and the command's id where it could be read."""

    def __init__(self, refusal: Refusal, command_id: int | None) -> None:
        super().__init__(refusal.detail)
        self.refusal, self.command_id = refusal, command_id


def read_command(text: str) -> Command:
    """Raises `BadCommand` with `Malformed` where it is no JSON object, `Invalid` where it is no known command."""
    try:
        message = parse(text)
    except Refusal as refusal:
        raise BadCommand(Malformed(refusal.detail.replace("The body", "The message")), None) from None
    if not isinstance(message, dict):
        raise BadCommand(Malformed("A message is a JSON object with `op`."), None)
    given = message.get("id")
    command_id = given if isinstance(given, int) and not isinstance(given, bool) else None
    try:
        return convert(message, Command)  # type: ignore[arg-type]  # a union is no type to mypy, and fine for msgspec
    except Invalid as refusal:
        raise BadCommand(refusal, command_id) from None


# -- replies and pushes: server to client ----------------------------------------------------------------------------


class Event(msgspec.Struct, kw_only=True):
    """One thing that happened to one document. `doc` is what REST returns; without it, fetch."""

    kind: Literal["project", "item", "comment", "activity", "notification", "counts"]
    change: Literal["enter", "update", "leave", "delete"]
    id: str
    version: int | None
    at: Timestamp
    by: str | UnsetType = UNSET
    doc: Any = UNSET


class ErrorBody(msgspec.Struct, kw_only=True):
    """A refusal on a socket."""

    code: str
    detail: str
    retry: bool
    retry_after_ms: int | UnsetType = UNSET
    errors: tuple[FieldError, ...] | UnsetType = UNSET


def error_body(refusal: Refusal) -> ErrorBody:
    """The socket form of a refusal."""
    wait = refusal.retry_after
    return ErrorBody(
        code=refusal.code,
        detail=refusal.detail,
        retry=refusal.retry,
        # Rounded up: who comes back exactly then would otherwise be too early.
        retry_after_ms=UNSET if wait is None else math.ceil(wait * 1000),
        errors=refusal.errors or UNSET,
    )


class Subscribed(msgspec.Struct, kw_only=True):
    """The reply to `subscribe`."""

    topic: str
    resumed: bool
    replayed: int
    reason: Literal["too_old", "too_many", "unknown", "rights"] | UnsetType = UNSET


class Snapshot(msgspec.Struct, tag_field="push", tag="snapshot", kw_only=True):
    """A part of the state at one point; arrays of the parts are concatenated."""

    topic: str
    data: dict[str, Any]
    part: int
    last: bool


class Events(msgspec.Struct, tag_field="push", tag="events", kw_only=True):
    """Events in commit order. `seq` counts the frames of a `project:` topic once live."""

    topic: str
    position: str
    events: list[msgspec.Raw]
    seq: int | UnsetType = UNSET


class Live(msgspec.Struct, tag_field="push", tag="live", kw_only=True):
    """Snapshot or replay is complete. Positions count only from here on."""

    topic: str
    position: str
    seq: int | UnsetType = UNSET


class Reset(msgspec.Struct, tag_field="push", tag="reset", kw_only=True):
    """Drop what you have of the topic; a snapshot follows, or `live` alone where none was asked for."""

    topic: str
    reason: str


class Unsubscribed(msgspec.Struct, tag_field="push", tag="unsubscribed", kw_only=True):
    """The topic is over for you."""

    topic: str
    code: str
    detail: str
    retry_after_ms: int | UnsetType = UNSET


class Ping(msgspec.Struct, tag_field="push", tag="ping", kw_only=True):
    """The server and its data are alive. `position` is absent while a topic of this socket is not live."""

    lag_ms: int
    stale: bool
    time: Timestamp
    position: str | UnsetType = UNSET


class TokenExpiring(msgspec.Struct, tag_field="push", tag="token_expiring", kw_only=True):
    """60 seconds before the end of the token or session."""

    expires_at: Timestamp


class Drain(msgspec.Struct, tag_field="push", tag="drain", kw_only=True):
    """The server is going; reconnect after this many milliseconds."""

    reconnect_in_ms: int


class ErrorPush(msgspec.Struct, tag_field="push", tag="error", kw_only=True):
    """Said before a close, or about a message that had no readable id."""

    code: str
    detail: str
    retry: bool
    retry_after_ms: int | UnsetType = UNSET


Push = Snapshot | Events | Live | Reset | Unsubscribed | Ping | TokenExpiring | Drain | ErrorPush


class Frame:
    """One message to clients: its JSON, and made from it once, whatever the transport wraps around it.

    `name` is the push's name, or ``reply``.
    """

    __slots__ = ("name", "payload", "websocket")

    def __init__(self, payload: bytes, name: str = "reply") -> None:
        self.payload, self.name = payload, name
        self.websocket = _text_frame(payload)
        """A complete, unmasked, final text frame (RFC 6455, 5.2). The same object for every listener."""


def _text_frame(payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        header = struct.pack(">BB", 0x81, length)
    elif length < 65536:
        header = struct.pack(">BBH", 0x81, 126, length)
    else:
        header = struct.pack(">BBQ", 0x81, 127, length)
    return header + payload


def push(message: Push) -> Frame:
    """The frame of a push."""
    return Frame(msgspec.json.encode(message), str(message.__struct_config__.tag))


def unsubscribed(topic: str, refusal: Refusal) -> Unsubscribed:
    """The push that takes a topic from a client, with the reason."""
    body = error_body(refusal)
    return Unsubscribed(topic=topic, code=body.code, detail=body.detail, retry_after_ms=body.retry_after_ms)


def reply_ok(command_id: int, result: Any) -> Frame:
    """The frame that says a command was carried out."""
    return Frame(msgspec.json.encode({"id": command_id, "ok": result}))


def reply_error(command_id: int | None, refusal: Refusal) -> Frame:
    """The frame that says a command was refused; a push where the command's id could not be read."""
    body = error_body(refusal)
    if command_id is None:
        return push(ErrorPush(code=body.code, detail=body.detail, retry=body.retry, retry_after_ms=body.retry_after_ms))
    return Frame(msgspec.json.encode({"id": command_id, "error": body}))
