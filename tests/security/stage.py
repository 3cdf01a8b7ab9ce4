"""One Copydesk as operators run it, directly and behind nginx, and somebody healthy beside whoever attacks it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from app import commands
from app.database import Connection
from app.passwords import Passwords
from app.settings import Settings
from models.user import UserStore
from tests.editor import Editor
from tests.real import nginx
from tests.real.nginx import Nginx
from tests.real.processes import Process
from tests.security.fuzz import colleague_faults

SECRET = "s" * 32
PASSWORD = "a long enough password"
UNLIMITED = (
    "connection_rate", "connections_per_address", "connections_per_user", "requests_per_second_per_user",
    "requests_per_second_per_address", "topics_per_second_per_user", "idempotency_keys_per_hour_per_user",
)  # fmt: skip
"""Limits that the attacks in the tables are not about: they would hide what is."""
SECONDS = 20.0
"""For one answer; a busy machine is no defect."""
AT_ONCE = 16
AT_A_TIME = 50
"""Requests on one connection."""
CUT = 0
"""In place of a status: the connection ended without an answer."""
ROLES = {"root": ("admin",), "robot": ("service",)}
"""Whose name gives them more."""
DEFECTS = re.compile(r"Traceback|unhandled|task_died|Uncaught|Task exception was never|Future exception was never")

Status = tuple[int, ...]


class Door(NamedTuple):
    """A way in."""

    name: str
    port: int
    host: str
    """What a client writes into `Host`."""

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"http://127.0.0.1:{self.port}"


class Answer(NamedTuple):
    """One HTTP answer: header names in lower case, a list for those that come more than once."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of a refusal of ours."""
        if "application/problem+json" not in self.headers.get("content-type", []):
            return None
        return str(self.json["code"])


class Row(NamedTuple):
    """One attack: what is sent, and which first answers are right. `%HOST%` and `%NAME%` (a bearer) are filled in."""

    name: str
    sent: bytes
    direct: Status
    through_nginx: Status | None = None
    """Where nginx answers something else by itself."""

    def expected(self, door: Door) -> Status:
        return self.through_nginx if door.name == "nginx" and self.through_nginx is not None else self.direct


