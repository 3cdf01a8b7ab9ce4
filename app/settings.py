"""Every setting of the server: its type, bound, default and sentence. The only reader of the environment."""

from __future__ import annotations

import difflib
import ipaddress
import os
import secrets
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PREFIX = "COPYDESK_"
MEBIBYTE = 1024 * 1024

# Whole seconds stay integers, so that what was written as 25 is shown as 25.
Seconds = Annotated[int, Meta(gt=0, le=86_400)] | Annotated[float, Meta(gt=0, le=86_400)]
DrainSeconds = Annotated[int, Meta(ge=0, le=8)] | Annotated[float, Meta(ge=0, le=8)]
SessionSeconds = Annotated[int, Meta(gt=0, le=10 * 365 * 86_400)]
Days = Annotated[int, Meta(gt=0, le=36_500)]
Positive = Annotated[int, Meta(gt=0)]
Secret = Annotated[str, Meta(min_length=32, extra={"secret": True})]
SecretText = Annotated[str, Meta(extra={"secret": True})]
# `plural` is what a list of them is called.
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:_-]+$", extra={"plural": "host names"})]
Origin = Annotated[str, Meta(pattern=r"^https?://[^/\s]+$", extra={"plural": "origins such as https://cms.example"})]
# `form` is what one of them is called where that says more than its type.
Site = Annotated[Origin, Meta(extra={"form": "an origin such as https://cms.example"})]
MailAddress = Annotated[
    str,
    Meta(
        pattern=r"""^([^<>()@,;:"\r\n]+ <[^\s<>@,]+@[A-Za-z0-9.-]+>|[^\s<>@,]+@[A-Za-z0-9.-]+)$""",
        extra={"form": "a mail address"},
    ),
]
Network = Annotated[str, Meta(extra={"plural": "addresses or networks", "network": True})]


class CannotStart(Exception):  # noqa: N818 - says what it means
    """Something outside the server must be put right first. The text is for the operator and never holds a secret."""


