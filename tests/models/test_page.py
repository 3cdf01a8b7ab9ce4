"""Cursor lists: nothing left out, nothing twice, in every order, whatever other programs have written."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from models.errors import Invalid
from models.fields import Unfit
from models.page import Page, PageRequest, Sort, read_page, scope, sort_names, word_prefixes

SORTS = {"name": Sort("name", "text"), "rank": Sort("rank", "number"), "at": Sort("at", "date")}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def request(sort: str, *, limit: int = 2, cursor: str | None = None, filters: tuple[tuple[str, str], ...] = ()) -> Any:
    return PageRequest(
        sort=sort, limit=limit, cursor=cursor, scope=scope("/things", sort, filters), position="a position"
    )


def an_id(document: Mapping[str, Any]) -> str:
    if not isinstance(document["_id"], str) or ("name" in document and not isinstance(document["name"], str | None)):
        raise Unfit("not like ours")
    return document["_id"]


class Reader:
    """Reads the things of a test's database."""

    def __init__(self, database: Any) -> None:
        self.collection = database.things
        self.reported: list[object] = []

    def report(self, collection: str, document_id: object, problem: str) -> None:
        assert (collection, problem) == ("things", "not like ours")
        self.reported.append(document_id)

    async def page(self, wanted: PageRequest, where: Mapping[str, Any] | None = None) -> Page[str]:
        return await read_page(self.collection, where or {}, wanted, sorts=SORTS, convert=an_id, report=self.report)

    async def all(self, sort: str, limit: int = 2) -> list[str]:
        """Page after page."""
        ids: list[str] = []
        cursor = None
        for _ in range(100):
            page = await self.page(request(sort, limit=limit, cursor=cursor))
            assert len(page.items) <= limit
            ids += page.items
            if page.next_cursor is msgspec.UNSET:
                return ids
            cursor = page.next_cursor
        raise AssertionError("the list does not end")


@pytest.fixture
def things(database: Any) -> Reader:
    return Reader(database)


async def test_pages_follow_each_other_without_a_gap_or_a_repetition(things: Reader) -> None:
    await things.collection.insert_many([{"_id": f"{n:02}", "name": f"n{n % 3}"} for n in range(11)])
    expected = sorted((f"{n:02}" for n in range(11)), key=lambda i: (f"n{int(i) % 3}", i))
    for limit in (1, 2, 3, 10, 11, 12, 200):
        assert await things.all("name", limit) == expected
        assert await things.all("-name", limit) == expected[::-1]


async def test_the_last_page_has_no_cursor_and_every_page_has_the_position(things: Reader) -> None:
    await things.collection.insert_many([{"_id": "a"}, {"_id": "b"}])
    page = await things.page(request("name", limit=2))
    assert (page.items, page.next_cursor, page.position) == (["a", "b"], msgspec.UNSET, "a position")
    page = await things.page(request("name", limit=1))
    assert page.next_cursor is not msgspec.UNSET


async def test_missing_and_null_sort_values_come_first_and_are_not_lost(things: Reader) -> None:
    await things.collection.insert_many(
        [{"_id": "a", "at": NOON}, {"_id": "b"}, {"_id": "c", "at": None}, {"_id": "d"}, {"_id": "e", "at": NOON}]
    )
    for limit in (1, 2, 3, 4):
        assert await things.all("at", limit) == ["b", "c", "d", "a", "e"]
        assert await things.all("-at", limit) == ["e", "a", "d", "c", "b"]


async def test_whole_and_broken_numbers_of_every_width_are_in_one_order(things: Reader) -> None:
    ranks = [-math.inf, -(2.0**60), -1.5, -1, 0, 0.25, 1, Int64(2**53 + 1), math.inf]
    await things.collection.insert_many([{"_id": f"{n}", "rank": rank} for n, rank in enumerate(ranks)])
    assert await things.all("rank", 1) == [f"{n}" for n in range(9)]
    assert await things.all("-rank", 2) == [f"{n}" for n in range(9)][::-1]


