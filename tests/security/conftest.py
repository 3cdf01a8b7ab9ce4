"""What the tables of attacks share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from app.mongod import Mongod
from tests.security import stage as stages
from tests.security.stage import Door, Stage


@pytest.fixture(scope="package")
def stage(
    tmp_path_factory: pytest.TempPathFactory, mongod: Mongod, plain_client: pymongo.MongoClient[dict[str, Any]]
) -> Iterator[Stage]:
    """One server for all tables, on a database of its own. In the end no log may tell of a secret."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    started = stages.start(tmp_path_factory.mktemp("stage"), mongodb_uri=mongod.uri, mongodb_database=name)
    yield started
    started.proxy.stop()
    code = started.process.stop()
    assert code == 0, f"the server ended with {code}: {started.log[-4000:]}"
    logs = {"server": started.log, **started.proxy.logs}
    logs["mongod"] = (mongod._data_dir / "mongod.log").read_text(encoding="utf-8", errors="backslashreplace")
    # That these are the logs, whichever tests were run; nginx may have had nothing to say.
    assert '"event": "stopping"' in logs["server"]
    assert '"msg":"Build Info"' in logs["mongod"]
    assert stages.told_of(started.canaries, logs) == []
    plain_client.drop_database(name)


@pytest.fixture(params=["direct", "nginx"])
def door(stage: Stage, request: pytest.FixtureRequest) -> Door:
    """Each way in."""
    return stage.doors[request.param]
