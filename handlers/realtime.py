"""The WebSocket endpoint: the handshake's refusals, Tornado's callbacks, and the bytes.

What is said over it is `app.conversation`'s.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

import msgspec
import structlog
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from app.allowance import Pace
from app.connections import Connections
from app.conversation import Conversation
from app.hub import Hub
from app.joining import Joiner
from app.metrics import Transport
from app.permissions import Action, Identity
from app.protocol import HELLO_SECONDS, SUBPROTOCOL, CloseCode, Frame, reply_error
from app.runtime import Runtime
from handlers.frames import PROTOCOL_ERROR, StrictFrames
from handlers.operation import Edge, Operation
from handlers.outbox import Outbox, OutboxConnection
from handlers.refusing import Handler
from models import errors

log = structlog.get_logger("copydesk.socket")

FRAMES_PER_MESSAGE = 10
"""Frames of any kind that may come for each message: its fragments, pings, pongs."""
FORWARDING_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
_WHY: Mapping[CloseCode, errors.Refusal] = {
    CloseCode.ROLES_CHANGED: errors.Unauthenticated("Your roles have changed, or you have signed out."),
    CloseCode.DISABLED: errors.WebSocketsDisabled(
        "WebSockets were switched off on this server; /api/v1/config lists the transports that are on."
    ),
}
"""What is said before closes that nothing the client did has led to. Others are said where they are decided."""


class RealtimeHandler(OutboxConnection, Handler, WebSocketHandler):
    """GET /api/v1/realtime, upgraded. Implements `app.joining.Listener` and `app.connections.Connection`."""

    route = "/api/v1/realtime"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Open a WebSocket that speaks the realtime protocol.",
            action=Action.ANYONE,
            status=101,
            refusals=(
                errors.CrossOrigin,
                errors.WebSocketsDisabled,
                errors.UpgradeRequired,
                errors.RateLimited,
                errors.Unavailable,
            ),
        )
    }
    transport: Transport = "websocket"

    def initialize(
        self,
        *,
        edge: Edge,
        hub: Hub,
        joiner: Joiner,
        connections: Connections,
        runtime: Runtime,
        ready: Callable[[], bool],
    ) -> None:
        super().initialize(edge=edge)
        self.hub, self.joiner, self.connections = hub, joiner, connections
        self.runtime, self.ready = runtime, ready
        self.opened_at, self.heard_at = time.time(), time.monotonic()
        self._conversation: Conversation | None = None
        self._wrong_subprotocol = False
        self._hello_timer: asyncio.TimerHandle | None = None
        self._left_with: int | None = None
        self.shaken_user: str | None = None

    # -- the handshake ------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        self.identity = None
        await self.check_edge()
        if self.request.method not in self.allowed_methods():
            raise errors.MethodNotAllowed
        self._check_upgrade()
        if not self.runtime.now.websockets_enabled:
            raise errors.WebSocketsDisabled(
                "WebSockets are switched off on this server; /api/v1/config lists the transports that are on."
            )
        self._check_key()
        credentials = await self.edge.authenticator.identify(self.request)
        self._check_origin(by_cookie=credentials.by_cookie)
        self.identity = credentials.identity
        if self.identity is not None:
            shaken = self.shaken_user = self.identity.user_id
            await self.admit(lambda visit: visit.recognise(shaken))
        self.address = self.origin.address
        if not self.ready():
            raise errors.Unavailable("This server is not ready yet, or is stopping.", retry_after=2.0)
        self.connections.check_room(self.address, self.identity)

    def _check_upgrade(self) -> None:
        """What a proxy without WebSocket support makes of a handshake gets an answer that says so."""
        headers = self.request.headers
        upgrade = headers.get("Upgrade", "").lower()
        connection = {part.strip().lower() for part in headers.get("Connection", "").split(",")}
        # Tornado would answer 101 to HTTP/1.0 and then hang up without a word. nginx speaks it unless told otherwise.
        old = self.request.version == "HTTP/1.0"
        if upgrade == "websocket" and "upgrade" in connection and not old:
            if headers.get("Sec-WebSocket-Version") != "13":
                raise errors.UpgradeRequired("This server speaks version 13 of the WebSocket protocol.")
            if headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers:
                raise errors.Malformed("A WebSocket handshake has no body.")
            return
        missing = [] if upgrade == "websocket" else ["Upgrade: websocket"]
        if "upgrade" not in connection:
            missing.append("Connection: Upgrade")
        fields = [errors.FieldError(f"header {name.partition(':')[0]}", f"expected `{name}`") for name in missing]
        if old:
            missing.append("HTTP/1.1")
            fields.append(errors.FieldError("HTTP version", "expected `HTTP/1.1`"))
        arrived = [name for name in FORWARDING_HEADERS if name in headers]
        seen = f"forwarding headers that arrived: {', '.join(arrived)}" if arrived else "no forwarding header arrived"
        raise errors.UpgradeRequired(
            f"The request came without {' and without '.join(missing)} ({seen}). If a WebSocket client sent it, a proxy"
            " in between dropped the upgrade: see /docs#behind-nginx.",
            errors=tuple(fields),
        )

    def refuse(self, refusal: errors.Refusal) -> None:
        """A 426 names what it wants instead (RFC 9110, 15.5.22, and RFC 6455, 4.4)."""
        if isinstance(refusal, errors.UpgradeRequired):
            self.set_header("Upgrade", "websocket")
            self.set_header("Connection", "Upgrade")
            self.set_header("Sec-WebSocket-Version", "13")
        super().refuse(refusal)

    def problem_body(self, refusal: errors.Refusal) -> bytes:
        """A 426 also shows what arrived, for people who look for the proxy that dropped the upgrade."""
        body = super().problem_body(refusal)
        if not isinstance(refusal, errors.UpgradeRequired):
            return body
        headers = self.request.headers
        shown = ("Connection", "Upgrade", "Sec-WebSocket-Version", *FORWARDING_HEADERS)
        received = {name: headers[name] for name in shown if name in headers}
        return msgspec.json.encode({**msgspec.json.decode(body), "received": received, "help": "/docs#behind-nginx"})

    def _check_key(self) -> None:
        keys = self.request.headers.get_list("Sec-WebSocket-Key")
        try:
            good = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
        except (binascii.Error, ValueError):
            good = False
        if not good:
            raise errors.Malformed("Sec-WebSocket-Key must be one key of 16 bytes in base 64.")

    def _check_origin(self, *, by_cookie: bool) -> None:
        """A browser opens sockets to any site and sends cookies along; a script has no Origin, and needs a token."""
        origin = self.request.headers.get("Origin")
        trusted = origin is not None and origin in self.edge.settings.trusted_origins
        if self.is_of_own_page() or (trusted and not by_cookie):
            return
        if origin is None and "Sec-Fetch-Site" not in self.request.headers and not by_cookie:
            return
        raise errors.CrossOrigin(
            "The page that opens this socket is of another site. An operator can add it to COPYDESK_TRUSTED_ORIGINS."
        )

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        protocol = super().get_websocket_protocol()
        if not isinstance(protocol, WebSocketProtocol13):
            return protocol
        pace = Pace(FRAMES_PER_MESSAGE * self.edge.settings.max_messages_per_second)
        return StrictFrames(protocol, fail=self._fail, pace=pace)

    def check_origin(self, origin: str) -> bool:
        """Decided in `prepare`, where the answer has a readable body."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        if SUBPROTOCOL in subprotocols:
            return SUBPROTOCOL
        if subprotocols:
            # A browser would not see the close code of a handshake that selects nothing.
            self._wrong_subprotocol = True
            return subprotocols[0]
        return None

    async def head(self, **_path: str) -> None:
        raise errors.UpgradeRequired

    # -- Tornado's callbacks ------------------------------------------------------------------------------------------

    def open(self, *_args: str, **_kwargs: str) -> None:
        stream = self.ws_connection.stream if self.ws_connection is not None else None
        if stream is None or stream.closed():  # the peer left while `prepare` waited: `on_close` has been already
            return
        # Nobody asks for the handshake's headers any more; they would be a tenth of what an idle connection keeps.
        self.request.headers.clear()
        self._visit = None
        self.set_nodelay(True)
        self._outbox = Outbox(
            stream, max_bytes=self._max_pending_bytes, too_slow=self._too_slow, stuck=self.connections.stuck
        )
        if self._wrong_subprotocol:
            self.leave(CloseCode.PROTOCOL)
            return
        loop = asyncio.get_running_loop()
        self._conversation = Conversation(
            self,
            connection_id=self.request_id,
            handshake=self.identity,
            hub=self.hub,
            joiner=self.joiner,
            authenticator=self.edge.authenticator,
            ping_seconds=self.edge.settings.ping_seconds,
            admit=self._admit,
            join=self.edge.admission.join,
            refused=self._count_refusal,
            pace=Pace(self.edge.settings.max_messages_per_second),
            later=loop.call_later,
        )
        self.identity = None
        self._hello_timer = loop.call_later(HELLO_SECONDS, self._expect_hello)
        self.connections.add(self)
        log.debug("socket_opened", connection_id=self.request_id, address=self.address)

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        # Tornado makes a task of what is to be awaited, which a pong is not worth.
        self.heard_at = time.monotonic()
        if self._conversation is None or self._closing:
            return None
        if isinstance(message, bytes):
            self.leave(CloseCode.BINARY)
            return None
        hearing = self._conversation.hear(message)
        return None if hearing is None else self._heard(hearing, self._conversation)

    async def _heard(self, hearing: Awaitable[None], conversation: Conversation) -> None:
        await hearing
        identity = conversation.identity
        if identity is not None and identity is not self.identity:
            self.identity = identity
            await self.may_stay(identity)

    def on_close(self) -> None:
        self._closing = True
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        if self._conversation is not None:
            self._conversation.end()
        if self._outbox is not None:
            self._outbox.shut()
            self.connections.remove(self)
            self.edge.metrics.closes.labels(_said(self._left_with, self.close_code)).inc()
        log.debug("socket_closed", connection_id=self.request_id, code=self.close_code)

    def _expect_hello(self) -> None:
        self._hello_timer = None
        if self._conversation is not None and self._conversation.identity is None and not self._closing:
            self._conversation.close(
                CloseCode.UNAUTHENTICATED, errors.Unauthenticated(f"No hello within {HELLO_SECONDS} seconds.")
            )

    # Methods, because what an idle connection keeps counts: a closure takes three times the memory of a bound method.

    def _max_pending_bytes(self) -> int:
        return self.runtime.now.max_pending_bytes

    def _admit(self, identity: Identity) -> None:
        self.connections.admit(self, identity, paced=identity.user_id == self.shaken_user)

    def _count_refusal(self, refusal: errors.Refusal) -> None:
        self.edge.metrics.errors.labels(refusal.code).inc()

    # -- app.hub.Subscriber, app.joining.Listener, app.connections.Connection ------------------------------------------

    @property
    def id(self) -> str:
        return self.request_id

    @property
    def all_live(self) -> bool:
        return self._conversation is None or self._conversation.all_live

    @property
    def topics(self) -> list[str]:
        return [] if self._conversation is None else self._conversation.topics

    def send(self, frame: Frame) -> None:
        # Each call less counts here: this is done once for each listener of each event. What is closing has an outbox
        # that takes nothing.
        outbox = self._outbox
        if outbox is not None:
            data, connections = frame.websocket, self.connections
            connections.frames_out += 1
            connections.bytes_out += len(data)
            outbox.send(data)

    def leave(self, code: CloseCode) -> None:
        if code is CloseCode.SLOW and not self._closing:
            self.edge.metrics.slow_closes.inc()
        if code in _WHY and self._outbox is not None:
            self.send(reply_error(None, _WHY[code]))
        self._end(int(code), code.name.lower())

    def _fail(self, code: int) -> None:
        """A frame broke a rule, or there were too many."""
        if code == CloseCode.TRY_LATER and self._conversation is not None and not self._closing:
            self._conversation.close(CloseCode.TRY_LATER, errors.RateLimited("Too many frames.", retry_after=1.0))
        elif code == PROTOCOL_ERROR:
            self._end(code, "protocol_error")
        else:
            self.leave(CloseCode(code))

    def _end(self, code: int, reason: str) -> None:
        """Send the close frame, and nothing after it. Tornado cuts the connection 5 s later if the client does not."""
        if self._closing:
            return
        self._closing, self._left_with = True, code
        if self._conversation is not None:
            self._conversation.end()
        if self._outbox is not None:
            self._outbox.shut()
        self.close(code, reason)

    def _too_slow(self) -> None:
        self.leave(CloseCode.SLOW)


def _said(ours: int | None, theirs: int | None) -> str:
    """What a metric says of a close: our code, or one of the few that clients send; they can send any number."""
    if ours is not None:
        return str(ours)
    if theirs is None:
        return "none"
    return str(theirs) if theirs in (1000, 1001) else "other"
