"""Demo users and demo content, for trying Copydesk out. Added with `--demo` only, at the first start only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from app.commands import token
from app.passwords import Passwords
from app.settings import Settings
from models.comment import CommentPatch, NewComment
from models.comment_store import CommentStore
from models.database_types import Database
from models.errors import Conflict
from models.etag import Versioned
from models.fields import InstanceRole, ProjectRole, Report, utc_now
from models.item import Content, NewItem, Status
from models.item_store import ItemStore
from models.project import Member, NewProject, ProjectStore, Visibility
from models.user import UserStore

MARK = "demo"
"""The id of the document in `meta` that says that the content was added, so that what users delete stays deleted."""


class DemoUser(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody to sign in as. The passwords are public."""

    id: str
    name: str
    roles: tuple[InstanceRole, ...] = ("editor",)
    groups: tuple[str, ...] = ()

    @property
    def password(self) -> str:
        return f"{self.id}-demo"


USERS = (
    DemoUser(id="alice", name="Alice", roles=("admin", "editor")),
    DemoUser(id="bob", name="Bob"),
    DemoUser(id="carol", name="Carol", groups=("translators",)),
)


class _Thread(msgspec.Struct, frozen=True):
    texts: tuple[tuple[str, str], ...]
    """Author and text of each comment, the first one first."""
    item: int | None = None
    """Which item of the project it is about, counted from 0."""
    resolved_by: str | None = None


