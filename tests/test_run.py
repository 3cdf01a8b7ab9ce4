"""The command line, run as a user runs it: as processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database as PlainDatabase

import run
from app import mongod_process
from app.settings import Settings, describe
from app.tokens import Tokens

ROOT = Path(__file__).parents[1]
SECRET = "a secret that is long enough to sign"


def call(*words: str, said: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """`run.py` with these words, to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words],
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(variables),
    )


def environment(variables: dict[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COPYDESK_")}
    return {**ours, **variables}


@contextmanager
def serving(data_dir: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that listens, and its URL. It leads a process group, as in a terminal."""
    with (
        (data_dir.parent / "stderr").open("a") as told,
        subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), "--data-dir", str(data_dir), "--port", "0", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            env=environment({}),
            process_group=0,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            match = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
            assert match is not None, (line, (data_dir.parent / "stderr").read_text())
            yield process, match[1]
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


def mongod_of(data_dir: Path) -> int | None:
    """The pid of the mongod that runs on a data directory."""
    text = (data_dir / "db" / "mongod.lock").read_text().strip()
    return int(text) if text and mongod_process.runs_on(int(text), data_dir / "db") else None


@pytest.fixture
def variables(mongodb_uri: str, database_name: str) -> dict[str, str]:
    """The environment of a command that works on the test's database."""
    return {
        "COPYDESK_MONGODB_URI": mongodb_uri,
        "COPYDESK_MONGODB_DATABASE": database_name,
        "COPYDESK_AUTH_SECRET": SECRET,
    }


# -- help and settings ------------------------------------------------------------------------------------------------


def test_help_shows_every_setting_and_every_command() -> None:
    answer = call("--help", COLUMNS="120")
    assert answer.returncode == 0
    for setting in describe():
        assert f"  {setting.flag} " in answer.stdout
    for command in ("serve", "token", "user", "epoch", "doctor"):
        assert re.search(rf"^ +{command} ", answer.stdout, re.MULTILINE)


def test_a_setting_that_cannot_be_used_is_told_in_one_line() -> None:
    answer = call(COPYDESK_PORT="http")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "copydesk: COPYDESK_PORT: expected integer, at least 0, at most 65535, got 'http'.\n"


def test_an_unknown_flag_is_refused() -> None:
    answer = call("--prot=1")
    assert answer.returncode == 2
    assert "--prot" in answer.stderr


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--demo"], ["--demo=true"]),
        (["--demo", "serve"], ["--demo=true", "serve"]),
        (["--demo", "--port", "1"], ["--demo=true", "--port", "1"]),
        (["--demo", "false"], ["--demo", "false"]),
        (["--demo=no"], ["--demo=no"]),
        (["--websockets-enabled", "off", "serve"], ["--websockets-enabled", "off", "serve"]),
    ],
)
def test_a_switch_alone_means_true_and_does_not_swallow_the_next_word(given: list[str], read: list[str]) -> None:
    assert run._with_values(given) == read


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_says_who_and_what_and_is_good_on_a_server_with_the_same_secret() -> None:
    answer = call(
        *("token", "--sub", "alice", "--role", "editor", "--role", "translators", "--ttl", "15m", "--name", "Alice"),
        COPYDESK_AUTH_SECRET=SECRET,
    )
    assert answer.returncode == 0, answer.stderr
    claims = Tokens.from_settings(Settings(auth_secret=SECRET)).verify(answer.stdout.strip())
    assert (claims.sub, claims.roles, claims.name, claims.aud) == (
        "alice",
        ["editor", "translators"],
        "Alice",
        "copydesk",
    )
    assert claims.iat is not None
    assert round(claims.exp - claims.iat) == 15 * 60


def test_a_token_is_signed_with_the_secret_of_the_data_directory(tmp_path: Path) -> None:
    answer = call("token", "--data-dir", str(tmp_path / "data"), "--sub", "alice")
    secret = (tmp_path / "data" / "auth_secret").read_text().strip()
    assert Tokens.from_settings(Settings(auth_secret=secret)).verify(answer.stdout.strip()).sub == "alice"


@pytest.mark.parametrize(("words", "code"), [(["--sub", "a b"], 1), (["--sub", "a", "--ttl", "1"], 2), ([], 2)])
def test_a_token_that_makes_no_sense_is_refused(words: list[str], code: int) -> None:
    answer = call("token", *words, COPYDESK_AUTH_SECRET=SECRET)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert "Traceback" not in answer.stderr


# -- users ------------------------------------------------------------------------------------------------------------


def test_users_are_added_listed_disabled_and_enabled(variables: dict[str, str]) -> None:
    words = ("user", "add", "dora", "--role", "admin", "--role", "translators", "--name", "Dora", "--password-stdin")
    added = call(*words, said="a good password\n", **variables)
    assert (added.returncode, added.stdout) == (0, "added dora\tadmin,translators\tDora\n"), added.stderr
    assert call("user", "disable", "dora", **variables).stdout.endswith("disabled\n")
    assert call("user", "list", **variables).stdout == "dora\tadmin,translators\tDora\t\tdisabled\n"
    assert call("user", "enable", "dora", **variables).stdout == "enabled dora\tadmin,translators\tDora\n"


@pytest.mark.parametrize(
    ("words", "said", "problem"),
    [
        (("add", "dora", "--password-stdin"), "short\n", "A password has 8 to 1000 characters."),
        (("add", "dora"), "", "There is no terminal to ask for the password"),
        (("add", "do ra", "--password-stdin"), "a good password\n", "There can be no such user"),
        (("add", "dora", "--role", " ", "--password-stdin"), "a good password\n", "There can be no such user"),
        (("disable", "nobody"), "", "There is no such user."),
    ],
)
def test_what_cannot_be_done_with_a_user_is_told(
    variables: dict[str, str], words: tuple[str, ...], said: str, problem: str
) -> None:
    answer = call("user", *words, said=said, **variables)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith(f"copydesk: {problem}")


def test_a_list_of_users_is_whole_however_long(
    variables: dict[str, str], plain_database: PlainDatabase[dict[str, Any]]
) -> None:
    plain_database.users.insert_many([{"_id": f"user{number:03}", "name": "Same"} for number in range(201)])
    listed = call("user", "list", **variables).stdout.splitlines()
    assert [line.split("\t")[0] for line in listed] == [f"user{number:03}" for number in range(201)]


def test_a_new_epoch_is_begun_only_when_asked_for_by_name(
    variables: dict[str, str], plain_database: PlainDatabase[dict[str, Any]]
) -> None:
    assert call("epoch", **variables).returncode == 2
    assert plain_database.meta.find_one({"_id": "epoch"}) is None
    done = call("epoch", "--new", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "every client reads again" in done.stdout
    assert plain_database.meta.find_one({"_id": "epoch"}) is not None


def test_a_user_is_not_added_twice(variables: dict[str, str]) -> None:
    words = ("user", "add", "dora", "--password-stdin")
    assert call(*words, said="a good password\n", **variables).returncode == 0
    again = call(*words, said="another password\n", **variables)
    assert (again.returncode, again.stderr) == (1, "copydesk: There is already a user dora with a password.\n")


# -- the doctor -------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_a_running_server_and_its_mongodb_well_and_one_that_is_away_not(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    with serving(tmp_path / "data") as (_, url):
        token = call("--data-dir", str(tmp_path / "data"), "token", "--sub", "bob").stdout
        well = call("doctor", url, "--quick", "--token-stdin", said=token, **variables)
    assert (well.returncode, well.stderr) == (0, ""), well.stdout
    for line in (f"Copydesk doctor: {url}", f"through {url}", "MongoDB", "Nothing to change was found."):
        assert line in well.stdout.splitlines()
    assert "said hello as bob" in well.stdout
    assert token.strip() not in well.stdout
    away = call("doctor", url, "--quick")
    assert (away.returncode, away.stderr) == (1, "")
    assert "1. unreachable" in away.stdout


def test_the_doctor_finds_nothing_amiss_in_what_commands_made_before_the_first_start(
    variables: dict[str, str], virgin_database_name: str
) -> None:
    variables["COPYDESK_MONGODB_DATABASE"] = virgin_database_name
    assert call("user", "add", "dora", "--password-stdin", said="a good password\n", **variables).returncode == 0
    assert call("epoch", "--new", **variables).returncode == 0
    looked = call("doctor", "http://127.0.0.1:1", "--quick", **variables)
    assert re.search(r"^  ok  Images +on for all 2 watched collections that there are$", looked.stdout, re.MULTILINE)


def test_the_doctor_needs_no_secret_and_makes_none(tmp_path: Path, variables: dict[str, str]) -> None:
    del variables["COPYDESK_AUTH_SECRET"]
    data_dir = tmp_path / "data"
    looked = call("doctor", "http://127.0.0.1:1", "--quick", "--data-dir", str(data_dir), **variables)
    assert looked.returncode == 1
    assert "  ok  Replica set" in looked.stdout
    assert not data_dir.exists()


@pytest.mark.parametrize(("words", "code"), [((), 2), (("copydesk.example",), 1), (("http://a", "--direct", "b"), 1)])
def test_a_doctor_without_an_address_says_so(words: tuple[str, ...], code: int) -> None:
    answer = call("doctor", *words, "--quick")
    assert (answer.returncode, answer.stdout) == (code, "")
    assert "Traceback" not in answer.stderr


# -- serving ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_stops_the_server_and_its_mongod_cleanly(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir) as (process, url):
        with urllib.request.urlopen(f"{url}/healthz") as answer:  # noqa: S310 - our own server
            assert answer.status == 200
        assert mongod_of(data_dir) is not None
        # As the terminal does it: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert mongod_of(data_dir) is None
    assert '"Shutting down","attr":{"exitCode":0}' in (data_dir / "mongod.log").read_text()


def test_a_command_beside_a_running_server_works_and_leaves_it_running(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir) as (_, url):
        running = mongod_of(data_dir)
        words = ("--data-dir", str(data_dir), "user", "add", "dora", "--password-stdin")
        assert call(*words, said="a good password\n").returncode == 0
        assert mongod_of(data_dir) == running
        with urllib.request.urlopen(f"{url}/readyz") as answer:  # noqa: S310 - our own server
            assert answer.status == 200
    assert mongod_of(data_dir) is None


def test_after_a_killed_server_the_next_one_takes_its_mongod_over(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir) as (process, _):
        left = mongod_of(data_dir)
        process.kill()
        process.wait()
    assert mongod_of(data_dir) == left
    with serving(data_dir):
        assert mongod_of(data_dir) == left
    assert mongod_of(data_dir) is None


def test_demo_content_and_demo_users_come_with_the_demo_flag(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(data_dir, "--demo") as (process, url):
        process.terminate()
        assert process.stdout is not None
        told = process.stdout.read()
    for user in ("alice", "bob", "carol"):
        assert f"{user} (password {user}-demo)" in told
    assert re.search(rf"^curl -s -H 'Authorization: Bearer [\w.-]+' {url}/api/v1/projects$", told, re.MULTILINE)
    listed = call("--data-dir", str(data_dir), "user", "list").stdout
    assert [line.split("\t")[0] for line in listed.splitlines()] == ["alice", "bob", "carol"]


def test_without_a_mongod_the_server_says_what_was_looked_for(tmp_path: Path) -> None:
    answer = call("--data-dir", str(tmp_path / "data"), "--mongod", str(tmp_path / "nowhere"))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith(f"copydesk: No mongod was found. Looked at {tmp_path / 'nowhere'}.")
    assert "COPYDESK_MONGODB_URI" in answer.stderr
