"""From changes to inboxes, on a real database: everybody is told once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import structlog
from pymongo.errors import AutoReconnect
from tornado.ioloop import IOLoop

from app import notifications as under_test
from app.notifier import deliveries_of
from models.fields import Ids, utc_now
from models.notification import Delivery
from models.posting import NewPosting, Recipients
from models.preferences import Preferences, TypePreference
from tests.app.newsroom import Newsroom, stored_comment, stored_item, stored_user

make_id = Ids()

MENTIONED, PARTICIPANT = "mention/mentioned: ", "reply/participant: "
OFF = TypePreference(in_app=False, email="now")


class Mail:
    """Keeps what it is given, once, as the real queue does."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], Delivery] = {}
        self.quoted: list[tuple[str, str | None]] = []

    async def queue(self, deliveries: Sequence[Delivery], preferences: Mapping[str, Preferences]) -> None:
        for delivery in deliveries:
            assert preferences[delivery.user_id].types[delivery.event.type].email in ("off", "now", "hourly", "daily")
            self.jobs.setdefault((delivery.user_id, delivery.event.id), delivery)

    async def quote(self, comment_id: str, text: str | None) -> None:
        self.quoted.append((comment_id, text))


@pytest.fixture
def mail() -> Mail:
    return Mail()


@pytest.fixture
def newsroom(io_loop: IOLoop, database: Any, mail: Mail) -> Newsroom:
    """With a public project p, of which nobody was told yet."""
    room = Newsroom(database, mail=mail)

    async def open_with_project() -> None:
        await room.open()
        await database.projects.insert_one({"_id": "p", "name": "Spring"})

    io_loop.run_sync(open_with_project)
    return room


# -- who is told -----------------------------------------------------------------------------------------------------


async def test_a_conversation_reaches_everybody_in_it(newsroom: Newsroom, database: Any) -> None:
    await database.comments.insert_one(stored_comment("t", "See @bob"))
    await newsroom.work_off()
    assert await newsroom.told() == {"bob": {"t": [MENTIONED + "See @bob"]}}
    await database.comments.insert_one(stored_comment("t2", "Yes", author="bob", thread_id="t"))
    await newsroom.work_off()
    await database.comments.insert_one(stored_comment("t3", "And @carol?", author="dave", thread_id="t"))
    await newsroom.work_off()
    assert await newsroom.told() == {
        "alice": {"t": [PARTICIPANT + "And @carol?", PARTICIPANT + "Yes"]},
        "bob": {"t": [PARTICIPANT + "And @carol?", MENTIONED + "See @bob"]},
        "carol": {"t": [MENTIONED + "And @carol?"]},
    }
    await newsroom.check_counts()
    assert (await newsroom.inbox.counts("bob")).unread == 1


async def test_one_batch_gives_what_single_changes_give(newsroom: Newsroom, database: Any) -> None:
    """Whoever is mentioned in one comment follows the thread of the next, also where both are worked off together."""
    comments = [
        stored_comment("t", "See @bob"),
        stored_comment("t2", "Yes", author="carol", thread_id="t"),
        stored_comment("t3", "No", author="carol", thread_id="t"),
    ]
    for entry in comments:
        await database.comments.insert_one(entry)
    await newsroom.work_off()
    assert await newsroom.told() == {
        "alice": {"t": [PARTICIPANT + "No", PARTICIPANT + "Yes"]},
        "bob": {"t": ["comment/follows_thread: No", "comment/follows_thread: Yes", MENTIONED + "See @bob"]},
    }


async def test_of_changes_in_one_millisecond_a_follower_hears_those_after_it(newsroom: Newsroom, database: Any) -> None:
    """One import gives all of them the same time."""
    bodies = {"t": "Hello", "t2": "One", "t3": "@bob", "t4": "Two"}
    await database.comments.insert_many(
        [stored_comment(id_, body, **({"thread_id": "t"} if id_ != "t" else {})) for id_, body in bodies.items()]
    )
    await newsroom.work_off()
    assert await newsroom.told() == {"bob": {"t": ["comment/follows_thread: Two", MENTIONED + "@bob"]}}