class _Project(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    owner: str
    labels: list[str]
    visibility: Visibility = "public"
    members: tuple[tuple[str, ProjectRole], ...] = ()
    due_in_days: int | None = None
    items: tuple[tuple[str, str, Status, str, str | None], ...]
    """Name, type, status, language, assignee."""
    threads: tuple[_Thread, ...] = ()


_PROJECTS = (
    _Project(
        id="demo-spring",
        name="Spring launch",
        description="Everything that goes live with the spring collection.",
        owner="alice",
        labels=["launch", "shop"],
        members=(("user:bob", "publisher"),),
        due_in_days=14,
        items=(
            ("Landing page", "page", "in_review", "en", "bob"),
            ("Landing page", "page", "draft", "de", "carol"),
            ("Hero picture", "media", "ready", "", None),
            ("Price list", "block", "rejected", "en", "bob"),
            ("Newsletter", "page", "not_created", "en", None),
            ("Terms and conditions", "page", "published", "en", None),
        ),
        threads=(
            _Thread(
                texts=(
                    ("alice", "@bob the second paragraph still names last year's prices. Can you look?"),
                    ("bob", "Right, I took them from the old page. Changed, please read again."),
                ),
                item=0,
            ),
            _Thread(texts=(("carol", "The German headline is too long for phones."),), item=1),
            _Thread(
                texts=(
                    ("bob", "Do we have the rights to this picture for print as well?"),
                    ("alice", "Yes, for print and web, until the end of the year."),
                ),
                item=2,
                resolved_by="bob",
            ),
            _Thread(texts=(("alice", "We go live on a Tuesday morning. @role:translators please plan for it."),)),
        ),
    ),
    _Project(
        id="demo-help",
        name="Help centre",
        description="The twenty questions that customers really ask.",
        owner="bob",
        labels=["support"],
        items=(
            ("How do I return something?", "page", "draft", "en", "carol"),
            ("Where is my parcel?", "page", "scheduled", "en", None),
            ("Size chart", "block", "previously_published", "", None),
        ),
        threads=(_Thread(texts=(("carol", "Should this link to the carrier's page?"),), item=1),),
    ),
    _Project(
        id="demo-report",
        name="Annual report",
        description="Private: only its members see it.",
        owner="alice",
        labels=["finance"],
        visibility="private",
        members=(("role:translators", "editor"),),
        items=(("Letter to shareholders", "page", "draft", "en", "alice"),),
    ),
)


async def add(
    database: Database, *, passwords: Passwords, report: Report, now: Callable[[], datetime] = utc_now
) -> bool:
    """Add users and content unless that was done before. Returns whether anything was to be done.

    The ids are fixed and the mark is set last: a crash in the middle, or a second process that does the same, ends in
    the same content.
    """
    if await database["meta"].find_one({"_id": MARK}) is not None:
        return False
    users = UserStore(database, report=report, now=now)
    for user in USERS:
        try:
            await users.add(
                user.id,
                password_hash=await passwords.hash(user.password),
                roles=user.roles,
                groups=user.groups,
                name=user.name,
            )
        except Conflict:
            continue  # there already
    # Lists show the newest first: the fullest is added last.
    for project in reversed(_PROJECTS):
        await _add_project(database, project, report, now)
    await database["meta"].update_one({"_id": MARK}, {"$setOnInsert": {"added_at": now()}}, upsert=True)
    return True


async def _add_project(database: Database, project: _Project, report: Report, now: Callable[[], datetime]) -> None:
    stores: dict[str, Any] = {"report": report, "now": now}
    items, comments = ItemStore(database, **stores), CommentStore(database, **stores)
    due: datetime | UnsetType = UNSET if project.due_in_days is None else now() + timedelta(days=project.due_in_days)
    await ProjectStore(database, **stores).create(
        NewProject(
            name=project.name,
            description=project.description,
            labels=project.labels,
            visibility=project.visibility,
            members=[Member(principal=principal, role=role) for principal, role in project.members],
            due_at=due,
        ),
        by=project.owner,
        make_id=lambda: project.id,
    )
    item_ids = [f"{project.id}-item-{number}" for number in range(1, len(project.items) + 1)]
    next_id = iter(item_ids)
    new_items = [
        NewItem(
            content=Content(id=f"demo-{name.lower().replace(' ', '-').strip('?')}", version="1", provider="demo"),
            name=name,
            type=kind,
            status=status,
            language=language,
            rank=rank,
            assignee=UNSET if assignee is None else assignee,
            publish_at=now() + timedelta(days=3) if status == "scheduled" else UNSET,
        )
        for rank, (name, kind, status, language, assignee) in enumerate(project.items, start=1)
    ]
    await items.create_many(project.id, new_items, by=project.owner, make_id=lambda: next(next_id), may_see=_may_see)
    for number, thread in enumerate(project.threads, start=1):
        await _add_thread(comments, project, thread, f"{project.id}-thread-{number}", item_ids)


async def _add_thread(
    comments: CommentStore, project: _Project, thread: _Thread, thread_id: str, item_ids: list[str]
) -> None:
    for number, (author, text) in enumerate(thread.texts):
        comment_id = thread_id if number == 0 else f"{thread_id}-{number}"
        if number > 0:
            new = NewComment(body=text, thread_id=thread_id)
        else:
            new = NewComment(body=text, item_id=UNSET if thread.item is None else item_ids[thread.item])
        await comments.create(project.id, new, author=author, make_id=_always(comment_id))
    if thread.resolved_by is not None:
        resolution = CommentPatch(resolved=True)
        await comments.patch(project.id, thread_id, resolution, by=thread.resolved_by, precondition=_whatever_version)


def welcome(settings: Settings, url: str) -> list[str]:
    """What to tell whoever tries it out: where, as whom, and a first request. `url` has no slash at its end."""
    user = USERS[1]
    bearer = token(
        settings, sub=user.id, roles=[*user.roles, *user.groups], ttl_seconds=12 * 3600, name=user.name, email=None
    )
    return [
        f"Open {url}/ and sign in as one of: "
        + ", ".join(f"{user.id} (password {user.password})" for user in USERS)
        + ". Or ask the API, as bob:",
        f"curl -s -H 'Authorization: Bearer {bearer}' {url}/api/v1/projects",
    ]


def _always(identifier: str) -> Callable[[], str]:
    return lambda: identifier


async def _may_see(_project_id: str) -> bool:
    return True


def _whatever_version(_document: Versioned) -> None:
    """No precondition."""
