"""Signing in and out, and who one is: `/session`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta

from app.auth import COOKIE, SECURE_COOKIE, cookie_name
from app.permissions import Action, Identity
from handlers.base import ApiHandler, Operation, Query
from models.errors import Busy, CrossOrigin, RateLimited
from models.fields import Timestamp, stamp
from models.user import User

Text = Annotated[str, Meta(min_length=1, max_length=1024)]


class SignIn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A user's name and password."""

    username: Text
    password: Text


class SessionInfo(msgspec.Struct, kw_only=True):
    """Who the caller is, for how long, and as what."""

    user: User
    expires_at: Timestamp
    roles: Annotated[list[str], Meta(description="Instance roles and groups, as in a token's `roles`.")]


class SessionHandler(ApiHandler):
    """POST, GET and DELETE /api/v1/session"""

    route = "/api/v1/session"
    operations: ClassVar[Mapping[str, Operation]] = {
        "POST": Operation(
            summary="Sign in with a password. The answer sets the session's cookie.",
            action=Action.ANYONE,
            body=SignIn,
            answer=SessionInfo,
            status=201,
            refusals=(RateLimited, Busy),
        ),
        "GET": Operation(summary="Who the caller is.", action=Action.SIGNED_IN, answer=SessionInfo),
        "DELETE": Operation(
            summary="Sign out. A bearer token lives until it expires, unless everything is signed out.",
            action=Action.SIGNED_IN,
            query=(Query(name="everywhere", shape=bool, summary="End all sessions and tokens of the caller."),),
            status=204,
        ),
    }

    async def post(self) -> None:
        self._refuse_other_sites()
        wanted = self.read(SignIn)
        authenticator = self.edge.authenticator
        origin = self.origin
        signed_in = await authenticator.sign_in(wanted.username, wanted.password, address=origin.address)
        if self.identity is not None and self.identity.session_id is not None:
            await authenticator.sign_out(self.identity, everywhere=False)
        secure = origin.scheme == "https"
        self.set_cookie(
            cookie_name(secure=secure),
            signed_in.token,
            max_age=self.edge.settings.session_max_seconds,
            path="/",
            secure=secure,
            httponly=True,
            samesite="Lax",
        )
        self.reply(_info(signed_in.identity), status=201, location=self.route)

    async def get(self) -> None:
        self.reply(_info(self.caller))

    async def delete(self) -> None:
        await self.edge.authenticator.sign_out(self.caller, everywhere=self.query("everywhere", default=False))
        for name in {COOKIE, SECURE_COOKIE} & set(self.request.cookies):
            self.clear_cookie(name, path="/", secure=name == SECURE_COOKIE, httponly=True, samesite="Lax")
        self.reply()

    def _refuse_other_sites(self) -> None:
        """Another site must not sign its visitor in as somebody of its choice; programs send neither header."""
        if {"Origin", "Sec-Fetch-Site"} & set(self.request.headers) and not self.is_of_own_page():
            raise CrossOrigin("Sign in on this server's own pages.")


def _info(identity: Identity) -> SessionInfo:
    return SessionInfo(
        user=User(id=identity.user_id, name=identity.name, email=identity.email or UNSET),
        expires_at=stamp(datetime.fromtimestamp(identity.expires_at, UTC)),
        roles=[*sorted(identity.roles), *sorted(identity.groups)],
    )
