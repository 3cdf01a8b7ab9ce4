"""The connection to MongoDB. The only module that imports motor, so that replacing it stays a change of one module."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bson.codec_options import DatetimeConversion
from pymongo.errors import (
    ConfigurationError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from app.settings import CannotStart

# Motor reads this when it is imported: the threads for all queries of the process. Its default is 5 per core, and a
# change stream holds one of them for as long as it waits.
os.environ.setdefault("MOTOR_MAX_WORKERS", "32")

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase

OLDEST_MONGODB = (6, 0)
"""Older ones keep no pre- and post-images (https://www.mongodb.com/docs/manual/changeStreams/)."""

VERSION_FLOORS = {
    "tornado": (6, 6, 1),
    "pymongo": (4, 20),
    "PyJWT": (2, 15),
}
"""The same as in `setup.cfg`; pip does not stop a later downgrade."""

_OPTIONS: dict[str, Any] = {
    "appname": "copydesk",
    "tz_aware": True,
    # Out-of-range dates and broken text of other programs must not lose a whole batch.
    "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
    "unicode_decode_error_handler": "replace",
    # Whatever the URI says: change streams report majority writes only, and what was written must be read back.
    "w": "majority",
    "readPreference": "primary",
    "retryWrites": True,
    # A dead database is answered with 503 after this; an election takes less.
    "serverSelectionTimeoutMS": 5000,
    # A hung primary is given up after the sum of the two, and requests that wait for it with it.
    "connectTimeoutMS": 3000,
    "heartbeatFrequencyMS": 2000,
}
# A hung primary must not silence the stream for the driver's 28 s; a client that queries must not be cut off at 4 s.
_STREAM_OPTIONS: dict[str, Any] = {
    **_OPTIONS,
    "socketTimeoutMS": 4000,
    "connectTimeoutMS": 2000,
    # The monitor gives a hung member up after the sum of this and the one before. That has to be before a read of it
    # times out, or the stream is opened on the same member once more.
    "heartbeatFrequencyMS": 1000,
}


class DatabaseUnusable(CannotStart):
    """There is no database to work with; the text says what to do."""


class Connection:
    """The clients of one process, for one event loop. Made by `connect`."""

    def __init__(self, uri: str, name: str) -> None:
        """Opens nothing yet; both clients belong to the running event loop. Raises `DatabaseUnusable`."""
        loop = asyncio.get_running_loop()
        try:
            self.client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri, io_loop=loop, **_OPTIONS)
            self.stream_client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
                uri, io_loop=loop, **_STREAM_OPTIONS
            )
        except (ConfigurationError, InvalidURI, ValueError) as problem:
            raise DatabaseUnusable(f"COPYDESK_MONGODB_URI cannot be used: {without_password(str(problem))}.") from None
        self.database: AsyncIOMotorDatabase[dict[str, Any]] = self.client[name]
        """For everything but the change stream."""
        self.stream_database: AsyncIOMotorDatabase[dict[str, Any]] = self.stream_client[name]
        """For the change stream alone: its client gives a hung server up sooner."""

    async def ping(self) -> None:
        """Ask the server for a sign of life. Raises `pymongo.errors.PyMongoError`."""
        await self.client.admin.command("ping")

    async def check(self) -> None:
        """Whether this server can do what is needed. Raises `DatabaseUnusable`."""
        try:
            hello = await self.client.admin.command("hello")
            version = (await self.client.admin.command("buildInfo"))["versionArray"]
            await self.database.command("listCollections", nameOnly=True, authorizedCollections=True)
        except ServerSelectionTimeoutError as problem:
            raise DatabaseUnusable(
                f"No MongoDB that can be written to answers at COPYDESK_MONGODB_URI within 5 s: {_short(problem)}."
            ) from None
        except OperationFailure as problem:
            raise DatabaseUnusable(f"MongoDB refuses this user: {_short(problem)}.") from None
        except PyMongoError as problem:
            raise DatabaseUnusable(f"MongoDB does not answer as expected: {_short(problem)}.") from None
        if tuple(version[:2]) < OLDEST_MONGODB:
            found = ".".join(map(str, version[:3]))
            wanted = ".".join(map(str, OLDEST_MONGODB))
            raise DatabaseUnusable(f"This is MongoDB {found}. Copydesk needs {wanted} or newer.")
        if "setName" not in hello:
            kind = "a sharded cluster" if hello.get("msg") == "isdbgrid" else "a single server"
            raise DatabaseUnusable(
                f"This MongoDB is {kind}. Change streams and transactions as Copydesk uses them need a replica set; one"
                " member is enough: start mongod with --replSet rs0 and run rs.initiate() in mongosh."
            )

    def close(self) -> None:
        """Close both clients. Reads that still wait fail."""
        self.stream_client.close()
        self.client.close()


@asynccontextmanager
async def connected(uri: str, name: str) -> AsyncIterator[Connection]:
    """A connection that was checked, for a while. Raises `DatabaseUnusable`."""
    connection = await connect(uri, name)
    try:
        yield connection
    finally:
        connection.close()


async def connect(uri: str, name: str) -> Connection:
    """A connection that was checked. Raises `DatabaseUnusable`."""
    connection = Connection(uri, name)
    try:
        await connection.check()
    except BaseException:
        connection.close()
        raise
    return connection


def require_versions(installed: Callable[[str], str] = importlib.metadata.version) -> None:
    """Raise `CannotStart` if a library is older than what Copydesk was made for."""
    for package, floor in VERSION_FLOORS.items():
        found = installed(package)
        if tuple(map(int, re.findall(r"\d+", found)[:3])) < floor:
            wanted = ".".join(map(str, floor))
            raise CannotStart(f"{package} {found} is too old, {wanted} or newer is needed: pip install -U {package}")


def without_password(text: str) -> str:
    """A text about a URI, without the credentials of the URI."""
    return re.sub(r"//[^/@\s]*@", "//...@", text)


def _short(problem: PyMongoError) -> str:
    """The first sentence of a driver's text; the rest is its picture of the topology."""
    return without_password(str(problem).split(", Timeout:")[0].split(", full error:")[0])[:300]
