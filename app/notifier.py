"""Who is told of what, and why. Pure: the same change and the same audience give the same notifications.

Of several notifications that fit one recipient, the strongest is told. Whoever did something is never told of it, and
nobody is told of what they may not see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from app.changes import Change
from app.occasions import chain, edited, item_news, new_comment, newly_assigned, newly_mentioned, status_changed
from models.comment import Comment
from models.fields import derived_ulid, stamp
from models.item import Item
from models.notification import (
    TEXT_LENGTH,
    Delivery,
    NotificationEvent,
    NotificationType,
    Place,
    Reason,
    Subject,
)
from models.posting import Posting


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known about the surroundings of changes to say who is told of them. Users are user ids."""

    projects: Mapping[str, str] = {}
    """Names of projects, by id."""
    items: Mapping[str, Item] = {}
    """The undeleted items that comments are about, by id."""
    participants: Mapping[str, Mapping[str, tuple[str, str]]] = {}
    """Of each thread, who wrote in it, with `created_at` and id of their first comment."""
    follows: Mapping[str, Mapping[str, datetime | Place]] = {}
    """Of each subject of a subscription, who follows it, and since when: since a time, or since a change."""
    mutes: Mapping[str, Collection[str]] = {}
    """Of each subject of a subscription, who wants to hear nothing of it."""
    groups: Mapping[tuple[str, str], Sequence[str]] = {}
    """Of each group and project, whom a mention of the group there reaches."""
    may_see: Callable[[str, str], bool]
    """Whether a user may see a project."""


def deliveries_of(change: Change, audience: Audience) -> list[Delivery]:
    """Who is told of a change. For an edited comment: whoever it mentions now and did not before."""
    comment = new_comment(change)
    if comment is not None:
        return _of_new_comment(change, comment, audience)
    comment = edited(change)
    if comment is not None:
        told = _Told(change, audience, comment.project_id, comment.item_id, comment.thread_id)
        _offer_mentions(told, change, comment)
        return _comment_deliveries(told, comment, change.by if change.by is not UNSET else comment.author)
    item = item_news(change)
    return [] if item is None else _of_item(change, item, audience)


