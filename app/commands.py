"""What the command line does besides serving: tokens and users. Each command returns the lines to print."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
from msgspec import UNSET

from app import mongod, tokens
from app.database import Connection, connected
from app.mongod import Say, to_stderr
from app.passwords import Passwords
from app.permissions import split_roles
from app.settings import CannotStart, Settings
from models.errors import Refusal
from models.fields import Unfit
from models.meta import renew_epoch
from models.page import PageRequest
from models.schema import prepare
from models.user import Account, UserPatch, UserStore

OPERATOR = "command-line"
"""Who did it, in documents that the command line changed."""
PASSWORD_LENGTH = (8, 1000)
"""In characters; the least is that of NIST SP 800-63B, 3.1.1.2."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class CommandError(CannotStart):
    """A command that was not carried out; the text says why."""


@asynccontextmanager
async def opened(settings: Settings, say: Say = to_stderr) -> AsyncIterator[Connection]:
    """The database of these settings for a while; the embedded MongoDB is started where it does not run.

    Raises `CannotStart`.
    """
    if settings.mongodb_uri is not None:
        async with connected(settings.mongodb_uri, settings.mongodb_database) as connection:
            yield connection
        return
    embedded = await asyncio.to_thread(mongod.start, settings.data_dir, settings.mongod, say=say)
    try:
        async with connected(embedded.uri, settings.mongodb_database) as connection:
            yield connection
    finally:
        await asyncio.to_thread(embedded.stop)


def seconds(text: str) -> int:
    """A span of time such as ``90s``, ``15m``, ``1h`` or ``7d``. Raises ValueError."""
    match = re.fullmatch(r"([1-9]\d{0,8})([smhd])", text.strip())
    if match is None:
        raise ValueError("expected a whole number and a unit, such as 90s, 15m, 1h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def token(
    settings: Settings, *, sub: str, roles: Iterable[str], ttl_seconds: int, name: str | None, email: str | None
) -> str:
    """A token for a user, as an identity provider would make it. Raises `CommandError`."""
    try:
        return tokens.issue(settings.auth_secret, sub=sub, roles=roles, ttl_seconds=ttl_seconds, name=name, email=email)
    except msgspec.ValidationError:
        raise CommandError(
            f"{sub!r} cannot be a user: expected 1 to 64 letters, digits, full stops, dashes or underscores."
        ) from None


async def add_user(
    settings: Settings, *, name: str, password: str, roles: Iterable[str], full_name: str | None, email: str | None
) -> list[str]:
    """Make an account that can sign in. Raises `CommandError`."""
    shortest, longest = PASSWORD_LENGTH
    if not shortest <= len(password) <= longest:
        raise CommandError(f"A password has {shortest} to {longest} characters.")
    instance_roles, groups = split_roles(roles)
    passwords = Passwords()
    try:
        async with opened(settings) as connection:
            await prepare(connection.database, "users")
            account = await _store(connection).add(
                name,
                password_hash=await passwords.hash(password),
                roles=instance_roles,
                groups=groups,
                name=full_name,
                email=email,
            )
    except Unfit as problem:
        raise CommandError(f"There can be no such user: {problem}.") from None
    except Refusal as refusal:
        raise CommandError(refusal.detail) from None
    finally:
        passwords.close()
    return [f"added {_line(account)}"]


async def list_users(settings: Settings) -> list[str]:
    """Everybody who was added or seen, one line each, by name."""
    lines: list[str] = []
    async with opened(settings) as connection:
        request = PageRequest(sort="name", scope=b"", position="", limit=200)
        while True:
            page = await _store(connection).accounts(request, q="")
            lines += map(_line, page.items)
            if page.next_cursor is UNSET:
                return lines
            request = msgspec.structs.replace(request, cursor=page.next_cursor)


async def set_disabled(settings: Settings, *, name: str, disabled: bool) -> list[str]:
    """Lock a user out everywhere and at once, or let them in again. Raises `CommandError`."""
    async with opened(settings) as connection:
        try:
            account = await _store(connection).patch(
                name, UserPatch(disabled=disabled), by=OPERATOR, precondition=lambda _account: None
            )
        except Refusal as refusal:
            raise CommandError(refusal.detail) from None
    return [f"{'disabled' if disabled else 'enabled'} {_line(account)}"]


async def new_epoch(settings: Settings) -> list[str]:
    """After a restore from files: positions from before it are refused, because they name another history."""
    async with opened(settings) as connection:
        await prepare(connection.database, "meta")
        await renew_epoch(connection.database)
    return ["A new epoch begins with the next start of each process: every client reads again."]


def _store(connection: Connection) -> UserStore:
    def report(_collection: str, identifier: object, problem: str) -> None:
        to_stderr(f"the document of user {identifier!r} does not fit: {problem}")

    return UserStore(connection.database, report=report)


def _line(account: Account) -> str:
    """A user on one line, columns parted by tabs: name, roles and groups, full name, e-mail, state."""
    email = "" if account.email is UNSET else account.email
    state = "disabled" if account.disabled is True else ""
    return "\t".join([account.id, ",".join([*account.roles, *account.groups]), account.name, email, state]).rstrip()