class Stage:
    """The server, nginx before it, and two private projects in it; made by the fixture `stage`."""

    def __init__(self, process: Process, proxy: Nginx, settings: Mapping[str, str]) -> None:
        self.process, self.proxy, self.settings = process, proxy, settings
        self.doors = {
            "direct": Door("direct", process.port, f"127.0.0.1:{process.port}"),
            "nginx": Door("nginx", proxy.port, proxy.host),
        }
        self._accounts: set[str] = set()
        self._cookies: set[str] = set()
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}

    def token(self, user: str = "alice", *roles: str) -> str:
        """A bearer token."""
        if (user, roles) not in self._tokens:
            self._tokens[user, roles] = commands.token(
                Settings(auth_secret=SECRET), sub=user, roles=list(roles), ttl_seconds=3600, name=None, email=None
            )
        return self._tokens[user, roles]

    @property
    def log(self) -> str:
        return self.process.log.read_text(encoding="utf-8")

    def fill(self, sent: bytes, door: Door) -> bytes:
        """Names of a row in their place."""
        sent = sent.replace(b"%HOST%", door.host.encode())
        return re.sub(rb"%([A-Z]{3,})%", lambda match: self._bearer(match[1].decode().lower()).encode(), sent)

    def _bearer(self, user: str) -> str:
        return self.token(user, *ROLES.get(user, ()))

    async def add_user(self, user: str) -> None:
        """An account with `PASSWORD`, if there is none yet."""
        if user in self._accounts:
            return
        self._accounts.add(user)
        connection, passwords = Connection(self.settings["mongodb_uri"], self.settings["mongodb_database"]), Passwords()
        users = UserStore(connection.database, report=lambda *_problem: None)
        await users.add(user, password_hash=await passwords.hash(PASSWORD), roles=("editor",), name=user.title())
        passwords.close()
        connection.close()

    async def sign_in(self, user: str) -> str:
        """The header `Cookie` of a new session of an account."""
        door = self.doors["direct"]
        origin = f"Origin: http://{door.host}"
        sign_in = {"username": user, "password": PASSWORD}
        answer = await self.request(door, "POST", "/session", sign_in, user=None, headers=[origin])
        assert answer.status == 201, answer
        cookie = answer.headers["set-cookie"][0].partition(";")[0]
        self._cookies.add(cookie.partition("=")[2])
        return cookie

    @property
    def canaries(self) -> set[str]:
        """What must be in no log: the secret, passwords, tokens, sessions."""
        return {SECRET, PASSWORD, *self._tokens.values(), *self._cookies}

    async def call(self, method: str, path: str, body: Any = None, *, user: str = "alice", door: str = "direct") -> Any:
        """One good request to the API, and the JSON of its answer."""
        answer = await self.request(self.doors[door], method, path, body, user=user)
        assert answer.status < 300, answer
        return answer.json if answer.body else None

    async def request(
        self,
        door: Door,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str | None = "alice",
        headers: Sequence[str] = (),
    ) -> Answer:
        """One request to the API; bytes are sent as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        more = [] if user is None else [f"Authorization: Bearer {self._bearer(user)}"]
        sent = http(f"{method} /api/v1{path}", *more, *headers, body=None if body is None else data)
        (answer,) = await exchange(door, self.fill(sent, door))
        return answer


def http(first: str, *headers: str, body: bytes | None = None, host: bool = True) -> bytes:
    """A request that is good where nothing else is asked for; the connection ends after it."""
    lines = [f"{first} HTTP/1.1"] + ["Host: %HOST%"] * host + ["Connection: close", *headers]
    if body is not None:
        if not any(line.lower().startswith("content-type:") for line in headers):
            lines.append("Content-Type: application/json")
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


async def in_one_go(stage: Stage, door: Door, requests: Sequence[bytes]) -> list[Answer]:
    """Good requests made by `http`, sent one behind the other; their answers in the same order."""
    found: list[Answer] = []
    for begin in range(0, len(requests), AT_A_TIME):
        some = [stage.fill(request, door) for request in requests[begin : begin + AT_A_TIME]]
        kept = [request.replace(b"Connection: close\r\n", b"", 1) for request in some[:-1]]
        got = await exchange(door, b"".join([*kept, some[-1]]))
        assert len(got) == len(some), f"{len(got)} answers to {len(some)} requests, the last {got[-1:]}"
        found += got
    return found


async def exchange(door: Door, sent: bytes, *, patience: float | None = None, first_only: bool = False) -> list[Answer]:
    """All answers to these bytes, until the server ends the connection, or has said nothing for `patience` seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=2**22)
    received = b""
    try:
        writer.write(sent)
        async with asyncio.timeout(SECONDS):
            with suppress(TimeoutError):
                while piece := await asyncio.wait_for(reader.read(2**16), patience):
                    received += piece
                    if first_only and _is_whole(received):
                        break
    except (ConnectionError, TimeoutError) as problem:
        if isinstance(problem, TimeoutError):
            raise TimeoutError(f"still open after {received[:500]!r}") from None
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return answers(received)


