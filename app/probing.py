"""Tries each way to a Copydesk once, from a program, and says what was seen. Judges nothing, and raises nothing."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.websocket import WebSocketClientConnection, websocket_connect

REST_SECONDS = 10.0
REPLY_SECONDS = 5.0
STREAM_SECONDS = 6.0
POLL_SECONDS = 2
LONGEST_POLL = 25
PINGS = 2.2
"""Two pings come within this many times the time between them, with some to spare."""
CLIENT = "copydesk-doctor/1"

_API = "/api/v1"
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
_HELLO = json.dumps({"op": "hello", "id": 1, "client": CLIENT})
_LOST = (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError)


class Answer(msgspec.Struct, kw_only=True):
    """What came back of one request; `status` is None where nothing did."""

    status: int | None = None
    type: str = ""
    body: dict[str, Any] = {}
    """The JSON of the answer; empty where it was none."""
    server: str = ""
    """Who says to have answered. Copydesk itself does not say."""
    location: str = ""
    error: str = ""
    untrusted: bool = False
    """Whether it was the certificate."""
    seconds: float = 0.0

    @property
    def detail(self) -> str:
        """What a refusal says."""
        return str(self.body.get("detail", ""))


class SocketSeen(msgspec.Struct, kw_only=True):
    """What became of a WebSocket."""

    refused: Answer | None = None
    """The answer to the handshake, where it was not 101."""
    answered: bool = False
    user: str = ""
    seconds: float = 0.0


class StreamSeen(msgspec.Struct, kw_only=True):
    """What became of an event stream; times are None where something did not come."""

    refused: Answer | None = None
    first_seconds: float | None = None
    live_seconds: float | None = None
    seconds: float = 0.0


class PollSeen(msgspec.Struct, kw_only=True):
    """What became of a long poll that was to wait."""

    answer: Answer
    wait: int


class Quiet(msgspec.Struct, kw_only=True):
    """How a connection bore silence. `cut`: it ended though nobody at its ends said so."""

    cut: bool
    silence: float
    """Seconds of the longest quiet time, or of the one in which it was cut."""
    code: int | None = None
    wait: int = 0


class Way:
    """One way to Copydesk: an address, and the name under which users know it."""

    def __init__(self, url: str, *, public_url: str | None = None, token: str = "") -> None:
        """`public_url`: what Host and Origin name where `url` leads past the proxy. Raises ValueError."""
        self.url = url.rstrip("/")
        public = urlsplit(public_url or url)
        for parts in (urlsplit(url), public):
            odd = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
            if parts.scheme not in ("http", "https") or not parts.hostname or odd:
                raise ValueError(f"{url!r} is not an address such as https://copydesk.example")
            _ = parts.port  # raises where it is no number
        self._parts = urlsplit(self.url)
        self.origin = f"{public.scheme}://{public.netloc.lower()}"
        self.host, self.name, self.scheme = public.netloc.lower(), str(public.hostname), self._parts.scheme
        self._token = token
        self._verified = True
        self._client: AsyncHTTPClient = AsyncHTTPClient(force_instance=True)

    def close(self) -> None:
        """Let go of what is open."""
        self._client.close()

    def forget_token(self) -> None:
        """Go on as nobody."""
        self._token = ""

    def go_on_untrusted(self) -> None:
        """Go on though the certificate is not to be trusted, and without the token, which must not reach a stranger."""
        self._token, self._verified = "", False

    @property
    def has_token(self) -> bool:
        """Whether there is a token to send."""
        return bool(self._token)

    # -- tries --------------------------------------------------------------------------------------------------------

    async def get(self, path: str, *, seconds: float = REST_SECONDS, headers: dict[str, str] | None = None) -> Answer:
        """One GET below /api/v1."""
        begun = time.monotonic()
        try:
            response = await self._client.fetch(self._request(path, seconds, headers or {}), raise_error=False)
        except (*_LOST, HTTPClientError) as problem:
            return self._failed(problem, begun)
        return _answer(response, time.monotonic() - begun)

    async def reached(self) -> Answer:
        """What arrives of a request that looks like a handshake."""
        return await self.get("/diagnostics", headers=_UPGRADE)

    async def socket(self) -> SocketSeen:
        """Open a WebSocket as a page does, and say hello."""
        begun = time.monotonic()
        opened = await self._open_socket()
        if isinstance(opened, Answer):
            return SocketSeen(refused=opened)
        seen = SocketSeen(seconds=time.monotonic() - begun)
        try:
            await opened.write_message(_HELLO)
            async with asyncio.timeout(REPLY_SECONDS):
                reply = _json(await opened.read_message())
        except TimeoutError:
            reply = {}
        finally:
            opened.close()
        seen.answered = bool(reply)
        seen.user = str(reply.get("ok", {}).get("user", {}).get("id", ""))
        return seen

    async def stream(self) -> StreamSeen:
        """Read the event stream until it is live."""
        begun = time.monotonic()
        seen = StreamSeen()
        try:
            async with asyncio.timeout(STREAM_SECONDS), self._open_stream() as (refused, reader):
                if refused is not None:
                    return StreamSeen(refused=refused)
                text = b""
                while piece := await reader.read(65536):
                    seen.first_seconds = seen.first_seconds or time.monotonic() - begun
                    text += piece
                    if b"event: live" in text:
                        seen.live_seconds = time.monotonic() - begun
                        return seen
        except _LOST:
            pass
        seen.seconds = time.monotonic() - begun
        return seen

    async def poll(self, wait: int = POLL_SECONDS) -> PollSeen:
        """A long poll that has to wait."""
        first = await self.get("/events?topics=inbox")
        if first.status != 200:
            return PollSeen(answer=first, wait=0)
        since = quote(str(first.body.get("position", "")), safe="")
        path = f"/events?topics=inbox&since={since}&wait={wait}"
        return PollSeen(answer=await self.get(path, seconds=wait + REST_SECONDS), wait=wait)

    # -- silence ------------------------------------------------------------------------------------------------------

    async def quiet_socket(self, seconds: float) -> Quiet | None:
        """Keep a WebSocket open for so long. None where it does not open."""
        opened = await self._open_socket()
        if isinstance(opened, Answer):
            return None
        silence = _Silence()
        try:
            # To a hello of nobody the server answers by closing; without any it waits for a while.
            if self.has_token:
                await opened.write_message(_HELLO)
            async with asyncio.timeout(seconds):
                while (message := await opened.read_message()) is not None:
                    silence.hear()
                    if _json(message).get("push") == "ping":
                        await opened.write_message('{"op":"pong"}')
        except TimeoutError:
            return Quiet(cut=False, silence=silence.longest)
        finally:
            opened.close(1000)
        code = opened.close_code
        return Quiet(cut=code is None, silence=silence.since_last if code is None else silence.longest, code=code)

    async def quiet_stream(self, seconds: float) -> Quiet | None:
        """Keep an event stream open for so long. None where nothing comes out of it."""
        silence, text = _Silence(), b""
        try:
            async with asyncio.timeout(seconds), self._open_stream() as (refused, reader):
                if refused is not None:
                    return None
                while piece := await reader.read(65536):
                    text = (text + piece)[-2000:]
                    silence.hear()
        except TimeoutError:
            return Quiet(cut=False, silence=silence.longest) if silence.times else None
        except _LOST:
            pass
        if not silence.times:
            return None
        told = b"event: error" in text or b"event: drain" in text
        return Quiet(cut=not told, silence=silence.longest if told else silence.since_last)

    async def quiet_poll(self, seconds: float) -> Quiet | None:
        """A long poll as long as they may be. None where none begins."""
        wait = min(LONGEST_POLL, int(seconds) - 2)
        seen = await self.poll(wait)
        if seen.wait == 0:
            return None
        answer = seen.answer
        return Quiet(cut=answer.status != 200, silence=round(answer.seconds, 1), code=answer.status, wait=wait)

    # -- how ----------------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        headers = {"Host": self.host, "User-Agent": CLIENT}
        return {**headers, "Authorization": f"Bearer {self._token}"} if self._token else headers

    def _request(self, path: str, seconds: float, headers: dict[str, str]) -> HTTPRequest:
        return HTTPRequest(
            self.url + _API + path,
            headers={**self._headers(), **headers},
            connect_timeout=min(seconds, REST_SECONDS),
            request_timeout=seconds,
            follow_redirects=False,
            validate_cert=self._verified,
        )

    async def _open_socket(self) -> WebSocketClientConnection | Answer:
        """A WebSocket, or the answer of whoever refused it."""
        begun = time.monotonic()
        request = self._request("/realtime", REST_SECONDS, {"Origin": self.origin})
        request.url = request.url.replace("http", "ws", 1)
        try:
            return await websocket_connect(request)
        except HTTPClientError as problem:
            if problem.response is None or problem.code == 599:
                return self._failed(problem, begun)
            return _answer(problem.response, time.monotonic() - begun)
        except _LOST as problem:
            return self._failed(problem, begun)

    @asynccontextmanager
    async def _open_stream(self) -> AsyncIterator[tuple[Answer | None, asyncio.StreamReader]]:
        """An event stream after its head. Written by hand, because Tornado's client cannot leave an answer half-way."""
        context = None
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            if not self._verified:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        port = self._parts.port or (443 if context else 80)
        reader, writer = await asyncio.open_connection(self._parts.hostname, port, ssl=context)
        try:
            head = "".join(f"{name}: {value}\r\n" for name, value in self._headers().items())
            path = f"{_API}/events/stream?topics=inbox&snapshot=false"
            writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
            yield await _refusal(reader), reader
        finally:
            writer.close()

    def _failed(self, problem: BaseException, begun: float) -> Answer:
        return Answer(
            error=_words(problem),
            untrusted=isinstance(problem, ssl.SSLCertVerificationError),
            seconds=time.monotonic() - begun,
        )


