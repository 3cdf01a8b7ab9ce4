"""The layers of the source, checked by reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.layers import MAX_CODE_LINES, complaints

ROOT = Path(__file__).parents[2]


def test_every_module_keeps_to_its_layer() -> None:
    paths = [ROOT / "run.py", *(path for name in ("app", "handlers", "models") for path in (ROOT / name).rglob("*.py"))]
    sources = {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in paths}
    assert len(sources) > 50
    assert complaints(sources) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("models.item", "from app.access import Access"),
        ("models.item", "def later():\n    import handlers.base"),
        ("app.hub", "from handlers import base"),
        ("app.worker", "from app import main"),
        ("app.worker", "from app.main import Server"),
        ("handlers.items", "import run"),
        ("handlers.items", "from app.main import Server"),
        ("handlers.items", "from pymongo.errors import PyMongoError"),
        ("handlers.items", "from bson import ObjectId"),
        ("app.feed", "from motor.motor_asyncio import AsyncIOMotorClient"),
        ("app.feed", "import os\nos.environ['HOME']"),
        ("app.feed", "import os\nos.getenv('HOME')"),
        ("app.feed", "from os import environ"),
        ("app.database", "import os\nhome = os.environ['HOME']"),
        ("app.hub", "import asyncio"),
        ("app.position", "import socket"),
        ("app.changes", "from bson import Timestamp"),
        ("app.anything", "x = 1\n" * (MAX_CODE_LINES + 1)),
    ],
)
def test_the_checker_finds_a_planted_fault(module: str, text: str) -> None:
    assert complaints({module: text}) != []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("run", "from app.main import serve"),
        ("app.main", "from handlers.routes import routes"),
        ("handlers.items", "from app.permissions import Action\nfrom models.item import Item"),
        ("app.hub", "import msgspec\nfrom app.permissions import Identity"),
        ("app.settings", "import os\nos.environ"),
        ("app.database", 'import os\nos.environ.setdefault("MOTOR_MAX_WORKERS", "32")\nimport motor'),
        ("app.anything", '"""Long."""\n' + "# comment\n\n" * (MAX_CODE_LINES + 1)),
    ],
)
def test_the_checker_lets_good_source_pass(module: str, text: str) -> None:
    assert complaints({module: text}) == []
