"""Looks at a MongoDB with the eyes of Copydesk: whether it can do what is needed, and what to change where it cannot.

Only reads: the user that is examined may be able to do nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from bson import Timestamp
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import (
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from app.database import OLDEST_MONGODB, Connection, DatabaseUnusable, without_password
from app.judging import Judged
from app.settings import Settings
from models.schema import WATCHED

NEEDED_ACTIONS = frozenset(
    {
        "changeStream", "collMod", "createCollection", "createIndex", "dropIndex", "find", "insert", "listCollections",
        "listIndexes", "remove", "update",
    }
)  # fmt: skip
"""https://www.mongodb.com/docs/manual/reference/privilege-actions/"""
SHORTEST_OPLOG_SECONDS = 2 * 3600
"""Below this an editor who comes back from a long lunch loads everything again."""
OPLOG_FULL = 0.8
"""Of its size. Before that the oplog still grows, and how far it will reach back can only be guessed."""

_UNAUTHORIZED = 13
_CAPPED_POSITION_LOST = 136
_LOOKS = 10


async def examine(settings: Settings, judged: Judged) -> None:
    """Add what is to be said about the MongoDB of these settings, which name one."""
    try:
        connection = Connection(str(settings.mongodb_uri), settings.mongodb_database)
    except (DatabaseUnusable, InvalidURI) as problem:
        judged.row("Connection", "bad", str(problem))
        judged.find("mongodb_unreachable", detail=str(problem).rstrip("."))
        return
    try:
        await _examine(connection, settings, judged)
    finally:
        connection.close()


async def _examine(connection: Connection, settings: Settings, judged: Judged) -> None:
    hello = await _hello(connection, judged)
    if hello is None:
        return
    if not await _version(connection, judged):
        return
    if "setName" not in hello:
        kind = _kind(hello)
        judged.row("Replica set", "bad", f"this is {kind}")
        judged.find("mongodb_no_replica_set", kind=kind)
        return
    if not hello.get("isWritablePrimary"):
        judged.row("Replica set", "bad", f"{hello['setName']} has no primary")
        judged.find("mongodb_no_primary", set=hello["setName"])
        return
    count = len(hello["hosts"])
    judged.row("Replica set", "good", f"{hello['setName']}, {count} {'member' if count == 1 else 'members'}")
    await _rights(connection, judged)
    await _stream(connection, judged)
    await _oplog(connection, settings, judged)
    await _images(connection, judged)


def _kind(hello: Mapping[str, Any]) -> str:
    """What a MongoDB is that is no replica set."""
    if hello.get("msg") == "isdbgrid":
        return "a sharded cluster"
    return "a member of a set that was never initiated" if "ghost" in hello else "a single server without a replica set"


async def _hello(connection: Connection, judged: Judged) -> Mapping[str, Any] | None:
    """What the server says of itself; None where there is none, or where it lets nobody in."""
    try:
        hello: Mapping[str, Any] = await connection.client.admin.command("hello")
        # Needs a user where users are checked; `hello` does not.
        await connection.client.admin.command("listDatabases", nameOnly=True, authorizedDatabases=True)
    except OperationFailure as problem:
        judged.row("Connection", "bad", _said(problem))
        judged.find("mongodb_refuses", detail=_said(problem))
        return None
    except ServerSelectionTimeoutError as problem:
        hello = _without_primary(connection)
        if hello:
            return hello
        judged.row("Connection", "bad", _said(problem))
        judged.find("mongodb_unreachable", detail=_said(problem))
        return None
    except (ConnectionFailure, PyMongoError) as problem:
        judged.row("Connection", "bad", _said(problem))
        judged.find("mongodb_unreachable", detail=_said(problem))
        return None
    judged.row("Connection", "good", f"database {connection.database.name}")
    return hello


def _without_primary(connection: Connection) -> Mapping[str, Any]:
    """What members that are no primary say of themselves, as `hello` would; empty where none answered."""
    for server in connection.client.delegate.topology_description.server_descriptions().values():
        if server.server_type_name == "RSGhost":
            return {"ghost": True}
        if server.replica_set_name:
            return {"setName": server.replica_set_name}
    return {}


async def _version(connection: Connection, judged: Judged) -> bool:
    try:
        version = (await connection.client.admin.command("buildInfo"))["versionArray"]
    except ServerSelectionTimeoutError:
        return True  # no primary, which is said next
    text = ".".join(map(str, version[:3]))
    if tuple(version[:2]) < OLDEST_MONGODB:
        judged.row("Version", "bad", f"MongoDB {text}")
        judged.find("mongodb_old", version=text, wanted=".".join(map(str, OLDEST_MONGODB)))
        return False
    judged.row("Version", "good", f"MongoDB {text}")
    return True


async def _rights(connection: Connection, judged: Judged) -> None:
    status = await connection.client.admin.command("connectionStatus", showPrivileges=True)
    info = status["authInfo"]
    if not info["authenticatedUsers"]:
        judged.row("Rights", "good", "this MongoDB checks no users")
        return
    user, source = info["authenticatedUsers"][0]["user"], info["authenticatedUsers"][0]["db"]
    name = connection.database.name
    missing = missing_actions(info["authenticatedUserPrivileges"], name)
    if missing:
        judged.row("Rights", "bad", f"{user} lacks {', '.join(missing)}")
        judged.find("mongodb_rights", user=user, source=source, database=name, missing=", ".join(missing))
    else:
        judged.row("Rights", "good", f"{user} has what is needed on {name}")


