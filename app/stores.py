"""All stores of the process: made once, handed to whoever asks for them by name."""

from __future__ import annotations

from datetime import timedelta

from app.runtime import Runtime
from app.settings import Settings
from models.activity import ActivityStore
from models.comment_store import CommentStore
from models.database_types import Database
from models.fields import Report
from models.idempotency import IdempotencyStore
from models.inbox_store import InboxStore
from models.item_store import ItemStore
from models.mail import MailStore
from models.meta import MetaStore
from models.overview_store import OverviewStore
from models.posting import PostingStore
from models.preferences import PreferencesStore
from models.project import ProjectStore
from models.session import SessionStore
from models.snapshot import SnapshotStore
from models.standing import StandingStore
from models.subscription import SubscriptionStore
from models.user import UserStore


class Stores:
    """By the names under which handlers ask for them. Documents that do not fit are told to `report`."""

    def __init__(self, database: Database, *, settings: Settings, runtime: Runtime, report: Report) -> None:
        self.meta = MetaStore(database, report=report)
        self.projects = ProjectStore(database, report=report)
        self.overviews = OverviewStore(database, report=report)
        self.items = ItemStore(database, report=report)
        self.comments = CommentStore(database, report=report)
        self.activities = ActivityStore(database, report=report)
        self.users = UserStore(database, report=report)
        self.sessions = SessionStore(
            database, idle_seconds=settings.session_idle_seconds, max_seconds=settings.session_max_seconds
        )
        self.idempotency = IdempotencyStore(database)
        self.snapshots = SnapshotStore(database, report=report)
        self.inbox = InboxStore(
            database,
            report=report,
            retention=timedelta(days=settings.notification_retention_days),
            max_entries=settings.inbox_max_entries,
        )
        self.subscriptions = SubscriptionStore(database, report=report)
        self.preferences = PreferencesStore(database, report=report, defaults=lambda: runtime.now.notification_defaults)
        self.postings = PostingStore(database, report=report)
        self.mails = MailStore(database, report=report)
        self.standings = StandingStore(database)
