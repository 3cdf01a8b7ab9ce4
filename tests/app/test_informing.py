"""Notifications and mail as the server puts them together: with a mail server in the settings, and without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.app.mail_server import MailBox
from tests.conftest import Copydesk


@pytest.fixture
def box(io_loop: IOLoop) -> Iterator[MailBox]:
    """A mail server that outlives the servers of the test."""
    made = MailBox()
    io_loop.run_sync(made.start)
    yield made
    io_loop.run_sync(made.stop)


@pytest.fixture
def mailing(box: MailBox, start_server: Callable[..., Copydesk]) -> Copydesk:
    """A server that sends mail as soon as it may."""
    return start_server(
        smtp_host="127.0.0.1",
        smtp_port=box.port,
        smtp_security="none",
        mail_from="Copydesk <copydesk@cms.example>",
        mail_delay_seconds=0.1,
        public_url="https://cms.example",
    )


async def _known(copydesk: Copydesk, user: str) -> None:
    await copydesk.server.stores.users.add(
        user,
        password_hash="",
        roles=frozenset({"editor"}),
        groups=frozenset(),
        name=user.title(),
        email=f"{user}@example.org",
    )


async def test_a_mention_is_mailed_to_who_is_not_there_and_not_to_who_is(mailing: Copydesk, box: MailBox) -> None:
    await _known(mailing, "bob")
    await _known(mailing, "carol")
    editor = await mailing.editor("carol")
    # Told within moments by the process that carol is connected to.
    async with asyncio.timeout(20):
        while await mailing.database.leases.count_documents({"users": "carol"}) == 0:  # noqa: ASYNC110 - not watched
            await asyncio.sleep(0.1)
    project = await mailing.project("Spring")
    await mailing.call("POST", f"/projects/{project}/comments", {"body": "Look, @carol"})
    await mailing.call("POST", f"/projects/{project}/comments", {"body": "Look, @bob"})
    async with asyncio.timeout(20):
        while not box.mails:  # noqa: ASYNC110 - the mail server tells nobody
            await asyncio.sleep(0.1)
    (mail,) = box.mails
    assert "bob@example.org" in mail["To"]
    assert mail["From"] == "Copydesk <copydesk@cms.example>"
    assert "https://cms.example/" in mail["List-Unsubscribe"]
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "Look, @bob" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert not editor.closed.done()


async def test_without_a_mail_server_no_mail_is_kept(copydesk: Copydesk, plain_database: Any) -> None:
    await _known(copydesk, "bob")
    editor = await copydesk.editor("bob")
    await editor.subscribe("inbox")
    project = await copydesk.project()
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Look, @bob"})
    await editor.until_event("inbox", kind="notification")
    assert plain_database.mails.count_documents({}) == 0
    assert plain_database.leases.count_documents({"users": "bob"}) == 0
