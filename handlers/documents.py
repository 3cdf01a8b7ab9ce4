"""The API documents for programs, and the readable page at `/docs` that is made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from app.permissions import Action
from handlers.base import ApiHandler, Edge, Operation
from handlers.refusing import StreamedHandler
from models.errors import MethodNotAllowed

Document = dict[str, Any]


class DocumentHandler(ApiHandler):
    """An API document as JSON."""

    document: Document

    async def get(self) -> None:
        self.reply(self.document, etag="body")


class OpenApiHandler(DocumentHandler):
    """GET /api/v1/openapi.json"""

    route = "/api/v1/openapi.json"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="This description of the REST API, as OpenAPI 3.1", action=Action.ANYONE, answer=Document
        )
    }

    def initialize(self, *, edge: Edge, openapi: Document) -> None:
        super().initialize(edge=edge)
        self.document = openapi


class AsyncApiHandler(DocumentHandler):
    """GET /api/v1/asyncapi.json"""

    route = "/api/v1/asyncapi.json"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="The description of the realtime protocol, as AsyncAPI 3.0", action=Action.ANYONE, answer=Document
        )
    }

    def initialize(self, *, edge: Edge, asyncapi: Document) -> None:
        super().initialize(edge=edge)
        self.document = asyncapi


class DocsHandler(StreamedHandler):
    """GET /docs: all of it for people. Text and one stylesheet of our own; nothing runs."""

    route = "/docs"

    def initialize(self, *, edge: Edge, docs: bytes) -> None:
        """`docs`: the page (`handlers.docs_page.render`)."""
        super().initialize(edge=edge)
        self.docs = docs

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
        )

    async def check(self) -> None:
        await self.check_edge()
        if self.request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{(self.request.method or '')[:20]} is not available here.")

    async def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.write(self.docs)

    async def head(self) -> None:
        await self.get()
