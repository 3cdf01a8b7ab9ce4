"""One client's conversation over a socket: commands in, replies and pushes out. Knows nothing of the web framework."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from msgspec import UNSET

from app.allowance import PACE_SECONDS, Pace
from app.auth import Authenticator
from app.hub import Hub, Subscription
from app.joining import Joiner, Listener, Request
from app.permissions import Identity
from app.protocol import (
    MALFORMED_LIMIT,
    MALFORMED_WINDOW_SECONDS,
    MAX_MESSAGE_BYTES,
    MAX_TOPICS,
    PONG,
    BadCommand,
    CloseCode,
    Frame,
    Hello,
    Pong,
    Refresh,
    Subscribe,
    Subscribed,
    TokenExpiring,
    Unsubscribe,
    push,
    read_command,
    reply_error,
    reply_ok,
)
from models.errors import (
    Conflict,
    Forbidden,
    Internal,
    Invalid,
    Malformed,
    RateLimited,
    Refusal,
    TokenExpired,
    Unauthenticated,
    translate,
)
from models.fields import stamp

log = structlog.get_logger("copydesk.socket")

EXPIRY_NOTICE_SECONDS = 60.0
STEP_BYTES = 4096
"""A longer message counts as several: reading it takes as long."""


class Timer(Protocol):
    """A call that was put off and can be called off."""

    def cancel(self) -> None: ...


class Later(Protocol):
    """The event loop's `call_later`."""

    def __call__(self, delay: float, callback: Callable[[], Any], /) -> Timer: ...


