"""More faults: clients that do not read, requests that are cut off, lost history, everybody coming back at once."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.protocol import CloseCode
from tests.held_up import held_up
from tests.ledger.editors import Door
from tests.ledger.ledger import Findings
from tests.ledger.measured import metrics, percentile, resident_bytes, unix_time
from tests.ledger.replica_set import ReplicaSet, replica_set
from tests.ledger.result import WARNINGS_PER_FAULT, Figures, Result, Size, common, result
from tests.ledger.stage import Stage, stage

MEBIBYTE = 1024 * 1024


# -- clients that do not read -----------------------------------------------------------------------------------------


async def slow(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """Some of the clients stop reading. `size.times` of them beside four times as many who read."""
    # So long, because those who do read share one busy process; twice what one part of a snapshot may have.
    settings = {"max_pending_bytes": str(512 * 1024), "max_pending_seconds": "15"}
    async with stage(members, folder, seed=seed, servers=1, **settings) as on:
        process, door = on.processes[0], on.doors[0]
        await on.people(members=4 * size.times - 2)
        await on.write(size.writes, size.per_second)
        calm = _latencies(on)
        memory = resident_bytes(process)
        stuck = [_Stuck(door, on.token("member"), f"project:{on.open_project}") for _ in range(size.times)]
        pinging = asyncio.ensure_future(_keep_talking(stuck))
        try:
            writing = asyncio.ensure_future(_large_writes(on))
            await on.write(size.writes, size.per_second)
            await writing
            await on.until(lambda: _closed_as_slow(on, size.times), "the slow to be closed")
            crowded = _latencies(on)
            grown = resident_bytes(process) - memory
        finally:
            pinging.cancel()
            await asyncio.wait({pinging})
            for one in stuck:
                one.close()
        readers_closed = sum(each.log.closes.count(int(CloseCode.SLOW)) for each in on.editors)
        findings = await on.reckon(warnings=WARNINGS_PER_FAULT)
        measured = await metrics(on.http, process)
        closed = {
            code: int(measured.get(f'copydesk_closes_total{{code="{code}"}}', 0))
            for code in (int(CloseCode.SLOW), 4002, 4003)
        }
        figures = {
            **common(findings),
            "closed with 4001": closed[4001],
            "of them who read": readers_closed,
            "p99 before, ms": round(1000 * percentile(calm, 0.99)),
            "p99 meanwhile, ms": round(1000 * percentile(crowded, 0.99)),
            "memory grown, MB": round(grown / MEBIBYTE, 1),
        }
        never = {
            "not closed with 4001": max(0, size.times + readers_closed - closed[4001]),
            "resets": findings.counts["resets"],
        }
        # Who reads may be too slow as well on a machine that does not get round to it: a matter of time.
        bounds = {
            "of them who read": 0.0,
            "p99 meanwhile, ms": 2 * max(10.0, float(figures["p99 before, ms"])),
            "memory grown, MB": 64.0,
        }
        return result(findings, figures, never=never, bounds=bounds)


async def _keep_talking(stuck: list[_Stuck]) -> None:
    """For as long as it takes: who says nothing is closed for another reason."""
    while True:
        for one in stuck:
            one.pong()
        await asyncio.sleep(0.5)


async def _large_writes(on: Stage) -> None:
    """What fills the buffers of those who do not read, the system's own too: about 5.4 MB in the open project."""
    for number in range(600):
        document = {"_id": f"large-{number}", "project_id": on.open_project, "author": "large", "version": 1}
        await on.database.comments.insert_one(
            {**document, "body": f"large-{number}-{'x' * 9_000}", "created_at": datetime.now(UTC)}
        )
        await asyncio.sleep(0.02)


def _latencies(on: Stage) -> list[float]:
    """Seconds from each commit to its arrival at each editor since this was last asked."""
    latencies = []
    for editor in on.editors:
        for entry in editor.log.entries[on.marks.get(editor.log.name, 0) :]:
            latencies += [entry.at - unix_time(event.at) for event in entry.events]
        on.marks[editor.log.name] = len(editor.log.entries)
    return latencies


