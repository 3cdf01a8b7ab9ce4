"""Secrets that can be told from anything else go everywhere they may go; no log of server, nginx or MongoDB has one."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from app import commands, mongod
from app.settings import Settings
from tests.app.mail_server import mail_box
from tests.editor import Editor
from tests.real.conftest import BEHIND_NGINX
from tests.real.nginx import Nginx, replaced
from tests.real.processes import ROOT, Process


def canary(name: str) -> str:
    """A secret that stands nowhere else, and with which every kind of secret is content."""
    return f"canary-{name}-{uuid.uuid4().hex}"


def forms(secret: str) -> set[bytes]:
    """How it may be written: as it is, in a URL, in base64 at any place in a longer text."""
    raw = secret.encode()
    # The first and the last characters depend on what stands beside.
    inside = {base64.b64encode(bytes(shift) + raw)[4 if shift else 0 : -4] for shift in range(3)}
    return {raw, quote(secret).encode(), *inside}


def found(secrets: dict[str, str], logs: dict[str, Path]) -> set[tuple[str, str]]:
    """Which secrets are in which logs."""
    texts = {name: path.read_bytes() for name, path in logs.items()}
    return {
        (secret, name)
        for secret, value in secrets.items()
        for name, text in texts.items()
        if any(form in text for form in forms(value))
    }


class Leaking(Process):
    """A server that does what ours must not."""

    program = "tests/security/leaking_run.py"


class Stage:
    """MongoDB with a user, and the secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kinds = ("auth_secret", "auth_secret_previous", "smtp_password", "mongodb_password", "password", "wrong")
        self.secrets = {kind: canary(kind) for kind in kinds}
        self.secrets |= {kind: canary(kind) for kind in ("query", "bearer", "basic", "cookie", "hello", "key")}
        self.mongod = mongod.start(folder / "data", say=lambda _text: None)
        self.client = pymongo.MongoClient[dict[str, Any]](self.mongod.uri)
        self.client.admin.command(
            "createUser", "copydesk", pwd=self.secrets["mongodb_password"],
            roles=[{"role": "root", "db": "admin"}],
        )  # fmt: skip
        # Every command is logged, however fast it was.
        self.client.admin.command("profile", 0, slowms=-1)
        self.client.admin.command("setParameter", 1, logComponentVerbosity={"command": {"verbosity": 1}})
        self.uri = self.mongod.uri.replace("//", f"//copydesk:{self.secrets['mongodb_password']}@")
        self.uri += "&authSource=admin"

    def settings(self, **more: str) -> dict[str, str]:
        shared = {name: ",".join(value) for name, value in BEHIND_NGINX.items()}
        names = ("auth_secret", "auth_secret_previous", "smtp_password")
        return {
            **shared, **{name: self.secrets[name] for name in names}, "mongodb_uri": self.uri, "drain_seconds": "0",
            "log_level": "debug", "log_format": "json", **more,
        }  # fmt: skip

    def token(self, user: str) -> str:
        """Kept among the secrets, and so is its signature."""
        settings = Settings(auth_secret=self.secrets["auth_secret"])
        token = commands.token(settings, sub=user, roles=(), ttl_seconds=3600, name=None, email=None)
        self.secrets |= {f"token of {user}": token, f"signature of {user}": token.rpartition(".")[2]}
        return token


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A MongoDB of the test's own, for its log."""
    made = Stage(tmp_path)
    yield made
    made.client.close()
    made.mongod.stop()


async def use_every_secret(stage: Stage, nginx: Nginx) -> None:
    """Once where it is right, and where it is wrong."""
    client = AsyncHTTPClient()

    async def call(method: str, path: str, body: Any = None, **headers: str) -> HTTPResponse:
        sent = {"Host": nginx.host} | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        return await client.fetch(
            f"{nginx.url}/api/v1{path}", method=method, headers=sent, body=None if body is None else json.dumps(body),
            raise_error=False, allow_nonstandard_methods=True,
        )  # fmt: skip

    secrets = stage.secrets
    alice, bob = stage.token("alice"), stage.token("bob")
    for password, status in ((secrets["wrong"], 401), (secrets["password"], 201)):
        answer = await call("POST", "/session", {"username": "dora", "password": password})
        assert answer.code == status, answer.body
    cookie = answer.headers.get("Set-Cookie", "")
    secrets["session"] = cookie.partition("=")[2].partition(";")[0]
    assert len(secrets["session"]) > 20
    name = cookie.partition("=")[0]
    assert (await call("GET", "/session", Cookie=f"{name}={secrets['session']}")).code == 200
    # Not what a body may look like.
    assert (await call("POST", "/session", {"username": "dora", "pass": secrets["password"]})).code == 422
    assert (await call("GET", "/session", Cookie=f"{name}={secrets['cookie']}")).code == 401
    assert (await call("GET", "/session", Authorization=f"Bearer {secrets['bearer']}")).code == 401
    assert (await call("GET", "/session", Authorization=f"Basic {secrets['basic']}")).code == 401
    for path in ("/session", "/realtime", "/events/stream", "/unsubscribe", "/nowhere"):
        assert (await call("GET", f"{path}?token={secrets['query']}")).code >= 400
    made = json.loads((await call("POST", "/projects", {"name": "P"}, Authorization=f"Bearer {alice}")).body)
    await call("GET", "/session", Authorization=f"Bearer {bob}")
    answer = await call(
        "POST", f"/projects/{made['id']}/comments", {"body": "@bob"}, Authorization=f"Bearer {alice}",
        Idempotency_Key=secrets["key"],
    )  # fmt: skip
    assert answer.code == 201, answer.body
    editor = await Editor.connect(nginx.url, alice, headers={"Host": nginx.host})
    try:
        await editor.subscribe(f"project:{made['id']}")
        assert "error" in await editor.command("refresh", token=secrets["hello"])
        assert "ok" in await editor.command("refresh", token=alice)
    finally:
        await editor.close()
    stranger = await Editor.connect(nginx.url, hello=False, headers={"Host": nginx.host})
    try:
        await stranger.command("hello", token=secrets["hello"])
    finally:
        await stranger.close()
    assert (await call("DELETE", "/session?everywhere=true", Authorization=f"Bearer {bob}")).code == 204
    client.close()