async def test_work_on_an_item_reaches_those_who_have_to_do_with_it(newsroom: Newsroom, database: Any) -> None:
    await newsroom.subscriptions.put("erin", "project:p", "follow")
    await database.items.insert_one(stored_item("i", created_by="alice", assignee="bob"))
    await database.items.update_one({"_id": "i"}, {"$set": {"status": "ready", "changed_by": "bob", "version": 2}})
    await database.comments.insert_one(stored_comment("c", "Fine", author="carol", item_id="i"))
    await newsroom.work_off()
    assert await newsroom.told() == {
        "alice": {"i": ["item_status/creator: draft -> ready"], "c": ["comment/creator: Fine"]},
        "bob": {"i": ["assigned/assignee: Assigned to you"], "c": ["comment/assignee: Fine"]},
        "erin": {"i": ["item_status/follows_project: draft -> ready"], "c": ["comment/follows_project: Fine"]},
    }
    entry = await database.notifications.find_one({"user_id": "bob", "subject.kind": "thread"})
    assert (entry["title"], entry["link"]) == ("Item i", "/#/projects/p/threads/c")


async def test_people_follow_by_what_they_do_and_what_they_chose_stays(newsroom: Newsroom, database: Any) -> None:
    await newsroom.subscriptions.put("bob", "thread:t", "mute")
    await database.projects.insert_one({"_id": "q", "name": "Autumn", "created_by": "carol"})
    await database.items.insert_one(stored_item("i", created_by="alice", assignee="bob"))
    await database.comments.insert_one(stored_comment("t", "See @bob and @dave"))
    await newsroom.work_off()
    rows = {
        (row["user_id"], row["subject"]): (row["level"], row.get("auto")) async for row in database.subscriptions.find()
    }
    assert rows == {
        ("carol", "project:q"): ("follow", "creator"),
        ("alice", "item:i"): ("follow", "creator"),
        ("bob", "item:i"): ("follow", "assignee"),
        ("alice", "thread:t"): ("follow", "author"),
        ("dave", "thread:t"): ("follow", "mentioned"),
        ("bob", "thread:t"): ("mute", None),
    }


async def test_a_follower_hears_of_what_happens_after_it_only(newsroom: Newsroom, database: Any) -> None:
    await database.comments.insert_one(stored_comment("c1", "Before"))
    await newsroom.read()  # by the database's clock the comment is older than what comes now
    await newsroom.subscriptions.put("bob", "project:p", "follow")
    await database.comments.insert_one(stored_comment("c2", "After"))
    await newsroom.replay()
    assert await newsroom.told() == {"bob": {"c2": ["comment/follows_project: After"]}}


async def test_a_group_is_told_up_to_a_limit_and_only_who_may_see_it(database: Any) -> None:
    newsroom = Newsroom(database, group_limit=3)
    await newsroom.open()
    members = [{"principal": "user:u3", "role": "viewer"}, {"principal": "role:inside", "role": "viewer"}]
    await database.projects.insert_many(
        [{"_id": "p", "name": "Spring"}, {"_id": "q", "name": "Secret", "visibility": "private", "members": members}]
    )
    await database.users.insert_many(
        [stored_user(f"u{number}", "team", *(["inside"] if number > 5 else [])) for number in range(9)]
        + [
            stored_user("u0a", "team", disabled=True),
            stored_user("u0b", "other"),
            {"_id": "u0c", "groups": ["team"], "name": 5},
        ]
    )
    await database.comments.insert_one(stored_comment("c1", "@role:team"))
    await database.comments.insert_one(stored_comment("c2", "@role:team", project_id="q"))
    await newsroom.work_off()
    told = await newsroom.told()
    assert sorted(user for user, entries in told.items() if "c1" in entries) == ["u0", "u1"]  # and u0c, who is unfit
    assert sorted(user for user, entries in told.items() if "c2" in entries) == ["u3", "u6", "u7"]
    assert newsroom.reports == [("users", "u0c")]


async def test_nobody_is_told_of_what_they_may_not_see(newsroom: Newsroom, database: Any) -> None:
    await database.projects.insert_one(
        {
            "_id": "q",
            "name": "Secret",
            "visibility": "private",
            "members": [{"principal": "user:bob", "role": "viewer"}],
        }
    )
    await database.users.insert_many([stored_user("root", roles=["admin"]), stored_user("off", disabled=True)])
    for user in ("carol", "bob", "root"):
        await newsroom.subscriptions.put(user, "project:q", "follow")
    await database.comments.insert_one(stored_comment("c1", "@carol @dave @off", project_id="q"))
    await database.comments.insert_one(stored_comment("c2", "@off @gone"))
    await newsroom.work_off()
    assert await newsroom.told() == {
        "bob": {"c1": ["comment/follows_project: @carol @dave @off"]},
        "root": {"c1": ["comment/follows_project: @carol @dave @off"]},
        "gone": {"c2": [MENTIONED + "@off @gone"]},  # never seen yet, so an editor
    }
    followers = {row["user_id"] async for row in database.subscriptions.find({"subject": "thread:c1"})}
    assert followers == set(), "alice, who wrote it, cannot see the project either"


