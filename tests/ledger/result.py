"""What a row asks for, how large it is, and what it showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.ledger.ledger import Findings

Figures = dict[str, float | str]

WARNINGS_PER_FAULT = 25
"""Lines that one fault may be worth in the log of one process, with every retry of every part."""


class Size(NamedTuple):
    """How much of a row: writes, their pace per second, and how often something is broken."""

    writes: int
    per_second: float
    times: int
    seconds: float = 0.0
    """How long one fault lasts, where it lasts."""


@dataclass
class Result:
    """What a row showed."""

    findings: Findings
    figures: Figures
    """What was measured, by name with its unit."""
    broken: list[str]
    """Promises that did not hold; times are not among them."""
    late: list[str]
    """Bounds of time and memory that did not hold on this machine."""


def result(findings: Findings, figures: Figures, *, never: Mapping[str, int], bounds: Mapping[str, float]) -> Result:
    """`never`: what must be 0 besides the faults; `bounds`: the most that a measured figure may be."""
    faults = {**findings.faults, **{name: count for name, count in never.items() if count}}
    return Result(
        findings,
        figures,
        broken=[f"{name}: {count}" for name, count in faults.items()],
        late=[
            f"{name}: {figures[name]}, at most {most}" for name, most in bounds.items() if float(figures[name]) > most
        ],
    )


def common(findings: Findings) -> Figures:
    """The figures that every row has."""
    return {
        "commits": findings.counts["commits"],
        **{name: findings.counts[name] for name in ("lost", "duplicated", "inverted", "resets")},
        "repeated on the wire": findings.counts["repeated"],
        "longest silence, s": round(findings.silence_seconds, 1),
        "longest pause of the writers, s": round(findings.pause_seconds, 1),
        "told after its writer knew, s": round(findings.delay_seconds, 1),
    }
