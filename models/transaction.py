"""Several writes that happen together or not at all."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from models.abandoned import end_abandoned
from models.database_types import Database, Session

S = TypeVar("S")
T = TypeVar("T")

PATIENCE_SECONDS = 10.0
"""After this no further attempt is begun. The driver's own helper goes on for two minutes, which no caller waits."""

CROWDED_SECONDS = 0.3
"""After which a transaction over many things gives way to smaller ones. It reads and writes for long, so that whoever
changes one of them now and then comes between each time."""

OWNERS_AT_ONCE = 8
"""Transactions of different owners that run side by side."""

_LONGEST_PAUSE_SECONDS = 0.2
_LOOK_SECONDS = 1.0
"""How often it is looked for a dead process that is in the way, while one transaction does not get through."""
_DUPLICATE = 11000


async def transact(
    database: Database, work: Callable[[Session], Awaitable[T]], *, patience_seconds: float = PATIENCE_SECONDS
) -> T:
    """Run `work` in a transaction, again and again until no other change comes between; what it returned.

    `work` reads and writes with the session it is given and leaves nothing else behind, because it may run many times.
    What it raises aborts the transaction. Raises what the driver raises, once its patience is over.
    """
    begun = looked = time.monotonic()
    attempt = 0
    async with await database.client.start_session() as session:
        while True:
            try:
                async with session.start_transaction(
                    read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
                ):
                    result = await work(session)
                    await _commit(session, time.monotonic() + PATIENCE_SECONDS)
            except PyMongoError as problem:
                if not _passing(problem) or time.monotonic() > begun + patience_seconds:
                    raise
            else:
                return result
            if time.monotonic() > looked + _LOOK_SECONDS:
                await end_abandoned(database)
                looked = time.monotonic()
            # Those who met draw lots, or they meet again.
            longest = min(_LONGEST_PAUSE_SECONDS, 0.004 * 2**attempt)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - nothing secret depends on it
            attempt += 1


async def transact_in_parts(
    database: Database,
    things: Sequence[S],
    work: Callable[[Session, Sequence[S]], Awaitable[T]],
    *,
    owner_of: Callable[[S], str],
) -> list[T]:
    """Run `work` on all things in one transaction, or where somebody comes between, in one for each owner's.

    Things of one owner stand together; owners are done side by side, because a transaction is mostly waiting. Where
    others keep coming between those too, each half is done by itself, down to one thing. What `work` returned for each
    part, in order. Raises as `transact` does; other parts may be done then.
    """
    done = await _attempted(database, things, work, patience_seconds=0.0)
    if done is not None:
        return done
    room = asyncio.Semaphore(OWNERS_AT_ONCE)

    async def owned(part: Sequence[S]) -> list[T]:
        async with room:
            return await _in_halves(database, part, work)

    parts = [list(part) for _, part in itertools.groupby(things, key=owner_of)]
    # All to their end, also where one fails: nothing may be written any more when the caller hears of it.
    outcomes = await asyncio.gather(*map(owned, parts), return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results += outcome
    return results


async def _in_halves(
    database: Database, things: Sequence[S], work: Callable[[Session, Sequence[S]], Awaitable[T]]
) -> list[T]:
    if len(things) == 1:
        return [await transact(database, lambda session: work(session, things))]
    done = await _attempted(database, things, work, patience_seconds=CROWDED_SECONDS)
    if done is not None:
        return done
    middle = len(things) // 2
    first = await _in_halves(database, things[:middle], work)
    return first + await _in_halves(database, things[middle:], work)


async def _attempted(
    database: Database,
    things: Sequence[S],
    work: Callable[[Session, Sequence[S]], Awaitable[T]],
    *,
    patience_seconds: float,
) -> list[T] | None:
    """What it returned; None where others came between."""
    try:
        return [await transact(database, lambda session: work(session, things), patience_seconds=patience_seconds)]
    except PyMongoError as problem:
        if not _passing(problem):
            raise
    return None


async def _commit(session: Session, deadline: float) -> None:
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as problem:
            # It may have been committed; only asking again tells, and running the work again would do it twice.
            if not problem.has_error_label("UnknownTransactionCommitResult") or time.monotonic() > deadline:
                raise
        else:
            return


def _passing(problem: PyMongoError) -> bool:
    """Whether another attempt may succeed. The first insert of a document that two make at once is a duplicate."""
    if isinstance(problem, BulkWriteError):
        details: Any = problem.details or {}
        if any(error.get("code") == _DUPLICATE for error in details.get("writeErrors", ())):
            return True
    return isinstance(problem, DuplicateKeyError) or problem.has_error_label("TransientTransactionError")
