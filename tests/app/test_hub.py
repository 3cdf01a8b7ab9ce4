"""Who hears what, and in what order: the hub alone, without sockets or a database."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.hub import FRAME_BYTES, Hub, Subscription, portions
from app.position import Position
from app.protocol import CloseCode, Frame
from app.record import Record
from app.topics import is_inbox, is_project
from models.errors import NotFound
from tests.app.stream import NOON, change, comment, entry, identity, inbox, item, project

TOPIC = "project:p"
PRIVATE: dict[str, Any] = {"visibility": "private"}


class Client:
    """Keeps what it is sent. `limit`: bytes after which it does not keep up and is closed."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.frames: list[Frame] = []
        self.limit = limit
        self.subscriptions: list[Subscription] = []
        self.hub: Hub | None = None

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)
        if sum(len(sent.payload) for sent in self.frames) > self.limit:
            self.leave(CloseCode.SLOW)

    def leave(self, code: CloseCode) -> None:
        assert self.hub is not None
        for subscription in self.subscriptions:
            self.hub.leave(subscription)

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(frame.payload) for frame in self.frames]

    def pushes(self, kind: str) -> list[dict[str, Any]]:
        return [push for push in self.heard if push["push"] == kind]

    @property
    def ids(self) -> list[str]:
        return [event["id"] for push in self.pushes("events") for event in push["events"]]


class Scene:
    """A hub, and changes that come one after another."""

    def __init__(self, **options: Any) -> None:
        self.hub = Hub(encode=lambda position: f"{position.seconds}.{position.ordinal}", **options)
        self.resets: list[str] = []
        self.seconds = 0

    def join(self, client: Client, topic: str = TOPIC, *who: Any, **more: Any) -> Subscription:
        client.hub = self.hub
        subscription = self.hub.join(
            client, topic, identity(*who, **more), lambda _subscription, reason: self.resets.append(reason)
        )
        client.subscriptions.append(subscription)
        return subscription

    def live(self, topic: str = TOPIC, *who: Any, **more: Any) -> Client:
        client = Client()
        self.hub.go_live(self.join(client, topic, *who, **more), self.hub.position)
        client.frames.clear()
        return client

    def record(self, collection: str, operation: str, *images: dict[str, Any] | None, **more: Any) -> Record:
        self.seconds += 1
        record = Record(change(collection, operation, *images, at=Position(self.seconds, 1, 1), **more))
        if record.project is not None:
            record.project.seal()
        return record

    def publish(self, *records: Record) -> None:
        self.hub.publish(records, records[-1].position if records else self.hub.position)

    def change(self, *what: Any, **more: Any) -> None:
        self.publish(self.record(*what, **more))


# -- fan-out ----------------------------------------------------------------------------------------------------------


def test_every_listener_of_a_topic_gets_the_same_bytes_and_nobody_else_any() -> None:
    scene = Scene()
    clients = [scene.live(TOPIC, user) for user in ("bob", "carol")]
    stranger = scene.live("project:q")
    scene.change("items", "insert", None, item())
    assert clients[0].frames[0] is clients[1].frames[0]
    assert clients[0].frames[0].websocket is clients[1].frames[0].websocket
    assert stranger.frames == []
    assert scene.hub.deliveries == 2


def test_an_inbox_is_its_owners_alone_whatever_others_ask_for() -> None:
    scene = Scene()
    tabs = [scene.live("inbox"), scene.live("inbox")]
    carol = scene.live("inbox", "carol")
    # Nobody gets as far as this: `check_topic` refuses the name. If they did, it is not a topic that is told.
    others = [scene.live(topic, "carol") for topic in (TOPIC, "projects", "inbox:", "user:bob")]
    scene.publish(
        scene.record("notifications", "insert", None, entry()),
        scene.record("inboxes", "update", inbox(), inbox(seq=2, version=2)),
    )
    assert tabs[0].frames[0] is tabs[1].frames[0]
    (push,) = tabs[0].heard
    assert (push["push"], push["topic"], "seq" in push) == ("events", "inbox", False)
    assert tabs[0].ids == ["n", "bob"]
    assert all(client.frames == [] for client in (carol, *others))
    scene.change("notifications", "insert", None, entry(_id="hers", user_id="carol"))
    assert carol.ids == ["hers"]
    assert tabs[0].ids == ["n", "bob"]


