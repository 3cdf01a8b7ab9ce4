"""The short form of `described.py`: answers are as the OpenAPI document says, and one that is not is found."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.processes import Process
from tests.security import described


@pytest.fixture
def process(tmp_path: Path, mongodb_uri: str, database_name: str) -> Iterator[Process]:
    """A server with demo content."""
    running = described.start(tmp_path, mongodb_uri, database_name)
    yield running
    running.stop()


def test_what_a_user_is_answered_is_described_and_what_is_not_is_found(process: Process, tmp_path: Path) -> None:
    document = described.served()
    assert described.ask(process, tmp_path, "alice", seconds=8, seed=1, document=document) == ""
    wrong = copy.deepcopy(document)
    wrong["paths"] = {path: verbs for path, verbs in wrong["paths"].items() if path == "/api/v1/config"}
    del wrong["paths"]["/api/v1/config"]["get"]["responses"]["200"]
    said = described.ask(process, tmp_path, "nobody", seconds=2, seed=1, document=wrong)
    assert "GET /api/v1/config" in said
    assert "1 unique failure" in said
