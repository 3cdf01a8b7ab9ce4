"""Transactions whose process died: MongoDB keeps what they wrote locked for up to a minute, so they are ended here.

A connection that closes does not abort its transaction; only `transactionLifetimeLimitSeconds` (60 by default) does
(https://www.mongodb.com/docs/manual/core/transactions-production-consideration/). Until then nobody else can write the
same documents.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from pymongo.errors import PyMongoError

from models.database_types import Database, Document

log = structlog.get_logger("copydesk.abandoned")

IDLE = timedelta(seconds=3)
"""After this without a command, whoever began a transaction is dead or hangs. Ours send the next one at once; one that
was ended wrongly is tried again by its owner."""


async def end_abandoned(database: Database) -> int:
    """End the idle transactions of other Copydesks on the same database user; how many.

    0 also where MongoDB lets nobody look; its own limit ends them then.
    """
    name = database.client.options.pool_options.appname
    try:
        found = database.client.admin.aggregate(
            [{"$currentOp": {"idleSessions": True, "allUsers": False}}, {"$match": _idle(name)}]
        )
        sessions = [{"id": operation["lsid"]["id"]} async for operation in found]
        if not sessions:
            return 0
        await database.client.admin.command("killSessions", sessions)
    except PyMongoError as problem:
        log.warning("abandoned_transactions_stay", detail=str(problem)[:300], do="Writes wait for MongoDB to end them.")
        return 0
    log.warning("abandoned_transactions_ended", count=len(sessions))
    return len(sessions)


def _idle(name: str) -> Document:
    return {
        "type": "idleSession",
        "appName": name,
        "transaction.timeInactiveMicros": {"$gte": IDLE // timedelta(microseconds=1)},
    }