def test_what_comes_into_an_inbox_while_joining_is_sent_once_and_after_the_snapshot() -> None:
    scene = Scene()
    bob = Client()
    subscription = scene.join(bob, "inbox")
    scene.change("notifications", "insert", None, entry(_id="in-snapshot"))
    snapshot = scene.hub.position
    scene.change("notifications", "insert", None, entry(_id="hers", user_id="carol"))
    scene.change("notifications", "insert", None, entry(_id="after"))
    scene.hub.go_live(subscription, snapshot)
    scene.change("notifications", "insert", None, entry(_id="live"))
    assert bob.ids == ["after", "live"]
    assert {push["topic"] for push in bob.heard} == {"inbox"}
    scene.hub.rejoin(subscription)
    scene.change("notifications", "insert", None, entry(_id="again"))
    scene.hub.end(subscription, NotFound())
    assert bob.heard[-1]["topic"] == "inbox"
    assert (scene.hub.subscriptions, scene.hub.topics) == (0, 0)


def test_a_slice_of_changes_is_one_frame_in_commit_order() -> None:
    scene = Scene()
    bob = scene.live()
    scene.publish(*(scene.record("items", "insert", None, item(_id=f"i{number}")) for number in range(5)))
    (push,) = bob.heard
    assert [event["id"] for event in push["events"]] == [f"i{number}" for number in range(5)]
    assert (push["seq"], push["position"]) == (1, "5.1")


def test_a_large_slice_is_several_frames_each_with_the_position_reached_so_far() -> None:
    scene = Scene()
    bob = scene.live()
    size = FRAME_BYTES // 20
    records = [
        scene.record("comments", "insert", None, comment(_id=f"c{number}", body="x" * 9000)) for number in range(60)
    ]
    assert size > 9000
    scene.publish(*records)
    pushes = bob.heard
    assert len(pushes) > 1
    assert [push["seq"] for push in pushes] == list(range(1, len(pushes) + 1))
    assert bob.ids == [f"c{number}" for number in range(60)]
    reached = 0
    for push in pushes:
        reached += len(push["events"])
        assert push["position"] == f"{reached}.1"
        assert len(json.dumps(push)) < FRAME_BYTES + 20_000