class Conversation:
    """What a connected client said and is told. `listener` carries the frames and closes the connection."""

    def __init__(
        self,
        listener: Listener,
        *,
        connection_id: str,
        handshake: Identity | None,
        hub: Hub,
        joiner: Joiner,
        authenticator: Authenticator,
        ping_seconds: float,
        admit: Callable[[Identity], None],
        join: Callable[[str], None],
        refused: Callable[[Refusal], None],
        pace: Pace,
        later: Later,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`handshake`: who the handshake's bearer or cookie says it is.

        `admit` may refuse a user (`RateLimited`), and `join` one more topic to them; `refused` counts what is refused;
        `pace` is that of messages.
        """
        self.connection_id = connection_id
        self.identity: Identity | None = None
        self._listener, self._handshake = listener, handshake
        self._hub, self._joiner, self._authenticator = hub, joiner, authenticator
        self._ping_seconds, self._admit, self._refused, self._pace = ping_seconds, admit, refused, pace
        self._join = join
        self._later, self._clock, self._wall_clock = later, clock, wall_clock
        self._expiry: Expiry | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._bad_messages: list[float] = []
        """When the last ones came, as many as matter."""
        self._over = False

    @property
    def topics(self) -> list[str]:
        """What this client listens to, in any state."""
        return [topic for topic, subscription in self._subscriptions.items() if subscription.state != "left"]

    @property
    def all_live(self) -> bool:
        """Whether there are topics and none is still being joined: then one position holds for all of them.

        Without topics there is none. A client that has just come back would take it for the place where it left off.
        """
        states = {subscription.state for subscription in self._subscriptions.values()}
        return "live" in states and "joining" not in states

    def hear(self, message: str) -> Awaitable[None] | None:
        """One text message. Never raises; what is wrong with it is the client's to hear. None where all is done."""
        if self._over:
            return None
        too_fast = self._pace.take(1 + len(message) // STEP_BYTES)
        if too_fast > PACE_SECONDS:
            self.close(CloseCode.TRY_LATER, _too_many(too_fast))
            return None
        # Most of what idle clients say, and said in this way by most: not worth reading.
        if message == PONG and not too_fast:
            return None
        return self._work_off(message, too_fast)

    async def _work_off(self, message: str, too_fast: float) -> None:
        try:
            command = read_command(message)
        except BadCommand as problem:
            self._hear_nonsense(problem)
            return
        if too_fast:
            self._refuse(None if isinstance(command, Pong) else command.id, _too_many(too_fast))
            return
        if isinstance(command, Pong):
            return
        try:
            await self._carry_out(command)
        except Refusal as refusal:
            self._refuse(command.id, refusal)
        except Exception as error:
            # One client's fault must not be another's: it is told, and logged where it is ours.
            answer = translate(error)
            if answer is None:
                log.exception("command_failed", connection_id=self.connection_id)
                answer = Internal()
            self._refuse(command.id, answer)

    def end(self) -> None:
        """The connection is gone: stop listening. Fine to call twice."""
        self._over = True
        if self._expiry is not None:
            self._expiry.cancel()
        for subscription in self._subscriptions.values():
            self._hub.leave(subscription)
        self._subscriptions.clear()

    def close(self, code: CloseCode, refusal: Refusal | None = None) -> None:
        """Say why, then close."""
        if refusal is not None:
            self._refuse(None, refusal)
        self._over = True
        self._listener.leave(code)

    # -- commands -----------------------------------------------------------------------------------------------------

    async def _carry_out(self, command: Hello | Subscribe | Unsubscribe | Refresh) -> None:
        if isinstance(command, Hello):
            await self._hello(command)
            return
        if self.identity is None:
            self.close(CloseCode.UNAUTHENTICATED, Unauthenticated("Say hello first."))
            return
        match command:
            case Subscribe():
                self._subscribe(command, self.identity)
            case Unsubscribe():
                subscription = self._subscriptions.pop(command.topic, None)
                if subscription is not None:
                    self._hub.leave(subscription)
                self._listener.send(reply_ok(command.id, {}))
            case Refresh():
                await self._refresh(command, self.identity)

    async def _hello(self, command: Hello) -> None:
        if self.identity is not None:
            raise Conflict("You said hello already; who you are never changes on a socket.")
        try:
            identity = await self._identify(command)
            self._admit(identity)
        except (Unauthenticated, TokenExpired) as refusal:
            self._refuse(command.id, refusal)
            self.close(CloseCode.UNAUTHENTICATED, refusal)
            return
        except RateLimited as refusal:
            self._refuse(command.id, refusal)
            self.close(CloseCode.TRY_LATER, refusal)
            return
        if self._over:
            return
        self.identity = identity
        self._watch_expiry(identity)
        self._listener.send(
            reply_ok(
                command.id,
                {
                    "user": {"id": identity.user_id, "name": identity.name},
                    "session": self.connection_id,
                    "expires_at": _moment(identity.expires_at),
                    "ping_seconds": self._ping_seconds,
                    "limits": {"message_bytes": MAX_MESSAGE_BYTES, "topics": MAX_TOPICS},
                },
            )
        )

    async def _identify(self, command: Hello) -> Identity:
        if command.token is UNSET:
            if self._handshake is None:
                raise Unauthenticated("Send a token with hello.")
            # The handshake may be seconds old, and nobody closes a connection that has not said who it is.
            return await self._authenticator.confirm(self._handshake)
        identity = await self._authenticator.identify_token(str(command.token))
        # A token wins over a cookie, but a bearer in the handshake was a token already.
        shaken = self._handshake
        if shaken is not None and shaken.session_id is None and shaken.user_id != identity.user_id:
            raise Unauthenticated("The token in hello is another user's than the one in the handshake.")
        return identity

    def _subscribe(self, command: Subscribe, identity: Identity) -> None:
        old = self._subscriptions.get(command.topic)
        if old is None and len(self.topics) >= MAX_TOPICS:
            raise Invalid(f"One socket has at most {MAX_TOPICS} topics. Unsubscribe from one first.")
        self._join(identity.user_id)
        if old is not None:
            self._hub.leave(old)
        request = Request(topic=command.topic, since=command.since, snapshot=command.snapshot)

        def reply(answer: Subscribed | Refusal) -> None:
            frame = reply_error(command.id, answer) if isinstance(answer, Refusal) else reply_ok(command.id, answer)
            self._listener.send(frame)

        self._subscriptions = {topic: kept for topic, kept in self._subscriptions.items() if kept.state != "left"}
        self._subscriptions[command.topic] = self._joiner.join(self._listener, identity, request, reply)

    async def _refresh(self, command: Refresh, identity: Identity) -> None:
        fresh = await self._authenticator.identify_token(command.token)
        if self._over:
            return
        if fresh.user_id != identity.user_id:
            raise Forbidden("The token is another user's; open another socket for them.")
        if (fresh.roles, fresh.groups) != (identity.roles, identity.groups):
            # What this socket may see was decided with the old roles.
            refusal = Forbidden("Your roles have changed. Connect again.")
            self._refuse(command.id, refusal)
            self.close(CloseCode.ROLES_CHANGED, refusal)
            return
        self.identity = fresh
        self._watch_expiry(fresh)
        self._listener.send(reply_ok(command.id, {"expires_at": _moment(fresh.expires_at)}))

    # -- time and nonsense --------------------------------------------------------------------------------------------

    def _watch_expiry(self, identity: Identity) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = Expiry(
            identity.expires_at,
            announce=self._listener.send,
            expire=self._expire,
            later=self._later,
            wall_clock=self._wall_clock,
        )

    def _expire(self) -> None:
        self.close(CloseCode.TOKEN_EXPIRED, TokenExpired("Get a new token, then connect again."))

    def _refuse(self, command_id: int | None, refusal: Refusal) -> None:
        self._refused(refusal)
        self._listener.send(reply_error(command_id, refusal))

    def _hear_nonsense(self, problem: BadCommand) -> None:
        if not isinstance(problem.refusal, Malformed):
            self._refuse(problem.command_id, problem.refusal)
            return
        now = self._clock()
        self._bad_messages = [*self._bad_messages[1 - MALFORMED_LIMIT :], now]
        if len(self._bad_messages) == MALFORMED_LIMIT and now - self._bad_messages[0] <= MALFORMED_WINDOW_SECONDS:
            self.close(CloseCode.MALFORMED, problem.refusal)
        else:
            self._refuse(None, problem.refusal)


class Expiry:
    """Waits for the end of a token or session, and for the push `EXPIRY_NOTICE_SECONDS` before it."""

    __slots__ = ("_announce", "_expire", "_expires_at", "_later", "_timer", "_wall_clock")

    def __init__(
        self,
        expires_at: float,
        *,
        announce: Callable[[Frame], None],
        expire: Callable[[], None],
        later: Later,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`expires_at`: Unix time."""
        self._expires_at, self._announce, self._expire = expires_at, announce, expire
        self._later, self._wall_clock = later, wall_clock
        self._timer: Timer | None = None
        left = expires_at - wall_clock()
        # asyncio cannot put off for longer than its clock allows; a token of years does not need watching.
        if left <= 86_400 * 365:
            self._timer = later(max(0.0, left - EXPIRY_NOTICE_SECONDS), self._notice)

    def cancel(self) -> None:
        """Nothing expires any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _notice(self) -> None:
        self._timer = self._later(max(0.0, self._expires_at - self._wall_clock()), self._expire)
        self._announce(push(TokenExpiring(expires_at=_moment(self._expires_at))))


def _too_many(seconds: float) -> RateLimited:
    return RateLimited("Too many messages. Wait, then go on.", retry_after=1.0 + seconds)


def _moment(unix_time: float) -> str:
    return stamp(datetime.fromtimestamp(min(unix_time, 253402300799.0), UTC))
