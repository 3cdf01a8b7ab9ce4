"""A WebSocket client that may break every rule: raw requests, raw frames, and a receive buffer of its own size."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.conftest import Copydesk


def started_with(**settings: Any) -> pytest.MarkDecorator:
    """Marks a test: its `copydesk` has these settings."""
    return pytest.mark.parametrize("copydesk", [settings], indirect=True, ids=[""])


PATH = "/api/v1/realtime"
TEXT, BINARY, CLOSE = 1, 2, 8
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Answer(msgspec.Struct):
    """The answer to a handshake: header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The refusal, which has to have its one shape."""
        assert self.headers["content-type"] == "application/problem+json", self.headers
        assert "server" not in self.headers
        problem: dict[str, Any] = json.loads(self.body)
        assert set(problem) >= {"type", "title", "status", "code", "detail", "request_id"}
        assert problem["status"] == self.status
        return problem


class RawSocket:
    """One TCP connection. Closed by `close`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames: list[bytes] = []
        self._holding = False

    @classmethod
    async def open(cls, copydesk: Copydesk, *, receive_buffer: int | None = None) -> RawSocket:
        """Connect. `receive_buffer`: bytes that the kernel takes for us before the server has to wait."""
        address = urlsplit(copydesk.url)
        made = socket.socket()
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (address.hostname, address.port))
        # A small limit here too, so that a client that does not read really does not.
        return cls(*await asyncio.open_connection(sock=made, limit=1024 if receive_buffer else 2**24))

    async def request(
        self,
        copydesk: Copydesk,
        changed: Mapping[str, str | None] | None = None,
        *,
        more: Iterable[tuple[str, str]] = (),
        path: str = PATH,
        method: str = "GET",
        body: bytes = b"",
    ) -> Answer:
        """A good handshake, with some headers changed (None: left out), and the answer to it."""
        headers: dict[str, str | None] = {
            "Host": urlsplit(copydesk.url).netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            **(changed or {}),
        }
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (*headers.items(), *more) if value is not None]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next HTTP answer."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)).decode()
        first, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        """One masked, final frame (RFC 6455, 5.2)."""
        length = len(payload)
        if length < 126:
            header = struct.pack(">BB", 0x80 | opcode, 0x80 | length)
        elif length < 65536:
            header = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            header = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, length)
        self._frames.append(header + bytes(4) + payload)
        if not self._holding:
            self.flush()

    def say(self, **command: Any) -> None:
        """One command."""
        self.send(json.dumps(command).encode())

    def hold(self) -> None:
        """Keep what is sent until `flush`, so that it arrives in one piece."""
        self._holding = True

    def flush(self) -> None:
        """Send what was kept."""
        self._holding = False
        self.writer.write(b"".join(self._frames))
        self._frames.clear()

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        first, length = await asyncio.wait_for(self.reader.readexactly(2), 20)
        if length == 126:
            (length,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        opcode, payload = await self.frame()
        assert opcode == TEXT, (opcode, payload)
        heard: dict[str, Any] = json.loads(payload)
        return heard

    async def close_code(self) -> int:
        """The code of the next close frame, whatever comes before it."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                (code,) = struct.unpack(">H", payload[:2])
                return int(code)

    async def close(self) -> None:
        """Cut the connection, and wait until that is done."""
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


async def shake(copydesk: Copydesk, changed: Mapping[str, str | None] | None = None, **options: Any) -> Answer:
    """The answer to one handshake; its connection is closed."""
    connection = await RawSocket.open(copydesk)
    try:
        return await connection.request(copydesk, changed, **options)
    finally:
        await connection.close()


async def sign_in(copydesk: Copydesk) -> str:
    """Make an account for carol and sign in: the header `Cookie` of her session."""
    user, password = "carol", "correct horse"
    server = copydesk.server
    await server.stores.users.add(user, password_hash=await server._passwords.hash(password))
    response = await copydesk.request(
        "POST", "/session", {"username": user, "password": password}, user=None, Origin=copydesk.url
    )
    assert response.code == 201, response.body
    return response.headers["Set-Cookie"].partition(";")[0]
