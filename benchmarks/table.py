"""Figures of several runs as tables in Markdown: the median, and the range in brackets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Figures = Mapping[str, float]


def number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 1000:
        return f"{round(value, 2 - len(str(int(abs(value)))) + 1):,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(values: Sequence[float]) -> str:
    """The median, and from where to where they ran."""
    median = number(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({number(min(values))} to {number(max(values))})"


def table(rows: Mapping[str, Sequence[Figures]], *, first: str, against: str | None = None) -> str:
    """One row for each relay. With `against`, the last column says how the first figure compares with that row's.

    A ratio is taken within each round, because what others did beside a round slows all of it.
    """
    names = list(next(iter(rows.values()))[0])
    heads = [first, *names, *([f"{against} ÷ this"] if against else [])]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for name, runs in rows.items():
        cells = [name, *(cell([run[figure] for run in runs]) for figure in names)]
        if against:
            ours = rows[against]
            cells.append(cell([mine[names[0]] / run[names[0]] for mine, run in zip(ours, runs, strict=True)]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def merged(page: str, shape: str, text: str) -> str:
    """The page with a shape's table in the place of the one it had. Raises `ValueError` where it had none."""
    begin, end = f"<!-- {shape} -->\n", f"<!-- end of {shape} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no place for {shape}")
    return f"{before}{begin}{text}\n{end}{after}"
