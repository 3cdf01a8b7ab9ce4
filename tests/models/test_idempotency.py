"""Idempotency keys: claimed once, answered once, and taken over under the same ids when their holder is gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.errors import IdempotencyMismatch, InProgress, Invalid
from models.fields import Ids
from models.idempotency import KEPT, LAPSES_AFTER, Answer, IdempotencyStore, Mark

ANSWER = Answer(status=201, headers={"Location": "/a", "Content-Type": "application/json"}, body=b'{"a": 1}')


class Clock:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Marks:
    """A store whose time is ours, and claims with defaults."""

    def __init__(self, database: Any) -> None:
        self.clock = Clock()
        self.store = IdempotencyStore(database, now=self.clock)

    async def claim(self, **changed: Any) -> Answer | Mark:
        request = {"user_id": "alice", "method": "POST", "path": "/api/v1/projects", "key": "k", "body": b"{}"}
        return await self.store.claim(**{**request, **changed})

    async def mark(self, **changed: Any) -> Mark:
        claimed = await self.claim(**changed)
        assert isinstance(claimed, Mark)
        return claimed


@pytest.fixture
def marks(database: Any) -> Marks:
    return Marks(database)


async def test_a_settled_key_gives_the_first_answer_for_a_day(marks: Marks) -> None:
    await marks.store.settle(await marks.mark(), ANSWER)
    marks.clock.now += KEPT - timedelta(milliseconds=1)
    assert await marks.claim() == ANSWER
    marks.clock.now += timedelta(milliseconds=1)
    assert isinstance(await marks.claim(), Mark)


async def test_another_user_method_path_or_key_is_another_matter(marks: Marks) -> None:
    await marks.store.settle(await marks.mark(), ANSWER)
    for changed in ({"user_id": "bob"}, {"method": "PUT"}, {"path": "/api/v1/items"}, {"key": "l"}):
        assert isinstance(await marks.claim(**changed), Mark)


async def test_a_key_cannot_be_shifted_into_another_field(marks: Marks) -> None:
    await marks.mark(path="/a", key='b"],["c')
    await marks.mark(path='/a","b', key="c")


async def test_another_body_is_refused_before_and_after_the_answer(marks: Marks) -> None:
    mark = await marks.mark()
    with pytest.raises(IdempotencyMismatch):
        await marks.claim(body=b"{ }")
    await marks.store.settle(mark, ANSWER)
    with pytest.raises(IdempotencyMismatch):
        await marks.claim(body=b"{ }")


async def test_a_key_at_work_is_refused_until_its_mark_lapses(marks: Marks) -> None:
    first = await marks.mark()
    marks.clock.now += LAPSES_AFTER - timedelta(milliseconds=1)
    with pytest.raises(InProgress) as refused:
        await marks.claim()
    assert refused.value.retry_after == 1
    marks.clock.now += timedelta(milliseconds=1)
    second = await marks.mark()
    assert [first.make_id() for _ in range(5)] == [second.make_id() for _ in range(5)]


async def test_a_holder_that_was_given_up_settles_nothing(marks: Marks) -> None:
    slow = await marks.mark()
    marks.clock.now += LAPSES_AFTER
    quick = await marks.mark()
    await marks.store.settle(slow, Answer(status=409, headers={}, body=b"slow"))
    await marks.store.release(slow, keep_ids=False)
    await marks.store.settle(quick, ANSWER)
    await marks.store.settle(slow, Answer(status=409, headers={}, body=b"slow again"))
    assert await marks.claim() == ANSWER


async def test_a_released_key_is_free_at_once_with_or_without_its_ids(marks: Marks) -> None:
    first = await marks.mark()
    await marks.store.release(first, keep_ids=True)
    marks.clock.now += timedelta(seconds=5)
    second = await marks.mark()
    assert first.make_id() == second.make_id()
    await marks.store.release(second, keep_ids=False)
    third = await marks.mark(body=b"another, for nothing was kept")
    assert third.make_id() not in {second.make_id(), first.make_id()}


async def test_ids_rise_are_like_ours_and_differ_from_key_to_key(marks: Marks) -> None:
    ids = [(await marks.mark(key="a")).make_id(), (await marks.mark(key="b")).make_id()]
    assert len(set(ids)) == 2
    mark = await marks.mark(key="c")
    made = [mark.make_id() for _ in range(1000)]
    assert made == sorted(set(made))
    now = Ids(clock=marks.clock.now.timestamp)()
    assert {len(one) for one in made} == {26}
    assert {one[:10] for one in made} == {now[:10]}


async def test_of_many_at_once_exactly_one_gets_the_key(marks: Marks) -> None:
    async def attempt() -> bool:
        try:
            return isinstance(await marks.claim(), Mark)
        except InProgress:
            return False

    assert sum(await asyncio.gather(*(attempt() for _ in range(20)))) == 1
    marks.clock.now += LAPSES_AFTER
    assert sum(await asyncio.gather(*(attempt() for _ in range(20)))) == 1
    marks.clock.now += KEPT
    assert sum(await asyncio.gather(*(attempt() for _ in range(20)))) == 1


@pytest.mark.parametrize("key", ["", "a b", "é", "\t", "k" * 256, "a\x7f", "k\n"])
async def test_a_key_that_is_no_visible_ascii_is_refused(marks: Marks, key: str) -> None:
    with pytest.raises(Invalid):
        await marks.claim(key=key)


async def test_keys_of_1_and_255_characters_are_taken(marks: Marks) -> None:
    assert isinstance(await marks.claim(key="~"), Mark)
    assert isinstance(await marks.claim(key="!" * 255), Mark)
