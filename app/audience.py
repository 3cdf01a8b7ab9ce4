"""Gathers what has to be known to say who is told of changes: a few queries for many changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from msgspec import UNSET

from app.access import Access
from app.changes import Change
from app.notifier import Audience
from app.occasions import chain, edited, groups_of, new_comment, place_of, users_of
from app.permissions import Identity, identity_of, project_role
from models.comment_store import CommentStore
from models.item_store import ItemStore
from models.notification import Place
from models.posting import Posting
from models.project import ProjectAccess, ProjectStore
from models.subscription import Level, Subscriber, SubscriptionStore
from models.user import Audience as Members
from models.user import UserRecord, UserStore

MEMBERS_PAGE = 500
"""Members of a group that are read at a time for a posting."""


class Rights:
    """Who may see what, as far as it was asked for."""

    def __init__(
        self,
        asked: AbstractSet[str],
        users: Mapping[str, UserRecord | None],
        accesses: Mapping[str, ProjectAccess | None],
    ) -> None:
        """`users`: those `asked` for that were ever seen; None for one whose document says nothing to be believed."""
        self.asked, self.users, self._accesses = asked, users, accesses
        self._identities: dict[str, Identity | None] = {}

    def may_see(self, user_id: str, project_id: str, *, disabled_too: bool = False) -> bool:
        """Whether a user may see a project. Who was never seen counts as an editor without groups.

        `disabled_too`: who was disabled counts as before. They keep what they had for when they are back.
        """
        access = self._accesses.get(project_id)
        identity = self._judge(user_id, disabled_too=True) if disabled_too else self.identity(user_id)
        return access is not None and identity is not None and project_role(identity, access) is not None

    def identity(self, user_id: str) -> Identity | None:
        """A user as if signed in now; None for one who cannot sign in."""
        if user_id not in self._identities:
            self._identities[user_id] = self._judge(user_id, disabled_too=False)
        return self._identities[user_id]

    def _judge(self, user_id: str, *, disabled_too: bool) -> Identity | None:
        if user_id not in self.users:
            return Identity(user_id=user_id, name=user_id, expires_at=float("inf"))
        record = self.users[user_id]
        if record is None or (record.disabled and not disabled_too):
            return None
        return identity_of(record)


class Audiences:
    """Reads audiences. Raises what the driver raises."""

    def __init__(
        self,
        *,
        access: Access,
        users: UserStore,
        projects: ProjectStore,
        items: ItemStore,
        comments: CommentStore,
        subscriptions: SubscriptionStore,
        group_limit: int,
    ) -> None:
        """A mention of a group reaches its first `group_limit` members, by id, of those who may see the project."""
        self._access, self._users, self._projects = access, users, projects
        self._items, self._comments, self._subscriptions = items, comments, subscriptions
        self._group_limit = group_limit

    async def rights(self, user_ids: Collection[str], project_ids: Iterable[str]) -> Rights:
        """What some users may see of some projects now."""
        users, accesses = await asyncio.gather(self._users.of_many(user_ids), self._access.of_many(project_ids))
        return Rights(frozenset(user_ids), users, accesses)

    async def of(self, changes: Sequence[Change], known: Rights | None = None) -> Audience:
        """All that `app.notifier.deliveries_of` asks about any of these changes.

        `known`: whose users were read a moment ago. They are not read again.
        """
        places = [place for change in changes if (place := place_of(change)) is not None]
        project_ids = {project_id for project_id, _, _ in places}
        written = [comment for change in changes if (comment := new_comment(change)) is not None]
        about = written + [comment for change in changes if (comment := edited(change)) is not None]
        replies = [comment for comment in written if comment.thread_id != comment.id]
        accesses, names, items, participants, subscribers = await asyncio.gather(
            self._access.of_many(project_ids),
            self._projects.names({comment.project_id for comment in about}),
            self._items.of_many({comment.item_id for comment in about if comment.item_id is not UNSET}),
            self._participants({comment.project_id for comment in replies}, {comment.thread_id for comment in replies}),
            self._subscriptions.of_subjects({subject for place in places for subject in chain(*place)}),
        )
        groups = await self._groups({pair for change in changes for pair in groups_of(change)}, accesses)
        concerned = {user_id for change in changes for user_id in users_of(change)}
        concerned |= {subscriber.user_id for subscriber in subscribers}
        concerned |= {user_id for thread in participants.values() for user_id in thread}
        concerned |= {user_id for members in groups.values() for user_id in members}
        for item in items.values():
            concerned |= {user_id for user_id in (item.assignee, item.created_by) if user_id is not UNSET}
        users = await self._users.of_many(concerned - known.asked if known else concerned)
        rights = Rights(concerned, {**known.users, **users} if known else users, accesses)
        return Audience(
            projects=names,
            items=items,
            participants=participants,
            follows=_by_subject(subscribers, "follow"),
            mutes=_by_subject(subscribers, "mute"),
            groups=groups,
            may_see=rights.may_see,
        )

    async def recipients(self, posting: Posting) -> AsyncIterator[list[str]]:
        """Those whom a posting is for and who can sign in, each once, in lots."""
        told = set(posting.recipients.users)
        rights = await self.rights(told, ())
        yield [user_id for user_id in sorted(told) if rights.identity(user_id) is not None]
        for group in posting.recipients.groups:
            last: str | None = ""
            while last is not None:
                members = await self._users.members(group, after=last, limit=MEMBERS_PAGE)
                yield [user_id for user_id, record in members.items() if record is not None and user_id not in told]
                told |= members.keys()
                last = max(members) if len(members) == MEMBERS_PAGE else None

    async def _participants(
        self, project_ids: Collection[str], thread_ids: Collection[str]
    ) -> dict[str, dict[str, tuple[str, str]]]:
        return await self._comments.participants(project_ids, thread_ids) if thread_ids else {}

    async def _groups(
        self, pairs: Iterable[tuple[str, str]], accesses: Mapping[str, ProjectAccess | None]
    ) -> dict[tuple[str, str], list[str]]:
        """Whom a mention of a group reaches, by group and project."""
        reached = {}
        for group, project_id in sorted(pairs):
            access = accesses[project_id]
            if access is not None:
                members = await self._users.members(group, limit=self._group_limit, audience=members_of(access))
                reached[group, project_id] = [user_id for user_id, record in members.items() if record is not None]
        return reached


def members_of(access: ProjectAccess | None) -> Members | None:
    """Whom a private project is open to; None for a public one, which everybody may see."""
    if access is None or access.visibility == "public":
        return None
    named = [member.principal.partition(":") for member in access.members]
    return Members(
        user_ids=frozenset(name for kind, _, name in named if kind == "user"),
        groups=frozenset(name for kind, _, name in named if kind == "role"),
    )


def _by_subject(subscribers: Iterable[Subscriber], level: Level) -> dict[str, dict[str, datetime | Place]]:
    found: dict[str, dict[str, datetime | Place]] = {}
    for subscriber in subscribers:
        if subscriber.level == level:
            found.setdefault(subscriber.subject, {})[subscriber.user_id] = subscriber.place or subscriber.since
    return found
