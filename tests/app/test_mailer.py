"""Mail from the queue to a real mail server: what goes out when, what does not, and what survives which fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from pymongo.errors import AutoReconnect

from app.access import Access
from app.lease import Lease
from app.mail_writing import MAX_NOTICES, Writer
from app.mailer import RETRY, Mailer, MailQueue
from app.metrics import Metrics
from app.presence import Presence
from app.smtp import MailServer, ServerDown
from app.unsubscribe import Unsubscriptions
from models import schema
from models.fields import stamp
from models.inbox_store import InboxStore
from models.mail import MAX_ATTEMPTS, MailJob, MailStore
from models.notification import Delivery, NotificationEvent, NotificationType, Subject, entry_id
from models.notification_input import NotificationPatch
from models.page import PageRequest, scope
from models.preferences import Preferences, PreferencesStore
from models.project import ProjectStore
from models.standing import StandingStore
from models.user import UserPatch, UserStore
from tests.app.mail_server import DROP, MailBox, mail_box

# Ahead of the real clock, by which MongoDB removes what has expired.
MONDAY = datetime(2035, 3, 5, 9, 0, tzinfo=UTC)
DELAY = timedelta(minutes=2)


class World:
    """All that mail needs, with a clock of its own and a real database and mail server."""

    def __init__(self, database: Any, box: MailBox) -> None:
        def report(*what: Any) -> None:
            raise AssertionError(what)

        self.database, self.box, self.time = database, box, MONDAY
        self.users = UserStore(database, report=report)
        self.projects = ProjectStore(database, report=report)
        self.preferences = PreferencesStore(database, report=report)
        self.mails = MailStore(database, report=report, now=self.now)
        self.inbox = InboxStore(database, report=report, retention=timedelta(days=90), now=self.now)
        self.queue = MailQueue(self.mails, self.users, delay=DELAY, now=self.now)
        self.online: set[str] = set()
        self.presence = Presence(database, process="here", users=lambda: self.online)
        self.metrics = Metrics()
        self.mailer = self.another("one")
        self._numbers = count(1)

    def now(self) -> datetime:
        return self.time

    def another(self, name: str, lease: Lease | None = None) -> Mailer:
        """The mailer of a process."""
        return Mailer(
            lease=lease or Lease(self.database, "worker", holder=name, clock=lambda: 1000.0),
            mails=self.mails,
            standings=StandingStore(self.database),
            users=self.users,
            projects=self.projects,
            preferences=self.preferences,
            access=Access(self.projects.accesses, trusted=lambda: False),
            presence=self.presence,
            server=MailServer("127.0.0.1", self.box.port, security="none"),
            writer=Writer(
                sender="Copydesk <copydesk@cms.example>",
                public_url="https://cms.example",
                unsubscriptions=Unsubscriptions(secrets=("s" * 32,)),
            ),
            metrics=self.metrics,
            delay=DELAY,
            now=self.now,
            jitter=lambda: 1.0,
        )

    async def add_user(self, user_id: str, email: str | None = None, **wishes: Any) -> None:
        await self.users.seen(
            user_id, name=user_id.title(), email=email, roles=["editor"], groups=[], issued_at=MONDAY.timestamp()
        )
        if wishes:
            types = {kind: {"in_app": True, "email": chosen} for kind, chosen in wishes.pop("types", {}).items()}
            await self.preferences.put(user_id, msgspec.convert({"types": types, **wishes}, Preferences))

    async def add_project(self, project_id: str = "p", name: str = "Spring", **fields: Any) -> None:
        await self.database.projects.insert_one({"_id": project_id, "name": name, "version": 1, **fields})

    def delivery(self, user_id: str = "bob", kind: NotificationType = "mention", **what: Any) -> Delivery:
        """One event in a thread, by Alice, now."""
        number = next(self._numbers)
        project, thread = what.get("project", "p"), what.get("thread", "t")
        return Delivery(
            user_id=user_id,
            subject=Subject(kind="thread", project_id=project, thread_id=thread),
            event=NotificationEvent(
                id=f"e{number}",
                type=kind,
                reason="mentioned",
                at=stamp(self.time),
                actor="alice",
                comment_id=f"c{number}",
                text=what.get("text", f"words {number}"),
            ),
            title=what.get("title", "Press release"),
            body="",
            link="/#/projects/p",
            place=(round(self.time.timestamp()), number, 1),
        )

    async def tell(self, *args: Any, **what: Any) -> Delivery:
        """Something happens: it is queued and then stands in the inbox, as the worker does it."""
        delivery = self.delivery(*args, **what)
        await self.redeliver(delivery)
        return delivery

    async def redeliver(self, *deliveries: Delivery) -> None:
        wishes = await self.preferences.of_many({delivery.user_id for delivery in deliveries})
        await self.queue.queue(deliveries, wishes)
        await self.inbox.deliver([d for d in deliveries if wishes[d.user_id].types[d.event.type].in_app])

    async def later(self, **span: float) -> list[EmailMessage]:
        """Some time passes, then the mailer looks. What arrived."""
        self.time += timedelta(**span)
        return await self.sent()

    async def sent(self) -> list[EmailMessage]:
        assert await self.mailer._lease.renew()
        while await self.mailer.send_due():
            pass
        return self.box.taken()

    async def dead(self) -> list[Any]:
        request = PageRequest(sort="-died_at", scope=scope("dead", "-died_at"), position="here")
        return (await self.mails.dead_letters(request)).items

    async def patch(self, delivery: Delivery, **states: bool) -> None:
        entry = entry_id(delivery.user_id, delivery.subject)
        patch = NotificationPatch(**states)
        await self.inbox.patch(delivery.user_id, entry, patch, precondition=lambda _: None)


@asynccontextmanager
async def world(database: Any) -> AsyncIterator[World]:
    """With Alice, and Bob who gets everything at once, and a project."""
    assert await schema.apply(database) == []
    async with mail_box() as box:
        made = World(database, box)
        await made.add_user("alice", "alice@cms.example")
        await made.add_user("bob", "bob@cms.example", types={"mention": "now", "reply": "now", "comment": "now"})
        await made.add_project()
        yield made


def text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


# -- at once --------------------------------------------------------------------------------------------------------


async def test_a_mention_is_mailed_after_the_delay(database: Any) -> None:
    async with world(database) as w:
        await w.tell(text="Look at this")
        assert await w.later(seconds=119) == []
        (mail,) = await w.later(seconds=1)
        assert mail["Subject"] == "Alice mentioned you in “Press release”"
        assert mail["To"].addresses[0].addr_spec == "bob@cms.example"
        assert "Look at this" in text(mail)
        assert "https://cms.example/#/projects/p" in text(mail)
        assert "Spring" in text(mail)
        assert await w.later(days=3) == []


async def test_what_is_read_archived_or_removed_meanwhile_is_not_mailed(database: Any) -> None:
    async with world(database) as w:
        for number, states in enumerate(({"read": True}, {"archived": True})):
            await w.patch(await w.tell(thread=f"t{number}"), **states)
        gone = await w.tell(thread="gone")
        await w.inbox.delete("bob", entry_id("bob", gone.subject), precondition=lambda _: None)
        withdrawn = await w.tell(thread="withdrawn")
        await w.inbox.quote(str(withdrawn.event.comment_id), None, (2**31, 1, 1))
        await w.patch(await w.tell(thread="seen", title="Only seen"), seen=True)
        (mail,) = await w.later(minutes=5)
        assert "Only seen" in mail["Subject"]


async def test_a_mail_quotes_a_comment_as_it_reads_when_it_is_sent(database: Any) -> None:
    async with world(database) as w:
        delivery = await w.tell(text="with a tpyo")
        await w.inbox.quote(str(delivery.event.comment_id), "without one", (2**31, 1, 1))
        (mail,) = await w.later(minutes=5)
        assert "without one" in text(mail)
        assert "tpyo" not in text(mail)


async def test_who_is_online_gets_the_mail_when_they_are_gone_and_have_not_read_it(database: Any) -> None:
    async with world(database) as w:
        w.online = {"bob", "carol"}
        await w.presence.write()
        await w.tell()
        assert await w.later(minutes=2) == []
        assert await w.later(minutes=2) == []
        w.online = {"carol"}
        await w.presence.write()
        assert await w.later(minutes=1) == []
        assert len(await w.later(minutes=1)) == 1


async def test_who_is_online_for_a_day_is_not_mailed_about_it_at_all(database: Any) -> None:
    async with world(database) as w:
        w.online = {"bob"}
        await w.presence.write()
        await w.tell()
        assert await w.later(hours=25) == []
        w.online = set()
        await w.presence.write()
        assert await w.later(hours=1) == []


async def test_events_of_one_thread_that_wait_go_into_one_mail(database: Any) -> None:
    async with world(database) as w:
        await w.tell(text="first")
        w.time += timedelta(seconds=90)
        await w.tell("bob", "reply", text="second")
        await w.tell(thread="other", title="Another thread")
        mails = await w.later(seconds=60)
        assert [mail["Subject"] for mail in mails] == ["Press release: 2 news"]
        assert text(mails[0]).index("first") < text(mails[0]).index("second")
        (other,) = await w.later(minutes=5)
        assert "Another thread" in other["Subject"]


async def test_without_an_address_a_wish_a_right_or_an_account_nothing_is_mailed(database: Any) -> None:
    async with world(database) as w:
        await w.add_user("carol")
        await w.add_user("dave", "dave@cms.example", types={"mention": "off"})
        await w.add_user("erin", "erin@cms.example")
        await w.add_project("secret", "Secret", visibility="private")
        for user, project in (("carol", "p"), ("dave", "p"), ("nobody", "p"), ("erin", "secret")):
            await w.tell(user, project=project)
        await w.tell("bob")
        await w.users.patch("bob", UserPatch(disabled=True), by="root", precondition=lambda _: None)
        assert await w.later(minutes=5) == []
        assert await w.database.mails.count_documents({"state": "waiting"}) == 0


async def test_who_switches_mail_off_gets_none_that_was_queued(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        await w.preferences.put(
            "bob", msgspec.convert({"types": {"mention": {"in_app": True, "email": "off"}}}, Preferences)
        )
        assert await w.later(minutes=5) == []


async def test_a_type_that_does_not_stand_in_the_inbox_is_mailed_all_the_same(database: Any) -> None:
    async with world(database) as w:
        await w.patch(await w.tell(text="about another event"), read=True)
        wishes = {"types": {"mention": {"in_app": False, "email": "now"}}}
        await w.preferences.put("bob", msgspec.convert(wishes, Preferences))
        kept, deleted = await w.tell(text="only by mail"), await w.tell(thread="t2", text="to be deleted")
        await w.queue.quote(str(kept.event.comment_id), "edited")
        await w.queue.quote(str(deleted.event.comment_id), None)
        (mail,) = await w.later(minutes=5)
        assert "edited" in text(mail)
        assert "about another event" not in text(mail)
        assert "to be deleted" not in str(await w.database.mails.find().to_list(None))


async def test_queueing_the_same_again_makes_no_second_mail(database: Any) -> None:
    async with world(database) as w:
        delivery = await w.tell()
        await w.redeliver(delivery)
        await asyncio.gather(*(w.redeliver(delivery) for _ in range(5)))
        (mail,) = await w.later(minutes=5)
        assert text(mail).count(str(delivery.event.text)) == 1
        # Told again, by whoever works the same changes off again or after an edit of the comment.
        edited = msgspec.structs.replace(delivery, event=msgspec.structs.replace(delivery.event, id="other"))
        for same in (delivery, edited):
            await w.redeliver(same)
            assert await w.later(minutes=5) == []
        w.time += timedelta(days=8)
        # Longer ago than jobs are kept: nobody knows any more, and so it is left.
        await w.database.mails.delete_many({})
        await w.redeliver(delivery)
        assert await w.later(days=6) == []


async def test_what_waited_for_longer_than_a_week_is_not_mailed_any_more(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        assert await w.later(days=7, seconds=1) == []
        assert await w.later(days=1) == []


async def test_an_event_whose_entry_is_not_there_yet_is_mailed(database: Any) -> None:
    async with world(database) as w:
        delivery = w.delivery()
        await w.queue.queue([delivery], await w.preferences.of_many({"bob"}))
        assert len(await w.later(minutes=5)) == 1


# -- digests and quiet hours ----------------------------------------------------------------------------------------


async def test_an_hourly_digest_leaves_out_what_was_read_and_groups_by_project(database: Any) -> None:
    async with world(database) as w:
        await w.add_user("carol", "carol@cms.example", types={"mention": "hourly"})
        await w.add_project("q", "Summer")
        w.time += timedelta(minutes=10)
        await w.tell("carol", thread="1", project="q", title="In summer")
        await w.tell("carol", thread="2", title="In spring")
        await w.patch(await w.tell("carol", thread="3", title="Read already"), read=True)
        assert await w.later(minutes=49) == []
        (mail,) = await w.later(minutes=1)
        assert mail["Subject"] == "2 notifications of the last hour"
        assert text(mail).index("Spring") < text(mail).index("In spring") < text(mail).index("Summer")
        assert "Read already" not in text(mail)
        await w.patch(await w.tell("carol", thread="4"), read=True)
        assert await w.later(hours=1) == []


async def test_a_digest_of_very_many_tells_the_newest_and_the_number_of_the_others(database: Any) -> None:
    async with world(database) as w:
        await w.add_user("carol", "carol@cms.example", types={"mention": "daily"})
        for number in range(MAX_NOTICES + 7):
            w.time += timedelta(seconds=1)
            await w.tell("carol", thread=f"t{number}", title=f"Title {number} of many")
        (mail,) = await w.later(days=1)
        assert mail["Subject"] == f"{MAX_NOTICES + 7} notifications of the last day"
        assert "There are 7 older ones" in text(mail)
        assert "Title 106 of many" in text(mail)
        assert "Title 6 of many" not in text(mail)


WEEK = {
    "sven": ("Europe/Stockholm", "daily", None),
    "nora": ("America/New_York", "daily", None),
    "hugo": ("Europe/Stockholm", "hourly", {"from": "22:00", "to": "07:30"}),
    "nate": ("America/New_York", "now", {"from": "20:00", "to": "06:00"}),
}


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(datetime(2035, 3, 8, 0, 0, tzinfo=UTC), id="clocks go forward in New York on the 11th"),
        pytest.param(datetime(2035, 10, 25, 0, 0, tzinfo=UTC), id="clocks go back in Stockholm on the 28th"),
    ],
)
async def test_a_week_of_mail_comes_at_the_right_hours_of_everybody_s_own_clock(database: Any, begin: datetime) -> None:
    async with world(database) as w:
        w.time = begin
        for user, (zone, frequency, quiet) in WEEK.items():
            wishes = {"time_zone": zone, **({"quiet_hours": quiet} if quiet else {})}
            await w.add_user(user, f"{user}@cms.example", types={"mention": frequency}, **wishes)
        arrived: dict[str, list[datetime]] = {user: [] for user in WEEK}
        words: dict[str, list[str]] = {user: [] for user in WEEK}
        expected: dict[str, list[str]] = {user: [] for user in WEEK}
        for half_hour in range(7 * 48 + 2 * 36):
            if half_hour < 7 * 48 and half_hour % 7 == 0:
                told = [w.delivery(user, thread=f"t{half_hour}", text=f"word-{user}-{half_hour}.") for user in WEEK]
                await w.redeliver(*told)
                for delivery in told:
                    expected[delivery.user_id].append(str(delivery.event.text))
            for mail in await w.later(minutes=30):
                user = mail["To"].addresses[0].username
                arrived[user].append(w.time.astimezone(ZoneInfo(WEEK[user][0])))
                words[user] += [word for word in expected[user] if word in text(mail)]
        # Every event once, none twice, none lost.
        assert {user: sorted(found) for user, found in words.items()} == {u: sorted(e) for u, e in expected.items()}
        for user in ("sven", "nora"):
            assert {f"{moment:%H:%M}" for moment in arrived[user]} == {"08:00"}
            assert len({moment.date() for moment in arrived[user]}) == len(arrived[user]) in (8, 9)
        assert {moment.minute for moment in arrived["hugo"]} == {0, 30}
        assert all(moment.minute == 0 or f"{moment:%H:%M}" == "07:30" for moment in arrived["hugo"])
        assert all("07:30" <= f"{moment:%H:%M}" < "22:00" for moment in arrived["hugo"])
        assert all("06:00" <= f"{moment:%H:%M}" < "20:00" for moment in arrived["nate"])
        assert "06:00" in {f"{moment:%H:%M}" for moment in arrived["nate"]}
        assert "07:30" in {f"{moment:%H:%M}" for moment in arrived["hugo"]}


# -- faults ---------------------------------------------------------------------------------------------------------


async def test_what_is_refused_for_now_is_tried_again_ever_more_seldom(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        w.box.plan.extend(["451 later"] * 4)
        assert await w.later(minutes=2) == []
        for minutes in (1, 2, 4):
            assert await w.later(minutes=minutes, seconds=-1) == []
            before = len(w.box.plan)
            assert await w.later(seconds=1) == []
            assert len(w.box.plan) == before - 1
        assert await w.later(minutes=7) == []
        assert len(await w.later(minutes=1)) == 1
        assert await w.dead() == []


async def test_after_five_attempts_a_mail_is_dead_until_somebody_queues_it_again(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        w.box.plan.extend(["452 disk full"] * MAX_ATTEMPTS)
        for _ in range(8):
            assert await w.later(minutes=20) == []
        (letter,) = await w.dead()
        assert (letter.user_id, letter.attempts, letter.title) == ("bob", 5, "Press release")
        assert "452" in letter.error
        assert "disk full" in letter.error
        await w.mails.requeue(letter.id)
        assert len(await w.sent()) == 1
        assert await w.dead() == []


@pytest.mark.parametrize("where", ["recipient", "content"])
async def test_what_is_refused_for_good_is_dead_at_once(database: Any, where: str) -> None:
    async with world(database) as w:
        await w.tell()
        if where == "recipient":
            w.box.recipients["bob@cms.example"] = "550 no such user"
        else:
            w.box.plan.append("554 not from you")
        await w.tell("alice")
        mails = await w.later(minutes=5)
        # The other mail of the same round is not harmed.
        assert len(mails) + len(await w.dead()) == 2
        (letter,) = await w.dead()
        assert letter.attempts == 1
        assert letter.error.startswith("55")


async def test_a_connection_that_breaks_in_the_middle_is_tried_again_with_the_same_message_id(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        w.box.plan.append(DROP)
        (first,) = await w.later(minutes=2)  # it arrived, and nobody told us so
        (second,) = await w.later(minutes=1)
        assert first["Message-ID"] == second["Message-ID"]
        assert text(first) == text(second)
        assert await w.later(hours=1) == []


async def test_a_crash_between_sending_and_noting_it_sends_the_same_message_id_again(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database) as w:
        await w.tell()

        async def crash(_head: MailJob) -> None:
            raise AutoReconnect("gone")

        with monkeypatch.context() as patched:
            patched.setattr(w.mails, "sent", crash)
            w.time += timedelta(minutes=2)
            with pytest.raises(AutoReconnect):
                await w.sent()
        (first,) = w.box.taken()
        assert await w.later(seconds=59) == []  # the claim is believed so long
        (second,) = await w.later(seconds=1)
        assert first["Message-ID"] == second["Message-ID"]
        assert await w.later(hours=1) == []


async def test_a_crash_after_the_claim_loses_no_part_of_a_digest(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database) as w:
        for number in range(3):
            await w.tell(text=f"word-{number}.")

        async def crash(_head: MailJob) -> Any:
            raise AutoReconnect("gone")

        with monkeypatch.context() as patched:
            patched.setattr(w.mails, "group", crash)
            w.time += timedelta(minutes=2)
            with pytest.raises(AutoReconnect):
                await w.sent()
        await w.tell(text="word-3.")
        found = "".join(text(mail) for mail in [*await w.later(minutes=2), *await w.later(minutes=2)])
        assert [found.count(f"word-{number}.") for number in range(4)] == [1, 1, 1, 1]


async def test_a_mail_whose_every_attempt_ends_in_a_crash_does_not_go_on_for_ever(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database) as w:
        await w.tell()

        async def crash(_head: MailJob) -> Any:
            raise AutoReconnect("gone")

        with monkeypatch.context() as patched:
            patched.setattr(w.mails, "group", crash)
            for _ in range(MAX_ATTEMPTS):
                w.time += timedelta(minutes=2)
                with pytest.raises(AutoReconnect):
                    await w.sent()
        assert await w.later(minutes=2) == []
        assert len(await w.dead()) == 1


async def test_a_mail_server_that_is_away_costs_no_mail_an_attempt(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        await w.box.stop()
        for _ in range(10):
            with pytest.raises(ServerDown):
                await w.later(minutes=10)
        await w.box.start()
        assert len(await w.sent()) == 1
        assert await w.dead() == []


async def test_a_mail_server_that_hangs_up_after_each_mail_gets_all_of_them(database: Any) -> None:
    async with world(database) as w:
        for number in range(3):
            await w.tell(thread=f"t{number}")
        w.box.plan.extend([DROP, DROP])
        assert len(await w.later(minutes=2)) == 3


async def test_a_mail_that_cannot_be_written_is_dead_and_stops_no_other(database: Any) -> None:
    async with world(database) as w:
        await w.add_user("carol", "a,b@cms.example", types={"mention": "now"})
        await w.tell("carol")
        await w.tell("bob")
        assert len(await w.later(minutes=2)) == 1
        (letter,) = await w.dead()
        assert letter.user_id == "carol"


async def test_two_holders_at_once_send_each_mail_once(database: Any) -> None:
    async with world(database) as w:
        await w.add_user("carol", "carol@cms.example", types={"mention": "hourly"})
        for number in range(20):
            await w.tell(thread=f"t{number}")
            await w.tell("carol", thread=f"t{number}", text=f"word-{number}.")
        w.time += timedelta(hours=1)
        await w.mailer._lease.renew()
        others = [w.another(f"other{number}", lease=w.mailer._lease) for number in range(3)]
        await asyncio.gather(*(mailer.send_due() for mailer in [w.mailer, *others]))
        mails = w.box.taken() + await w.sent()
        ids = [mail["Message-ID"] for mail in mails]
        assert len(ids) == len(set(ids))
        to_bob = [mail for mail in mails if "bob" in mail["To"]]
        found = "".join(text(mail) for mail in mails if "carol" in mail["To"])
        assert len(to_bob) == 20
        assert [found.count(f"word-{number}.") for number in range(20)] == [1] * 20


async def test_a_holder_that_was_overtaken_changes_nothing(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        w.time += timedelta(minutes=2)
        jobs = await w.mails.together_with(await w.mails.due(limit=10))
        slow = await w.mails.claim(jobs, retry_after=RETRY)
        assert slow is not None
        assert await w.mails.claim(jobs, retry_after=RETRY) is None
        w.time += timedelta(minutes=1)
        (again,) = await w.mails.together_with(await w.mails.due(limit=10))
        quick = await w.mails.claim([again], retry_after=RETRY)
        assert quick is not None
        assert quick.attempts == 2
        await w.mails.failed(slow, "too late", retry_at=None)
        assert await w.dead() == []
        await w.mails.sent(quick)
        assert await w.later(hours=1) == []


async def test_only_the_holder_of_the_lease_sends(database: Any) -> None:
    async with world(database) as w:
        await w.tell()
        w.time += timedelta(minutes=2)
        assert await w.mailer._lease.renew()
        idle = w.another("two")
        await idle.send_due()
        assert w.box.taken() == []
        assert len(await w.sent()) == 1


async def test_the_mailer_runs_by_itself_until_it_is_stopped(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.mailer.LOOK_SECONDS", 0.01)
    async with world(database) as w:
        await w.mailer._lease.renew()
        await w.box.stop()
        running = asyncio.ensure_future(w.mailer.run())
        await w.tell()
        w.time += timedelta(minutes=2)
        await _until(lambda: _gauge(w, "copydesk_mail_server_down") == 1)
        await w.box.start()
        await _until(lambda: _gauge(w, "copydesk_mail_server_down") == 0)
        assert _gauge(w, "copydesk_mails_total", outcome="sent") == 1
        w.mailer.stop()
        await running
        assert len(w.box.taken()) == 1


def _gauge(w: World, name: str, **labels: str) -> float | None:
    return w.metrics.registry.get_sample_value(name, labels)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a metric tells nobody that it changed
            await asyncio.sleep(0.01)
