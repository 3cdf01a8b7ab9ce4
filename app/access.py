"""May this user do that in this project? The one place that answers, for REST and for topics.

What decides (visibility and members) is cached per project and forgotten when the feed reports a change of it. A read
that began before such a report is thrown away, so the answer is never older than what listeners have been told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from app.permissions import Action, Identity, may, may_on_server, project_role
from models.errors import Forbidden, NotFound, Unauthenticated
from models.fields import ProjectRole
from models.project import ProjectAccess

Read = Callable[[str], Awaitable[ProjectAccess | None]]
"""Reads one project's access from the database; None where there is no such project, or it is deleted."""


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
        if project_id in self._cache and self._trusted():
            self._cache.move_to_end(project_id)
            return self._cache[project_id]
        before = self._forgotten
        access = await self._read(project_id)
        # A change reported while we were reading may be newer than what we read: use it once, keep it not.
        if self._forgotten == before:
            self._cache[project_id] = access
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
            return access
        return await self._read(project_id)

    async def require(self, identity: Identity | None, action: Action, project_id: str) -> Membership:
        """The caller's membership. Raises `Unauthenticated`, `NotFound` (also for who may not see it), `Forbidden`."""
        if identity is None:
            raise Unauthenticated
        access = await self.of(project_id)
        role = None if access is None else project_role(identity, access)
        if role is None:
            raise NotFound("There is no such project, or you may not see it.")
        if not may(role, action):
            raise Forbidden(f"Your role in this project is {role}, which does not allow this.")
        return Membership(project_id=project_id, identity=identity, role=role)


def require_on_server(identity: Identity | None, action: Action) -> None:
    """Refuse what belongs to no project unless the caller may do it. Raises `Unauthenticated` or `Forbidden`."""
    if may_on_server(identity, action):
        return
    if identity is None:
        raise Unauthenticated
    raise Forbidden("This needs an instance role that you do not have.")
