"""Inboxes in MongoDB: what is delivered, how entries evolve, what their owners and the worker do with them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from pymongo.errors import PyMongoError
from tornado.ioloop import IOLoop

from models import schema
from models.errors import Invalid, NotFound, StaleVersion
from models.etag import document_etag, if_match
from models.fields import stamp
from models.inbox_store import NEWEST_FIRST, InboxStore
from models.inbox_writer import LIVING, portions
from models.notification import MAX_ACTORS, MAX_EVENTS, Counts, Delivery, Notification, Subject, entry_id
from models.notification_input import Mark, NotificationFilter, NotificationPatch
from models.page import PageRequest
from tests.models.inboxes import NOON, delivery, thread

Reported = list[tuple[str, object, str]]
ANY = if_match(None)
EVERYTHING = NotificationFilter()
CUSTOM = Subject(kind="custom", posting_id="N")


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def clock() -> list[datetime]:
    """The time is its last entry."""
    return [NOON]


@pytest.fixture
def inbox(io_loop: IOLoop, database: Any, reported: Reported, clock: list[datetime]) -> InboxStore:
    io_loop.run_sync(lambda: schema.apply(database))
    return InboxStore(
        database,
        report=lambda *what: reported.append(what),
        retention=timedelta(days=90),
        max_entries=5,
        now=lambda: clock[-1],
    )


@pytest.fixture
def roomy(inbox: InboxStore, database: Any) -> InboxStore:
    """The same inboxes without a bound that a test would meet."""
    return InboxStore(database, report=lambda *_what: None, retention=timedelta(days=90))


def asked(limit: int = 50, cursor: str | None = None) -> PageRequest:
    return PageRequest(sort=NEWEST_FIRST, scope=b"", position="p", limit=limit, cursor=cursor)


async def listed(inbox: InboxStore, wanted: NotificationFilter = EVERYTHING, **more: Any) -> list[Notification]:
    return (await inbox.page("bob", wanted, asked(), **more)).items


async def only(inbox: InboxStore) -> Notification:
    (entry,) = await listed(inbox)
    return entry


async def in_step(inbox: InboxStore, user_id: str = "bob") -> Counts:
    """The stored counts, after a look whether the entries agree."""
    counts = await inbox.counts(user_id)
    assert counts == await inbox.recount(user_id)
    return counts


def subjects(count: int) -> list[Delivery]:
    return [delivery(number, subject=thread(f"T{number}")) for number in range(1, count + 1)]


# -- delivering -------------------------------------------------------------------------------------------------------


async def test_an_event_makes_an_entry_and_counts(inbox: InboxStore) -> None:
    assert await inbox.deliver([delivery(1)]) == 1
    entry = await only(inbox)
    assert entry == Notification(
        id=entry_id("bob", thread()),
        type="comment",
        reason="follows_thread",
        subject=thread(),
        title="Start page",
        body="Comment 1",
        link="/#/projects/P/items/I",
        actors=["alice"],
        events=[delivery(1).event],
        event_count=1,
        seq=1,
        created_at=stamp(NOON + timedelta(seconds=1)),
        updated_at=stamp(NOON + timedelta(seconds=1)),
        version=1,
    )
    assert await inbox.get("bob", entry.id) == entry
    assert await in_step(inbox) == Counts(unseen=1, unread=1, seq=1)


async def test_a_second_event_evolves_the_entry_and_takes_the_next_seq(inbox: InboxStore) -> None:
    await inbox.deliver([delivery(1), delivery(2, actor="carol", type="mention", reason="mentioned")])
    entry = await only(inbox)
    assert [event.id for event in entry.events] == ["e2-bob", "e1-bob"]
    assert (entry.type, entry.reason, entry.body, entry.actors) == (
        "mention",
        "mentioned",
        "Comment 2",
        ["carol", "alice"],
    )
    assert (entry.event_count, entry.version, entry.seq) == (2, 1, 1)
    await inbox.deliver([delivery(3)])
    entry = await only(inbox)
    assert (entry.event_count, entry.version, entry.seq) == (3, 2, 2)
    assert (entry.created_at, entry.updated_at) == (delivery(1).event.at, delivery(3).event.at)
    assert await in_step(inbox) == Counts(unseen=1, unread=1, seq=2)


async def test_what_an_entry_has_had_changes_nothing(inbox: InboxStore, plain_database: Any) -> None:
    deliveries = [delivery(number) for number in (1, 2, 3)]
    await inbox.deliver(deliveries)
    await inbox.patch("bob", entry_id("bob", thread()), NotificationPatch(read=True), precondition=ANY)
    before = list(plain_database.notifications.find()), list(plain_database.inboxes.find())
    assert await inbox.deliver(deliveries) == 0
    assert await inbox.deliver(deliveries[:1]) == 0
    later = msgspec.structs.replace(deliveries[1], place=(9999, 1, 1))
    assert await inbox.deliver([later]) == 0
    assert (list(plain_database.notifications.find()), list(plain_database.inboxes.find())) == before


async def test_an_entry_keeps_its_newest_events_and_counts_them_all(inbox: InboxStore) -> None:
    deliveries = [delivery(number, actor=f"user{number}") for number in range(1, MAX_EVENTS + 5)]
    assert await inbox.deliver(deliveries) == MAX_EVENTS + 4
    entry = await only(inbox)
    assert [event.id for event in entry.events] == [f"e{number}-bob" for number in range(MAX_EVENTS + 4, 4, -1)]
    assert entry.event_count == MAX_EVENTS + 4
    assert entry.actors == [f"user{number}" for number in range(MAX_EVENTS + 4, MAX_EVENTS + 4 - MAX_ACTORS, -1)]


async def test_a_thousand_recipients_have_an_inbox_of_their_own_each(inbox: InboxStore, plain_database: Any) -> None:
    users = [f"user{number}" for number in range(1000)]
    assert await inbox.deliver([delivery(1, user) for user in users]) == 1000
    assert plain_database.notifications.count_documents({"event_count": 1}) == 1000
    assert plain_database.inboxes.count_documents({"unseen": 1, "unread": 1, "seq": 1, "version": 1}) == 1000
    assert await inbox.holders("P") == set(users)


async def test_a_new_event_brings_back_what_was_read_and_archived(inbox: InboxStore, plain_database: Any) -> None:
    await inbox.deliver([delivery(1)])
    done = NotificationPatch(read=True, archived=True)
    entry, counts = await inbox.patch("bob", entry_id("bob", thread()), done, precondition=ANY)
    assert (counts.unseen, counts.unread) == (0, 0)
    assert entry.archived_at == entry.read_at == entry.seen_at == stamp(NOON)
    assert plain_database.notifications.find_one()["expires_at"] == NOON + timedelta(days=90)
    await inbox.deliver([delivery(2)])
    entry = await only(inbox)
    assert entry.archived_at is entry.read_at is entry.seen_at is UNSET
    assert "expires_at" not in plain_database.notifications.find_one()
    assert await in_step(inbox) == Counts(unseen=1, unread=1, seq=3)


async def test_both_of_two_workers_at_once_deliver_everything_once(inbox: InboxStore) -> None:
    deliveries = [delivery(number, user) for number in range(1, 6) for user in ("bob", "carol", "dave")]
    told = await asyncio.gather(*(inbox.deliver(deliveries) for _ in range(4)))
    assert sum(told) == len(deliveries)
    for user in ("bob", "carol", "dave"):
        assert (await inbox.get(user, entry_id(user, thread()))).event_count == 5
        counts = await in_step(inbox, user)
        assert (counts.unseen, counts.unread) == (1, 1)


async def test_an_event_that_nobody_could_be_shown_is_reported_and_stops_nothing(
    inbox: InboxStore, reported: Reported
) -> None:
    unfit = msgspec.structs.replace(delivery(1), title="x" * 256)
    assert await inbox.deliver([unfit, delivery(2, subject=thread("U"))]) == 1
    assert [report[0] for report in reported] == ["notifications"]
    assert await in_step(inbox) == Counts(unseen=1, unread=1, seq=1)


@pytest.mark.parametrize(
    "broken",
    [
        {"events": "none"},
        {"events": [{"id": "e1-bob"}]},
        {"title": 7},
        {"last_applied": None},
        {"last_applied": ["x", 1, 1]},
        {"events.0.place": 7},
        {"version": "many"},
    ],
)
async def test_an_entry_that_another_program_broke_is_replaced_by_the_next_event(
    inbox: InboxStore, plain_database: Any, reported: Reported, broken: dict[str, Any]
) -> None:
    await inbox.deliver([delivery(1)])
    plain_database.notifications.update_one({}, {"$set": broken})
    await inbox.quote("c1", "Other words", (2000, 1, 1))
    assert await inbox.deliver([delivery(2)]) == 1
    assert [event.id for event in (await only(inbox)).events] == ["e2-bob"]
    assert reported != []
    await in_step(inbox)


@pytest.mark.parametrize("broken", [None, {"unseen": -1}, {"unread": "x"}, {"seq": None}, {"seq": 2**63 - 1}])
async def test_counts_that_another_program_broke_are_counted_anew(
    inbox: InboxStore, plain_database: Any, broken: dict[str, Any] | None
) -> None:
    await inbox.deliver(subjects(3))
    if broken is None:
        plain_database.inboxes.drop()
    else:
        plain_database.inboxes.update_one({}, {"$set": {**broken, "version": "x"}})
    assert await inbox.counts("bob") == Counts(unseen=3, unread=3, seq=3)
    await inbox.deliver([delivery(9)])
    assert await in_step(inbox) == Counts(unseen=4, unread=4, seq=4)
    assert plain_database.inboxes.find_one()["unread"] == 4


async def test_the_entry_and_its_counts_change_together_or_not_at_all(
    inbox: InboxStore, plain_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await inbox.deliver([delivery(1)])
    before = list(plain_database.notifications.find()), list(plain_database.inboxes.find())

    def fail(*_: object) -> None:
        raise PyMongoError("the connection ends here")

    monkeypatch.setattr("models.inbox_writer._operation", fail)
    with pytest.raises(PyMongoError):
        await inbox.deliver([delivery(2)])
    assert (list(plain_database.notifications.find()), list(plain_database.inboxes.find())) == before
    monkeypatch.undo()
    assert await inbox.deliver([delivery(2)]) == 1


# -- how much an inbox holds ------------------------------------------------------------------------------------------


async def test_a_full_inbox_loses_its_oldest_and_first_those_that_wait_for_nobody(inbox: InboxStore) -> None:
    await inbox.deliver(subjects(5))
    await inbox.mark("bob", Mark(read=True, ids=[entry_id("bob", thread("T3"))]))
    await inbox.mark("bob", Mark(archived=True, ids=[entry_id("bob", thread("T4"))]))
    for number, kept in ((6, "T6 T5 T2 T1"), (7, "T7 T6 T5 T2 T1"), (8, "T8 T7 T6 T5 T2")):
        await inbox.deliver([delivery(number, subject=thread(f"T{number}"))])
        assert [entry.subject.thread_id for entry in await listed(inbox)] == kept.split()
        await in_step(inbox)


async def test_more_new_entries_than_an_inbox_holds_leave_the_newest(inbox: InboxStore, plain_database: Any) -> None:
    await inbox.deliver(subjects(12))
    assert [entry.subject.thread_id for entry in await listed(inbox)] == ["T12", "T11", "T10", "T9", "T8"]
    assert await in_step(inbox) == Counts(unseen=5, unread=5, seq=19)
    assert plain_database.notifications.count_documents(LIVING) == 5


def test_a_transaction_has_so_many_entries_and_fifty_users() -> None:
    rows = [f"user{number // 2}" for number in range(150)]
    assert [len(portion) for portion in portions(rows, user_of=str)] == [100, 50]
    assert [len(portion) for portion in portions(rows, user_of=str, at_most=60)] == [60, 60, 30]
    assert [row for portion in portions(rows, user_of=str) for row in portion] == rows


# -- comments that are edited and deleted -----------------------------------------------------------------------------


async def test_an_edited_comment_changes_what_is_quoted_and_nothing_else(inbox: InboxStore) -> None:
    await inbox.deliver([delivery(1), delivery(2)])
    before, _ = await inbox.patch("bob", entry_id("bob", thread()), NotificationPatch(read=True), precondition=ANY)
    for comment_id, index in (("c1", 1), ("c2", 0)):
        assert await inbox.quote(comment_id, "Other words", (1003, 1, 1)) == 1
        after = await only(inbox)
        assert after.events[index].text == "Other words"
        assert after.body == ("Comment 2" if comment_id == "c1" else "Other words")
    assert (after.seq, after.version) == (before.seq + 2, before.version + 2)
    same = ("read_at", "seen_at", "updated_at", "created_at", "event_count", "title", "type", "reason", "actors")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert await in_step(inbox) == Counts(seq=after.seq)


async def test_an_older_text_never_comes_back(inbox: InboxStore) -> None:
    await inbox.deliver([delivery(1)])
    assert await inbox.quote("c1", "Third", (1003, 1, 1)) == 1
    assert await inbox.quote("c1", "Second", (1002, 1, 1)) == 0
    assert await inbox.quote("c1", "Third", (1004, 1, 1)) == 0
    assert (await only(inbox)).body == "Third"


async def test_a_deleted_comment_leaves_every_entry_and_an_empty_entry_goes(inbox: InboxStore) -> None:
    carols = delivery(2, actor="carol", type="mention", reason="mentioned")
    await inbox.deliver([delivery(1), carols, delivery(1, "dave")])
    assert await inbox.quote("c2", None, (1003, 1, 1)) == 1
    entry = await only(inbox)
    assert (entry.type, entry.reason, entry.body, entry.actors) == ("comment", "follows_thread", "Comment 1", ["alice"])
    assert (entry.event_count, entry.updated_at) == (1, delivery(1).event.at)
    assert await inbox.quote("c1", None, (1004, 1, 1)) == 2
    assert await listed(inbox) == []
    assert await in_step(inbox) == Counts(seq=3)
    assert (await in_step(inbox, "dave")).unread == 0
    assert await inbox.deliver([delivery(1), delivery(2, actor="carol"), delivery(1, "dave")]) == 0
    assert await inbox.quote("c1", None, (1004, 1, 1)) == 0


async def test_a_tombstone_keeps_no_content_and_is_revived_by_a_newer_event_only(
    inbox: InboxStore, plain_database: Any
) -> None:
    await inbox.deliver([delivery(1), delivery(2)])
    id_ = entry_id("bob", thread())
    await inbox.delete("bob", id_, precondition=ANY)
    assert plain_database.notifications.find_one() == {
        "_id": id_,
        "user_id": "bob",
        "seq": 2,
        "version": 2,
        "last_applied": [1002, 1, 1],
        "deleted_at": NOON,
        "expires_at": NOON + timedelta(days=90),
    }
    assert await inbox.deliver([delivery(1), delivery(2)]) == 0
    assert await inbox.deliver([delivery(3)]) == 1
    entry = await only(inbox)
    assert (entry.event_count, entry.created_at, entry.version) == (1, delivery(3).event.at, 3)
    assert await in_step(inbox) == Counts(unseen=1, unread=1, seq=3)


async def test_an_inbox_that_takes_nothing_keeps_no_other_from_its_own(
    inbox: InboxStore, plain_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = inbox._writer.deliver

    async def fails_for_bob(deliveries: Any, session: Any) -> int:
        if any(one.user_id == "bob" for one in deliveries):
            raise OverflowError("too large")
        return await deliver(deliveries, session)

    monkeypatch.setattr(inbox._writer, "deliver", fails_for_bob)
    assert await inbox.deliver([delivery(1, user) for user in ("alice", "bob", "carol")]) == 2
    assert sorted(plain_database.inboxes.distinct("_id")) == ["alice", "carol"]


async def test_a_worker_gets_on_though_a_reader_keeps_marking(inbox: InboxStore, database: Any) -> None:
    await inbox.deliver([delivery(number, subject=thread(f"T{number}")) for number in range(5)])
    over = asyncio.Event()

    async def mark() -> None:
        while not over.is_set():
            # As from another process: without waiting for its turn.
            await database.inboxes.update_one({"_id": "bob"}, {"$inc": {"version": 1}})
            await asyncio.sleep(0.02)

    marking = asyncio.ensure_future(mark())
    told = [delivery(10 + number, subject=thread(f"T{number % 60}")) for number in range(120)]
    try:
        assert await inbox.deliver(told) == 120
    finally:
        over.set()
        await marking


async def test_who_was_told_of_a_mention_in_a_comment_is_known(inbox: InboxStore) -> None:
    mention = {"type": "mention", "reason": "mentioned"}
    await inbox.deliver([delivery(1, **mention), delivery(1, "erin"), delivery(2, "dave", **mention)])
    assert await inbox.mentioned_already("c1", ["bob", "dave", "erin"]) == {"bob"}


# -- lost rights ------------------------------------------------------------------------------------------------------


async def test_entries_of_a_project_leave_the_inboxes_of_all_but_some(inbox: InboxStore) -> None:
    others = [delivery(2, user, subject=thread("U", "Q")) for user in ("bob", "carol")]
    await inbox.deliver([delivery(1), delivery(1, "carol"), *others, delivery(3, subject=CUSTOM)])
    assert await inbox.holders("P") == {"bob", "carol"}
    assert await inbox.projects_of("bob") == {"P", "Q"}
    assert await inbox.withdraw("P", keep=["carol"]) == 1
    assert await inbox.holders("P") == {"carol"}
    assert [entry.subject.kind for entry in await listed(inbox)] == ["custom", "thread"]
    assert (await in_step(inbox)).unread == 2
    assert (await in_step(inbox, "carol")).unread == 2
    assert await inbox.withdraw("P") == 1
    assert await inbox.withdraw_from("bob", project_ids=["Q", "R"]) == 1
    assert await inbox.projects_of("bob") == set()
    assert (await in_step(inbox)).unread == 1
    assert (await in_step(inbox, "carol")).unread == 1


# -- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_begins_with_the_newest_event_and_goes_on_where_it_ended(inbox: InboxStore) -> None:
    await inbox.deliver([*subjects(5), delivery(9, subject=thread("T2"))])
    seen: list[Any] = []
    cursor = None
    while True:
        page = await inbox.page("bob", EVERYTHING, asked(2, cursor))
        seen += [entry.subject.thread_id for entry in page.items]
        if page.next_cursor is UNSET:
            break
        cursor = page.next_cursor
    assert seen == ["T2", "T5", "T4", "T3", "T1"]


async def test_a_list_shows_what_its_filter_wants(inbox: InboxStore) -> None:
    await inbox.deliver(
        [
            *subjects(2),
            delivery(3, subject=thread("T3", "Q", None), type="mention"),
            msgspec.structs.replace(delivery(4, subject=CUSTOM, type="custom"), category="deploys"),
            delivery(5, "carol"),
        ]
    )
    first, second = (entry_id("bob", thread(name)) for name in ("T1", "T2"))
    await inbox.mark("bob", Mark(read=True, ids=[first]))
    await inbox.mark("bob", Mark(seen=True, archived=True, ids=[second]))
    third, custom = entry_id("bob", thread("T3")), entry_id("bob", CUSTOM)
    for wanted, ids in (
        (NotificationFilter(), [custom, third, first]),
        (NotificationFilter(state="unseen"), [custom, third]),
        (NotificationFilter(state="unread"), [custom, third]),
        (NotificationFilter(state="read"), [first]),
        (NotificationFilter(state="archived"), [second]),
        (NotificationFilter(type="mention"), [third]),
        (NotificationFilter(project_id="Q"), [third]),
        (NotificationFilter(project_id="P", state="archived"), [second]),
        (NotificationFilter(item_id="I"), [first]),
        (NotificationFilter(thread_id="T1"), [first]),
        (NotificationFilter(thread_id="T1", state="unread"), []),
        (NotificationFilter(category="deploys"), [custom]),
    ):
        assert [entry.id for entry in await listed(inbox, wanted)] == ids, wanted
    assert [entry.id for entry in await listed(inbox, hidden=["P", "R"])] == [custom, third]
    assert await listed(inbox, NotificationFilter(project_id="P"), hidden=["P"]) == []


async def test_what_does_not_fit_is_reported_and_not_shown(
    inbox: InboxStore, plain_database: Any, reported: Reported
) -> None:
    await inbox.deliver(subjects(2))
    broken = entry_id("bob", thread("T1"))
    plain_database.notifications.update_one({"_id": broken}, {"$set": {"title": 7}})
    assert [entry.subject.thread_id for entry in await listed(inbox)] == ["T2"]
    assert reported != []
    with pytest.raises(NotFound):
        await inbox.get("bob", broken)
    with pytest.raises(NotFound):
        await inbox.patch("bob", broken, NotificationPatch(read=True), precondition=ANY)
    assert (await inbox.mark("bob", Mark(read=True, until=99))).unread == 0
    await in_step(inbox)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"state": "unread"},
        {"state": "archived"},
        {"project_id": "P"},
        {"thread_id": "T2", "state": "unseen"},
        {"type": "comment", "category": "deploys"},
    ],
)
@pytest.mark.parametrize("hidden", [(), ("Q",)])
@pytest.mark.new_database
async def test_a_list_walks_an_index_of_the_inbox_and_sorts_nothing(
    inbox: InboxStore, plain_database: Any, wanted: dict[str, Any], hidden: tuple[str, ...]
) -> None:
    await inbox.deliver([*subjects(5), *(delivery(1, f"user{number}") for number in range(100))])
    plain_database.command("profile", 2)
    await inbox.page("bob", NotificationFilter(**wanted), asked(3), hidden=hidden)
    plain_database.command("profile", 0)
    (read,) = plain_database.system.profile.find({"ns": f"{plain_database.name}.notifications"})
    assert read["planSummary"].startswith("IXSCAN")
    assert not read.get("hasSortStage", False)
    assert read["docsExamined"] <= 5


@pytest.mark.parametrize("wanted", [{}, {"project_id": "P"}])
@pytest.mark.parametrize("hidden", [(), ("Q",)])
@pytest.mark.new_database
async def test_a_list_sorts_nothing_however_much_the_inbox_holds_of_other_projects(
    roomy: InboxStore, plain_database: Any, wanted: dict[str, Any], hidden: tuple[str, ...]
) -> None:
    of_another = [delivery(number, subject=thread(f"U{number}", "Q")) for number in range(6, 26)]
    for portion in (subjects(5), of_another):
        await roomy.deliver(portion)
    plain_database.command("profile", 2)
    page = await roomy.page("bob", NotificationFilter(**wanted), asked(3), hidden=hidden)
    plain_database.command("profile", 0)
    assert len(page.items) == 3
    (read,) = plain_database.system.profile.find({"ns": f"{plain_database.name}.notifications"})
    assert read["planSummary"].startswith("IXSCAN")
    assert not read.get("hasSortStage", False)


@pytest.mark.new_database
async def test_counting_how_much_an_inbox_holds_reads_no_documents(inbox: InboxStore, plain_database: Any) -> None:
    await inbox.deliver(subjects(4))
    await inbox.delete("bob", entry_id("bob", thread("T1")), precondition=ANY)
    plain_database.command("profile", 2)
    await inbox.deliver([delivery(9, subject=thread("T9"))])
    plain_database.command("profile", 0)
    (read,) = plain_database.system.profile.find({"command.aggregate": "notifications"})
    assert read["docsExamined"] == 0
    assert read["keysExamined"] <= 5


@pytest.mark.parametrize("act", ["quote", "withdraw", "withdraw_from", "holders", "projects_of", "mentioned_already"])
@pytest.mark.new_database
async def test_what_the_worker_looks_for_it_finds_through_an_index(
    inbox: InboxStore, plain_database: Any, act: str
) -> None:
    await inbox.deliver([delivery(number, f"user{number}", subject=thread("T", f"P{number}")) for number in range(100)])
    plain_database.command("profile", 2)
    await {
        "quote": lambda: inbox.quote("c7", "Other words", (2000, 1, 1)),
        "withdraw": lambda: inbox.withdraw("P7", keep=["user8"]),
        "withdraw_from": lambda: inbox.withdraw_from("user7", project_ids=["P7"]),
        "holders": lambda: inbox.holders("P7"),
        "projects_of": lambda: inbox.projects_of("user7"),
        "mentioned_already": lambda: inbox.mentioned_already("c7", ["user7", "user8"]),
    }[act]()
    plain_database.command("profile", 0)
    reads = list(plain_database.system.profile.find({"ns": f"{plain_database.name}.notifications"}))
    assert reads != []
    for read in reads:
        assert read.get("docsExamined", 0) <= 1
        assert read.get("planSummary", "IXSCAN") != "COLLSCAN"


# -- what the owner does ----------------------------------------------------------------------------------------------


async def test_every_state_goes_both_ways(inbox: InboxStore, plain_database: Any) -> None:
    await inbox.deliver([delivery(1)])
    id_ = entry_id("bob", thread())
    for patch, states, counts in (
        (NotificationPatch(seen=True), "seen", (0, 1)),
        (NotificationPatch(read=True), "seen read", (0, 0)),
        (NotificationPatch(read=False), "seen", (0, 1)),
        (NotificationPatch(seen=False), "", (1, 1)),
        (NotificationPatch(read=True), "seen read", (0, 0)),
        (NotificationPatch(seen=False), "", (1, 1)),
        (NotificationPatch(archived=True), "archived", (0, 0)),
        (NotificationPatch(archived=False), "", (1, 1)),
        (NotificationPatch(seen=True, read=False, archived=True), "seen archived", (0, 0)),
    ):
        entry, returned = await inbox.patch("bob", id_, patch, precondition=ANY)
        assert [name for name in ("seen", "read", "archived") if getattr(entry, f"{name}_at") is not UNSET] == (
            states.split()
        )
        assert (returned.unseen, returned.unread) == counts
        assert returned == await in_step(inbox)
        assert entry.seq == returned.seq
        stored = plain_database.notifications.find_one()
        assert ("expires_at" in stored) == ("read" in states or "archived" in states)


async def test_what_is_as_wanted_already_is_not_written(
    inbox: InboxStore, plain_database: Any, clock: list[datetime]
) -> None:
    await inbox.deliver([delivery(1)])
    id_ = entry_id("bob", thread())
    first = await inbox.patch("bob", id_, NotificationPatch(read=True), precondition=ANY)
    clock.append(NOON + timedelta(hours=1))
    assert await inbox.patch("bob", id_, NotificationPatch(read=True), precondition=ANY) == first
    assert await inbox.patch("bob", id_, NotificationPatch(), precondition=ANY) == first
    assert await inbox.mark("bob", Mark(seen=True, until=99)) == first[1]
    assert plain_database.inboxes.find_one()["version"] == 2


async def test_a_stale_change_is_refused_and_changes_nothing(inbox: InboxStore) -> None:
    await inbox.deliver([delivery(1)])
    entry = await only(inbox)
    precondition = if_match(document_etag(entry))
    await inbox.deliver([delivery(2)])
    with pytest.raises(StaleVersion):
        await inbox.patch("bob", entry.id, NotificationPatch(read=True), precondition=precondition)
    with pytest.raises(StaleVersion):
        await inbox.delete("bob", entry.id, precondition=precondition)
    assert (await in_step(inbox)).unread == 1


async def test_deleting_again_is_no_error_and_what_is_not_mine_is_not_found(inbox: InboxStore) -> None:
    await inbox.deliver(subjects(2))
    id_ = entry_id("bob", thread("T1"))
    for user in ("carol", "bob"):
        with pytest.raises(NotFound):
            await inbox.get(user, id_ if user == "carol" else "nothing")
        with pytest.raises(NotFound):
            await inbox.delete(user, id_ if user == "carol" else "nothing", precondition=ANY)
    assert await inbox.delete("bob", id_, precondition=ANY) == Counts(unseen=1, unread=1, seq=3)
    assert await inbox.delete("bob", id_, precondition=ANY) == Counts(unseen=1, unread=1, seq=3)
    with pytest.raises(NotFound):
        await inbox.get("bob", id_)
    with pytest.raises(NotFound):
        await inbox.patch("bob", id_, NotificationPatch(read=True), precondition=ANY)
    await in_step(inbox)


async def test_a_mark_reaches_what_is_named_and_nothing_else(inbox: InboxStore) -> None:
    await inbox.deliver([*subjects(5), delivery(6, "carol")])
    ids = [entry_id("bob", thread("T1")), entry_id("carol", thread()), "nothing"]
    assert await inbox.mark("bob", Mark(read=True, ids=ids)) == Counts(unseen=4, unread=4, seq=6)
    assert (await in_step(inbox, "carol")).unread == 1
    wanted = NotificationFilter(thread_id="T2")
    assert (await inbox.mark("bob", Mark(read=True, filter=wanted))).unread == 3
    assert (await inbox.mark("bob", Mark(read=True, until=4, filter=NotificationFilter(thread_id="T5")))).unread == 3
    assert (await inbox.mark("bob", Mark(read=True, until=4))).unread == 1
    assert (await inbox.mark("bob", Mark(seen=True, until=0))).unseen == 1
    assert (await inbox.mark("bob", Mark(archived=True, filter=NotificationFilter(state="read")))).unread == 1
    assert len(await listed(inbox, NotificationFilter(state="archived"))) == 4
    assert (await inbox.mark("bob", Mark(read=False, until=99))).unread == 1
    assert (await inbox.mark("bob", Mark(archived=False, until=99))).unread == 1
    assert (await inbox.mark("bob", Mark(read=False, until=99))).unread == 5
    await in_step(inbox)


async def test_a_mark_with_an_old_watermark_leaves_newer_events_alone(inbox: InboxStore) -> None:
    await inbox.deliver(subjects(2))
    until = (await inbox.counts("bob")).seq
    await inbox.deliver([delivery(3, subject=thread("T1")), delivery(4, subject=thread("T3"))])
    await inbox.mark("bob", Mark(read=True, until=until))
    unread = await listed(inbox, NotificationFilter(state="unread"))
    assert [entry.subject.thread_id for entry in unread] == ["T3", "T1"]


async def test_a_mark_reaches_what_another_tab_has_marked_since_its_watermark(inbox: InboxStore) -> None:
    await inbox.deliver(subjects(2))
    until = (await inbox.counts("bob")).seq
    await inbox.mark("bob", Mark(seen=True, until=until))
    assert await inbox.mark("bob", Mark(read=True, until=until)) == Counts(seq=6)


async def test_an_entry_whose_number_nobody_could_raise_is_not_counted_by(
    inbox: InboxStore, plain_database: Any
) -> None:
    await inbox.deliver(subjects(2))
    plain_database.notifications.update_one({"_id": entry_id("bob", thread("T1"))}, {"$set": {"seq": 2**63 - 1}})
    plain_database.inboxes.drop()
    assert (await inbox.counts("bob")).seq == 2
    assert await inbox.deliver([delivery(3, subject=thread("T3"))]) == 1
    assert (await inbox.get("bob", entry_id("bob", thread("T3")))).seq == 3


async def test_what_arrives_during_a_mark_stays_unread(inbox: InboxStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await inbox.deliver(subjects(3))
    original = InboxStore._change_all

    async def late(self: InboxStore, *arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await self.deliver([delivery(9, subject=thread("T1"))])
        return await original(self, *arguments, **options)

    monkeypatch.setattr(InboxStore, "_change_all", late)
    assert (await inbox.mark("bob", Mark(read=True, until=99))).unread == 1
    assert [entry.subject.thread_id for entry in await listed(inbox, NotificationFilter(state="unread"))] == ["T1"]


async def test_a_big_inbox_is_marked_in_several_transactions(database: Any, plain_database: Any) -> None:
    big = InboxStore(database, report=lambda *_: None, retention=timedelta(days=1))
    await big.deliver(subjects(450))
    version = plain_database.inboxes.find_one()["version"]
    assert await big.mark("bob", Mark(read=True, until=450)) == Counts(seq=900)
    assert plain_database.inboxes.find_one()["version"] == version + 3
    await in_step(big)


# -- input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"read": true}',
        '{"until": 1}',
        '{"read": 1, "until": 1}',
        '{"read": true, "until": -1}',
        '{"read": true, "until": 1.5}',
        '{"read": true, "ids": ["a b"]}',
        '{"read": true, "filter": {"state": "seen"}}',
        '{"read": true, "filter": {"user_id": "carol"}}',
        '{"read": true, "until": 1, "more": 1}',
        '{"seen": false, "read": true, "until": 1}',
    ],
)
def test_a_mark_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Mark)


def test_a_mark_that_names_an_entry_twice_is_refused_with_the_place() -> None:
    with pytest.raises(Invalid) as refusal:
        msgspec.json.decode('{"read": true, "ids": ["a", "b", "a"]}', type=Mark)
    assert [error.path for error in refusal.value.errors] == ["$.ids[2]"]


@pytest.mark.parametrize("text", ['{"seen": false, "read": true}', '{"read": null}', '{"status": 1}'])
def test_a_patch_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=NotificationPatch)


async def test_a_cursor_of_another_list_is_refused(inbox: InboxStore) -> None:
    with pytest.raises(Invalid):
        await inbox.page("bob", EVERYTHING, asked(cursor="x"))
