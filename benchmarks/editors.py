"""200 editors on one project, 50 comments a second for 20 s: does everyone get every comment once and in order?

    .venv/bin/python -m benchmarks.editors [--editors 200] [--rate 50] [--seconds 20]

Prints a table; ends with exit code 1 if anything was lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import statistics
import sys
import time
from typing import Any, Self
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from benchmarks.processes import copydesk, pin


class Listener:
    """The cheapest client there is: reads frames from a bare stream and looks for comments in them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.arrived: list[tuple[str, float]] = []
        self.live = asyncio.Event()
        self._news = asyncio.Event()

    async def until(self, count: int) -> None:
        """Wait until so many comments have arrived."""
        while len(self.arrived) < count:
            self._news.clear()
            await self._news.wait()

    @classmethod
    async def connect(cls, url: str, token: str, topic: str) -> Self:
        """Open, say hello, subscribe without a snapshot."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /api/v1/realtime HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer:
            raise RuntimeError(answer.decode())
        listener = cls(reader, writer)
        listener.say({"op": "hello", "id": 1, "token": token})
        listener.say({"op": "subscribe", "id": 2, "topic": topic, "snapshot": False})
        return listener

    def say(self, message: dict[str, Any]) -> None:
        """Send a masked text frame; the mask is zero, which is cheap and valid."""
        payload = json.dumps(message).encode()
        header = bytes([0x81, 0x80 | len(payload)]) if len(payload) < 126 else b"\x81\xfe" + len(payload).to_bytes(2)
        self._writer.write(header + b"\0\0\0\0" + payload)

    async def listen(self) -> None:
        """Take what comes, until the connection ends."""
        try:
            while True:
                header = await self._reader.readexactly(2)
                length = header[1]
                if length == 126:
                    length = int.from_bytes(await self._reader.readexactly(2))
                elif length == 127:
                    length = int.from_bytes(await self._reader.readexactly(8))
                payload = await self._reader.readexactly(length)
                if b'"push":"events"' in payload:
                    self.heard(payload)
                elif b'"push":"live"' in payload:
                    self.live.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    def heard(self, payload: bytes) -> None:
        """Note every comment and when it came."""
        now = time.perf_counter()
        for event in json.loads(payload)["events"]:
            if event["kind"] == "comment":
                self.arrived.append((event["id"], now))
                self._news.set()

    def close(self) -> None:
        """Leave."""
        self._writer.close()


async def run(editors: int, rate: int, seconds: int) -> int:
    """One run; returns the exit code."""
    with copydesk() as served:
        pin(0, pid=served.pid)
        pin(1)
        token = served.token("bench")
        client = AsyncHTTPClient(force_instance=True, max_clients=100)
        bearer = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

        async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            response = await client.fetch(
                HTTPRequest(f"{served.url}/api/v1{path}", method="POST", headers=bearer, body=json.dumps(body))
            )
            answer: dict[str, Any] = json.loads(response.body)
            return answer

        project = (await post("/projects", {"name": "Bench"}))["id"]
        # One user may have a hundred connections; as many users as that takes.
        tokens = [served.token(f"bench-{number}") for number in range(-(-editors // 90))]
        listeners = [
            await Listener.connect(served.url, tokens[number // 90], f"project:{project}") for number in range(editors)
        ]
        tasks = [asyncio.ensure_future(listener.listen()) for listener in listeners]
        await asyncio.gather(*(listener.live.wait() for listener in listeners))

        total = rate * seconds
        sent: dict[str, float] = {}
        order: list[str] = []
        cpu, began = served.cpu_seconds(), time.perf_counter()
        pending = []

        async def comment(number: int) -> None:
            at = time.perf_counter()
            made = await post(f"/projects/{project}/comments", {"body": f"Comment number {number}"})
            sent[made["id"]] = at

        for number in range(total):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            pending.append(asyncio.ensure_future(comment(number)))
        await asyncio.gather(*pending)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.gather(*(listener.until(total) for listener in listeners))
        elapsed, used = time.perf_counter() - began, served.cpu_seconds() - cpu

        for listener in listeners:
            listener.close()
        await asyncio.gather(*tasks)
        order = [name for name, _ in listeners[0].arrived]
        lost = sum(len(set(sent) - {name for name, _ in one.arrived}) for one in listeners)
        doubled = sum(len(one.arrived) - len({name for name, _ in one.arrived}) for one in listeners)
        other_order = sum([name for name, _ in one.arrived] != order for one in listeners)
        delays = sorted(at - sent[name] for one in listeners for name, at in one.arrived)
        rows = [
            ("editors", editors),
            ("comments", f"{total} at {rate}/s"),
            ("deliveries", sum(len(one.arrived) for one in listeners)),
            ("lost / doubled / editors with another order", f"{lost} / {doubled} / {other_order}"),
            ("request sent to event received, p50", f"{statistics.median(delays) * 1000:.1f} ms"),
            ("the same, p99", f"{delays[int(len(delays) * 0.99)] * 1000:.1f} ms"),
            ("server CPU-seconds (REST, MongoDB reads and fan-out)", f"{used:.2f} in {elapsed:.1f} s"),
            ("server memory", f"{served.resident_bytes() / 2**20:.0f} MiB"),
        ]
        print("| what | figure |\n| --- | --- |")
        for name, figure in rows:
            print(f"| {name} | {figure} |")
        return 1 if lost or doubled or other_order else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--editors", type=int, default=200)
    parser.add_argument("--rate", type=int, default=50, help="comments a second")
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    return asyncio.run(run(arguments.editors, arguments.rate, arguments.seconds))


if __name__ == "__main__":
    sys.exit(main())
