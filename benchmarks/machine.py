"""What a run was made on, and what a process has used so far: CPU-seconds and memory, from /proc."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

UNKNOWN = "unknown"
ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE, LOAD_CORE = 0, 1
"""The server that is measured has a core of its own; load, writer and MongoDB share the other."""


@dataclass(frozen=True)
class Used:
    """CPU-seconds of some processes, their threads included."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def since(self, before: Used) -> Used:
        """What was used after `before`."""
        return Used(self.user - before.user, self.system - before.system)


def used(*pids: int) -> Used:
    """What these processes have used so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    user = system = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) / ticks
        system += int(fields[12]) / ticks
    return Used(user, system)


def resident_bytes(pid: int) -> int:
    """The memory of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had since `forget_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} shows no peak")


def forget_peak(pid: int) -> None:
    """Let `peak_bytes` begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def pin(*processors: int, pid: int = 0) -> None:
    """Keep a process, and what it starts from now on, on these processors, as far as this machine has them."""
    there = os.sched_getaffinity(0) if pid else set(range(os.cpu_count() or 1))
    wanted = there.intersection(processors) or there
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        os.sched_setaffinity(int(task.name), wanted)


class Meter:
    """What some processes use from its making on, and how much of their core others took meanwhile."""

    def __init__(self, *pids: int, core: int = SERVER_CORE) -> None:
        self._pids, self._core = pids, core
        self._on_core = [pid for pid in pids if os.sched_getaffinity(pid) == {core}]
        self._used, self._used_on_core = used(*pids), used(*self._on_core)
        self._core_busy, self._begun = _core_busy(core), time.perf_counter()

    def read(self) -> Used:
        """CPU-seconds since then."""
        return used(*self._pids).since(self._used)

    @property
    def seconds(self) -> float:
        """Time since then."""
        return time.perf_counter() - self._begun

    @property
    def taken_by_others(self) -> float:
        """The part of the core's time that went to processes which are not measured, and to the host."""
        mine = used(*self._on_core).since(self._used_on_core).total
        return max(0.0, (_core_busy(self._core) - self._core_busy - mine) / self.seconds)


def _core_busy(core: int) -> float:
    """Seconds that a core has worked for anyone or was taken by the host."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            values = [int(field) for field in fields]
            return (sum(values[:3]) + sum(values[5:8])) / os.sysconf("SC_CLK_TCK")
    raise ValueError(f"there is no core {core}")


def described() -> list[str]:
    """The machine, the versions and the commit, one fact a line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changes = _output("git", "-C", str(ROOT), "status", "--porcelain", "--", "app", "handlers", "models")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("tornado", "motor", "pymongo", "msgspec"))
    return [
        f"{os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, {libraries}",
        f"Copydesk at commit {commit}{'' if changes in ('', UNKNOWN) else ' with changes on top'}",
    ]


def _output(*command: str) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return finished.stdout.strip() or UNKNOWN
