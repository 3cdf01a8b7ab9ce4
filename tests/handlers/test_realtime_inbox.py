"""The topic `inbox`: everybody hears of their own, over every transport, what a fresh read would give."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from pymongo.database import Database
from tornado.ioloop import IOLoop

from app import asyncapi
from app.hub import Hub
from models.etag import if_match
from models.inbox_store import InboxStore
from models.notification import Counts, Delivery, NotificationEvent, Subject, entry_id
from models.notification_input import Mark, NotificationFilter, NotificationPatch
from models.page import PageRequest
from models.snapshot import SnapshotStore
from tests.conftest import Copydesk
from tests.contract.conformance import frame_complaints
from tests.editor import Editor, Store
from tests.handlers.event_source import Open as Listen
from tests.handlers.event_source import poll
from tests.handlers.inbox_watch import (
    TOPIC,
    TRANSPORTS,
    Watch,
    events_of,
    said,
    store_of,
    until_event,
    until_push,
    until_withdrawn,
)
from tests.handlers.relayed import now, settled
from tests.stepped import Stepped

Plain = Database[dict[str, Any]]
Open = Callable[..., Awaitable[Watch]]

ANY = if_match(None)
_ALL = PageRequest(limit=200, sort="-updated_at", scope=b"", position="")
LIVE = asyncapi.document(version="1")


class Desk:
    """A project, and the inboxes that things are told to as the worker tells them."""

    def __init__(self, copydesk: Copydesk, project: str) -> None:
        self.copydesk, self.project = copydesk, project
        self.inboxes = InboxStore(copydesk.database, report=lambda *_: None, retention=timedelta(days=90))
        self._told = 0

    @classmethod
    async def open(cls, copydesk: Copydesk, **project: Any) -> Desk:
        return cls(copydesk, await copydesk.project(**project))

    def subject(self, thread: str = "t") -> Subject:
        return Subject(kind="thread", project_id=self.project, thread_id=thread)

    def entry(self, thread: str = "t", user: str = "bob") -> str:
        """The id of a user's entry about a thread."""
        return entry_id(user, self.subject(thread))

    async def tell(self, comment: str, thread: str = "t", *users: str, text: str | None = None) -> str:
        """Tell users (bob) of a comment; the id of the first one's entry."""
        self._told += 1
        text = f"says {comment}" if text is None else text
        users = users or ("bob",)
        deliveries = [
            Delivery(
                user_id=user,
                subject=self.subject(thread),
                event=NotificationEvent(
                    id=f"e-{comment}-{user}",
                    type="comment",
                    reason="follows_thread",
                    at=f"2026-01-02T12:{self._told // 60:02}:{self._told % 60:02}.000Z",
                    actor="alice",
                    comment_id=comment,
                    text=text,
                ),
                title=f"Thread {thread}",
                body=text,
                place=(self._told, 1, 1),
            )
            for user in users
        ]
        assert await self.inboxes.deliver(deliveries) == len(users)
        return self.entry(thread, users[0])

    async def forget(self, comment: str) -> None:
        """The comment was deleted."""
        self._told += 1
        assert await self.inboxes.quote(comment, None, (self._told, 1, 1)) > 0

    async def patch(self, thread: str = "t", **states: bool) -> None:
        await self.inboxes.patch("bob", self.entry(thread), NotificationPatch(**states), precondition=ANY)

    async def read(self, user: str = "bob") -> tuple[dict[str, Any], dict[str, Any]]:
        """A fresh read: the entries that are not archived by id, and the counts."""
        page = await self.inboxes.page(user, NotificationFilter(), _ALL)
        entries = {entry.id: msgspec.to_builtins(entry) for entry in page.items}
        return entries, msgspec.to_builtins(await self.inboxes.counts(user))


@pytest.fixture
def another(copydesk: Copydesk, start_server: Callable[..., Copydesk]) -> Copydesk:
    """A second process on the same database."""
    return start_server()


