"""The mongod program: where it is, how it is started, made primary and ended. Everything here blocks."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from app.settings import CannotStart

SET_NAME = "copydesk"

# https://www.mongodb.com/docs/manual/reference/error-codes/ and .../exit-codes/
_NOT_YET_INITIALIZED = 94
_EXIT_DATA_IN_USE = 100

Alive = Callable[[], bool]
"""Whether a certain process still runs."""


class MongodError(CannotStart):
    """There is no embedded MongoDB to be had."""


class DataInUse(MongodError):  # noqa: N818 - says what it means
    """Another mongod holds the data directory."""


# -- where it is ------------------------------------------------------------------------------------------------------


def find(configured: Path | None = None) -> Path:
    """The mongod program: the configured one, or the first of `PATH` and the `embedded` extra. Raises `MongodError`."""
    looked = f"on PATH ({os.pathsep.join(os.get_exec_path())}) and at "
    if configured is not None:
        candidate = configured
        looked = "at "
    elif (on_path := shutil.which("mongod")) is not None:
        candidate = Path(on_path)
    else:
        candidate = _packaged()
    if not candidate.is_file():
        raise MongodError(
            f"No mongod was found. Looked {looked}{candidate}. Either let pip bring one:\n"
            "    pip install 'copydesk[embedded]'      (in a clone: make install)\n"
            "or use a MongoDB of your own, 6.0 or newer:\n"
            "    COPYDESK_MONGODB_URI=mongodb://...    a replica set that runs already\n"
            "    COPYDESK_MONGOD=/path/to/mongod       a program for Copydesk to start"
        )
    if not os.access(candidate, os.X_OK):
        # pip does not keep the run bit of a package's data files.
        try:
            candidate.chmod(candidate.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        except OSError as problem:
            raise MongodError(f"{candidate} may not be run ({problem.strerror}). Run `chmod +x` on it.") from None
    return candidate.absolute()


def _packaged() -> Path:
    """Where the `embedded` extra puts its mongod. Its package is located, not imported, which would load far more."""
    package = importlib.util.find_spec("fiftyone")
    folders = package.submodule_search_locations if package is not None else None
    places = [Path(folder, "db", "bin", "mongod") for folder in folders or [f"{sys.prefix}/.../fiftyone"]]
    return next((place for place in places if place.is_file()), places[0])


# -- processes --------------------------------------------------------------------------------------------------------


def runs_on(pid: int, database: Path) -> bool:
    """Whether a process is the mongod of this directory, and not another one that got an old number."""
    return f" --dbpath {database} " in _command_line(pid)


def port_of(pid: int) -> int | None:
    """The port that a running mongod was started with."""
    match = re.search(r" --port (\d+) ", _command_line(pid))
    return int(match[1]) if match else None


def _command_line(pid: int) -> str:
    """The words a process was started with, each followed by a space; empty where there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path("/proc", str(pid), "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            return ""
    ps = subprocess.run(  # noqa: S603 - fixed words and a number
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return ps.stdout.strip() + " "


def await_end(alive: Alive, seconds: float) -> bool:
    """Wait for the end of a process, at most so long. Whether it ended."""
    deadline = time.monotonic() + seconds
    while alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end(port: int, pid: int, alive: Alive) -> None:
    """Ask, then tell, then force. After force the journal brings everything back at the next start."""
    with suppress(PyMongoError), _client(port) as client:
        client.admin.command("shutdown", force=True, timeoutSecs=0)
    for means in (signal.SIGTERM, signal.SIGKILL):
        if await_end(alive, 2):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, means)
    await_end(alive, 2)


# -- starting ---------------------------------------------------------------------------------------------------------


def free_port(wanted: int | None) -> int:
    """The wanted port if nothing else has it, else any free one."""
    with socket.socket() as probe:
        # As mongod itself does; otherwise connections of the last run, which linger for a minute, would block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def spawn(program: Path, database: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a mongod; its output is added to `log`. Raises `MongodError` if there is nothing to start."""
    # fmt: off
    command = [
        str(program),
        "--dbpath", str(database),
        "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket",
        "--replSet", SET_NAME,
        "--noscripting",
        # Not zlib: through it an unpatched mongod gives away its memory (CVE-2025-14847).
        "--networkMessageCompressors", "snappy,zstd",
        "--wiredTigerCacheSizeGB", "0.5",
        # Megabytes. The default is 5 % of the disk; this holds the changes of a busy day.
        "--oplogSize", "1024",
        "--setParameter", "diagnosticDataCollectionEnabled=false",
        "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0",
    ]
    # fmt: on
    try:
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal must reach the server only, which then ends mongod in order.
            return subprocess.Popen(  # noqa: S603 - the operator's own program
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
    except OSError as problem:
        raise MongodError(f"{program} could not be started: {problem.strerror}.") from None


def answers(port: int, alive: Alive, deadline: float) -> bool:
    """Wait until a mongod answers a command. False when its process ends, or at `deadline` (monotonic)."""
    while alive() and time.monotonic() < deadline:
        # Knocking first is quicker: the driver tries again only after half a second.
        with suppress(OSError, PyMongoError), socket.create_connection(("127.0.0.1", port), timeout=2):
            with _client(port) as client:
                client.admin.command("hello")
            return True
        time.sleep(0.02)
    return False


def await_primary(port: int, alive: Alive, deadline: float) -> None:
    """Make the set, or tell it its new address, and wait until it can be written to. Raises `MongodError`."""
    problem: PyMongoError | None = None
    with _client(port) as client:
        while alive() and time.monotonic() < deadline:
            try:
                if client.admin.command("hello")["isWritablePrimary"]:
                    return
                _configure(client, f"127.0.0.1:{port}")
            except PyMongoError as this:
                problem = this
            time.sleep(0.02)
    raise MongodError(f"MongoDB did not become primary: {problem or 'no election'}.")


def _configure(client: MongoClient[dict[str, Any]], address: str) -> None:
    """One member, at this address."""
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as problem:
        if problem.code != _NOT_YET_INITIALIZED:
            raise
        client.admin.command("replSetInitiate", {"_id": SET_NAME, "members": [{"_id": 0, "host": address}]})
        return
    if config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        # By force, because a member that does not find itself in the set is no primary, and only a primary may.
        client.admin.command("replSetReconfig", config, force=True)


@contextmanager
def _client(port: int) -> Iterator[MongoClient[dict[str, Any]]]:
    client: MongoClient[dict[str, Any]] = MongoClient(
        "127.0.0.1",
        port,
        directConnection=True,
        serverSelectionTimeoutMS=2000,
        connectTimeoutMS=2000,
        socketTimeoutMS=5000,
    )
    try:
        yield client
    finally:
        client.close()


def failure(code: int, log: Path, begin: int) -> MongodError:
    """Why a mongod ended, from what it wrote into its log since the offset `begin`.

    Its log is JSON lines, in which `s` is the severity; what the system's loader says is not.
    """
    with log.open("rb") as lines:
        lines.seek(begin)
        told = lines.read().decode(errors="replace").splitlines()
    complaints = []
    for line in told:
        try:
            entry = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            complaints.append(line.strip())
            continue
        if entry.get("s") in ("E", "F"):
            detail = entry.get("attr", {})
            complaints.append(f"{entry.get('msg')} {detail.get('message') or detail.get('error') or ''}".strip()[:300])
    reason = " / ".join([line for line in complaints if line][:3]) or "no reason given"
    if "libcurl" in reason:
        reason += " (on Debian or Ubuntu: apt-get install libcurl4)"
    kind = DataInUse if code == _EXIT_DATA_IN_USE else MongodError
    return kind(f"MongoDB ended at once with code {code}: {reason}. Its log is {log}.")
