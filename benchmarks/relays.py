"""Copydesk and what a user would pick instead, each installed where that is needed, started and pinned to its core."""

from __future__ import annotations

import http.client
import json
import os
import platform
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jwt
from pymongo import MongoClient

from benchmarks.load import Dialect
from benchmarks.machine import LOAD_CORE, ROOT, SERVER_CORE, pin

HERE = Path(__file__).resolve().parent / "peers"
CACHE = Path.home() / ".cache" / "copydesk-benchmarks"
"""Peers are installed there, outside the repository, once."""
NPM_PACKAGES = ("mongodb@6", "ws@8", "socket.io@4")
PARSE_PACKAGES = ("parse-server@9",)
"""9 runs on Node 20, 22 and 24. Its own folder, for it brings other versions of what the relays above have."""
PIP_PACKAGES = ("python-socketio~=5.0", "aiohttp~=3.0", "pymongo~=4.0")
NCHAN = "libnginx-mod-nchan"
SECRET = secrets.token_hex(32)
MANY = "1000000"

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log error; worker_processes 1; {modules}
events {{ worker_connections 20000; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    nchan_max_reserved_memory 512m;
    server {{
        listen 127.0.0.1:{port} backlog=4096; keepalive_requests 1000000000; keepalive_timeout 1d;
        location /sub {{ nchan_subscriber; nchan_channel_id $arg_id; nchan_subscriber_first_message newest; }}
        location /pub {{
            nchan_publisher; nchan_channel_id $arg_id; nchan_message_buffer_length 20000; nchan_message_timeout 10m;
        }}
    }}
}}
"""


@dataclass
class Running:
    """A relay that listens."""

    name: str
    dialect: Dialect
    port: int
    pids: tuple[int, ...]
    """All that its user has to run for it, apart from MongoDB."""
    token: str = ""
    save: Callable[[dict[str, Any]], None] | None = None
    """Writes a comment, where the relay hears of nothing that was not saved through it."""

    @property
    def pid(self) -> int:
        """The process that holds the connections."""
        return self.pids[0]


@dataclass(frozen=True)
class Kind:
    """A relay that can be had here."""

    name: str
    start: Callable[[str, str], AbstractContextManager[Running]]
    """Given MongoDB's URI and the name of a database."""


# -- starting ---------------------------------------------------------------------------------------------------------