def duration(ping_seconds: float) -> float:
    """Seconds for which silence is measured: long enough for two pings."""
    return max(ping_seconds * PINGS + 3, 8)


class _Silence:
    """How long nothing was heard, longest. In seconds."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._longest = 0.0
        self.times = 0

    def hear(self) -> None:
        self._longest = max(self._longest, self.since_last)
        self._heard = time.monotonic()
        self.times += 1

    @property
    def since_last(self) -> float:
        return round(time.monotonic() - self._heard, 1)

    @property
    def longest(self) -> float:
        return max(self._longest, self.since_last)


async def _refusal(reader: asyncio.StreamReader) -> Answer | None:
    """The head of an answer read; None where it is that of an event stream."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status = int(head.split(" ", 2)[1]) if head.startswith("HTTP/1.") else 0
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
    }
    kind = headers.get("content-type", "").partition(";")[0]
    if status == 200 and kind == "text/event-stream":
        return None
    length = headers.get("content-length", "")
    body = await reader.readexactly(min(int(length), 65536)) if length.isdigit() else b""
    return Answer(status=status, type=kind, body=_json(body), server=headers.get("server", ""))


def _answer(response: HTTPResponse, seconds: float) -> Answer:
    return Answer(
        status=response.code,
        type=response.headers.get("Content-Type", "no content type").partition(";")[0],
        body=_json(response.body or b""),
        server=response.headers.get("Server", ""),
        location=response.headers.get("Location", ""),
        seconds=seconds,
    )


def _json(text: str | bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(text or b"null")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _words(problem: BaseException) -> str:
    """What went wrong, in the system's words."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return problem.verify_message or "it cannot be verified"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    if isinstance(problem, HTTPClientError):
        return (problem.message or "no answer").rstrip(".")
    return str(problem) or type(problem).__name__
