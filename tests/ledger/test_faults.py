"""The short form of every fault: nothing is lost. How long things take is measured by `torture.py`, not here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from tests.ledger.replica_set import ReplicaSet, replica_set
from tests.ledger.result import Result
from tests.ledger.rows import ROWS, SHORT

SEED = 20_261


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """Three members to break."""
    with replica_set(tmp_path_factory.mktemp("members")) as running:
        yield running


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_by(name: str, io_loop: IOLoop, members: ReplicaSet, tmp_path: Path) -> None:
    async def run() -> Result:
        return await ROWS[name](members, tmp_path, SEED, SHORT[name])

    # Ten times what it takes alone: this says that it hangs, and nothing of how fast it is.
    result: Result = io_loop.run_sync(run, timeout=400)
    assert result.broken == [], result.findings.examples