@pytest.fixture(params=TRANSPORTS)
def watch(request: pytest.FixtureRequest, io_loop: IOLoop, copydesk: Copydesk) -> Iterator[Open]:
    """Watch a user's inbox over one of the transports, from a position on; ends with the test."""
    opened: list[Watch] = []
    servers = {copydesk}

    async def open_one(user: str = "bob", since: str | None = None, server: Copydesk = copydesk) -> Watch:
        servers.add(server)
        opened.append(await TRANSPORTS[request.param].open(server, user, since))
        return opened[-1]

    yield open_one

    async def close() -> None:
        for one in opened:
            await one.close()
        for server in servers:
            await asyncio.wait_for(server.server.connections.emptied(), 20)

    io_loop.run_sync(close)


from_memory_and_from_the_database = pytest.mark.parametrize(
    "copydesk", [{}, {"history_events": 4}], indirect=True, ids=["memory", "database"]
)


def check_reach(copydesk: Copydesk, since: str) -> None:
    """The server remembers what came after a position only where it was given the memory."""
    covered = copydesk.server._history.covers(copydesk.server._codec.decode(since))
    assert covered is (copydesk.server.settings.history_events > 4)


def in_short(watch: Watch) -> list[tuple[str, str, str]]:
    return [(event["kind"], event["change"], event["id"]) for event in events_of(watch)]


# -- what is told, and to whom ----------------------------------------------------------------------------------------


async def test_what_comes_into_an_inbox_is_told_to_its_owner_alone(copydesk: Copydesk, watch: Open) -> None:
    desk = await Desk.open(copydesk)
    bob, another_tab, carol = [await watch(user) for user in ("bob", "bob", "carol")]
    entry = await desk.tell("c1")
    hers = await desk.tell("c2", "t", "carol")
    for tab in (bob, another_tab):
        event = await until_event(tab, kind="notification")
        counts = await until_event(tab, kind="counts")
        entries, stored = await desk.read()
        assert (event["change"], event["id"], event["version"], event["doc"]) == ("enter", entry, 1, entries[entry])
        assert (counts["id"], counts["doc"]) == ("bob", stored)
        assert stored == {"unseen": 1, "unread": 1, "seq": 1}
    await until_event(carol, id=hers)
    assert {event["id"] for event in events_of(carol)} <= {hers, "carol"}
    assert "says c1" not in said(carol)
    assert "user_id" not in said(bob)
    problems = [problem for one in (bob, carol) for push in one.pushes for problem in frame_complaints(LIVE, push)]
    assert problems == []


async def test_every_state_is_told_with_the_counts_that_it_makes(copydesk: Copydesk, watch: Open) -> None:
    desk = await Desk.open(copydesk)
    entry = await desk.tell("c1")
    bob = await watch()
    for states, change, unread in (
        ({"read": True}, "update", 0),
        ({"read": False}, "update", 1),
        ({"archived": True}, "update", 0),
        ({"archived": False}, "update", 1),
    ):
        heard = len(events_of(bob))
        await desk.patch(**states)
        while len(events_of(bob)) < heard + 2:
            await bob.hear()
        by_kind = {event["kind"]: event for event in events_of(bob)[heard:]}
        assert (by_kind["notification"]["change"], by_kind["notification"]["id"]) == (change, entry)
        assert by_kind["counts"]["doc"]["unread"] == unread
        assert ("archived_at" in by_kind["notification"]["doc"]) is bool(states.get("archived"))
        held, counts = await desk.read()
        assert (store_of(bob).of("notification"), store_of(bob).counts) == (held, counts)
    await desk.inboxes.delete("bob", entry, precondition=ANY)
    gone = await until_event(bob, kind="notification", change="delete")
    assert "doc" not in gone


