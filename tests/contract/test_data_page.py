"""The example of docs/data.md is run as it stands there, and what it writes is seen over REST and on a socket."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.conftest import Copydesk

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


async def test_the_example_writes_what_editors_see_at_once(
    copydesk: Copydesk, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    script = tmp_path / "example.py"
    script.write_text(example, "utf-8")
    alice = await copydesk.editor("alice")
    await alice.subscribe("projects")

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        env={**os.environ, "COPYDESK_MONGODB_URI": mongodb_uri, "COPYDESK_MONGODB_DATABASE": database_name},
    )
    assert await process.wait() == 0

    entered = await alice.until_event("projects", id="import-2026")
    assert entered["doc"] == await copydesk.call("GET", "/projects/import-2026")
    await alice.subscribe("project:import-2026")
    store = alice.stores["project:import-2026"]
    item = await copydesk.call("GET", "/projects/import-2026/items/import-home")
    comment = await copydesk.call("GET", "/projects/import-2026/comments/import-remark")
    assert store.of("item")["import-home"] == item
    assert store.of("comment")["import-remark"] == comment
    assert (item["status"], item["version"], item["changed_by"]) == ("in_review", 2, "importer")
    assert (comment["mentions"], comment["thread_id"]) == (["bob"], "import-remark")
    overview = await copydesk.call("GET", "/projects/import-2026/overview")
    assert overview["counters"]["items"]["in_review"] == 1
    assert overview["me"]["role"] == "owner"
