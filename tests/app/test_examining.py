"""The doctor's look at MongoDB, against real ones: as it should be, without a replica set, with a short oplog."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.database import Database as PlainDatabase
from pymongo.errors import OperationFailure

from app import mongod_process
from app.database import Connection
from app.examining import NEEDED_ACTIONS, Oplog, examine, missing_actions, read_oplog, span, without_images
from app.judging import Judged
from app.settings import Settings
from models import schema
from models.schema import WATCHED


class Mongod:
    """A MongoDB of the test's own, with options of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        data = folder / "db"
        data.mkdir()
        self.port = mongod_process.free_port(None)
        # fmt: off
        command = [
            str(mongod_process.find()), "--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1",
            "--nounixsocket", "--networkMessageCompressors", "snappy,zstd", "--wiredTigerCacheSizeGB", "0.25",
            "--setParameter", "diagnosticDataCollectionEnabled=false",
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0", *options,
        ]
        # fmt: on
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.alive: Callable[[], bool] = lambda: self._process.poll() is None
        self.deadline = time.monotonic() + 60
        assert mongod_process.answers(self.port, self.alive, self.deadline), (folder / "log").read_text()[-2000:]

    def uri(self, user: str = "") -> str:
        return f"mongodb://{user + ':secret-word@' if user else ''}127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def start_mongod(tmp_path: Path) -> Iterator[Callable[..., Mongod]]:
    """Start a MongoDB with more options."""
    started: list[Mongod] = []

    def start(*options: str) -> Mongod:
        started.append(Mongod(tmp_path, *options))
        return started[-1]

    yield start
    for mongod in started:
        mongod.stop()


async def look(uri: str, database: str = "copydesk") -> Judged:
    """What is said about a MongoDB."""
    judged = Judged()
    await examine(Settings(mongodb_uri=uri, mongodb_database=database), judged)
    return judged


def codes(judged: Judged) -> list[str]:
    return [found.code for found in judged.found]


def states(judged: Judged) -> dict[str, str]:
    return {row.name: row.state for row in judged.rows}


async def test_a_database_that_copydesk_made_is_found_well(mongodb_uri: str, database: Any) -> None:
    await schema.apply(database)
    judged = await look(mongodb_uri, database.name)
    assert codes(judged) == []
    names = ["Connection", "Version", "Replica set", "Rights", "Change stream", "Oplog", "Images"]
    assert states(judged) == dict.fromkeys(names, "good")


async def test_a_database_before_the_first_start_is_found_well(mongodb_uri: str, virgin_database_name: str) -> None:
    judged = await look(mongodb_uri, virgin_database_name)
    assert codes(judged) == []
    assert judged.rows[-1].text == "no collections yet; the server makes them when it starts"


async def test_collections_without_images_are_named(
    mongodb_uri: str, database: Any, plain_database: PlainDatabase[dict[str, Any]]
) -> None:
    await schema.apply(database)
    plain_database.command("collMod", "comments", changeStreamPreAndPostImages={"enabled": False})
    plain_database.items.drop()
    plain_database.items.insert_one({"_id": "1"})
    judged = await look(mongodb_uri, plain_database.name)
    assert codes(judged) == ["mongodb_no_images"]
    assert judged.rows[-1].text == "off for comments, items"
    command = judged.found[0].lines[-1]
    assert 'collMod: "comments"' in command


async def test_a_mongod_without_a_replica_set_is_told_how_to_become_one(
    start_mongod: Callable[..., Mongod],
) -> None:
    judged = await look(start_mongod().uri())
    assert codes(judged) == ["mongodb_no_replica_set"]
    assert "a single server without a replica set" in judged.found[0].what
    assert judged.found[0].lines == ["rs.initiate()"]


async def test_a_set_that_was_never_initiated_is_no_set_either(start_mongod: Callable[..., Mongod]) -> None:
    judged = await look(start_mongod("--replSet", "rs0").uri())
    assert codes(judged) == ["mongodb_no_replica_set"]
    assert "never initiated" in judged.found[0].what


async def test_a_set_without_a_primary_is_said_to_be_so(start_mongod: Callable[..., Mongod]) -> None:
    mongod = start_mongod("--replSet", mongod_process.SET_NAME)
    mongod_process.await_primary(mongod.port, mongod.alive, mongod.deadline)
    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", mongod.port, directConnection=True) as client:
        client.admin.command("replSetStepDown", 600, force=True)
    # With the name of the set drivers look for its primary, as in production.
    judged = await look(mongod.uri() + f"?replicaSet={mongod_process.SET_NAME}")
    assert codes(judged) == ["mongodb_no_primary"]


async def test_an_oplog_that_is_full_and_short_is_told_what_size_would_do(
    start_mongod: Callable[..., Mongod],
) -> None:
    # The oplog is not shortened past the last checkpoint, hence one each second.
    mongod = start_mongod("--replSet", mongod_process.SET_NAME, "--oplogSize", "1", "--syncdelay", "1")
    mongod_process.await_primary(mongod.port, mongod.alive, mongod.deadline)
    with pymongo.MongoClient[dict[str, Any]](mongod.uri()) as client:
        for _ in range(4):
            client.other.things.insert_one({"text": "x" * 1_000_000})

    judged = await look(mongod.uri())

    assert codes(judged) == ["mongodb_oplog_short"]
    assert re.fullmatch(r"reaches back .* \(\d+ of 1 MB\)", next(r.text for r in judged.rows if r.name == "Oplog"))
    size = re.search(r"size: (\d+)", judged.found[0].lines[0])
    assert size is not None
    assert int(size[1]) >= 990


