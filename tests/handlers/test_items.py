"""Items over REST: rights, shapes, bulk calls, preconditions, keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

ITEMS = "/projects/P/items"


@pytest.fixture(autouse=True)
def people(io_loop: Any, database: Any) -> None:
    """A private project with one member of each role, and one that only zoe may see."""
    members = [
        {"principal": f"user:{role}", "role": role} for role in ("viewer", "commenter", "editor", "publisher", "owner")
    ]
    zoe = [{"principal": "user:zoe", "role": "owner"}]

    async def write() -> None:
        await database.projects.insert_many(
            [
                {"_id": "P", "name": "Spring", "visibility": "private", "members": [*members, *zoe]},
                {"_id": "Q", "name": "Secret", "visibility": "private", "members": zoe},
            ]
        )

    io_loop.run_sync(write)


def entry(content_id: str = "page-1", **more: Any) -> dict[str, Any]:
    return {"content": {"id": content_id, "version": "1"}, "name": f"Page {content_id}"} | more


async def add(api: Any, *args: Any, who: str = "editor", project: str = "P", **more: Any) -> dict[str, Any]:
    answer = await api(who, "POST", f"/projects/{project}/items", entry(*args, **more))
    assert answer.status == 201, answer.body
    return dict(answer.json)


# -- one item -------------------------------------------------------------------------------------------------------


async def test_an_added_item_is_found_at_its_location(api: Any) -> None:
    added = await api("editor", "POST", ITEMS, entry(language="de", rank=2.5))
    assert added.status == 201
    assert added.headers["Location"] == f"/api/v1/projects/P/items/{added.json['id']}"
    read = await api("viewer", "GET", f"{ITEMS}/{added.json['id']}")
    assert (read.status, read.json) == (200, added.json)
    assert read.headers["ETag"] == added.headers["ETag"]
    unchanged = await api(
        "viewer", "GET", f"{ITEMS}/{added.json['id']}", headers={"If-None-Match": read.headers["ETag"]}
    )
    assert (unchanged.status, unchanged.body) == (304, b"")


async def test_an_item_is_changed_and_taken_out(api: Any) -> None:
    item = await add(api, url="/old")
    path = f"{ITEMS}/{item['id']}"
    changed = await api("owner", "PATCH", path, {"status": "ready", "url": None, "assignee": "bob"})
    assert changed.status == 200
    assert changed.json == {
        **{name: value for name, value in item.items() if name != "url"},
        "status": "ready",
        "assignee": "bob",
        "changed_at": changed.json["changed_at"],
        "changed_by": "owner",
        "version": 2,
    }
    gone = await api("editor", "DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"name": "Back"})):
        assert (await api("editor", method, path, body)).json["code"] == "not_found"


async def test_an_outdated_if_match_is_refused_and_a_weakened_current_one_is_not(api: Any) -> None:
    item = await add(api)
    path = f"{ITEMS}/{item['id']}"
    tag = (await api("editor", "GET", path)).headers["ETag"]
    changed = await api("editor", "PATCH", path, {"name": "Two"}, headers={"If-Match": f"W/{tag}"})
    assert changed.status == 200
    for method, body in (("PATCH", {"name": "Three"}), ("DELETE", None)):
        stale = await api("editor", method, path, body, headers={"If-Match": tag})
        assert (stale.status, stale.json["code"]) == (412, "stale_version")
    assert (await api("editor", "DELETE", path, headers={"If-Match": changed.headers["ETag"]})).status == 204


WRONG_ITEMS: tuple[dict[str, Any], ...] = (
    {"name": ""},
    {"name": " "},
    {"status": "burnt"},
    {"content": {"id": "page-1"}},
    {"content": "page-1"},
    {"content": {"id": {"$ne": ""}, "version": "1"}},
    {"language": "en_US"},
    {"url": "javascript:alert(1)"},
    {"publish_at": "2026-02-30T00:00:00Z"},
    {"publish_at": "2026-02-03T00:00:00"},
    {"publish_at": "0001-01-01T00:00:00+05:00"},
    {"rank": 2**60},
    {"assignee": "a b"},
    {"id": "mine"},
    {"version": 7},
    {"project_id": "Q"},
    {"created_by": "owner"},
    {"deleted_at": None},
)


async def test_an_item_that_does_not_fit_or_sets_what_is_ours_is_refused(api: Any) -> None:
    for wrong in WRONG_ITEMS:
        answer = await api("editor", "POST", ITEMS, entry() | wrong)
        assert (answer.status, answer.json["code"]) == (422, "invalid"), wrong
    many = await api("editor", "POST", ITEMS, {"items": [entry() | wrong for wrong in WRONG_ITEMS]})
    assert [result["status"] for result in many.json["results"]] == [422] * len(WRONG_ITEMS)
    assert (await api("editor", "GET", ITEMS)).json["items"] == []


@pytest.mark.parametrize(
    "wrong", [{"content": {"id": "x", "version": "1"}}, {"project_id": "Q"}, {"name": None}, {"version": 3}]
)
async def test_what_an_item_is_of_and_where_it_stands_never_changes(api: Any, wrong: dict[str, Any]) -> None:
    item = await add(api)
    answer = await api("owner", "PATCH", f"{ITEMS}/{item['id']}", wrong)
    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert (await api("owner", "GET", f"{ITEMS}/{item['id']}")).json == item


async def test_an_item_of_another_project_is_not_found_under_this_one(api: Any) -> None:
    item = await add(api, who="zoe", project="Q")
    for method, body in (("GET", None), ("PATCH", {"name": "Mine"}), ("DELETE", None)):
        assert (await api("zoe", method, f"{ITEMS}/{item['id']}", body)).status == 404
    assert (await api("zoe", "GET", f"/projects/Q/items/{item['id']}")).json == item


@pytest.mark.parametrize(
    ("who", "reads", "edits", "publishes"),
    [
        ("viewer", 200, 403, 403),
        ("commenter", 200, 403, 403),
        ("editor", 200, 200, 403),
        ("publisher", 200, 200, 200),
        ("owner", 200, 200, 200),
        ("stranger", 404, 404, 404),
    ],
)
async def test_each_role_may_do_what_the_table_says(api: Any, who: str, reads: int, edits: int, publishes: int) -> None:
    item = await add(api, who="owner")
    path = f"{ITEMS}/{item['id']}"
    assert [(await api(who, "GET", place)).status for place in (ITEMS, path)] == [reads] * 2
    for status, expected in (("draft", edits), ("published", publishes)):
        bulk = {"items": [entry(f"bulk-{status}", status=status)]}
        answers = [
            await api(who, "PATCH", path, {"status": status}),
            await api(who, "POST", f"{ITEMS}/status", {"ids": [item["id"]], "status": status}),
            await api(who, "POST", ITEMS, bulk),
        ]
        assert [answer.status for answer in answers] == [expected] * 3
        added = await api(who, "POST", ITEMS, entry(f"single-{status}", status=status))
        assert added.status == (201 if expected == 200 else expected)
    assert (await api(who, "DELETE", path)).status == (204 if edits == 200 else edits)


# -- lists ----------------------------------------------------------------------------------------------------------


async def test_items_are_listed_by_rank_and_filtered_sorted_and_paged(api: Any) -> None:
    for content_id, rank, language, status in (("c", 1, "de", "draft"), ("a", 2, "", "ready"), ("b", 3, "fr", "draft")):
        await add(api, content_id, rank=rank, language=language, status=status)

    async def found(query: str) -> list[str]:
        answer = await api("viewer", "GET", f"{ITEMS}?{query}")
        assert answer.status == 200, answer.body
        assert answer.headers["Copydesk-Position"] == answer.json["position"] == "here"
        return [item["content"]["id"] for item in answer.json["items"]]

    assert await found("") == ["c", "a", "b"]
    assert await found("sort=-name") == ["c", "b", "a"]
    assert await found("language=de") == ["c", "a"]
    assert await found("language=") == ["a"]
    assert await found("status=draft&sort=-rank") == ["b", "c"]
    assert await found("q=page%20B") == ["b"]
    assert await found("type=media") == []
    page = (await api("viewer", "GET", f"{ITEMS}?limit=2")).json
    assert await found(f"limit=2&cursor={page['next_cursor']}") == ["b"]
    foreign = await api("viewer", "GET", f"{ITEMS}?limit=2&status=draft&cursor={page['next_cursor']}")
    assert foreign.status == 422


@pytest.mark.parametrize(
    "query",
    [
        "status=burnt",
        "status[$ne]=x",
        "sort=password",
        "sort=$natural",
        "limit=201",
        "limit=x",
        "language=_",
        "q=a&q=b",
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(api: Any, query: str) -> None:
    answer = await api("viewer", "GET", f"{ITEMS}?{query}")
    assert (answer.status, answer.json["code"]) == (422, "invalid")


async def test_a_list_is_not_sent_again_while_it_is_the_same(api: Any) -> None:
    await add(api)
    tag = (await api("viewer", "GET", ITEMS)).headers["ETag"]
    assert (await api("viewer", "GET", ITEMS, headers={"If-None-Match": tag})).status == 304
    await add(api, "page-2")
    assert (await api("viewer", "GET", ITEMS, headers={"If-None-Match": tag})).status == 200


async def test_a_broken_foreign_item_spoils_no_list(api: Any, database: Any, reported: list[Any]) -> None:
    item = await add(api)
    await database.items.insert_one({"_id": "F", "project_id": "P", "name": 7})
    assert (await api("viewer", "GET", ITEMS)).json["items"] == [item]
    assert ("items", "F") in {what[:2] for what in reported}


async def test_who_holds_a_content_is_told_of_visible_projects_only(api: Any) -> None:
    here = await add(api)
    there = await add(api, who="zoe", project="Q", language="de")
    await add(api, "page-2")
    answer = await api("viewer", "GET", "/items?content_id=page-1")
    assert (answer.status, answer.json["items"]) == (200, [here])
    everything = await api("zoe", "GET", "/items?content_id=page-1")
    assert {item["id"] for item in everything.json["items"]} == {here["id"], there["id"]}
    assert (await api("stranger", "GET", "/items?content_id=page-1")).json["items"] == []
    for wrong in ("", "?content_id=", "?content=page-1", "?content_id=a&content_id=b"):
        assert (await api("viewer", "GET", f"/items{wrong}")).status == 422
    assert (await api(None, "GET", "/items?content_id=page-1")).status == 401


# -- one content, one project ---------------------------------------------------------------------------------------


async def test_the_holder_of_a_content_is_named_to_who_may_see_it(api: Any) -> None:
    await add(api, who="zoe", project="Q")
    for who, named in (("zoe", True), ("editor", False)):
        answer = await api(who, "POST", ITEMS, entry())
        assert (answer.status, answer.json["code"]) == (409, "duplicate_content")
        assert (b"Secret" in answer.body, b"(Q)" in answer.body) == (named, named)
        assert answer.json["errors"][0]["path"] == "$.content"


async def test_of_many_who_add_the_same_content_one_succeeds(api: Any) -> None:
    answers = await asyncio.gather(*(api("editor", "POST", ITEMS, entry()) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7


# -- bulk -----------------------------------------------------------------------------------------------------------


async def test_a_bulk_addition_answers_for_each_item_in_order(api: Any) -> None:
    await add(api, "b")
    answer = await api("editor", "POST", ITEMS, {"items": [entry("a"), entry("b"), entry("c")]})
    assert answer.status == 200
    first, second, third = answer.json["results"]
    assert (first["status"], first["item"]["content"]["id"], first["id"]) == (201, "a", first["item"]["id"])
    assert (second["status"], second["error"]["code"], "item" in second) == (409, "duplicate_content", False)
    assert third["item"] == (await api("viewer", "GET", f"{ITEMS}/{third['id']}")).json


async def test_a_bulk_addition_that_breaks_the_rules_adds_nothing(api: Any) -> None:
    many = [entry(str(number)) for number in range(201)]
    repeated = [entry("a"), {"name": ""}, entry("b"), entry("a", name="Again")]
    for items in (many, [7] * 201, repeated, 7, None):
        answer = await api("editor", "POST", ITEMS, {"items": items})
        assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert (await api("editor", "GET", ITEMS)).json["items"] == []


async def test_an_entry_that_does_not_fit_is_refused_alone(api: Any) -> None:
    wrong = [entry("b", name=""), 7, None, {**entry("c"), "colour": "red"}, {"name": "No content"}]
    answer = await api("editor", "POST", ITEMS, {"items": [entry("a"), *wrong, entry("d")]})
    assert answer.status == 200
    results = answer.json["results"]
    assert [result["status"] for result in results] == [201, *[422] * 5, 201]
    assert [result["error"]["errors"][0]["path"] for result in results[1:-1]] == [
        "$.items[1].name",
        *(f"$.items[{index}]" for index in range(2, 6)),
    ]
    assert {result["error"]["code"] for result in results[1:-1]} == {"invalid"}
    listed = (await api("editor", "GET", ITEMS)).json["items"]
    assert {item["content"]["id"] for item in listed} == {"a", "d"}


async def test_two_hundred_items_are_added_and_get_a_status_in_one_call_each(api: Any) -> None:
    added = await api(
        "editor", "POST", ITEMS, {"items": [entry(str(number), path="x" * 2000) for number in range(200)]}
    )
    assert [result["status"] for result in added.json["results"]] == [201] * 200
    ids = [result["id"] for result in added.json["results"]]
    assert ids == sorted(ids)
    changed = await api("editor", "POST", f"{ITEMS}/status", {"ids": ids[::-1], "status": "ready"})
    assert [(result["id"], result["item"]["status"]) for result in changed.json["results"]] == [
        (item_id, "ready") for item_id in ids[::-1]
    ]


async def test_a_bulk_status_answers_for_items_that_are_not_here(api: Any) -> None:
    item = await add(api)
    elsewhere = await add(api, "other", who="zoe", project="Q")
    answer = await api("editor", "POST", f"{ITEMS}/status", {"ids": [elsewhere["id"], item["id"]], "status": "ready"})
    missing, done = answer.json["results"]
    assert (missing["status"], missing["id"], missing["error"]["code"]) == (404, elsewhere["id"], "not_found")
    assert (done["status"], done["item"]["version"]) == (200, 2)
    assert (await api("zoe", "GET", f"/projects/Q/items/{elsewhere['id']}")).json == elsewhere


async def test_a_bulk_status_that_breaks_the_rules_changes_nothing(api: Any) -> None:
    item = await add(api)
    for body in (
        {"ids": [item["id"]] * 2, "status": "ready"},
        {"ids": [item["id"], *(f"id-{number}" for number in range(200))], "status": "ready"},
        {"ids": [item["id"]], "status": "burnt"},
        {"ids": [item["id"]]},
        {"ids": [{"$ne": ""}], "status": "ready"},
    ):
        assert (await api("editor", "POST", f"{ITEMS}/status", body)).status == 422
    assert (await api("editor", "GET", f"{ITEMS}/{item['id']}")).json == item


async def test_one_item_may_not_take_the_room_of_a_bulk_call(api: Any) -> None:
    answer = await api("editor", "POST", ITEMS, entry(name="x" * 300_000))
    assert (answer.status, answer.json["code"]) == (413, "too_large")


# -- idempotency ----------------------------------------------------------------------------------------------------


async def test_a_repeated_addition_with_its_key_adds_nothing_twice(api: Any) -> None:
    for body in (entry("a"), {"items": [entry("b"), entry("c")]}):
        headers = {"Idempotency-Key": f"key-{len(body)}"}
        first, second = [await api("editor", "POST", ITEMS, body, headers=headers) for _ in range(2)]
        assert (second.status, second.body) == (first.status, first.body)
        assert second.headers.get("Location") == first.headers.get("Location")
    assert len((await api("editor", "GET", ITEMS)).json["items"]) == 3


async def test_an_attempt_after_a_crash_in_the_middle_converges(api: Any, database: Any) -> None:
    body = {"items": [entry("a"), entry("b"), entry("c")]}
    headers = {"Idempotency-Key": "crash"}
    first = await api("editor", "POST", ITEMS, body, headers=headers)
    # As if the process had died after the first insert: the mark is open and lapsed, the other two are not there.
    await database.idempotency.update_one({}, {"$unset": {"answer": ""}, "$currentDate": {"lapses_at": True}})
    await database.items.delete_many({"content.id": {"$in": ["b", "c"]}})
    second = await api("editor", "POST", ITEMS, body, headers=headers)
    assert second.status == 200
    assert [result["status"] for result in second.json["results"]] == [201] * 3
    assert [result["id"] for result in second.json["results"]] == [result["id"] for result in first.json["results"]]
    assert second.json["results"][0] == first.json["results"][0]
    assert await database.items.count_documents({}) == 3