async def test_a_snapshot_is_the_newest_entries_that_are_not_archived_and_the_counts_of_all(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    desk = await Desk.open(copydesk)
    for number in range(205):
        await desk.tell(f"c{number}", f"t{number}")
    await desk.patch("t204", archived=True)
    await desk.patch("t203", read=True)
    await desk.inboxes.delete("bob", desk.entry("t202"), precondition=ANY)
    plain_database.notifications.insert_one({"_id": "unfit", "user_id": "bob", "updated_at": now(), "events": 5})
    for transport in ("websocket", "sse"):
        bob = await TRANSPORTS[transport].open(copydesk, "bob")
        snapshots = [push for push in bob.pushes if push["push"] == "snapshot"]
        told = [entry for push in snapshots for entry in push["data"]["notifications"]]
        assert [entry["id"] for entry in told] == [
            desk.entry(f"t{number}") for number in range(203, 2, -1) if number != 202
        ][:199]
        assert all(push["data"]["counts"] == {"unseen": 202, "unread": 202, "seq": 208} for push in snapshots)
        assert [problem for push in bob.pushes for problem in frame_complaints(LIVE, push)] == []
        await bob.close()


async def test_the_entries_and_the_counts_of_a_snapshot_are_of_one_moment(copydesk: Copydesk) -> None:
    desk = await Desk.open(copydesk)
    for number in range(8):
        await desk.tell(f"c{number}", f"t{number}")
    snapshots = SnapshotStore(copydesk.database, report=lambda *_: None)

    async def write() -> None:
        for number in range(32):
            await desk.patch(f"t{number % 8}", read=number % 16 < 8)

    writing = asyncio.ensure_future(write())
    different = set()
    while not writing.done():
        inbox = await snapshots.inbox("bob")
        unread = [entry for entry in inbox.notifications if entry.read_at is msgspec.UNSET]
        assert inbox.counts.unread == len(unread)
        assert inbox.counts.seq == max(entry.seq for entry in inbox.notifications)
        different.add(inbox.counts.seq)
    await writing
    assert len(different) > 3, "it was read between the writes"


async def test_who_was_never_told_anything_has_an_empty_inbox(copydesk: Copydesk) -> None:
    bob = await TRANSPORTS["websocket"].open(copydesk, "bob")
    snapshot = await until_push(bob, "snapshot")
    assert snapshot["data"] == {"notifications": [], "counts": {"unseen": 0, "unread": 0, "seq": 0}}


async def test_nobody_can_name_the_inbox_of_another(copydesk: Copydesk, listen: Listen) -> None:
    desk = await Desk.open(copydesk)
    bob, carol = await copydesk.editor("bob"), await copydesk.editor("carol")
    # While hers is refused, his must not get her name for it.
    refused = asyncio.gather(*(carol.command("subscribe", topic="inbox:bob") for _ in range(20)))
    await bob.subscribe(TOPIC)
    assert {reply["error"]["code"] for reply in await refused} == {"invalid"}
    await desk.tell("c1")
    await bob.until_event(TOPIC, kind="notification")
    await settled(copydesk, bob, carol)
    assert set(bob.pushes) <= {TOPIC, ""}
    assert not any("events" in frame for frame in carol.frames)
    for editor in (bob, carol):
        await editor.close()
    (told,) = (await poll(copydesk, "inbox:bob", "carol"))["pushes"]
    assert (told["push"], told["code"]) == ("unsubscribed", "invalid")
    source = await listen("inbox:bob", "carol")
    assert (await source.until("unsubscribed"))["code"] == "invalid"


# -- coming back ------------------------------------------------------------------------------------------------------


@from_memory_and_from_the_database
async def test_what_was_missed_comes_whole_and_in_order(copydesk: Copydesk, another: Copydesk, watch: Open) -> None:
    desk = await Desk.open(copydesk)
    await desk.tell("c0", "other")
    first = await watch()
    await desk.tell("c1")
    while len(events_of(first)) < 2:
        await first.hear()
    since, seen = first.position, len(events_of(first))
    entry = await desk.tell("c2")
    await desk.tell("c3", "t", "carol")
    await desk.patch(read=True)
    await desk.patch("other", archived=True)
    await settled(copydesk)
    check_reach(copydesk, since)
    again = await watch(since=since)
    marker = await desk.tell("marker", "last")
    await until_event(again, id=marker)
    await until_event(first, id=marker)
    assert again.not_resumed is None
    assert not [push for push in again.pushes if push["push"] == "snapshot"]
    expected = in_short(first)[seen:]
    assert in_short(again)[: len(expected)] == expected
    assert [change for kind, change, _ in expected if kind == "notification"] == ["update", "update", "update", "enter"]
    assert [one for kind, _, one in expected if kind == "notification"][:2] == [entry, entry]
    # Positions hold on any process.
    elsewhere = await watch(since=since, server=another)
    await until_event(elsewhere, id=marker)
    assert in_short(elsewhere)[: len(expected)] == expected


@from_memory_and_from_the_database
async def test_a_replay_does_not_quote_what_was_deleted_since(copydesk: Copydesk, watch: Open) -> None:
    desk = await Desk.open(copydesk)
    first = await watch()
    since = first.position
    await desk.tell("s1", text="secret one")
    await desk.tell("s2", text="secret two")
    await desk.tell("p1", text="public one")
    await desk.tell("s3", "gone", text="secret three")
    for comment in ("s1", "s2", "s3"):
        await desk.forget(comment)
    await settled(copydesk)
    check_reach(copydesk, since)
    again = await watch(since=since)
    marker = await desk.tell("marker", "last")
    await until_event(again, id=marker)
    assert again.not_resumed is None
    changes = [event["change"] for event in events_of(again) if event["kind"] == "notification"]
    assert changes == ["enter", "update", "update", "enter", "update", "update", "delete", "enter"]
    assert "secret" not in said(again)
    assert "public one" in said(again)
    entries, counts = await desk.read()
    assert store_of(again).of("notification") == entries
    assert store_of(again).counts in (None, counts)


@from_memory_and_from_the_database
async def test_after_the_loss_of_a_project_what_was_told_of_it_is_not_told_again(
    copydesk: Copydesk, watch: Open
) -> None:
    member = {"principal": "user:bob", "role": "viewer"}
    desk = await Desk.open(copydesk, visibility="private", members=[member])
    first = await watch()
    since = first.position
    await desk.tell("c1", text="confidential")
    await until_event(first, kind="notification")
    await settled(copydesk)
    kept = first.position
    owner = [{"principal": "user:alice", "role": "owner"}]
    await copydesk.call("PATCH", f"/projects/{desk.project}", {"members": owner})
    await until_withdrawn(first)
    while await copydesk.database.notifications.find_one({"user_id": "bob", "deleted_at": None}):  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # the worker tells of it once it has done it
    await desk.tell("c2", "elsewhere", "carol")
    await settled(copydesk)
    check_reach(copydesk, since)
    for position in (since, kept):
        again = await watch(since=position)
        if again.not_resumed is None:
            await until_push(again, "reset")
        assert again.not_resumed == "rights"
        assert "confidential" not in said(again)
        assert store_of(again).of("notification") == {}


async def test_the_snapshot_leaves_out_what_may_not_be_seen_any_more(
    copydesk: Copydesk, plain_database: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(*_: Any, **__: Any) -> int:
        return 0

    # The worker takes them out of the inboxes a moment later.
    monkeypatch.setattr(InboxStore, "withdraw", not_yet)
    monkeypatch.setattr(InboxStore, "withdraw_from", not_yet)
    member = {"principal": "role:desk", "role": "viewer"}
    private = await Desk.open(copydesk, visibility="private", members=[member])
    public, deleted = await Desk.open(copydesk), await Desk.open(copydesk)
    entries = [
        await desk.tell("c1", thread, "bob", "carol")
        for desk, thread in ((private, "private"), (public, "public"), (deleted, "deleted"))
    ]
    custom = {"_id": "custom", "subject": {"kind": "custom", "posting_id": "p"}}
    stored = plain_database.notifications.find_one({"_id": entries[1]})
    assert stored is not None
    plain_database.notifications.insert_one({**stored, **custom})
    plain_database.projects.update_one({"_id": deleted.project}, {"$set": {"deleted_at": now()}})
    bob = await copydesk.editor("bob")
    await bob.subscribe(TOPIC)
    assert set(bob.stores[TOPIC].of("notification")) == {entries[1], "custom"}
    desk = await copydesk.editor("bob", "desk")
    await desk.subscribe(TOPIC)
    assert set(desk.stores[TOPIC].of("notification")) == {entries[0], entries[1], "custom"}
    assert desk.stores[TOPIC].counts == {"unseen": 3, "unread": 3, "seq": 3}, "until the entry is taken out"


# -- losing the thread ------------------------------------------------------------------------------------------------


async def test_a_change_that_nobody_can_place_makes_all_inboxes_be_read_again(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    desk = await Desk.open(copydesk)
    entry = await desk.tell("c1")
    kept = await desk.tell("c2", "other")
    bob = await copydesk.editor("bob")
    for topic in (TOPIC, "projects", f"project:{desk.project}"):
        await bob.subscribe(topic)
    plain_database.command("collMod", "notifications", changeStreamPreAndPostImages={"enabled": False})
    plain_database.notifications.delete_one({"_id": entry})
    reset = await bob.next_push("reset", TOPIC)
    assert reset["reason"] == "image_missing"
    await bob.next_push("live", TOPIC, after=1)
    assert set(bob.stores[TOPIC].of("notification")) == {kept}
    assert not bob.of("reset", "projects")
    assert not bob.of("reset", f"project:{desk.project}")
    # Without its document, an event says which one to fetch.
    plain_database.notifications.update_one({"_id": kept}, {"$set": {"title": "New"}})
    thin = await bob.until_event(TOPIC, id=kept)
    assert (thin["change"], thin["version"], "doc" in thin) == ("update", None, False)


async def test_dropped_inboxes_are_read_again(copydesk: Copydesk, plain_database: Plain) -> None:
    desk = await Desk.open(copydesk)
    await desk.tell("c1")
    bob = await copydesk.editor("bob")
    await bob.subscribe(TOPIC)
    entries, counts = await desk.read()
    plain_database.inboxes.drop()
    await bob.next_push("reset", TOPIC)
    await bob.next_push("live", TOPIC, after=1)
    assert (bob.stores[TOPIC].of("notification"), bob.stores[TOPIC].counts) == (entries, counts)


async def test_counts_that_are_not_stored_are_to_be_fetched_and_follow_from_the_entries(
    copydesk: Copydesk, plain_database: Plain
) -> None:
    desk = await Desk.open(copydesk)
    await desk.tell("c1")
    bob = await copydesk.editor("bob")
    await bob.subscribe(TOPIC)
    plain_database.inboxes.delete_one({"_id": "bob"})
    thin = await bob.until_event(TOPIC, kind="counts")
    assert (thin["change"], thin["version"], "doc" in thin) == ("update", None, False)
    await bob.subscribe(TOPIC)
    assert bob.stores[TOPIC].counts == (await desk.read())[1] == {"unseen": 1, "unread": 1, "seq": 1}


# -- old snapshot plus events is a fresh read -------------------------------------------------------------------------

Action = Callable[[Desk, Plain], Awaitable[object]]


async def _foreign(what: object) -> None:
    """Another program's write is done by now."""


ACTIONS: dict[str, Action] = {
    "tell of something new": lambda desk, _: desk.tell("new", "new"),
    "tell of more": lambda desk, _: desk.tell("more"),
    "tell of more in what is archived": lambda desk, _: desk.tell("more", "archived"),
    "tell another": lambda desk, _: desk.tell("more", "t", "carol"),
    "mark as seen": lambda desk, _: desk.patch(seen=True),
    "mark as read": lambda desk, _: desk.patch(read=True),
    "mark as unread": lambda desk, _: desk.patch("read", read=False),
    "archive": lambda desk, _: desk.patch(archived=True),
    "take out of the archive": lambda desk, _: desk.patch("archived", archived=False),
    "remove": lambda desk, _: desk.inboxes.delete("bob", desk.entry(), precondition=ANY),
    "mark all as read": lambda desk, _: desk.inboxes.mark("bob", Mark(read=True, until=1000)),
    "edit a comment": lambda desk, _: desk.inboxes.quote("c2", "Edited", (500, 1, 1)),
    "delete a comment": lambda desk, _: desk.forget("c2"),
    "delete the only comment": lambda desk, _: desk.forget("c3"),
    "lose the project": lambda desk, _: desk.inboxes.withdraw(desk.project, keep={"carol"}),
    "change from outside": lambda desk, plain: _foreign(
        plain.notifications.update_one({"_id": desk.entry()}, {"$set": {"title": "Foreign"}})
    ),
    "break from outside": lambda desk, plain: _foreign(
        plain.notifications.update_one({"_id": desk.entry()}, {"$set": {"title": 5}})
    ),
    "delete for good from outside": lambda desk, plain: _foreign(plain.notifications.delete_one({"_id": desk.entry()})),
    "give to another from outside": lambda desk, plain: _foreign(
        plain.notifications.update_one({"_id": desk.entry()}, {"$set": {"user_id": "carol"}})
    ),
    "set the counts from outside": lambda _, plain: _foreign(
        plain.inboxes.update_one({"_id": "bob"}, {"$set": {"unread": 9}})
    ),
}


@pytest.mark.parametrize("name", ACTIONS)
async def test_whatever_is_written_while_subscribing_to_an_inbox_is_seen_once(
    copydesk: Copydesk, plain_database: Plain, name: str
) -> None:
    point = 0
    while (await _subscribe_with(copydesk, plain_database, ACTIONS[name], point)).ran:
        point += 1
    assert point > 3, "subscribing has suspension points"


async def test_a_hub_that_collects_nothing_for_an_inbox_is_caught(
    copydesk: Copydesk, plain_database: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "_collect", lambda _hub, _subscription, _record: None)

    async def at_every_point() -> None:
        for point in range(40):
            await _subscribe_with(copydesk, plain_database, ACTIONS["mark as read"], point)

    with pytest.raises(AssertionError, match="differ"):
        await at_every_point()


async def _subscribe_with(copydesk: Copydesk, plain: Plain, action: Action, point: int) -> Stepped:
    """Subscribe with `action` at a suspension point; then compare what bob holds with a fresh read."""
    for name in ("notifications", "inboxes"):
        plain[name].delete_many({})
    desk = await Desk.open(copydesk)
    for comment, thread in (("c1", "t"), ("c2", "t"), ("c3", "single"), ("c4", "read"), ("c5", "archived")):
        await desk.tell(comment, thread)
    await desk.patch("read", read=True)
    await desk.patch("archived", archived=True)
    await settled(copydesk)
    joiner = copydesk.server._live.joiner
    original = joiner._start
    stepped: list[Stepped] = []

    async def act() -> None:
        await action(desk, plain)
        # On until listeners were told of it, or would have been: the next change comes after it.
        await settled(copydesk)

    def start(work: Any) -> None:
        stepped.append(Stepped(work, point, act))
        original(stepped[-1])

    bob = await copydesk.editor("bob")
    joiner._start = start  # type: ignore[method-assign]
    try:
        await bob.subscribe(TOPIC)
        # The action may come after the reply, and is done before this.
        await bob.next_push("live", TOPIC)
    finally:
        joiner._start = original  # type: ignore[method-assign]
    if not stepped[0].ran:
        await act()
    await settled(copydesk, bob)
    await _compare(desk, bob)
    await bob.close()
    return stepped[0]


async def _compare(desk: Desk, bob: Editor) -> None:
    held: Store = bob.stores[TOPIC]
    entries, counts = await desk.read()
    assert held.of("notification") == entries, "the entries differ"
    assert (held.counts or msgspec.to_builtins(Counts())) == counts, "the counts differ"
    fresh = await desk.copydesk.editor("bob")
    await fresh.subscribe(TOPIC)
    assert fresh.stores[TOPIC].of("notification") == entries, "the snapshot differs"
    assert fresh.stores[TOPIC].counts == counts, "the counts of the snapshot differ"
    await fresh.close()
