"""The embedded MongoDB: found, started, shared, left behind, moved and stopped. All with a real mongod."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pymongo
import pytest

from app import mongod, mongod_process
from app.mongod import Mongod, MongodError, start
from app.settings import CannotStart
from tests.held_up import hold

HOLDER = """
import sys
from pathlib import Path
from app.mongod import start
running = start(Path(sys.argv[1]))
print(running.pid, running.port, flush=True)
sys.stdin.read()
running.stop()
"""
"""A process that uses the MongoDB of a directory until its standard input is closed."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory whose mongod, if one is left, ends with the test."""
    yield tmp_path / "data"
    lock = tmp_path / "data" / "db" / "mongod.lock"
    if lock.exists() and lock.read_text().strip():
        pid = int(lock.read_text())
        if mongod_process.runs_on(pid, tmp_path / "data" / "db"):
            os.kill(pid, signal.SIGKILL)


def begin(data_dir: Path) -> Mongod:
    return start(data_dir, say=lambda _text: None)


def holder(data_dir: Path) -> tuple[subprocess.Popen[str], int, int]:
    """Another process with the MongoDB of `data_dir`, and that MongoDB's pid and port."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    pid, port = process.stdout.readline().split()
    return process, int(pid), int(port)


def release(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def insert(running: Mongod, number: int) -> None:
    with pymongo.MongoClient(running.uri) as client:
        client.test.numbers.insert_one({"_id": number})


def numbers(running: Mongod) -> list[int]:
    with pymongo.MongoClient(running.uri) as client:
        return [document["_id"] for document in client.test.numbers.find(sort=[("_id", 1)])]


# -- finding ----------------------------------------------------------------------------------------------------------


def test_the_program_of_the_embedded_extra_is_found_and_gets_its_run_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "fiftyone" / "db" / "bin" / "mongod"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "fiftyone", raising=False)
    assert mongod_process.find() == program
    assert os.access(program, os.X_OK)


def test_a_program_on_the_path_comes_before_the_embedded_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mongod"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mongod_process.find() == program


def test_where_there_is_none_the_message_says_what_was_looked_for_and_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "Path" in repr(finder)])
    with pytest.raises(MongodError) as problem:
        mongod_process.find()
    text = str(problem.value)
    assert f"on PATH ({tmp_path})" in text
    assert "fiftyone/db/bin/mongod" in text
    assert "copydesk[embedded]" in text
    assert "COPYDESK_MONGODB_URI" in text
    assert "COPYDESK_MONGOD=" in text


def test_a_configured_program_that_is_not_there_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(MongodError, match=r"Looked at .*nowhere"):
        mongod_process.find(tmp_path / "nowhere")


# -- one process ------------------------------------------------------------------------------------------------------


def test_a_second_start_finds_the_data_on_the_same_port(data_dir: Path) -> None:
    first = begin(data_dir)
    insert(first, 1)
    assert first.stop()
    assert not first.alive()
    second = begin(data_dir)
    try:
        assert second.port == first.port
        assert numbers(second) == [1]
    finally:
        second.stop()


def test_it_listens_on_loopback_only_and_runs_no_scripts(data_dir: Path) -> None:
    running = begin(data_dir)
    try:
        with pymongo.MongoClient(running.uri) as client:
            options = client.admin.command("getCmdLineOpts")["parsed"]
            assert options["net"]["bindIp"] == "127.0.0.1"
            assert options["net"]["unixDomainSocket"]["enabled"] is False
            assert options["net"]["compression"]["compressors"] == "snappy,zstd"
            client.test.numbers.insert_one({"_id": 1})
            with pytest.raises(pymongo.errors.OperationFailure, match="no globalScriptEngine"):
                list(client.test.numbers.find({"$where": "true"}))
        assert (data_dir / "db").stat().st_mode & 0o777 == 0o700
    finally:
        running.stop()


def test_a_port_that_something_else_has_taken_is_left_to_it(data_dir: Path) -> None:
    first = begin(data_dir)
    insert(first, 1)
    first.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first.port))
        other.listen()
        # It answers nothing sensible, as another program would: mongod asks the old address who is there.
        with ThreadPoolExecutor(1) as threads:
            threads.submit(hang_up_on_everybody, other)
            second = begin(data_dir)
            other.shutdown(socket.SHUT_RDWR)
    try:
        assert second.port != first.port
        assert numbers(second) == [1]
        insert(second, 2)
    finally:
        second.stop()


def hang_up_on_everybody(listener: socket.socket) -> None:
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            return


# -- what another process left behind ---------------------------------------------------------------------------------


def test_a_mongod_left_behind_by_a_killed_server_is_used_again(data_dir: Path) -> None:
    process, pid, port = holder(data_dir)
    process.kill()
    process.communicate()
    running = begin(data_dir)
    assert (running.pid, running.port) == (pid, port)
    assert running.stop()
    assert not running.alive()


def test_a_mongod_left_behind_that_hangs_is_replaced(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongod, "HUNG_SECONDS", 1)
    process, pid, _ = holder(data_dir)
    process.kill()
    process.communicate()
    hold(pid)
    running = begin(data_dir)
    try:
        assert running.pid != pid
        insert(running, 1)
    finally:
        running.stop()


def test_after_mongod_was_killed_as_well_its_stale_lock_is_no_obstacle(data_dir: Path) -> None:
    first = begin(data_dir)
    insert(first, 1)
    os.kill(first.pid, signal.SIGKILL)
    assert mongod_process.await_end(first.alive, 10)
    first.stop()
    assert (data_dir / "db" / "mongod.lock").read_text().strip() == str(first.pid)
    second = begin(data_dir)
    try:
        assert numbers(second) == [1]
    finally:
        second.stop()


def test_a_number_in_the_lock_that_belongs_to_another_program_now_is_not_touched(data_dir: Path) -> None:
    first = begin(data_dir)
    first.stop()
    with subprocess.Popen(["sleep", "60"]) as other:
        (data_dir / "db" / "mongod.lock").write_text(f"{other.pid}\n")
        second = begin(data_dir)
        second.stop()
        assert other.poll() is None
        other.kill()


# -- several processes ------------------------------------------------------------------------------------------------


def test_the_last_of_several_processes_stops_it(data_dir: Path) -> None:
    process, pid, _ = holder(data_dir)
    ours = begin(data_dir)
    assert ours.pid == pid
    release(process)
    assert ours.alive()
    assert ours.stop()
    assert not ours.alive()


def test_who_leaves_first_leaves_it_running_for_the_others(data_dir: Path) -> None:
    ours = begin(data_dir)
    process, pid, _ = holder(data_dir)
    assert pid == ours.pid
    assert not ours.stop()
    assert mongod_process.runs_on(pid, data_dir / "db")
    release(process)
    assert not mongod_process.runs_on(pid, data_dir / "db")


def test_processes_that_start_at_once_share_one(data_dir: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        several = list(threads.map(begin, [data_dir] * 4))
    assert len({running.pid for running in several}) == 1
    assert [running.stop() for running in several] == [False, False, False, True]


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_program_that_cannot_run_is_quoted(data_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "mongod"
    program.write_text("#!/bin/sh\necho 'mongod: libcurl.so.4: cannot open shared object file' >&2\nexit 127\n")
    program.chmod(0o755)
    with pytest.raises(MongodError, match=r"code 127: mongod: libcurl.so.4: cannot open .*apt-get install libcurl4"):
        start(data_dir, program, say=lambda _text: None)


def test_what_is_no_program_at_all_is_told_of(data_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "mongod"
    program.write_bytes(b"\x7fELF nothing")
    program.chmod(0o755)
    with pytest.raises(MongodError, match="could not be started"):
        start(data_dir, program, say=lambda _text: None)


def test_data_that_mongod_cannot_read_is_told_of_and_nothing_is_left_running(data_dir: Path) -> None:
    begin(data_dir).stop()
    (data_dir / "db" / "WiredTiger.turtle").write_text("no turtle\n")
    shutil.rmtree(data_dir / "db" / "journal")
    with pytest.raises(MongodError, match=r"MongoDB ended at once with code -?\d+: .*turtle"):
        begin(data_dir)


def test_a_data_directory_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="cannot be used: Not a directory"):
        begin(tmp_path / "file" / "data")
