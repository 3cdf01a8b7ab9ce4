"""Starts what a benchmark needs, and reads what it cost: a Copydesk process of its own, and CPU-seconds from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Served:
    """A running Copydesk."""

    def __init__(self, process: subprocess.Popen[str], url: str, data_dir: Path) -> None:
        self.pid, self.url, self._process, self._data_dir = process.pid, url, process, data_dir

    def token(self, user: str, *roles: str) -> str:
        """A bearer token."""
        command = [sys.executable, "run.py", "token", "--sub", user, "--data-dir", str(self._data_dir)]
        for role in roles:
            command += ["--role", role]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def mongodb_uri(self) -> str:
        """Where its embedded MongoDB is, for a program that writes or looks for itself."""
        port = (self._data_dir / "mongod.port").read_text(encoding="ascii").strip()
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    def cpu_seconds(self) -> float:
        """What the server has used so far, its threads included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Its memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def copydesk(*flags: str) -> Iterator[Served]:
    """A Copydesk with its embedded MongoDB on free ports, gone with its data at the end."""
    with tempfile.TemporaryDirectory(prefix="copydesk-bench-") as folder:
        data_dir = Path(folder)
        process = subprocess.Popen(
            [sys.executable, "run.py", "--port", "0", "--data-dir", folder, "--log-level", "warning", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("listening on "):
                raise RuntimeError("the server did not start")
            yield Served(process, line.removeprefix("listening on ").strip(), data_dir)
        finally:
            process.terminate()
            process.wait(timeout=20)


def pin(*processors: int, pid: int = 0) -> None:
    """Keep a process on these processors, as far as this machine has them."""
    there = os.sched_getaffinity(0)
    wanted = there.intersection(processors)
    if wanted:
        os.sched_setaffinity(pid, wanted)
