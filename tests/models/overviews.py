"""What the tests of overviews share: a project, and its documents as other programs write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from models import schema
from models.overview_store import Moment, OverviewStore
from models.overview_update import Earlier
from models.page import PageRequest, scope

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ITEMS = "/api/v1/projects/P/items"


async def begin(database: Any) -> None:
    """Collections as the server makes them, and an empty project."""
    await schema.apply(database)
    await database.projects.insert_one({"_id": "P", "name": "Spring"})


def item(item_id: str, **fields: Any) -> dict[str, Any]:
    content = {"id": item_id, "version": "1"}
    return {
        "_id": item_id,
        "project_id": "P",
        "content": content,
        "name": "x",
        "type": "page",
        "status": "draft",
        **fields,
    }


def comment(comment_id: str, minute: int = 0, **fields: Any) -> dict[str, Any]:
    at = NOON + timedelta(minutes=minute)
    return {"_id": comment_id, "project_id": "P", "body": "Hello", "author": "bob", "created_at": at, **fields}


async def read_moment(
    overviews: OverviewStore, project_id: str = "P", *, limit: int = 200, earlier: Earlier | None = None
) -> Moment:
    """The overview as alice reads it."""
    request = PageRequest(sort="rank", scope=scope(ITEMS, "rank"), position="before", limit=limit)
    return await overviews.read(project_id, request, user_id="alice", earlier=earlier)
