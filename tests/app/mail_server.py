"""A real mail server (aiosmtpd) in the test's loop, which answers as it is told."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

DROP = "drop"
"""An answer to DATA that is none: the connection ends."""


class MailBox:
    """What arrived, and how the next mails are answered; those without a plan are taken."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.plan: deque[str] = deque()
        """For each mail to come, the answer to DATA."""
        self.recipients: dict[str, str] = {}
        """Answers to RCPT by address."""
        self.sessions = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._transports: set[Any] = set()

    @property
    def mails(self) -> list[EmailMessage]:
        """What arrived, parsed."""
        return [
            cast("EmailMessage", email.message_from_bytes(cast("bytes", envelope.content), policy=email.policy.default))
            for envelope in self.envelopes
        ]

    def taken(self) -> list[EmailMessage]:
        """What arrived since the last call."""
        mails = self.mails
        self.envelopes.clear()
        return mails

    # -- what aiosmtpd calls ------------------------------------------------------------------------------------------

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.sessions += 1
        self._transports.add(server.transport)
        session.host_name = hostname
        return responses

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self.recipients.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - likewise
        answer = self.plan.popleft() if self.plan else "250 OK"
        if answer == DROP:
            server.transport.abort()
        if answer.startswith("250") or answer == DROP:
            self.envelopes.append(envelope)
        return answer

    # -- the server ---------------------------------------------------------------------------------------------------

    async def start(self, *, listening: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Listen, on the same port as before after a `stop`. `options` are aiosmtpd's, `listening` the loop's."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="mail.example", loop=loop, **options),
            "127.0.0.1",
            self.port,
            **(listening or {}),
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone."""
        assert self._server is not None
        self._server.close()
        for transport in self._transports:
            if transport is not None:
                transport.abort()
        self._transports.clear()
        await self._server.wait_closed()


@asynccontextmanager
async def mail_box(**options: Any) -> AsyncIterator[MailBox]:
    """A mail server as long as the block."""
    box = MailBox()
    await box.start(**options)
    try:
        yield box
    finally:
        await box.stop()
