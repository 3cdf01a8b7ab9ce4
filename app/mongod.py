"""The embedded MongoDB of a data directory: started by the first process that uses it, stopped by the last.

Every user holds a shared lock on ``mongod.users``. Starting and stopping happen under an exclusive lock on
``mongod.turn``, so that nobody joins a mongod that is being stopped. Both are `flock` locks: they end with their
process, however it ends. Everything here blocks; call it through `asyncio.to_thread`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen

from app import mongod_process
from app.mongod_process import DataInUse, MongodError

START_SECONDS = 90
"""How long a start may take; moving to another port alone may take mongod 30 s."""
HUNG_SECONDS = 15
"""A mongod left behind that does not answer for so long is ended and replaced."""
LOG_LIMIT = 10 * 1024 * 1024

Say = Callable[[str], None]
"""Told of the progress, for the operator."""


def to_stderr(text: str) -> None:
    """The usual `Say`: standard output belongs to the one line that scripts wait for."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Mongod:
    """A running mongod that this process uses; made by `start`."""

    def __init__(self, *, data_dir: Path, users: int, port: int, pid: int, child: Popen[bytes] | None) -> None:
        """`users` is the descriptor of the shared lock; `child` is None for a mongod that ran already."""
        self._data_dir, self._users, self._child = data_dir, users, child
        self.port, self.pid = port, pid

    @property
    def uri(self) -> str:
        """Where drivers connect to."""
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={mongod_process.SET_NAME}"

    def alive(self) -> bool:
        """Whether it still runs."""
        if self._child is not None:
            return self._child.poll() is None
        return mongod_process.runs_on(self.pid, self._data_dir / "db")

    def stop(self) -> bool:
        """Leave; the last user ends mongod, cleanly and within about two seconds. Returns whether it was the last."""
        with _turn(self._data_dir):
            last = _lock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if last and self.alive():
                mongod_process.end(self.port, self.pid, self.alive)
            os.close(self._users)
        if self._child is not None and not last:
            # It lives on for the others and is no business of ours any more; otherwise Python warns of a running child.
            self._child.returncode = 0
        return last


def start(data_dir: Path, program: Path | None = None, *, say: Say = to_stderr) -> Mongod:
    """The mongod of a data directory: the one that runs there, or a new one. Returns when it is a writable primary.

    One that a killed server left behind is used again. The port is kept in `data_dir` and stays the same, unless
    something else has taken it. Raises `MongodError`.
    """
    data_dir = data_dir.absolute()
    try:
        (data_dir / "db").mkdir(mode=0o700, parents=True, exist_ok=True)
        users = os.open(data_dir / "mongod.users", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise MongodError(f"The data directory {data_dir} cannot be used: {problem.strerror}.") from None
    try:
        with _turn(data_dir):
            _lock(users, fcntl.LOCK_SH)
            try:
                return _found_or_new(data_dir, users, program, say)
            except DataInUse:
                # A mongod whose server was killed a moment ago had not written its number yet. Now it has.
                return _found_or_new(data_dir, users, program, say)
    except BaseException:
        os.close(users)
        raise


def _found_or_new(data_dir: Path, users: int, program: Path | None, say: Say) -> Mongod:
    deadline = time.monotonic() + START_SECONDS
    mongod = _left_behind(data_dir, users, say, deadline) or _new(data_dir, users, program, say, deadline)
    (data_dir / "mongod.port").write_text(f"{mongod.port}\n", encoding="ascii")
    say(f"MongoDB is ready on port {mongod.port}, data in {data_dir / 'db'}")
    return mongod


def _left_behind(data_dir: Path, users: int, say: Say, deadline: float) -> Mongod | None:
    """The mongod that runs on this directory already. One that does not answer is ended."""
    database = data_dir / "db"
    try:
        # mongod writes its number there at the start and empties the file at a clean end.
        pid = int((database / "mongod.lock").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    port = mongod_process.port_of(pid)
    if port is None or not mongod_process.runs_on(pid, database):
        return None
    mongod = Mongod(data_dir=data_dir, users=users, port=port, pid=pid, child=None)
    if mongod_process.answers(port, mongod.alive, time.monotonic() + HUNG_SECONDS):
        say("using the MongoDB that runs already")
        mongod_process.await_primary(port, mongod.alive, deadline)
        return mongod
    say(f"the MongoDB that runs already, process {pid}, does not answer; replacing it")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    mongod_process.await_end(mongod.alive, HUNG_SECONDS)
    return None


def _new(data_dir: Path, users: int, program: Path | None, say: Say, deadline: float) -> Mongod:
    found = mongod_process.find(program)
    log = data_dir / "mongod.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(data_dir / "mongod.log.1")
    begin = log.stat().st_size if log.exists() else 0
    wanted = _remembered_port(data_dir)
    port = mongod_process.free_port(wanted)
    say(f"starting MongoDB ({found}) ...")
    if wanted not in (None, port):
        say(f"port {wanted} is taken by another program; moving to {port}, which may take half a minute")
    child = mongod_process.spawn(found, data_dir / "db", port, log)
    mongod = Mongod(data_dir=data_dir, users=users, port=port, pid=child.pid, child=child)
    try:
        if mongod_process.answers(port, mongod.alive, deadline):
            mongod_process.await_primary(port, mongod.alive, deadline)
            return mongod
    except BaseException:
        _kill(child)
        raise
    code = child.poll()
    _kill(child)
    if code is None:
        raise MongodError(f"MongoDB does not answer after {START_SECONDS} s. Its log is {log}.")
    raise mongod_process.failure(code, log, begin)


def _kill(child: Popen[bytes]) -> None:
    child.kill()
    child.wait()


def _remembered_port(data_dir: Path) -> int | None:
    with suppress(OSError, ValueError):
        port = int((data_dir / "mongod.port").read_text(encoding="ascii"))
        return port if 0 < port < 65536 else None
    return None


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _turn(data_dir: Path) -> Iterator[None]:
    """Nobody else starts or stops the mongod of this directory meanwhile."""
    descriptor = os.open(data_dir / "mongod.turn", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
