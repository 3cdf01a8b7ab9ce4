"""May this user do that in this project? The one place that answers, for REST and for topics.

What decides (visibility and members) is cached per project and forgotten when the feed reports a change of it. A read
that began before such a report is thrown away, so the answer is never older than what listeners have been told.

Who may not see a project learns nothing from the time that the refusal takes: it costs the same reads of the database
whether there is such a project or not, and whether others use it or not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

import msgspec

from app.permissions import Action, Identity, may, may_on_server, project_role
from models.errors import Forbidden, NotFound, Unauthenticated
from models.fields import ProjectRole
from models.project import ProjectAccess

Read = Callable[[Collection[str]], Awaitable[Mapping[str, ProjectAccess]]]
"""Reads from the database who may see some projects, by id; without those that are not there, or deleted."""

NOWHERE = ""
"""No project has this id. Asked for where there is nothing to ask for, so that a refusal takes its time."""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A caller in a project that they may see."""

    project_id: str
    identity: Identity
    role: ProjectRole


class Access:
    """Answers for every project; one per process."""

    def __init__(self, read: Read, *, trusted: Callable[[], bool] = lambda: True, capacity: int = 10_000) -> None:
        """`trusted` says whether the feed is current; while it is not, nothing cached is believed."""
        self._read, self._trusted, self._capacity = read, trusted, capacity
        self._cache: OrderedDict[str, ProjectAccess | None] = OrderedDict()
        self._forgotten = 0

    def forget(self, project_id: str) -> None:
        """The project changed."""
        self._cache.pop(project_id, None)
        self._forgotten += 1

    def forget_all(self) -> None:
        """Nothing is known any more: the feed lost its place."""
        self._cache.clear()
        self._forgotten += 1

    async def of(self, project_id: str) -> ProjectAccess | None:
        """What decides about a project, or None where there is none."""
        return (await self.of_many((project_id,)))[project_id]

    async def of_many(self, project_ids: Iterable[str]) -> dict[str, ProjectAccess | None]:
        """The same for several; what is not remembered of them is one query."""
        found: dict[str, ProjectAccess | None] = {}
        unknown = set(project_ids)
        if self._trusted():
            for project_id in unknown & self._cache.keys():
                self._cache.move_to_end(project_id)
                found[project_id] = self._cache[project_id]
            unknown -= found.keys()
        if not unknown:
            return found
        before = self._forgotten
        read = await self._read(sorted(unknown))
        # A change reported while we were reading may be newer than what we read: use it once, keep it not.
        if self._forgotten != before:
            read = await self._read(sorted(unknown))
        else:
            self._cache |= {project_id: read.get(project_id) for project_id in unknown}
            while len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        return found | {project_id: read.get(project_id) for project_id in unknown}

    async def hidden(self, identity: Identity, project_ids: Iterable[str]) -> set[str]:
        """Which of some projects the caller may not see now, deleted ones among them."""
        return {
            project_id
            for project_id, access in (await self.of_many(project_ids)).items()
            if access is None or project_role(identity, access) is None
        }

    async def require(self, identity: Identity | None, action: Action, project_id: str) -> Membership:
        """The caller's membership. Raises `Unauthenticated`, `NotFound` (also for who may not see it), `Forbidden`."""
        if identity is None:
            raise Unauthenticated
        role = await self._role(identity, project_id)
        if role is None:
            raise NotFound("There is no such project, or you may not see it.")
        if not may(role, action):
            raise Forbidden(f"Your role in this project is {role}, which does not allow this.")
        return Membership(project_id=project_id, identity=identity, role=role)

    async def sees(self, identity: Identity, project_id: str) -> bool:
        """Whether the caller may know that there is such a project."""
        return await self._role(identity, project_id) is not None

    async def _role(self, identity: Identity, project_id: str) -> ProjectRole | None:
        remembered = project_id in self._cache and self._trusted()
        access = await self.of(project_id)
        role = None if access is None else project_role(identity, access)
        if role is None and remembered:
            # A project that members use is remembered, one that is not there mostly is not: both take one read.
            await self._read((project_id,))
        return role

    async def require_topic(self, identity: Identity, topic: str) -> None:
        """The one question for topics: may the caller listen? Raises as `require` does.

        `projects` and `inbox` are everyone's; what they hold is chosen by caller.
        """
        if topic.startswith("project:"):
            await self.require(identity, Action.VIEW, topic.removeprefix("project:"))


def require_on_server(identity: Identity | None, action: Action) -> None:
    """Refuse what belongs to no project unless the caller may do it. Raises `Unauthenticated` or `Forbidden`."""
    if may_on_server(identity, action):
        return
    if identity is None:
        raise Unauthenticated
    raise Forbidden("This needs an instance role that you do not have.")
