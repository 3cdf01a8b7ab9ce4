"""Reads a stretch of the change stream that lies behind: for who was away longer than memory reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bson import Timestamp

from app.changes import Change, needs_lookup, read_change
from app.feed import AWAIT_MS, PIPELINE
from app.position import Position, following, token_time
from models.database_types import Database


async def read_stretch(database: Database, after: Position, until: Position) -> AsyncIterator[list[Change]]:
    """The watched changes after one position up to another, in order, in slices.

    Raises `pymongo.errors.PyMongoError`; a code in `app.feed.HISTORY_LOST` means that the oplog does not reach back.
    """
    if after >= until:
        return
    stream = database.watch(
        PIPELINE,
        full_document="whenAvailable",
        full_document_before_change="whenAvailable",
        max_await_time_ms=AWAIT_MS,
        start_at_operation_time=Timestamp(*after.time),
    )
    async with stream:
        position = Position(*after.time)
        changes: list[Change] = []
        while True:
            document = await stream.try_next()
            if document is None:
                if changes:
                    yield changes
                    changes = []
                reached = token_time(stream.resume_token)
                if reached is not None and reached >= until.time:
                    return
                continue
            position = following(position, (document["clusterTime"].time, document["clusterTime"].inc))
            if position > until:
                break
            if position > after:
                missing = needs_lookup(document)
                current = (
                    await database[document["ns"]["coll"]].find_one(document["documentKey"]) if missing else None
                )
                changes.append(read_change(document, position, current=current))
            if len(changes) >= 100 or position == until:
                yield changes
                changes = []
            if position == until:
                return
        if changes:
            yield changes
