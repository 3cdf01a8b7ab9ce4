"""The base of every handler, pages included, and how each says no: in one shape, whatever it was that went wrong."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

import msgspec
import structlog
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPServerRequest

from app.admission import Visit
from app.forwarded import Origin
from handlers.operation import Edge
from models import errors
from models.errors import Refusal
from models.idempotency import Answer

log = structlog.get_logger("copydesk.http")

_BY_STATUS: dict[int, type[Refusal]] = {
    403: errors.CrossOrigin,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.TooLarge,
}
"""What Tornado itself refuses. Its other 4xx are requests that it could not read."""

READ_TO_NOWHERE = 16 * 1024 * 1024
"""Bytes of a refused body that are read, and dropped, so that the client sees the refusal."""
_LENGTH = re.compile(r"[0-9]{1,18}")
HSTS_SECONDS = 365 * 86_400
MAX_HEADERS = 100
"""Lines in the head of a request. Browsers send some twenty, and proxies some more."""
SECRET_ARGUMENTS = frozenset(
    {"token", "access_token", "id_token", "refresh_token", "auth", "authorization", "jwt", "bearer", "password"}
)

_EXPOSED = (
    "ETag, Location, Retry-After, Copydesk-Position, X-Poll-Interval, Copydesk-Counts, RateLimit, RateLimit-Policy"
)
_ACCEPTED = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID"


class Handler(web.RequestHandler):
    """Request id, host allow-list, headers, problem+json."""

    edge: Edge
    route: ClassVar[str] = ""
    secret_arguments: ClassVar[frozenset[str]] = SECRET_ARGUMENTS
    """Query arguments that nobody may send: proxies, browsers and the pages that links lead to write addresses down."""
    _visit: Visit | None = None
    _give_up = False

    def _take_edge(self, *, edge: Edge) -> None:
        self.edge = edge

    # As Tornado declares it: subclasses take, by name, what else they need.
    initialize: Callable[..., None] = _take_edge

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        # What is no page can be opened as one. Pages have policies of their own.
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    @property
    def request_id(self) -> str:
        """One id per request, in every log line and every error answer of it."""
        if not hasattr(self, "_request_id"):
            self._request_id = self.edge.ids()
        return self._request_id

    async def check_edge(self) -> None:
        """What is asked of every request before it is looked at, whoever sends it."""
        self.check_host()
        self.edge.admission.pressure.check()
        self._visit = self.edge.admission.visit(self.origin.address)
        await self.admit(lambda visit: visit.arrive(self.announced_bytes))
        self.tell()
        if self.secret_arguments & {name.lower() for name in self.request.query_arguments}:
            raise errors.Malformed(
                "A token in an address ends up in logs. Send it in the Authorization header; on a socket, with hello."
            )
        if sum(1 for _ in self.request.headers.get_all()) > MAX_HEADERS:
            raise errors.Malformed(f"A request may have {MAX_HEADERS} header lines.")

    async def admit(self, charge: Callable[[Visit], None]) -> None:
        """Count the request against a limit. A refusal is kept back, so that a flood of them cannot come fast."""
        if self._visit is None:
            return
        try:
            charge(self._visit)
        except errors.RateLimited:
            if not await self.edge.admission.hold():
                self.set_header("Connection", "close")
                self._give_up = True
            raise

    @property
    def origin(self) -> Origin:
        """Where the request comes from."""
        return self.edge.authenticator.proxies.origin(self.request)

    @property
    def announced_bytes(self) -> int:
        """What `Content-Length` says; 0 where it says nothing, or nonsense that Tornado will refuse."""
        announced = self.request.headers.get("Content-Length", "")
        return int(announced) if _LENGTH.fullmatch(announced) else 0

    def is_of_own_page(self) -> bool:
        """Whether a browser says that the request comes from one of our own pages; silence is no."""
        return same_origin(self.request, scheme=self.edge.authenticator.proxies.origin(self.request).scheme)

    def is_of_another_site(self) -> bool:
        """Whether a browser says that a page of another site asks; silence is no, and an address typed as well."""
        if "Sec-Fetch-Site" in self.request.headers:
            return self.request.headers["Sec-Fetch-Site"] not in ("same-origin", "none")
        return "Origin" in self.request.headers and not self.is_of_own_page()

    def check_host(self) -> None:
        """Refuse a name that is not ours: it would make every same-origin check pass for the sender (DNS rebinding)."""
        name = _host_name(self.request.host)
        if name not in self.edge.settings.allowed_hosts:
            shown = (name or self.request.host)[:100]
            raise errors.NotFound(
                f"This server does not answer for the host name {shown!r}. Add it to COPYDESK_ALLOWED_HOSTS."
            )

    def allowed_methods(self) -> list[str]:
        """What `Allow` names."""
        return ["GET", "HEAD"]

    def tell(self) -> None:
        """Headers that depend on the request: of limits, and that TLS is to stay."""
        if self.origin.scheme == "https":
            self.set_header("Strict-Transport-Security", f"max-age={HSTS_SECONDS}")
        if self._visit is not None:
            for name, value in self._visit.headers:
                self.set_header(name, value)

    def allow_trusted_origin(self) -> None:
        """Let pages of the trusted origins read the answer (CORS); never with a cookie of ours."""
        self.set_header("Vary", "Origin, Authorization, Cookie")
        origin = self.request.headers.get("Origin")
        if origin is None or origin not in self.edge.settings.trusted_origins:
            return
        self.set_header("Access-Control-Allow-Origin", origin)
        self.set_header("Access-Control-Expose-Headers", _EXPOSED)
        if self.request.method == "OPTIONS":
            self.set_header("Access-Control-Allow-Methods", ", ".join(self.allowed_methods()))
            self.set_header("Access-Control-Allow-Headers", _ACCEPTED)
            self.set_header("Access-Control-Max-Age", "600")

    def prepared_answer(self, *names: str) -> Answer:
        """What is about to be sent, with the headers of these names."""
        headers = {name: self._headers[name] for name in names if name in self._headers}
        return Answer(status=self.get_status(), headers=headers, body=b"".join(self._write_buffer))

    def compute_etag(self) -> str | None:
        """Tornado would hash every body; `ApiHandler.reply` knows better tags."""
        return None

    def on_finish(self) -> None:
        self.edge.metrics.request(
            method=self.request.method or "",
            route=self.route,
            status=self.get_status(),
            seconds=self.request.request_time(),
        )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error answer of the server, in its one shape."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        self.refuse(self.refusal_of(error, status_code))

    def refusal_of(self, error: BaseException | None, status_code: int) -> Refusal:
        """What to tell the client about an exception. Never the exception's own words, unless they are ours."""
        if isinstance(error, Refusal):
            return error
        translated = None if error is None else errors.translate(error)
        if translated is not None:
            return translated
        if isinstance(error, web.MissingArgumentError):
            return errors.Invalid(f"The query argument {error.arg_name!r} is missing.")
        if isinstance(error, web.HTTPError) and 400 <= status_code < 500:
            return _BY_STATUS.get(status_code, errors.Malformed)()
        return errors.Internal(f"Tell the operator the request id {self.request_id}; the server's log says more.")

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """A refusal is an answer, not news; only a defect of ours leaves a traceback."""
        if isinstance(value, Refusal | web.HTTPError):
            return
        if errors.translate(value) is not None:
            # The driver's words are for the operator; the answer has ours.
            log.warning("database_error", request_id=self.request_id, error=typ.__name__, detail=str(value)[:500])
            return
        log.error("unhandled", request_id=self.request_id, path=self.request.path, exc_info=(typ, value, tb))

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal as problem+json (RFC 9457)."""
        for name in ("Etag", "Location", "Content-Length"):
            self.clear_header(name)
        self.set_status(refusal.status)
        # Again: Tornado empties the headers before it writes an error.
        self.allow_trusted_origin()
        self.tell()
        if self._give_up:
            self.set_header("Connection", "close")
        self.set_header("Content-Type", "application/problem+json")
        self.set_header("Cache-Control", "no-store")
        if refusal.retry_after is not None:
            self.set_header("Retry-After", str(max(1, math.ceil(refusal.retry_after))))
        if refusal.status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        if refusal.status == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.edge.metrics.errors.labels(refusal.code).inc()
        self.finish(self.problem_body(refusal))

    def problem_body(self, refusal: Refusal) -> bytes:
        """The JSON of a refusal."""
        problem: dict[str, Any] = {
            "type": f"/docs#error-{refusal.code}",
            "title": refusal.title,
            "status": refusal.status,
            "code": refusal.code,
            "detail": refusal.detail,
            "request_id": self.request_id,
        }
        if refusal.errors:
            problem["errors"] = refusal.errors
        return msgspec.json.encode(problem)


@web.stream_request_body  # so that all is checked before the body comes, and Tornado parses no form for us
class StreamedHandler(Handler):
    """A handler that sees its body in pieces, and refuses only when it has come to its end.

    An answer in the middle of a body makes Tornado close the connection, and a client that is still sending would find
    a reset in place of the answer. So what is refused is still read, to nowhere, unless it is very long or the client
    waits for a go-ahead (RFC 9110, 10.1.1).
    """

    _received = 0

    async def check(self) -> None:
        """Raise where the request is to be refused. The body has not come yet."""

    async def prepare(self) -> None:
        connection = cast("HTTP1Connection", self.request.connection)
        connection.set_max_body_size(READ_TO_NOWHERE)
        if self.announced_bytes > READ_TO_NOWHERE:
            connection.set_max_body_size(self.announced_bytes)  # or Tornado adds a refusal of its own to ours
            raise errors.TooLarge
        try:
            await self.check()
        except Exception as error:
            if "Expect" in self.request.headers:
                raise
            # In the place of the verb, which Tornado calls when the body is there.
            setattr(self, (self.request.method or "").lower(), functools.partial(_raise, error))

    def data_received(self, chunk: bytes) -> None:
        """One piece of the body. Nobody wants it here."""
        self._received += len(chunk)

    def on_finish(self) -> None:
        super().on_finish()
        if self._visit is not None and self._received:
            self._visit.received(self._received)


class UnknownPathHandler(StreamedHandler):
    """Whatever the route table does not know."""

    async def check(self) -> None:
        await self.check_edge()
        raise errors.NotFound("There is nothing at this address. The API is described at /docs.")

    def refusal_of(self, error: BaseException | None, status_code: int) -> Refusal:
        """Also for a verb that no path has: the address is what is wrong."""
        refusal = super().refusal_of(error, status_code)
        return errors.NotFound() if isinstance(refusal, errors.MethodNotAllowed) else refusal


async def _raise(error: Exception, **_path: str) -> None:
    raise error


def same_origin(request: HTTPServerRequest, *, scheme: str) -> bool:
    """As `Handler.is_of_own_page`.

    `scheme` is what the request came by as far as we know. Where that is https, a page that came by http is not ours:
    anybody on its way could have written it. The other way round it is: what ends TLS before us need not say so.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    parts = _split(origin)
    return parts.scheme in {"https", scheme} and parts.netloc.lower() == request.host.lower() != ""


def _host_name(host: str) -> str:
    """The name in a `Host` header, in lower case; empty where there is none, or its port is no number of a port."""
    parts = _split("//" + host)
    try:
        return "" if parts.port == 0 else parts.hostname or ""
    except ValueError:
        return ""


def _split(url: str) -> Any:
    """The parts of a URL; those of an empty one where a client sent what is none, such as half an IPv6 address."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
