"""What the README shows is run as it stands there."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import Copydesk

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def _snippet(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match[1]


async def test_the_python_client_of_the_readme_receives_a_comment(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    arguments = (_snippet("python"), copydesk.url, copydesk.token("bob"), project)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"waiting for comments\n"
        await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Hello from the README"})
        assert await process.stdout.readline() == b"alice: Hello from the README\n"
    finally:
        process.kill()
        await process.communicate()


def test_the_clients_of_the_readme_are_short() -> None:
    for language in ("html", "python"):
        assert len(_snippet(language).splitlines()) <= 21


def test_every_page_that_the_readme_names_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
