"""Settings: from flags, variables and defaults, with errors that say what to do."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings, SettingsError, describe, kept_secret, load

SECRET = "a secret that is long enough to sign"


def loaded(**flags: str) -> Settings:
    return load({"auth_secret": SECRET, **flags}, {})


def refused(flags: dict[str, str], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as refusal:
        load({"auth_secret": SECRET, **flags}, environ or {})
    return str(refusal.value)


def test_a_flag_beats_a_variable_and_a_variable_beats_the_default() -> None:
    environ = {"COPYDESK_PORT": "2", "COPYDESK_ADDRESS": "0.0.0.0"}  # noqa: S104 - only compared, never bound
    settings = load({"auth_secret": SECRET, "port": "1"}, environ)
    assert (settings.port, settings.address, settings.mongodb_database) == (1, "0.0.0.0", "copydesk")  # noqa: S104 - as above


def test_empty_text_counts_as_not_given() -> None:
    settings = load({"auth_secret": SECRET}, {"COPYDESK_PORT": "", "COPYDESK_ISSUER": " ", "COPYDESK_MONGODB_URI": ""})
    assert (settings.port, settings.issuer, settings.mongodb_uri) == (8888, None, None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("port", " 5 ", 5),
        ("ping_seconds", "25", 25),
        ("ping_seconds", "0.5", 0.5),
        ("drain_seconds", "0", 0),
        ("demo", "true", True),
        ("demo", "1", True),
        ("demo", "YES", True),
        ("demo", "on", True),
        ("websockets_enabled", "false", False),
        ("websockets_enabled", "0", False),
        ("websockets_enabled", "No", False),
        ("websockets_enabled", "off", False),
        ("allowed_hosts", "CMS.example, localhost,", ("cms.example", "localhost")),
        (
            "trusted_origins",
            "https://cms.example,http://localhost:3000",
            ("https://cms.example", "http://localhost:3000"),
        ),
        ("trusted_proxies", "10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
        ("data_dir", "/srv/copydesk", Path("/srv/copydesk")),
        ("fallback", "poll", "poll"),
        ("log_format", "text", "text"),
    ],
)
def test_text_becomes_the_type_of_the_setting(name: str, text: str, value: Any) -> None:
    found = getattr(loaded(**{name: text}), name)
    assert found == value
    assert type(found) is type(value) or isinstance(value, Path)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("port", "65536", "--port: expected integer, at least 0, at most 65535, got '65536'."),
        ("port", "http", "--port: expected integer, at least 0, at most 65535, got 'http'."),
        ("ping_seconds", "0", "--ping-seconds: expected number, more than 0, at most 86400, got '0'."),
        ("ping_seconds", "nan", "--ping-seconds: expected number, more than 0, at most 86400, got 'nan'."),
        ("ping_seconds", "inf", "--ping-seconds: expected number, more than 0, at most 86400, got 'inf'."),
        ("drain_seconds", "8.5", "--drain-seconds: expected number, at least 0, at most 8, got '8.5'."),
        ("demo", "perhaps", "--demo: expected true or false, got 'perhaps'."),
        ("fallback", "pigeons", "--fallback: expected one of sse, poll, none, got 'pigeons'."),
        ("allowed_hosts", "http://x", "--allowed-hosts: expected host names, separated by commas, got 'http://x'."),
        (
            "trusted_origins",
            "https://cms.example/",
            (
                "--trusted-origins: expected origins such as https://cms.example, separated by commas,"
                " got 'https://cms.example/'."
            ),
        ),
        (
            "trusted_proxies",
            "nginx",
            "--trusted-proxies: expected addresses or networks, separated by commas, got 'nginx'.",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_was_expected(name: str, text: str, expected: str) -> None:
    assert refused({name: text}) == expected


def test_the_refusal_names_the_variable_where_the_value_came_from_one() -> None:
    assert refused({}, {"COPYDESK_PORT": "x"}).startswith("COPYDESK_PORT: expected integer")


def test_a_secret_is_not_repeated_in_the_refusal() -> None:
    assert refused({"auth_secret": "short"}) == (
        "--auth-secret: expected text, at least 32 characters, got its value (not shown)."
    )


def test_a_misspelt_variable_is_refused_and_the_nearest_named() -> None:
    assert refused({}, {"COPYDESK_PROT": "1"}) == "COPYDESK_PROT is not a setting. Did you mean COPYDESK_PORT?"


def test_variables_of_other_programs_are_none_of_ours() -> None:
    assert load({"auth_secret": SECRET}, {"PORT": "x", "COPY": "y"}).port == 8888


def test_every_default_is_within_its_own_bounds() -> None:
    for setting in describe():
        if setting.default:
            assert getattr(loaded(**{setting.name: setting.default}), setting.name) == getattr(Settings(), setting.name)


def test_every_setting_is_described_under_a_heading() -> None:
    described = {setting.name: setting for setting in describe()}
    assert described.keys() == set(Settings.__struct_fields__)
    assert all(setting.description.endswith(".") and setting.group for setting in described.values())
    port = described["port"]
    assert (port.variable, port.flag, port.type, port.default) == (
        "COPYDESK_PORT",
        "--port",
        "integer, at least 0, at most 65535",
        "8888",
    )
    assert {setting.name for setting in described.values() if setting.secret} == {
        "auth_secret",
        "auth_secret_previous",
        "mongodb_uri",
        "smtp_password",
    }


def test_with_the_embedded_database_a_secret_is_made_and_kept(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    first = load({"data_dir": str(data_dir)}, {}).auth_secret
    assert len(first) == 64
    assert load({"data_dir": str(data_dir)}, {}).auth_secret == first
    kept = data_dir / "auth_secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert [path.name for path in data_dir.iterdir()] == ["auth_secret"]


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(kept_secret, [tmp_path / "data"] * 64))) == 1


def test_a_given_secret_is_used_and_none_is_made(tmp_path: Path) -> None:
    assert loaded(data_dir=str(tmp_path)).auth_secret == SECRET
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_ones_own_needs_a_secret_that_all_processes_share(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="COPYDESK_AUTH_SECRET is required with COPYDESK_MONGODB_URI"):
        load({"mongodb_uri": "mongodb://db.example", "data_dir": str(tmp_path)}, {})


def test_a_mail_server_needs_a_sender_and_an_address_for_links(tmp_path: Path) -> None:
    given = {"data_dir": str(tmp_path), "smtp_host": "mail.example"}
    sender, url = {"mail_from": "Copydesk <copydesk@cms.example>"}, {"public_url": "https://cms.example"}
    for incomplete in (given, given | sender, given | url):
        with pytest.raises(SettingsError, match="COPYDESK_MAIL_FROM and COPYDESK_PUBLIC_URL are required"):
            load(incomplete, {})
    assert load(given | sender | url, {}).smtp_security == "starttls"


@pytest.mark.parametrize(
    "text", ["Copydesk", "a@b, c@d", "A <a@b", "A, B <a@b>", "a@b\nBcc: c@d", "A <a@b> <c@d>", "a@b@c", "a@exämple"]
)
def test_a_sender_that_is_no_address_is_refused(text: str) -> None:
    assert refused({"mail_from": text}) == f"--mail-from: expected a mail address, got {text!r}."


def test_an_address_for_links_has_no_path() -> None:
    assert refused({"public_url": "https://cms.example/"}) == (
        "--public-url: expected an origin such as https://cms.example, got 'https://cms.example/'."
    )


def test_a_kept_secret_that_is_too_short_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "auth_secret").write_text("short\n")
    with pytest.raises(SettingsError, match="shorter than 32 characters"):
        load({"data_dir": str(tmp_path)}, {})


def test_a_data_directory_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="can be neither read nor made"):
        load({"data_dir": str(tmp_path / "file" / "data")}, {})
