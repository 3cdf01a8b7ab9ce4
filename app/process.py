"""The process around the server: signals, the embedded MongoDB, what is printed, the exit code."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import structlog

from app import demo, logs, mongod, pressure, startup
from app.database import Connection, connected, require_versions
from app.settings import Settings

log = structlog.get_logger("copydesk.process")

WATCH_SECONDS = 1.0
COLLECT_AFTER = 20_000
"""New objects after which the youngest are searched for cycles. Python's own 700 are a few dozen changes with their
images, all of them alive until they were told: a sixth of what reading a change cost was searching in vain."""


class Running(Protocol):
    """The server, as far as its process is concerned."""

    failed: asyncio.Future[BaseException]

    @property
    def url(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self, *, drain_seconds: float = 0.0) -> None: ...


def serve(settings: Settings, make: Callable[[Settings, Connection], Running]) -> int:
    """Run until a signal ends it; the exit code is 0 after a clean stop, 1 after a failure. Raises `CannotStart`."""
    require_versions()
    logs.configure(settings.log_level, settings.log_format)
    pressure.raise_descriptor_limit()
    spare_what_stays()
    return asyncio.run(_serve(settings, make))


async def _serve(settings: Settings, make: Callable[[Settings, Connection], Running]) -> int:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    async with _database(settings) as connection:
        await startup.check(settings, connection)
        return await _serve_on(settings, make(settings, connection), signals)


def spare_what_stays() -> None:
    """Do not search for cycles in what is there for as long as the process is, and in what comes not as often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Connection]:
    """The connection to the operator's MongoDB, or to the embedded one while it is kept running."""
    if settings.mongodb_uri is not None:
        async with connected(settings.mongodb_uri, settings.mongodb_database) as connection:
            yield connection
        return
    embedded = _Embedded(settings, await asyncio.to_thread(mongod.start, settings.data_dir, settings.mongod))
    watching = asyncio.create_task(embedded.watch())
    try:
        async with connected(embedded.uri, settings.mongodb_database) as connection:
            yield connection
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await asyncio.to_thread(embedded.stop)


class _Embedded:
    """The embedded MongoDB of this process, started again when it dies: its port stays, so the drivers find it."""

    def __init__(self, settings: Settings, running: mongod.Mongod) -> None:
        self._settings, self._running = settings, running

    @property
    def uri(self) -> str:
        return self._running.uri

    def stop(self) -> None:
        self._running.stop()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if await asyncio.to_thread(self._running.alive):
                continue
            log.error("mongod_died", pid=self._running.pid)
            await asyncio.to_thread(self._running.stop)
            self._running = await asyncio.to_thread(mongod.start, self._settings.data_dir, self._settings.mongod)


async def _serve_on(settings: Settings, server: Running, signals: asyncio.Queue[signal.Signals]) -> int:
    signalled = asyncio.ensure_future(signals.get())
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        await starting
        print(f"listening on {server.url}", flush=True)
        if settings.demo:
            for line in demo.welcome(settings, server.url):
                print(line, flush=True)
        either: list[asyncio.Future[Any]] = [signalled, server.failed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return 0 if signalled.done() else 1
    finally:
        by_hand = signalled.done() and not signalled.cancelled() and signalled.result() is signal.SIGINT
        signalled.cancel()
        log.info("stopping")
        # Who presses Ctrl-C waits for it; who sends SIGTERM has other processes to send clients to.
        await server.stop(drain_seconds=min(settings.drain_seconds, 0.5) if by_hand else settings.drain_seconds)