async def test_what_somebody_does_not_want_to_see_goes_to_the_mail_alone(
    newsroom: Newsroom, database: Any, mail: Mail
) -> None:
    await newsroom.preferences.put("bob", Preferences(types={"mention": OFF}))
    await database.comments.insert_one(stored_comment("c1", "@bob @carol"))
    await newsroom.work_off()
    assert await newsroom.told() == {"carol": {"c1": [MENTIONED + "@bob @carol"]}}
    assert sorted(user for user, _ in mail.jobs) == ["bob", "carol"]


async def test_the_mail_is_queued_before_the_inbox_shows_it(newsroom: Newsroom, database: Any, mail: Mail) -> None:
    def fail(*_: Any) -> None:
        raise AutoReconnect

    newsroom.inbox.deliver = fail  # type: ignore[method-assign, assignment]
    await database.comments.insert_one(stored_comment("c1", "@bob"))
    with pytest.raises(AutoReconnect):
        await newsroom.work_off()
    assert [user for user, _ in mail.jobs] == ["bob"]


# -- comments that change --------------------------------------------------------------------------------------------


async def test_an_edit_changes_what_is_quoted_and_tells_only_those_it_newly_mentions(
    newsroom: Newsroom, database: Any
) -> None:
    await newsroom.subscriptions.put("erin", "project:p", "follow")
    await database.comments.insert_one(stored_comment("c1", "@bob"))
    await newsroom.work_off()
    for user in ("bob", "erin"):
        (entry,) = await database.notifications.find({"user_id": user}).to_list(None)
        await database.notifications.update_one({"_id": entry["_id"]}, {"$set": {"read_at": utc_now()}})
    await database.comments.update_one({"_id": "c1"}, {"$set": {"body": "@bob @erin @carol"}})
    await newsroom.work_off()
    assert await newsroom.told() == {
        "bob": {"c1": [MENTIONED + "@bob @erin @carol"]},
        # Who knew of the comment, but was not named in it.
        "erin": {"c1": [MENTIONED + "@bob @erin @carol", "comment/follows_project: @bob @erin @carol"]},
        "carol": {"c1": [MENTIONED + "@bob @erin @carol"]},
    }
    read = {entry["user_id"] async for entry in database.notifications.find({"read_at": {"$ne": None}})}
    assert read == {"bob"}


async def test_what_was_written_edited_and_deleted_at_once_is_told_as_it_is(
    newsroom: Newsroom, database: Any, mail: Mail
) -> None:
    await database.comments.insert_many([stored_comment("c1", "@bob one"), stored_comment("c2", "@bob two")])
    await database.comments.update_one({"_id": "c1"}, {"$set": {"body": "@bob @carol one"}})
    await database.comments.update_one({"_id": "c2"}, {"$set": {"deleted_at": utc_now()}, "$unset": {"body": 1}})
    await database.comments.insert_one(stored_comment("c3", "@bob three"))
    await database.comments.delete_one({"_id": "c3"})
    await newsroom.work_off()
    assert mail.quoted == [("c1", "@bob @carol one"), ("c2", None), ("c3", None)]
    expected = {"c1": [MENTIONED + "@bob @carol one"]}
    assert await newsroom.told() == {"bob": expected, "carol": expected}
    await newsroom.check_counts()
    await newsroom.replay()
    assert await newsroom.told() == {"bob": expected, "carol": expected}


# -- rights that change ----------------------------------------------------------------------------------------------


