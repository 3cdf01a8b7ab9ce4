"""An event loop that tells what was left behind in it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tornado.ioloop import IOLoop
from tornado.platform.asyncio import AsyncIOLoop


@contextmanager
def watched_loop(patience_seconds: float = 1.0) -> Iterator[IOLoop]:
    """A loop of one's own, watched (see `watched`)."""
    with loop_of_its_own() as loop, watched(loop, patience_seconds):
        yield loop


@contextmanager
def loop_of_its_own() -> Iterator[IOLoop]:
    """A loop, closed at the end with all that belongs to it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    tornado_loop = AsyncIOLoop(asyncio_loop=loop, make_current=False)
    try:
        yield tornado_loop
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        tornado_loop.close(all_fds=True)


@contextmanager
def watched(tornado_loop: IOLoop, patience_seconds: float = 1.0) -> Iterator[None]:
    """At the end `AssertionError` for tasks begun meanwhile that still run, and exceptions nobody retrieved.

    Tasks that were told to end have `patience_seconds` to do so.
    """
    loop = tornado_loop.asyncio_loop  # type: ignore[attr-defined]  # every loop of Tornado's is one of asyncio's
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    before = asyncio.all_tasks(loop)
    yield
    left = loop.run_until_complete(_end_of_tasks(before, patience_seconds))
    # A task tells of its exception when it is collected.
    gc.collect()
    assert not left, f"tasks left behind: {left}"
    assert not complaints, f"exceptions that nobody retrieved: {complaints}"


async def _end_of_tasks(before: set[asyncio.Task[Any]], patience_seconds: float) -> list[str]:
    """What still runs after the wait. It is cancelled."""
    tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
    if not tasks:
        return []
    _, pending = await asyncio.wait(tasks, timeout=patience_seconds)
    left = [repr(task) for task in pending]
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return left
