"""The mail server that takes our mail: one connection at a time, and what its refusals mean."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Literal

import aiosmtplib
from aiosmtplib import SMTP, SMTPException, SMTPRecipientsRefused, SMTPResponseException

TIMEOUT_SECONDS = 20.0
"""For one answer of the server."""
MAIL_SECONDS = 45.0
"""For all answers about one mail."""

Security = Literal["none", "starttls", "tls"]


class ServerDown(Exception):  # noqa: N818 - says what it means
    """The server cannot be reached, or does not want us. No single mail is to blame."""


class Undelivered(Exception):  # noqa: N818 - says what it means
    """The server did not take a mail. `permanent`: it never will."""

    def __init__(self, detail: str, *, permanent: bool) -> None:
        super().__init__(detail)
        self.detail, self.permanent = detail[:500], permanent


class Session:
    """A connection to the server, good for several mails."""

    def __init__(self, client: SMTP) -> None:
        self._client = client

    async def ensure(self) -> None:
        """Connect again where the server hung up after the mail before. Raises `ServerDown`."""
        if not self._client.is_connected:
            await _connect(self._client)

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        """Hand one mail over; `sender` and `recipient` are addresses alone. Raises `Undelivered`."""
        try:
            async with asyncio.timeout(MAIL_SECONDS):
                await self._client.sendmail(sender, [recipient], message.as_bytes())
        except SMTPRecipientsRefused as problem:
            refused = problem.recipients[0]
            raise Undelivered(f"{refused.code} {refused.message}", permanent=refused.code >= 500) from None
        except SMTPResponseException as problem:
            raise Undelivered(f"{problem.code} {problem.message}", permanent=problem.code >= 500) from None
        except ValueError as problem:
            raise Undelivered(f"The address cannot be used: {problem}", permanent=True) from None
        except (SMTPException, OSError) as problem:
            # Cut off in the middle: nobody knows whether it was taken.
            self._client.close()
            raise Undelivered(f"{type(problem).__name__}: {problem}", permanent=False) from None


class MailServer:
    """Where mail is handed over (RFC 5321), and how."""

    def __init__(
        self, host: str, port: int, *, security: Security, username: str | None = None, password: str | None = None
    ) -> None:
        """`security`: `starttls` insists on it, `tls` speaks it from the first byte; certificates are checked."""
        self._host, self._port, self._security = host, port, security
        self._username, self._password = username, password

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A connection as long as the block. Raises `ServerDown`."""
        client = SMTP(
            hostname=self._host,
            port=self._port,
            username=self._username,
            password=self._password,
            use_tls=self._security == "tls",
            start_tls=self._security == "starttls",
            timeout=TIMEOUT_SECONDS,
        )
        await _connect(client)
        try:
            yield Session(client)
        finally:
            with contextlib.suppress(SMTPException, OSError):
                await client.quit(timeout=1.0)
            client.close()


async def _connect(client: SMTP) -> None:
    try:
        await client.connect()
    except (aiosmtplib.SMTPException, OSError, ValueError) as problem:
        client.close()
        raise ServerDown(f"{type(problem).__name__}: {problem}"[:500]) from None
