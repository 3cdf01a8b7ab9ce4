"""The lock file does what setup.cfg says, every lower bound is one, and an audit that skipped something is no audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.supply import audit, fresh
from tests.supply.requirements import (
    BUILD,
    LOCK,
    ROOT,
    applies,
    asked_for_by_installed,
    declared,
    floor,
    lock_faults,
    locked,
)

HASH = f"--hash=sha256:{'0' * 64}"


# -- the lock file -----------------------------------------------------------------------------------------------------


def test_the_lock_file_holds_what_setup_cfg_asks_for_and_nothing_else() -> None:
    assert lock_faults(LOCK.read_text("utf-8"), declared(BUILD), asked_for_by_installed) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"a==1.0 {HASH}", "b, which a asks for, is not in the lock file"),
        (f"a==0.9 {HASH}\nb==1 {HASH}", "a 0.9 is locked, and setup.cfg asks for >=1"),
        (f"a>=1.0 {HASH}\nb==1 {HASH}", "a is not pinned to one version"),
        (f"a==1.* {HASH}\nb==1 {HASH}", "a is not pinned to one version"),
        ("a==1.0\nb==1 " + HASH, "a has no SHA-256 hashes"),
        (f"a==1.0 {HASH[:-1]}\nb==1 {HASH}", "a has no SHA-256 hashes"),
        (f"a==1.0 {HASH}\nb==1 {HASH}\nc==1 {HASH}", "c is in the lock file, and nothing asks for it"),
        (f"--index-url https://index.example\na==1.0 {HASH}\nb==1 {HASH}", "--index-url has no place in a lock file"),
        (f"# https://index.example\na==1.0 {HASH}\nb==1 {HASH}", "an address is in the lock file"),
    ],
    ids=["missing", "too old", "a range", "a family", "no hash", "half a hash", "too much", "an index", "an address"],
)
def test_a_lock_file_that_is_wrong_is_noticed(text: str, fault: str) -> None:
    def needed_by(requirement: str) -> list[Requirement]:
        return [Requirement("B")] if requirement == "a>=1" else []

    found = lock_faults(text, [Requirement("a>=1")], needed_by)
    assert any(one.startswith(fault) for one in found), found
    good = f"a==1.0 \\\n    {HASH} \\\n    {HASH}\n    # via copydesk\nb==1 ; python_version < '4' {HASH}"
    assert lock_faults(good, [Requirement("a>=1")], needed_by) == []


def test_the_lock_file_names_no_place_to_get_things_from() -> None:
    assert "://" not in LOCK.read_text("utf-8")
    assert len(locked(LOCK.read_text("utf-8"))) > 10


def test_each_dependency_is_listed_with_its_reason() -> None:
    rows = (ROOT / "docs" / "dependencies.md").read_text("utf-8").splitlines()
    listed = {row.split("`")[1].partition("[")[0].lower(): row for row in rows if row.startswith("| `")}
    wanted = {requirement.name.lower() for requirement in declared("embedded", "test", BUILD)}
    assert set(listed) == wanted
    assert [name for name, row in listed.items() if len(row.split("|")[2].split()) < 4] == []


# -- lower bounds ------------------------------------------------------------------------------------------------------


def test_every_dependency_has_a_lower_bound() -> None:
    floors = [floor(requirement) for requirement in declared("embedded", "test", BUILD)]
    assert "tornado == 6.6.1" in floors
    assert "PyJWT[crypto] == 2.15" in floors
    with pytest.raises(ValueError, match="no lower bound"):
        floor(Requirement("a < 3"))
    assert applies(Requirement("a"))
    assert not applies(Requirement("a ; python_version < '3.11'"))


def test_a_step_that_fails_ends_the_trial_of_an_installation() -> None:
    with pytest.raises(fresh.Failed, match="ended with 3"):
        fresh.run(["sh", "-c", "exit 3"])
    assert [name for name in fresh.FAST if not (ROOT / name).is_file()] == []


# -- the audit ---------------------------------------------------------------------------------------------------------

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"], "description": ""}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("dependencies", "arguments", "code", "said"),
    [
        ([GOOD], [], 0, "Nothing is known against the 1 "),
        ([GOOD, SKIPPED], [], 2, "SKIPPED 1 of 2; nothing is known of: c."),
        ([GOOD, SKIPPED], ["--allow-skipped"], 0, "SKIPPED 1 of 2; nothing is known of: c."),
        ([SKIPPED], [], 2, "NOTHING WAS AUDITED"),
        ([SKIPPED], ["--allow-skipped"], 0, "NOTHING WAS AUDITED"),
        ([], [], 2, "NOTHING WAS AUDITED"),
        ([GOOD, BAD], [], 1, "VULNERABLE: b 2: CVE-1 (mended in 3)"),
        ([BAD, SKIPPED], ["--allow-skipped"], 1, "VULNERABLE: b 2: CVE-1 (mended in 3)"),
    ],
)
def test_an_audit_ends_well_only_where_everything_was_looked_up(
    dependencies: list[dict[str, Any]], arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_lock: Path) -> audit.Report:
        return {"dependencies": dependencies, "fixes": []}

    assert audit.main(arguments, ask) == code
    assert said in capsys.readouterr().out


def test_an_audit_without_a_report_fails_also_where_skipping_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text("#!/bin/sh\necho 'no connection' >&2\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(audit.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match="NOTHING WAS AUDITED: no connection"):
        audit.main(["--allow-skipped"])
