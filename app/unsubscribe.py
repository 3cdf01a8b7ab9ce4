"""Links that switch e-mail off without a sign-in (RFC 8058): who, and which mail, under a MAC. Pure.

A link never expires: all that it can do is to stop mail that its owner got, and an old mail in an archive must still
be able to do so.
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal, get_args

import msgspec

from app.keys import Keys
from models.errors import NotFound
from models.fields import UserId
from models.mail import Frequency
from models.notification import NotificationType
from models.preferences import Preferences

Scope = NotificationType | Frequency | Literal["all"]
"""Which mail: of one type, or all that comes now, hourly or daily, or simply all."""

_MAC_BYTES = 16
_MAX_LENGTH = 250
_ALL = (*get_args(NotificationType), *get_args(Frequency), "all")


class _Content(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    user_id: UserId
    scope: str


class Unsubscriptions:
    """Makes and reads the tokens of such links. Equal secrets give equal tokens on every process."""

    def __init__(self, *, secrets: tuple[str, ...]) -> None:
        """The first secret signs, all of them are accepted."""
        self._keys = Keys(
            (secret.encode() for secret in secrets), purpose=b"copydesk unsubscribe 1", mac_bytes=_MAC_BYTES
        )

    def token(self, user_id: str, scope: Scope) -> str:
        """For a user and what to stop: at most 250 characters of the URL-safe base 64 alphabet."""
        body = msgspec.msgpack.encode(_Content(user_id, scope))
        return base64.urlsafe_b64encode(self._keys.mac(body) + body).rstrip(b"=").decode()

    def read(self, token: str) -> tuple[str, Scope]:
        """The user and what to stop. Raises `NotFound`, whatever `token` is."""
        if len(token) > _MAX_LENGTH:
            raise _unknown()
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            content = msgspec.msgpack.decode(raw[_MAC_BYTES:], type=_Content)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise _unknown() from None
        if not self._keys.made(raw[_MAC_BYTES:], raw[:_MAC_BYTES]):
            raise _unknown()
        if content.scope not in _ALL:
            raise _unknown()
        scope: Scope = content.scope  # type: ignore[assignment]  # one of them, as was just seen
        return content.user_id, scope


def stopped(preferences: Preferences, scope: Scope) -> list[NotificationType]:
    """The types of which mail comes now and, by what a link names, is to come no more."""
    return [
        kind
        for kind, chosen in preferences.types.items()
        if chosen.email != "off" and scope in ("all", kind, chosen.email)
    ]


def _unknown() -> NotFound:
    return NotFound("This link is not one of ours, or a part of it is missing. Open it from the mail again.")