@pytest.mark.parametrize(("times", "raised"), [(3, False), (1000, True)])
async def test_an_entry_that_is_cut_off_while_it_is_looked_at_is_looked_for_again(
    start_mongod: Callable[..., Mongod], times: int, raised: bool
) -> None:
    mongod = start_mongod("--replSet", mongod_process.SET_NAME, "--setParameter", "enableTestCommands=1")
    mongod_process.await_primary(mongod.port, mongod.alive, mongod.deadline)
    with pymongo.MongoClient[dict[str, Any]](mongod.uri()) as client:
        failing = {"failCommands": ["find"], "errorCode": 136, "namespace": "local.oplog.rs"}
        client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=failing)
        connection = Connection(mongod.uri(), "copydesk")
        try:
            with pytest.raises(OperationFailure, match="136") if raised else nullcontext():
                await read_oplog(connection)
        finally:
            connection.close()
            client.admin.command("configureFailPoint", "failCommand", mode="off")


async def test_a_user_without_rights_and_one_with_a_wrong_password_are_told_apart(
    start_mongod: Callable[..., Mongod], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("a" * 64)
    key.chmod(0o600)
    mongod = start_mongod("--replSet", mongod_process.SET_NAME, "--keyFile", str(key))
    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", mongod.port, directConnection=True) as client:
        member = {"_id": 0, "host": f"127.0.0.1:{mongod.port}"}
        client.admin.command("replSetInitiate", {"_id": mongod_process.SET_NAME, "members": [member]})
        while not client.admin.command("hello")["isWritablePrimary"]:
            assert time.monotonic() < mongod.deadline
            time.sleep(0.05)
        client.admin.command("createUser", "root", pwd="secret-word", roles=["root"])
    with pymongo.MongoClient[dict[str, Any]](mongod.uri("root")) as client:
        both = [{"role": role, "db": "copydesk"} for role in ("readWrite", "dbAdmin")]
        client.admin.command("createUser", "alice", pwd="secret-word", roles=both)
        client.admin.command("createUser", "bob", pwd="secret-word", roles=both[:1])

    alice, bob = await look(mongod.uri("alice")), await look(mongod.uri("bob"))
    stranger, nobody = await look(mongod.uri("carol")), await look(mongod.uri())

    assert codes(alice) == []
    assert states(alice)["Oplog"] == "skipped"
    assert codes(bob) == ["mongodb_rights"]
    assert "bob lacks collMod" in next(row.text for row in bob.rows if row.name == "Rights")
    assert 'grantRolesToUser("bob"' in bob.found[0].lines[1]
    assert codes(stranger) == codes(nobody) == ["mongodb_refuses"]
    for judged in (alice, bob, stranger):
        assert "secret-word" not in str([*judged.rows, *judged.found])


@pytest.mark.parametrize("uri", ["mongodb://bob:secret-word@127.0.0.1:1/?serverSelectionTimeoutMS=200", "mongodb://"])
async def test_a_mongodb_that_is_not_there_is_said_to_be_so_without_its_password(uri: str) -> None:
    judged = await look(uri)
    assert codes(judged) == ["mongodb_unreachable"]
    assert "secret-word" not in str([*judged.rows, *judged.found])


# -- the pure parts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "enough"),
    [
        ({"db": "copydesk", "collection": ""}, True),
        ({"db": "", "collection": ""}, True),
        ({"anyResource": True}, True),
        ({"db": "other", "collection": ""}, False),
        ({"db": "copydesk", "collection": "items"}, False),
        ({"cluster": True}, False),
    ],
)
def test_rights_count_on_the_whole_database_only(resource: dict[str, Any], enough: bool) -> None:
    privileges = [{"resource": resource, "actions": sorted(NEEDED_ACTIONS)}]
    assert missing_actions(privileges, "copydesk") == ([] if enough else sorted(NEEDED_ACTIONS))


@pytest.mark.parametrize(
    ("window", "used", "hours", "short"),
    [(60, 100, 0, True), (60, 79, 0, False), (60, 100, 2, False), (7200, 100, 0, False)],
)
def test_an_oplog_is_short_only_if_it_will_not_grow(window: float, used: int, hours: float, short: bool) -> None:
    oplog = Oplog(window_seconds=window, used_bytes=used, max_bytes=100, least_hours=hours)
    assert oplog.too_short(3600) is short


def test_a_size_is_advised_at_the_pace_of_the_writes() -> None:
    oplog = Oplog(window_seconds=3600, used_bytes=1_000_000_000, max_bytes=1_000_000_000)
    assert oplog.megabytes_for(24 * 3600) == 24_000


def test_only_watched_collections_need_images() -> None:
    on = {"changeStreamPreAndPostImages": {"enabled": True}}
    infos = [{"name": name, "options": on} for name in WATCHED[1:]] + [{"name": WATCHED[0]}, {"name": "leases"}]
    there, without = without_images(infos)
    assert (len(there), without) == (len(WATCHED), [WATCHED[0]])


def test_spans_are_said_as_people_do() -> None:
    assert [span(value) for value in (5, 300, 7200, 90_000, 259_200)] == [
        "5 seconds", "5 minutes", "2 hours", "25 hours", "3 days"
    ]  # fmt: skip
