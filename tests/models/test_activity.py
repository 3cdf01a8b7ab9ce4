"""The change log: what is read back of it, and that nothing stands in it twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.activity import NEWEST_FIRST, ActivityFilter, ActivityStore
from models.page import PageRequest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST_PAGE = PageRequest(sort=NEWEST_FIRST, scope=b"", position="here")


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {
        "_id": f"A{number}",
        "project_id": "P",
        "type": "item_added",
        "actor": "alice",
        "at": NOON + timedelta(seconds=number),
        **more,
    }


Reported = list[tuple[str, object, str]]


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def activities(database: Any, reported: Reported) -> ActivityStore:
    return ActivityStore(database, report=lambda *what: reported.append(what))


async def test_the_newest_entry_comes_first(activities: ActivityStore) -> None:
    assert await activities.add_many([entry(1), entry(2), entry(3, project_id="other")]) == 2 + 1
    page = await activities.page("P", ActivityFilter(), FIRST_PAGE)
    assert [activity.id for activity in page.items] == ["A2", "A1"]
    assert page.position == "here"


async def test_entries_written_again_after_a_crash_stand_there_once(activities: ActivityStore) -> None:
    await activities.add_many([entry(1), entry(2)])
    assert await activities.add_many([entry(1, actor="mallory"), entry(3), entry(2)]) == 1
    page = await activities.page("P", ActivityFilter(), FIRST_PAGE)
    assert [(activity.id, activity.actor) for activity in page.items] == [
        ("A3", "alice"),
        ("A2", "alice"),
        ("A1", "alice"),
    ]


async def test_no_entries_are_no_error(activities: ActivityStore) -> None:
    assert await activities.add_many([]) == 0


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ActivityFilter(type="item_removed"), ["A2"]),
        (ActivityFilter(item_id="I"), ["A3", "A2"]),
        (ActivityFilter(actor="bob"), ["A3"]),
        (ActivityFilter(actor="bob", type="item_removed"), []),
    ],
)
async def test_the_log_is_filtered_by_type_item_and_actor(
    activities: ActivityStore, wanted: ActivityFilter, found: list[str]
) -> None:
    await activities.add_many(
        [entry(1), entry(2, type="item_removed", item_id="I"), entry(3, item_id="I", actor="bob")]
    )
    page = await activities.page("P", wanted, FIRST_PAGE)
    assert [activity.id for activity in page.items] == found


async def test_an_entry_of_another_program_that_does_not_fit_is_reported_and_skipped(
    activities: ActivityStore, reported: Reported
) -> None:
    await activities.add_many([entry(1), entry(2, type="party"), entry(3, at="noon")])
    page = await activities.page("P", ActivityFilter(), FIRST_PAGE)
    assert [activity.id for activity in page.items] == ["A1"]
    assert {(collection, document_id) for collection, document_id, _problem in reported} == {
        ("activities", "A2"),
        ("activities", "A3"),
    }
