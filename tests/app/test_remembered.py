"""What is remembered is never older than what the feed has reported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.remembered import Remembered


class Source:
    """A database that answers when it is told to."""

    def __init__(self) -> None:
        self.value: str | None = "old"
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, key: str) -> str | None:
        self.reads += 1
        value = self.value and f"{key}={self.value}"
        await self.gate.wait()
        return value


@pytest.fixture
def trusted() -> list[bool]:
    return [True]


Make = Callable[[], Awaitable[tuple[Source, Remembered[str]]]]


@pytest.fixture
def make(trusted: list[bool]) -> Make:
    async def made() -> tuple[Source, Remembered[str]]:
        source = Source()
        return source, Remembered(source.read, trusted=lambda: trusted[0], capacity=2)

    return made


async def test_the_second_question_is_answered_from_memory(make: Make) -> None:
    source, remembered = await make()
    assert [await remembered.get("a"), await remembered.get("a")] == ["a=old", "a=old"]
    assert source.reads == 1


async def test_absence_is_not_remembered(make: Make) -> None:
    source, remembered = await make()
    source.value = None
    assert await remembered.get("a") is None
    source.value = "new"
    assert await remembered.get("a") == "a=new"


async def test_what_changed_is_read_again(make: Make) -> None:
    source, remembered = await make()
    await remembered.get("a")
    await remembered.get("b")
    source.value = "new"
    remembered.forget("a")
    assert [await remembered.get("a"), await remembered.get("b")] == ["a=new", "b=old"]
    remembered.forget_all()
    assert await remembered.get("b") == "b=new"


async def test_a_change_during_the_read_throws_it_away(make: Make) -> None:
    source, remembered = await make()
    source.gate.clear()
    asked = asyncio.create_task(remembered.get("a"))
    await asyncio.sleep(0)
    source.value = "new"
    remembered.forget("a")
    source.gate.set()
    assert await asked == "a=new"
    assert await remembered.get("a") == "a=new"


async def test_a_renewal_is_remembered_unless_something_changed_meanwhile(make: Make) -> None:
    source, remembered = await make()

    async def write() -> str:
        return "written"

    async def write_while_others_write() -> str:
        remembered.forget("a")
        return "overtaken"

    assert await remembered.renew("a", write) == "written"
    assert await remembered.get("a") == "written"
    assert await remembered.renew("a", write_while_others_write) == "overtaken"
    assert await remembered.get("a") == "a=old"
    assert source.reads == 1


async def test_nothing_remembered_is_believed_while_the_feed_is_stale(make: Make, trusted: list[bool]) -> None:
    source, remembered = await make()
    await remembered.get("a")
    trusted[0] = False
    source.value = "new"
    assert await remembered.get("a") == "a=new"


async def test_the_least_used_go_when_there_are_too_many(make: Make) -> None:
    source, remembered = await make()
    for key in ("a", "b", "a", "c"):
        await remembered.get(key)
    assert source.reads == 3
    await remembered.get("a")
    assert source.reads == 3
    await remembered.get("b")
    assert source.reads == 4
