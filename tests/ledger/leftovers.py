"""What a process may leave behind: lines in its log, and what it holds when nobody is connected any more. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tests.ledger.ledger import Findings


def check_log(lines: Iterable[str], *, warnings: int) -> Findings:
    """A server's own log, as JSON: no traceback, and not more than so many warnings and errors."""
    findings = Findings()
    noisy: Counter[str] = Counter()
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            if line.startswith("Traceback"):
                findings.add("traceback", line)
            continue
        if "exception" in entry or entry.get("level") == "critical":
            findings.add("traceback", line[:2000])
        elif entry.get("level") in ("warning", "error"):
            noisy[str(entry.get("event"))[:80]] += 1
    findings.counts["warnings"] += noisy.total()
    if noisy.total() > warnings:
        findings.add("noise", f"{noisy.total()} warnings where {warnings} are fair: {noisy.most_common(5)}")
    return findings


class Usage(NamedTuple):
    """What a process holds while nobody is connected."""

    files: int
    threads: int
    connections: int
    subscriptions: int


def check_usage(before: Usage, after: Usage, *, pool: int) -> Findings:
    """Nothing is left of connections that ended. The driver may keep up to `pool` more connections and threads."""
    findings = Findings()
    for name, allowed in (("files", pool), ("threads", pool), ("connections", 0), ("subscriptions", 0)):
        more = getattr(after, name) - getattr(before, name)
        if more > allowed:
            findings.add("leaked resource", f"{more} more {name} than at the start ({getattr(after, name)})")
    return findings