def deliveries_of_posting(posting: Posting, recipients: Iterable[str]) -> list[Delivery]:
    """A posting for its recipients. Its place follows from the posting, so that sending it again is seen."""
    due = posting.due_at
    at, milliseconds = stamp(due), int(due.timestamp() * 1000)
    return [
        Delivery(
            user_id=user_id,
            subject=Subject(kind="custom", posting_id=posting.id),
            event=NotificationEvent(
                id=derived_ulid(milliseconds, f"{posting.id}.{user_id}"),
                type=posting.type,
                reason="addressed",
                at=at,
                actor=posting.created_by,
                text=posting.body or UNSET,
            ),
            title=posting.title,
            body=posting.body,
            link=posting.link,
            category=posting.category,
            place=(milliseconds // 1000, 0, 1),
        )
        for user_id in recipients
        if user_id != posting.created_by
    ]


def shortened(text: str) -> str:
    """The beginning of a text, at most `TEXT_LENGTH` code points: cut behind a word if one ends in its second half."""
    if len(text) <= TEXT_LENGTH:
        return text
    end = TEXT_LENGTH - 1
    word = next((place for place in range(end, end // 2, -1) if text[place].isspace()), end)
    return text[:word].rstrip() + "…"


class _Told:
    """Who is told of one change, each with what is offered for them first: the strongest has to come first."""

    def __init__(
        self,
        change: Change,
        audience: Audience,
        project_id: str,
        item_id: str | UnsetType,
        thread_id: str | UnsetType = UNSET,
    ) -> None:
        self.change, self.audience, self.project_id = change, audience, project_id
        subjects = chain(project_id, item_id, thread_id)
        self._muted = {user for subject in subjects for user in audience.mutes.get(subject, ())}
        self._at = datetime.fromisoformat(change.at)
        self._told: dict[str, tuple[NotificationType, Reason]] = {}

    def offer(
        self, user_id: str | UnsetType, kind: NotificationType, reason: Reason, *, personal: bool = False
    ) -> None:
        """Tell somebody, unless they are told something stronger or have muted it; what is `personal` passes a mute."""
        if user_id is not UNSET and (personal or user_id not in self._muted):
            self._told.setdefault(user_id, (kind, reason))

    def offer_followers(self, kind: NotificationType, subject: str, reason: Reason) -> None:
        """Tell those who follow a subject, and did so before the change."""
        for user_id, since in self.audience.follows.get(subject, {}).items():
            if since <= self._at if isinstance(since, datetime) else since <= self.change.position:
                self.offer(user_id, kind, reason)

    def offer_item(self, kind: NotificationType, item: Item | None, item_id: str | UnsetType) -> None:
        """Tell those who have to do with the item and its project."""
        if item is not None:
            self.offer(item.assignee, kind, "assignee")
            self.offer(item.created_by, kind, "creator")
        if item_id is not UNSET:
            self.offer_followers(kind, f"item:{item_id}", "follows_item")
        self.offer_followers(kind, f"project:{self.project_id}", "follows_project")

    def but(self, actor: str | UnsetType) -> Iterable[tuple[str, NotificationType, Reason]]:
        """All who are told: neither the one who did it nor who may not see it."""
        for user_id, (kind, reason) in self._told.items():
            if user_id != actor and self.audience.may_see(user_id, self.project_id):
                yield user_id, kind, reason


def _item_of(comment: Comment, audience: Audience) -> Item | None:
    """The item that a comment is about. The name of one that has moved to another project is for its readers alone."""
    item = None if comment.item_id is UNSET else audience.items.get(comment.item_id)
    return item if item is not None and item.project_id == comment.project_id else None


def _of_new_comment(change: Change, comment: Comment, audience: Audience) -> list[Delivery]:
    told = _Told(change, audience, comment.project_id, comment.item_id, comment.thread_id)
    _offer_mentions(told, change, comment)
    if comment.thread_id != comment.id:
        for user_id, first in audience.participants.get(comment.thread_id, {}).items():
            if first < (comment.created_at, comment.id):
                told.offer(user_id, "reply", "participant")
    told.offer_followers("comment", f"thread:{comment.thread_id}", "follows_thread")
    item = _item_of(comment, audience)
    told.offer_item("comment", item, comment.item_id)
    return _comment_deliveries(told, comment, comment.author)


def _offer_mentions(told: _Told, change: Change, comment: Comment) -> None:
    users, groups = newly_mentioned(change, comment)
    for user_id in users:
        told.offer(user_id, "mention", "mentioned", personal=True)
    for group in groups:
        for user_id in told.audience.groups.get((group, comment.project_id), ()):
            told.offer(user_id, "mention", "group_mentioned")


def _comment_deliveries(told: _Told, comment: Comment, actor: str) -> list[Delivery]:
    change, audience = told.change, told.audience
    item = _item_of(comment, audience)
    text = shortened(comment.body) if comment.body is not UNSET else ""
    subject = Subject(
        kind="thread", project_id=comment.project_id, item_id=comment.item_id, thread_id=comment.thread_id
    )
    return [
        Delivery(
            user_id=user_id,
            subject=subject,
            event=NotificationEvent(
                id=_event_id(change, user_id),
                type=kind,
                reason=reason,
                at=change.at,
                actor=actor,
                comment_id=comment.id,
                text=text,
            ),
            title=item.name if item is not None else audience.projects.get(comment.project_id, ""),
            body=text,
            link=f"/#/projects/{comment.project_id}/threads/{comment.thread_id}",
            place=change.position,
        )
        for user_id, kind, reason in told.but(actor)
    ]


def _of_item(change: Change, item: Item, audience: Audience) -> list[Delivery]:
    told = _Told(change, audience, item.project_id, item.id)
    if newly_assigned(change):
        told.offer(item.assignee, "assigned", "assignee", personal=True)
    status = ""
    if status_changed(change) and isinstance(change.before, Item):
        status = f"{change.before.status} -> {item.status}"
        told.offer_item("item_status", item, item.id)
    subject = Subject(kind="item", project_id=item.project_id, item_id=item.id)
    deliveries = []
    for user_id, kind, reason in told.but(change.by):
        text = "Assigned to you" if kind == "assigned" else status
        event = NotificationEvent(
            id=_event_id(change, user_id), type=kind, reason=reason, at=change.at, actor=change.by, text=text
        )
        deliveries.append(
            Delivery(
                user_id=user_id,
                subject=subject,
                event=event,
                title=item.name,
                body=text,
                link=f"/#/projects/{item.project_id}/items/{item.id}",
                place=change.position,
            )
        )
    return deliveries


def _event_id(change: Change, user_id: str) -> str:
    """Depends on nothing but the change and whom it tells: one change tells one recipient one thing."""
    place = change.position
    seed = f"{place.seconds}.{place.increment}.{place.ordinal}.{user_id}"
    return derived_ulid(int(datetime.fromisoformat(change.at).timestamp() * 1000), seed)
