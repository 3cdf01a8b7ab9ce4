"""Pictures of the documentation: every one is there, is shown somewhere, and says in words what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from docs.pictures.scenes import MOVING, SCENES, SIZES, THEMES

ROOT = Path(__file__).parents[2]
PAGES = {path: path.read_text("utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
PICTURES = set((ROOT / "docs" / "img").iterdir())
MOST_BYTES = 4_000_000
DRAWN = "speed.svg"
"""By `benchmarks.picture` from figures (tests/contract/test_results.py)."""

_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def complaints(pages: Mapping[Path, str], pictures: Iterable[Path]) -> list[str]:
    """Pictures that a page shows and that are not there or have no words, and those that no page shows."""
    there, shown, found = set(pictures), set(), []
    for page, text in pages.items():
        for words, target in _PICTURE.findall(text):
            picture = (page.parent / target).resolve()
            shown.add(picture)
            if picture not in there:
                found.append(f"{page.name}: {target} is not there")
            if len(words) < 10:
                found.append(f"{page.name}: {target} is not described")
    return [*found, *(f"{picture.name} is shown nowhere" for picture in sorted(there - shown))]


def test_every_picture_is_there_is_described_and_is_used() -> None:
    assert complaints(PAGES, PICTURES) == []


def test_the_command_makes_all_of_them_and_no_others() -> None:
    variants = {f"{scene}-{size}-{theme}.png" for scene in SCENES for size in SIZES for theme in THEMES}
    assert {picture.name for picture in PICTURES} == {*variants, f"{MOVING}.png", DRAWN}


def test_pictures_are_small() -> None:
    assert sum(picture.stat().st_size for picture in PICTURES) < MOST_BYTES


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("![A picture of it](img/none.png) ![A picture of it](img/a.png)", "page.md: img/none.png is not there"),
        ("![](img/a.png)", "page.md: img/a.png is not described"),
        ("See [the picture](img/a.png).", "a.png is shown nowhere"),
    ],
)
def test_what_is_wrong_with_a_picture_is_found(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaints({tmp_path / "page.md": text}, [tmp_path / "img" / "a.png"]) == [complaint]
