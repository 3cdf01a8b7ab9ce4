"""Finding somebody to mention, and users as admins see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from models.fields import Ids
from models.project import Member, NewProject, Project
from tests.handlers.identity import Server, running

USERS = "/api/v1/users"


@pytest.fixture
def server(io_loop: IOLoop, database: Any) -> Iterator[Server]:
    with running(io_loop, database) as server:
        yield server


async def know(server: Server, *user_ids: str, roles: tuple[str, ...] = ()) -> None:
    for user_id in user_ids:
        assert (await server("GET", "/api/v1/session", who=user_id, roles=roles)).status == 200


async def private_project(server: Server, *members: Member) -> Project:
    new = NewProject(name="Secret", visibility="private", members=list(members))
    return await server.projects.create(new, by="alice", make_id=Ids())


def ids(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    return [user["id"] for user in answer.json["items"]]


async def test_everybody_who_was_seen_can_be_found(server: Server) -> None:
    await know(server, "alice", "bob", "bert.x")
    answer = await server("GET", USERS, who="alice")
    assert answer.json == {
        "items": [{"id": name, "name": name} for name in ("alice", "bert.x", "bob")],
        "position": "here",
    }
    assert ids(await server("GET", f"{USERS}?q=B", who="alice")) == ["bert.x", "bob"]
    assert ids(await server("GET", f"{USERS}?q=bert.&sort=-name", who="alice")) == ["bert.x"]
    assert (await server("GET", USERS)).status == 401


async def test_a_list_of_users_never_shows_an_email(server: Server) -> None:
    token = server.token("alice", email="alice@example.org", name="Alice")
    answer = await server("GET", USERS, headers={"Authorization": f"Bearer {token}"})
    assert answer.json["items"] == [{"id": "alice", "name": "Alice"}]


async def test_for_a_private_project_only_who_may_see_it_is_listed(server: Server) -> None:
    await know(server, "alice", "bob", "carol")
    await know(server, "dora", roles=("desk",))
    await know(server, "root", roles=("admin",))
    project = await private_project(
        server, Member(principal="user:bob", role="viewer"), Member(principal="role:desk", role="viewer")
    )
    path = f"{USERS}?project_id={project.id}"
    assert ids(await server("GET", path, who="bob")) == ["alice", "bob", "dora", "root"]
    assert ids(await server("GET", f"{path}&q=d", who="bob")) == ["dora"]
    assert (await server("PATCH", f"{USERS}/dora", {"disabled": True}, who="root", roles=("admin",))).status == 200
    assert ids(await server("GET", f"{path}&q=d", who="bob")) == []


async def test_who_may_not_see_a_project_is_not_told_who_may(server: Server) -> None:
    project = await private_project(server)
    answers = [
        await server("GET", f"{USERS}?project_id={project_id}", who="carol") for project_id in (project.id, "missing")
    ]
    assert [(answer.status, answer.json["detail"]) for answer in answers] == [(404, answers[0].json["detail"])] * 2


async def test_in_a_public_project_everybody_can_be_mentioned_but_the_disabled(server: Server) -> None:
    await know(server, "alice", "bob", "carol")
    project = await server.projects.create(NewProject(name="Open"), by="alice", make_id=Ids())
    await server("PATCH", f"{USERS}/carol", {"disabled": True}, who="root", roles=("admin",))
    assert ids(await server("GET", f"{USERS}?project_id={project.id}", who="bob")) == ["alice", "bob", "root"]
    everybody = await server("GET", USERS, who="bob")
    assert {"id": "carol", "name": "carol", "disabled": True} in everybody.json["items"]


async def test_lists_have_pages(server: Server) -> None:
    await know(server, *(f"user{number}" for number in range(5)))
    first = await server("GET", f"{USERS}?q=user&limit=3", who="user0")
    cursor = first.json["next_cursor"]
    second = await server("GET", f"{USERS}?q=user&limit=3&cursor={cursor}", who="user0")
    assert ids(first) + ids(second) == [f"user{number}" for number in range(5)]
    assert "next_cursor" not in second.json
    for query in (f"q=other&cursor={cursor}", f"cursor={cursor}", "cursor=x"):
        assert (await server("GET", f"{USERS}?{query}", who="user0")).status == 422


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "sort=email",
        "sort=$natural",
        "project_id=a/b",
        "q[$ne]=x",
        "role=admin",
        "q=a&q=b",
    ],
)
async def test_a_query_that_does_not_fit_is_invalid(server: Server, query: str) -> None:
    assert (await server("GET", f"{USERS}?{query}", who="alice")).json["code"] == "invalid"


async def test_a_list_that_did_not_change_is_not_sent_again(server: Server) -> None:
    await know(server, "alice")
    etag = (await server("GET", USERS, who="alice")).headers["Etag"]
    assert (await server("GET", USERS, who="alice", headers={"If-None-Match": etag})).status == 304
    await know(server, "bob")
    assert (await server("GET", USERS, who="alice", headers={"If-None-Match": etag})).status == 200


@pytest.mark.parametrize("path", [f"{USERS}/bob", "/api/v1/admin/users/bob"])
async def test_admins_see_all_of_a_user_and_others_nothing(server: Server, path: str) -> None:
    token = server.token("bob", "desk", name="Bob", email="bob@example.org")
    assert (await server("GET", USERS, headers={"Authorization": f"Bearer {token}"})).status == 200
    answer = await server("GET", path, who="root", roles=("admin",))
    assert answer.status == 200
    created_at = answer.json["created_at"]
    assert answer.json == {
        "id": "bob",
        "name": "Bob",
        "email": "bob@example.org",
        "roles": ["editor"],
        "groups": ["desk"],
        "created_at": created_at,
        "version": 1,
    }
    for method, body in (("GET", None), ("PATCH", {"disabled": True})):
        for who, roles, status in ((None, (), 401), ("bob", (), 403), ("robot", ("service",), 403)):
            assert (await server(method, path, body, who=who, roles=roles)).status == status


async def test_a_disabled_user_is_refused_everywhere_until_enabled(server: Server) -> None:
    await server.add_user("bob", "secret")
    signed_in = await server("POST", "/api/v1/session", {"username": "bob", "password": "secret"})
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0]
    token = {"Authorization": f"Bearer {server.token('bob')}"}
    for disabled, status in ((True, 401), (False, 200), (True, 401), (None, 200)):
        answer = await server("PATCH", f"{USERS}/bob", {"disabled": disabled}, who="root", roles=("admin",))
        assert answer.json.get("disabled", False) == bool(disabled)
        assert (await server("GET", "/api/v1/session", headers=token)).status == status
        assert (await server("GET", "/api/v1/session", cookie=cookie)).status == status
        again = await server("POST", "/api/v1/session", {"username": "bob", "password": "secret"})
        assert again.status == (401 if disabled else 201)


async def test_a_change_on_an_old_version_is_refused(server: Server) -> None:
    await know(server, "bob")
    how: dict[str, Any] = {"who": "root", "roles": ("admin",)}
    etag = (await server("GET", f"{USERS}/bob", **how)).headers["Etag"]
    first = await server("PATCH", f"{USERS}/bob", {"disabled": True}, headers={"If-Match": f"W/{etag}"}, **how)
    assert first.status == 200
    answer = await server("PATCH", f"{USERS}/bob", {"disabled": False}, headers={"If-Match": etag}, **how)
    assert (answer.status, answer.json["code"]) == (412, "stale_version")
    fresh = first.headers["Etag"]
    assert (await server("GET", f"{USERS}/bob", headers={"If-None-Match": fresh}, **how)).status == 304


@pytest.mark.parametrize(
    "body",
    [{"roles": ["admin"]}, {"disabled": "true"}, {"id": "x"}, {"version": 5}, [], {"name": "x"}],
)
async def test_only_disabled_can_be_changed(server: Server, plain_database: Any, body: Any) -> None:
    await know(server, "bob")
    before = plain_database.users.find_one({"_id": "bob"})
    assert (await server("PATCH", f"{USERS}/bob", body, who="root", roles=("admin",))).status == 422
    assert plain_database.users.find_one({"_id": "bob"}) == before


async def test_an_unknown_user_is_not_found(server: Server) -> None:
    for user_id in ("nobody", "a%20b", "%24ne", "x" * 65):
        for method, body in (("GET", None), ("PATCH", {"disabled": True})):
            assert (await server(method, f"{USERS}/{user_id}", body, who="root", roles=("admin",))).status == 404