class SettingsError(CannotStart):
    """A setting that cannot be used."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. `load` makes them from flags and variables; a test may construct them."""

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes any free one.")] = 8888
    address: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    allowed_hosts: Annotated[
        tuple[HostName, ...], Meta(description="Host names, without a port, that this server answers for.")
    ] = ("localhost", "127.0.0.1")
    trusted_origins: Annotated[
        tuple[Origin, ...], Meta(description="Origins of other sites whose pages may use the API with a bearer token.")
    ] = ()
    trusted_proxies: Annotated[
        tuple[Network, ...], Meta(description="Addresses or networks whose X-Forwarded-* headers are believed.")
    ] = ()

    data_dir: Annotated[Path, Meta(description="Where the embedded MongoDB and its secret are kept.")] = Path("data")
    mongodb_uri: Annotated[
        SecretText | None, Meta(description="Your replica set, MongoDB 6.0 or newer. Absent: the embedded MongoDB.")
    ] = None
    mongodb_database: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,38}$", description="Name of the database.")] = (
        "copydesk"
    )
    mongod: Annotated[
        Path | None, Meta(description="The mongod program of the embedded MongoDB. Absent: it is searched for.")
    ] = None

    auth_secret: Annotated[
        Secret,
        Meta(description="Signs tokens and positions. Absent with the embedded MongoDB: one is made and kept."),
    ] = ""
    auth_secret_previous: Annotated[
        Secret | None, Meta(description="The secret before this one, accepted until what it signed has expired.")
    ] = None
    jwks_file: Annotated[
        Path | None, Meta(description="JSON Web Key Set (RFC 7517) whose RS256 and EdDSA keys sign tokens as well.")
    ] = None
    issuer: Annotated[str | None, Meta(description="The `iss` that every token must have. Absent: not checked.")] = None
    session_idle_seconds: Annotated[SessionSeconds, Meta(description="A session unused for so long ends.")] = 12 * 3600
    session_max_seconds: Annotated[SessionSeconds, Meta(description="A session ends after this, used or not.")] = (
        7 * 86_400
    )

    websockets_enabled: Annotated[bool, Meta(description="Whether WebSockets are offered.")] = True
    fallback: Annotated[
        Literal["sse", "poll", "none"],
        Meta(description="What serves clients without WebSockets: Server-Sent Events, polling or nothing."),
    ] = "sse"
    ping_seconds: Annotated[Seconds, Meta(description="Between pings; 10 s more of silence close with 4002.")] = 25
    poll_seconds: Annotated[Seconds, Meta(description="How often those who poll are asked to come back.")] = 10
    max_connections: Annotated[Positive, Meta(description="Live connections of this process.")] = 20_000
    max_connections_per_user: Annotated[Positive, Meta(description="Live connections of one user.")] = 100
    max_connections_per_address: Annotated[Positive, Meta(description="Live connections from one address.")] = 1000
    max_connection_rate: Annotated[
        Positive, Meta(description="Live connections let in per second; more are told to come back, with 503.")
    ] = 1000
    max_pending_bytes: Annotated[
        Positive, Meta(description="Bytes waiting for one slow client before it is closed with 4001.")
    ] = MEBIBYTE
    max_pending_seconds: Annotated[
        Seconds, Meta(description="Time that bytes may wait for one slow client before it is closed with 4001.")
    ] = 30
    max_messages_per_second: Annotated[
        Positive,
        Meta(description="Messages of one socket, twice as many at once; more are refused, then closed with 4008."),
    ] = 100
    max_topics_per_second_per_user: Annotated[
        Positive, Meta(description="Topics that one user joins, thirty times as many at once; more are refused.")
    ] = 20
    stale_seconds: Annotated[
        Seconds, Meta(description="Time without an answer from MongoDB after which live data is reported as stale.")
    ] = 6

    max_requests_per_second_per_user: Annotated[
        Positive, Meta(description="REST requests of one user, five times as many at once; more get 429.")
    ] = 100
    max_requests_at_once_per_user: Annotated[
        Positive, Meta(description="REST requests of one user that are worked on at once; more wait for their turn.")
    ] = 8
    max_requests_per_second_per_address: Annotated[
        Positive, Meta(description="Requests of all kinds from one address, five times as many at once.")
    ] = 500
    max_body_bytes_per_minute_per_user: Annotated[
        Positive, Meta(description="Bytes that one user sends in bodies of requests; more get 429.")
    ] = 64 * MEBIBYTE
    max_body_bytes_per_minute_per_address: Annotated[
        Positive, Meta(description="The same for all users of one address.")
    ] = 256 * MEBIBYTE
    max_idempotency_keys_per_hour_per_user: Annotated[
        Positive, Meta(description="Idempotency keys that one user sends, each of which is kept for a day.")
    ] = 20_000
    max_memory_bytes: Annotated[
        Positive, Meta(description="Memory of this process above which new requests and connections get 503.")
    ] = 4096 * MEBIBYTE

    history_events: Annotated[Positive, Meta(description="Recent events kept for those who reconnect.")] = 100_000
    history_bytes: Annotated[Positive, Meta(description="Bytes that these events may take.")] = 64 * MEBIBYTE
    history_seconds: Annotated[Seconds, Meta(description="Age that these events may reach.")] = 600
    overviews_bytes: Annotated[
        Positive, Meta(description="Bytes of overviews that are kept for who reads them again while nothing changed.")
    ] = 32 * MEBIBYTE
    catch_up_streams: Annotated[
        Positive, Meta(description="Reads from MongoDB at once for those who were away for longer than that.")
    ] = 2
    catch_up_events: Annotated[Positive, Meta(description="Changes that one such read may bring.")] = 50_000
    catch_up_seconds: Annotated[Seconds, Meta(description="Time that one such read may take.")] = 10
    activity_retention_days: Annotated[Days, Meta(description="How long the change log is kept.")] = 400

    notification_retention_days: Annotated[
        Days, Meta(description="How long a notification is kept once it is read or archived.")
    ] = 90
    inbox_max_entries: Annotated[
        Positive, Meta(description="Notifications that one user has at most; the oldest make room, read ones first.")
    ] = 1000
    group_mention_limit: Annotated[
        Positive, Meta(description="Members of a group who are told at most when the group is mentioned.")
    ] = 100

    smtp_host: Annotated[
        str | None, Meta(description="The mail server that takes our mail. Absent: no mail is sent.")
    ] = None
    smtp_port: Annotated[int, Meta(ge=1, le=65535, description="Its port: 587 for STARTTLS, 465 for TLS, 25.")] = 587
    smtp_security: Annotated[
        Literal["none", "starttls", "tls"],
        Meta(description="How it is spoken to; with starttls and tls its certificate is checked."),
    ] = "starttls"
    smtp_username: Annotated[str | None, Meta(description="Who signs in to it. Absent: nobody does.")] = None
    smtp_password: Annotated[SecretText | None, Meta(description="The password of that user.")] = None
    mail_from: Annotated[
        MailAddress | None,
        Meta(
            description="Sender of our mail: an address, or a name and then one in angle brackets. Required for mail."
        ),
    ] = None
    mail_delay_seconds: Annotated[
        Seconds, Meta(description="Time that a user has to see a notification before it is mailed.")
    ] = 120
    public_url: Annotated[
        Site | None, Meta(description="Where people reach this server, for the links in mails. Required for mail.")
    ] = None

    demo: Annotated[bool, Meta(description="Add demo users and content at the first start. Not for production.")] = (
        False
    )
    drain_seconds: Annotated[
        DrainSeconds, Meta(description="Time that a stopping server gives its clients to go elsewhere.")
    ] = 5
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least important messages to log.")
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"] | None,
        Meta(description="One JSON object a line, or text. Absent: text on a terminal, JSON elsewhere."),
    ] = None


