"""What setup.cfg asks for, what the lock file pins, and what is wrong between the two. Pure but for reading files.

Every function that finds faults returns sentences; none means that all is well.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy" / "requirements.lock"
BUILD = "build"
"""The name here of what pyproject.toml asks for."""


class Locked(NamedTuple):
    """One distribution of the lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """As package indexes spell it."""
        return canonicalize_name(self.requirement.name)


def declared(*extras: str) -> list[Requirement]:
    """What setup.cfg asks for to run, and for these extras; `BUILD` is what pyproject.toml asks for to build."""
    parser = configparser.ConfigParser()
    parser.read_string((ROOT / "setup.cfg").read_text("utf-8"))
    texts = [parser["options"]["install_requires"]]
    texts += [parser["options.extras_require"][extra] for extra in extras if extra != BUILD]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    if BUILD in extras:
        lines += tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked(text: str) -> list[Locked]:
    """The entries of a lock file. `ValueError` for what is neither an entry, a hash nor a comment."""
    entries = []
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    for line in filter(None, map(str.strip, joined.splitlines())):
        requirement, *hashes = re.split(r"\s+--hash=", line)
        if requirement.startswith("-"):
            raise ValueError(f"{requirement.split()[0]} has no place in a lock file")
        entries.append(Locked(Requirement(requirement), tuple(hashes)))
    return entries


def lock_faults(
    text: str, wanted: Iterable[Requirement], needed_by: Callable[[str], Iterable[Requirement]]
) -> list[str]:
    """Where a lock file does not do what it is for. `needed_by` says what an installed distribution asks for."""
    try:
        entries = {entry.name: entry for entry in locked(text)}
    except ValueError as problem:
        return [str(problem)]
    found = [f"an address is in the lock file: {address}" for address in re.findall(r"\w+://\S+", text)]
    pinned: dict[str, str] = {}
    for entry in entries.values():
        pins = list(entry.requirement.specifier)
        if len(pins) != 1 or pins[0].operator != "==" or "*" in pins[0].version:
            found.append(f"{entry.name} is not pinned to one version")
        else:
            pinned[entry.name] = pins[0].version
        if not entry.hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in entry.hashes):
            found.append(f"{entry.name} has no SHA-256 hashes")
    reached: set[str] = set()
    waiting = [("setup.cfg", requirement) for requirement in wanted]
    while waiting:
        by, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in entries:
            found.append(f"{name}, which {by} asks for, is not in the lock file")
            continue
        version = pinned.get(name)
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{name} {version} is locked, and {by} asks for {requirement.specifier}")
        if (key := f"{name}{sorted(requirement.extras)}") not in reached:
            reached |= {key, name}
            waiting += [(name, each) for each in needed_by(str(requirement))]
    return [
        *found,
        *(f"{name} is in the lock file, and nothing asks for it" for name in entries if name not in reached),
    ]


def asked_for_by_installed(requirement: str) -> list[Requirement]:
    """What an installed distribution asks for on this machine, also for the extras that are asked of it."""
    asked = Requirement(requirement)
    lines = importlib.metadata.requires(asked.name) or ()
    environments: list[Mapping[str, str]] = [{"extra": extra} for extra in ("", *asked.extras)]
    return [
        each
        for each in map(Requirement, lines)
        if each.marker is None or any(each.marker.evaluate(dict(environment)) for environment in environments)
    ]


def floor(requirement: Requirement) -> str:
    """The requirement with its lowest version as the only one. `ValueError` where it has none."""
    bounds = [one.version for one in requirement.specifier if one.operator in (">=", "==", "~=")]
    if len(bounds) != 1:
        raise ValueError(f"{requirement} has no lower bound")
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras} == {bounds[0]}"


def applies(requirement: Requirement) -> bool:
    """Whether it is asked for on this machine."""
    return requirement.marker is None or requirement.marker.evaluate()