async def _closed_as_slow(on: Stage, times: int) -> bool:
    return (await metrics(on.http, on.processes[0]))["copydesk_slow_closes_total"] >= times


class _Stuck:
    """A client that says hello and subscribes, and then never reads a byte; its own buffer is as small as can be."""

    def __init__(self, door: Door, token: str, topic: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", door.port))
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET /api/v1/realtime HTTP/1.1\r\nHost: {door.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Authorization: Bearer {token}\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        hello = _masked({"op": "hello", "id": 1})
        subscribe = _masked({"op": "subscribe", "id": 2, "topic": topic, "snapshot": False})
        self._socket.sendall(head.encode() + hello + subscribe)

    def pong(self) -> None:
        """Say something: it is not gone, it only does not read. Fine where the server has hung up."""
        with suppress(OSError):
            self._socket.sendall(_masked({"op": "pong"}))

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def _masked(command: dict[str, Any]) -> bytes:
    """A text frame (RFC 6455, 5.2), with a mask that changes nothing."""
    text = json.dumps(command).encode()
    length = struct.pack(">B", 0x80 | len(text)) if len(text) < 126 else struct.pack(">BH", 0x80 | 126, len(text))
    return b"\x81" + length + bytes(4) + text


# -- requests that are cut off ----------------------------------------------------------------------------------------


async def posts(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """POSTs are cut off at any byte, and repeated with the same key, three of them at once: one document each."""
    rng = random.Random(seed)
    cut_off = 0
    async with stage(members, folder, seed=seed) as on:
        token = on.token("alice")
        path = f"/api/v1/projects/{on.open_project}/comments"
        ids: dict[str, set[str]] = {}

        async def attempt(key: str, *, cut: bool) -> bool:
            nonlocal cut_off
            door = rng.choice(on.doors)
            body = json.dumps({"body": key}).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: {door.host}\r\nAuthorization: Bearer {token}\r\n"
            head += f"Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            request = head.encode() + body
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            try:
                if cut:
                    cut_off += 1
                    # Past the end too: then all was sent, and nobody waits for the answer.
                    writer.write(request[: rng.randrange(1, len(request) + 60)])
                    await writer.drain()
                    await asyncio.sleep(rng.uniform(0.0, 0.02))
                    return False
                writer.write(request)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                document = json.loads(await reader.readexactly(length))
            finally:
                writer.transport.abort()
            if b" 201 " in answer.split(b"\r\n", 1)[0]:
                ids.setdefault(key, set()).add(document["id"])
                return True
            assert document["code"] in ("in_progress", "unavailable", "conflict"), document
            return False

        async def one(key: str) -> None:
            async with asyncio.TaskGroup() as three:
                for _ in range(3):
                    three.create_task(attempt(key, cut=rng.random() < 0.6))
            while not await attempt(key, cut=False):  # noqa: ASYNC110 - asks another process
                await asyncio.sleep(rng.uniform(0.02, 0.1))

        keys = iter([f"key-{number}" for number in range(size.writes)])

        async def lane() -> None:
            for key in keys:
                await one(key)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(6):
                lanes.create_task(lane())
        bodies = Counter([document["body"] async for document in on.database.comments.find({}, {"body": 1})])
        findings = Findings()
        for key, times in bodies.items():
            findings.add("doubled write", f"{key} is there {times} times", times - 1)
        figures: Figures = {"keys": size.writes, "documents": bodies.total(), "cut off": cut_off}
        never = {
            "keys without a document": size.writes - len(bodies),
            "keys with two answers": sum(len(found) != 1 for found in ids.values()),
        }
        return result(findings, figures, never=never, bounds={})


# -- lost history -----------------------------------------------------------------------------------------------------


async def injected(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """MongoDB says that the history is lost, though it is not."""
    with members.alone() as alone:

        async def lose(on: Stage) -> None:
            on.replica_set.fail(
                ["getMore", "aggregate"],
                times=2,
                errorCode=286,
                errorLabels=["NonResumableChangeStreamError"],
                appName="copydesk",
            )

        return await _lost(alone, folder, seed, size, lose)


async def overwritten(_members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """A process is held until the oplog, which is tiny, has gone past the place where it was."""
    with replica_set(folder / "alone", 1, oplog_mb=1) as alone:

        async def lose(on: Stage) -> None:
            with held_up(on.processes[0].pid):
                # Twice: the answer to a read that was under way may have arrived before.
                await on.turn_over_the_oplog()
                await on.turn_over_the_oplog()

        return await _lost(alone, folder, seed, size, lose)


async def _lost(
    members: ReplicaSet, folder: Path, seed: int, size: Size, lose: Callable[[Stage], Awaitable[None]]
) -> Result:
    async with stage(members, folder, seed=seed, servers=1) as on:
        await on.people(streaming=0)
        topics = [f"project:{on.open_project}", f"project:{on.private_project}"]
        subscriptions = len(topics) * len(on.editors)

        losses = 0

        async def all_told() -> bool:
            return all(
                topic in editor.log.live and len(editor.log.of("reset", topic)) >= losses
                for editor in on.editors
                for topic in topics
            )

        async def lose_it() -> None:
            nonlocal losses
            await asyncio.sleep(size.writes / size.per_second / (size.times + 1))
            await lose(on)
            losses += 1
            await on.until(all_told, "everybody to be told that history was lost")

        await on.during(on.write(size.writes, size.per_second), lose_it, times=size.times)
        measured = await metrics(on.http, on.processes[0])
        reopened = sum(count for name, count in measured.items() if name.startswith("copydesk_stream_reopenings"))
        begun = time.monotonic()
        findings = await on.settle(logged=False)
        equal = time.monotonic() - begun
        resets = sum(len(editor.log.of("reset", topic)) for editor in on.editors for topic in topics)
        figures: Figures = {
            "losses": size.times,
            "subscriptions": subscriptions,
            "resets": resets,
            "reopenings": int(reopened),
            "equal after, s": round(equal, 1),
        }
        never = {
            "resets too many or too few": abs(resets - size.times * subscriptions),
            "reopenings too many": max(0, int(reopened) - 5 * size.times),
        }
        return result(findings, figures, never=never, bounds={"equal after, s": 10.0})


# -- everybody at once ------------------------------------------------------------------------------------------------


async def storm(members: ReplicaSet, folder: Path, seed: int, size: Size) -> Result:
    """A process with many clients is killed and started again. `size.times` clients."""
    async with stage(members, folder, seed=seed, servers=1) as on:
        await on.people(members=size.times, streaming=0, probes=0)
        writing = asyncio.ensure_future(on.write(size.writes, size.per_second))
        try:
            await asyncio.sleep(size.writes / size.per_second / 4)
            await asyncio.to_thread(on.processes[0].kill)
            await asyncio.to_thread(on.processes[0].start)
            begun = time.monotonic()
            await on.until(lambda: _all_back(on), "everybody to be back")
            back = time.monotonic() - begun
            await writing
        finally:
            writing.cancel()
            await asyncio.wait({writing})
        measured = await metrics(on.http, on.processes[0])
        findings = await on.reckon(warnings=WARNINGS_PER_FAULT, usage=False)
        refused = sum(count for name, count in measured.items() if name.startswith("copydesk_errors"))
        figures = {
            **common(findings),
            "clients": size.times,
            "all live after, s": round(back, 1),
            "refusals": int(refused),
            "not resumed": findings.counts["not resumed"] - 2 * size.times,
        }
        return result(
            findings, figures, never={"resets": findings.counts["resets"]}, bounds={"all live after, s": 30.0}
        )


async def _all_back(on: Stage) -> bool:
    return all(editor.connections >= 2 and editor.settled for editor in on.editors)