_GROUPS = {
    "port": "network",
    "data_dir": "database",
    "auth_secret": "identity",
    "websockets_enabled": "live updates",
    "max_requests_per_second_per_user": "limits",
    "history_events": "history",
    "notification_retention_days": "notifications",
    "smtp_host": "mail",
    "demo": "operation",
}
"""The headings of `--help` and of the page of settings, each by the first setting under it."""

_TRUTH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as `--help` and the page of settings show it. All texts."""

    name: str
    variable: str
    flag: str
    group: str
    type: str
    default: str
    """Empty where the default is that the setting is absent."""
    description: str
    secret: bool
    switch: bool
    """Whether the flag alone, without a value, means true."""


def describe() -> Iterator[Described]:
    """Every setting, in the order of the Struct."""
    group = ""
    for field in msgspec.structs.fields(Settings):
        group = _GROUPS.get(field.name, group)
        described, optional = _parts(field.type)
        description = next(meta.description for meta in _metas(field.type) if meta.description)
        yield Described(
            name=field.name,
            variable=PREFIX + field.name.upper(),
            flag="--" + field.name.replace("_", "-"),
            group=group,
            type=_type_text(described),
            default="" if optional else _as_text(field.default),
            description=description,
            secret=_extra(field.type, "secret") is not None,
            switch=_bare(described) is bool,
        )


def load(flags: Mapping[str, str], environ: Mapping[str, str] = os.environ, *, signing: bool = True) -> Settings:
    """The settings: a flag (by the setting's name, as text) beats a variable, a variable beats the default.

    Empty text counts as not given. With the embedded MongoDB and no secret given, the one in `data_dir` is read, or
    made at the first start; without `signing` none is needed. Raises `SettingsError` with the name, the value (unless
    it is a secret) and what was expected.
    """
    known = {setting.variable: setting.name for setting in describe()}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0)[0]
            raise SettingsError(f"{variable} is not a setting. Did you mean {nearest}?")
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        variable = PREFIX + field.name.upper()
        source = "--" + field.name.replace("_", "-") if field.name in flags else variable
        text = flags.get(field.name, environ.get(variable, "")).strip()
        if text:
            values[field.name] = _read(field.type, text, source)
    settings = Settings(**values)
    if settings.smtp_host is not None and (settings.mail_from is None or settings.public_url is None):
        raise SettingsError(f"{PREFIX}MAIL_FROM and {PREFIX}PUBLIC_URL are required with {PREFIX}SMTP_HOST.")
    if settings.auth_secret or not signing:
        return settings
    if settings.mongodb_uri is not None:
        raise SettingsError(
            f"{PREFIX}AUTH_SECRET is required with {PREFIX}MONGODB_URI, because all processes must share it:"
            " at least 32 characters, for example from `openssl rand -hex 32`."
        )
    return msgspec.structs.replace(settings, auth_secret=kept_secret(settings.data_dir))


def is_truth(text: str) -> bool:
    """Whether a text is one of the ways to write true or false."""
    return text.strip().lower() in _TRUTH


def kept_secret(data_dir: Path) -> str:
    """The secret in ``data_dir/auth_secret``, made (256 random bits, mode 0600) where there is none yet."""
    path = data_dir / "auth_secret"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            # Written aside and linked into place: a second process that starts now must not read half of it.
            draft = data_dir / f"auth_secret.{secrets.token_hex(8)}"
            draft.touch(mode=0o600)
            try:
                draft.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
                with suppress(FileExistsError):
                    path.hardlink_to(draft)
            finally:
                draft.unlink()
        open_to_all = path.stat().st_mode & 0o007
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsError(f"The secret {path} can be neither read nor made: {problem}") from None
    if len(secret) < 32:
        raise SettingsError(f"The secret in {path} is shorter than 32 characters. Remove the file to have one made.")
    if open_to_all:
        raise SettingsError(f"Everybody on this machine may read or write the secret {path}. Run: chmod 600 {path}")
    return secret


def _read(shape: Any, text: str, source: str) -> Any:
    """One text as a setting's type."""
    described, _ = _parts(shape)
    value: Any = text
    if _bare(described) is bool:
        value = _TRUTH.get(text.lower(), text)
    elif typing.get_origin(_bare(described)) is tuple:
        # Host names, origins and addresses are compared without regard to case, and browsers send them in lower case.
        value = [part.strip().lower() for part in text.split(",") if part.strip()]
    try:
        converted = msgspec.convert(value, shape, strict=False, dec_hook=lambda kind, part: kind(part))
        if _extra(shape, "network"):
            for part in converted:
                ipaddress.ip_network(part, strict=False)
    except (msgspec.ValidationError, ValueError):
        shown = "its value (not shown)" if _extra(shape, "secret") else repr(text)
        raise SettingsError(f"{source}: expected {_type_text(described)}, got {shown}.") from None
    return converted


# -- what a type says about itself ------------------------------------------------------------------------------------


def _metas(shape: Any) -> Iterator[Meta]:
    """The `Meta` of a type and of all that it is made of, outermost first."""
    if typing.get_origin(shape) is Annotated:
        yield from reversed(shape.__metadata__)
        yield from _metas(shape.__origin__)
    else:
        for part in typing.get_args(shape):
            yield from _metas(part)


def _extra(shape: Any, name: str) -> Any:
    return next((meta.extra[name] for meta in _metas(shape) if meta.extra and name in meta.extra), None)


def _bare(shape: Any) -> Any:
    return shape.__origin__ if typing.get_origin(shape) is Annotated else shape


def _parts(shape: Any) -> tuple[Any, bool]:
    """A type without its None, and whether it had one."""
    bare = _bare(shape)
    if typing.get_origin(bare) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(bare) if kind is not types.NoneType]
        if len(kinds) < len(typing.get_args(bare)):
            return kinds[0], True
    return shape, False


def _type_text(shape: Any) -> str:
    """A type in words, with its bounds: ``integer, at least 0, at most 65535``."""
    bare = _bare(shape)
    words = {int: "integer", str: "text", bool: "true or false", Path: "path", float: "number"}
    if bare in words:
        text = _extra(shape, "form") or words[bare]
    elif typing.get_origin(bare) is Literal:
        text = "one of " + ", ".join(typing.get_args(bare))
    elif typing.get_origin(bare) is tuple:
        return f"{_extra(bare, 'plural')}, separated by commas"
    else:  # an integer or a number, with the same bounds
        return _type_text(typing.get_args(bare)[1])
    bounds = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "min_length": "at least {} characters"}
    for meta in _metas(shape):
        text += "".join(
            ", " + words.format(getattr(meta, name))
            for name, words in bounds.items()
            if getattr(meta, name) is not None
        )
    return text


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)
