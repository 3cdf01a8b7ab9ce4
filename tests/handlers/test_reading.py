"""What reading a message costs beside the message: the event loop is not asked to look away and look again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from benchmarks.load import connect, frame
from tests.conftest import Copydesk

PONGS = 20


async def test_a_message_does_not_take_its_socket_out_of_the_event_loop(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls of `epoll_ctl` for each answer to a ping would be most of what ten thousand idle editors cost."""
    project = await copydesk.project()
    port, token = int(copydesk.url.rpartition(":")[2]), copydesk.token("bob")
    client = await asyncio.to_thread(connect, "copydesk", port, token=token, topic=f"project:{project}")
    (connection,) = copydesk.server.connections
    loop, turned = IOLoop.current(), []
    update = loop.update_handler

    def noted(fd: Any, events: int) -> None:
        turned.append(fd)
        update(fd, events)

    monkeypatch.setattr(loop, "update_handler", noted)
    for _ in range(PONGS):
        before = time.monotonic()
        client.send(frame(b'{"op":"pong"}'))
        await copydesk.until(lambda before=before: connection.heard_at >= before)  # type: ignore[misc]  # its default
    client.close()
    assert turned == []
