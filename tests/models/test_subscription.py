"""Subscriptions in MongoDB: what users choose, and what follows by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET
from tornado.ioloop import IOLoop

from models import schema
from models.errors import Invalid, NotFound
from models.fields import stamp
from models.page import PageRequest
from models.subscription import (
    NEWEST_FIRST,
    AutomaticFollow,
    Subscriber,
    Subscription,
    SubscriptionStore,
    read_subject,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Reported = list[tuple[str, object, str]]


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def clock() -> list[datetime]:
    """The time is its last entry."""
    return [NOON]


@pytest.fixture
def subscriptions(io_loop: IOLoop, database: Any, reported: Reported, clock: list[datetime]) -> SubscriptionStore:
    io_loop.run_sync(lambda: schema.apply(database))
    return SubscriptionStore(database, report=lambda *what: reported.append(what), now=lambda: clock[-1])


def automatic(user_id: str = "bob", subject: str = "thread:T", *, minutes: int = 0) -> AutomaticFollow:
    since = NOON + timedelta(minutes=minutes)
    return AutomaticFollow(user_id=user_id, subject=subject, auto="mentioned", since=since)


def asked(limit: int = 50, cursor: str | None = None) -> PageRequest:
    return PageRequest(sort=NEWEST_FIRST, scope=b"", position="p", limit=limit, cursor=cursor)


async def test_what_a_user_chose_is_there_until_it_is_deleted(subscriptions: SubscriptionStore) -> None:
    followed, new = await subscriptions.put("bob", "project:P", "follow")
    assert (followed, new) == (
        Subscription(subject="project:P", level="follow", since=stamp(NOON), version=1),
        True,
    )
    assert await subscriptions.get("bob", "project:P") == followed
    with pytest.raises(NotFound):
        await subscriptions.get("carol", "project:P")
    assert await subscriptions.delete("bob", "project:P")
    assert not await subscriptions.delete("bob", "project:P")
    with pytest.raises(NotFound):
        await subscriptions.get("bob", "project:P")


async def test_another_level_begins_when_it_is_chosen(subscriptions: SubscriptionStore, clock: list[datetime]) -> None:
    first, _ = await subscriptions.put("bob", "item:I", "follow")
    clock.append(NOON + timedelta(hours=1))
    assert await subscriptions.put("bob", "item:I", "follow") == (first, False)
    muted, new = await subscriptions.put("bob", "item:I", "mute")
    assert (muted.level, muted.since, muted.version, new) == ("mute", stamp(clock[-1]), 2, False)


async def test_choosing_what_followed_by_itself_keeps_its_beginning(
    subscriptions: SubscriptionStore, clock: list[datetime]
) -> None:
    assert await subscriptions.add_automatic([automatic()]) == 1
    assert (await subscriptions.get("bob", "thread:T")).auto == "mentioned"
    clock.append(NOON + timedelta(hours=1))
    chosen, _ = await subscriptions.put("bob", "thread:T", "follow")
    assert (chosen.auto, chosen.since, chosen.version) == (UNSET, stamp(NOON), 2)


async def test_what_follows_by_itself_overrides_nothing(subscriptions: SubscriptionStore) -> None:
    muted, _ = await subscriptions.put("bob", "thread:T", "mute")
    assert await subscriptions.add_automatic([automatic(), automatic("carol"), automatic("carol", minutes=5)]) == 1
    assert await subscriptions.add_automatic([]) == 0
    assert await subscriptions.get("bob", "thread:T") == muted
    assert (await subscriptions.get("carol", "thread:T")).since == stamp(NOON)


async def test_two_processes_may_add_the_same_at_the_same_moment(subscriptions: SubscriptionStore) -> None:
    follows = [automatic(f"user{number}") for number in range(50)]
    added = await asyncio.gather(*(subscriptions.add_automatic(follows) for _ in range(6)))
    assert sum(added) == 50


async def test_choices_at_the_same_moment_leave_one_of_them(
    subscriptions: SubscriptionStore, plain_database: Any
) -> None:
    levels = ["follow", "mute", "follow"]
    chosen = await asyncio.gather(*(subscriptions.put("bob", "item:I", level) for level in levels))
    assert sum(new for _, new in chosen) == 1
    (row,) = plain_database.subscriptions.find()
    assert row["version"] == max(subscription.version for subscription, _ in chosen)


async def test_everybody_who_follows_or_muted_one_of_some_subjects_is_found(
    subscriptions: SubscriptionStore, plain_database: Any, reported: Reported
) -> None:
    await subscriptions.put("bob", "project:P", "follow")
    await subscriptions.put("carol", "thread:T", "mute")
    await subscriptions.put("dave", "thread:U", "follow")
    plain_database.subscriptions.insert_one({"_id": "x", "subject": "thread:T", "level": "follow"})
    assert sorted(await subscriptions.of_subjects(["project:P", "item:I", "thread:T"])) == [
        Subscriber("bob", "project:P", "follow", NOON),
        Subscriber("carol", "thread:T", "mute", NOON),
    ]
    assert [(what[0], what[1]) for what in reported] == [("subscriptions", "x")]


async def test_a_list_has_the_newest_first_and_goes_on_where_it_ended(
    subscriptions: SubscriptionStore, clock: list[datetime]
) -> None:
    for number, (kind, level) in enumerate([("project", "follow"), ("item", "mute"), ("thread", "follow")] * 2):
        clock.append(NOON + timedelta(minutes=number))
        await subscriptions.put("bob", f"{kind}:{number}", level)
    await subscriptions.put("carol", "project:0", "mute")
    first = await subscriptions.page("bob", asked(4))
    rest = await subscriptions.page("bob", asked(4, first.next_cursor or None))
    names = [row.subject for row in (*first.items, *rest.items)]
    assert names == ["thread:5", "item:4", "project:3", "thread:2", "item:1", "project:0"]
    assert [row.subject for row in (await subscriptions.page("bob", asked(), kind="item")).items] == [
        "item:4",
        "item:1",
    ]
    muted = await subscriptions.page("bob", asked(), level="mute")
    assert [row.subject for row in muted.items] == ["item:4", "item:1"]


@pytest.mark.parametrize("row", [{"level": "watch"}, {"since": "yesterday"}, {"version": 0}, {"subject": "thread:"}])
async def test_what_does_not_fit_is_reported_and_left_out(
    subscriptions: SubscriptionStore, plain_database: Any, reported: Reported, row: dict[str, Any]
) -> None:
    await subscriptions.put("bob", "thread:T", "follow")
    plain_database.subscriptions.update_one({}, {"$set": row})
    assert (await subscriptions.page("bob", asked())).items == []
    with pytest.raises(NotFound):
        await subscriptions.get("bob", "thread:T")
    assert {what[0] for what in reported} == {"subscriptions"}
    assert (await subscriptions.put("bob", "thread:T", "mute"))[0].level == "mute"


@pytest.mark.parametrize(
    "text", ["", "project", "project:", "user:bob", "thread:a b", "thread:T\n", "item:" + "x" * 65]
)
async def test_a_name_of_nothing_is_refused(subscriptions: SubscriptionStore, text: str) -> None:
    with pytest.raises(Invalid):
        read_subject(text)
    with pytest.raises(Invalid):
        await subscriptions.put("bob", text, "follow")


def test_a_name_is_taken_apart() -> None:
    assert read_subject("thread:a-b_C") == ("thread", "a-b_C")
