"""The edit page and its files: what they are served with, and what is not served."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

import handlers
from tests.conftest import Copydesk

FOLDER = Path(handlers.__file__).parent
PATHS = ("/", "/diagnosis", "/static/client.js", "/favicon.ico")
FILES = sorted(path.name for path in (FOLDER / "static").iterdir())


async def fetch(copydesk: Copydesk, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    return await AsyncHTTPClient().fetch(
        copydesk.url + path,
        method=method,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        allow_nonstandard_methods=True,
        raise_error=False,
    )


def policy(response: HTTPResponse) -> dict[str, str]:
    """The directives of the content security policy."""
    parts = (part.strip().partition(" ") for part in response.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


async def test_the_page_is_served_without_signing_in(copydesk: Copydesk) -> None:
    page = await fetch(copydesk, "/")
    assert page.code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-cache"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert b"<script type" in page.body


async def test_a_page_names_every_module_that_it_will_load(copydesk: Copydesk) -> None:
    """Otherwise a browser learns of a module only when it has read the one that imports it, link after link."""
    for path, script in (("/", "page.js"), ("/diagnosis", "diagnosis.js")):
        text = (await fetch(copydesk, path)).body.decode()
        named = re.findall(r'<link rel="modulepreload" href="/static/([\w.-]+)">', text)
        assert named[0] == script
        assert len(named) == len(set(named)) > 3
        for name in named:
            source = (FOLDER / "static" / name).read_text(encoding="utf-8")
            assert set(re.findall(r'"\./([\w.-]+\.js)"', source)) <= set(named), name


async def test_the_policy_allows_own_files_and_own_sockets_only(copydesk: Copydesk) -> None:
    host = copydesk.url.removeprefix("http://")
    assert policy(await fetch(copydesk, "/")) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: https:",
        "connect-src": f"'self' ws://{host} wss://{host}",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_a_host_header_cannot_add_to_the_policy(copydesk: Copydesk) -> None:
    for host in ("localhost;script-src", "localhost;sandbox:8888"):
        page = await fetch(copydesk, "/", Host=host)
        assert page.code == 404
        assert policy(page)["connect-src"] == "'self'"
        assert "sandbox" not in policy(page)
    assert (await fetch(copydesk, "/", Host="localhost:1; sandbox")).code == 400


async def test_a_foreign_host_name_gets_no_page(copydesk: Copydesk) -> None:
    for path in PATHS:
        assert (await fetch(copydesk, path, Host="evil.example")).code == 404


async def test_every_file_is_served_with_its_type_and_revalidated(copydesk: Copydesk) -> None:
    for name in FILES:
        first = await fetch(copydesk, f"/static/{name}")
        assert first.code == 200, name
        assert first.body == (FOLDER / "static" / name).read_bytes()
        if name.endswith(".js"):
            assert first.headers["Content-Type"] == "text/javascript; charset=utf-8"
        again = await fetch(copydesk, f"/static/{name}", If_None_Match=first.headers["Etag"])
        assert (again.code, again.body) == (304, b""), name


async def test_head_answers_as_get_without_a_body(copydesk: Copydesk) -> None:
    for path in PATHS:
        head, get = await fetch(copydesk, path, "HEAD"), await fetch(copydesk, path)
        assert (head.code, head.body) == (200, b""), path
        assert head.headers["Content-Type"] == get.headers["Content-Type"]


async def test_pages_are_only_read(copydesk: Copydesk) -> None:
    for path in PATHS:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            response = await fetch(copydesk, path, method)
            assert response.code == 405, (path, method)
            assert response.headers["Allow"] == "GET, HEAD"
            assert response.headers["Content-Type"] == "application/problem+json"


async def test_nothing_but_the_files_of_the_folder_is_served(copydesk: Copydesk) -> None:
    for name in (
        "missing.js",
        "",
        "..",
        "%2e%2e%2fpages.py",
        "..%2f..%2frun.py",
        "%2fetc%2fpasswd",
        "client.js%00",
        "client.js%0a",
        ".hidden.js",
        "client.py",
        "client",
    ):
        response = await fetch(copydesk, f"/static/{name}")
        assert response.code == 404, name
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.fixture
def trusting(start_server: Callable[..., Copydesk]) -> Copydesk:
    """A server that trusts one other site."""
    return start_server(trusted_origins=("https://cms.example",))


async def test_only_trusted_sites_may_import_the_client(trusting: Copydesk) -> None:
    copydesk = trusting
    trusted = await fetch(copydesk, "/static/client.js", Origin="https://cms.example")
    assert trusted.headers["Access-Control-Allow-Origin"] == "https://cms.example"
    other = await fetch(copydesk, "/static/client.js", Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in other.headers


def test_nothing_in_the_page_is_inline_or_from_elsewhere() -> None:
    for name in ("index.html", "diagnosis.html"):
        page = (FOLDER / "templates" / name).read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|https?://", page)


def test_scripts_never_turn_text_into_markup() -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    for path in (FOLDER / "static").glob("*.js"):
        assert not forbidden.search(path.read_text()), path


def test_the_module_imports_nothing_that_the_document_does_not_name() -> None:
    client = FOLDER / "static" / "client.js"
    documented = (FOLDER.parent / "docs" / "client.md").read_text()
    for name in re.findall(r'from "\./([^"]+)"', client.read_text()):
        assert f"`{name}`" in documented
