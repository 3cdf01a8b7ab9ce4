"""The closed family of refusals: what Copydesk answers when it does not do what was asked.

One list of codes serves REST and sockets (``docs/rest.md``). REST sends a refusal as ``application/problem+json`` with
`status`; a socket sends `code`, `detail`, `retry` and `retry_after_ms`. Whoever raises one writes a `detail` that tells
the reader what to do next and never repeats a driver's text.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from pymongo.errors import DuplicateKeyError, PyMongoError


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with a request: a JSONPath such as ``$.items[3].name`` and a sentence."""

    path: str
    message: str


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault of ours
    """Base of every answer that is not the one asked for."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    retry: ClassVar[bool] = False
    """Whether the same request may succeed later without being changed."""

    def __init__(
        self, detail: str = "", *, errors: tuple[FieldError, ...] = (), retry_after: float | None = None
    ) -> None:
        """`retry_after` is in seconds; 429 and 503 always carry one (1 s where none is given)."""
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after = retry_after if retry_after is not None or self.status not in (429, 503) else 1.0


class Malformed(Refusal):
    """The request cannot be parsed at all."""

    code, status, title = "malformed", 400, "The request could not be read"


class Unauthenticated(Refusal):
    """No credentials, or bad ones."""

    code, status, title = "unauthenticated", 401, "Sign in first"


class TokenExpired(Refusal):
    """The token or session was good and is over."""

    code, status, title = "token_expired", 401, "The token has expired"


class Forbidden(Refusal):
    """The caller is known, sees the thing, and may not do this with it."""

    code, status, title = "forbidden", 403, "Not allowed"


class CrossOrigin(Refusal):
    """A browser sent the request on behalf of a page that is not ours."""

    code, status, title = "cross_origin", 403, "Requests from other sites are refused"


class WebSocketsDisabled(Refusal):
    """An operator switched WebSockets off."""

    code, status, title = "websockets_disabled", 403, "WebSockets are switched off on this server"


class NotFound(Refusal):
    """The thing does not exist, or the caller may not see it. The two answers are the same on purpose."""

    code, status, title = "not_found", 404, "Not found"


class MethodNotAllowed(Refusal):
    """The path exists and does not take this verb; the answer carries ``Allow``."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class Conflict(Refusal):
    """The state of the thing does not allow this."""

    code, status, title = "conflict", 409, "This conflicts with the current state"


class DuplicateContent(Refusal):
    """This version of the content, in this language, already stands in a project."""

    code, status, title = "duplicate_content", 409, "This content is already in a project"


class InProgress(Refusal):
    """A request with the same idempotency key is still running."""

    code, status, title, retry = "in_progress", 409, "The same request is still running", True


class StaleVersion(Refusal):
    """The document moved on since the caller read it; read again and retry."""

    code, status, title, retry = "stale_version", 412, "The document has changed since you read it", True


class TooLarge(Refusal):
    """The body or message is over the limit."""

    code, status, title = "too_large", 413, "Too large"


class UnsupportedMediaType(Refusal):
    """Bodies are ``application/json`` in UTF-8, not compressed."""

    code, status, title = "unsupported_media_type", 415, "Send application/json"


class Invalid(Refusal):
    """Parsed, and against the schema; `errors` says where."""

    code, status, title = "invalid", 422, "The request does not fit the schema"


class IdempotencyMismatch(Refusal):
    """The idempotency key was used before, for another body."""

    code, status, title = "idempotency_mismatch", 422, "This Idempotency-Key belongs to another request"


class UpgradeRequired(Refusal):
    """A request without a WebSocket upgrade reached the WebSocket endpoint."""

    code, status, title = "upgrade_required", 426, "This address speaks WebSocket only"


class RateLimited(Refusal):
    """This user or address has used up its share for now."""

    code, status, title, retry = "rate_limited", 429, "Too many requests", True


class Internal(Refusal):
    """A defect of ours. The details are in the log under the request id, never in the answer."""

    code, status, title, retry = "internal", 500, "Something went wrong on our side", True


class Unavailable(Refusal):
    """The database did not answer in time, or the server is going. Safe to repeat with the same key."""

    code, status, title, retry = "unavailable", 503, "Try again shortly", True


class Busy(Refusal):
    """Too much is asked of this server at the moment."""

    code, status, title, retry = "busy", 503, "Too busy, try again shortly", True


def family() -> dict[str, type[Refusal]]:
    """Every refusal there is, by its code; documents and tests are made from it."""
    return {refusal.code: refusal for refusal in Refusal.__subclasses__()}


def translate(error: BaseException) -> Refusal | None:
    """What a driver's exception means to a caller; None where it is not the driver's.

    A write that failed half way may still be committed later, so everything the driver raises for reasons of its own
    is `Unavailable`: safe to repeat, because ids are decided before the first attempt.
    """
    if isinstance(error, DuplicateKeyError):
        return Conflict("Another request changed this at the same moment. Read it again.")
    if isinstance(error, PyMongoError):
        return Unavailable("The database did not answer. Repeat the request, with its Idempotency-Key if it had one.")
    return None