async def test_entries_of_lost_projects_vanish_and_do_not_come_back(newsroom: Newsroom, database: Any) -> None:
    await database.users.insert_many([stored_user("bob", "team"), stored_user("carol", "team"), stored_user("dave")])
    for project in ("q", "r"):
        await database.projects.insert_one({"_id": project, "name": project})
        await database.comments.insert_one(stored_comment(f"{project}1", "@bob @carol @dave @erin", project_id=project))
    await database.comments.insert_one(stored_comment("p1", "@bob"))
    await newsroom.work_off()
    assert all({"q1", "r1"} <= set(entries) for entries in (await newsroom.told()).values())
    members = [{"principal": "role:team", "role": "viewer"}]
    await database.projects.update_one({"_id": "q"}, {"$set": {"visibility": "private", "members": members}})
    await database.projects.update_one({"_id": "r"}, {"$set": {"deleted_at": utc_now()}})
    await newsroom.work_off()
    assert {user: sorted(entries) for user, entries in (await newsroom.told()).items()} == {
        "bob": ["p1", "q1"],
        "carol": ["q1"],
    }
    await database.users.update_one({"_id": "bob"}, {"$set": {"groups": []}})
    await newsroom.work_off()
    assert {user: sorted(entries) for user, entries in (await newsroom.told()).items()} == {
        "bob": ["p1"],
        "carol": ["q1"],
    }
    await database.users.update_one({"_id": "carol"}, {"$set": {"disabled": True}})
    await newsroom.work_off()
    await newsroom.replay()
    # Nobody reads the inbox of a user who is disabled, and it is there when they are back.
    assert {user: sorted(entries) for user, entries in (await newsroom.told()).items()} == {
        "bob": ["p1"],
        "carol": ["q1"],
    }
    await database.users.update_one({"_id": "carol"}, {"$set": {"groups": []}})
    await newsroom.work_off()
    assert {user: sorted(entries) for user, entries in (await newsroom.told()).items()} == {"bob": ["p1"]}
    await newsroom.check_counts()
    assert (await newsroom.inbox.counts("carol")).unread == 0


# -- nothing twice, nothing lost -------------------------------------------------------------------------------------


async def beginning(database: Any) -> None:
    """One of everything, with what comes of it in `ending`."""
    await database.projects.insert_one({"_id": "q", "name": "Autumn", "created_by": "alice"})
    await database.items.insert_one(stored_item("i", created_by="alice", assignee="bob"))
    await database.comments.insert_one(stored_comment("t", "@bob @carol"))
    await database.comments.insert_one(stored_comment("t2", "Yes", author="bob", thread_id="t"))
    await database.comments.insert_one(stored_comment("x", "@carol", project_id="q"))
    await database.comments.insert_one(stored_comment("y", "@carol gone"))


async def ending(database: Any) -> None:
    await database.comments.update_one({"_id": "t"}, {"$set": {"body": "@bob @carol @dave"}})
    await database.comments.delete_one({"_id": "y"})
    await database.items.update_one({"_id": "i"}, {"$set": {"status": "ready"}})
    await database.projects.update_one({"_id": "q"}, {"$set": {"visibility": "private"}})
    await database.comments.insert_one(stored_comment("t3", "No", author="carol", thread_id="t"))
    posting = {"recipients": {"users": ["erin"]}, "type": "custom", "title": "News", "body": "Please"}
    await database.postings.insert_one(
        {"_id": "P", **posting, "created_by": "cms", "created_at": utc_now(), "due_at": utc_now()}
    )


EXPECTED = {
    "alice": {"i": ["item_status/creator: draft -> ready"], "t": [PARTICIPANT + "No", PARTICIPANT + "Yes"]},
    "bob": {
        "i": ["item_status/assignee: draft -> ready", "assigned/assignee: Assigned to you"],
        "t": [PARTICIPANT + "No", MENTIONED + "@bob @carol @dave"],
    },
    "carol": {"t": ["comment/follows_thread: Yes", MENTIONED + "@bob @carol @dave"]},
    "dave": {"t": ["comment/follows_thread: No", MENTIONED + "@bob @carol @dave"]},
    "erin": {"P": ["custom/addressed: Please"]},
}
FAULTS = [
    ("subscriptions.add_automatic", 1),
    ("subscriptions.add_automatic", 2),
    ("mail.queue", 1),
    ("mail.queue", 3),
    ("mail.quote", 1),
    ("inbox.deliver", 1),
    ("inbox.deliver", 2),
    ("inbox.deliver", 4),
    ("inbox.mentioned_already", 1),
    ("inbox.quote", 1),
    ("inbox.quote", 2),
    ("inbox.withdraw_from", 1),
    ("postings.mark_sent", 1),
]


