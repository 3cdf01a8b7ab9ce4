"""Install Copydesk into a new virtual environment, and see whether it works there.

`python -m tests.supply.fresh floors` installs the lowest versions that setup.cfg allows and runs a fast part of the
tests; `... locked` installs the lock file as docs/deployment.md says, and starts a server.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from app import mongod_process
from tests.supply.requirements import BUILD, LOCK, ROOT, applies, declared, floor

FAST = (
    "tests/app/test_logs.py",
    "tests/app/test_metrics.py",
    "tests/app/test_passwords.py",
    "tests/app/test_position.py",
    "tests/app/test_settings.py",
    "tests/app/test_smtp.py",
    "tests/app/test_tokens.py",
    "tests/contract/test_documents.py",
    "tests/handlers/test_realtime.py",
    "tests/handlers/test_straight.py",
)
"""Those that use each library, in seconds."""
PATIENCE_SECONDS = 60


class Failed(Exception):  # noqa: N818 - says what it is
    """A step of an installation did not end well."""


def run(command: list[str], **more_environment: str) -> None:
    """Blocks; output goes where ours goes. Raises `Failed`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COPYDESK_")}
    done = subprocess.run(command, cwd=ROOT, env={**environment, **more_environment}, check=False)
    if done.returncode:
        raise Failed(f"ended with {done.returncode}: {' '.join(command)}")


class Fresh:
    """A new virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = str(folder / "bin" / "python")

    def install(self, *arguments: str) -> None:
        """As pip does."""
        run([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])

    def install_copydesk(self) -> None:
        """This checkout and nothing else, with the build system that is there already."""
        self.install("--no-deps", "--no-build-isolation", "--editable", ".")
        run([self.python, "-m", "pip", "check"])


def floors(folder: Path, tests: tuple[str, ...] = FAST) -> None:
    """Raises `Failed` where the lowest versions do not do."""
    requirements = [each for each in declared("test", BUILD) if applies(each)]
    fresh = Fresh(folder)
    fresh.install(*map(floor, requirements))
    fresh.install_copydesk()
    # Their own find the one of `embedded` here; it is pinned anyway.
    path = os.pathsep.join((str(mongod_process.find().parent), os.environ.get("PATH", "")))
    run([fresh.python, "-m", "pytest", "-q", *tests], PATH=path)
    run([str(Path(fresh.python).with_name("ruff")), "--version"])


def locked(folder: Path, lock: Path = LOCK) -> None:
    """Raises `Failed` where the lock file does not install with its hashes, or no server starts from it."""
    fresh = Fresh(folder / "venv")
    fresh.install("--require-hashes", "--only-binary", ":all:", "--requirement", str(lock))
    fresh.install_copydesk()
    started = subprocess.Popen(
        [fresh.python, "run.py", "--port", "0", "--data-dir", str(folder / "data")],
        cwd=ROOT,
        env={"COPYDESK_MONGOD": str(mongod_process.find()), "PATH": os.environ.get("PATH", "")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
    finally:
        started.terminate()
        with started:
            started.wait(PATIENCE_SECONDS)
    if not line.startswith("listening on "):
        raise Failed("the server did not start")


def main() -> int:
    """1 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("floors", "locked"))
    with tempfile.TemporaryDirectory(prefix="copydesk-fresh-") as folder:
        try:
            {"floors": floors, "locked": locked}[parser.parse_args().what](Path(folder))
        except Failed as problem:
            print(problem, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
