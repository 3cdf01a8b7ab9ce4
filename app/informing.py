"""Notifications and mail put together: what the worker fills inboxes with, and the tasks that send mail.

Without a mail server in the settings there is no mail, and none is kept to be sent later.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any

from app.access import Access
from app.audience import Audiences
from app.connections import Connections
from app.lease import Lease
from app.mail_writing import Writer
from app.mailer import Mailer, MailQueue
from app.metrics import Metrics
from app.notifications import Notifications
from app.presence import Presence
from app.settings import Settings
from app.smtp import MailServer
from app.stores import Stores
from app.unsubscribe import Unsubscriptions
from models.database_types import Database


class Informing:
    """One per process. `tasks` run until `stop`."""

    def __init__(
        self,
        database: Database,
        *,
        settings: Settings,
        stores: Stores,
        access: Access,
        lease: Lease,
        connections: Connections,
        metrics: Metrics,
        process: str,
    ) -> None:
        """`process`: a name that no other process has."""
        secrets = (settings.auth_secret, settings.auth_secret_previous)
        self.unsubscriptions = Unsubscriptions(secrets=tuple(secret for secret in secrets if secret))
        self._presence: Presence | None = None
        self._mailer: Mailer | None = None
        delay = timedelta(seconds=settings.mail_delay_seconds)
        if settings.smtp_host is not None and settings.mail_from is not None and settings.public_url is not None:
            self._presence = Presence(database, process=process, users=lambda: connections.user_ids)
            self._mailer = Mailer(
                lease=lease,
                mails=stores.mails,
                standings=stores.standings,
                users=stores.users,
                projects=stores.projects,
                preferences=stores.preferences,
                access=access,
                presence=self._presence,
                server=MailServer(
                    settings.smtp_host,
                    settings.smtp_port,
                    security=settings.smtp_security,
                    username=settings.smtp_username,
                    password=settings.smtp_password,
                ),
                writer=Writer(
                    sender=settings.mail_from, public_url=settings.public_url, unsubscriptions=self.unsubscriptions
                ),
                metrics=metrics,
                delay=delay,
            )
        self.notifications = Notifications(
            audiences=Audiences(
                access=access,
                users=stores.users,
                projects=stores.projects,
                items=stores.items,
                comments=stores.comments,
                subscriptions=stores.subscriptions,
                group_limit=settings.group_mention_limit,
            ),
            inbox=stores.inbox,
            subscriptions=stores.subscriptions,
            preferences=stores.preferences,
            postings=stores.postings,
            mail=None if self._mailer is None else MailQueue(stores.mails, stores.users, delay=delay),
        )

    def tasks(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What has to run in the background, by name."""
        running = {"presence": self._presence, "mailer": self._mailer}
        return {name: part.run() for name, part in running.items() if part is not None}

    def stop(self) -> None:
        """End the tasks after what is under way."""
        for part in (self._presence, self._mailer):
            if part is not None:
                part.stop()
