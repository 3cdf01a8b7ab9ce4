"""A real replica set to break: members of our own, started, frozen, killed and stepped down at will."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from app import mongod_process
from tests.held_up import hold

NAME = "ledger"
ELECTION_TIMEOUT_MS = 2000
HEARTBEAT_MS = 400
"""As much less than the election timeout as MongoDB's own is (2 s of 10 s). At 2 s of 2 s a new primary may count a
member that is well as lost, because its next heartbeat is not due yet, and give way: it takes 8 s then instead of 4."""
START_SECONDS = 60.0


class Place(NamedTuple):
    """Where a member runs: its address, and the command that starts a program there."""

    host: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


class Member:
    """One mongod."""

    def __init__(self, folder: Path, *, oplog_mb: int, place: Place) -> None:
        self._folder, self._oplog_mb, self._place = folder, oplog_mb, place
        # The oplog is not shortened past the last checkpoint; with a tiny one nobody wants to wait for that.
        self._sync_seconds = 60 if oplog_mb > 50 else 1
        self.port = mongod_process.free_port(None)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"{self._place.host}:{self.port}"

    def start(self) -> None:
        """Start it, or start it again after it was killed."""
        data = self._folder / "db"
        data.mkdir(parents=True, exist_ok=True)
        # fmt: off
        command = [
            *self._place.enter, str(mongod_process.find()), "--dbpath", str(data), "--port", str(self.port),
            "--bind_ip", self._place.host,
            "--nounixsocket", "--replSet", NAME, "--noscripting", "--networkMessageCompressors", "snappy,zstd",
            "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", str(self._oplog_mb),
            "--syncdelay", str(self._sync_seconds),
            "--setParameter", "enableTestCommands=1", "--setParameter", "diagnosticDataCollectionEnabled=false",
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0",
        ]
        # fmt: on
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def _answers(self) -> bool:
        # Knocking first is quicker: the driver tries again only after half a second.
        with suppress(OSError, PyMongoError), socket.create_connection((self._place.host, self.port), timeout=2):
            with self.client() as client:
                client.admin.command("hello")
            return True
        return False

    def hold(self) -> None:
        """It stops answering and keeps its connections."""
        if self._process is not None:
            hold(self._process.pid)

    def release(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=20)

    def end(self) -> None:
        """Kill it for good. Its data goes, which is 300 MB and more; its log stays."""
        with suppress(ProcessLookupError):
            self.release()
            self.kill()
        shutil.rmtree(self._folder / "db")

    @contextmanager
    def client(self) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
        """A connection to this member alone."""
        with pymongo.MongoClient[dict[str, Any]](
            self._place.host, self.port, directConnection=True, serverSelectionTimeoutMS=2000, socketTimeoutMS=5000
        ) as client:
            yield client


class ReplicaSet:
    """All members, with a primary."""

    def __init__(
        self, folder: Path, members: int = 3, *, oplog_mb: int = 990, places: Sequence[Place] | None = None
    ) -> None:
        self._folder = folder
        self._alone: ReplicaSet | None = None
        self.members = [
            Member(folder / f"member-{number}", oplog_mb=oplog_mb, place=places[number] if places else Place())
            for number in range(members)
        ]
        with self.members[0].client() as client:
            client.admin.command(
                "replSetInitiate",
                {
                    "_id": NAME,
                    "members": [{"_id": number, "host": one.address} for number, one in enumerate(self.members)],
                    "settings": {
                        "electionTimeoutMillis": ELECTION_TIMEOUT_MS,
                        "heartbeatIntervalMillis": HEARTBEAT_MS,
                    },
                },
            )
        self.primary()

    @property
    def uri(self) -> str:
        addresses = ",".join(member.address for member in self.members)
        return f"mongodb://{addresses}/?replicaSet={NAME}"

    def primary(self) -> Member:
        """The member that can be written to; waits for the end of an election."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for member in self.members:
                with suppress(PyMongoError), member.client() as client:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return member
            time.sleep(0.05)
        raise RuntimeError("no primary")

    def step_down(self) -> None:
        """Have the primary give way to another member, and wait for that one."""
        old = self.primary()
        with suppress(PyMongoError), old.client() as client:
            client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=4)
        self.primary()

    def until_whole(self) -> None:
        """Wait until every member is a primary or a follower that keeps up: then one of them may die."""
        deadline = time.monotonic() + START_SECONDS
        everywhere = WriteConcern(w=len(self.members), wtimeout=1000)
        while time.monotonic() < deadline:
            with suppress(PyMongoError), self.primary().client() as client:
                states = [member["state"] for member in client.admin.command("replSetGetStatus")["members"]]
                if sorted(states) == [1] + [2] * (len(self.members) - 1):
                    # One that has yet to take back what only it has calls itself a follower, too.
                    client[NAME].get_collection("whole", write_concern=everywhere).insert_one({})
                    return
            time.sleep(0.05)
        raise RuntimeError("not every member came back")

    def fail(self, commands: list[str], *, times: int, **how: Any) -> None:
        """Have the primary fail the next `times` of these commands: ``errorCode=...`` or ``closeConnection=True``."""
        self._fail_point({"times": times}, {"failCommands": commands, **how})

    def mend(self) -> None:
        """Have the primary fail nothing any more."""
        self._fail_point("off", {})

    @contextmanager
    def alone(self) -> Iterator[ReplicaSet]:
        """Another set, of one member, for what needs no more; it stays until this one is stopped."""
        if self._alone is None:
            self._alone = ReplicaSet(self._folder / "alone", 1)
        try:
            yield self._alone
        finally:
            # What was to fail and did not happen to be asked must not fail somebody else.
            self._alone._fail_point("off", {})

    def _fail_point(self, mode: str | Mapping[str, int], data: Mapping[str, Any]) -> None:
        member = self.members[0] if len(self.members) == 1 else self.primary()
        with member.client() as client:
            client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    def stop(self) -> None:
        """End all members."""
        if self._alone is not None:
            self._alone.stop()
        for member in self.members:
            member.end()


@contextmanager
def replica_set(folder: Path, members: int = 3, **options: Any) -> Iterator[ReplicaSet]:
    """A replica set for a while."""
    running = ReplicaSet(folder, members, **options)
    try:
        yield running
    finally:
        running.stop()
