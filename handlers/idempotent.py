"""A request with an Idempotency-Key: done once, and answered again as it was the first time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from handlers.refusing import Handler
from models import errors
from models.errors import Refusal
from models.fields import MakeId
from models.idempotency import Answer, Mark

log = structlog.get_logger("copydesk.http")


async def once(handler: Handler, key: str, user_id: str, work: Callable[[MakeId], Awaitable[None]]) -> None:
    """Do `work`, which prepares the handler's answer, unless it was done before: then prepare the answer of that time.

    Kept are answers of 2xx, 409 and 422. `work` gets the ids of what it creates from the key, so a second attempt after
    a crash finds its own documents. Raises what `work` raises, and what claiming the key raises.
    """
    handler.edge.admission.key(user_id)
    claimed = await handler.edge.idempotency.claim(
        user_id=user_id,
        method=handler.request.method or "",
        path=handler.request.path,
        key=key,
        body=handler.request.body,
    )
    if isinstance(claimed, Answer):
        handler.set_status(claimed.status)
        for name, value in claimed.headers.items():
            handler.set_header(name, value)
        handler.set_header("Idempotency-Replayed", "true")
        if claimed.body:  # an answer of 204 may not even be told to have none
            handler.write(claimed.body)
        return
    try:
        await work(claimed.make_id)
    except Exception as error:
        await _settle(handler, claimed, handler.refusal_of(error, 500))
        raise
    await _settle(handler, claimed, None)


async def _settle(handler: Handler, mark: Mark, refusal: Refusal | None) -> None:
    """Keep the answer, or set the key free where it is not to be kept.

    What was done is done, and its answer goes out even if the database cannot note it: the mark lapses by itself.
    """
    store = handler.edge.idempotency
    try:
        if refusal is None:
            await store.settle(mark, handler.prepared_answer("Content-Type", "Location", "Etag"))
        elif refusal.status in (409, 422):
            headers = {"Content-Type": "application/problem+json"}
            await store.settle(mark, Answer(status=refusal.status, headers=headers, body=handler.problem_body(refusal)))
        else:
            # After a 500 or 503 the write may still be committed later: the next attempt gets the same ids.
            await store.release(mark, keep_ids=refusal.status >= 500)
    except Exception as error:
        if errors.translate(error) is None:
            raise
        log.warning("idempotency_not_settled", request_id=handler.request_id, error=type(error).__name__)
