"""A real replica set to break: members of our own, started, frozen, killed and stepped down at will."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from app import mongod_process

NAME = "ledger"
ELECTION_TIMEOUT_MS = 2000
START_SECONDS = 60.0


class Member:
    """One mongod."""

    def __init__(self, folder: Path, *, oplog_mb: int) -> None:
        self._folder, self._oplog_mb = folder, oplog_mb
        # The oplog is not shortened past the last checkpoint; with a tiny one nobody wants to wait for that.
        self._sync_seconds = 60 if oplog_mb > 50 else 1
        self.port = mongod_process.free_port(None)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, or start it again after it was killed."""
        data = self._folder / "db"
        data.mkdir(parents=True, exist_ok=True)
        # fmt: off
        command = [
            str(mongod_process.find()), "--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1",
            "--nounixsocket", "--replSet", NAME, "--noscripting", "--networkMessageCompressors", "snappy,zstd",
            "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", str(self._oplog_mb),
            "--syncdelay", str(self._sync_seconds),
            "--setParameter", "enableTestCommands=1", "--setParameter", "diagnosticDataCollectionEnabled=false",
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0",
        ]
        # fmt: on
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        alive = self._process.poll
        if not mongod_process.answers(self.port, lambda: alive() is None, time.monotonic() + START_SECONDS):
            raise RuntimeError((self._folder / "log").read_text()[-2000:])

    def signal(self, number: int) -> None:
        """SIGSTOP, SIGCONT, SIGKILL, ..."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(timeout=20)

    @contextmanager
    def client(self) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
        """A connection to this member alone."""
        with pymongo.MongoClient[dict[str, Any]](
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=2000, socketTimeoutMS=5000
        ) as client:
            yield client


class ReplicaSet:
    """All members, with a primary."""

    def __init__(self, folder: Path, members: int = 3, *, oplog_mb: int = 990) -> None:
        self.members = [Member(folder / f"member-{number}", oplog_mb=oplog_mb) for number in range(members)]
        with self.members[0].client() as client:
            client.admin.command(
                "replSetInitiate",
                {
                    "_id": NAME,
                    "members": [{"_id": number, "host": one.address} for number, one in enumerate(self.members)],
                    "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT_MS},
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
        while time.monotonic() < deadline:
            with suppress(PyMongoError), self.primary().client() as client:
                states = [member["state"] for member in client.admin.command("replSetGetStatus")["members"]]
                if sorted(states) == [1] + [2] * (len(self.members) - 1):
                    return
            time.sleep(0.05)
        raise RuntimeError("not every member came back")

    def fail(self, commands: list[str], *, times: int, **how: Any) -> None:
        """Have the primary fail the next `times` of these commands: ``errorCode=...`` or ``closeConnection=True``."""
        self._fail_point({"times": times}, {"failCommands": commands, **how})

    def _fail_point(self, mode: str | Mapping[str, int], data: Mapping[str, Any]) -> None:
        with self.primary().client() as client:
            client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    def stop(self) -> None:
        """End all members."""
        for member in self.members:
            with suppress(ProcessLookupError):
                member.signal(signal.SIGCONT)
                member.kill()


@contextmanager
def replica_set(folder: Path, members: int = 3, **options: Any) -> Iterator[ReplicaSet]:
    """A replica set for a while."""
    running = ReplicaSet(folder, members, **options)
    try:
        yield running
    finally:
        running.stop()
