"""Users in MongoDB: what tokens say about them, accounts with passwords, and finding somebody to mention."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from models import schema
from models.errors import Conflict, NotFound, StaleVersion
from models.etag import document_etag, if_match
from models.fields import Unfit
from models.page import PageRequest
from models.user import Account, Audience, User, UserPatch, UserRecord, UserStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = if_match(None)
Reported = list[tuple[str, object, str]]


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def users(io_loop: IOLoop, database: Any, reported: Reported) -> UserStore:
    io_loop.run_sync(lambda: schema.apply(database))
    return UserStore(database, report=lambda *what: reported.append(what), now=lambda: NOON)


async def seen(users: UserStore, user_id: str = "alice", **said: Any) -> UserRecord | None:
    return await users.seen(
        user_id, **{"name": None, "email": None, "roles": ["editor"], "groups": [], "issued_at": 1000.0, **said}
    )


async def found(users: UserStore, q: str, **how: Any) -> list[str]:
    request = PageRequest(sort="name", scope=b"", position="here")
    return [user.id for user in (await users.search(request, q=q, **how)).items]


async def test_a_user_becomes_known_when_first_seen(users: UserStore, plain_database: Any) -> None:
    assert await users.get("alice") is None
    record = await seen(users, name="Alice", email="alice@example.org", roles=["admin"], groups=["desk", "art"])
    assert record == UserRecord(
        user_id="alice",
        name="Alice",
        email="alice@example.org",
        roles=frozenset({"admin"}),
        groups=frozenset({"desk", "art"}),
        roles_at=1000.0,
    )
    assert await users.get("alice") == record
    stored = plain_database.users.find_one({"_id": "alice"})
    assert (stored["version"], stored["created_at"]) == (1, NOON)


async def test_a_user_without_a_name_is_called_by_the_id(users: UserStore) -> None:
    record = await seen(users)
    assert record is not None
    assert record.name == "alice"
    record = await seen(users, name="Alice")
    assert record is not None
    assert record.name == "Alice"
    record = await seen(users, name=None, roles=["admin"])
    assert record is not None
    assert record.name == "Alice"


async def test_an_older_token_does_not_take_back_what_a_newer_one_gave(users: UserStore, plain_database: Any) -> None:
    await seen(users, roles=["admin"], issued_at=1000.0)
    before = plain_database.users.find_one({"_id": "alice"})
    record = await seen(users, roles=["editor"], name="Old", issued_at=999.0)
    assert record is not None
    assert (record.roles, record.name) == (frozenset({"admin"}), "alice")
    assert plain_database.users.find_one({"_id": "alice"}) == before
    record = await seen(users, roles=["service"], issued_at=1001.0)
    assert record is not None
    assert (record.roles, record.roles_at) == (frozenset({"service"}), 1001.0)


async def test_of_two_tokens_of_one_second_the_one_seen_last_counts(users: UserStore) -> None:
    await seen(users, roles=["admin"])
    record = await seen(users, roles=["editor"])
    assert record is not None
    assert record.roles == frozenset({"editor"})


async def test_tokens_seen_at_once_leave_the_newest(users: UserStore) -> None:
    await asyncio.gather(*(seen(users, groups=[f"g{at}"], issued_at=float(at)) for at in (3, 9, 1, 7, 5)))
    record = await users.get("alice")
    assert record is not None
    assert (record.groups, record.roles_at) == (frozenset({"g9"}), 9.0)


async def test_an_account_has_a_password_and_roles(users: UserStore) -> None:
    account = await users.add(
        "bob", password_hash="hash", roles=["admin"], groups=["desk"], name="Bob", email="bob@example.org"
    )
    assert account == Account(
        id="bob",
        name="Bob",
        email="bob@example.org",
        roles=["admin"],
        groups=["desk"],
        created_at="2026-03-01T12:00:00.000Z",
        version=1,
    )
    found_password = await users.password("bob")
    assert found_password is not None
    record, hashed = found_password
    assert (record.roles, record.roles_at, hashed) == (frozenset({"admin"}), NOON.timestamp(), "hash")
    assert await users.password("nobody") is None


async def test_a_second_account_of_the_same_name_is_refused(users: UserStore) -> None:
    await users.add("bob", password_hash="first")
    with pytest.raises(Conflict):
        await users.add("bob", password_hash="second", roles=["admin"])
    password = await users.password("bob")
    assert password is not None
    assert (password[1], password[0].roles) == ("first", frozenset({"editor"}))


async def test_a_user_known_from_tokens_can_be_given_a_password(users: UserStore) -> None:
    await seen(users, name="Alice")
    assert await users.password("alice") is None
    account = await users.add("alice", password_hash="hash")
    assert account.version == 2
    assert await users.password("alice") is not None


@pytest.mark.parametrize(
    "what",
    [
        {"user_id": "a b"},
        {"roles": ["owner"]},
        {"groups": ["a\nb"]},
        {"groups": [" "]},
        {"name": "x" * 256},
        {"email": "nobody"},
        {"name": " "},
    ],
)
async def test_an_account_that_does_not_fit_is_not_made(users: UserStore, plain_database: Any, what: Any) -> None:
    user_id = what.pop("user_id", "bob")
    with pytest.raises(Unfit):
        await users.add(user_id, password_hash="hash", **what)
    assert plain_database.users.count_documents({}) == 0


async def test_a_user_is_disabled_and_enabled(users: UserStore, plain_database: Any) -> None:
    await seen(users)
    account = await users.patch("alice", UserPatch(disabled=True), by="root", precondition=ANY)
    assert (account.disabled, account.version) == (True, 2)
    record = await users.get("alice")
    assert record is not None
    assert record.refuses(10**10)
    stored = plain_database.users.find_one({"_id": "alice"})
    assert stored["updated_by"] == "root"
    assert await users.patch("alice", UserPatch(disabled=True), by="x", precondition=ANY) == account
    assert await users.patch("alice", UserPatch(), by="x", precondition=ANY) == account
    assert plain_database.users.find_one({"_id": "alice"}) == stored
    account = await users.patch("alice", UserPatch(disabled=False), by="root", precondition=ANY)
    assert account.version == 3
    assert '"disabled"' not in str(account)
    record = await users.get("alice")
    assert record is not None
    assert not record.refuses(0.0)


async def test_a_patch_of_a_changed_user_is_refused(users: UserStore) -> None:
    await seen(users)
    etag = document_etag(await users.account("alice"))
    await seen(users, roles=["admin"])
    with pytest.raises(StaleVersion):
        await users.patch("alice", UserPatch(disabled=True), by="root", precondition=if_match(etag))
    with pytest.raises(NotFound):
        await users.patch("bob", UserPatch(disabled=True), by="root", precondition=ANY)


async def test_a_patch_survives_changes_that_come_between(users: UserStore) -> None:
    await seen(users)
    changes = [seen(users, groups=[f"g{n}"], issued_at=2000.0 + n) for n in range(3)]
    await asyncio.gather(users.patch("alice", UserPatch(disabled=True), by="root", precondition=ANY), *changes)
    account = await users.account("alice")
    assert (account.disabled, account.groups) == (True, ["g2"])


async def test_a_sign_out_everywhere_ends_what_was_issued_before(users: UserStore) -> None:
    await seen(users)
    account = await users.sign_out_everywhere("alice", by="root")
    assert (account.signed_out_at, account.version) == ("2026-03-01T12:00:00.000Z", 2)
    record = await users.get("alice")
    assert record is not None
    at = NOON.timestamp()
    assert [record.refuses(issued_at) for issued_at in (0.0, at - 1, at, at + 0.001)] == [True, True, True, False]
    with pytest.raises(NotFound):
        await users.sign_out_everywhere("bob", by="root")


async def test_users_are_found_by_the_beginning_of_id_name_and_words(users: UserStore) -> None:
    for user_id, name in {
        "a.smith": "Anna Smith",
        "bob": "Bob Ångström",
        "carol-x": "Carol",
        "d": "O'Neil (desk)",
    }.items():
        await seen(users, user_id, name=name)
    for q, expected in {
        "": ["a.smith", "bob", "carol-x", "d"],
        "a": ["a.smith"],
        "A.SM": ["a.smith"],
        "smi": ["a.smith"],
        "smith an": ["a.smith"],
        "anna s": ["a.smith"],
        "ång": ["bob"],
        "A\u030aNGS": ["bob"],
        "carol-": ["carol-x"],
        "x": ["carol-x"],
        "o'n": ["d"],
        "nei": ["d"],
        "eil": [],
        "mith": [],
        ".*": [],
        "^o": ["d"],
        "(": [],
        "$": [],
        "smith bob": [],
    }.items():
        assert await found(users, q) == expected, q


async def test_a_search_walks_an_index(users: UserStore, plain_database: Any) -> None:
    await seen(users, name="Alice")
    plan = plain_database.users.find({"words": {"$regex": "^ali"}}).explain()["queryPlanner"]["winningPlan"]
    assert plan["inputStage"]["indexBounds"]["words"][0] == '["ali", "alj")'


async def test_a_new_name_is_found_and_the_old_one_is_not(users: UserStore) -> None:
    await seen(users, name="Anna Smith")
    await seen(users, name="Anna Jones", issued_at=2000.0)
    assert (await found(users, "jones"), await found(users, "smith")) == (["alice"], [])


async def test_only_the_audience_of_a_private_project_is_listed(users: UserStore) -> None:
    await seen(users, "member")
    await seen(users, "grouped", groups=["desk"])
    await seen(users, "other", groups=["art"])
    await seen(users, "root", roles=["admin"])
    await seen(users, "robot", roles=["service"])
    await seen(users, "gone", groups=["desk"])
    await users.patch("gone", UserPatch(disabled=True), by="root", precondition=ANY)
    audience = Audience(user_ids=frozenset({"member", "unknown"}), groups=frozenset({"desk"}))
    assert await found(users, "", audience=audience, enabled=True) == ["grouped", "member", "robot", "root"]
    assert await found(users, "g", audience=audience, enabled=True) == ["grouped"]
    assert await found(users, "g") == ["gone", "grouped"]


async def test_lists_have_pages_also_with_dots_in_ids(users: UserStore) -> None:
    for number in range(5):
        await seen(users, f"u.{number}", name="Same")
    request = PageRequest(sort="-name", scope=b"s", position="here", limit=2)
    ids: list[str] = []
    while True:
        page = await users.accounts(request, q="same")
        ids += [account.id for account in page.items]
        if not isinstance(page.next_cursor, str):
            break
        request = PageRequest(sort="-name", scope=b"s", position="here", limit=2, cursor=page.next_cursor)
    assert ids == ["u.4", "u.3", "u.2", "u.1", "u.0"]


def test_others_do_not_see_the_email_and_nothing_private_slips_out() -> None:
    document = {
        "_id": "alice",
        "name": "Alice",
        "email": "alice@example.org",
        "password_hash": "hash",
        "words": ["alice"],
        "roles": ["admin"],
        "disabled": False,
    }
    assert User.from_document(document) == User(id="alice", name="Alice")
    assert User.from_document(document, with_email=True) == User(id="alice", name="Alice", email="alice@example.org")
    assert User.from_document({**document, "disabled": True}) == User(id="alice", name="Alice", disabled=True)
    assert User.from_document({"_id": "alice"}) == User(id="alice", name="alice")
    assert "hash" not in str(Account.from_document({**document, "version": 1}))


@pytest.mark.parametrize(
    "broken", [{"roles": ["owner"]}, {"disabled": "yes"}, {"roles_at": 5}, {"signed_out_at": "x"}, {"name": 5}]
)
async def test_a_broken_document_is_reported_and_lets_nobody_in(
    users: UserStore, plain_database: Any, reported: Reported, broken: dict[str, Any]
) -> None:
    plain_database.users.insert_one({"_id": "alice", "name": "Alice", "password_hash": "hash", **broken})
    assert await users.get("alice") is None
    assert await users.password("alice") is None
    assert {(collection, _id) for collection, _id, _ in reported} == {("users", "alice")}


async def test_many_users_are_read_at_once(users: UserStore, plain_database: Any, reported: Reported) -> None:
    await seen(users, "alice", groups=["desk"])
    plain_database.users.insert_one({"_id": "bob", "groups": 5})
    found_users = await users.of_many({"alice", "bob", "carol"})
    assert found_users == {"alice": await users.get("alice"), "bob": None}
    assert reported


async def test_the_members_of_a_group_come_by_id_without_disabled_ones(users: UserStore, plain_database: Any) -> None:
    for user_id in ("dave", "bob", "alice", "carol"):
        await seen(users, user_id, groups=["desk", "art"] if user_id == "dave" else ["desk"])
    plain_database.users.update_one({"_id": "bob"}, {"$set": {"disabled": True}})
    assert list(await users.members("desk", limit=10)) == ["alice", "carol", "dave"]
    assert list(await users.members("desk", limit=1, after="alice")) == ["carol"]
    artists = Audience(user_ids=frozenset({"alice"}), groups=frozenset({"art"}))
    assert list(await users.members("desk", limit=10, audience=artists)) == ["alice", "dave"]
    assert await users.members("nobody", limit=10) == {}