async def test_dates_that_python_does_not_have_are_passed_over_by_the_cursor(things: Reader) -> None:
    await things.collection.insert_many([{"_id": f"{n}", "at": NOON + timedelta(days=n)} for n in range(3)])
    await things.collection.database.command(
        "update", "things", updates=[{"q": {"_id": "1"}, "u": [{"$set": {"at": {"$toDate": 300_000_000_000_000}}}]}]
    )
    assert await things.all("at", 1) == ["0", "2", "1"]
    assert await things.all("-at", 1) == ["1", "2", "0"]


@pytest.mark.parametrize("sort", ["name", "-name"])
@pytest.mark.parametrize(
    "nonsense",
    [{"x": 1}, ["a", "z"], [], 7, True, ObjectId("0123456789abcdef01234567"), NOON, math.nan, "x" * 5000],
    ids=["object", "array", "empty array", "number", "boolean", "object id", "date", "nan", "endless"],
)
async def test_a_sort_value_of_another_type_is_reported_and_hides_nothing_else(
    things: Reader, sort: str, nonsense: object
) -> None:
    await things.collection.insert_many([{"_id": letter, "name": letter} for letter in "acegikmo"])
    await things.collection.insert_many([{"_id": f"zz{n}", "name": nonsense} for n in range(5)])
    expected = list("acegikmo") if sort == "name" else list("acegikmo")[::-1]
    for limit in (1, 2, 3, 50):
        assert await things.all(sort, limit) == expected or isinstance(nonsense, str)
        assert set(await things.all(sort, limit)) >= set(expected)


@pytest.mark.parametrize("rank", [math.nan, Decimal128("1.5"), "first", [1], {"$gt": 1}])
async def test_a_rank_that_is_no_number_hides_nothing_else(things: Reader, rank: object) -> None:
    await things.collection.insert_many([{"_id": "a", "rank": 1}, {"_id": "b", "rank": 2}, {"_id": "c", "rank": 3}])
    await things.collection.insert_many([{"_id": f"n{n}", "rank": rank} for n in range(3)])
    for limit in (1, 2, 4):
        assert [i for i in await things.all("rank", limit) if "n" not in i] == ["a", "b", "c"]
        assert [i for i in await things.all("-rank", limit) if "n" not in i] == ["c", "b", "a"]


async def test_documents_with_ids_unlike_ours_are_reported_and_hide_nothing_else(things: Reader) -> None:
    foreign = [ObjectId(), 7, {"a": 1}]
    await things.collection.insert_many([{"_id": i, "name": "n"} for i in (*foreign, "a", "b", "c")])
    for limit in (1, 2, 3, 50):
        assert await things.all("name", limit) == ["a", "b", "c"]
        assert await things.all("-name", limit) == ["c", "b", "a"]
    assert all(document_id in things.reported for document_id in foreign)


async def test_an_unfit_document_is_reported_and_the_page_is_one_shorter(things: Reader) -> None:
    def convert(document: Mapping[str, Any]) -> str:
        if document["_id"] == "b":
            raise Unfit("not like ours")
        return str(document["_id"])

    await things.collection.insert_many([{"_id": letter, "name": "n"} for letter in "abcd"])
    wanted = request("name", limit=2)
    page = await read_page(things.collection, {}, wanted, sorts=SORTS, convert=convert, report=things.report)
    assert (page.items, things.reported) == (["a"], ["b"])
    assert isinstance(page.next_cursor, str)
    wanted = request("name", limit=2, cursor=page.next_cursor)
    page = await read_page(things.collection, {}, wanted, sorts=SORTS, convert=convert, report=things.report)
    assert page.items == ["c", "d"]


async def test_what_is_added_and_removed_between_pages_neither_shifts_nor_repeats_the_rest(things: Reader) -> None:
    await things.collection.insert_many([{"_id": letter, "name": letter} for letter in "bdfh"])
    page = await things.page(request("name"))
    await things.collection.insert_one({"_id": "a", "name": "a"})
    await things.collection.delete_one({"_id": "d"})
    assert page.items == ["b", "d"]
    assert (await things.page(request("name", cursor=str(page.next_cursor)))).items == ["f", "h"]


