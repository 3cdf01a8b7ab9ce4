"""For operators and monitoring: is it alive, is it ready, what does it measure, and what reached us of a request."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from app.access import require_on_server
from app.auth import Credentials
from app.forwarded import Origin
from app.metrics import CONTENT_TYPE
from app.permissions import Action
from app.protocol import MAX_MESSAGE_BYTES, MAX_TOPICS
from app.runtime import Readiness, Runtime, transports
from handlers.base import BODY_LIMIT, BULK_BODY_LIMIT, ApiHandler, Edge, Operation
from models.errors import FieldError, Forbidden, Unauthenticated, Unavailable
from models.page import MAX_LIMIT

FORWARDING_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
UPGRADE_HEADERS = ("Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol")


class Health(msgspec.Struct, kw_only=True):
    """The process answers."""

    status: str = "ok"


class ProbeHandler(ApiHandler):
    """What a probe asks: by whatever name it reached us, and without asking who it is, for that may need MongoDB."""

    async def check_edge(self) -> None:
        """Probes use addresses, and are answered when nobody else is: what they find out is how busy we are."""

    async def identify(self) -> Credentials:
        """Whoever asks gets the same answer."""
        return Credentials()


class HealthHandler(ProbeHandler):
    """GET /healthz"""

    route = "/healthz"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(summary="Whether the process is alive.", action=Action.ANYONE, answer=Health)
    }

    async def get(self) -> None:
        self.reply(Health())


class ReadyHandler(ProbeHandler):
    """GET /readyz"""

    route = "/readyz"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Whether requests should be sent here; 503 says in `errors` what is in the way.",
            action=Action.ANYONE,
            answer=Readiness,
            refusals=(Unavailable,),
        )
    }

    def initialize(self, *, edge: Edge, readiness: Callable[[], Readiness]) -> None:
        super().initialize(edge=edge)
        self.readiness = readiness

    async def get(self) -> None:
        readiness = self.readiness()
        if readiness.reasons:
            raise Unavailable(
                " ".join(sentence for _, sentence in readiness.reasons),
                errors=tuple(FieldError(f"$.{name}", sentence) for name, sentence in readiness.reasons),
            )
        self.reply(readiness)


class MetricsHandler(ApiHandler):
    """GET /metrics"""

    route = "/metrics"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Metrics for Prometheus: for admins, and for programs on this machine that come without a proxy.",
            action=Action.ANYONE,
            media_type=CONTENT_TYPE,
            refusals=(Unauthenticated, Forbidden),
        )
    }

    async def get(self) -> None:
        if not self._from_this_machine():
            require_on_server(self.identity, Action.ADMINISTER)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("Cache-Control", "no-store")
        self.finish(self.edge.metrics.render())

    def _from_this_machine(self) -> bool:
        """Whether the peer is this machine, and no proxy on it that speaks for someone else."""
        if any(header in self.request.headers for header in FORWARDING_HEADERS):
            return False
        try:
            return ipaddress.ip_address(self.request.remote_ip or "").is_loopback
        except ValueError:
            return False


class Limits(msgspec.Struct, kw_only=True):
    """What a client has to keep to."""

    topics: Annotated[int, Meta(description="Topics per connection.")] = MAX_TOPICS
    message_bytes: Annotated[int, Meta(description="Bytes of one message to the socket.")] = MAX_MESSAGE_BYTES
    body_bytes: Annotated[int, Meta(description="Bytes of one REST body.")] = BODY_LIMIT
    bulk_body_bytes: Annotated[int, Meta(description="Bytes of the body of a bulk call.")] = BULK_BODY_LIMIT
    page_size: Annotated[int, Meta(description="Entries of one page of a list.")] = MAX_LIMIT


class Config(msgspec.Struct, kw_only=True):
    """What a client has to know before it connects. No `transports`: updates are not live."""

    version: str
    transports: list[str]
    ping_seconds: int | float
    poll_seconds: int | float
    limits: Limits


class ConfigHandler(ApiHandler):
    """GET /api/v1/config"""

    route = "/api/v1/config"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(summary="How to connect. Needs no sign-in.", action=Action.ANYONE, answer=Config)
    }

    def initialize(self, *, edge: Edge, runtime: Runtime, version: str, available: tuple[str, ...]) -> None:
        """`available`: the transports that this server has, whether or not they are switched on."""
        super().initialize(edge=edge)
        self.runtime, self.version, self.available = runtime, version, available

    async def get(self) -> None:
        now = self.runtime.now
        self.reply(
            Config(
                version=self.version,
                transports=transports(now, self.available),
                ping_seconds=self.edge.settings.ping_seconds,
                poll_seconds=now.poll_seconds,
                limits=Limits(),
            )
        )


class Diagnostics(msgspec.Struct, kw_only=True):
    """What reached this server of a request, after all that stands before it."""

    scheme: Annotated[str, Meta(description="As the browser used it, as far as we can know.")]
    host: str
    remote_address: Annotated[str, Meta(description="The client, as far as we can know.")]
    peer_address: Annotated[str, Meta(description="The other end of the TCP connection.")]
    trusted_proxy: Annotated[bool, Meta(description="Whether the peer is in COPYDESK_TRUSTED_PROXIES.")]
    http_version: str
    forwarding_headers: dict[str, str]
    upgrade_headers: dict[str, str]
    transports: Annotated[list[str], Meta(description="Those that work on the way that this request took.")]
    advice: list[str]


class DiagnosticsHandler(ApiHandler):
    """GET /api/v1/diagnostics"""

    route = "/api/v1/diagnostics"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="What reached us: send it with the headers of a WebSocket handshake to see which of them arrive.",
            action=Action.ANYONE,
            answer=Diagnostics,
        )
    }

    def initialize(self, *, edge: Edge, runtime: Runtime, available: tuple[str, ...]) -> None:
        super().initialize(edge=edge)
        self.runtime, self.available = runtime, available

    async def get(self) -> None:
        request, origin = self.request, self.origin
        forwarding, upgrade = self._arrived(FORWARDING_HEADERS), self._arrived(UPGRADE_HEADERS)
        offered = transports(self.runtime.now, self.available)
        missing = _missing_of_upgrade(upgrade, request.version)
        self.reply(
            Diagnostics(
                scheme=origin.scheme,
                host=request.host,
                remote_address=origin.address,
                peer_address=request.remote_ip or "",
                trusted_proxy=origin.proxied,
                http_version=request.version,
                forwarding_headers=forwarding,
                upgrade_headers=upgrade,
                transports=[transport for transport in offered if transport != "websocket" or not missing],
                advice=[*_advice_on_upgrade(offered, missing), *_advice_on_proxies(forwarding, origin)],
            )
        )

    def _arrived(self, names: tuple[str, ...]) -> dict[str, str]:
        return {name: self.request.headers[name][:500] for name in names if name in self.request.headers}


def _advice_on_upgrade(offered: list[str], missing: list[str]) -> list[str]:
    if "websocket" not in offered:
        return ["WebSockets are switched off on this server."]
    if not missing:
        return []
    sentence = f"No {' and no '.join(missing)} arrived. If you sent that, a proxy in between dropped it: "
    return [sentence + "see /docs#behind-nginx."]


def _missing_of_upgrade(headers: dict[str, str], http_version: str) -> list[str]:
    """What of a WebSocket handshake (RFC 6455, 4.2.1) did not arrive."""
    connection = {part.strip().lower() for part in headers.get("Connection", "").split(",")}
    checks = {
        "`Upgrade: websocket`": headers.get("Upgrade", "").lower() == "websocket",
        "`Connection: Upgrade`": "upgrade" in connection,
        "`HTTP/1.1`": http_version != "HTTP/1.0",
    }
    return [name for name, arrived in checks.items() if not arrived]


def _advice_on_proxies(forwarding: dict[str, str], origin: Origin) -> list[str]:
    if not origin.proxied:
        if not forwarding:
            return []
        sentence = (
            "Forwarding headers came from an address that is not trusted, and are ignored. If that is your proxy, "
        )
        return [sentence + "add it to COPYDESK_TRUSTED_PROXIES."]
    missing = [name for name in ("X-Forwarded-For", "X-Forwarded-Proto") if name not in forwarding]
    return [f"The proxy does not send {' and '.join(missing)}: let it set them."] if missing else []
