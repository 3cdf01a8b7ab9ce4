"""For tests of what reaches listeners: waiting until all of it has, and documents as other programs write them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from tests.conftest import Copydesk
from tests.editor import Editor


async def settled(copydesk: Copydesk, *editors: Editor) -> None:
    """Until everything written up to now was published, and these editors have heard all that was sent to them."""
    moment = (await copydesk.database.command("ping"))["operationTime"]
    passed = asyncio.Event()
    copydesk.server.hub.when_settled((moment.time, moment.inc), passed.set)
    await asyncio.wait_for(passed.wait(), 20)
    for editor in editors:
        # Its reply comes after whatever was sent before.
        await editor.command("unsubscribe", topic="nothing")


def now() -> datetime:
    """As BSON keeps it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def foreign_item(id: str, project_id: str, **fields: Any) -> dict[str, Any]:  # noqa: A002 - the field's name
    """An item with nothing but what docs/data.md asks for."""
    content = {"id": f"content-{id}", "version": "1"}
    return {
        "_id": id, "project_id": project_id, "content": content, "name": "Home", "type": "page", "status": "draft",
        **fields,
    }  # fmt: skip


def foreign_comment(id: str, project_id: str, **fields: Any) -> dict[str, Any]:  # noqa: A002 - the field's name
    """A comment with nothing but what docs/data.md asks for."""
    return {"_id": id, "project_id": project_id, "body": "Hi @bob", "author": "import", "created_at": now(), **fields}


class Listening:
    """What an editor hears from one point to the next, activities left aside."""

    def __init__(self, copydesk: Copydesk, editor: Editor, *topics: str) -> None:
        self._copydesk, self._editor, self._topics = copydesk, editor, topics
        self._heard = [0] * len(topics)

    async def events(self) -> list[list[dict[str, Any]]]:
        """The events of each topic since the last call."""
        await settled(self._copydesk, self._editor)
        found = []
        for number, topic in enumerate(self._topics):
            events = [event for event in self._editor.events(topic) if event["kind"] != "activity"]
            found.append(events[self._heard[number] :])
            self._heard[number] = len(events)
        return found

    async def told(self) -> list[list[tuple[str, str, int | None]]]:
        """The same in short: what happened, to what, and the version."""
        return [
            [(event["change"], event["id"], event["version"]) for event in events] for events in await self.events()
        ]
