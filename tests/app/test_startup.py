"""What a start refuses, and what it warns of, each with what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import demo, pressure, startup
from app.database import Connection
from app.examining import Oplog
from app.passwords import Passwords
from app.settings import CannotStart, Settings, SettingsError, kept_secret
from app.startup import Warned, check_secret, is_loopback, warnings

SECRET = "8f2b6d40c1e7a95388e21fd07c64b9a3"


async def warned(connection: Connection, **settings: Any) -> list[Warned]:
    return [one async for one in warnings(Settings(**{"auth_secret": SECRET, **settings}), connection)]


async def test_a_start_as_it_should_be_says_nothing(connection: Connection) -> None:
    assert await warned(connection, max_connections=10) == []


@pytest.mark.parametrize(
    "secret",
    [
        "at least 32 bytes, the same for all processes",
        "change-me-" * 4,
        "CHANGEME" * 4,
        "my-very-long-password-for-copydesk",
    ],
)
def test_a_secret_from_instructions_is_refused_outside_demo_mode(secret: str) -> None:
    with pytest.raises(CannotStart, match=r"openssl rand -hex 32") as refused:
        check_secret(Settings(auth_secret=secret))
    assert secret not in str(refused.value)
    check_secret(Settings(auth_secret=secret, demo=True))
    check_secret(Settings(auth_secret=SECRET))


def test_our_own_instructions_show_how_to_make_a_secret_and_none_to_copy() -> None:
    root = Path(__file__).parents[2]
    shown = [
        line.partition("COPYDESK_AUTH_SECRET=")[2].strip("`'\" ")
        for page in (root / "README.md", *(root / "docs").glob("*.md"))
        for line in page.read_text("utf-8").splitlines()
        if "COPYDESK_AUTH_SECRET=" in line
    ]
    assert shown
    assert [value for value in shown if value and not value.startswith("$(openssl rand")] == []


async def test_a_secret_of_few_characters_is_warned_of(connection: Connection) -> None:
    (one,) = await warned(connection, auth_secret="abcabc" * 10, max_connections=10)
    assert "guessed" in one.what
    assert "openssl rand" in one.do
    assert await warned(connection, auth_secret="abcabc" * 10, max_connections=10, demo=True) == []


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_secret_that_everybody_on_the_machine_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    kept = kept_secret(tmp_path)
    path = tmp_path / "auth_secret"
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"chmod 600 {path}") as refused:
        kept_secret(tmp_path)
    assert kept not in str(refused.value)
    for good in (0o600, 0o640):
        path.chmod(good)
        assert kept_secret(tmp_path) == kept


async def test_keys_that_everybody_may_write_are_warned_of(connection: Connection, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    keys.chmod(0o644)
    assert await warned(connection, jwks_file=keys, max_connections=10) == []
    keys.chmod(0o666)
    (one,) = await warned(connection, jwks_file=keys, max_connections=10)
    assert one.do == f"chmod o-w {keys}"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("198.51.100.1", False), ("::", False), ("192.168.1.2", False), ("copydesk.example", False), ("", False),
    ],
)  # fmt: skip
def test_what_only_this_machine_reaches_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def test_demo_mode_on_a_public_address_is_refused_and_behind_a_proxy_warned_of(connection: Connection) -> None:
    for address in ("192.0.2.1", "::", "copydesk.example"):
        with pytest.raises(CannotStart, match=r"alice.*Start without --demo"):
            await warned(connection, demo=True, address=address)
    for proxied in ({"trusted_proxies": ("127.0.0.1",)}, {"allowed_hosts": ("localhost", "copydesk.example")}):
        (one,) = await warned(connection, demo=True, max_connections=10, **proxied)
        assert "known to everybody" in one.what
    assert await warned(connection, demo=True, max_connections=10) == []


async def test_demo_users_of_an_earlier_start_are_found_until_they_are_disabled(connection: Connection) -> None:
    passwords, database = Passwords(), connection.database
    await demo.add(database, passwords=passwords, report=lambda *_what: None)
    passwords.close()
    with pytest.raises(CannotStart, match=r"alice, bob, carol.*`run.py user disable alice` and"):
        await warned(connection, address="192.0.2.1")
    assert await warned(connection, max_connections=10) == []
    await database["users"].update_many({"_id": {"$in": ["alice", "bob"]}}, {"$set": {"disabled": True}})
    (one,) = await warned(connection, trusted_proxies=("127.0.0.1",), max_connections=10)
    assert one.do == "`run.py user disable carol`."
    await database["users"].update_one({"_id": "carol"}, {"$unset": {"password_hash": ""}})
    assert await warned(connection, address="192.0.2.1", max_connections=10) == []


async def test_an_oplog_of_less_than_two_hours_is_warned_of(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = [7199.0]

    async def read(_connection: Connection) -> Oplog:
        return Oplog(window_seconds=window[0], used_bytes=1_000_000_000, max_bytes=1_000_000_000)

    monkeypatch.setattr(startup, "read_oplog", read)
    (one,) = await warned(connection, max_connections=10)
    assert "reaches back 120 minutes only" in one.what
    assert "replSetResizeOplog" in one.do
    window[0] = 7200.0
    assert await warned(connection, max_connections=10) == []


async def test_descriptors_for_fewer_connections_than_are_let_in_are_warned_of(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "descriptor_limit", lambda: 1024)
    assert await warned(connection, max_connections=768) == []
    (one,) = await warned(connection, max_connections=769)
    assert "1024" in one.what
    assert "LimitNOFILE" in one.do
    assert await warned(connection, max_connections=769, demo=True) == []