def add_user(stage: Stage) -> None:
    """Dora, on the command line; blocks."""
    environment = {f"COPYDESK_{name.upper()}": value for name, value in stage.settings().items()}
    done = subprocess.run(
        [sys.executable, "run.py", "user", "add", "dora", "--password-stdin"],
        cwd=ROOT, env=environment, input=stage.secrets["password"] + "\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (stage.folder / "command.log").write_text(done.stdout + done.stderr, encoding="utf-8")


async def test_no_secret_is_in_any_log_and_planted_leaks_are_found(
    stage: Stage, start_nginx: Callable[..., Nginx], tmp_path: Path
) -> None:
    await asyncio.to_thread(add_user, stage)
    stage.client.copydesk.users.insert_one({"_id": "bob", "name": "Bob", "email": "bob@cms.example", "version": 1})
    logs = {name: tmp_path / f"{name}.log" for name in ("command", "server", "nginx", "leaking")}
    # What nginx itself tells, as far as that is no copy of all headers, which its debug messages are.
    verbose = replaced(r"\A", f"error_log {logs['nginx']} info;\n")
    logs["mongod"] = next(tmp_path.glob("data/**/*.log"))

    async with mail_box() as box:
        mail = {
            "smtp_host": "127.0.0.1", "smtp_port": str(box.port), "smtp_security": "none", "smtp_username": "copydesk",
            "mail_from": "copydesk@cms.example", "public_url": "https://copydesk.example", "mail_delay_seconds": "0.1",
        }  # fmt: skip
        server = await asyncio.to_thread(lambda: Process(log=logs["server"], **stage.settings(**mail)))
        try:
            nginx = await asyncio.to_thread(lambda: start_nginx([server.port], verbose))
            logs["access"] = next(tmp_path.glob("nginx-1/access.log"))
            logs["errors"] = next(tmp_path.glob("nginx-1/error.log"))
            await use_every_secret(stage, nginx)
            async with asyncio.timeout(30):
                # The mail server offers no sign-in, which the server logs when it has tried to send the mail.
                while b"mail" not in logs["server"].read_bytes():  # noqa: ASYNC110 - reads a file
                    await asyncio.sleep(0.02)
        finally:
            await asyncio.to_thread(server.stop)
    del logs["leaking"]
    assert [
        name for name, path in logs.items() if name not in ("command", "nginx", "errors") and path.stat().st_size < 500
    ] == []
    assert found(stage.secrets, logs) == set()

    # Each log, with one leak.
    logs["leaking"] = tmp_path / "leaking.log"
    server = await asyncio.to_thread(lambda: Leaking(log=logs["leaking"], **stage.settings()))
    try:
        whole = replaced(r'"path":"\$uri"', '"path":"$request_uri"')
        nginx = await asyncio.to_thread(lambda: start_nginx([server.port], whole))
        logs["access"] = tmp_path / "nginx-2" / "access.log"
        await use_every_secret(stage, nginx)
    finally:
        await asyncio.to_thread(server.stop)
    # MongoDB logs what is searched for, though not what is inserted.
    stage.client.copydesk.users.find_one({"password": stage.secrets["password"]})
    leaked = found(stage.secrets, logs)
    assert {"password", "wrong", "session", "bearer", "cookie", "key", "token of alice"} <= {
        secret for secret, log in leaked if log == "leaking"
    }
    assert ("query", "access") in leaked
    assert ("password", "mongod") in leaked


def test_a_secret_is_found_in_every_form(tmp_path: Path) -> None:
    secret = canary("x") + "/+ü"
    log = tmp_path / "log"
    for text in (
        secret,
        quote(secret),
        *(base64.b64encode(b"?" * n + secret.encode() + b"?").decode() for n in range(6)),
    ):
        log.write_text(f"before {text} after", encoding="utf-8")
        assert found({"x": secret, "y": canary("y")}, {"log": log}) == {("x", "log")}, text