def test_portions_lose_and_repeat_nothing() -> None:
    events = [(Position(number, 1), b"x" * (FRAME_BYTES // 3 + number)) for number in range(10)]
    cut = list(portions(events))
    assert [event for portion in cut for event in portion] == events
    assert all(len(portion) <= 3 for portion in cut)
    assert list(portions([])) == []


def test_a_position_without_news_moves_the_hub_forward_only() -> None:
    scene = Scene()
    scene.hub.advance(Position(9, 1))
    scene.hub.advance(Position(5, 1))
    assert scene.hub.position == Position(9, 1)


# -- joining ----------------------------------------------------------------------------------------------------------


def test_what_happens_while_joining_is_sent_once_and_only_after_the_snapshot() -> None:
    scene = Scene()
    bob = Client()
    subscription = scene.join(bob)
    scene.change("items", "insert", None, item(_id="in-snapshot"))
    snapshot = scene.hub.position
    scene.change("items", "insert", None, item(_id="after"))
    assert bob.frames == []
    scene.hub.go_live(subscription, snapshot)
    scene.change("items", "insert", None, item(_id="live"))
    assert bob.ids == ["after", "live"]
    assert [push["push"] for push in bob.heard] == ["events", "live", "events"]
    assert "seq" not in bob.heard[0]
    assert bob.heard[2]["seq"] == bob.heard[1]["seq"] + 1


def test_only_the_topic_of_a_project_is_numbered() -> None:
    scene = Scene()
    for topic in ("projects", "inbox"):
        client = Client()
        scene.hub.go_live(scene.join(client, topic), Position(0, 0))
        assert "seq" not in client.heard[0]


def test_a_right_lost_while_joining_is_noticed_and_one_given_back_too() -> None:
    scene = Scene()
    subscription = scene.join(Client())
    scene.change("projects", "update", project(), project(**PRIVATE))
    assert subscription.ended
    scene.change("projects", "update", project(**PRIVATE), project())
    assert not subscription.ended


def test_a_joining_subscription_that_collects_too_much_is_overfull() -> None:
    scene = Scene(max_buffered_bytes=1000)
    subscription = scene.join(Client())
    scene.change("items", "insert", None, item())
    assert not scene.hub.is_overfull(subscription)
    scene.change("comments", "insert", None, comment(body="x" * 1000))
    assert scene.hub.is_overfull(subscription)
    scene.hub.rejoin(subscription)
    assert not scene.hub.is_overfull(subscription)


def test_who_is_closed_for_not_keeping_up_while_going_live_leaves_nothing_behind() -> None:
    for alone in (True, False):
        scene = Scene()
        others = [] if alone else [scene.live()]
        slow = Client(limit=1)
        subscription = scene.join(slow)
        scene.change("items", "insert", None, item())
        scene.hub.go_live(subscription, Position(0, 0))
        assert subscription.has_left
        assert scene.hub.subscriptions == len(others)
        sent = len(slow.frames)
        scene.change("items", "insert", None, item(_id="later"))
        assert len(slow.frames) == sent


def test_leaving_in_any_state_and_twice_leaves_nothing_behind() -> None:
    scene = Scene()
    for topic in (TOPIC, "projects", "inbox"):
        joining, live = scene.join(Client(), topic), scene.join(Client(), topic)
        scene.hub.go_live(live, Position(0, 0))
        for subscription in (joining, live, joining, live):
            scene.hub.leave(subscription)
    assert (scene.hub.subscriptions, scene.hub.topics) == (0, 0)
    assert (scene.hub._all_projects, scene.hub._projects_by_principal) == (set(), {})


# -- rights -----------------------------------------------------------------------------------------------------------


def test_who_loses_a_project_gets_what_came_before_and_nothing_after() -> None:
    scene = Scene()
    bob, root = scene.live(), scene.live(TOPIC, "root", "admin")
    scene.publish(
        scene.record("items", "insert", None, item(_id="before")),
        scene.record("projects", "update", project(), project(**PRIVATE)),
        scene.record("items", "insert", None, item(_id="after")),
    )
    assert bob.ids == ["before"]
    assert bob.heard[-1]["push"] == "unsubscribed"
    assert bob.heard[-1]["code"] == "not_found"
    assert root.ids == ["before", "p", "after"]
    assert scene.hub.subscriptions == 1


def test_the_list_of_projects_is_told_by_what_each_saw_and_sees() -> None:
    scene = Scene()
    bob, carol, root = (scene.live("projects", *who) for who in (("bob",), ("carol",), ("root", "admin")))
    desk = scene.live("projects", "dora", groups=("desk",))
    bobs = {**PRIVATE, "members": [{"principal": "user:bob", "role": "viewer"}]}
    desks = {**PRIVATE, "members": [{"principal": "role:desk", "role": "viewer"}]}
    steps: tuple[tuple[dict[str, Any], dict[str, Any], tuple[str | None, ...]], ...] = (
        (PRIVATE, bobs, ("enter", None, "update", None)),
        (bobs, {**bobs, "name": "New"}, ("update", None, "update", None)),
        (bobs, desks, ("leave", None, "update", "enter")),
        (desks, {}, ("enter", "enter", "update", "update")),
        ({}, {"archived_at": NOON}, ("update", "update", "update", "update")),
        ({}, desks, ("leave", "leave", "update", "update")),
        (desks, {**desks, "deleted_at": NOON}, (None, None, "delete", "delete")),
    )
    for before, after, expected in steps:
        for client in (bob, carol, root, desk):
            client.frames.clear()
        scene.change("projects", "update", project(**before), project(**after))
        got = [
            [event["change"] for push in client.heard for event in push["events"]]
            for client in (bob, carol, root, desk)
        ]
        assert got == [[] if what is None else [what] for what in expected], (before, after)


def test_the_index_of_listeners_finds_exactly_those_whom_the_rights_name() -> None:
    scene = Scene()
    listeners = {
        "bob": scene.live("projects", "bob", groups=("desk",)),
        "carol": scene.live("projects", "carol"),
        "root": scene.live("projects", "root", "admin"),
        "robot": scene.live("projects", "robot", "service"),
    }
    members: tuple[tuple[str, ...], ...] = (
        (),
        ("user:bob",),
        ("role:desk",),
        ("user:carol", "role:desk"),
        ("role:bob",),
    )
    for visibility in ("public", "private"):
        for principals in members:
            state = project(
                visibility=visibility, members=[{"principal": principal, "role": "viewer"} for principal in principals]
            )
            record = scene.record("projects", "update", state, {**state, "name": "New"})
            assert record.project is not None
            for client in listeners.values():
                client.frames.clear()
            scene.publish(record)
            for client in listeners.values():
                expected = record.project.for_listener(client.subscriptions[0].identity)
                assert len(client.frames) == int(expected is not None)


# -- losing the thread ------------------------------------------------------------------------------------------------


def test_a_reset_takes_every_live_listener_back_to_reading() -> None:
    scene = Scene()
    bob, carol = scene.live(), scene.live("projects")
    scene.hub.reset("collection_lost")
    assert [push["push"] for push in bob.heard + carol.heard] == ["reset", "reset"]
    assert scene.resets == ["collection_lost"] * 2
    assert [client.subscriptions[0].state for client in (bob, carol)] == ["joining", "joining"]
    scene.change("items", "insert", None, item())
    assert bob.ids == []
    scene.hub.go_live(bob.subscriptions[0], Position(0, 0))
    assert bob.ids == ["i"]


def test_a_reset_may_be_for_some_topics_only() -> None:
    scene = Scene()
    clients = [scene.live(topic) for topic in (TOPIC, "projects", "inbox")]
    for concerned, resets in ((is_project, [1, 0, 0]), (is_inbox, [0, 0, 1])):
        for client in clients:
            client.frames.clear()
        scene.hub.reset("image_missing", concerned)
        assert [len(client.pushes("reset")) for client in clients] == resets
    assert clients[2].heard[0]["topic"] == "inbox"


def test_a_reset_while_joining_is_not_forgotten_though_the_snapshot_was_sent() -> None:
    scene = Scene()
    bob = Client()
    subscription = scene.join(bob)
    scene.hub.reset("image_missing")
    # A change that says nothing of the caller's rights must not make up for the loss.
    scene.change("projects", "update", project(), project(members=[{"principal": "user:bob", "role": "owner"}]))
    scene.hub.go_live(subscription, Position(0, 0))
    assert [push["push"] for push in bob.heard] == ["reset"]
    assert scene.resets == ["image_missing"]
    assert subscription.state == "joining"
    scene.hub.go_live(subscription, scene.hub.position)
    assert [push["push"] for push in bob.heard] == ["reset", "live"]


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_who_waits_for_a_time_is_called_once_it_was_published() -> None:
    scene = Scene()
    called: list[str] = []
    scene.hub.when_passed((0, 0), lambda: called.append("past"))
    scene.hub.when_passed((2, 1), lambda: called.append("change"))
    scene.hub.when_passed((5, 0), lambda: called.append("silence"))
    assert called == ["past"]
    scene.change("items", "insert", None, item())
    assert called == ["past"]
    scene.change("items", "insert", None, item())
    assert called == ["past", "change"]
    scene.hub.advance(Position(6, 0))
    assert called == ["past", "change", "silence"]


# -- planted faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "broken", "caught_by"),
    [
        ("_apply_access", lambda *_: None, test_who_loses_a_project_gets_what_came_before_and_nothing_after),
        ("_collect", lambda *_: None, test_what_happens_while_joining_is_sent_once_and_only_after_the_snapshot),
        (
            "_collected",
            lambda _hub, subscription, _since: [
                (record.position, part) for record in subscription.buffer for _, part in record.parts
            ],
            test_what_happens_while_joining_is_sent_once_and_only_after_the_snapshot,
        ),
        ("_unindex", lambda *_: None, test_leaving_in_any_state_and_twice_leaves_nothing_behind),
        (
            "_audience",
            lambda hub, _access: hub._all_projects,
            test_the_list_of_projects_is_told_by_what_each_saw_and_sees,
        ),
        ("_tell_passed", lambda *_: None, test_who_waits_for_a_time_is_called_once_it_was_published),
    ],
)
def test_a_broken_hub_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: Callable[..., Any], caught_by: Callable[[], None]
) -> None:
    caught_by()
    monkeypatch.setattr(Hub, name, broken)
    with pytest.raises(AssertionError):
        caught_by()
