"""What is looked at before a server starts: it refuses what lets strangers in, and warns of what will hurt later.

That the libraries and MongoDB can do what is needed is `app.database`'s, and checked before.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator

import msgspec
import structlog
from pymongo.errors import OperationFailure

from app import demo, pressure
from app.database import Connection
from app.examining import SHORTEST_OPLOG_SECONDS, read_oplog, span
from app.passwords import Passwords
from app.settings import PREFIX, CannotStart, Settings
from models.user import UserStore

log = structlog.get_logger("copydesk.startup")

FEWEST_CHARACTERS = 8
"""Different ones in a secret. 32 drawn from the 16 of hexadecimal practically never have fewer."""
_PLACEHOLDERS = (
    "at least 32", "change me", "changeme", "change-me", "change_me", "replace", "example", "your-secret",
    "your secret", "password", "the same for all processes", "secretsecret", "0123456789abcdef0123",
)  # fmt: skip
"""What stands in instructions in the place of a secret, ours among them."""


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator ought to change."""

    what: str
    do: str


async def check(settings: Settings, connection: Connection) -> None:
    """Raises `CannotStart`; the rest is logged."""
    check_secret(settings)
    async for warned in warnings(settings, connection):
        log.warning("start_up", what=warned.what, do=warned.do)


def check_secret(settings: Settings) -> None:
    """A secret that stands in instructions is no secret. Raises `CannotStart`; in demo mode anything goes."""
    secret = settings.auth_secret.lower()
    if not settings.demo and any(placeholder in secret for placeholder in _PLACEHOLDERS):
        raise CannotStart(
            f"{PREFIX}AUTH_SECRET is a text from instructions, with which anybody could sign tokens. Set a random one,"
            " for example from `openssl rand -hex 32`."
        )


async def warnings(settings: Settings, connection: Connection) -> AsyncIterator[Warned]:
    """What ought to be changed. Raises `CannotStart` where nobody may be let in before it is."""
    if not settings.demo and len(set(settings.auth_secret)) < FEWEST_CHARACTERS:
        yield Warned(
            what=f"{PREFIX}AUTH_SECRET has few different characters and can be guessed; who has it can sign tokens.",
            do="Set a random one, for example from `openssl rand -hex 32`.",
        )
    if settings.jwks_file is not None and settings.jwks_file.stat().st_mode & 0o002:
        yield Warned(
            what=f"Everybody on this machine may write {settings.jwks_file}, and so make keys that sign tokens.",
            do=f"chmod o-w {settings.jwks_file}",
        )
    async for warned in _demo_users(settings, connection):
        yield warned
    async for warned in _database(settings, connection):
        yield warned
    for warned in _descriptors(settings):
        yield warned


async def _demo_users(settings: Settings, connection: Connection) -> AsyncIterator[Warned]:
    """Their passwords are known to everybody, and one of them is an admin."""
    listening = not is_loopback(settings.address)
    elsewhere = [host for host in settings.allowed_hosts if host != "localhost" and not is_loopback(host)]
    if not listening and not elsewhere and not settings.trusted_proxies:
        return
    names = [user.id for user in demo.USERS] if settings.demo else await _open_demo_users(connection)
    if not names:
        return
    what = f"The passwords of the demo users {', '.join(names)} are known to everybody"
    do = (
        "Start without --demo, on another database."
        if settings.demo
        else " and ".join(f"`run.py user disable {name}`" for name in names) + "."
    )
    if listening:
        raise CannotStart(f"{what}, and {PREFIX}ADDRESS={settings.address} lets others reach this server. {do}")
    yield Warned(what=f"{what}, and a proxy or another host name may let others reach this server.", do=do)


async def _open_demo_users(connection: Connection) -> list[str]:
    """Demo users of an earlier start who can still sign in as everybody knows."""
    if await connection.database["meta"].find_one({"_id": demo.MARK}) is None:
        return []
    users, passwords = UserStore(connection.database, report=lambda *_what: None), Passwords()
    found = []
    try:
        for user in demo.USERS:
            known = await users.password(user.id)
            if known is not None and not known[0].disabled and await passwords.verify(known[1], user.password):
                found.append(user.id)
    finally:
        passwords.close()
    return found


async def _database(settings: Settings, connection: Connection) -> AsyncIterator[Warned]:
    """What only an operator of MongoDB can put right. A user who may not see it is not told."""
    try:
        parameter = await connection.client.admin.command("getParameter", 1, enableTestCommands=1)
    except OperationFailure:
        parameter = {}
    if parameter.get("enableTestCommands"):
        yield Warned(
            what="This MongoDB has test commands enabled: whoever reaches it can have it fail or stop.",
            do="Start it without --setParameter enableTestCommands=1.",
        )
    try:
        oplog = await read_oplog(connection)
    except OperationFailure:
        return
    needed = max(SHORTEST_OPLOG_SECONDS, settings.history_seconds)
    if oplog.too_short(needed):
        yield Warned(
            what=f"MongoDB's oplog reaches back {span(oplog.window_seconds)} only. Whoever was away for longer loads"
            " everything again, and so does everybody after an outage of that length.",
            do=f"In mongosh, on every member: db.adminCommand({{replSetResizeOplog: 1, size:"
            f" {oplog.megabytes_for(24 * 3600)}, minRetentionHours: 24}})",
        )


def _descriptors(settings: Settings) -> list[Warned]:
    limit = pressure.descriptor_limit()
    usable = limit - pressure.reserve(limit)
    # Whoever only tries it out is not to be told of thousands of connections.
    if settings.demo or usable >= settings.max_connections:
        return []
    return [
        Warned(
            what=f"The system allows this process {limit} descriptors, enough for {usable} connections and not for"
            f" {PREFIX}MAX_CONNECTIONS={settings.max_connections}. Beyond, whoever comes gets 503.",
            do="Raise LimitNOFILE in the unit, or `ulimit -n`, or lower the setting.",
        )
    ]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address; a name is taken for a public one, but for `localhost`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
