"""What a new subscriber of a topic is sent first: a snapshot as frames, made once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UnsetType
from pymongo.errors import OperationFailure

from app.changes import access_of
from app.hub import FRAME_BYTES
from app.permissions import Identity, project_role
from app.protocol import SNAPSHOT_PART, Frame, Snapshot, push
from app.topics import INBOX, NO_PROJECT, PROJECTS
from models.errors import Busy, NotFound
from models.notification import Notification
from models.project import ProjectAccess, visible_to
from models.snapshot import InboxSnapshot, NotYet, ProjectSnapshot, SnapshotStore

T = TypeVar("T")

PATIENCE_TRIES, PATIENCE_SECONDS = 40, 0.25
_SNAPSHOT_UNAVAILABLE = 246
READS_AT_ONCE = 8
"""Snapshots read at the same time, so that a storm of subscribers leaves the database to the others."""
READS_OF_ONE_USER = 2
"""Of these, so that whoever asks for a hundred large projects waits for their own."""


class View(msgspec.Struct, kw_only=True):
    """A snapshot as it is sent: the frames, the time they are of, and what decides who may have them."""

    time: tuple[int, int]
    frames: list[Frame]
    access: ProjectAccess | None = None


class Views:
    """All snapshots of the process."""

    def __init__(self, snapshots: SnapshotStore) -> None:
        self._snapshots = snapshots
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._shared: dict[str, _SharedRead] = {}
        self._users: dict[str, _Places] = {}

    async def of(self, topic: str, identity: Identity) -> View:
        """The snapshot of a topic for a caller. Raises `NotFound` where there is none for them."""
        if topic == INBOX:
            async with self._reading(identity):
                inbox = await _patiently(lambda: self._snapshots.inbox(identity.user_id))
            told = [("notifications", entry) for entry in inbox.notifications if _may_see(identity, entry, inbox)]
            return View(time=inbox.time, frames=_frames(topic, told, ("notifications",), counts=inbox.counts))
        if topic == PROJECTS:
            async with self._reading(identity):
                visible = visible_to(identity.user_id, identity.groups, sees_everything=identity.sees_everything)
                time, projects = await _patiently(lambda: self._snapshots.projects(visible))
            return View(time=time, frames=_frames(topic, [("projects", one) for one in projects], ("projects",)))
        view = await self._shared_view(topic, topic.removeprefix("project:"), identity)
        if view.access is None or project_role(identity, view.access) is None:
            raise NotFound(NO_PROJECT)
        return view

    @contextlib.asynccontextmanager
    async def _reading(self, identity: Identity) -> AsyncIterator[None]:
        """A place to read from."""
        places = self._users.setdefault(identity.user_id, _Places())
        places.users += 1
        try:
            async with places.free, self._reads:
                yield
        finally:
            places.users -= 1
            if places.users == 0:
                del self._users[identity.user_id]

    async def _shared_view(self, topic: str, project_id: str, identity: Identity) -> View:
        """One read serves everyone who joined before it began: a thousand returning editors cost two reads."""
        shared = self._shared.setdefault(topic, _SharedRead())
        ticket = shared.tickets
        shared.tickets += 1
        shared.users += 1
        try:
            async with shared.lock:
                if shared.view is None or shared.served < ticket:
                    shared.served = shared.tickets - 1
                    async with self._reading(identity):
                        snapshot = await _patiently(lambda: self._snapshots.project(project_id))
                    shared.view = View(
                        time=snapshot.time,
                        access=access_of(snapshot.project),
                        frames=_project_frames(topic, snapshot) if snapshot.project else [],
                    )
                return shared.view
        finally:
            shared.users -= 1
            if shared.users == 0:
                del self._shared[topic]


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    """A collection that was just dropped is back within a moment. Raises `Busy` where it is not."""
    for _ in range(PATIENCE_TRIES):
        try:
            return await read()
        except NotYet:
            await asyncio.sleep(PATIENCE_SECONDS)
        except OperationFailure as error:
            if error.code != _SNAPSHOT_UNAVAILABLE:
                raise
            await asyncio.sleep(PATIENCE_SECONDS)
    raise Busy("The database is being set up.", retry_after=2.0)


def _may_see(identity: Identity, entry: Notification, inbox: InboxSnapshot) -> bool:
    """Whether an entry is about what its owner may still see; otherwise it is on its way out of the inbox.

    By the rights as of the snapshot: with older ones, what was told just after a right was given would never be seen.
    """
    project_id = entry.subject.project_id
    if isinstance(project_id, UnsetType):
        return True
    access = inbox.projects.get(project_id)
    return access is not None and project_role(identity, access) is not None


class _Places:
    """Those of one user."""

    __slots__ = ("free", "users")

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(READS_OF_ONE_USER)
        self.users = 0


class _SharedRead:
    """The reads of one topic's snapshot that are under way, and who may use the last one."""

    __slots__ = ("lock", "served", "tickets", "users", "view")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.tickets = 0
        self.served = -1
        """The last ticket drawn before the last read began."""
        self.users = 0
        self.view: View | None = None


def _project_frames(topic: str, snapshot: ProjectSnapshot) -> list[Frame]:
    """The project, then its items, then its comments."""
    documents: list[tuple[str, Any]] = [("project", snapshot.project)]
    documents += [("items", item) for item in snapshot.items]
    documents += [("comments", comment) for comment in snapshot.comments]
    return _frames(topic, documents, ("items", "comments"))


def _frames(topic: str, documents: list[tuple[str, Any]], lists: tuple[str, ...], **rest: Any) -> list[Frame]:
    """Documents, each with the name of its field, in parts of at most `SNAPSHOT_PART` and about `FRAME_BYTES`.

    Without the second bound, one part of long comments could be more than may wait for a client, and whatever happened
    on another topic while it is being sent would close a connection that keeps up.
    """
    parts: list[dict[str, Any]] = [{**{name: [] for name in lists}, **rest}]
    count = size = 0
    for name, document in documents:
        encoded = msgspec.json.encode(document)
        if count == SNAPSHOT_PART or (count and size + len(encoded) > FRAME_BYTES):
            parts.append({**{name: [] for name in lists}, **rest})
            count = size = 0
        if name in lists:
            parts[-1][name].append(msgspec.Raw(encoded))
        else:
            parts[-1][name] = msgspec.Raw(encoded)
        count, size = count + 1, size + len(encoded)
    return [
        push(Snapshot(topic=topic, data=data, part=number, last=number == len(parts)))
        for number, data in enumerate(parts, 1)
    ]
