"""The one place that answers whether somebody may do something in a project, and what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from app.access import Access, require_on_server
from app.permissions import Action, Identity
from models.errors import Forbidden, NotFound, Unauthenticated
from models.project import Member, ProjectAccess

PUBLIC = ProjectAccess(visibility="public", members=())
PRIVATE = ProjectAccess(visibility="private", members=(Member(principal="user:alice", role="viewer"),))
ALICE = Identity(user_id="alice", name="Alice", expires_at=0.0)
BOB = Identity(user_id="bob", name="Bob", expires_at=0.0)
ROOT = Identity(user_id="root", name="Root", expires_at=0.0, roles=frozenset({"admin"}))


class Projects:
    """What is stored, and how often it was read."""

    def __init__(self, **stored: ProjectAccess) -> None:
        self.stored, self.reads = stored, 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, project_ids: Collection[str]) -> dict[str, ProjectAccess]:
        self.reads += 1
        found = {id_: self.stored[id_] for id_ in project_ids if id_ in self.stored}
        await self.gate.wait()
        return found


async def test_a_member_gets_in_with_the_role_that_was_granted() -> None:
    access = Access(Projects(p=PRIVATE).read)
    member = await access.require(ALICE, Action.VIEW, "p")
    assert (member.project_id, member.identity, member.role) == ("p", ALICE, "viewer")
    assert (await access.require(ROOT, Action.MANAGE, "p")).role == "owner"


async def test_a_member_without_the_right_is_told_so() -> None:
    with pytest.raises(Forbidden, match="viewer"):
        await Access(Projects(p=PRIVATE).read).require(ALICE, Action.COMMENT, "p")


async def test_a_hidden_project_and_a_missing_one_look_the_same() -> None:
    access = Access(Projects(p=PRIVATE).read)
    answers = []
    for project_id in ("p", "missing"):
        for action in (Action.VIEW, Action.MANAGE):
            with pytest.raises(NotFound) as refusal:
                await access.require(BOB, action, project_id)
            answers.append(refusal.value.detail)
    assert len(set(answers)) == 1


async def test_of_several_projects_those_are_named_that_the_caller_may_not_see() -> None:
    access = Access(Projects(open=PUBLIC, secret=PRIVATE).read)
    ids = ("open", "secret", "missing")
    assert await access.hidden(ALICE, ids) == {"missing"}
    assert await access.hidden(BOB, ids) == {"secret", "missing"}
    assert await access.hidden(ROOT, ids) == {"missing"}
    assert await access.hidden(BOB, ()) == set()


async def test_several_projects_are_one_read_of_those_that_are_not_remembered() -> None:
    projects = Projects(a=PUBLIC, b=PRIVATE, c=PUBLIC)
    access = Access(projects.read, capacity=3)
    assert await access.of("a") == PUBLIC
    for _ in range(2):
        assert await access.of_many(("a", "b", "missing", "b")) == {"a": PUBLIC, "b": PRIVATE, "missing": None}
        assert projects.reads == 2
    assert await access.of_many(()) == {}
    del projects.stored["b"]
    access.forget("b")
    assert await access.of_many(("a", "b")) == {"a": PUBLIC, "b": None}
    assert projects.reads == 3
    # More than can be remembered are answered all the same.
    assert await access.of_many(("a", "b", "c", "d", "e")) == {
        "a": PUBLIC,
        "b": None,
        "c": PUBLIC,
        "d": None,
        "e": None,
    }


async def test_a_change_during_the_read_of_several_throws_all_of_it_away() -> None:
    projects = Projects(a=PUBLIC, b=PUBLIC)
    access = Access(projects.read)
    projects.gate.clear()
    asked = asyncio.create_task(access.of_many(("a", "b")))
    await asyncio.sleep(0)
    projects.stored["b"] = PRIVATE
    access.forget("b")
    projects.gate.set()
    assert await asked == {"a": PUBLIC, "b": PRIVATE}
    assert projects.reads == 2
    assert await access.of_many(("a", "b")) == {"a": PUBLIC, "b": PRIVATE}
    assert projects.reads == 3


async def test_nobody_gets_in_without_signing_in() -> None:
    for project in (PUBLIC, PRIVATE):
        with pytest.raises(Unauthenticated):
            await Access(Projects(p=project).read).require(None, Action.VIEW, "p")


async def test_an_answer_is_remembered_until_the_project_changes() -> None:
    projects = Projects(p=PUBLIC)
    access = Access(projects.read)
    for _ in range(3):
        await access.require(BOB, Action.EDIT, "p")
    assert projects.reads == 1
    projects.stored["p"] = PRIVATE
    access.forget("p")
    with pytest.raises(NotFound):
        await access.require(BOB, Action.VIEW, "p")
    del projects.stored["p"]
    access.forget_all()
    with pytest.raises(NotFound):
        await access.require(ALICE, Action.VIEW, "p")


async def test_a_change_during_the_read_throws_it_away() -> None:
    projects = Projects(p=PUBLIC)
    access = Access(projects.read)
    projects.gate.clear()
    asked = asyncio.create_task(access.require(BOB, Action.VIEW, "p"))
    await asyncio.sleep(0)
    projects.stored["p"] = PRIVATE
    access.forget("p")
    projects.gate.set()
    with pytest.raises(NotFound):
        await asked
    with pytest.raises(NotFound):
        await access.require(BOB, Action.VIEW, "p")


async def test_nothing_remembered_is_believed_while_the_feed_is_stale() -> None:
    projects, trusted = Projects(p=PUBLIC), [True]
    access = Access(projects.read, trusted=lambda: trusted[0])
    await access.require(BOB, Action.VIEW, "p")
    trusted[0] = False
    projects.stored["p"] = PRIVATE
    with pytest.raises(NotFound):
        await access.require(BOB, Action.VIEW, "p")


async def test_the_memory_is_bounded() -> None:
    projects = Projects(a=PUBLIC, b=PUBLIC, c=PUBLIC)
    access = Access(projects.read, capacity=2)
    for project_id in ("a", "b", "a", "c", "a"):
        await access.of(project_id)
    assert projects.reads == 3
    await access.of("b")
    assert projects.reads == 4


def test_what_belongs_to_no_project_needs_an_instance_role() -> None:
    require_on_server(None, Action.ANYONE)
    require_on_server(ALICE, Action.SIGNED_IN)
    require_on_server(ROOT, Action.ADMINISTER)
    with pytest.raises(Unauthenticated):
        require_on_server(None, Action.SIGNED_IN)
    with pytest.raises(Unauthenticated):
        require_on_server(None, Action.ADMINISTER)
    with pytest.raises(Forbidden):
        require_on_server(ALICE, Action.ADMINISTER)
