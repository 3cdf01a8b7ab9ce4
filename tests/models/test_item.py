"""Items in MongoDB: adding, changing and removing them, and one version of a content in one project only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from models import schema
from models.bulk import BulkAnswer, refuse_repeats
from models.errors import Conflict, DuplicateContent, Invalid, NotFound, StaleVersion
from models.etag import document_etag, if_match
from models.fields import Ids, Unfit
from models.item import Content, Item, ItemPatch, NewItem
from models.item_store import CONTENT_SORT, DEFAULT_SORT, ItemFilter, ItemStore
from models.page import Page, PageRequest

Reported = list[tuple[str, object, str]]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = if_match(None)


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def clock() -> list[datetime]:
    """The time is its last entry."""
    return [NOON]


@pytest.fixture
def items(io_loop: IOLoop, database: Any, reported: Reported, clock: list[datetime]) -> ItemStore:
    async def prepare() -> None:
        assert await schema.apply(database) == []
        await database.projects.insert_many([{"_id": "P", "name": "Spring"}, {"_id": "Q", "name": "Secret"}])

    io_loop.run_sync(prepare)
    return ItemStore(database, report=lambda *what: reported.append(what), now=lambda: clock[-1])


async def may_see_all_but_q(project_id: str) -> bool:
    return project_id != "Q"


def new(content_id: str = "page-1", version: str = "1", **more: Any) -> NewItem:
    return NewItem(content=Content(id=content_id, version=version), **{"name": "Start page", **more})


async def add(
    items: ItemStore,
    *entries: NewItem,
    project_id: str = "P",
    by: str = "alice",
    make_id: Callable[[], str] | None = None,
) -> list[Any]:
    return await items.create_many(project_id, entries, by=by, make_id=make_id or Ids(), may_see=may_see_all_but_q)


async def names(items: ItemStore, wanted: ItemFilter | None = None, sort: str = DEFAULT_SORT) -> list[str]:
    request = PageRequest(sort=sort, scope=b"", position="here")
    page: Page[Item] = await items.page("P", wanted or ItemFilter(), request)
    return [item.name for item in page.items]


def foreign(item_id: str, **more: Any) -> dict[str, Any]:
    """An item as another program may write it: with nothing but what is needed."""
    content = {"id": f"content-{item_id}", "version": "1"}
    return {
        "_id": item_id,
        "project_id": "P",
        "content": content,
        "name": item_id,
        "type": "page",
        "status": "draft",
    } | more


# -- adding and reading -------------------------------------------------------------------------------------------


async def test_an_added_item_reads_back_as_it_was_answered(items: ItemStore) -> None:
    entry = new(
        language="de", publish_at=datetime(2026, 4, 1, 2, 0, 0, 123456, timezone(timedelta(hours=2))), url="/start"
    )
    added = await items.create("P", entry, by="alice", make_id=lambda: "I1", may_see=may_see_all_but_q)
    assert await items.get("P", "I1") == added
    assert msgspec.to_builtins(added) == {
        "id": "I1",
        "project_id": "P",
        "content": {"id": "page-1", "version": "1"},
        "name": "Start page",
        "type": "page",
        "language": "de",
        "status": "draft",
        "publish_at": "2026-04-01T00:00:00.123Z",
        "url": "/start",
        "rank": 0,
        "created_at": "2026-03-01T12:00:00.000Z",
        "created_by": "alice",
        "changed_at": "2026-03-01T12:00:00.000Z",
        "changed_by": "alice",
        "version": 1,
    }


async def test_an_item_of_another_project_is_not_found(items: ItemStore) -> None:
    (item,) = await add(items, new(), project_id="Q")
    for attempt in (
        items.get("P", item.id),
        items.patch("P", item.id, ItemPatch(name="Mine"), by="alice", precondition=ANY),
        items.delete("P", item.id, by="alice", precondition=ANY),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert (await items.get("Q", item.id)).name == "Start page"


async def test_a_publication_time_outside_of_what_utc_can_say_is_refused(items: ItemStore) -> None:
    entry = new(publish_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))))
    with pytest.raises(Invalid):
        await add(items, entry)


async def test_text_that_looks_like_an_expression_stays_text(items: ItemStore) -> None:
    (item,) = await add(items, new(name="$version"))
    changed = await items.patch("P", item.id, ItemPatch(path="$name"), by="bob", precondition=ANY)
    assert (changed.name, changed.path, changed.version) == ("$version", "$name", 2)


async def test_a_foreign_item_with_what_is_needed_is_read_with_defaults(items: ItemStore, database: Any) -> None:
    await database.items.insert_one(foreign("F", secret="x", content={"id": "c", "version": "1", "secret": "x"}))
    assert msgspec.to_builtins(await items.get("P", "F")) == {
        "id": "F",
        "project_id": "P",
        "content": {"id": "c", "version": "1"},
        "name": "F",
        "type": "page",
        "language": "",
        "status": "draft",
        "rank": 0,
        "version": 1,
    }


async def test_a_foreign_item_that_does_not_fit_is_reported_and_breaks_nothing(
    items: ItemStore, database: Any, reported: Reported
) -> None:
    await add(items, new())
    await database.items.insert_one(foreign("F", status="burnt"))
    assert await names(items) == ["Start page"]
    with pytest.raises(NotFound):
        await items.get("P", "F")
    with pytest.raises(NotFound):
        await items.patch("P", "F", ItemPatch(status="draft"), by="alice", precondition=ANY)
    (outcome,) = await items.set_status("P", ["F"], "ready", by="alice")
    assert isinstance(outcome, NotFound)
    assert (await database.items.find_one({"_id": "F"}))["status"] == "burnt"
    assert {what[:2] for what in reported} == {("items", "F")}


# -- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ItemFilter(status="ready"), ["Banner"]),
        (ItemFilter(type="media"), ["Clip"]),
        (ItemFilter(assignee="bob"), ["Banner"]),
        (ItemFilter(language="de"), ["Banner", "Anywhere", "Clip"]),
        (ItemFilter(language=""), ["Anywhere", "Clip"]),
        (ItemFilter(q="ban"), ["Banner"]),
        (ItemFilter(q="anner"), []),
        (ItemFilter(language="de", status="draft"), ["Anywhere", "Clip"]),
    ],
)
async def test_a_list_is_filtered_and_any_language_matches_each(
    items: ItemStore, database: Any, wanted: ItemFilter, found: list[str]
) -> None:
    await add(
        items,
        new("a", name="Banner", status="ready", assignee="bob", language="de", rank=-1.5),
        new("b", name="Other", language="fr", rank=9),
        new("c", name="Clip", type="media", rank=3),
    )
    await database.items.insert_one(foreign("Anywhere", rank=0))
    assert await names(items, wanted) == found


@pytest.mark.parametrize("sort", ["rank", "-rank", "name", "-name", "status", "-type", "changed_at", "-changed_at"])
async def test_pages_in_every_order_give_each_item_once(items: ItemStore, database: Any, sort: str) -> None:
    await add(items, *(new(str(number), name=f"Item {number % 3}", rank=number % 2) for number in range(5)))
    await database.items.insert_many([foreign("F1"), foreign("F2")])
    seen: list[str] = []
    cursor = None
    while True:
        page = await items.page(
            "P", ItemFilter(), PageRequest(sort=sort, scope=b"", position="", limit=2, cursor=cursor)
        )
        seen += [item.id for item in page.items]
        if page.next_cursor is msgspec.UNSET:
            break
        cursor = page.next_cursor
    assert len(seen) == len(set(seen)) == 7


async def test_rank_removed_by_a_patch_is_zero_and_sorts_so(items: ItemStore) -> None:
    (item, _, _) = await add(items, new("a", name="A", rank=5), new("b", name="B", rank=-5), new("c", name="C", rank=1))
    changed = await items.patch("P", item.id, ItemPatch(rank=None), by="alice", precondition=ANY)
    assert changed.rank == 0
    assert await names(items) == ["B", "A", "C"]


async def test_who_holds_a_content_is_answered_for_the_given_projects_only(items: ItemStore) -> None:
    await add(items, new("page-1", "1"), new("page-2"))
    await add(items, new("page-1", "2"), project_id="Q")
    assert sorted(await items.holders("page-1")) == ["P", "Q"]
    request = PageRequest(sort=CONTENT_SORT, scope=b"", position="here")
    page = await items.content_page("page-1", ["P"], request)
    assert [(item.project_id, item.content.version) for item in page.items] == [("P", "1")]
    assert (await items.content_page("page-1", [], request)).items == []


# -- changing -------------------------------------------------------------------------------------------------------


async def test_a_change_raises_the_version_and_says_who_made_it(items: ItemStore, clock: list[datetime]) -> None:
    (item,) = await add(items, new(url="/old", assignee="carol"))
    clock.append(NOON + timedelta(hours=1))
    patch = ItemPatch(status="in_review", url=None, publish_at=NOON)
    changed = await items.patch("P", item.id, patch, by="bob", precondition=ANY)
    assert (
        msgspec.structs.replace(
            item,
            status="in_review",
            url=msgspec.UNSET,
            publish_at="2026-03-01T12:00:00.000Z",
            changed_at="2026-03-01T13:00:00.000Z",
            changed_by="bob",
            version=2,
        )
        == changed
        == await items.get("P", item.id)
    )


async def test_a_patch_that_changes_nothing_writes_nothing(items: ItemStore, database: Any) -> None:
    (item,) = await add(items, new(publish_at=NOON))
    await database.items.insert_one(foreign("F"))
    before = [document async for document in database.items.find()]
    patch = ItemPatch(name="Start page", publish_at=NOON, url=None, rank=0)
    assert await items.patch("P", item.id, patch, by="bob", precondition=ANY) == item
    await items.patch("P", "F", ItemPatch(rank=0, assignee=None), by="bob", precondition=ANY)
    assert [document async for document in database.items.find()] == before


async def test_a_stale_precondition_refuses_a_change_and_a_removal(items: ItemStore) -> None:
    (item,) = await add(items, new())
    current = if_match(document_etag(item))
    changed = await items.patch("P", item.id, ItemPatch(name="Two"), by="alice", precondition=current)
    with pytest.raises(StaleVersion):
        await items.patch("P", item.id, ItemPatch(name="Three"), by="bob", precondition=current)
    with pytest.raises(StaleVersion):
        await items.delete("P", item.id, by="bob", precondition=current)
    assert await items.get("P", item.id) == changed


async def test_changes_at_the_same_moment_lose_none(items: ItemStore) -> None:
    (item,) = await add(items, new())
    patches = [ItemPatch(name="New name"), ItemPatch(status="ready"), ItemPatch(assignee="bob")]
    await asyncio.gather(*(items.patch("P", item.id, patch, by="alice", precondition=ANY) for patch in patches))
    after = await items.get("P", item.id)
    assert (after.name, after.status, after.assignee, after.version) == ("New name", "ready", "bob", 4)


async def test_a_foreign_item_without_a_version_gets_version_two_with_our_first_change(
    items: ItemStore, database: Any
) -> None:
    await database.items.insert_one(foreign("F"))
    assert (await items.patch("P", "F", ItemPatch(name="Ours"), by="bob", precondition=ANY)).version == 2


async def test_a_removed_item_is_gone_and_keeps_who_removed_it(items: ItemStore, database: Any) -> None:
    (item,) = await add(items, new())
    await items.delete("P", item.id, by="bob", precondition=ANY)
    for attempt in (
        items.get("P", item.id),
        items.delete("P", item.id, by="bob", precondition=ANY),
        items.patch("P", item.id, ItemPatch(name="Back"), by="bob", precondition=ANY),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await names(items) == []
    stored = await database.items.find_one({"_id": item.id})
    assert (stored["deleted_at"], stored["deleted_by"], stored["changed_by"], stored["version"]) == (
        NOON,
        "bob",
        "bob",
        2,
    )


async def test_one_status_for_many_items_answers_in_the_order_asked(items: ItemStore, database: Any) -> None:
    first, second, third = await add(items, new("a"), new("b", status="ready"), new("c"))
    (elsewhere,) = await add(items, new("d"), project_id="Q")
    outcomes = await items.set_status("P", [third.id, elsewhere.id, second.id, "none", first.id], "ready", by="bob")
    assert [getattr(outcome, "version", type(outcome)) for outcome in outcomes] == [2, NotFound, 1, NotFound, 2]
    assert outcomes[0] == await items.get("P", third.id)
    assert (outcomes[0].status, outcomes[0].changed_by) == ("ready", "bob")
    assert (await database.items.find_one({"_id": elsewhere.id}))["status"] == "draft"


# -- one content, one project -----------------------------------------------------------------------------------------


async def test_a_content_that_stands_in_a_project_is_refused_and_the_project_named(items: ItemStore) -> None:
    (holder,) = await add(items, new())
    (outcome,) = await add(items, new(name="Again"))
    assert isinstance(outcome, DuplicateContent)
    for part in ("'Spring'", "(P)", holder.id):
        assert part in outcome.detail
    assert outcome.errors[0].path == "$.content"


async def test_the_project_that_holds_a_content_is_not_named_to_who_may_not_see_it(items: ItemStore) -> None:
    (holder,) = await add(items, new(), project_id="Q")
    (outcome,) = await add(items, new())
    assert isinstance(outcome, DuplicateContent)
    told = outcome.detail + str(outcome.errors)
    assert not any(secret in told for secret in ("Secret", "Q", holder.id))


async def test_versions_and_languages_of_a_content_may_stand_apart(items: ItemStore) -> None:
    outcomes = await add(items, new(), new(version="2"), new(language="en"), new(language="de"))
    assert [type(outcome) for outcome in outcomes] == [Item] * 4


async def test_no_language_and_the_empty_one_are_the_same(items: ItemStore, database: Any) -> None:
    await database.items.insert_one(foreign("F", content={"id": "page-1", "version": "1"}))
    refused, german = await add(items, new(), new(language="de"))
    assert isinstance(refused, DuplicateContent)
    assert "as item F" in refused.detail
    assert isinstance(german, Item)


async def test_nonsense_in_the_content_of_a_foreign_item_stands_in_nobodys_way(items: ItemStore, database: Any) -> None:
    await database.items.insert_many(
        [
            foreign("F", content={"id": ["page-1"], "version": "2"}),
            foreign("G", content={"id": "page-1", "version": {}}),
        ]
    )
    (added,) = await add(items, new())
    assert isinstance(added, Item)


async def test_a_removed_item_sets_its_content_free(items: ItemStore) -> None:
    (item,) = await add(items, new())
    await items.delete("P", item.id, by="alice", precondition=ANY)
    (again,) = await add(items, new(), project_id="Q")
    assert isinstance(again, Item)


async def test_of_many_only_the_duplicates_are_refused(items: ItemStore) -> None:
    await add(items, new("b"))
    outcomes = await add(items, new("a"), new("b"), new("c"))
    assert [type(outcome) for outcome in outcomes] == [Item, DuplicateContent, Item]
    answer = BulkAnswer.of(outcomes, done=201)
    assert [result.status for result in answer.results] == [201, 409, 201]
    assert answer.results[0].item == outcomes[0]
    assert msgspec.to_builtins(answer.results[1])["error"]["code"] == "duplicate_content"


async def test_of_two_who_add_the_same_content_at_the_same_moment_one_succeeds(items: ItemStore) -> None:
    outcomes = await asyncio.gather(*(add(items, new(), by=by) for by in ("alice", "bob", "carol")))
    kinds = sorted(type(outcome).__name__ for (outcome,) in outcomes)
    assert kinds == ["DuplicateContent", "DuplicateContent", "Item"]


@pytest.mark.parametrize(
    "holder", [{"project_id": "D"}, {"project_id": "D", "language": ""}, {"project_id": "nowhere"}]
)
async def test_what_a_half_deleted_or_vanished_project_holds_is_set_free(
    items: ItemStore, database: Any, holder: dict[str, Any]
) -> None:
    await database.projects.insert_one({"_id": "D", "name": "Gone", "deleted_at": NOON})
    await database.items.insert_one(foreign("F", content={"id": "page-1", "version": "1"}, **holder))
    (item,) = await add(items, new())
    assert isinstance(item, Item)
    left = await database.items.find_one({"_id": "F"})
    assert (left["deleted_at"], left["version"]) == (NOON, 2)


async def test_a_second_attempt_with_the_same_ids_finds_what_the_first_one_added(items: ItemStore) -> None:
    first = await add(items, new("a"), make_id=iter(["I1"]).__next__)
    again = await add(items, new("a"), new("b"), make_id=iter(["I1", "I2"]).__next__)
    assert again[0] == first[0]
    assert again[1].id == "I2"
    (others,) = await add(items, new("c"), by="mallory", make_id=lambda: "I1")
    assert isinstance(others, Conflict)


async def test_an_item_added_while_its_project_is_deleted_does_not_stay(items: ItemStore, database: Any) -> None:
    await database.projects.update_one({"_id": "P"}, {"$set": {"deleted_at": NOON}})
    with pytest.raises(NotFound):
        await add(items, new("a"), new("b"))
    assert await database.items.count_documents({"deleted_at": None}) == 0
    assert await database.items.count_documents({"deleted_at": NOON, "version": 2}) == 2


async def test_adding_nothing_adds_nothing(items: ItemStore) -> None:
    assert await add(items) == []


def test_an_entry_that_stands_twice_is_refused_by_its_place() -> None:
    refuse_repeats(["a", "b"], path="$.ids", what="id")
    with pytest.raises(Invalid) as refusal:
        refuse_repeats(["a", "b", "a"], path="$.ids", what="id")
    assert refusal.value.errors[0].path == "$.ids[2]"


@pytest.mark.parametrize(
    "broken",
    [{"content": "page-1"}, {"name": ""}, {"status": 3}, {"rank": "high"}, {"changed_at": "today"}, {"_id": "a b"}],
)
def test_a_document_of_the_wrong_shape_is_unfit(broken: dict[str, Any]) -> None:
    assert Item.from_document(foreign("F")).id == "F"
    with pytest.raises(Unfit):
        Item.from_document(foreign("F") | broken)