def _is_whole(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head.startswith(b"HTTP/1.1 101 ") or (length is not None and len(body) >= int(length[1]))


def answers(received: bytes) -> list[Answer]:
    """Bytes as HTTP answers."""
    found = []
    while b"\r\n\r\n" in received:
        head, _, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1."):
            found.append(Answer(CUT, {}, head))
            break
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        status = int(first.split(" ")[1])
        if status < 200:
            body = b""
        elif "chunked" in headers.get("transfer-encoding", []):
            body, received = _unchunked(received)
        else:
            length = int(headers.get("content-length", [str(len(received))])[0])
            body, received = received[:length], received[length:]
        if status >= 200:
            found.append(Answer(status, headers, body))
        elif status == 101:
            found.append(Answer(status, headers, b""))
            break
    return found


def _unchunked(received: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, rest = received.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        received = rest[length + 2 :]
        if length == 0:
            return body, received


async def try_all(stage: Stage, door: Door, rows: Iterable[Row], *, first_only: bool = False) -> str:
    """Send every row on a connection of its own; what was not answered as it should be.

    `first_only`: of connections that go on, the first answer is all that counts.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def attempt(row: Row) -> str | None:
        async with room:
            try:
                heard = await exchange(door, stage.fill(row.sent, door), first_only=first_only)
            except TimeoutError as problem:
                return f"{row.name}: {problem}"
        return wrong(row, row.expected(door), heard)

    return "\n".join(fault for fault in await asyncio.gather(*map(attempt, rows)) if fault is not None)


def wrong(row: Row, expected: Status, heard: Sequence[Answer]) -> str | None:
    """Pure: what is not as it should be in the answers to a row."""
    statuses = [answer.status for answer in heard] or [CUT]
    first = heard[0] if heard else Answer(CUT, {}, b"")
    if statuses[0] not in expected or any(status >= 500 and status not in expected for status in statuses):
        return f"{row.name}: {statuses} {first.body[:160]!r}, expected {expected}"
    if first.status >= 400 and first.code is not None and first.json["status"] != first.status:
        return f"{row.name}: the body says {first.json['status']}, the status is {first.status}"
    return None


@asynccontextmanager
async def undisturbed(stage: Stage) -> AsyncIterator[None]:
    """Somebody who works beside an attack: misses nothing, and nothing is in the log afterwards."""
    logged = len(stage.log)
    project = (await stage.call("POST", "/projects", {"name": "Beside"}, user="healthy"))["id"]
    topic = f"project:{project}"
    editor = await Editor.connect(stage.process.url, stage.token("healthy"))
    written: list[str] = []
    stopped = asyncio.Event()

    async def write() -> None:
        comment = await stage.call("POST", f"/projects/{project}/comments", {"body": "x"}, user="healthy")
        written.append(comment["id"])

    async def work() -> None:
        while not stopped.is_set():
            await write()
            await editor.socket.write_message('{"op": "pong"}')
            try:
                await asyncio.wait_for(stopped.wait(), 0.1)
            except TimeoutError:
                continue

    try:
        await editor.subscribe(topic)
        working = asyncio.ensure_future(work())
        try:
            yield
        finally:
            stopped.set()
            await working
        await write()
        await editor.until_event(topic, id=written[-1])
        faults = colleague_faults(written, editor.pushes[topic], closed=editor.closed.done())
        assert faults + log_faults(stage.log[logged:]) == []
    finally:
        await editor.close()


def log_faults(text: str) -> list[str]:
    """Pure: lines of the server's log that tell of a defect."""
    return [f"log: {line[:300]}" for line in text.splitlines() if DEFECTS.search(line)]


def told_of(canaries: Iterable[str], logs: Mapping[str, str]) -> list[str]:
    """Pure: which logs hold a secret, or the signature of a token, and where."""
    found = []
    for name, text in logs.items():
        for canary in canaries:
            for part in {canary, canary.rpartition(".")[2]}:
                place = text.find(part)
                if place >= 0:
                    found.append(f"{name}: {text[max(0, place - 300) : place + 20]}...")
    return found


def start(folder: Path, **settings: str) -> Stage:
    """A server and an nginx before it."""
    chosen = {
        "auth_secret": SECRET,
        "allowed_hosts": f"127.0.0.1,localhost,{nginx.SERVER_NAME}",
        "trusted_proxies": "127.0.0.1",
        "drain_seconds": "0",
        "log_format": "json",
        **{f"max_{name}": "1000000" for name in UNLIMITED},
        **settings,
    }
    process = Process(log=folder / "server.log", **chosen)
    return Stage(process, nginx.start(folder, [process.port]), chosen)
