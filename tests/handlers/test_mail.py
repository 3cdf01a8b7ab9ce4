"""Mail over a whole server: a comment becomes a mail, its link stops it, and operators deal with what is dead."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.ioloop import IOLoop

from app.unsubscribe import Unsubscriptions
from models.errors import NotFound
from models.fields import stamp, utc_now
from models.mail import MailJob
from models.notification import Delivery, NotificationEvent, Subject
from tests.app.mail_server import MailBox
from tests.conftest import Copydesk

ADMIN: dict[str, Any] = {"user": "root", "roles": ("admin",)}
LETTERS = "/admin/dead-letters"
LINKS = Unsubscriptions(secrets=("s" * 32,))


@pytest.fixture
def box(io_loop: IOLoop) -> Iterator[MailBox]:
    """A mail server."""
    made = MailBox()
    io_loop.run_sync(made.start)
    yield made
    io_loop.run_sync(made.stop)


@pytest.fixture
def mailing(start_server: Callable[..., Copydesk], box: MailBox) -> Copydesk:
    """A server that mails, at once."""
    return start_server(
        smtp_host="127.0.0.1",
        smtp_port=box.port,
        smtp_security="none",
        mail_from="Copydesk <copydesk@cms.example>",
        mail_delay_seconds=0.1,
        public_url="https://cms.example",
    )


async def until_mailed(box: MailBox) -> EmailMessage:
    """The first mail that arrives."""
    async with asyncio.timeout(30):
        while not box.envelopes:  # noqa: ASYNC110 - the mail server tells nobody
            await asyncio.sleep(0.05)
    return box.taken()[0]


async def one_click(copydesk: Copydesk, url: str, body: str = "List-Unsubscribe=One-Click") -> HTTPResponse:
    """What a mail program does (RFC 8058): nobody is signed in, and no page of ours is open."""
    return await AsyncHTTPClient().fetch(
        copydesk.url + url.removeprefix("https://cms.example"),
        method="POST",
        body=body,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        raise_error=False,
    )


async def email_choices(copydesk: Copydesk, user: str = "bob") -> dict[str, str]:
    preferences = await copydesk.call("GET", "/preferences", user=user)
    return {kind: chosen["email"] for kind, chosen in preferences["types"].items()}


async def test_a_mention_becomes_a_mail_and_its_link_stops_more_of_them(mailing: Copydesk, box: MailBox) -> None:
    project = await mailing.project("Spring")
    await mailing.database.users.insert_one({"_id": "bob", "name": "Bob", "email": "bob@cms.example", "version": 1})
    await mailing.call("POST", f"/projects/{project}/comments", {"body": "@bob please look"})
    mail = await until_mailed(box)
    assert "mentioned you" in mail["Subject"]
    assert mail["To"].addresses[0].addr_spec == "bob@cms.example"
    body = mail.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    assert "please look" in body.get_content()
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert (await email_choices(mailing))["mention"] == "now"
    answer = await one_click(mailing, mail["List-Unsubscribe"].strip("<>"))
    assert answer.code == 200
    choices = await email_choices(mailing)
    assert choices["mention"] == "off"
    assert choices["assigned"] == "now"


async def test_who_is_connected_gets_the_mail_when_they_are_gone(mailing: Copydesk, box: MailBox) -> None:
    project = await mailing.project("Spring")
    await mailing.database.users.insert_one({"_id": "bob", "name": "Bob", "email": "bob@cms.example", "version": 1})
    bob = await mailing.editor("bob")
    await _until_online(mailing, {"bob"})
    await mailing.call("POST", f"/projects/{project}/comments", {"body": "@bob please look"})
    async with asyncio.timeout(20):
        # Looked at, and put off: each time a little later.
        later = {"$expr": {"$gt": ["$next_attempt_at", {"$add": ["$created_at", 3000]}]}}
        while not await mailing.database.mails.find_one(later):  # noqa: ASYNC110 - not watched
            await asyncio.sleep(0.05)
    assert box.envelopes == []
    await bob.close()
    await until_mailed(box)


async def test_the_page_behind_the_link_changes_nothing_until_its_button_is_pressed(copydesk: Copydesk) -> None:
    token = LINKS.token("bob", "reply")
    page = await copydesk.request("GET", f"/unsubscribe?token={token}", user=None)
    assert page.code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "form-action 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert (await email_choices(copydesk))["reply"] == "hourly"
    buttons = re.findall(r'<form method="post" action="([^"]+)"', page.body.decode())
    assert len(buttons) == 2
    done = await one_click(copydesk, buttons[0], body="")
    assert done.code == 200
    assert b"will not get mail about replies" in done.body
    assert (await email_choices(copydesk))["reply"] == "off"
    assert (await email_choices(copydesk))["mention"] == "now"
    await one_click(copydesk, buttons[1], body="")
    assert set((await email_choices(copydesk)).values()) == {"off"}
    # Once more does no harm.
    assert (await one_click(copydesk, buttons[1])).code == 200


async def test_a_link_keeps_what_else_the_user_chose(copydesk: Copydesk) -> None:
    chosen = {
        "types": {"comment": {"in_app": False, "email": "daily"}, "mention": {"in_app": True, "email": "now"}},
        "quiet_hours": {"from": "22:00", "to": "07:00"},
        "time_zone": "Europe/Stockholm",
    }
    await copydesk.call("PUT", "/preferences", chosen, user="bob")
    await one_click(copydesk, f"/api/v1/unsubscribe?token={LINKS.token('bob', 'daily')}")
    after = await copydesk.call("GET", "/preferences", user="bob")
    assert after["types"]["comment"] == {"in_app": False, "email": "off"}
    assert after["types"]["mention"] == {"in_app": True, "email": "now"}
    assert (after["quiet_hours"], after["time_zone"]) == (chosen["quiet_hours"], chosen["time_zone"])


async def test_a_link_leaves_what_the_user_never_chose_to_the_defaults(copydesk: Copydesk) -> None:
    await one_click(copydesk, f"/api/v1/unsubscribe?token={LINKS.token('bob', 'mention')}")
    stored = await copydesk.database.preferences.find_one({"_id": "bob"})
    assert stored == {"_id": "bob", "types": {"mention": {"email": "off"}}}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("query", ["?token=nonsense", "", "?token=", f"?token={LINKS.token('bob', 'all')[:-2]}"])
async def test_a_link_that_is_none_is_refused(copydesk: Copydesk, method: str, query: str) -> None:
    answer = await copydesk.request(method, f"/unsubscribe{query}", user=None)
    assert answer.code == (404 if len(query) > len("?token=") else 422)
    assert set((await email_choices(copydesk)).values()) != {"off"}


# -- dead letters ---------------------------------------------------------------------------------------------------


async def add_dead(copydesk: Copydesk, *numbers: int) -> None:
    """Mails that the mail server would not have."""
    mails = copydesk.server.stores.mails
    for number in numbers:
        delivery = Delivery(
            user_id="bob",
            subject=Subject(kind="thread", project_id="p", thread_id=f"t{number}"),
            event=NotificationEvent(id=f"e{number}", type="mention", reason="mentioned", at=stamp(utc_now())),
            title=f"Title {number}",
            body="",
            place=(1, number, 1),
        )
        job = MailJob.of(delivery, frequency="now", in_app=True, due=utc_now())
        await mails.add([job])
        head = await mails.claim([job], retry_after=timedelta(minutes=1))
        assert head is not None
        await mails.failed(head, "550 no such user", retry_at=None)


async def test_dead_letters_are_listed_newest_first_in_pages(copydesk: Copydesk) -> None:
    await add_dead(copydesk, 1, 2, 3)
    page = await copydesk.call("GET", f"{LETTERS}?limit=2", **ADMIN)
    assert [letter["title"] for letter in page["items"]] == ["Title 3", "Title 2"]
    rest = await copydesk.call("GET", f"{LETTERS}?limit=2&cursor={page['next_cursor']}", **ADMIN)
    (letter,) = rest["items"]
    assert letter["title"] == "Title 1"
    assert (letter["user_id"], letter["type"], letter["frequency"]) == ("bob", "mention", "now")
    assert (letter["attempts"], letter["error"]) == (1, "550 no such user")


async def test_a_dead_letter_that_is_queued_again_is_due_at_once(copydesk: Copydesk) -> None:
    await add_dead(copydesk, 1, 2)
    letters = (await copydesk.call("GET", LETTERS, **ADMIN))["items"]
    path = f"{LETTERS}/{letters[0]['id']}/requeue"
    answer = await copydesk.request("POST", path, **ADMIN, Idempotency_Key="once")
    assert answer.code == 204
    assert len((await copydesk.call("GET", LETTERS, **ADMIN))["items"]) == 1
    (due,) = await copydesk.server.stores.mails.due(limit=10)
    assert (due.id, due.attempts) == (letters[0]["id"], 0)
    again = await copydesk.request("POST", path, **ADMIN, Idempotency_Key="once")
    assert again.code == 204
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await copydesk.request("POST", path, **ADMIN)).code == 404


async def test_a_dead_letter_that_is_given_up_is_gone_and_comes_back_by_no_replay(copydesk: Copydesk) -> None:
    await add_dead(copydesk, 1)
    (letter,) = (await copydesk.call("GET", LETTERS, **ADMIN))["items"]
    stale = await copydesk.request("DELETE", f"{LETTERS}/{letter['id']}", **ADMIN, If_Match='"7-nonsense"')
    assert (stale.code, json.loads(stale.body)["code"]) == (412, "stale_version")
    assert (await copydesk.request("DELETE", f"{LETTERS}/{letter['id']}", **ADMIN)).code == 204
    assert (await copydesk.call("GET", LETTERS, **ADMIN))["items"] == []
    assert await copydesk.server.stores.mails.due(limit=10) == []
    assert (await copydesk.request("DELETE", f"{LETTERS}/{letter['id']}", **ADMIN)).code == 404


async def test_who_gives_up_what_was_queued_again_meanwhile_stops_nothing(
    copydesk: Copydesk, plain_database: Any
) -> None:
    await add_dead(copydesk, 1)
    (letter,) = (await copydesk.call("GET", LETTERS, **ADMIN))["items"]

    def meanwhile(_: object) -> None:
        plain_database.mails.update_one({"_id": letter["id"]}, {"$set": {"state": "claimed"}})

    with pytest.raises(NotFound):
        await copydesk.server.stores.mails.discard(letter["id"], precondition=meanwhile)
    assert plain_database.mails.find_one({"_id": letter["id"]})["state"] == "claimed"


async def test_dead_letters_are_for_admins(copydesk: Copydesk) -> None:
    for method, path in (("GET", LETTERS), ("DELETE", f"{LETTERS}/x"), ("POST", f"{LETTERS}/x/requeue")):
        assert (await copydesk.request(method, path, user="alice")).code == 403
        assert (await copydesk.request(method, path, user=None)).code == 401


async def _until_online(copydesk: Copydesk, users: set[str]) -> None:
    async with asyncio.timeout(20):
        while not await copydesk.database.leases.find_one({"users": {"$all": sorted(users)}}):  # noqa: ASYNC110 - not watched
            await asyncio.sleep(0.05)
