"""The page of results and its picture: tables find their places, and the picture is that of the kept figures."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from benchmarks.__main__ import ONLY_ONE_SHAPE, SHAPES
from benchmarks.machine import ROOT
from benchmarks.picture import FIGURES, PICTURE, picture
from benchmarks.relays import KINDS
from benchmarks.table import merged, table

PAGE = ROOT / "benchmarks" / "RESULTS.md"


def test_a_table_takes_the_place_of_the_one_before_and_of_nothing_else() -> None:
    page = "a\n<!-- idle -->\nold\n<!-- end of idle -->\nb\n<!-- burst -->\nkept\n<!-- end of burst -->\n"
    assert merged(page, "idle", "new\ntable") == page.replace("old", "new\ntable")
    with pytest.raises(ValueError, match="no place for reading"):
        merged(page, "reading", "new")


def test_the_page_has_a_place_for_every_shape() -> None:
    page = PAGE.read_text()
    for shape in SHAPES:
        merged(page, shape, "new")


def test_a_ratio_is_taken_round_by_round() -> None:
    rows = {"ours": [{"speed": 10.0}, {"speed": 40.0}], "theirs": [{"speed": 5.0}, {"speed": 10.0}]}
    assert "| theirs | 7.50 (5.00 to 10.0) | 3.00 (2.00 to 4.00) |" in table(rows, first="who", against="ours")


def test_the_picture_is_drawn_from_the_figures_of_the_page() -> None:
    figures = json.loads(FIGURES.read_text())
    assert PICTURE.read_text() == picture(figures)
    drawn = ET.fromstring(PICTURE.read_text())  # noqa: S314 - our own
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 * len(figures)


def test_the_picture_has_a_line_and_a_name_for_every_relay() -> None:
    point = {"deliveries per CPU-second": 1000.0, "last listener p50 ms": 1.0}
    names = [kind.name for key, kind in KINDS.items() if key not in ONLY_ONE_SHAPE]
    drawn = ET.fromstring(picture({name: {10: point, 100: point} for name in names}))  # noqa: S314 - our own
    svg = "{http://www.w3.org/2000/svg}"
    colours = {line.attrib["stroke"] for line in drawn.findall(f"{svg}polyline")}
    assert len(colours) == len(names)
    texts = {text.text: (text.attrib["x"], text.attrib["y"]) for text in drawn.findall(f"{svg}text")}
    assert len({texts[name.removesuffix(", one stream")] for name in names}) == len(names)
