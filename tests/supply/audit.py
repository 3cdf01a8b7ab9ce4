"""Ask what is known of the pinned distributions: `make audit`. Ends with 0 only where every one of them was looked up.

pip-audit itself ends with 0 where it could look up nothing, which reads as if all were well. So its report is read:
a distribution that was skipped fails the audit as a vulnerable one does, unless ``--allow-skipped`` is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

LOCK = Path(__file__).parents[2] / "deploy" / "requirements.lock"

Report = dict[str, Any]


class Verdict(NamedTuple):
    """What an audit found."""

    looked_up: list[str]
    skipped: list[str]
    vulnerable: list[str]

    def exit_code(self, *, allow_skipped: bool) -> int:
        """0 where all is well; 1 for a vulnerability, 2 where something is not known."""
        if self.vulnerable:
            return 1
        unknown = self.skipped or not self.looked_up
        return 2 if unknown and not allow_skipped else 0

    def sentences(self) -> list[str]:
        """For people."""
        said = [f"VULNERABLE: {each}" for each in self.vulnerable]
        if self.skipped:
            total = len(self.looked_up) + len(self.skipped)
            said.append(f"SKIPPED {len(self.skipped)} of {total}; nothing is known of: {', '.join(self.skipped)}.")
        if not self.looked_up:
            said.append("NOTHING WAS AUDITED. Is the database of vulnerabilities within reach?")
        elif not self.vulnerable:
            said.append(f"Nothing is known against the {len(self.looked_up)} that were looked up.")
        return said


def judge(report: Report) -> Verdict:
    """Pure: from pip-audit's JSON. `KeyError` where that is another shape."""
    looked_up, skipped, vulnerable = [], [], []
    for each in report["dependencies"]:
        if "skip_reason" in each:
            skipped.append(each["name"])
            continue
        name = f"{each['name']} {each['version']}"
        looked_up.append(name)
        for known in each["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version"
            vulnerable.append(f"{name}: {known['id']} (mended in {fixed})")
    return Verdict(looked_up, skipped, vulnerable)


def run_pip_audit(lock: Path) -> Report:
    """Blocks. `SystemExit` where there is no report."""
    command = [
        str(Path(sys.executable).with_name("pip-audit")), "--requirement", str(lock), "--require-hashes",
        "--disable-pip", "--format", "json", "--progress-spinner", "off",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: Report = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"NOTHING WAS AUDITED: {done.stderr.strip()[-2000:] or 'pip-audit said nothing.'}") from None
    return report


def main(arguments: list[str], ask: Callable[[Path], Report] = run_pip_audit) -> int:
    """The exit code; `ask` is how a report is had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--allow-skipped", action="store_true", help="end with 0 also where not everything was looked up"
    )
    parser.add_argument("--lock", type=Path, default=LOCK)
    given = parser.parse_args(arguments)
    verdict = judge(ask(given.lock))
    print("\n".join(verdict.sentences()))
    return verdict.exit_code(allow_skipped=given.allow_skipped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
