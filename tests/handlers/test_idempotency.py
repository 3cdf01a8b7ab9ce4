"""A request that is sent again under its Idempotency-Key does nothing twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from handlers.base import ApiHandler
from handlers.routes import HANDLERS
from models.idempotency import IdempotencyStore
from models.project import ProjectStore
from tests.handlers.conftest import Api

KEY = {"Idempotency-Key": "key"}


async def test_the_first_answer_is_given_again(api: Api, database: Any) -> None:
    first = await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)
    again = await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)
    assert first.status == again.status == 201
    assert first.body == again.body
    for name in ("Location", "Etag", "Content-Type"):
        assert first.headers[name] == again.headers[name]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await database.projects.count_documents({}) == 1


async def test_another_body_under_the_same_key_is_refused(api: Api, database: Any) -> None:
    await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)
    other = await api("alice", "POST", "/projects", {"name": "Summer"}, headers=KEY)
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")
    assert (await api("bob", "POST", "/projects", {"name": "Summer"}, headers=KEY)).status == 201
    assert await database.projects.count_documents({}) == 2


async def test_without_a_key_every_request_counts(api: Api, database: Any) -> None:
    for _ in range(2):
        await api("alice", "POST", "/projects", {"name": "Spring"})
    assert await database.projects.count_documents({}) == 2
    assert await database.idempotency.count_documents({}) == 0


async def test_a_refusal_of_the_content_is_kept_and_one_of_the_form_is_not(api: Api) -> None:
    first = await api("alice", "POST", "/projects", {"name": ""}, headers=KEY)
    again = await api("alice", "POST", "/projects", {"name": ""}, headers=KEY)
    assert (first.status, first.json["code"]) == (422, "invalid")
    assert (again.status, again.body, again.headers["Content-Type"]) == (422, first.body, "application/problem+json")
    other = {"Idempotency-Key": "other"}
    assert (await api("alice", "POST", "/projects", b"{", headers=other)).status == 400
    assert (await api("alice", "POST", "/projects", {"name": "Spring"}, headers=other)).status == 201


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "\xe9"])
async def test_a_key_that_is_none_is_refused(api: Api, key: str, database: Any) -> None:
    answer = await api("alice", "POST", "/projects", {"name": "Spring"}, headers={"Idempotency-Key": key})
    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert await database.projects.count_documents({}) == 0


async def test_while_the_first_is_at_work_the_second_is_told_to_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, at_work, go_on = ProjectStore.create, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **named: Any) -> Any:
        at_work.set()
        await go_on.wait()
        return await create(*arguments, **named)

    monkeypatch.setattr(ProjectStore, "create", slow)
    first = asyncio.ensure_future(api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY))
    await at_work.wait()
    second = await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)
    assert (second.status, second.json["code"], second.headers["Retry-After"]) == (409, "in_progress", "1")
    go_on.set()
    assert (await first).status == 201
    assert (await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)).body == (await first).body


async def test_after_a_write_whose_answer_was_lost_the_next_attempt_finds_it(
    api: Api, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ProjectStore.create

    async def committed_and_lost(*arguments: Any, **named: Any) -> Any:
        await create(*arguments, **named)
        raise AutoReconnect("connection closed: mongodb://secret")

    with monkeypatch.context() as patched:
        patched.setattr(ProjectStore, "create", committed_and_lost)
        lost = await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)
    assert (lost.status, lost.json["code"], lost.headers["Retry-After"]) == (503, "unavailable", "1")
    assert b"mongodb" not in lost.body
    found = await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)
    assert found.status == 201
    assert [one["_id"] async for one in database.projects.find()] == [found.json["id"]]


async def test_what_was_done_is_answered_even_if_the_answer_cannot_be_kept(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_arguments: Any, **_named: Any) -> None:
        raise AutoReconnect("gone")

    monkeypatch.setattr(IdempotencyStore, "settle", unreachable)
    assert (await api("alice", "POST", "/projects", {"name": "Spring"}, headers=KEY)).status == 201


def test_every_post_of_somebody_known_honours_the_key_and_no_other_verb_does() -> None:
    posts, of_anybody = 0, ("/api/v1/session", "/api/v1/unsubscribe")
    for handler in HANDLERS:
        if not issubclass(handler, ApiHandler):
            continue
        for method, operation in handler.operations.items():
            assert operation.idempotent == (method == "POST" and handler.route not in of_anybody), handler.route
            verb = getattr(handler, method.lower())
            assert hasattr(verb, "__wrapped__"), f"{method} {handler.route} is not framed"
            assert not hasattr(verb.__wrapped__, "__wrapped__"), f"{method} {handler.route} is framed twice"
            posts += operation.idempotent
    assert posts