@contextmanager
def child(
    *command: str, core: int = SERVER_CORE, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process on a core of its own; ended with the block."""
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a child. Raises `RuntimeError` where it ended instead."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"{process.args} ended with {process.poll()}")
    return line.strip()


def ask(process: subprocess.Popen[str], count: int) -> None:
    """Give a child its next number."""
    if process.stdin is None:
        raise RuntimeError(f"{process.args} takes no questions")
    process.stdin.write(f"{count}\n")
    process.stdin.flush()


def token(user: str = "bench") -> str:
    """A bearer token that the Copydesk of this run accepts."""
    claims = {"sub": user, "aud": "copydesk", "exp": int(time.time()) + 86_400}
    return jwt.encode(claims, SECRET, algorithm="HS256")


@contextmanager
def copydesk(uri: str, database: str, *flags: str) -> Iterator[Running]:
    """This project, everything in one process."""
    settings = {
        "mongodb_uri": uri,
        "mongodb_database": database,
        "auth_secret": SECRET,
        "port": "0",
        "log_level": "warning",
        "drain_seconds": "0",
        "max_connections": MANY,
        "max_connections_per_user": MANY,
        "max_connections_per_address": MANY,
        "max_connection_rate": MANY,
        "max_requests_per_second_per_user": MANY,
        "max_requests_per_second_per_address": MANY,
        "max_topics_per_second_per_user": MANY,
        "max_idempotency_keys_per_hour_per_user": MANY,
    }
    environment = {f"COPYDESK_{name.upper()}": value for name, value in settings.items()}
    with child(sys.executable, "run.py", *flags, environment=environment) as process:
        port = int(said(process).rpartition(":")[2])
        yield Running("Copydesk", "copydesk", port, (process.pid,), token())


@contextmanager
def copydesk_without_worker(uri: str, database: str) -> Iterator[Running]:
    """A process whose notifications and change log another one derives, which holds the lease and has the other core.

    It does what the other relays do and no more.
    """
    leases = MongoClient[dict[str, Any]](uri)[database].leases
    with ExitStack() as stack:
        worker = stack.enter_context(copydesk(uri, database))
        pin(LOAD_CORE, pid=worker.pid)
        _until(lambda: leases.find_one({"_id": "worker"}) is not None, "the worker")
        running = stack.enter_context(copydesk(uri, database))
        yield replace(running, name="Copydesk, worker in another process")


@contextmanager
def _tornado(uri: str, database: str, mode: str) -> Iterator[Running]:
    names = {
        "shared": "Tornado + Motor, one stream",
        "per-socket": "Tornado + Motor, one stream per socket",
        "bare-send": "a bare `send` to each socket",
    }
    with child(sys.executable, str(HERE / "naive_relay.py"), uri, database, mode) as process:
        dialect: Dialect = "greeting" if mode == "per-socket" else "plain"
        yield Running(names[mode], dialect, int(said(process)), (process.pid,))


@contextmanager
def tornado_shared(uri: str, database: str) -> Iterator[Running]:
    """What Motor's documentation shows."""
    with _tornado(uri, database, "shared") as running:
        yield running


@contextmanager
def tornado_per_socket(uri: str, database: str) -> Iterator[Running]:
    """What many questions on the web show."""
    with _tornado(uri, database, "per-socket") as running:
        yield running


@contextmanager
def bare_send(uri: str, database: str) -> Iterator[Running]:
    """What no relay in Python can do better."""
    with _tornado(uri, database, "bare-send") as running:
        yield running


@contextmanager
def python_socketio(uri: str, database: str) -> Iterator[Running]:
    """python-socketio with aiohttp, which its documentation shows and which it takes where nothing else is said."""
    python = CACHE / "python-socketio" / "bin" / "python"
    with child(str(python), str(HERE / "python_socketio_relay.py"), uri, database) as process:
        yield Running("python-socketio", "socketio", int(said(process)), (process.pid,))


@contextmanager
def _node(name: str, dialect: Dialect, script: str, *arguments: str, folder: Path = CACHE) -> Iterator[Running]:
    # Modules are looked up beside the script, so it has to stand where they are.
    placed = folder / script
    placed.write_text((HERE / script).read_text())
    with child("node", str(placed), *arguments) as process:
        line = said(process)
        while not line.isdigit():
            # Parse first says what its next version will do in another way.
            line = said(process)
        yield Running(name, dialect, int(line), (process.pid,))


@contextmanager
def node_ws(uri: str, database: str) -> Iterator[Running]:
    """Node with the `ws` package."""
    with _node("Node ws", "plain", "ws_relay.mjs", uri, database) as running:
        yield running


@contextmanager
def socketio(uri: str, database: str) -> Iterator[Running]:
    """Node with Socket.IO."""
    with _node("Socket.IO", "socketio", "socketio_relay.mjs", uri, database) as running:
        yield running


@contextmanager
def parse(uri: str, database: str) -> Iterator[Running]:
    """Parse Server with LiveQuery, which is told by Parse's own saving: what that costs is part of what it costs."""
    port, application = free_port(), "bench"
    arguments = (uri, database, str(port), application, SECRET)
    with (
        _node("Parse Server LiveQuery", "livequery", "parse_relay.mjs", *arguments, folder=CACHE / "parse") as running,
        closing(http.client.HTTPConnection("127.0.0.1", port)) as connection,
    ):
        yield replace(running, token=application, save=partial(_save_in_parse, connection, application))


def _save_in_parse(connection: http.client.HTTPConnection, application: str, document: dict[str, Any]) -> None:
    """As the server of a CMS does: with the master key. The id and the time of making are given by Parse."""
    headers = {
        "X-Parse-Application-Id": application,
        "X-Parse-Master-Key": SECRET,
        "Content-Type": "application/json",
    }
    fields = {name: value for name, value in document.items() if name not in ("_id", "created_at")}
    connection.request("POST", "/parse/classes/Comment", json.dumps(fields).encode(), headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.client.CREATED:
        raise RuntimeError(f"Parse did not save a comment: {response.status} {answer[:500]!r}")


@contextmanager
def nchan(uri: str, database: str) -> Iterator[Running]:
    """nginx with nchan; the bridge that feeds it is part of what it costs."""
    module = CACHE / "nchan" / "usr/lib/nginx/modules/ngx_nchan_module.so"
    with tempfile.TemporaryDirectory(prefix="copydesk-bench-nchan-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        port = free_port()
        modules = f"load_module {module};" + (" user root;" if os.getuid() == 0 else "")
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, modules=modules))
        nginx = ("nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf"))
        master = stack.enter_context(child(*nginx))
        _until(lambda: _answers(port), "nginx")
        bridge = stack.enter_context(
            child(sys.executable, str(HERE / "nchan_bridge.py"), uri, database, str(port), core=LOAD_CORE)
        )
        said(bridge)
        children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
        workers = [int(pid) for pid in children if "worker" in Path(f"/proc/{pid}/cmdline").read_text()]
        yield Running("nginx/nchan + bridge", "nchan", port, (*workers, bridge.pid))


