"""The page of guarantees names a test or a row of the ledger for each claim: they exist, and every row is named."""

from __future__ import annotations

import re
from pathlib import Path

from tests.ledger.rows import FULL, ROWS, SHORT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))


def complaints(page: str) -> list[str]:
    """What the page names that is not there, and rows of the ledger that it leaves out."""
    named = set(re.findall(r"`(test_\w+)`", page))
    rows = set(re.findall(r"^\| `([a-z -]+)` \|", page, re.MULTILINE))
    missing = [f"no test {name}" for name in sorted(named) if f"def {name}(" not in TESTS]
    missing += [f"no row {name}" for name in sorted(rows - ROWS.keys())]
    return missing + [f"{name} is not told of" for name in sorted(ROWS.keys() - rows)]


def test_what_the_page_names_is_there() -> None:
    assert complaints(PAGE) == []


def test_every_row_has_a_short_form_and_a_full_one() -> None:
    assert SHORT.keys() == FULL.keys() == ROWS.keys()


def test_a_name_that_leads_nowhere_is_noticed_and_so_is_a_row_that_is_left_out() -> None:
    assert complaints(f"{PAGE}\n`test_of_nothing`") == ["no test test_of_nothing"]
    assert complaints(f"{PAGE}\n| `nothing` | x |") == ["no row nothing"]
    assert complaints(PAGE.replace("| `kills` |", "| kills |")) == ["kills is not told of"]
