"""Who is calling: tokens and sessions in, `Identity` out."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from tornado.httputil import HTTPServerRequest

from app.forwarded import Proxies
from app.guesses import Guesses
from app.passwords import Passwords
from app.permissions import Identity, split_roles
from app.remembered import Remembered
from app.tokens import Claims, Tokens
from models.errors import Busy, Unauthenticated
from models.session import Session, SessionStore, session_id
from models.user import UserRecord, UserStore

COOKIE = "copydesk_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Browsers let only this very host set a cookie of such a name, and only over TLS (RFC 6265bis, 4.1.3.2)."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a request proves about its sender."""

    identity: Identity | None = None
    by_cookie: bool = False
    """Whether the identity comes from a cookie, which a browser sends along even where another site made it ask."""


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A new session: its token, for the cookie and nothing else, and its identity."""

    token: str
    identity: Identity


class Authenticator:
    """Answers for every request and socket; one per process.

    What decides about users and sessions is remembered until the feed reports a change of it.
    """

    def __init__(
        self,
        *,
        tokens: Tokens,
        users: UserStore,
        sessions: SessionStore,
        proxies: Proxies,
        passwords: Passwords,
        guesses: Guesses,
        trusted: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`trusted` says whether the feed is current; while it is not, nothing remembered is believed."""
        self.proxies = proxies
        self._tokens, self._user_store, self._session_store = tokens, users, sessions
        self._passwords, self._guesses, self._clock = passwords, guesses, clock
        self._users: Remembered[UserRecord] = Remembered(users.get, trusted=trusted)
        self._sessions: Remembered[Session] = Remembered(sessions.get, trusted=trusted)

    async def identify(self, request: HTTPServerRequest) -> Credentials:
        """Who sent the request; nobody where it has no credentials, or a session that is over.

        A bearer token wins over a cookie. A bad one raises `Unauthenticated` or `TokenExpired`, though there be a good
        cookie beside it: whoever sends a token means it.
        """
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        # Other schemes are not ours: a proxy may ask for a password of its own.
        if scheme.lower() == "bearer":
            return Credentials(identity=await self.identify_token(token.strip()))
        identity = await self._identify_session(request)
        return Credentials(identity=identity, by_cookie=identity is not None)

    async def identify_token(self, token: str) -> Identity:
        """Whose token it is. Raises `Unauthenticated` or `TokenExpired`.

        The token decides about its own request or socket; what it says about the user is kept for everybody else.
        """
        claims = self._tokens.verify(token)
        issued_at = claims.iat or 0.0
        user = await self._users.get(claims.sub)
        if user is None or (not user.refuses(issued_at) and _says_something_new(claims, user)):
            user = await self._users.renew(claims.sub, lambda: self._keep(claims, issued_at))
        if user is None:
            raise Unauthenticated("Your account cannot be read. Tell the operator.")
        if user.refuses(issued_at):
            raise Unauthenticated("This user is disabled, or has signed out since the token was issued.")
        roles, groups = split_roles(claims.roles or ())
        return Identity(
            user_id=claims.sub,
            name=claims.name or user.name,
            email=claims.email or user.email,
            roles=roles,
            groups=groups,
            expires_at=claims.exp,
            issued_at=issued_at,
        )

    async def confirm(self, identity: Identity) -> Identity:
        """What was proved a while ago, as it is now: a session has the roles of its user. Raises `Unauthenticated`."""
        id = identity.session_id  # noqa: A001 - the field's name
        session = None if id is None else await self._sessions.get(id)
        user = await self._users.get(identity.user_id)
        if (id is not None and session is None) or user is None or user.refuses(identity.issued_at):
            raise Unauthenticated("You have been signed out or disabled. Sign in again.")
        return identity if session is None else _session_identity(session, user)

    async def still_holds(self, identity: Identity) -> bool:
        """Whether somebody who is connected now may stay.

        To be asked once they are known to `Connections`. Before that, the end of what they had proved was told to
        nobody; after it, their connection is closed. Roles of a token are its own: it may come again with them, so
        that to close it here for what was said of its user since would go on for ever.
        """
        try:
            now = await self.confirm(identity)
        except Unauthenticated:
            return False
        return (now.roles, now.groups) == (identity.roles, identity.groups)

    async def has_ended(self, identity: Identity) -> bool:
        """Whether live connections of this identity are to be closed, as the database says now."""
        session = identity.session_id
        if session is not None and await self._sessions.get(session) is None:
            return True
        user = await self._users.get(identity.user_id)
        # A token makes its user known again, so that it is good without one.
        return is_over(identity, user) if user is not None else session is not None

    async def sign_in(self, username: str, password: str, *, address: str) -> SignedIn:
        """Start a session. Raises `Unauthenticated`, the same for every cause, `RateLimited` or `Busy`."""
        self._guesses.take(username, address)
        found = await self._user_store.password(username)
        user, hashed = found if found is not None else (None, None)
        try:
            right = await self._passwords.verify(hashed, password)
        except Busy:
            self._guesses.give_back(username, address)
            raise
        if user is None or user.disabled or not right:
            raise Unauthenticated("The user name or the password is wrong.")
        self._guesses.give_back(username, address)
        token, session = await self._session_store.create(user.user_id, not_before=user.signed_out_at)
        return SignedIn(token=token, identity=_session_identity(session, user))

    async def sign_out(self, identity: Identity, *, everywhere: bool) -> None:
        """End the caller's session, or all of their sessions and tokens. A single token lives until it expires."""
        if everywhere:
            await self.sign_out_user(identity.user_id, by=identity.user_id)
        elif identity.session_id is not None:
            await self._session_store.delete(identity.session_id)
            self.forget_session(identity.session_id)

    async def sign_out_user(self, user_id: str, *, by: str) -> None:
        """End all sessions and tokens of a user. Raises `NotFound`."""
        await self._user_store.sign_out_everywhere(user_id, by=by)
        self.forget_user(user_id)
        await self._session_store.delete_all(user_id)

    def forget_user(self, user_id: str) -> None:
        """The user's document changed."""
        self._users.forget(user_id)

    def forget_session(self, id: str) -> None:  # noqa: A002 - the field's name
        """The session's document changed or is gone."""
        self._sessions.forget(id)

    def forget_all(self) -> None:
        """Nothing is known any more: the feed lost its place."""
        self._users.forget_all()
        self._sessions.forget_all()

    async def _keep(self, claims: Claims, issued_at: float) -> UserRecord | None:
        roles, groups = split_roles(claims.roles or ())
        return await self._user_store.seen(
            claims.sub, name=claims.name, email=claims.email, roles=roles, groups=groups, issued_at=issued_at
        )

    async def _identify_session(self, request: HTTPServerRequest) -> Identity | None:
        if "Cookie" not in request.headers:
            return None
        cookie = request.cookies.get(cookie_name(secure=self.proxies.origin(request).scheme == "https"))
        if cookie is None:
            return None
        session = await self._sessions.get(session_id(cookie.value))
        if session is None or session.expires_at <= self._clock():
            return None
        user = await self._users.get(session.user_id)
        if user is None or user.refuses(session.created_at):
            return None
        touched = await self._touch(session)
        return None if touched is None else _session_identity(touched, user)

    async def _touch(self, session: Session) -> Session | None:
        if not self._session_store.is_due(session):
            return session  # as it was read a moment ago: not to be remembered, for it may have ended since
        return await self._sessions.renew(session.id, lambda: self._session_store.touch(session))


