"""What a new subscriber of a topic is sent first: a snapshot as frames, made once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from pymongo.errors import OperationFailure

from app.changes import access_of
from app.hub import FRAME_BYTES, PROJECTS
from app.permissions import Identity, project_role
from app.position import Position
from app.protocol import SNAPSHOT_PART, Frame, Snapshot, push
from models.errors import Busy, Invalid, NotFound
from models.project import ProjectAccess, visible_to
from models.snapshot import NotYet, ProjectSnapshot, SnapshotStore

INBOX = "inbox"
T = TypeVar("T")

PATIENCE_TRIES, PATIENCE_SECONDS = 40, 0.25
_SNAPSHOT_UNAVAILABLE = 246
READS_AT_ONCE = 8
"""Snapshots read at the same time, so that a storm of subscribers leaves the database to the others."""

_PROJECT_TOPIC = re.compile(r"project:([A-Za-z0-9_-]{1,64})\Z")
_NO_PROJECT = "There is no such project, or you may not see it."


class View(msgspec.Struct, kw_only=True):
    """A snapshot as it is sent: the frames, the time they are of, and what decides who may have them."""

    time: tuple[int, int]
    frames: list[Frame]
    access: ProjectAccess | None = None


class Views:
    """All snapshots of the process."""

    def __init__(self, snapshots: SnapshotStore, *, here: Callable[[], Position]) -> None:
        """`here`: what listeners have been told up to now."""
        self._snapshots, self._here = snapshots, here
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._shared: dict[str, _SharedRead] = {}

    async def of(self, topic: str, identity: Identity) -> View:
        """The snapshot of a topic for a caller. Raises `NotFound` where there is none for them."""
        if topic == INBOX:
            frames = _frames(topic, [], ("notifications",), counts={"unseen": 0, "unread": 0, "seq": 0})
            return View(time=self._here().time, frames=frames)
        if topic == PROJECTS:
            async with self._reads:
                visible = visible_to(identity.user_id, identity.groups, sees_everything=identity.sees_everything)
                time, projects = await _patiently(lambda: self._snapshots.projects(visible))
            return View(time=time, frames=_frames(topic, [("projects", one) for one in projects], ("projects",)))
        view = await self._shared_view(topic, topic.removeprefix("project:"))
        if view.access is None or project_role(identity, view.access) is None:
            raise NotFound(_NO_PROJECT)
        return view

    async def _shared_view(self, topic: str, project_id: str) -> View:
        """One read serves everyone who joined before it began: a thousand returning editors cost two reads."""
        shared = self._shared.setdefault(topic, _SharedRead())
        ticket = shared.tickets
        shared.tickets += 1
        shared.users += 1
        try:
            async with shared.lock:
                if shared.view is None or shared.served < ticket:
                    shared.served = shared.tickets - 1
                    async with self._reads:
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


def check_topic(topic: str) -> None:
    """Raises `NotFound` for a project that cannot be, `Invalid` for what is no topic at all."""
    if topic in (PROJECTS, INBOX) or _PROJECT_TOPIC.match(topic):
        return
    if topic.startswith("project:"):
        raise NotFound(_NO_PROJECT)
    raise Invalid("There is no such topic; there are project:<id>, projects and inbox.")


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
