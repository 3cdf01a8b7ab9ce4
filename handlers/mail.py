"""The link in every mail that stops it, and what operators do about mail that could not be delivered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import structlog
from msgspec import Meta
from tornado.template import Loader

from app.permissions import Action
from app.unsubscribe import Scope, Unsubscriptions, stopped
from handlers.base import ApiHandler, Edge, Operation, Query, list_query
from models.errors import NotFound, StaleVersion
from models.mail import DEFAULT_SORT, DeadLetter, MailStore
from models.page import Page
from models.preferences import PreferencesStore

log = structlog.get_logger("copydesk.mail")

Token = Annotated[str, Meta(min_length=1, max_length=1000)]

_TEMPLATES = Loader(str(Path(__file__).parent / "templates"), autoescape="xhtml_escape")
_TOKEN = Query(name="token", shape=Token, summary="From the link in a mail.", required=True)
_HTML = "text/html; charset=utf-8"
_WORDS: dict[Scope, str] = {
    "mention": "mail about mentions of you",
    "reply": "mail about replies in your threads",
    "comment": "mail about comments on what you follow",
    "assigned": "mail about items that are assigned to you",
    "item_status": "mail about the status of items",
    "publish_result": "mail about results of publishing",
    "custom": "mail with messages from other programs",
    "now": "mail that comes at once",
    "hourly": "the hourly mail",
    "daily": "the daily mail",
    "all": "all mail about notifications",
}


class UnsubscribeHandler(ApiHandler):
    """GET and POST /api/v1/unsubscribe: who has the link needs no sign-in (RFC 8058)."""

    route = "/api/v1/unsubscribe"
    secret_arguments = frozenset()
    """The link's own token is good for nothing but what the link says."""
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="The page behind the link in a mail; it changes nothing, but has a button that does",
            action=Action.ANYONE,
            query=(_TOKEN,),
            media_type=_HTML,
            refusals=(NotFound,),
        ),
        "POST": Operation(
            summary="Switch off the e-mail that the link is about: the button of that page, or of a mail program",
            action=Action.ANYONE,
            query=(_TOKEN,),
            media_type=_HTML,
            refusals=(NotFound,),
        ),
    }

    def initialize(self, *, edge: Edge, preferences: PreferencesStore, unsubscriptions: Unsubscriptions) -> None:
        super().initialize(edge=edge)
        self.preferences, self.unsubscriptions = preferences, unsubscriptions

    async def get(self) -> None:
        user_id, scope = self.unsubscriptions.read(self.query("token"))
        self._show(scope, done=False, token=self.query("token"), all_token=self.unsubscriptions.token(user_id, "all"))

    async def post(self) -> None:
        user_id, scope = self.unsubscriptions.read(self.query("token"))
        chosen = await self.preferences.get(user_id)
        await self.preferences.without_mail(user_id, stopped(chosen, scope))
        log.info("mail_unsubscribed", user_id=user_id, scope=scope, request_id=self.request_id)
        self._show(scope, done=True, token="", all_token="")

    def _show(self, scope: Scope, *, done: bool, token: str, all_token: str) -> None:
        self.set_header("Content-Type", _HTML)
        # The address holds a token: neither kept in a cache nor told to a site that a link leads to.
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'",
        )
        page = _TEMPLATES.load("unsubscribe.html")
        self.finish(
            page.generate(what=_WORDS[scope], is_all=scope == "all", done=done, token=token, all_token=all_token)
        )


class DeadLettersBaseHandler(ApiHandler):
    """What all handlers of dead letters share."""

    def initialize(self, *, edge: Edge, mails: MailStore) -> None:
        super().initialize(edge=edge)
        self.mails = mails


class DeadLettersHandler(DeadLettersBaseHandler):
    """GET /api/v1/admin/dead-letters"""

    route = "/api/v1/admin/dead-letters"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Mail that could not be delivered, newest first",
            action=Action.ADMINISTER,
            query=list_query(),
            answer=Page[DeadLetter],
        )
    }

    async def get(self) -> None:
        self.reply_page(await self.mails.dead_letters(self.page_request(default_sort=DEFAULT_SORT)))


class DeadLetterHandler(DeadLettersBaseHandler):
    """DELETE /api/v1/admin/dead-letters/{letter_id}"""

    route = "/api/v1/admin/dead-letters/{letter_id}"
    operations: ClassVar[Mapping[str, Operation]] = {
        "DELETE": Operation(
            summary="Give a mail up for good",
            action=Action.ADMINISTER,
            status=204,
            refusals=(NotFound, StaleVersion),
        )
    }

    async def delete(self, letter_id: str) -> None:
        await self.mails.discard(letter_id, precondition=self.precondition)
        log.info("mail_discarded", id=letter_id, by=self.caller.user_id, request_id=self.request_id)
        self.reply()


class RequeueHandler(DeadLettersBaseHandler):
    """POST /api/v1/admin/dead-letters/{letter_id}/requeue"""

    route = "/api/v1/admin/dead-letters/{letter_id}/requeue"
    operations: ClassVar[Mapping[str, Operation]] = {
        "POST": Operation(
            summary="Try a mail again, now and as often as a new one",
            action=Action.ADMINISTER,
            status=204,
            idempotent=True,
            refusals=(NotFound,),
        )
    }

    async def post(self, letter_id: str) -> None:
        await self.mails.requeue(letter_id)
        log.info("mail_requeued", id=letter_id, by=self.caller.user_id, request_id=self.request_id)
        self.reply()
