"""Postings: what programs send, and which of them wait to be sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from bson.datetime_ms import DatetimeMS
from msgspec import UNSET
from tornado.ioloop import IOLoop

from models import schema
from models.errors import Conflict, Invalid, NotFound
from models.fields import Ids, Unfit, stamp, utc_now
from models.posting import KEPT, NewPosting, Posting, PostingStore, Recipients

BOB = Recipients(users=["bob"])
HOUR = timedelta(hours=1)
make_id = Ids()


@pytest.fixture
def reports() -> list[object]:
    return []


@pytest.fixture
def postings(io_loop: IOLoop, database: Any, reports: list[object]) -> PostingStore:
    io_loop.run_sync(lambda: schema.apply(database))
    return PostingStore(database, report=lambda _collection, id_, _problem: reports.append(id_))


async def create(postings: PostingStore, title: str = "News", **fields: Any) -> Posting:
    return await postings.create(NewPosting(**{"recipients": BOB, "title": title, **fields}), by="cms", make_id=make_id)


def titles(found: list[Posting]) -> list[str]:
    return [posting.title for posting in found]


async def test_a_posting_is_kept_as_it_was_sent(postings: PostingStore) -> None:
    at = datetime(2100, 1, 1, 12, tzinfo=UTC)
    made = await create(
        postings,
        "Publishing failed",
        recipients=Recipients(users=["bob"], groups=["press"]),
        type="publish_result",
        body="Disk full",
        link="https://cms.example/jobs/7",
        category="jobs",
        send_at=at,
    )
    assert await postings.get(made.id) == made
    assert (made.recipients.users, made.recipients.groups) == (["bob"], ["press"])
    assert (made.type, made.title, made.body) == ("publish_result", "Publishing failed", "Disk full")
    assert (made.link, made.category, made.send_at) == ("https://cms.example/jobs/7", "jobs", stamp(at))
    assert (made.created_by, made.version, made.sent_at, made.due_at) == ("cms", 1, UNSET, at)
    with pytest.raises(NotFound):
        await postings.get("another")


async def test_a_time_that_was_past_already_means_at_once(postings: PostingStore) -> None:
    new = NewPosting(recipients=Recipients(users=["bob"]), title="Old", send_at=datetime(2020, 1, 1, tzinfo=UTC))
    made = await postings.create(new, by="cms", make_id=Ids())
    assert stamp(made.due_at) == made.created_at


async def test_a_posting_for_nobody_is_refused(postings: PostingStore) -> None:
    with pytest.raises(Invalid) as refusal:
        await create(postings, recipients=Recipients())
    assert [error.path for error in refusal.value.errors] == ["$.recipients"]


@pytest.mark.parametrize(
    "body",
    [
        {"title": "News"},
        {"recipients": {"users": ["bob"]}},
        {"recipients": {"users": ["bob"]}, "title": " "},
        {"recipients": {"users": ["bob"]}, "title": "x" * 256},
        {"recipients": {"users": ["bob"]}, "title": "News", "body": "x" * 2001},
        {"recipients": {"users": ["bob"]}, "title": "News", "type": "mention"},
        {"recipients": {"users": ["bob"]}, "title": "News", "link": "javascript:alert(1)"},
        {"recipients": {"users": ["bob"]}, "title": "News", "send_at": "2100-01-01T12:00:00"},
        {"recipients": {"users": ["bob"]}, "title": "News", "sent_at": "2100-01-01T12:00:00Z"},
        {"recipients": {"users": ["b b"]}, "title": "News"},
        {"recipients": {"users": ["bob"] * 201}, "title": "News"},
        {"recipients": {"groups": ["press"] * 21}, "title": "News"},
        {"recipients": {"roles": ["press"]}, "title": "News"},
    ],
)
def test_what_does_not_fit_is_no_posting(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, NewPosting)


async def test_the_same_request_makes_one_posting(postings: PostingStore) -> None:
    first = await postings.create(NewPosting(recipients=BOB, title="One"), by="cms", make_id=lambda: "x")
    again = await postings.create(NewPosting(recipients=BOB, title="Two"), by="cms", make_id=lambda: "x")
    assert again == first
    with pytest.raises(Conflict):
        await postings.create(NewPosting(recipients=BOB, title="Three"), by="root", make_id=lambda: "x")


async def test_what_is_due_comes_oldest_first_and_once_sent_no_more(postings: PostingStore, database: Any) -> None:
    now = utc_now()
    assert await postings.next_due() is None
    await create(postings, "third", send_at=now + HOUR)
    await create(postings, "second")
    first = await create(postings, "first", send_at=now - HOUR)
    later = now + timedelta(seconds=30)
    assert titles(await postings.due(later, 10)) == ["first", "second"]
    assert titles(await postings.due(later, 1)) == ["first"]
    assert await postings.next_due() == now - HOUR
    await postings.mark_sent(first.id, later)
    await postings.mark_sent(first.id, later + HOUR)
    sent = await postings.get(first.id)
    assert (sent.sent_at, sent.version) == (stamp(later), 2)
    assert (await database.postings.find_one({"_id": first.id}))["expires_at"] == later + KEPT
    assert titles(await postings.due(later, 10)) == ["second"]
    (second,) = await postings.due(later, 10)
    await postings.mark_sent(second.id, later)
    assert await postings.due(later, 10) == []
    assert await postings.next_due() == now + HOUR
    await postings.mark_sent("gone", later)


async def test_what_another_program_wrote_badly_stands_in_nobodys_way(
    postings: PostingStore, database: Any, reports: list[object]
) -> None:
    past = utc_now() - HOUR
    await database.postings.insert_many(
        [
            {"_id": "a", "due_at": past, "title": "Nobody"},
            {"_id": "b", "due_at": DatetimeMS(-(2**55)), "title": 5},
            {"_id": "c", "due_at": "now"},
        ]
    )
    await create(postings, "good")
    assert titles(await postings.due(utc_now(), 1)) == ["good"]
    assert await postings.next_due() is not None
    assert set(reports) == {"a", "b"}
    with pytest.raises(NotFound):
        await postings.get("a")
    with pytest.raises(Unfit):
        Posting.from_document({"_id": "x"})


async def test_what_is_due_is_found_by_an_index(postings: PostingStore, database: Any) -> None:
    await create(postings)
    plan = await database.command(
        {
            "explain": {
                "find": "postings",
                "filter": {"sent_at": None, "due_at": {"$lte": utc_now()}},
                "sort": {"due_at": 1, "_id": 1},
            },
            "verbosity": "queryPlanner",
        }
    )
    text = str(plan["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in text
    assert "COLLSCAN" not in text
    assert "'SORT'" not in text
