"""Draws docs/img/speed.svg from the figures that `python -m benchmarks --shape by-listeners` kept.

    python -m benchmarks.picture

Readable on a light and on a dark page: the picture has no background, and its grey has enough contrast to both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

from benchmarks.machine import ROOT

FIGURES = Path(__file__).with_name("by-listeners.json")
PICTURE = ROOT / "docs" / "img" / "speed.svg"
COLOURS = ("#1f7fd1", "#d1701f", "#2c9c4b", "#b04fc4", "#c94a4a", "#1a8f94", "#8f7d1a")
"""Each with a contrast of at least 3 to white and to the dark page of the code host."""
GREY = "#7a828c"
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP = 900, 400, 80, 60, 330, 120
BOTTOM = HEIGHT - 90
NAMES_IN_A_ROW = 5

Series = Mapping[str, Mapping[int, float]]


def scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    """A logarithmic axis."""
    span = math.log(high / low)
    return lambda value: begin + (end - begin) * math.log(value / low) / span


def decades(low: float, high: float) -> tuple[float, float, list[float]]:
    """The powers of ten around some values, from where to where."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    return 10.0**first, 10.0**last, [10.0**power for power in range(first, last + 1)]


def panel(left: float, title: str, series: Series) -> list[str]:
    """One diagram: both axes logarithmic."""
    counts = sorted({count for points in series.values() for count in points})
    values = [value for points in series.values() for value in points.values()]
    low, high, marks = decades(min(values), max(values))
    x = scale(counts[0], counts[-1], left, left + PANEL)
    y = scale(low, high, BOTTOM, TOP)
    parts = [f'<text x="{left}" y="{TOP - 24}" class="title">{escape(title)}</text>']
    for mark in marks:
        parts.append(f'<line x1="{left}" x2="{left + PANEL}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:,.0f}</text>')
    parts += [f'<text x="{x(count):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{count:,}</text>' for count in counts]
    parts.append(f'<text x="{left + PANEL / 2}" y="{BOTTOM + 40}" text-anchor="middle">listeners</text>')
    for colour, points in zip(COLOURS, series.values(), strict=False):
        places = [(x(count), y(value)) for count, value in sorted(points.items())]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>' for a, b in places]
    return parts


def picture(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The whole picture. `figures`: by relay, then by number of listeners, then by the name of the figure."""

    def of(figure: str) -> Series:
        return {
            name: {int(count): found[figure] for count, found in by_count.items()} for name, by_count in figures.items()
        }

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            ' font-family="system-ui, sans-serif" font-size="13">'
        ),
        "<title>Deliveries per CPU-second, and milliseconds to the last listener, by number of listeners</title>",
        (
            f"<style>text {{ fill: {GREY}; }} .title {{ font-size: 15px; font-weight: 600; }}"
            f" .grid {{ stroke: {GREY}; stroke-opacity: 0.35; }}</style>"
        ),
        *panel(LEFT, "Deliveries per CPU-second", of("deliveries per CPU-second")),
        *panel(LEFT + PANEL + GAP, "Milliseconds to the last listener (median)", of("last listener p50 ms")),
    ]
    for number, (colour, name) in enumerate(zip(COLOURS, figures, strict=False)):
        row, place = divmod(number, NAMES_IN_A_ROW)
        rows_below = (len(figures) - 1) // NAMES_IN_A_ROW - row
        left, middle = LEFT + place * 165, HEIGHT - 20 - 20 * rows_below
        parts.append(f'<circle cx="{left}" cy="{middle}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{left + 11}" y="{middle + 4}">{escape(name.removesuffix(", one stream"))}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """The command line."""
    PICTURE.write_text(picture(json.loads(FIGURES.read_text())))
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