async def send(newsroom: Newsroom) -> None:
    posting = NewPosting(recipients=Recipients(users=["erin"]), title="News", body="Please")
    await newsroom.postings.create(posting, by="cms", make_id=lambda: "P")


@contextmanager
def broken_once(newsroom: Newsroom, mail: Mail, step: str, *, nth: int, after: bool) -> Iterator[None]:
    """The nth call of a step fails, before or after it did its work."""
    owner, method = step.split(".")
    thing = mail if owner == "mail" else getattr(newsroom, owner)
    real, calls = getattr(thing, method), 0

    async def failing(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != nth:
            return await real(*args, **named)
        if after:
            await real(*args, **named)
        raise AutoReconnect("broken on purpose")

    setattr(thing, method, failing)
    yield
    setattr(thing, method, real)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_fault_at_any_step_repeats_nothing_and_loses_nothing(
    newsroom: Newsroom, database: Any, mail: Mail, after: bool
) -> None:
    for step, nth in FAULTS:
        await newsroom.clear()
        await database.projects.insert_one({"_id": "p", "name": "Spring"})
        mail.jobs.clear()
        with broken_once(newsroom, mail, step, nth=nth, after=after):
            failures = 0
            for part in (beginning, ending):
                await part(database)
                try:
                    await newsroom.work_off()
                except AutoReconnect:
                    failures += 1
                    await newsroom.replay()
        assert failures == 1, step
        assert await newsroom.told() == EXPECTED, step
        await newsroom.check_counts()
        done, jobs = await newsroom.everything(), dict(mail.jobs)
        await newsroom.replay()
        assert await newsroom.everything() == done, step
        assert mail.jobs == jobs, step


async def test_the_check_of_faults_finds_an_inbox_that_takes_events_twice(
    newsroom: Newsroom, database: Any, mail: Mail
) -> None:
    await beginning(database)
    await ending(database)
    await newsroom.work_off()
    assert await newsroom.told() == EXPECTED
    forgotten = {"$set": {"last_applied": [1, 1, 1], "events.$[].id": "forgotten"}}
    await database.notifications.update_many({"deleted_at": None}, forgotten)
    await newsroom.replay()
    assert await newsroom.told() != EXPECTED


async def test_two_that_work_off_the_same_at_once_tell_it_once(newsroom: Newsroom, database: Any, mail: Mail) -> None:
    other = Newsroom(database, mail=mail)
    other.start = other.position = newsroom.start
    await beginning(database)
    await ending(database)
    changes = await newsroom.read()
    await other.read()

    async def work(room: Newsroom, size: int) -> None:
        for first in range(0, len(changes), size):
            await room.notifications.work_off(changes[first : first + size])

    await asyncio.gather(work(newsroom, 3), work(other, 2))
    assert await newsroom.told() == EXPECTED
    await newsroom.check_counts()


async def test_a_change_that_cannot_be_worked_off_takes_no_other_with_it(
    newsroom: Newsroom, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbling(change: Any, audience: Any) -> list[Delivery]:
        if change.id == "c2":
            raise ValueError("planted")
        return deliveries_of(change, audience)

    monkeypatch.setattr(under_test, "deliveries_of", stumbling)
    for number in (1, 2, 3):
        await database.comments.insert_one(stored_comment(f"c{number}", f"@bob {number}"))
    with structlog.testing.capture_logs() as logs:
        await newsroom.work_off()
    assert sorted((await newsroom.told())["bob"]) == ["c1", "c3"]
    assert [(entry["event"], entry["id"]) for entry in logs if entry["log_level"] == "error"] == [
        ("notification_failed", "c2")
    ]


async def test_what_other_programs_wrote_badly_harms_nobody(newsroom: Newsroom, database: Any) -> None:
    await database.users.insert_one({"_id": "bob", "roles": 5, "groups": "x", "name": ["y"]})
    await database.subscriptions.insert_many(
        [{"_id": 1, "user_id": 5, "subject": "project:p", "level": "follow", "since": utc_now(), "version": 1},
         {"_id": 2, "user_id": "erin", "subject": "project:p", "level": "love", "since": utc_now()}]
    )  # fmt: skip
    await database.preferences.insert_one({"_id": "carol", "types": "none", "time_zone": 7})
    await database.postings.insert_many([{"_id": "bad", "due_at": utc_now()}, {"_id": 5, "recipients": 3}])
    await database.items.insert_one(stored_item("i", assignee=7, created_by={"x": 1}))
    await database.comments.insert_one(stored_comment("t", "Hello", author=9, item_id="i"))
    await database.comments.insert_one(stored_comment("t1", "Hi", created_at="yesterday", thread_id="t"))
    await database.comments.insert_one(stored_comment("t3", "Hi", author="no name!", thread_id="t"))
    await database.comments.insert_one(stored_comment("t2", "@bob @carol", author="dave", thread_id="t", item_id="i"))
    await database.comments.delete_one({"_id": "t1"})
    with structlog.testing.capture_logs() as logs:
        await newsroom.work_off()
    assert logs == []
    assert await newsroom.told() == {"carol": {"t": [MENTIONED + "@bob @carol"]}}


# -- many ------------------------------------------------------------------------------------------------------------


async def test_a_thousand_followers_are_all_told(newsroom: Newsroom, database: Any) -> None:
    await asyncio.gather(*(newsroom.subscriptions.put(f"u{number}", "project:p", "follow") for number in range(1000)))
    await database.comments.insert_many([stored_comment("c1", "One"), stored_comment("c2", "Two")])
    await newsroom.work_off()
    assert await database.notifications.count_documents({}) == 2000
    assert await database.inboxes.count_documents({"unread": 2, "unseen": 2, "seq": 2}) == 1000
    await newsroom.replay()
    assert await database.inboxes.count_documents({"unread": 2, "unseen": 2, "seq": 2}) == 1000


async def test_many_changes_cost_as_many_questions_as_one(newsroom: Newsroom, database: Any) -> None:
    async def questions(count: int) -> int:
        """Reads that it takes to find out who is told of so many comments."""
        await database.comments.insert_many(
            [stored_comment(make_id(), "@bob", author=f"u{count}-{number}", thread_id="t") for number in range(count)]
        )
        changes = await newsroom.read()
        await database.command("profile", 2)
        await newsroom.audiences.of(changes)
        await database.command("profile", 0)
        asked = await database["system.profile"].count_documents({"op": {"$in": ["query", "command", "getmore"]}})
        await database["system.profile"].drop()
        return int(asked)

    await database.comments.insert_one(stored_comment("t"))
    await newsroom.work_off()
    few = await questions(1)
    assert 0 < await questions(60) == few


async def test_users_that_were_just_read_are_not_read_again(newsroom: Newsroom, database: Any) -> None:
    await database.comments.insert_one(stored_comment("t", "Hello", author="alice"))
    changes = await newsroom.read()
    known = await newsroom.audiences.rights({"alice"}, {"p"})
    await database.command("profile", 2)
    await newsroom.audiences.of(changes, known)
    await database.command("profile", 0)
    asked = await database["system.profile"].distinct("ns")
    await database["system.profile"].drop()
    assert f"{database.name}.users" not in asked
    assert f"{database.name}.subscriptions" in asked


# -- postings --------------------------------------------------------------------------------------------------------


async def test_a_posting_reaches_users_and_groups_once(newsroom: Newsroom, database: Any, mail: Mail) -> None:
    await database.users.insert_many(
        [stored_user("bob", "team"), stored_user("carol", "team", "press"), stored_user("off", "team", disabled=True),
         stored_user("cms", "team")]
    )  # fmt: skip
    posting = NewPosting(
        recipients=Recipients(users=["bob", "new", "cms"], groups=["team", "press"]),
        type="publish_result",
        title="Publishing failed",
        body="Disk full",
        link="https://cms.example/jobs/7",
        category="jobs",
    )
    made = await newsroom.postings.create(posting, by="cms", make_id=make_id)
    lots = [user async for users in newsroom.audiences.recipients(made) for user in users]
    assert sorted(lots) == ["bob", "carol", "cms", "new"]
    await newsroom.work_off()
    events = {made.id: ["publish_result/addressed: Disk full"]}
    assert await newsroom.told() == {"bob": events, "carol": events, "new": events}
    assert len(mail.jobs) == 3
    entry = await database.notifications.find_one({"user_id": "bob"})
    assert (entry["title"], entry["link"], entry["category"]) == (
        "Publishing failed", "https://cms.example/jobs/7", "jobs",
    )  # fmt: skip
    assert (await newsroom.postings.get(made.id)).sent_at is not None


async def test_a_group_larger_than_one_read_is_reached_whole(
    newsroom: Newsroom, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.audience.MEMBERS_PAGE", 3)
    await database.users.insert_many([stored_user(f"u{number}", "team") for number in range(10)])
    posting = NewPosting(recipients=Recipients(groups=["team"]), title="Hello")
    await newsroom.postings.create(posting, by="cms", make_id=make_id)
    await newsroom.work_off()
    assert sorted(await newsroom.told()) == [f"u{number}" for number in range(10)]


async def test_a_scheduled_posting_is_sent_when_it_is_due(newsroom: Newsroom, database: Any) -> None:
    later = utc_now() + timedelta(hours=2)
    posting = NewPosting(recipients=Recipients(users=["bob"]), title="Embargo over", send_at=later)
    made = await newsroom.postings.create(posting, by="cms", make_id=make_id)
    await newsroom.work_off()
    newsroom.clock.ahead = timedelta(hours=1)
    await newsroom.notifications.tick()
    assert await newsroom.told() == {}
    newsroom.clock.ahead = timedelta(hours=2, seconds=1)
    await newsroom.notifications.tick()
    assert await newsroom.told() == {"bob": {made.id: ["custom/addressed: "]}}
    entry = await database.notifications.find_one({"user_id": "bob"})
    assert entry["updated_at"] == later
    done = await newsroom.everything()
    await newsroom.notifications.tick()
    await newsroom.replay()
    assert await newsroom.everything() == done


async def test_a_posting_that_cannot_be_sent_is_put_off_and_harms_no_other(
    newsroom: Newsroom, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, user in enumerate(("bob", "carol")):
        posting = NewPosting(recipients=Recipients(users=[user]), title=f"Number {number}")
        await newsroom.postings.create(posting, by="cms", make_id=lambda number=number: f"P{number}")
    deliver = newsroom.inbox.deliver

    async def fails_for_bob(deliveries: Any) -> int:
        if any(delivery.user_id == "bob" for delivery in deliveries):
            raise OverflowError
        return await deliver(deliveries)

    with monkeypatch.context() as patch:
        patch.setattr(newsroom.inbox, "deliver", fails_for_bob)
        await newsroom.work_off()
    assert (await newsroom.told()).keys() == {"carol"}
    newsroom.clock.ahead = timedelta(hours=2)
    await newsroom.notifications.tick()
    assert (await newsroom.told()).keys() == {"bob", "carol"}


async def test_an_entry_quotes_a_comment_that_could_not_be_read_for_a_while(newsroom: Newsroom, database: Any) -> None:
    comment = {"_id": "c", "project_id": "p", "body": "Old @bob", "author": "alice", "created_at": utc_now()}
    await database.comments.insert_one(comment)
    await newsroom.work_off()
    await database.comments.update_one({"_id": "c"}, {"$set": {"body": 5}})
    await newsroom.work_off()
    await database.comments.update_one({"_id": "c"}, {"$set": {"body": "New @bob"}})
    await newsroom.work_off()
    assert await newsroom.told() == {"bob": {"c": ["mention/mentioned: New @bob"]}}


async def test_a_holder_that_heard_of_no_posting_finds_it_in_the_database(newsroom: Newsroom, database: Any) -> None:
    await newsroom.notifications.tick()
    await send(newsroom)
    await newsroom.notifications.tick()
    assert await newsroom.told() == {}
    newsroom.clock.ahead = timedelta(seconds=31)
    await newsroom.notifications.tick()
    assert await newsroom.told() == {"erin": {"P": ["custom/addressed: Please"]}}


async def test_waiting_for_a_posting_asks_the_database_nothing(newsroom: Newsroom, database: Any) -> None:
    await newsroom.notifications.tick()
    await database.command("profile", 2)
    for _ in range(20):
        await newsroom.notifications.tick()
    await database.command("profile", 0)
    assert await database["system.profile"].count_documents({"ns": {"$regex": "postings$"}}) == 0


async def test_a_posting_that_was_deleted_by_its_recipient_does_not_come_back(
    newsroom: Newsroom, database: Any
) -> None:
    await send(newsroom)
    await newsroom.work_off()
    (entry,) = await database.notifications.find().to_list(None)
    await newsroom.inbox.delete("erin", entry["_id"], precondition=lambda _entry: None)
    await database.postings.update_one({"_id": "P"}, {"$unset": {"sent_at": 1}})
    await newsroom.replay()
    assert await newsroom.told() == {}
    assert (await newsroom.inbox.counts("erin")).unread == 0