def cookie_name(*, secure: bool) -> str:
    """The name of the session cookie, by whether the browser speaks TLS."""
    return SECURE_COOKIE if secure else COOKIE


def is_over(identity: Identity, user: UserRecord | None) -> bool:
    """Whether what `users` now says about the caller ends their live connections (close code 4102)."""
    if user is None or user.refuses(identity.issued_at):
        return True
    # A session has no roles of its own. A token has, and only what was said after it was issued can overrule it.
    overruled = identity.session_id is not None or user.roles_at >= identity.issued_at
    return overruled and (user.roles != identity.roles or user.groups != identity.groups)


def _says_something_new(claims: Claims, user: UserRecord) -> bool:
    if (claims.iat or 0.0) < user.roles_at:
        return False
    roles, groups = split_roles(claims.roles or ())
    return (
        roles != user.roles
        or groups != user.groups
        or (claims.name is not None and claims.name != user.name)
        or (claims.email is not None and claims.email != user.email)
    )


def _session_identity(session: Session, user: UserRecord) -> Identity:
    return Identity(
        user_id=user.user_id,
        name=user.name,
        email=user.email,
        roles=user.roles,
        groups=user.groups,
        expires_at=session.expires_at,
        session_id=session.id,
        issued_at=session.created_at,
    )
