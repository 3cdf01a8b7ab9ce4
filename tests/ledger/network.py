"""A network of its own for the members of a replica set, which can be cut without anybody being told.

Everything lives in namespaces of Linux that belong to one process and vanish with it, whichever way it ends. Each
member has a cable to a router in the middle, where Copydesk and the writers are. What is cut is dropped in silence, as
by a switch that lost its power: no connection is refused, none is closed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.ledger.replica_set import Place

DROP = ("pref", "10")
"""Before the rule that delivers what is for this machine itself, which is moved behind it."""


def inside(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of Python in namespaces of its own; needs root, or the right to make some."""
    own = ["unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*own, sys.executable, "-m", module, *arguments]


class Network:
    """One router, and so many places around it. To be made by a process that was started by `inside`."""

    def __init__(self, places: int) -> None:
        # In our own view of the file system: where `ip netns` keeps its names.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        _ip("link set lo up")
        _make_room("")
        self.places = [
            Place(f"10.77.{number}.2", ("nsenter", f"--net=/run/netns/m{number}")) for number in range(places)
        ]
        for number, place in enumerate(self.places):
            _ip(f"netns add m{number}")
            _ip(f"link add v{number} type veth peer name eth0 netns m{number}")
            _ip(f"addr add 10.77.{number}.1/24 dev v{number}")
            _ip(f"link set v{number} up")
            for command in ("link set lo up", f"addr add {place.host}/24 dev eth0", "link set eth0 up"):
                _ip(f"-n m{number} {command}")
            _ip(f"-n m{number} route add default via 10.77.{number}.1")
            _make_room(f"-n m{number}")

    def cut_from_others(self, number: int) -> None:
        """Nothing goes between this place and the other places any more. Everybody reaches the middle."""
        here = self.places[number].host
        for other in self.places:
            if other.host != here:
                _drop(f"from {here} to {other.host}")
                _drop(f"from {other.host} to {here}")

    def cut_off(self, number: int) -> None:
        """Nothing goes in or out of this place any more."""
        _drop(f"iif v{number}")
        _drop("iif eth0", f"-n m{number}")

    def heal(self) -> None:
        """All is as it was."""
        for where in ("", *(f"-n m{number}" for number in range(len(self.places)))):
            while _has_drops(where):
                _ip(f"{where} rule del {' '.join(DROP)}")


def _make_room(where: str) -> None:
    _ip(f"{where} rule add pref 100 lookup local")
    _ip(f"{where} rule del pref 0")


def _drop(what: str, where: str = "") -> None:
    _ip(f"{where} rule add {' '.join(DROP)} {what} blackhole")


def _has_drops(where: str) -> bool:
    return any(line.startswith(f"{DROP[1]}:") for line in _ip(f"{where} rule").splitlines())


def _ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout
