"""Sessions in MongoDB: how they begin, last and end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from models import schema
from models.session import SessionStore, session_id

# In the future, so that MongoDB does not remove what has not expired by the clock of the test.
NOON = datetime(2100, 3, 1, 12, tzinfo=UTC)
NEVER = float("-inf")
HOUR, DAY = 3600.0, 86_400.0


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(io_loop: IOLoop, database: Any, clock: Clock) -> SessionStore:
    io_loop.run_sync(lambda: schema.apply(database))
    return SessionStore(database, idle_seconds=12 * HOUR, max_seconds=7 * DAY, now=clock)


async def test_a_session_is_found_by_its_token_which_is_kept_nowhere(
    sessions: SessionStore, plain_database: Any
) -> None:
    token, session = await sessions.create("alice", not_before=NEVER)
    assert await sessions.get(session_id(token)) == session
    assert (session.user_id, session.created_at) == ("alice", NOON.timestamp())
    assert session.expires_at == NOON.timestamp() + 12 * HOUR
    assert token not in str(plain_database.sessions.find_one())
    assert len(token) >= 43
    assert await sessions.get(token) is None


async def test_every_session_has_a_token_of_its_own(sessions: SessionStore) -> None:
    tokens = {(await sessions.create("alice", not_before=NEVER))[0] for _ in range(20)}
    assert len(tokens) == 20


async def test_an_unused_session_ends(sessions: SessionStore, clock: Clock) -> None:
    token, session = await sessions.create("alice", not_before=NEVER)
    clock.forward(12 * HOUR - 1)
    assert await sessions.get(session_id(token)) is not None
    clock.forward(1)
    assert await sessions.get(session_id(token)) is None
    assert await sessions.touch(session) is None


async def test_a_used_session_lasts_until_its_greatest_age(sessions: SessionStore, clock: Clock) -> None:
    token, session = await sessions.create("alice", not_before=NEVER)
    for _ in range(13):
        clock.forward(12 * HOUR - 1)
        touched = await sessions.touch(session)
        assert touched is not None
        session = touched
        assert await sessions.get(session_id(token)) == session
    clock.forward(HOUR)
    touched = await sessions.touch(session)
    assert touched is not None
    assert touched.expires_at == NOON.timestamp() + 7 * DAY
    clock.forward(11 * HOUR + 13)
    assert await sessions.get(session_id(token)) is None


async def test_uses_in_quick_succession_are_written_once(
    sessions: SessionStore, clock: Clock, plain_database: Any
) -> None:
    token, session = await sessions.create("alice", not_before=NEVER)
    before = plain_database.sessions.find_one()
    clock.forward(sessions.touch_seconds - 1)
    assert await sessions.touch(session) is session
    assert plain_database.sessions.find_one() == before
    clock.forward(1)
    touched = await sessions.touch(session)
    assert touched is not None
    assert touched.touched_at == clock.now.timestamp()
    assert await sessions.get(session_id(token)) == touched


async def test_a_session_that_was_ended_elsewhere_is_not_revived_by_its_use(
    sessions: SessionStore, clock: Clock
) -> None:
    token, session = await sessions.create("alice", not_before=NEVER)
    await sessions.delete(session.id)
    clock.forward(HOUR)
    assert await sessions.touch(session) is None
    assert await sessions.get(session_id(token)) is None
    await sessions.delete(session.id)


async def test_all_sessions_of_one_user_end_and_nobody_elses(sessions: SessionStore) -> None:
    alices = [(await sessions.create("alice", not_before=NEVER))[1] for _ in range(3)]
    _, bobs = await sessions.create("bob", not_before=NEVER)
    await sessions.delete_all("alice")
    assert [await sessions.get(session.id) for session in alices] == [None] * 3
    assert await sessions.get(bobs.id) == bobs


async def test_a_session_counts_as_newer_than_the_sign_out_before_it(sessions: SessionStore) -> None:
    for signed_out_at in (NOON.timestamp(), NOON.timestamp() + 1.5):
        _, session = await sessions.create("alice", not_before=signed_out_at)
        assert session.created_at > signed_out_at
        assert await sessions.get(session.id) == session


def test_any_text_of_a_cookie_can_be_looked_up() -> None:
    assert len({session_id(text) for text in ("", "a", "\udcff", "é", "x" * 10_000)}) == 5
