"""The check that runs around every async test is itself checked, with planted faults."""

from __future__ import annotations

import asyncio

import pytest

from tests.watched_loop import watched_loop


def test_a_loop_in_which_everything_ended_passes() -> None:
    async def tidy() -> None:
        await asyncio.create_task(asyncio.sleep(0))

    with watched_loop() as loop:
        loop.run_sync(tidy)


def test_a_task_left_behind_is_told_of() -> None:
    async def untidy() -> None:
        asyncio.get_running_loop().kept = asyncio.create_task(asyncio.Event().wait(), name="forgotten")

    with pytest.raises(AssertionError, match=r"left behind.*forgotten"), watched_loop(0.01) as loop:
        loop.run_sync(untidy)


def test_an_exception_that_nobody_retrieved_is_told_of() -> None:
    async def fail() -> None:
        raise ValueError("planted")

    async def untidy() -> None:
        asyncio.create_task(fail())  # noqa: RUF006 - that nobody keeps it is the fault
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match=r"nobody retrieved.*planted"), watched_loop() as loop:
        loop.run_sync(untidy)
