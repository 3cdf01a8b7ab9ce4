"""The connection: what it is opened with, what it finds out, and what it says when there is nothing to open."""

from __future__ import annotations

import configparser
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database as PlainDatabase
from pymongo.errors import PyMongoError

from app import database, mongod, mongod_process
from app.database import Connection, DatabaseUnusable, connect, connected, require_versions
from app.settings import CannotStart
from models.fields import utc_now
from tests.held_up import held_up

ROOT = Path(__file__).parents[2]


async def test_a_checked_connection_reads_and_writes(mongodb_uri: str, database_name: str) -> None:
    connection = await connect(mongodb_uri, database_name)
    await connection.ping()
    await connection.database["things"].insert_one({"_id": 1})
    assert await connection.stream_database["things"].find_one({}) == {"_id": 1}
    connection.close()


async def test_dates_come_back_in_utc_and_impossible_ones_break_nothing(
    connection: Connection, plain_database: PlainDatabase[dict[str, Any]]
) -> None:
    now = utc_now()
    plain_database.things.insert_many([{"_id": 1, "at": now}, {"_id": 2, "at": DatetimeMS(2**55)}])
    possible, impossible = await connection.database["things"].find(sort=[("_id", 1)]).to_list(None)
    assert (possible["at"], possible["at"].utcoffset()) == (now, timedelta(0))
    assert not isinstance(impossible["at"], datetime)


async def test_majority_writes_whatever_the_uri_says(mongodb_uri: str, database_name: str) -> None:
    connection = Connection(f"{mongodb_uri}&w=1&readPreference=secondary&retryWrites=false", database_name)
    assert connection.database.write_concern.document == {"w": "majority"}
    assert connection.database.read_preference.mongos_mode == "primary"
    assert connection.client.options.retry_writes is True
    connection.close()


async def test_the_stream_has_a_client_that_gives_up_on_a_hung_server_sooner(connection: Connection) -> None:
    assert connection.stream_client.options.pool_options.socket_timeout == 4
    assert connection.stream_client.options.pool_options.connect_timeout == 2
    assert connection.client.options.pool_options.socket_timeout is None


async def test_where_nothing_answers_the_start_says_so_and_hides_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database._OPTIONS, "serverSelectionTimeoutMS", 200)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"mongodb://admin:sesame@127.0.0.1:{nobody.getsockname()[1]}/"
        with pytest.raises(DatabaseUnusable, match=r"No MongoDB .* answers at COPYDESK_MONGODB_URI") as problem:
            await connect(uri, "copydesk")
    assert "sesame" not in str(problem.value)


@pytest.mark.parametrize(
    "uri", ["postgres://alice:sesame@db", "mongodb://", "mongodb://alice:ses@me@db", "mongodb://h:x"]
)
async def test_what_is_no_uri_is_refused_without_repeating_the_password(uri: str) -> None:
    with pytest.raises(DatabaseUnusable, match="COPYDESK_MONGODB_URI cannot be used") as problem:
        await connect(uri, "copydesk")
    assert "ses" not in str(problem.value)


@pytest.fixture
def lone_server(tmp_path: Path) -> Iterator[str]:
    """The URI of a mongod that is no member of a replica set."""
    (tmp_path / "db").mkdir()
    port = mongod_process.free_port(None)
    command = [mongod_process.find(), "--dbpath", tmp_path / "db", "--port", str(port), "--bind_ip", "127.0.0.1"]
    with subprocess.Popen([*map(str, command), "--nounixsocket"], stdout=subprocess.DEVNULL) as process:
        assert mongod_process.answers(port, lambda: process.poll() is None, time.monotonic() + 30)
        yield f"mongodb://127.0.0.1:{port}/"
        process.kill()


async def test_a_server_without_a_replica_set_is_refused_with_what_to_do(lone_server: str) -> None:
    with pytest.raises(DatabaseUnusable, match=r"single server.*--replSet rs0 and run rs.initiate"):
        await connect(lone_server, "copydesk")


async def test_an_older_server_is_refused(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLDEST_MONGODB", (99, 0))
    with pytest.raises(DatabaseUnusable, match=r"This is MongoDB \d+\.\d+\.\d+\. Copydesk needs 99.0 or newer"):
        await connect(mongodb_uri, database_name)


async def test_a_hung_database_is_given_up_on(tmp_path: Path) -> None:
    running = mongod.start(tmp_path, say=lambda _text: None)
    try:
        async with connected(running.uri, "copydesk") as connection:
            with held_up(running.pid), pytest.raises(PyMongoError):
                await connection.ping()
            await connection.ping()
    finally:
        running.stop()


def test_the_installed_libraries_are_new_enough() -> None:
    require_versions()


@pytest.mark.parametrize("package", sorted(database.VERSION_FLOORS))
def test_a_library_that_is_too_old_is_named_with_the_version_it_needs(package: str) -> None:
    def installed(name: str) -> str:
        return "1.99.9" if name == package else "99.0"

    with pytest.raises(CannotStart, match=rf"{package} 1\.99\.9 is too old, .* or newer is needed"):
        require_versions(installed)


def test_the_floors_are_those_of_the_package_metadata() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    required = config["options"]["install_requires"]
    for package, floor in database.VERSION_FLOORS.items():
        match = re.search(rf"^{package}(\[\w+\])? >= ([\d.]+)", required, re.MULTILINE)
        assert match is not None, package
        assert tuple(map(int, match[2].split("."))) == floor
