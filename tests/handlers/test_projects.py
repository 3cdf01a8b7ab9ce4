"""Projects and their overview over REST."""

from __future__ import annotations

from typing import Any

import pytest

from tests.handlers.conftest import Answer, Api


async def make(api: Api, who: str = "alice", **fields: Any) -> dict[str, Any]:
    answer = await api(who, "POST", "/projects", {"name": "Spring", **fields})
    assert answer.status == 201, answer.json
    made: dict[str, Any] = answer.json
    return made


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    assert (answer.status, answer.json["code"]) == (status, code), answer.json
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json
    return problem


async def test_a_created_project_is_where_location_says(api: Api) -> None:
    answer = await api("alice", "POST", "/projects", {"name": "Spring", "labels": ["web"]})
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/v1/projects/{answer.json['id']}"
    read = await api("bob", "GET", f"/projects/{answer.json['id']}")
    assert (read.status, read.json, read.headers["Etag"]) == (200, answer.json, answer.headers["Etag"])
    assert read.json["members"] == [{"principal": "user:alice", "role": "owner"}]


async def test_a_private_project_is_not_there_for_others(api: Api) -> None:
    made = await make(api, visibility="private", members=[{"principal": "role:press", "role": "viewer"}])
    path = f"/projects/{made['id']}"
    missing = refused(await api("bob", "GET", "/projects/nothing"), 404, "not_found")
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        problem = refused(await api("bob", method, path, body), 404, "not_found")
        assert {**problem, "request_id": ""} == {**missing, "request_id": ""}
    assert refused(await api("bob", "GET", f"{path}/overview"), 404, "not_found")
    assert (await api("bob", "GET", path, roles=("press",))).status == 200
    assert (await api("root", "GET", path, roles=("admin",))).status == 200
    assert (await api("bob", "GET", "/projects")).json["items"] == []
    assert [one["id"] for one in (await api("bob", "GET", "/projects", roles=("press",))).json["items"]] == [made["id"]]


async def test_a_group_is_a_member_by_whatever_name_its_directory_gives_it(api: Api) -> None:
    for group in ("Web Editors", "/desk/förlag", "CN=Press,OU=Desk"):
        members = [{"principal": f"role:{group}", "role": "viewer"}]
        made = await make(api, visibility="private", members=members)
        assert (await api("bob", "GET", f"/projects/{made['id']}", roles=(group,))).status == 200
        refused(await api("bob", "GET", f"/projects/{made['id']}", roles=(f"{group}s",)), 404, "not_found")
    for wrong in ("role:", "role: ", "role:a\tb", "role:desk\n", "user:a b", f"role:{'x' * 256}"):
        entry = {"principal": wrong, "role": "viewer"}
        refused(await api("alice", "POST", "/projects", {"name": "x", "members": [entry]}), 422, "invalid")


async def test_an_editor_changes_what_describes_a_project_and_not_who_is_in_it(api: Api) -> None:
    path = f"/projects/{(await make(api))['id']}"
    change = {"name": "Summer", "description": "hot", "labels": ["sun"], "due_at": "2026-04-01T00:00:00Z"}
    changed = await api("bob", "PATCH", path, change)
    assert changed.status == 200
    assert changed.json["due_at"] == "2026-04-01T00:00:00.000Z"
    assert (changed.json["version"], changed.json["updated_by"]) == (2, "bob")
    for owners in ({"visibility": "private"}, {"members": []}, {"archived": True}, {"name": "x", "archived": False}):
        refused(await api("bob", "PATCH", path, owners), 403, "forbidden")
    assert (await api("alice", "GET", path)).json == changed.json


async def test_a_viewer_and_a_commenter_change_nothing(api: Api) -> None:
    members = [{"principal": "user:vera", "role": "viewer"}, {"principal": "user:carl", "role": "commenter"}]
    path = f"/projects/{(await make(api, visibility='private', members=members))['id']}"
    for who in ("vera", "carl"):
        refused(await api(who, "PATCH", path, {"name": "x"}), 403, "forbidden")
        refused(await api(who, "DELETE", path), 403, "forbidden")


