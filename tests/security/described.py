"""Requests made from our OpenAPI document by schemathesis, right and wrong ones, one by one and in sequences.

`python -m tests.security.described --seconds 120` is the long form, for each of nobody, a user and a stranger; 0 where
every answer was as the document says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from app import commands, mongod, openapi
from app.settings import Settings
from handlers.routes import operations
from tests.real.processes import Process
from tests.security.fuzz import SECRET, UNLIMITED

WHO = ("nobody", "alice", "stranger")
"""Alice has projects in the demo content; the stranger is an editor without any."""
ENDLESS = r"/(events/stream|realtime)$"
CONFIGURATION = """\
# A cursor belongs to its list, one field to another, a version to its document: 412 and 422 say what no schema does.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412, 422, 429, "5xx"]
"""


def ask(process: Process, folder: Path, who: str, *, seconds: int, seed: int, document: dict[str, Any]) -> str:
    """Blocks; what schemathesis says where it found something, else nothing."""
    (folder / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(folder / "schemathesis.toml"), "run",
        str(folder / "openapi.json"), "--url", process.url, "--checks", "all", "--phases", "fuzzing,stateful",
        "--max-time", str(seconds), "--seed", str(seed), "--exclude-path-regex", ENDLESS,
        "--generation-database", "none", "--request-timeout", "30",
        "--suppress-health-check", "all", "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    if who != "nobody":
        settings = Settings(auth_secret=SECRET)
        token = commands.token(settings, sub=who, roles=(), ttl_seconds=24 * 3600, name=None, email=None)
        command += ["--header", f"Authorization: Bearer {token}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    tested = "Tested:" in done.stdout
    return "" if done.returncode == 0 and tested else done.stdout + done.stderr


def start(folder: Path, uri: str, database: str) -> Process:
    """A server with demo content."""
    return Process(
        log=folder / "server.log", mongodb_uri=uri, mongodb_database=database, auth_secret=SECRET, demo="true",
        log_format="json", drain_seconds="0", **UNLIMITED,
    )  # fmt: skip


def served() -> dict[str, Any]:
    """The document as it is served."""
    return dict(openapi.document(operations(), version="1"))


def main() -> int:
    """Run what was asked for, on a MongoDB of its own; 1 where something was not as described."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for each of those who ask")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = False
    with tempfile.TemporaryDirectory(prefix="copydesk-described-") as name:
        folder = Path(name)
        database = mongod.start(folder / "data", say=lambda _text: None)
        process = start(folder, database.uri, "described")
        try:
            for who in WHO:
                said = ask(process, folder, who, seconds=given.seconds, seed=given.seed, document=served())
                print(f"{who}: {said or 'nothing found'}", flush=True)
                found = found or bool(said)
        finally:
            process.stop()
            database.stop()
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
