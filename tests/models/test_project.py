"""Projects in MongoDB: making, changing, listing and deleting them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from app.permissions import Identity, project_role
from models import schema
from models.errors import Conflict, Invalid, NotFound, StaleVersion
from models.etag import document_etag, if_match
from models.fields import Unfit
from models.page import PageRequest, scope
from models.project import (
    DEFAULT_SORT,
    MAX_MEMBERS,
    Member,
    NewProject,
    Project,
    ProjectAccess,
    ProjectPatch,
    ProjectQuery,
    ProjectStore,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = if_match(None)
ALICE = Member("user:alice", "owner")


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reported() -> list[object]:
    return []


@pytest.fixture
def projects(io_loop: IOLoop, database: Any, clock: Clock, reported: list[object]) -> ProjectStore:
    io_loop.run_sync(lambda: schema.apply(database))
    return ProjectStore(database, report=lambda _collection, key, _problem: reported.append(key), now=clock)


def make_id(project_id: str = "P") -> Callable[[], str]:
    return lambda: project_id


async def create(projects: ProjectStore, project_id: str = "P", *, by: str = "alice", **fields: Any) -> Project:
    return await projects.create(NewProject(**{"name": "Spring", **fields}), by=by, make_id=make_id(project_id))


async def patch(projects: ProjectStore, **fields: Any) -> Project:
    return await projects.patch("P", ProjectPatch(**fields), by="bob", precondition=ANY, may_orphan=False)


async def listed(
    projects: ProjectStore, *, user_id: str = "alice", sort: str = DEFAULT_SORT, **query: Any
) -> list[str]:
    request = PageRequest(sort=sort, scope=scope("/projects", sort), position="", limit=200)
    page = await projects.list(ProjectQuery(user_id=user_id, **query), request)
    return [project.id for project in page.items]


async def test_a_new_project_is_whole_and_its_creator_owns_it(projects: ProjectStore) -> None:
    made = await create(
        projects,
        description="For Easter",
        labels=["a"],
        visibility="private",
        members=[Member("role:press", "viewer")],
        due_at=datetime(2026, 4, 1, 2, 30, 15, 123987, tzinfo=timezone(timedelta(hours=2))),
    )
    assert msgspec.to_builtins(made) == {
        "id": "P",
        "name": "Spring",
        "description": "For Easter",
        "labels": ["a"],
        "visibility": "private",
        "members": [{"principal": "user:alice", "role": "owner"}, {"principal": "role:press", "role": "viewer"}],
        "due_at": "2026-04-01T00:30:15.123Z",
        "created_at": "2026-03-01T12:00:00.000Z",
        "created_by": "alice",
        "updated_at": "2026-03-01T12:00:00.000Z",
        "updated_by": "alice",
        "version": 1,
    }
    assert await projects.get("P") == made


async def test_a_creator_named_with_less_is_an_owner_all_the_same(projects: ProjectStore) -> None:
    made = await create(projects, members=[Member("user:alice", "viewer"), Member("user:bob", "editor")])
    assert made.members == [ALICE, Member("user:bob", "editor")]


async def test_the_most_members_there_may_be_count_the_creator(projects: ProjectStore) -> None:
    others = [Member(f"user:u{n}", "viewer") for n in range(MAX_MEMBERS)]
    with pytest.raises(Invalid):
        await create(projects, members=others)
    assert len((await create(projects, members=others[1:])).members) == MAX_MEMBERS


async def test_a_member_named_twice_is_refused(projects: ProjectStore) -> None:
    twice = [Member("user:bob", "viewer"), Member("user:bob", "owner")]
    with pytest.raises(Invalid):
        await create(projects, members=twice)
    await create(projects)
    with pytest.raises(Invalid):
        await patch(projects, members=[ALICE, *twice])


async def test_a_due_date_that_utc_puts_outside_the_calendar_is_refused(projects: ProjectStore) -> None:
    with pytest.raises(Invalid):
        await create(projects, due_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))


async def test_a_second_attempt_under_the_same_id_finds_the_first_project(projects: ProjectStore) -> None:
    first = await create(projects)
    assert await create(projects) == first
    with pytest.raises(Conflict):
        await create(projects, by="bob")
    assert await listed(projects) == ["P"]


async def test_a_patch_sets_removes_and_raises_the_version(projects: ProjectStore, clock: Clock) -> None:
    await create(projects, description="x", due_at=NOON, labels=["a"])
    clock.now += timedelta(minutes=1)
    changed = await patch(projects, name="$name", description=None, due_at=None, labels=None)
    assert msgspec.to_builtins(changed) == {
        "id": "P",
        "name": "$name",
        "labels": [],
        "visibility": "public",
        "members": [{"principal": "user:alice", "role": "owner"}],
        "created_at": "2026-03-01T12:00:00.000Z",
        "created_by": "alice",
        "updated_at": "2026-03-01T12:01:00.000Z",
        "updated_by": "bob",
        "version": 2,
    }
    assert await projects.get("P") == changed


async def test_a_patch_that_changes_nothing_writes_nothing(projects: ProjectStore, database: Any, clock: Clock) -> None:
    await create(projects, labels=["a"], due_at=NOON)
    before = await database.projects.find_one({"_id": "P"})
    clock.now += timedelta(minutes=1)
    await patch(
        projects,
        name="Spring",
        description=None,
        labels=["a"],
        visibility="public",
        members=[ALICE],
        due_at=datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1))),
        archived=False,
    )
    await patch(projects)
    assert await database.projects.find_one({"_id": "P"}) == before


async def test_the_defaults_of_another_programs_project_are_no_change(projects: ProjectStore, database: Any) -> None:
    await database.projects.insert_one({"_id": "P", "name": "Theirs", "members": None})
    same = await projects.patch(
        "P",
        ProjectPatch(visibility="public", labels=[], members=[], archived=False),
        by="alice",
        precondition=ANY,
        may_orphan=True,
    )
    assert same.version == 1
    assert await database.projects.find_one({"_id": "P"}) == {"_id": "P", "name": "Theirs", "members": None}
    assert (await patch(projects, name="Ours")).version == 2


async def test_archiving_and_reopening_set_and_clear_the_time(projects: ProjectStore, clock: Clock) -> None:
    await create(projects)
    archived = await patch(projects, archived=True)
    assert archived.archived_at == "2026-03-01T12:00:00.000Z"
    clock.now += timedelta(minutes=1)
    assert await patch(projects, archived=True) == archived
    reopened = await patch(projects, archived=False)
    assert (reopened.archived_at, reopened.version) == (msgspec.UNSET, 3)


async def test_the_last_owner_stays_unless_an_admin_says_otherwise(projects: ProjectStore) -> None:
    await create(projects)
    with pytest.raises(Invalid):
        await patch(projects, members=[Member("user:alice", "publisher")])
    handed_over = await patch(projects, members=[Member("role:press", "owner")])
    assert handed_over.members == [Member("role:press", "owner")]
    nobody = await projects.patch("P", ProjectPatch(members=[]), by="root", precondition=ANY, may_orphan=True)
    assert nobody.members == []


async def test_a_precondition_that_no_longer_holds_stops_patch_and_delete(projects: ProjectStore) -> None:
    precondition = if_match(document_etag(await create(projects)))
    await patch(projects, name="Summer")
    with pytest.raises(StaleVersion):
        await projects.patch("P", ProjectPatch(name="x"), by="bob", precondition=precondition, may_orphan=False)
    with pytest.raises(StaleVersion):
        await projects.delete("P", by="bob", precondition=precondition)
    assert (await projects.get("P")).name == "Summer"


async def test_changes_at_the_same_moment_all_get_through(projects: ProjectStore) -> None:
    await create(projects)
    await asyncio.gather(
        patch(projects, name="Summer"), patch(projects, description="hot"), patch(projects, labels=["sun"])
    )
    project = await projects.get("P")
    assert (project.name, project.description, project.labels, project.version) == ("Summer", "hot", ["sun"], 4)


async def test_of_two_changes_with_the_same_precondition_one_is_refused(projects: ProjectStore) -> None:
    precondition = if_match(document_etag(await create(projects)))
    results = await asyncio.gather(
        *(
            projects.patch("P", ProjectPatch(name=name), by="bob", precondition=precondition, may_orphan=False)
            for name in ("a", "b")
        ),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Project", "StaleVersion"]


async def test_deleting_a_project_takes_its_items_and_comments_along(
    projects: ProjectStore, database: Any, clock: Clock
) -> None:
    await create(projects)
    for collection in (database.items, database.comments):
        await collection.insert_many(
            [
                {"_id": "mine", "project_id": "P", "version": 4},
                {"_id": "foreign", "project_id": "P", "version": "one"},
                {"_id": "gone", "project_id": "P", "version": 2, "deleted_at": NOON},
                {"_id": "other", "project_id": "Q", "version": 1},
            ]
        )
    await database.comments.update_one({"_id": "mine"}, {"$set": {"body": "Kept where nobody sees it"}})
    clock.now += timedelta(minutes=1)
    await projects.delete("P", by="bob", precondition=ANY)
    with pytest.raises(NotFound):
        await projects.get("P")
    raw = await database.projects.find_one({"_id": "P"})
    assert (raw["deleted_at"], raw["deleted_by"], raw["version"]) == (clock.now, "bob", 2)
    for collection, who in ((database.items, "changed_by"), (database.comments, "updated_by")):
        found = {document["_id"]: document async for document in collection.find()}
        assert {key: (one["version"], one.get("deleted_at"), one.get(who)) for key, one in found.items()} == {
            "mine": (5, clock.now, "bob"),
            "foreign": (2, clock.now, "bob"),
            "gone": (2, NOON, None),
            "other": (1, None, None),
        }
    assert (await database.comments.find_one({"_id": "mine"}))["body"] == "Kept where nobody sees it"


async def test_a_missing_a_deleted_and_an_unfit_project_are_all_not_found(
    projects: ProjectStore, database: Any, reported: list[object]
) -> None:
    await database.projects.insert_many([{"_id": "D", "name": "x", "deleted_at": NOON}, {"_id": "U", "name": 7}])
    for project_id in ("missing", "D", "U"):
        for attempt in (
            projects.get(project_id),
            projects.patch(project_id, ProjectPatch(name="y"), by="bob", precondition=ANY, may_orphan=False),
            projects.delete(project_id, by="bob", precondition=ANY),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert await projects.accesses([project_id]) == {}
    assert set(reported) == {"U"}


async def test_access_is_what_decides_about_a_project(projects: ProjectStore) -> None:
    await create(projects, visibility="private", members=[Member("role:press", "viewer")])
    grants = (await projects.accesses(["P"]))["P"]
    assert (grants.visibility, grants.members) == ("private", (ALICE, Member("role:press", "viewer")))


async def test_the_list_shows_exactly_the_projects_in_which_the_caller_has_a_role(
    projects: ProjectStore, database: Any
) -> None:
    def stored(project_id: str, visibility: str, principal: str | None = None) -> dict[str, Any]:
        members = [] if principal is None else [{"principal": principal, "role": "viewer"}]
        return {"_id": project_id, "name": "x", "visibility": visibility, "members": members}

    await database.projects.insert_many(
        [
            {"_id": "bare", "name": "x"},
            {"_id": "null", "name": "x", "visibility": None},
            stored("public", "public", "user:bob"),
            stored("private", "private"),
            stored("alices", "private", "user:alice"),
            stored("press", "private", "role:press"),
            stored("tricky", "private", "role:alice"),
            stored("strange", "secret"),
            {"_id": "unfit", "name": 7},
            {"_id": "deleted", "name": "x", "deleted_at": NOON},
        ]
    )
    for identity in (
        Identity(user_id="alice", name="", expires_at=0),
        Identity(user_id="bob", name="", expires_at=0, groups=frozenset({"press", "alice"})),
        Identity(user_id="press", name="", expires_at=0, groups=frozenset({"user:alice"})),
        Identity(user_id="robot", name="", expires_at=0, roles=frozenset({"service"})),
        Identity(user_id="root", name="", expires_at=0, roles=frozenset({"admin"})),
    ):
        expected = set()
        for document in await database.projects.find({"deleted_at": None}).to_list(None):
            grants = (await projects.accesses([document["_id"]])).get(document["_id"])
            if grants is None:
                continue
            access = ProjectAccess(visibility=grants.visibility, members=grants.members)
            if project_role(identity, access) is not None:
                expected.add(document["_id"])
        seen = await listed(
            projects, user_id=identity.user_id, groups=identity.groups, sees_everything=identity.sees_everything
        )
        assert set(seen) == expected
        assert "bare" in seen


async def test_filters_narrow_the_list(projects: ProjectStore) -> None:
    await create(projects, "A", name="Spring campaign", labels=["easter", "web"])
    await create(projects, "B", name="Summer campaign", labels=["web"], by="bob")
    await create(projects, "C", name="Winter", by="bob", members=[Member("user:alice", "viewer")])
    await create(projects, "D", name="Autumn", by="bob", members=[Member("role:press", "viewer")])
    await projects.patch("D", ProjectPatch(archived=True), by="bob", precondition=ANY, may_orphan=False)
    assert await listed(projects, sort="name") == ["A", "B", "C"]
    assert await listed(projects, sort="name", label="web") == ["A", "B"]
    assert await listed(projects, sort="name", label="we") == []
    assert await listed(projects, sort="name", q="camp su") == ["B"]
    assert await listed(projects, sort="name", mine=True) == ["A", "C"]
    assert await listed(projects, sort="name", archived=True) == ["D"]
    assert await listed(projects, archived=True, mine=True) == []
    assert await listed(projects, archived=True, mine=True, groups=frozenset({"press"})) == ["D"]
    assert await listed(projects, sort="name", label="web", q="spring", mine=True) == ["A"]


async def test_the_newest_comes_first_unless_asked_otherwise(projects: ProjectStore, clock: Clock) -> None:
    for project_id, name in (("A", "b"), ("B", "c"), ("C", "a")):
        await create(projects, project_id, name=name)
        clock.now += timedelta(seconds=1)
    await projects.patch("A", ProjectPatch(labels=["x"]), by="bob", precondition=ANY, may_orphan=False)
    assert await listed(projects) == ["C", "B", "A"]
    assert await listed(projects, sort="created_at") == ["A", "B", "C"]
    assert await listed(projects, sort="-updated_at") == ["A", "C", "B"]
    assert await listed(projects, sort="-name") == ["B", "A", "C"]


async def test_what_other_programs_wrote_amiss_is_reported_and_never_breaks_the_list(
    projects: ProjectStore, database: Any, reported: list[object]
) -> None:
    await create(projects)
    await database.projects.insert_many(
        [
            {"_id": "a", "name": "x", "labels": "web"},
            {"_id": "b", "name": "x", "created_at": "yesterday"},
            {"_id": "c"},
            {"_id": 7, "name": "x"},
            {"_id": "d", "name": "x", "members": [{"principal": "nobody", "role": "owner"}]},
            {"_id": "e", "name": "x", "version": "2"},
        ]
    )
    assert await listed(projects, sees_everything=True) == ["P"]
    assert set(reported) == {"a", "b", "c", 7, "d", "e"}


def test_a_stored_project_shows_nothing_private() -> None:
    shown = Project.from_document({"_id": "P", "name": "x", "deleted_by": "bob", "secret": 1})
    assert msgspec.to_builtins(shown) == {
        "id": "P",
        "name": "x",
        "labels": [],
        "visibility": "public",
        "members": [],
        "version": 1,
    }
    with pytest.raises(Unfit):
        Project.from_document({"_id": "P"})