def missing_actions(privileges: Iterable[Mapping[str, Any]], database: str) -> list[str]:
    """Which of the needed actions a user lacks on every collection of a database."""
    granted: set[str] = set()
    for privilege in privileges:
        resource = privilege["resource"]
        whole = resource.get("collection") == "" and resource.get("db") in ("", database)
        if whole or resource.get("anyResource"):
            granted.update(privilege["actions"])
    return sorted(NEEDED_ACTIONS - granted)


async def _stream(connection: Connection, judged: Judged) -> None:
    try:
        async with connection.stream_database.watch(max_await_time_ms=100) as stream:
            await stream.try_next()
    except PyMongoError as problem:
        judged.row("Change stream", "bad", _said(problem))
        judged.find("mongodb_stream", database=connection.database.name, detail=_said(problem))
    else:
        judged.row("Change stream", "good", "opens")


class Oplog(msgspec.Struct, frozen=True, kw_only=True):
    """How far MongoDB's own history reaches back."""

    window_seconds: float
    used_bytes: int
    max_bytes: int
    least_hours: float = 0.0

    @property
    def full(self) -> bool:
        """Whether the oldest entries make room for new ones already."""
        return self.used_bytes >= self.max_bytes * OPLOG_FULL

    def too_short(self, needed_seconds: float) -> bool:
        """Whether it reaches back less than is needed, and will not grow to it."""
        return self.full and self.least_hours * 3600 < needed_seconds and self.window_seconds < needed_seconds

    def megabytes_for(self, seconds: float) -> int:
        """The size in which so much time has room, at the pace of the writes in it. MongoDB takes no less than 990."""
        pace = self.used_bytes / max(self.window_seconds, 1.0)
        return max(990, round(pace * seconds / 1_000_000))


async def _oplog(connection: Connection, settings: Settings, judged: Judged) -> None:
    try:
        oplog = await read_oplog(connection)
    except OperationFailure as problem:
        if problem.code != _UNAUTHORIZED:
            raise
        judged.row("Oplog", "skipped", "not to be seen by this user; the role clusterMonitor would allow it")
        return
    needed = max(SHORTEST_OPLOG_SECONDS, settings.history_seconds)
    window, size = span(oplog.window_seconds), f"{oplog.used_bytes / 1e6:.0f} of {oplog.max_bytes / 1e6:.0f} MB"
    if oplog.too_short(needed):
        judged.row("Oplog", "bad", f"reaches back {window} ({size})")
        megabytes = oplog.megabytes_for(24 * 3600)
        judged.find("mongodb_oplog_short", window=window, needed=span(needed), megabytes=megabytes)
    else:
        growing = "" if oplog.full else ", and still grows"
        judged.row("Oplog", "good", f"reaches back {window} ({size}){growing}")


async def read_oplog(connection: Connection) -> Oplog:
    """Raises `pymongo.errors.OperationFailure` where this user may not see it."""
    local = connection.client["local"]
    stats = await local.command("collStats", "oplog.rs")
    ends = [await _end_of_oplog(local["oplog.rs"], way) for way in (ASCENDING, DESCENDING)]
    times = [end["ts"].time for end in ends if end is not None and isinstance(end["ts"], Timestamp)]
    status = await connection.client.admin.command("serverStatus", metrics=0, locks=0, repl=0)
    return Oplog(
        window_seconds=max(times) - min(times) if times else 0,
        used_bytes=int(stats["size"]),
        max_bytes=int(stats["maxSize"]),
        least_hours=float(status.get("oplogTruncation", {}).get("oplogMinRetentionHours", 0)),
    )


async def _end_of_oplog(oplog: Any, way: int) -> Mapping[str, Any] | None:
    """Its oldest or newest entry. The oldest may be cut off while it is looked at, where much is written."""
    looks = 0
    while True:
        try:
            found: Mapping[str, Any] | None = await oplog.find_one({}, {"ts": 1}, sort=[("$natural", way)])
        except OperationFailure as problem:
            looks += 1
            if problem.code != _CAPPED_POSITION_LOST or looks == _LOOKS:
                raise
        else:
            return found


async def _images(connection: Connection, judged: Judged) -> None:
    database = connection.database
    try:
        infos = [info async for info in await database.list_collections()]
    except OperationFailure as problem:
        judged.row("Images", "skipped", f"not to be seen by this user: {_said(problem)}")
        return
    there, without = without_images(infos)
    if without:
        names = ", ".join(without)
        judged.row("Images", "bad", f"off for {names}")
        judged.find("mongodb_no_images", database=database.name, collections=names, collection=without[0])
    elif not there:
        judged.row("Images", "good", "no collections yet; the server makes them when it starts")
    else:
        judged.row("Images", "good", f"on for all {len(there)} watched collections that there are")


def without_images(infos: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Of what `listCollections` says: the watched collections that there are, and those without images."""
    there = {info["name"]: info.get("options", {}) for info in infos if info["name"] in WATCHED}
    return sorted(there), sorted(name for name, options in there.items() if not _has_images(options))


def _has_images(options: Mapping[str, Any]) -> bool:
    return bool(options.get("changeStreamPreAndPostImages", {}).get("enabled", False))


def span(seconds: float) -> str:
    """A span of time as people say it."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _said(problem: PyMongoError) -> str:
    """The driver's first sentence, without credentials and without its picture of the set."""
    return without_password(str(problem).split(", Timeout:")[0].split(", full error:")[0])[:300].rstrip(".")
