"""What is photographed: a server with the demo content, nginx with its usual mistakes, another site, and a Chromium."""

from __future__ import annotations

import functools
import http.server
import re
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import APIRequestContext, Browser, BrowserContext, Playwright, sync_playwright

from app import commands
from app.settings import Settings
from app.unsubscribe import Scope, Unsubscriptions
from benchmarks.processes import ROOT, Served, copydesk
from tests.real import nginx

FONTS = Path.home() / ".cache" / "copydesk-pictures" / "fonts"
"""Unpacked there, outside the repository, once. The pages take the reader's own font; bare servers have a poor one."""
FONT_PACKAGE, FONT = "fonts-inter", "Inter"
_FONT_CONFIGURATION = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>{fonts}</dir>
  <match target="pattern">
    <test name="family" compare="eq"><string>{{name}}</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>{font}</string></edit>
  </match>
</fontconfig>
"""

_SETTINGS = Settings(auth_secret=secrets.token_hex(32))
_ROLES = {"alice": ("admin", "editor"), "carol": ("editor", "translators")}
PASSWORDS = {user: f"{user}-demo" for user in ("alice", "bob", "carol")}


@dataclass
class Stage:
    """Everything that runs, and hands to set scenes with."""

    served: Served
    browser: Browser
    requests: APIRequestContext
    misled: str
    """The address of the same server behind an nginx that lets no live updates through."""
    host: str
    """The address of a page of another site, with the custom elements in it."""
    tokens: dict[str, str]

    def call(self, user: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """A REST call as somebody; the JSON of the answer. `RuntimeError` where it is refused."""
        answer = self.requests.fetch(
            f"{self.served.url}/api/v1{path}",
            method=method,
            data=body,
            headers={"Authorization": f"Bearer {self.tokens[user]}", **headers},
        )
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.text()}")
        return answer.json() if answer.body() else None

    def stop_link(self, user: str, scope: Scope) -> str:
        """The link in a mail that stops such mail."""
        token = Unsubscriptions(secrets=(_SETTINGS.auth_secret,)).token(user, scope)
        return f"{self.served.url}/api/v1/unsubscribe?token={token}"

    def window(self, user: str | None, **options: Any) -> BrowserContext:
        """A window of a browser, with somebody signed in."""
        context = self.browser.new_context(
            locale="en-GB", timezone_id="Europe/Berlin", reduced_motion="reduce", **options
        )
        context.set_default_timeout(60_000)
        if user is not None:
            answer = context.request.post(
                f"{self.served.url}/api/v1/session",
                data={"username": user, "password": PASSWORDS[user]},
                headers={"Origin": self.served.url},
            )
            if answer.status != 201:
                raise RuntimeError(f"{user} cannot sign in: {answer.text()}")
        return context


@contextmanager
def stage() -> Iterator[Stage]:
    """Start all of it; stopped at the end, and nothing is left."""
    with (
        tempfile.TemporaryDirectory(prefix="copydesk-pictures-") as folder,
        _host_site() as (site, adapt),
        copydesk(
            *("--demo", "--auth-secret", _SETTINGS.auth_secret, "--trusted-proxies", "127.0.0.1"),
            *("--trusted-origins", f"http://127.0.0.1:{site.server_port}"),
        ) as served,
        sync_playwright() as playwright,
    ):
        tokens = {user: _token(user, user.title(), *_ROLES.get(user, ("editor",))) for user in PASSWORDS}
        tokens["cms"] = _token("cms", "CMS", "service")
        adapt(served.url, tokens["bob"])
        proxy = _misleading_nginx(Path(folder), served)
        browser = chromium(playwright, Path(folder))
        try:
            yield Stage(
                served=served,
                browser=browser,
                requests=playwright.request.new_context(),
                misled=proxy.url,
                host=f"http://127.0.0.1:{site.server_port}/host.html",
                tokens=tokens,
            )
        finally:
            browser.close()
            proxy.stop()


def chromium(playwright: Playwright, folder: Path) -> Browser:
    """The system's Chromium, with a font as readers have."""
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"))),
        None,
    )
    if program is None:
        raise RuntimeError("Pictures need Chromium: apt-get install chromium")
    _fetch_fonts()
    text = _FONT_CONFIGURATION.format(fonts=FONTS, font=FONT)
    head, rule, tail = re.split(r"(  <match.*</match>\n)", text, flags=re.DOTALL)
    rules = "".join(rule.format(name=name) for name in ("system-ui", "sans-serif"))
    configuration = folder / "fonts.conf"
    configuration.write_text(head + rules + tail, encoding="utf-8")
    return playwright.chromium.launch(
        executable_path=program,
        args=["--no-sandbox", "--lang=en-GB", "--disable-gpu", "--hide-scrollbars", "--font-render-hinting=none"],
        env={"FONTCONFIG_FILE": str(configuration), "LANG": "en_GB.UTF-8", "LANGUAGE": "en_GB"},
    )


def _token(user: str, name: str, *roles: str) -> str:
    return commands.token(_SETTINGS, sub=user, roles=roles, ttl_seconds=3600, name=name, email=None)


def _fetch_fonts() -> None:
    if FONTS.exists():
        return
    with tempfile.TemporaryDirectory(prefix="copydesk-fonts-") as folder:
        subprocess.run(["apt-get", "--quiet", "download", FONT_PACKAGE], cwd=folder, check=True, capture_output=True)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg", "--extract", package, folder], check=True)
        FONTS.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(Path(folder) / "usr/share/fonts", FONTS)


def _misleading_nginx(folder: Path, served: Served) -> nginx.Nginx:
    """The shipped configuration with two mistakes that are often made: no upgrade, and nothing streamed."""
    return nginx.start(
        folder,
        [int(served.url.rpartition(":")[2])],
        nginx.without("proxy_set_header Upgrade", "proxy_set_header Connection", "proxy_buffering off"),
        nginx.replaced(
            r"(location /api/v1/events \{)", r"\1 proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"
        ),
        nginx.replaced(r"server_name copydesk\.example", "server_name 127.0.0.1"),
    )


# -- the other site ---------------------------------------------------------------------------------------------------


class _Site(http.server.BaseHTTPRequestHandler):
    """The page of docs/embedding.md."""

    def __init__(self, *arguments: Any, files: dict[str, tuple[str, str]]) -> None:
        self.files = files
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path not in self.files:
            self.send_error(404)
            return
        media_type, text = self.files[self.path]
        self.send_response(200)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_arguments: object) -> None:
        """Nobody wants to know."""


@contextmanager
def _host_site() -> Iterator[tuple[http.server.ThreadingHTTPServer, Any]]:
    files: dict[str, tuple[str, str]] = {}
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")

    def adapt(url: str, token: str) -> None:
        for language, media_type in (("html", "text/html"), ("js", "text/javascript"), ("css", "text/css")):
            (block,) = re.findall(rf"^ *```{language}\n(.*?)^ *```$", page, flags=re.MULTILINE | re.DOTALL)
            text = block.replace("https://copydesk.example", url).replace("01JD8Z", "demo-spring")
            files[f"/host.{language}"] = media_type, text
        files["/copydesk-token"] = "text/plain", token

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Site, files=files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, adapt
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
