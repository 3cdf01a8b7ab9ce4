"""A server that is started, or restarted, in the middle of the day."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.database import Database

from app import feed
from tests.conftest import Copydesk

PATIENCE_SECONDS = 15.0


@pytest.fixture
def over(plain_database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Another program that never pauses long enough for the change stream to run dry. Set when it gives up."""
    # However slow this machine is at the moment, the program writes more often than this.
    monkeypatch.setattr(feed, "AWAIT_MS", 2000)
    over, begun = threading.Event(), threading.Event()

    def write() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            comment = {"_id": f"c{number}", "project_id": "p", "body": "x", "author": "a"}
            plain_database.comments.insert_one({**comment, "created_at": datetime.now(UTC)})
            begun.set()

    thread, timer = threading.Thread(target=write), threading.Timer(PATIENCE_SECONDS, over.set)
    thread.start()
    timer.start()
    begun.wait()
    yield over
    timer.cancel()
    over.set()
    thread.join()


def test_a_server_becomes_ready_though_another_program_never_stops_writing(
    over: threading.Event, start_server: Callable[..., Copydesk]
) -> None:
    start_server()
    assert not over.is_set()
