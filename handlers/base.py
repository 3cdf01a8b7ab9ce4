"""What every REST handler does before and after its own few lines: who, may they, what did they send, how to answer.

A handler class lists its verbs in `operations`. `prepare` and the wrapper around each verb enforce that table (method,
sign-in, rights, query, content type, size, idempotency), so a new route cannot forget any of it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar, cast

import msgspec

from app.access import Membership, require_on_server
from app.auth import Credentials
from app.permissions import NEEDED_ROLE, Action, Identity
from app.strict_json import convert, normal, parse
from handlers.idempotent import once
from handlers.operation import BODY_LIMIT, BULK_BODY_LIMIT, Edge, Operation, Query, list_query
from handlers.refusing import Handler, StreamedHandler, UnknownPathHandler
from models import errors
from models.errors import Refusal
from models.etag import Precondition, digest, document_etag, if_match, opaque_tags
from models.fields import MakeId
from models.page import LIMIT, Page, PageRequest, scope

__all__ = [
    "BODY_LIMIT",
    "BULK_BODY_LIMIT",
    "ApiHandler",
    "Edge",
    "Handler",
    "Operation",
    "Query",
    "UnknownPathHandler",
    "list_query",
]

T = TypeVar("T")
Verb = Callable[..., Awaitable[None]]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PATH_PARAMETERS = {
    "user_id": re.compile(r"[A-Za-z0-9._-]{1,64}"),
    "subject": re.compile(r"(project|item|thread):[A-Za-z0-9_-]{1,64}"),
}
"""What else than an id of ours stands in a path."""


class ApiHandler(StreamedHandler):
    """The base of the REST handlers."""

    operations: ClassVar[Mapping[str, Operation]] = {}
    live: ClassVar[bool] = False
    """Whether it holds a connection open: then a cookie is good for our own pages only, though nothing is changed."""

    identity: Identity | None
    member: Membership
    """The caller in the project of the path; set where the operation's action belongs to a project."""
    make_id: MakeId
    """Ids for what this request creates: fresh ones, or the ones its idempotency key fixes."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for method in cls.operations:
            verb = getattr(cls, method.lower())
            if not hasattr(verb, "__wrapped__"):  # else inherited, and framed there
                setattr(cls, method.lower(), _framed(verb))

    @property
    def caller(self) -> Identity:
        """The signed-in caller of an operation that needs one."""
        if self.identity is None:
            raise errors.Unauthenticated
        return self.identity

    @property
    def operation(self) -> Operation:
        """The entry of `operations` that this request asks for."""
        method = self.request.method or ""
        operation = self.operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            raise errors.MethodNotAllowed(f"{method[:20]} is not available here.")
        return operation

    async def prepare(self) -> None:
        self.identity = None
        self.make_id = self.edge.ids
        self._body = bytearray()
        self._too_large = False
        await super().prepare()

    async def check(self) -> None:
        self.allow_trusted_origin()
        await self.check_edge()
        if self.request.method == "OPTIONS":
            return
        operation = self.operation
        credentials = await self.identify()
        self.identity = credentials.identity
        if self.identity is not None:
            user_id = self.identity.user_id
            await self.admit(lambda visit: visit.recognise(user_id))
            self.tell()
        if credentials.by_cookie and self.request.method not in ("GET", "HEAD") and not self.is_of_own_page():
            # A cookie alone does not prove that the user meant it: another site's page may have sent it along.
            raise errors.CrossOrigin(
                "With a session cookie, a change needs Origin or Sec-Fetch-Site of this site. Programs use a bearer."
            )
        if credentials.by_cookie and self.live and self.is_of_another_site():
            raise errors.CrossOrigin("With a session cookie, live updates are for this server's own pages.")
        if self.identity is None and operation.action is not Action.ANYONE:
            raise errors.Unauthenticated
        self._check_path()
        if operation.action in NEEDED_ROLE:
            project_id = self.path_kwargs["project_id"]
            self.member = await self.edge.access.require(self.identity, operation.action, project_id)
        else:
            require_on_server(self.identity, operation.action)
        self.check_query()
        if operation.body is not None:
            self._check_content_type()
            if self.announced_bytes > operation.body_limit:
                raise self._over_limit()

    def data_received(self, chunk: bytes) -> None:
        super().data_received(chunk)
        operation = self.operations.get(self.request.method or "")
        if operation is None or operation.body is None or self._too_large:
            return
        self._body += chunk
        if len(self._body) > operation.body_limit:
            self._too_large = True
            self._body.clear()

    async def identify(self) -> Credentials:
        """Who sent the request. Raises `Unauthenticated` or `TokenExpired` for a bad token."""
        return await self.edge.authenticator.identify(self.request)

    def _over_limit(self) -> Refusal:
        return errors.TooLarge(f"The body may have {self.operation.body_limit} bytes.")

    def _check_path(self) -> None:
        """An id that none of ours can be is a thing that does not exist, and never reaches the database."""
        for name, value in self.path_kwargs.items():
            if _PATH_PARAMETERS.get(name, _ID).fullmatch(value) is None:
                raise errors.NotFound

    def _check_content_type(self) -> None:
        kind, _, parameters = self.request.headers.get("Content-Type", "").partition(";")
        charset = parameters.strip().lower()
        if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
            raise errors.UnsupportedMediaType("Send the body as application/json in UTF-8.")
        if self.request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise errors.UnsupportedMediaType("Send the body without Content-Encoding.")

    def options(self, **_path: str) -> None:
        """A CORS preflight, and what anyone may ask: which verbs there are."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)

    async def head(self, **path: str) -> None:
        """As GET, and the body is dropped by the HTTP layer."""
        await cast("Verb", self.get)(**path)

    def allowed_methods(self) -> list[str]:
        return [*self.operations, *(["HEAD"] if "GET" in self.operations else []), "OPTIONS"]

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, shape: type[T]) -> T:
        """The JSON body as `shape`. Raises `Malformed` or `Invalid`."""
        return convert(parse(self.request.body), shape)

    def query(self, name: str, default: Any = None) -> Any:
        """One query argument, read as its entry in the operation says. Raises `Invalid`."""
        declared = next(query for query in self.operation.query if query.name == name)
        # As it was sent: Tornado's own reading makes spaces of control characters, and would hide a NUL.
        values = [self.decode_argument(value, name) for value in self.request.query_arguments.get(name, ())]
        if not values:
            if declared.required:
                missing = errors.FieldError(f"?{name}", "missing")
                raise errors.Invalid(f"The query argument {name!r} is missing.", errors=(missing,))
            return default
        if len(values) > 1:
            raise errors.Invalid(f"The query argument {name!r} is given twice.")
        try:
            # In the normal form that bodies are stored in, so that a filter finds what it names.
            return msgspec.convert(normal(values[0], f"?{name}"), declared.shape, strict=False)
        except msgspec.ValidationError as problem:
            raise errors.Invalid(
                f"The query argument {name!r}: {problem}.", errors=(errors.FieldError(f"?{name}", str(problem)),)
            ) from None

    def check_query(self) -> None:
        """Refuse query arguments that the operation does not know: a misspelt filter must not list everything."""
        known = {query.name for query in self.operation.query}
        for name in self.request.query_arguments:
            if name not in known:
                raise errors.Invalid(
                    f"There is no query argument {name[:100]!r} here; known: {', '.join(sorted(known)) or 'none'}.",
                    errors=(errors.FieldError(f"?{name[:100]}", "unknown"),),
                )

    def page_request(self, *, default_sort: str) -> PageRequest:
        """The page that the query asks for (see `list_query`). The position in it is from now: before the read."""
        sort = default_sort
        if any(query.name == "sort" for query in self.operation.query):
            sort = self.query("sort", default_sort)
        filters = [
            (name, value.decode("utf-8", "replace"))
            for name, values in self.request.query_arguments.items()
            for value in values
            if name not in ("limit", "cursor", "sort")
        ]
        return PageRequest(
            limit=self.query("limit", LIMIT),
            cursor=self.query("cursor"),
            sort=sort,
            scope=scope(self.route.format(**self.path_kwargs), sort, filters),
            position=self.edge.position(),
        )

    @property
    def precondition(self) -> Precondition:
        """What `If-Match` demands of the document about to be changed."""
        return if_match(self.request.headers.get("If-Match"))

    # -- answering ----------------------------------------------------------------------------------------------------

    def reply(
        self,
        value: Any = None,
        *,
        status: int = 200,
        location: str | None = None,
        etag: Literal["document", "body"] | None = None,
        without: tuple[str, ...] = (),
    ) -> None:
        """Answer with JSON, or with nothing where `value` is None.

        `etag`: from the document's version and content, or from the body without the top-level fields in `without`.
        """
        self.set_status(204 if value is None and status == 200 else status)
        self.set_header("Cache-Control", "private, no-cache")
        if location is not None:
            self.set_header("Location", location)
        if value is None:
            return
        tag = None
        if etag == "document":
            tag = document_etag(value)
        elif etag == "body":
            blank = msgspec.structs.replace(value, **dict.fromkeys(without, "")) if without else value
            tag = f'"{digest(msgspec.json.encode(blank))}"'
        self._answer(msgspec.json.encode(value), tag)

    def reply_encoded_at_position(self, body: Callable[[str], bytes], position: str) -> None:
        """As `reply_at_position`, for who makes the JSON object; `body` makes it with any position."""
        self._tell_position(position)
        self.set_header("Cache-Control", "private, no-cache")
        self._answer(body(position), f'"{digest(body(""))}"')

    def reply_page(self, page: Page[Any]) -> None:
        """Answer with one page of a list."""
        self.reply_at_position(page, page.position)

    def reply_at_position(self, value: Any, position: str) -> None:
        """Answer with what may be polled: its `position` is told in a header too, and does not count for the ETag."""
        self._tell_position(position)
        self.reply(value, etag="body", without=("position",))

    def _tell_position(self, position: str) -> None:
        self.set_header("Copydesk-Position", position)
        self.set_header("X-Poll-Interval", f"{self.edge.runtime.now.poll_seconds:g}")

    def _answer(self, body: bytes, tag: str | None) -> None:
        if tag is not None:
            self.set_header("Etag", tag)
            if self.request.method in ("GET", "HEAD") and self._not_modified():
                self.set_status(304)
                return
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.write(body)

    def _not_modified(self) -> bool:
        header = self.request.headers.get("If-None-Match")
        if header is None:
            return False
        tags = opaque_tags(header)
        return "*" in tags or self._headers["Etag"].strip('"') in tags


def _framed(verb: Verb) -> Verb:
    """A verb's method with what comes between the arrival of the body and the answer."""

    async def done(self: ApiHandler, **path: str) -> None:
        key = self.request.headers.get("Idempotency-Key")
        if key is None or not self.operation.idempotent:
            await verb(self, **path)
            return

        async def work(make_id: MakeId) -> None:
            self.make_id = make_id
            await verb(self, **path)

        await once(self, key, self.caller.user_id, work)

    @functools.wraps(verb)
    async def framed(self: ApiHandler, **path: str) -> None:
        if self._too_large:
            raise self._over_limit()
        self.request.body = bytes(self._body)
        if self.live:
            await done(self, **path)
            return
        with self.edge.unfinished.work():
            if self.identity is None:
                await done(self, **path)
                return
            # Not before the body is there: what trickles in would take the turns of all else that its user does.
            async with self.edge.admission.turns.turn(self.identity.user_id):
                await done(self, **path)

    return framed