KINDS = {
    "copydesk": Kind("Copydesk", copydesk),
    "copydesk-relay": Kind("Copydesk, worker in another process", copydesk_without_worker),
    "tornado": Kind("Tornado + Motor, one stream", tornado_shared),
    "bare-send": Kind("a bare `send` to each socket", bare_send),
    "ws": Kind("Node ws", node_ws),
    "socketio": Kind("Socket.IO", socketio),
    "python-socketio": Kind("python-socketio", python_socketio),
    "nchan": Kind("nginx/nchan + bridge", nchan),
    "parse": Kind("Parse Server LiveQuery", parse),
    "tornado-per-socket": Kind("Tornado + Motor, one stream per socket", tornado_per_socket),
}


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} does not answer")
        time.sleep(0.05)


# -- installing -------------------------------------------------------------------------------------------------------


def install() -> dict[str, str]:
    """Fetch what is not in the cache yet. What each is called and in which version; an absent one says why."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return {**_install_node(), **_install_python_socketio(), **_install_nchan(), **_install_parse()}


def _install_node() -> dict[str, str]:
    try:
        node = _install_npm(CACHE, NPM_PACKAGES)
    except (OSError, subprocess.SubprocessError) as problem:
        return {"ws": f"absent: {problem}", "socketio": f"absent: {problem}"}
    has = {name: _npm_version(CACHE, name) for name in ("ws", "socket.io", "mongodb")}
    return {
        "ws": f"ws {has['ws']}, mongodb {has['mongodb']}, Node {node}",
        "socketio": f"Socket.IO {has['socket.io']}, mongodb {has['mongodb']}, Node {node}",
    }


def _install_parse() -> dict[str, str]:
    folder = CACHE / "parse"
    try:
        folder.mkdir(exist_ok=True)
        node = _install_npm(folder, PARSE_PACKAGES)
    except (OSError, subprocess.SubprocessError) as problem:
        return {"parse": f"absent: {problem}"}
    has = {name: _npm_version(folder, name) for name in ("parse-server", "mongodb", "ws")}
    return {"parse": f"Parse Server {has['parse-server']}, mongodb {has['mongodb']}, ws {has['ws']}, Node {node}"}


def _install_npm(folder: Path, packages: tuple[str, ...]) -> str:
    """Packages that are not there yet; returns Node's version, which each of them has to support."""
    if not all((folder / "node_modules" / name.partition("@")[0]).is_dir() for name in packages):
        _run("npm", "install", "--engine-strict", "--no-fund", "--no-audit", "--prefix", str(folder), *packages)
    return _run("node", "--version").lstrip("v")


def _npm_version(folder: Path, name: str) -> str:
    manifest: dict[str, str] = json.loads((folder / "node_modules" / name / "package.json").read_text())
    return manifest["version"]


def _install_python_socketio() -> dict[str, str]:
    """In an environment of its own: the project's has no use for it."""
    folder = CACHE / "python-socketio"
    python = str(folder / "bin" / "python")
    try:
        if not (folder / "version").exists():
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            _run(python, "-m", "pip", "install", "--quiet", *PIP_PACKAGES)
            listed = json.loads(_run(python, "-m", "pip", "list", "--format", "json"))
            has = {package["name"]: package["version"] for package in listed}
            versions = ", ".join(f"{name} {has[name]}" for name in ("python-socketio", "aiohttp", "pymongo"))
            (folder / "version").write_text(f"{versions}, Python {platform.python_version()}")
    except (OSError, subprocess.SubprocessError) as problem:
        return {"python-socketio": f"absent: {problem}"}
    return {"python-socketio": (folder / "version").read_text()}


def _install_nchan() -> dict[str, str]:
    """Debian's package, unpacked and not installed: the machine's own nginx stays as it is."""
    folder = CACHE / "nchan"
    try:
        if not (folder / "version").exists():
            folder.mkdir(exist_ok=True)
            _run("apt-get", "download", NCHAN, folder=folder)
            package = next(folder.glob("*.deb"))
            _run("dpkg-deb", "-x", str(package), str(folder))
            (folder / "version").write_text(_run("dpkg-deb", "-f", str(package), "Version"))
        nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip()
    except (OSError, subprocess.SubprocessError, StopIteration) as problem:
        return {"nchan": f"absent: {problem}"}
    return {"nchan": f"nchan {(folder / 'version').read_text().strip()}, {nginx}"}


def _run(*command: str, folder: Path | None = None) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
