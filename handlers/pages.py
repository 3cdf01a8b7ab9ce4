"""The edit page at `/`, and the files that it and other pages load: no build step, nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, ClassVar

from tornado import web
from tornado.template import Loader

from handlers.base import Edge, Handler
from models.errors import MethodNotAllowed, NotFound, Refusal

_FOLDER = Path(__file__).parent
_STATIC = _FOLDER / "static"
# Not the machine's own table: a browser refuses a module whose type that table gets wrong.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
}
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")
_IMPORT = re.compile(r'(?:^import|\bfrom) "\./([a-z0-9.-]+)"', re.MULTILINE)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9]+)+\Z")


class FileHandler(web.StaticFileHandler, Handler):
    """A file of one folder. A browser asks each time and mostly gets 304, so that modules of two releases never mix."""

    folder: ClassVar[Path]

    def initialize(self, *, edge: Edge) -> None:  # type: ignore[override]  # a handler takes its services by keyword
        super(web.StaticFileHandler, self).initialize(edge=edge)
        self.root, self.default_filename = str(self.folder), None

    async def prepare(self) -> None:
        await self.check_edge()
        if self.request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{(self.request.method or '')[:20]} is not available here.")

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", self.content_security_policy())
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")

    def content_security_policy(self) -> str:
        """Own scripts, own styles, own sockets, and nothing inline; pictures may be the CMS's."""
        # `'self'` covers the sockets of the same host only in newer browsers. HTTP lets a host name hold a semicolon,
        # and what follows one would be a policy of the sender's.
        host = self.request.host
        sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; "
            f"connect-src 'self'{sockets}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )

    def get_content_type(self) -> str:
        return _TYPES[Path(self.path).suffix]

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")
        # Pages of other sites may load the client module where they may use the API.
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        origin = self.request.headers.get("Origin")
        self.set_header("Vary", "Origin")
        if origin in self.edge.settings.trusted_origins:
            self.set_header("Access-Control-Allow-Origin", origin)

    def refuse(self, refusal: Refusal) -> None:
        if isinstance(refusal, MethodNotAllowed):
            self.set_header("Allow", "GET, HEAD")
        super().refuse(refusal)


class StaticHandler(FileHandler):
    """GET /static/{path}"""

    route = "/static/{path}"
    folder = _STATIC

    async def get(self, path: str, include_body: bool = True) -> None:
        if not _NAME.match(path) or Path(path).suffix not in _TYPES:
            raise NotFound("There is no such file.")
        await super().get(path, include_body)


class IconHandler(FileHandler):
    """GET /favicon.ico: browsers ask for it beside answers that are no page of ours."""

    route = "/favicon.ico"
    folder = _STATIC

    async def get(self, path: str = "favicon.svg", include_body: bool = True) -> None:
        await super().get(path, include_body)

    async def head(self, path: str = "favicon.svg") -> None:
        await self.get(path, include_body=False)


class RenderedHandler(FileHandler):
    """A page that was rendered when the process began: the same for everybody until the next release."""

    folder = _FOLDER / "templates"
    page: ClassVar[bytes]
    tag: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.tag = f'"{hashlib.sha256(cls.page).hexdigest()[:32]}"'

    async def get(self, path: str = "", include_body: bool = True) -> None:
        self.set_header("Content-Type", _TYPES[".html"])
        self.set_extra_headers(path)
        self.set_header("Content-Length", str(len(self.page)))
        if include_body:
            self.write(self.page)

    async def head(self, path: str = "") -> None:
        await self.get(path, include_body=False)

    def compute_etag(self) -> str:
        return self.tag


def rendered(template: str, script: str, **words: Any) -> bytes:
    """A page, its script and, as `modules`, all that this imports: a browser that reads imports learns of them late."""
    loader = Loader(str(RenderedHandler.folder), autoescape="xhtml_escape")
    page: bytes = loader.load(template).generate(modules=modules(script), **words)
    return page


def modules(script: str) -> list[str]:
    """A module of the static folder and what it imports, directly or not, each before what only it imports."""
    found = [script]
    for name in found:  # grows meanwhile
        text = (_STATIC / name).read_text(encoding="utf-8")
        found += [imported for imported in dict.fromkeys(_IMPORT.findall(text)) if imported not in found]
    return found


class PageHandler(RenderedHandler):
    """GET /: the one page; the views in it are told apart by the part after `#`, which is not sent."""

    route = "/"
    page = rendered("index.html", "page.js")