async def test_an_owner_shares_archives_and_deletes(api: Api) -> None:
    path = f"/projects/{(await make(api, visibility='private'))['id']}"
    owner = {"principal": "user:alice", "role": "owner"}
    shared = await api("alice", "PATCH", path, {"members": [owner, {"principal": "user:bob", "role": "viewer"}]})
    assert shared.status == 200
    assert (await api("bob", "GET", path)).status == 200
    refused(await api("alice", "PATCH", path, {"members": []}), 422, "invalid")
    archived = await api("alice", "PATCH", path, {"archived": True})
    assert "archived_at" in archived.json
    assert (await api("alice", "GET", "/projects")).json["items"] == []
    assert len((await api("alice", "GET", "/projects?archived=true")).json["items"]) == 1
    deleted = await api("alice", "DELETE", path)
    assert (deleted.status, deleted.body) == (204, b"")
    refused(await api("alice", "GET", path), 404, "not_found")
    refused(await api("alice", "DELETE", path), 404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": {"$ne": None}},
        {"name": "x", "id": "mine"},
        {"name": "x", "_id": "mine"},
        {"name": "x", "version": 7},
        {"name": "x", "created_by": "bob"},
        {"name": "x", "deleted_at": None},
        {"name": "x", "labels": ["a"] * 21},
        {"name": "x", "labels": ["a" * 41]},
        {"name": "x", "description": "d" * 2001},
        {"name": "x", "members": [{"principal": "user:bob", "role": "admin"}]},
        {"name": "x", "members": [{"principal": "user:bob", "role": "owner", "x": 1}]},
        {"name": "x", "due_at": "0001-01-01T00:00:00+14:00"},
        {"name": "x", "archived": True},
        [],
    ],
    ids=repr,
)
async def test_a_project_that_does_not_fit_is_refused(api: Api, body: Any) -> None:
    refused(await api("alice", "POST", "/projects", body), 422, "invalid")
    assert (await api("root", "GET", "/projects", roles=("admin",))).json["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": None},
        {"visibility": None},
        {"members": None},
        {"archived": None},
        {"archived_at": None},
        {"version": 1},
    ],
    ids=repr,
)
async def test_a_patch_that_does_not_fit_is_refused(api: Api, body: Any) -> None:
    made = await make(api)
    refused(await api("alice", "PATCH", f"/projects/{made['id']}", body), 422, "invalid")
    assert (await api("alice", "GET", f"/projects/{made['id']}")).json == made


async def test_a_stale_if_match_is_refused_and_a_weak_one_counts(api: Api) -> None:
    made = await api("alice", "POST", "/projects", {"name": "Spring"})
    path, tag = f"/projects/{made.json['id']}", made.headers["Etag"]
    changed = await api("alice", "PATCH", path, {"name": "Summer"}, headers={"If-Match": f"W/{tag}"})
    assert changed.status == 200
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        refused(await api("alice", method, path, body, headers={"If-Match": tag}), 412, "stale_version")
    unquoted = tag.strip('"')
    refused(await api("alice", "PATCH", path, {"name": "x"}, headers={"If-Match": unquoted}), 400, "malformed")
    deleted = await api("alice", "DELETE", path, headers={"If-Match": changed.headers["Etag"]})
    assert deleted.status == 204


async def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    project_id = (await make(api))["id"]
    for path in (f"/projects/{project_id}", "/projects", f"/projects/{project_id}/overview"):
        first = await api("alice", "GET", path)
        tag = first.headers["Etag"]
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await api("alice", "GET", path, headers={"If-None-Match": known})
            assert (again.status, again.body, again.headers["Etag"]) == (304, b"", tag)
            assert again.headers.get("Copydesk-Position") == first.headers.get("Copydesk-Position")
        await api("alice", "PATCH", f"/projects/{project_id}", {"labels": [path.replace("/", "-")[-40:]]})
        assert (await api("alice", "GET", path, headers={"If-None-Match": tag})).status == 200


