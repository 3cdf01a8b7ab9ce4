"""The demo content: it fits, it is added once, and it converges after a crash."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.database import Database as PlainDatabase

from app import demo
from app.passwords import Passwords
from app.permissions import Identity, project_role
from app.settings import Settings
from app.tokens import Tokens
from models import schema
from models.comment import Comment
from models.item import Item
from models.project import Project, ProjectAccess
from models.user import Account

SECRET = "a secret that is long enough to sign"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


def unfit(collection: str, identifier: object, problem: str) -> None:
    raise AssertionError(f"{collection} {identifier}: {problem}")


def content(database: PlainDatabase[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {name: list(database[name].find(sort=[("_id", 1)])) for name in ("projects", "items", "comments", "users")}


async def test_the_content_fits_and_is_added_once(
    database: Any, plain_database: PlainDatabase[dict[str, Any]], passwords: Passwords
) -> None:
    await schema.apply(database)
    assert await demo.add(database, passwords=passwords, report=unfit)
    added = content(plain_database)
    projects = {document["_id"]: Project.from_document(document) for document in added["projects"]}
    items = {document["_id"]: Item.from_document(document) for document in added["items"]}
    comments = [Comment.from_document(document) for document in added["comments"]]
    assert {Account.from_document(document).id for document in added["users"]} == {"alice", "bob", "carol"}
    assert {item.project_id for item in items.values()} == set(projects)
    assert len({item.status for item in items.values()}) == 8
    assert all(isinstance(comment.body, str) for comment in comments)
    assert any(comment.mentions == ["bob"] for comment in comments)
    assert any(comment.thread_id != comment.id for comment in comments)

    plain_database.items.delete_one({"_id": next(iter(items))})
    assert not await demo.add(database, passwords=passwords, report=unfit)
    assert plain_database.items.count_documents({}) == len(items) - 1


async def test_a_first_start_that_was_cut_short_is_completed_and_repeats_nothing(
    database: Any, plain_database: PlainDatabase[dict[str, Any]], passwords: Passwords
) -> None:
    await schema.apply(database)
    await demo.add(database, passwords=passwords, report=unfit)
    whole = content(plain_database)
    plain_database.meta.delete_one({"_id": demo.MARK})
    for name, documents in whole.items():
        plain_database[name].delete_one({"_id": documents[-1]["_id"]})
    assert await demo.add(database, passwords=passwords, report=unfit)
    again = content(plain_database)
    assert {name: [document["_id"] for document in documents] for name, documents in again.items()} == {
        name: [document["_id"] for document in documents] for name, documents in whole.items()
    }


async def test_every_demo_user_can_sign_in_and_sees_another_part(
    database: Any, plain_database: PlainDatabase[dict[str, Any]], passwords: Passwords
) -> None:
    await demo.add(database, passwords=passwords, report=unfit)
    for user in demo.USERS:
        kept = plain_database.users.find_one({"_id": user.id})
        assert kept is not None
        assert await passwords.verify(kept["password_hash"], user.password)
    private = plain_database.projects.find_one({"visibility": "private"})
    assert private is not None
    project = Project.from_document(private)
    access = ProjectAccess(visibility=project.visibility, members=tuple(project.members))
    roles = {
        user.id: project_role(
            Identity(
                user_id=user.id,
                name=user.name,
                roles=frozenset(user.roles),
                groups=frozenset(user.groups),
                expires_at=0,
            ),
            access,
        )
        for user in demo.USERS
    }
    assert roles == {"alice": "owner", "bob": None, "carol": "editor"}


def test_the_first_request_is_ready_to_paste() -> None:
    settings = Settings(auth_secret=SECRET)
    introduction, request = demo.welcome(settings, "http://127.0.0.1:8888")
    assert all(f"{user.id} (password {user.password})" in introduction for user in demo.USERS)
    command, _, _, header, url = shlex.split(request)
    assert (command, url) == ("curl", "http://127.0.0.1:8888/api/v1/projects")
    claims = Tokens.from_settings(settings).verify(header.removeprefix("Authorization: Bearer "))
    user = next(user for user in demo.USERS if user.id == claims.sub)
    # Other roles than the account's would change the account, and end its sessions.
    assert claims.roles == [*user.roles, *user.groups]
    assert claims.name == user.name