async def test_a_cursor_belongs_to_one_path_order_and_set_of_filters(things: Reader) -> None:
    await things.collection.insert_many([{"_id": letter, "name": letter} for letter in "abc"])
    cursor = (await things.page(request("name", limit=1))).next_cursor
    assert isinstance(cursor, str)
    assert (await things.page(request("name", limit=2, cursor=cursor))).items == ["b", "c"]
    for foreign in (
        request("-name", cursor=cursor),
        request("rank", cursor=cursor),
        request("name", cursor=cursor, filters=(("q", "a"),)),
        PageRequest(sort="name", cursor=cursor, scope=scope("/others", "name"), position=""),
    ):
        with pytest.raises(Invalid):
            await things.page(foreign)


def test_the_order_in_which_filters_are_given_does_not_matter_to_a_cursor() -> None:
    assert scope("/a", "name", [("q", "x"), ("label", "y")]) == scope("/a", "name", [("label", "y"), ("q", "x")])


def packed(value: object, document_id: object = "a", bound: bytes | None = None) -> str:
    body = msgspec.msgpack.encode([scope("/things", "name") if bound is None else bound, value, document_id])
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "a",
        "AAAA",
        "é",
        packed({"$ne": None}),
        packed(["a"]),
        packed(7),
        packed(b"a"),
        packed(True),
        packed("a", {"$gt": ""}),
        packed("a", "$where"),
        packed("a", ""),
        packed("a", "a\n"),
        packed("a", bound=b"another"),
        base64.urlsafe_b64encode(msgspec.msgpack.encode(["name", "a"])).decode(),
    ],
)
async def test_a_made_up_cursor_is_refused_before_the_database_sees_it(things: Reader, cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        await things.page(request("name", cursor=cursor))
    assert refused.value.errors[0].path == "?cursor"


@given(cursor=st.text(max_size=80))
def test_no_text_at_all_breaks_the_reading_of_cursors(cursor: str) -> None:
    from models.page import _decode

    with pytest.raises(Invalid):
        _decode(cursor, scope("/things", "name"), SORTS["name"])


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, math.nan, 1.5])
async def test_a_date_cursor_holds_a_whole_number_of_64_bits(things: Reader, value: object) -> None:
    with pytest.raises(Invalid):
        await things.page(request("at", cursor=packed(value, bound=scope("/things", "at"))))


async def test_a_sort_that_is_not_on_the_list_is_refused(things: Reader) -> None:
    for name in ("$natural", "password", "", "-", "--name", "name,rank"):
        with pytest.raises(Invalid):
            await things.page(request(name))
    assert sort_names({"name": SORTS["name"]}) == ("name", "-name")


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("spr", {"spring", "both"}),
        ("SPRING", {"spring", "both"}),
        ("camp spr", {"spring", "both"}),
        ("pring", set()),
        ("spr xyz", set()),
        ("élan", {"accent"}),
        ("ÉLAN", {"accent"}),
        ("eas", {"hyphen"}),
        ("c++", {"signs"}),
        (".*", set()),
        ("(", set()),
        ("a|b", set()),
        ("$", set()),
        ("Ü", {"umlaut"}),
        ("  ", {"spring", "both", "accent", "hyphen", "signs", "umlaut"}),
        ("2026", {"both"}),
        ("#", {"signs"}),
    ],
)
async def test_q_finds_beginnings_of_words_in_any_case_and_nothing_else(
    things: Reader, q: str, found: set[str]
) -> None:
    await things.collection.insert_many(
        [
            {"_id": "spring", "name": "Spring campaign"},
            {"_id": "both", "name": "The camp of spring_2026"},
            {"_id": "accent", "name": "Avec élan"},
            {"_id": "hyphen", "name": "pre-Easter"},
            {"_id": "signs", "name": "C++ and C #"},
            {"_id": "umlaut", "name": "Jahresüberblick über alles"},
        ]
    )
    page = await things.page(request("name", limit=50), word_prefixes("name", q))
    assert set(page.items) == found
