"""A real nginx for tests, with the configuration that is shipped: only names, ports and paths are changed.

A test may plant one more change, such as a line taken out; a change that finds nothing to change is an error, so that
an edit of the shipped file cannot turn a test into one that cannot fail.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
SERVER_NAME = "copydesk.example"

Edit = Callable[[str], str]

_MAIN = """\
{user}worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/copydesk.conf;
}}
"""


def replaced(pattern: str, by: str) -> Edit:
    """An edit: every match of a regular expression becomes `by`. `AssertionError` where there is no match."""

    def edit(text: str) -> str:
        changed, count = re.subn(pattern, by, text, flags=re.MULTILINE)
        assert count, f"{pattern!r} is not in deploy/nginx.conf"
        return changed

    return edit


def without(*words: str) -> Edit:
    """An edit: the lines that begin with these words are missing."""

    def edit(text: str) -> str:
        for line in words:
            text = replaced(rf"^ *{re.escape(line)}.*\n", "")(text)
        return text

    return edit


class Nginx:
    """A running nginx; made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, tls_port: int, folder: Path) -> None:
        self._process, self._folder = process, folder
        self.port, self.tls_port = port, tls_port
        self.host = f"{SERVER_NAME}:{port}"
        self.url = f"http://127.0.0.1:{port}"

    @property
    def access_log(self) -> str:
        """What was logged so far."""
        return (self._folder / "access.log").read_text(encoding="utf-8", errors="backslashreplace")

    @property
    def logs(self) -> dict[str, str]:
        """All that was logged so far, by name."""
        return {
            f"nginx {path.stem}": path.read_text(encoding="utf-8", errors="backslashreplace")
            for path in sorted(self._folder.glob("*.log"))
        }

    def stop(self) -> None:
        """End it, and every connection."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=20)


def start(folder: Path, upstreams: Sequence[int], *edits: Edit) -> Nginx:
    """nginx before Copydesks on these ports of this machine, its files in `folder`. Accepts connections at once."""
    plain, tls = _listening(), _listening()
    port, tls_port = plain.getsockname()[1], tls.getsockname()[1]
    text = SHIPPED.read_text(encoding="utf-8")
    for edit in (*edits, *_local(folder, port, tls_port, upstreams)):
        text = edit(text)
    (folder / "copydesk.conf").write_text(text, encoding="utf-8")
    user = "user root;\n" if os.geteuid() == 0 else ""  # the usual one may not enter the folder
    (folder / "nginx.conf").write_text(_MAIN.format(user=user, folder=folder), encoding="utf-8")
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert program is not None, "nginx is not installed: apt-get install nginx-light"
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t", "-q"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    # nginx takes over sockets named in this variable, as it does from its predecessor in an upgrade of the program. So
    # nobody can take the port in between, and there is nothing to wait for.
    with plain, tls:
        process = subprocess.Popen(
            command,
            env={"NGINX": f"{plain.fileno()};{tls.fileno()};"},
            pass_fds=(plain.fileno(), tls.fileno()),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return Nginx(process, port, tls_port, folder)


def _listening() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0), backlog=511)
    listening.setblocking(False)
    return listening


def _local(folder: Path, port: int, tls_port: int, upstreams: Sequence[int]) -> list[Edit]:
    """What makes the shipped file run on this machine, as whoever runs the tests."""
    servers = "".join(f"    server 127.0.0.1:{each} \\1\n" for each in upstreams)
    return [
        without("listen [::]:"),
        replaced(r"\blisten 80\b", f"listen 127.0.0.1:{port}"),
        # Also where it is a comment, and nothing listens there.
        replaced(r"\blisten 443\b", f"listen 127.0.0.1:{tls_port}"),
        replaced(r"/etc/ssl/copydesk", str(folder)),
        replaced(r"/var/log/nginx/copydesk\.log", str(folder / "access.log")),
        replaced(r"(?:^    server 127\.0\.0\.1:\d+ (.*)\n)+", servers),
    ]