async def test_lists_and_the_overview_tell_the_position_and_when_to_poll_again(api: Api) -> None:
    project_id = (await make(api))["id"]
    for path in ("/projects", f"/projects/{project_id}/overview"):
        answer = await api("alice", "GET", path)
        assert answer.headers["Copydesk-Position"] == answer.json["position"] == "here"
        assert answer.headers["X-Poll-Interval"] == "10"


async def test_the_list_goes_on_page_after_page(api: Api) -> None:
    ids = [(await make(api, name=f"Project {n}"))["id"] for n in range(5)]
    seen: list[str] = []
    path = "/projects?limit=2&q=project"
    while True:
        page = (await api("alice", "GET", path)).json
        seen += [one["id"] for one in page["items"]]
        if "next_cursor" not in page:
            break
        path = f"/projects?limit=3&q=project&cursor={page['next_cursor']}"
    assert seen == ids[::-1]
    first = (await api("alice", "GET", "/projects?limit=2")).json["next_cursor"]
    problem = refused(await api("alice", "GET", f"/projects?sort=name&cursor={first}"), 422, "invalid")
    assert problem["errors"][0]["path"] == "?cursor"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=201",
        "limit=1e9",
        f"limit={2**70}",
        "limit=",
        "limit=1&limit=2",
        "cursor=",
        "cursor=x",
        "sort=$natural",
        "sort=password",
        "sort=",
        "mine=maybe",
        "archived=2",
        "label=",
        "label[$ne]=x",
        "skip=1",
        "q=" + "x" * 101,
    ],
)
async def test_a_query_that_is_not_understood_is_refused(api: Api, query: str) -> None:
    refused(await api("alice", "GET", f"/projects?{query}"), 422, "invalid")


async def test_projects_are_filtered_by_label_words_and_membership(api: Api) -> None:
    a = (await make(api, name="Spring campaign", labels=["web"]))["id"]
    b = (await make(api, "bob", name="Été à la plage", labels=["web"]))["id"]

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in (await api("alice", "GET", f"/projects?sort=created_at&{query}")).json["items"]]

    assert await listed("label=web") == [a, b]
    assert await listed("q=camp") == [a]
    # Typed on a keyboard that composes accents from two characters.
    assert await listed("q=e%CC%81te%CC%81") == [b]
    assert await listed("q=") == [a, b]
    assert await listed("mine=true") == [a]
    assert await listed("mine=false") == [a, b]


async def test_the_overview_has_it_all_in_one_call(api: Api, database: Any) -> None:
    project = await make(api)
    await database.items.insert_many(
        [
            {
                "_id": f"i{n:03}",
                "project_id": project["id"],
                "content": {"id": f"page-{n}", "version": "1"},
                "name": f"Page {n}",
                "type": "page",
                "status": "draft",
                "rank": n,
            }
            for n in range(203)
        ]
    )
    overview = (await api("vera", "GET", f"/projects/{project['id']}/overview")).json
    assert overview["project"] == project
    assert [one["id"] for one in overview["items"]] == [f"i{n:03}" for n in range(200)]
    assert overview["counters"]["items"]["draft"] == 203
    assert overview["me"] == {"role": "editor", "can": ["view", "comment", "edit"], "unread": 0}
    path = f"/projects/{project['id']}/items?limit=2&cursor={overview['next_cursor']}"
    rest = (await api("vera", "GET", path)).json
    assert [one["id"] for one in rest["items"]] == ["i200", "i201"]
    path = f"/projects/{project['id']}/items?sort=rank&cursor={rest['next_cursor']}"
    assert [one["id"] for one in (await api("vera", "GET", path)).json["items"]] == ["i202"]
