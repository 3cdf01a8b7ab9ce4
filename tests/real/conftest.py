"""What the tests behind nginx share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real import nginx
from tests.real.nginx import Nginx
from tests.real.processes import Process

BEHIND_NGINX = {"allowed_hosts": (nginx.SERVER_NAME,), "trusted_proxies": ("127.0.0.1",)}
"""The settings that deploy/nginx.conf asks for."""


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Start nginx before Copydesks on these ports: ``start_nginx([8888, 8889], nginx.without("..."))``."""
    started: list[Nginx] = []
    numbers = itertools.count(1)

    def start(upstreams: list[int], *edits: nginx.Edit) -> Nginx:
        folder = tmp_path / f"nginx-{next(numbers)}"
        folder.mkdir()
        started.append(nginx.start(folder, upstreams, *edits))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def processes(mongodb_uri: str, database_name: str) -> Iterator[tuple[Process, Process]]:
    """Two processes of the command line, on the test's database."""
    settings = {name: ",".join(value) for name, value in BEHIND_NGINX.items()}
    settings |= {"mongodb_uri": mongodb_uri, "mongodb_database": database_name, "auth_secret": "s" * 32}
    settings |= {"drain_seconds": "1"}  # so that stopping them takes no longer
    first = Process(**settings)
    second = Process(**settings)
    yield first, second
    for process in (first, second):
        process.stop()
