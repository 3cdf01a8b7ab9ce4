"""The worker's part in notifications: changes in, entries of inboxes out. What is done here twice is done once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from pymongo.errors import PyMongoError

from app.audience import Audiences, Rights
from app.changes import Change
from app.notifier import Audience, deliveries_of, deliveries_of_posting, shortened
from app.occasions import access_changed, automatic_follows, concerns, edited, is_gone
from models.fields import utc_now
from models.inbox_store import InboxStore
from models.notification import Delivery
from models.posting import Posting, PostingStore
from models.preferences import Preferences, PreferencesStore
from models.subscription import SubscriptionStore

log = structlog.get_logger("copydesk.notifications")

LOT = 10_000
"""Deliveries that are gathered before they are put into inboxes; many events of one entry are one write."""
POSTINGS = 50
"""Postings that are read at a time."""
PUT_OFF = timedelta(hours=1)
"""After which a posting that could not be sent is tried again."""
LOOK_AGAIN = timedelta(seconds=30)
"""How often the database is asked for the next posting though no change told of one."""


class MailQueue(Protocol):
    """Where mails are put that go out later."""

    async def queue(self, deliveries: Sequence[Delivery], preferences: Mapping[str, Preferences]) -> None:
        """Take what was told, before it stands in an inbox. The same delivery again makes no second mail."""

    async def quote(self, comment_id: str, text: str | None) -> None:
        """A comment was edited (its new text) or deleted (None): mail that is still to go says the same."""


class Notifications:
    """Derives notifications from changes; used by the holder of the lease only, though two do no harm."""

    def __init__(
        self,
        *,
        audiences: Audiences,
        inbox: InboxStore,
        subscriptions: SubscriptionStore,
        preferences: PreferencesStore,
        postings: PostingStore,
        mail: MailQueue | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._audiences, self._inbox, self._subscriptions = audiences, inbox, subscriptions
        self._preferences, self._postings, self._mail, self._now = preferences, postings, mail, now
        self._next_due: datetime | None = None
        self._look_again = datetime.min.replace(tzinfo=now().tzinfo)

    async def work_off(self, changes: Sequence[Change]) -> bool:
        """Do all that follows from changes, in order. Answers whether anything did. Raises what the driver raises.

        A change that fails for any other reason is left out: what one program wrote must not silence all inboxes.
        """
        try:
            return await self._work_off(changes)
        except PyMongoError:
            raise
        except Exception:
            log.warning("changes_taken_one_by_one", exc_info=True)
        done = False
        for change in changes:
            try:
                done |= await self._work_off([change])
            except PyMongoError:
                raise
            except Exception:
                log.exception("notification_failed", collection=change.collection, id=change.id)
        return done

    async def _work_off(self, changes: Sequence[Change]) -> bool:
        concerning = [change for change in changes if concerns(change)]
        if not concerning:
            return False
        # First, because whoever is mentioned in one change is told as a follower of the next.
        known = await self._let_follow(concerning)
        audience = await self._audiences.of(concerning, known)
        pending: list[Delivery] = []
        for change in concerning:
            match change.collection:
                case "projects" if access_changed(change):
                    await self._tell(pending)
                    await self._reconsider_project(change.id)
                case "users":
                    await self._tell(pending)
                    await self._reconsider_user(change.id)
                case "postings":
                    self._look_again = self._now()
                case "comments" if is_gone(change) or edited(change) is not None:
                    await self._tell(pending)
                    await self._rewrite(change, audience)
                case _:
                    pending += deliveries_of(change, audience)
                    if len(pending) >= LOT:
                        await self._tell(pending)
        await self._tell(pending)
        await self.tick()
        return True

    async def tick(self) -> None:
        """Send the postings that are due by now; costs nothing while none is."""
        now = self._now()
        if now >= self._look_again:
            self._next_due, self._look_again = await self._postings.next_due(), now + LOOK_AGAIN
        while self._next_due is not None and self._next_due <= now:
            due = await self._postings.due(now, POSTINGS)
            for posting in due:
                try:
                    await self._send(posting)
                except PyMongoError:
                    raise
                except Exception:
                    # One that cannot be sent must stop neither the others nor the worker.
                    log.exception("posting_failed", id=posting.id)
                    await self._postings.put_off(posting.id, self._now() + PUT_OFF)
            self._next_due = await self._postings.next_due() if due else None

    async def _send(self, posting: Posting) -> None:
        async for recipients in self._audiences.recipients(posting):
            await self._tell(deliveries_of_posting(posting, recipients))
        await self._postings.mark_sent(posting.id, self._now())

    async def _tell(self, deliveries: list[Delivery]) -> None:
        """Put deliveries into mails and inboxes, and empty the list."""
        if not deliveries:
            return
        preferences = await self._preferences.of_many({delivery.user_id for delivery in deliveries})
        if self._mail is not None:
            await self._mail.queue(deliveries, preferences)
        await self._inbox.deliver(
            [delivery for delivery in deliveries if preferences[delivery.user_id].types[delivery.event.type].in_app]
        )
        deliveries.clear()

    async def _let_follow(self, changes: Sequence[Change]) -> Rights | None:
        """Note who follows what from now on. Answers what had to be read for that."""
        wanted = [pair for change in changes for pair in automatic_follows(change)]
        if not wanted:
            return None
        rights = await self._audiences.rights(
            {follow.user_id for follow, _ in wanted}, {project_id for _, project_id in wanted}
        )
        await self._subscriptions.add_automatic(
            [follow for follow, project_id in wanted if rights.may_see(follow.user_id, project_id)]
        )
        return rights

    async def _rewrite(self, change: Change, audience: Audience) -> None:
        """A comment reads otherwise or is gone: inboxes quote it so, and whoever it mentions now is told."""
        comment = None if is_gone(change) else edited(change)
        if comment is not None:
            mentions = deliveries_of(change, audience)
            if mentions:
                told = await self._inbox.mentioned_already(change.id, {mention.user_id for mention in mentions})
                await self._tell([mention for mention in mentions if mention.user_id not in told])
        text = None if comment is None else shortened(comment.body or "")
        if self._mail is not None:
            await self._mail.quote(change.id, text)
        await self._inbox.quote(change.id, text, change.position)

    async def _reconsider_project(self, project_id: str) -> None:
        """Take the entries of a project away from those who may not see it any more."""
        holders = await self._inbox.holders(project_id)
        rights = await self._audiences.rights(holders, [project_id])
        # One by one: who gets an entry meanwhile from another holder of the lease, and may see it, must keep it.
        for user_id in sorted(holders):
            if not rights.may_see(user_id, project_id, disabled_too=True):
                await self._inbox.withdraw_from(user_id, project_ids=[project_id])

    async def _reconsider_user(self, user_id: str) -> None:
        """Take the entries of projects away from a user who may not see them any more."""
        project_ids = await self._inbox.projects_of(user_id)
        rights = await self._audiences.rights([user_id], project_ids)
        kept = {project_id for project_id in project_ids if rights.may_see(user_id, project_id, disabled_too=True)}
        lost = sorted(project_ids - kept)
        if lost:
            await self._inbox.withdraw_from(user_id, project_ids=lost)
