"""What a process may leave behind: lines in its log, and what it holds when nobody is connected any more. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from tests.ledger.ledger import Findings

SHOWN = 60
"""Lines of a noisy log that are told."""
UNREADABLE = ("OperationFailure 10334", "InvalidBSON")
"""Why a stream is opened again after a change that cannot be read (`app.feed.is_unreadable`)."""
LOGGED_CHANGES = ("malformed_document", "change_stream_reopening", "change_not_understood", "look_up_failed")


def check_log(lines: Iterable[str], *, warnings: int) -> Findings:
    """A server's own log, as JSON: no traceback, and not more than so many warnings and errors."""
    findings = Findings()
    noisy: Counter[str] = Counter()
    shown: list[str] = []
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
            shown.append(line[:300])
    findings.counts["warnings"] += noisy.total()
    if noisy.total() > warnings:
        told = "\n".join(shown[:SHOWN])
        findings.add("noise", f"{noisy.total()} warnings where {warnings} are fair: {noisy.most_common()}\n{told}")
    return findings


def about_changes(lines: Iterable[str]) -> list[str]:
    """Of a server's log, what is about changes that it cannot read. A busy machine adds nothing to it: that MongoDB was
    late is said by others, or with other reasons."""
    found = []
    for line in lines:
        with suppress(ValueError):
            entry = json.loads(line)
            unreadable = entry.get("reason", UNREADABLE[0]) in UNREADABLE
            if entry.get("event") in LOGGED_CHANGES and unreadable:
                found.append(line)
    return found


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
