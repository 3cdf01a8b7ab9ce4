"""Copydesk as operators run it: processes of its own, started by the command line, on one MongoDB."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Process:
    """A running `run.py`; ready when made, and the same port for every start after the first."""

    program = "run.py"

    def __init__(self, *, log: Path | None = None, **settings: str) -> None:
        """`settings` by their names, as text. What it logs is added to `log`."""
        self.log = Path(os.devnull) if log is None else log
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("COPYDESK_")}
        self._environment.update({f"COPYDESK_{name.upper()}": value for name, value in settings.items()})
        self.port = 0
        self.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, self.program, "--port", str(self.port)],
                cwd=ROOT,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), line
        self.port = int(line.rpartition(":")[2])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGUSR2."""
        self._process.send_signal(number)

    def stop(self) -> int:
        """Ask it to end, as systemd does, and wait until it has; the exit code. Fine where it ended already."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a word."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        with self._process:  # closes the pipe
            return self._process.wait(timeout=30)
