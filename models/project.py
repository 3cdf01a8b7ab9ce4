"""Projects: who works on what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pymongo.errors import DuplicateKeyError

from models.database_types import Database, Document
from models.errors import Conflict, FieldError, Invalid, NotFound
from models.etag import Precondition
from models.fields import (
    Id,
    MakeId,
    Name,
    ProjectRole,
    Report,
    Timestamp,
    UserId,
    Version,
    WhenInput,
    from_document,
    utc_now,
)
from models.page import Page, PageRequest, Sort, fit, read_page, word_prefixes
from models.revision import Pipeline, change, changes, revise, stored

Visibility = Literal["public", "private"]
Description = Annotated[str, Meta(max_length=2000)]
Labels = Annotated[list[Annotated[str, Meta(min_length=1, max_length=40, pattern=r"\S")]], Meta(max_length=20)]
Principal = Annotated[
    str,
    Meta(
        pattern=r"^(user:[A-Za-z0-9._-]{1,64}|role:(?=.*\S)[^\x00-\x1f\x7f]{1,255})(?!\n)$",
        description="`user:<id>`, or `role:<group>` for everyone whose token names that group.",
    ),
]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant: everyone whom `principal` names has at least `role` in the project."""

    principal: Principal
    role: ProjectRole


MAX_MEMBERS = 500
Members = Annotated[list[Member], Meta(max_length=MAX_MEMBERS)]


class Project(msgspec.Struct, kw_only=True):
    """A project as everyone sees it."""

    id: Id
    name: Name
    description: Description | UnsetType = UNSET
    labels: Labels = []
    visibility: Visibility = "public"
    members: Members = []
    due_at: Timestamp | UnsetType = UNSET
    archived_at: Timestamp | UnsetType = UNSET
    created_at: Timestamp | UnsetType = UNSET
    created_by: UserId | UnsetType = UNSET
    updated_at: Timestamp | UnsetType = UNSET
    updated_by: UserId | UnsetType = UNSET
    version: Version

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Project:
        """Raises `models.fields.Unfit`. Whether it is deleted is the caller's question (`deleted_at`)."""
        return from_document(document, cls, times=_TIMES, defaults=_DEFAULTS)


_TIMES = ("due_at", "archived_at", "created_at", "updated_at")
_DEFAULTS = {"version": 1}


