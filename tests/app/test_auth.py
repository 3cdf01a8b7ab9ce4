"""Who is calling: what tokens and sessions say, what is kept of it, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec
import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.ioloop import IOLoop

from app.auth import Authenticator, Credentials, is_over
from app.forwarded import Proxies
from app.guesses import Guesses
from app.passwords import Passwords
from app.permissions import Identity
from app.tokens import Tokens, issue
from models import schema
from models.errors import Busy, RateLimited, TokenExpired, Unauthenticated
from models.etag import if_match
from models.session import SessionStore
from models.user import UserPatch, UserRecord, UserStore

SECRET = "s" * 32
# In the future, so that MongoDB does not remove what has not expired by the clock of the test.
NOW = datetime(2100, 3, 1, 12, tzinfo=UTC).timestamp()
ANY = if_match(None)


class World:
    """An authenticator with a clock that stands still until it is told to move, and a feed that may be stale."""

    def __init__(self, database: Any) -> None:
        self.now, self.trusted = NOW, True
        self.users = UserStore(database, report=lambda *_what: None, now=self.moment)
        self.sessions = SessionStore(database, idle_seconds=3600, max_seconds=36_000, now=self.moment)
        self.passwords = Passwords()
        self.auth = self.another_process()

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def another_process(self) -> Authenticator:
        return Authenticator(
            tokens=Tokens(secrets=[SECRET], public_keys={}, clock=lambda: self.now),
            users=self.users,
            sessions=self.sessions,
            proxies=Proxies(()),
            passwords=self.passwords,
            guesses=Guesses(clock=lambda: self.now),
            trusted=lambda: self.trusted,
            clock=lambda: self.now,
        )

    def token(self, sub: str = "alice", *roles: str, **what: Any) -> str:
        return issue(SECRET, sub=sub, roles=roles, **{"ttl_seconds": 600, "now": self.now, **what})

    async def by_cookie(self, token: str, auth: Authenticator | None = None) -> Identity | None:
        credentials = await (auth or self.auth).identify(request({"Cookie": f"copydesk_session={token}"}))
        assert credentials.by_cookie == (credentials.identity is not None)
        return credentials.identity


@pytest.fixture
def world(io_loop: IOLoop, database: Any) -> Iterator[World]:
    io_loop.run_sync(lambda: schema.apply(database))
    made = World(database)
    yield made
    made.passwords.close()


def request(headers: dict[str, str]) -> HTTPServerRequest:
    made = HTTPServerRequest(
        start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=HTTPHeaders({"Host": "x", **headers})
    )
    made.remote_ip, made.protocol = "127.0.0.1", "http"
    return made


async def test_a_request_without_credentials_is_nobodys(world: World) -> None:
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": ""}, {"Cookie": "other=1"}):
        assert await world.auth.identify(request(headers)) == Credentials()


async def test_a_token_gives_its_own_roles(world: World) -> None:
    token = world.token("alice", "admin", "desk", name="Alice", email="alice@example.org")
    credentials = await world.auth.identify(request({"Authorization": f"bearer  {token}"}))
    assert credentials == Credentials(
        identity=Identity(
            user_id="alice",
            name="Alice",
            email="alice@example.org",
            roles=frozenset({"admin"}),
            groups=frozenset({"desk"}),
            expires_at=NOW + 600,
            issued_at=NOW,
        )
    )
    assert await world.users.get("alice") == UserRecord(
        user_id="alice",
        name="Alice",
        email="alice@example.org",
        roles=frozenset({"admin"}),
        groups=frozenset({"desk"}),
        roles_at=NOW,
    )


async def test_a_token_that_says_nothing_new_writes_nothing(world: World, plain_database: Any) -> None:
    await world.auth.identify_token(world.token("alice", name="Alice"))
    before = plain_database.users.find_one()
    world.now += 60
    for auth in (world.auth, world.another_process()):
        await auth.identify_token(world.token("alice", name="Alice"))
        await auth.identify_token(world.token("alice"))
    assert plain_database.users.find_one() == before


async def test_a_newer_token_changes_what_is_kept_and_an_older_one_does_not(world: World) -> None:
    old = world.token("alice", "admin", "desk", name="Old name")
    world.now += 60
    await world.auth.identify_token(world.token("alice", "art", name="New name"))
    for auth in (world.auth, world.another_process()):
        identity = await auth.identify_token(old)
        assert (identity.roles, identity.groups, identity.name) == ({"admin"}, {"desk"}, "Old name")
    record = await world.users.get("alice")
    assert record is not None
    assert (record.roles, record.groups, record.name) == ({"editor"}, {"art"}, "New name")


async def test_a_token_without_iat_says_something_only_about_users_without_a_dated_one(world: World) -> None:
    def undated(*roles: str) -> str:
        return jwt.encode({"sub": "alice", "aud": "copydesk", "exp": NOW + 60, "roles": roles}, SECRET)

    assert (await world.auth.identify_token(undated("desk"))).issued_at == 0.0
    assert (await world.auth.identify_token(undated("art"))).groups == {"art"}
    record = await world.users.get("alice")
    assert record is not None
    assert record.groups == {"art"}
    await world.auth.identify_token(world.token("alice", "law"))
    assert (await world.auth.identify_token(undated("art"))).groups == {"art"}
    record = await world.users.get("alice")
    assert record is not None
    assert record.groups == {"law"}


async def test_a_disabled_user_is_refused_once_the_feed_says_so(world: World) -> None:
    token = world.token()
    await world.auth.identify_token(token)
    await world.users.patch("alice", UserPatch(disabled=True), by="root", precondition=ANY)
    world.auth.forget_user("alice")
    for auth in (world.auth, world.another_process()):
        with pytest.raises(Unauthenticated, match="disabled"):
            await auth.identify_token(token)
    await world.users.patch("alice", UserPatch(disabled=False), by="root", precondition=ANY)
    world.auth.forget_all()
    assert (await world.auth.identify_token(token)).user_id == "alice"


async def test_a_disabled_users_token_says_nothing_about_them_any_more(world: World) -> None:
    await world.auth.identify_token(world.token())
    await world.users.patch("alice", UserPatch(disabled=True), by="root", precondition=ANY)
    world.auth.forget_user("alice")
    world.now += 60
    with pytest.raises(Unauthenticated):
        await world.auth.identify_token(world.token("alice", "admin"))
    record = await world.users.get("alice")
    assert record is not None
    assert record.roles == {"editor"}


async def test_while_the_feed_is_stale_nothing_remembered_is_believed(world: World) -> None:
    token = world.token()
    await world.auth.identify_token(token)
    await world.users.patch("alice", UserPatch(disabled=True), by="root", precondition=ANY)
    assert await world.auth.identify_token(token)
    world.trusted = False
    with pytest.raises(Unauthenticated):
        await world.auth.identify_token(token)


async def test_a_sign_out_ends_older_tokens_only(world: World) -> None:
    token = world.token()
    await world.auth.identify_token(token)
    await world.auth.sign_out_user("alice", by="root")
    with pytest.raises(Unauthenticated, match="signed out"):
        await world.auth.identify_token(token)
    world.now += 0.001
    assert await world.auth.identify_token(world.token())


async def test_a_user_whose_document_is_broken_is_refused(world: World, plain_database: Any) -> None:
    plain_database.users.insert_one({"_id": "alice", "disabled": "perhaps"})
    with pytest.raises(Unauthenticated, match="cannot be read"):
        await world.auth.identify_token(world.token())


async def test_bad_tokens_are_refused_before_anything_is_kept(world: World, plain_database: Any) -> None:
    with pytest.raises(Unauthenticated):
        await world.auth.identify_token(world.token() + "x")
    with pytest.raises(TokenExpired):
        await world.auth.identify_token(world.token(now=NOW - 1000))
    assert plain_database.users.count_documents({}) == 0


async def sign_in(world: World, password: str = "secret", user_id: str = "alice") -> str:  # noqa: S107 - of a test
    return (await world.auth.sign_in(user_id, password, address="192.0.2.1")).token


@pytest.fixture
def with_alice(world: World, io_loop: IOLoop) -> World:
    async def add() -> None:
        hashed = await world.passwords.hash("secret")
        await world.users.add("alice", password_hash=hashed, groups=["desk"], name="Alice")

    io_loop.run_sync(add)
    return world


async def test_a_session_gives_the_roles_of_the_account(with_alice: World) -> None:
    world = with_alice
    signed_in = await world.auth.sign_in("alice", "secret", address="192.0.2.1")
    identity = await world.by_cookie(signed_in.token)
    assert identity == signed_in.identity
    assert identity is not None
    assert (identity.user_id, identity.name, identity.groups) == ("alice", "Alice", {"desk"})
    assert (identity.issued_at, identity.expires_at) == (NOW, NOW + 3600)
    assert identity.session_id is not None
    world.now += 1
    await world.auth.identify_token(world.token("alice", "admin"))
    identity = await world.by_cookie(signed_in.token)
    assert identity is not None
    assert (identity.roles, identity.groups) == ({"admin"}, frozenset())


async def test_a_session_is_over_when_it_expires(with_alice: World) -> None:
    world = with_alice
    token = await sign_in(world)
    for _ in range(11):
        identity = await world.by_cookie(token)
        assert identity is not None
        world.now += 3599
    assert identity.expires_at == NOW + 36_000
    world.now = NOW + 36_000
    assert await world.by_cookie(token) is None
    token = await sign_in(world)
    world.now += 3600
    assert await world.by_cookie(token) is None


async def test_a_session_ends_at_other_processes_once_the_feed_says_so(with_alice: World) -> None:
    world = with_alice
    other = world.another_process()
    token = await sign_in(world)
    identity = await world.by_cookie(token, other)
    assert identity is not None
    await world.auth.sign_out(identity, everywhere=False)
    assert await world.by_cookie(token) is None
    assert identity.session_id is not None
    other.forget_session(identity.session_id)
    assert await world.by_cookie(token, other) is None


async def test_a_session_ends_with_its_user(with_alice: World, plain_database: Any) -> None:
    world = with_alice
    token = await sign_in(world)
    await world.users.patch("alice", UserPatch(disabled=True), by="root", precondition=ANY)
    world.auth.forget_user("alice")
    assert await world.by_cookie(token) is None
    await world.users.patch("alice", UserPatch(disabled=False), by="root", precondition=ANY)
    world.auth.forget_user("alice")
    assert await world.by_cookie(token) is not None
    plain_database.users.delete_one({"_id": "alice"})
    world.auth.forget_user("alice")
    assert await world.by_cookie(token) is None


async def test_a_sign_out_everywhere_ends_sessions_even_if_they_could_not_be_removed(
    with_alice: World, plain_database: Any
) -> None:
    world = with_alice
    token = await sign_in(world)
    kept = plain_database.sessions.find_one()
    await world.auth.sign_out_user("alice", by="root")
    assert plain_database.sessions.count_documents({}) == 0
    plain_database.sessions.insert_one(kept)
    world.auth.forget_all()
    assert await world.by_cookie(token) is None
    # The clock of this process is behind: the new session counts all the same.
    world.now -= 5
    assert await world.by_cookie(await sign_in(world)) is not None


async def test_a_bearer_who_signs_out_here_keeps_the_token_and_the_sessions(with_alice: World) -> None:
    world = with_alice
    token = await sign_in(world)
    bearer = world.token()
    await world.auth.sign_out(await world.auth.identify_token(bearer), everywhere=False)
    assert await world.auth.identify_token(bearer)
    assert await world.by_cookie(token) is not None


async def test_only_the_right_password_signs_in(with_alice: World, plain_database: Any) -> None:
    for user_id, password in (("alice", "wrong"), ("bob", "secret"), ("", ""), ("ALICE", "secret")):
        with pytest.raises(Unauthenticated, match="user name or the password"):
            await sign_in(with_alice, password, user_id)
    assert plain_database.sessions.count_documents({}) == 0


async def test_guesses_run_out_and_come_back(with_alice: World) -> None:
    world = with_alice
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            await sign_in(world, "wrong")
    with pytest.raises(RateLimited):
        await sign_in(world)
    world.now += 30
    assert await sign_in(world)
    assert await sign_in(world)


async def test_parallel_guesses_are_counted_before_they_are_judged(with_alice: World) -> None:
    guesses = (sign_in(with_alice, f"wrong {number}") for number in range(30))
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == 10
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 20


async def test_an_attempt_that_was_not_judged_does_not_count(
    with_alice: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crowded:
        crowded.setattr("app.passwords.MAX_WAITING", 0)
        for _ in range(20):
            with pytest.raises(Busy):
                await sign_in(with_alice)
    assert await sign_in(with_alice)


BEARER = Identity(user_id="alice", name="Alice", groups=frozenset({"desk"}), expires_at=NOW + 600, issued_at=NOW)
SESSION = msgspec.structs.replace(BEARER, session_id="x")
ALICE = UserRecord(user_id="alice", name="Alice", groups=frozenset({"desk"}), roles_at=NOW)


@pytest.mark.parametrize(
    ("identity", "user", "over"),
    [
        (BEARER, ALICE, False),
        (SESSION, ALICE, False),
        (BEARER, None, True),
        (BEARER, msgspec.structs.replace(ALICE, name="New", email="new@example.org"), False),
        (BEARER, msgspec.structs.replace(ALICE, disabled=True), True),
        (SESSION, msgspec.structs.replace(ALICE, disabled=True), True),
        (BEARER, msgspec.structs.replace(ALICE, signed_out_at=NOW - 1), False),
        (BEARER, msgspec.structs.replace(ALICE, signed_out_at=NOW), True),
        (SESSION, msgspec.structs.replace(ALICE, signed_out_at=NOW + 1), True),
        (BEARER, msgspec.structs.replace(ALICE, roles=frozenset({"admin"}), roles_at=NOW + 1), True),
        (BEARER, msgspec.structs.replace(ALICE, roles=frozenset({"admin"}), roles_at=NOW), True),
        # The socket's token is newer than what this report, late, says.
        (BEARER, msgspec.structs.replace(ALICE, roles=frozenset({"admin"}), roles_at=NOW - 1), False),
        (SESSION, msgspec.structs.replace(ALICE, roles=frozenset({"admin"}), roles_at=NOW - 1), True),
        (BEARER, msgspec.structs.replace(ALICE, groups=frozenset(), roles_at=NOW + 1), True),
        (SESSION, msgspec.structs.replace(ALICE, groups=frozenset({"desk", "art"})), True),
    ],
)
def test_a_live_connection_is_over_when_its_user_changed(
    identity: Identity, user: UserRecord | None, over: bool
) -> None:
    assert is_over(identity, user) == over