class NewProject(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a caller may set when creating a project."""

    name: Name
    description: Description | UnsetType = UNSET
    labels: Labels = []
    visibility: Visibility = "public"
    members: Members = []
    due_at: WhenInput | UnsetType = UNSET


class ProjectPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A merge patch: what is absent stays, null removes an optional field. `archived` sets and clears `archived_at`."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    labels: Labels | UnsetType | None = UNSET
    visibility: Visibility | UnsetType = UNSET
    members: Members | UnsetType = UNSET
    due_at: WhenInput | UnsetType | None = UNSET
    archived: bool | UnsetType = UNSET


class ProjectQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which projects a list shows."""

    user_id: str
    groups: frozenset[str] = frozenset()
    sees_everything: bool = False
    """Whether private projects are shown to this user without a grant."""
    label: str | None = None
    q: str | None = None
    mine: bool = False
    """Only projects that the user created or is a member of, by name or by group."""
    archived: bool = False
    """Only archived projects; otherwise only those that are not."""


class ProjectAccess(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides who may see a project."""

    visibility: Visibility
    members: tuple[Member, ...]


SORTS: dict[str, Sort] = {
    "name": Sort("name", "text"),
    "created_at": Sort("created_at", "date"),
    "updated_at": Sort("updated_at", "date"),
}
DEFAULT_SORT = "-created_at"

_READ_AS: dict[str, Any] = {"labels": [], "visibility": "public", "members": []}
"""What a stored project without the field is read as."""
_MISSING = "There is no such project, or you may not see it."


def visible_to(user_id: str, groups: Iterable[str], *, sees_everything: bool) -> Document:
    """The filter for projects that a user may see; `app.permissions.project_role` says the same about one project."""
    if sees_everything:
        return {}
    granted = {"members.principal": {"$in": _principals(user_id, groups)}}
    return {"$or": [{"visibility": {"$in": ["public", None]}}, granted]}


def _principals(user_id: str, groups: Iterable[str]) -> list[str]:
    return [f"user:{user_id}", *(f"role:{group}" for group in sorted(groups))]


class ProjectStore:
    """All projects. Those that do not fit are reported, left out of lists and not found when asked for."""

    def __init__(self, database: Database, *, report: Report, now: Callable[[], datetime] = utc_now) -> None:
        self._database, self._projects = database, database.projects
        self._report, self._now = report, now

    async def create(self, new: NewProject, *, by: str, make_id: MakeId) -> Project:
        """Make a project; its creator becomes an owner. Raises `Invalid`.

        A project that already has the id and the creator is a first attempt of the same request that was committed
        without our hearing of it.
        """
        now = self._now()
        document = {
            "_id": make_id(),
            **stored(new),
            "members": stored(_with_owner(new.members, by)),
            "created_at": now,
            "created_by": by,
            "updated_at": now,
            "updated_by": by,
            "version": 1,
        }
        try:
            await self._projects.insert_one(document)
        except DuplicateKeyError:
            document = await self._projects.find_one({"_id": document["_id"], "created_by": by})
            if document is None:
                raise Conflict("Another project has this id. Repeat the request with a new Idempotency-Key.") from None
        return Project.from_document(document)

    async def get(self, project_id: str) -> Project:
        """One undeleted project. Raises `NotFound`."""
        document = await self._projects.find_one({"_id": project_id, "deleted_at": None})
        if document is None:
            raise NotFound(_MISSING)
        return self._fit(document)

    async def accesses(self, project_ids: Collection[str]) -> dict[str, ProjectAccess]:
        """Who may see some projects, by id; without those that are not there, deleted or unfit."""
        found = self._projects.find({"_id": {"$in": list(project_ids)}, "deleted_at": None})
        projects = [fit(document, Project.from_document, "projects", self._report) async for document in found]
        return {
            project.id: ProjectAccess(visibility=project.visibility, members=tuple(project.members))
            for project in projects
            if project is not None
        }

    async def names(self, project_ids: Collection[str]) -> dict[str, str]:
        """The names of undeleted projects, by id."""
        if not project_ids:
            return {}
        found = self._projects.find({"_id": {"$in": sorted(project_ids)}, "deleted_at": None}, {"name": 1})
        return {document["_id"]: document["name"] async for document in found if isinstance(document.get("name"), str)}

    async def list(self, query: ProjectQuery, page: PageRequest) -> Page[Project]:
        """The undeleted projects that the caller may see and asks for."""
        conditions: list[Document] = [
            {"deleted_at": None, "archived_at": {"$ne": None} if query.archived else None},
            visible_to(query.user_id, query.groups, sees_everything=query.sees_everything),
        ]
        if query.label is not None:
            conditions.append({"labels": query.label})
        if query.q:
            conditions.append(word_prefixes("name", query.q))
        if query.mine:
            granted = {"members.principal": {"$in": _principals(query.user_id, query.groups)}}
            conditions.append({"$or": [{"created_by": query.user_id}, granted]})
        return await read_page(
            self._projects,
            {"$and": conditions},
            page,
            sorts=SORTS,
            convert=Project.from_document,
            report=self._report,
        )

    async def patch(
        self, project_id: str, patch: ProjectPatch, *, by: str, precondition: Precondition, may_orphan: bool
    ) -> Project:
        """Apply a merge patch; one that changes nothing writes nothing.

        `may_orphan`: whether the members may be left without an owner. Raises `NotFound`, `StaleVersion`, `Invalid` and
        `Conflict`.
        """
        if patch.members is not UNSET:
            _check_members(patch.members, may_orphan=may_orphan)
        now = self._now()

        def plan(document: Document) -> Pipeline | None:
            precondition(self._fit(document))
            wanted = msgspec.structs.asdict(patch)
            archived = wanted.pop("archived")
            if archived is not UNSET and archived != (document.get("archived_at") is not None):
                wanted["archived_at"] = now if archived else None
            assigned, removed = changes(wanted, document, _READ_AS)
            if not assigned and not removed:
                return None
            return revise(set={**assigned, "updated_at": now, "updated_by": by}, unset=removed)

        return self._fit(await change(self._projects, {"_id": project_id}, plan, missing=_MISSING))

    async def delete(self, project_id: str, *, by: str, precondition: Precondition) -> None:
        """Delete a project softly, and with it its items and comments. Raises `NotFound`, `StaleVersion`, `Conflict`.

        The project goes first: from then on nobody sees or adds anything in it, whatever becomes of the rest.
        """
        now = self._now()
        deleted = {"deleted_at": now, "deleted_by": by}

        def plan(document: Document) -> Pipeline:
            precondition(self._fit(document))
            return revise(set={**deleted, "updated_at": now, "updated_by": by})

        await change(self._projects, {"_id": project_id}, plan, missing=_MISSING)
        inside = {"project_id": project_id, "deleted_at": None}
        await self._database.items.update_many(inside, revise(set={**deleted, "changed_at": now, "changed_by": by}))
        await self._database.comments.update_many(inside, revise(set={**deleted, "updated_by": by}))

    def _fit(self, document: Document) -> Project:
        project = fit(document, Project.from_document, "projects", self._report)
        if project is None:
            raise NotFound(_MISSING)
        return project


def _with_owner(members: Sequence[Member], creator: str) -> Sequence[Member]:
    """The members of a new project. Raises `Invalid` where there are too many with the creator."""
    owner = Member(principal=f"user:{creator}", role="owner")
    others = [member for member in members if member.principal != owner.principal]
    _check_members(others, may_orphan=True)
    if len(others) >= MAX_MEMBERS:
        _refuse(f"Expected at most {MAX_MEMBERS} members with the creator")
    return [owner, *others]


def _check_members(members: Sequence[Member], *, may_orphan: bool) -> None:
    if len({member.principal for member in members}) < len(members):
        _refuse("Expected each principal once")
    if not may_orphan and all(member.role != "owner" for member in members):
        _refuse("Expected at least one owner")


def _refuse(problem: str) -> None:
    raise Invalid(f"{problem} at $.members.", errors=(FieldError("$.members", problem),))
