"""JSON Web Tokens: which keys may have signed one, and what it must say (RFC 7519, RFC 8725, RFC 9068). Pure.

The algorithm belongs to the key, never to the token: the shared secrets are for HS256 only, the keys of the JWKS file
for RS256 and EdDSA only, so a public key can never be taken for a secret. A token that brings or points to a key of its
own is refused, and nothing is ever fetched.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Meta

from app.settings import Settings, SettingsError
from models.errors import TokenExpired, Unauthenticated
from models.fields import GroupName, Name, UserId
from models.user import Email

T = TypeVar("T")

AUDIENCE = "copydesk"
LEEWAY_SECONDS = 60
MAX_TOKEN_LENGTH = 16 * 1024

# `exp` up to the year 9999: later ones cannot be shown as a date, and no sane issuer makes them.
NumericDate = Annotated[float, Meta(ge=0, lt=253_402_300_800)]

_KEY_BRINGERS = ("jku", "jwk", "x5u", "x5c", "crit", "b64")
_ACCESS_HEADER_TYPES = ("jwt", "at+jwt", "application/at+jwt")
_ACCESS_KINDS = ("access", "access_token", "at+jwt", "bearer", "jwt")
_KIND_CLAIMS = ("token_use", "token_type", "typ")
"""Where issuers say what a token is for: Amazon Cognito, several libraries, Keycloak."""
_ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash")
"""OpenID Connect Core, 2 and 3.1.3.6: an ID token tells a client who signed in; it is no key to an API."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says that concerns us."""

    sub: UserId
    exp: NumericDate
    aud: str | list[str]
    iat: NumericDate | None = None
    nbf: NumericDate | None = None
    iss: str | None = None
    name: str | None = None
    email: str | None = None
    roles: list[str] | None = None


class Tokens:
    """Checks tokens against the keys of this server."""

    def __init__(
        self,
        *,
        secrets: Iterable[str],
        public_keys: Mapping[str, jwt.PyJWK],
        issuer: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`secrets`: any of them may have signed with HS256. `public_keys`: by `kid`, see `read_jwks`."""
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._public_keys, self._issuer, self._clock = dict(public_keys), issuer, clock
        self._jws = jwt.PyJWS()

    @classmethod
    def from_settings(cls, settings: Settings, *, clock: Callable[[], float] = time.time) -> Tokens:
        """Raises `SettingsError` where the JWKS file cannot be used."""
        secrets = (settings.auth_secret, settings.auth_secret_previous)
        return cls(
            secrets=[secret for secret in secrets if secret],
            public_keys=read_jwks(settings.jwks_file) if settings.jwks_file is not None else {},
            issuer=settings.issuer,
            clock=clock,
        )

    def verify(self, token: str) -> Claims:
        """The claims of a good token, `name`, `email` and `roles` fit to be kept.

        Raises `Unauthenticated` or `TokenExpired`.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            payload = json.loads(self._verified(token, header))
            claims = msgspec.convert(payload, Claims)
        except msgspec.ValidationError as problem:
            raise Unauthenticated(f"The token's claims do not fit: {problem}.") from None
        # Deeply nested JSON ends in a RecursionError, numbers of thousands of digits in a ValueError.
        except (jwt.PyJWTError, RecursionError, ValueError):
            raise Unauthenticated("This is no token that this server accepts.") from None
        _check_kind(header, payload)
        self._check(claims)
        return msgspec.structs.replace(
            claims,
            name=_fit(claims.name and _normal(claims.name.strip()), Name),
            email=_fit(claims.email, Email),
            # In the normal form that members are stored in. What cannot be named there gives nothing.
            roles=[role for text in claims.roles or () if (role := _fit(_normal(text), GroupName)) is not None],
        )

    def _verified(self, token: str, header: Mapping[str, Any]) -> bytes:
        """The payload, once a key that belongs to the algorithm has been found to fit."""
        if any(name in header for name in _KEY_BRINGERS):
            raise jwt.InvalidTokenError
        algorithm = header.get("alg")
        if algorithm == "HS256":
            for secret in self._secrets[:-1]:
                try:
                    return self._payload(token, secret, "HS256")
                except jwt.InvalidSignatureError:
                    continue
            return self._payload(token, self._secrets[-1], "HS256")
        key = self._public_keys.get(header.get("kid", ""))
        if key is None or algorithm != key.algorithm_name:
            raise jwt.InvalidKeyError
        return self._payload(token, key, key.algorithm_name)

    def _payload(self, token: str, key: bytes | jwt.PyJWK, algorithm: str) -> bytes:
        payload = self._jws.decode_complete(token, key, algorithms=[algorithm])["payload"]
        assert isinstance(payload, bytes)  # noqa: S101 - narrows a type that PyJWT leaves open
        return payload

    def _check(self, claims: Claims) -> None:
        now = self._clock()
        if claims.exp + LEEWAY_SECONDS <= now:
            raise TokenExpired
        # A token from the future would outlive the next sign-out everywhere.
        for name, moment in (("nbf", claims.nbf), ("iat", claims.iat)):
            if moment is not None and moment - LEEWAY_SECONDS > now:
                raise Unauthenticated(f"The token is not valid yet ({name}).")
        if AUDIENCE not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise Unauthenticated(f"The token is not meant for this server: aud must be {AUDIENCE!r}.")
        if self._issuer is not None and claims.iss != self._issuer:
            raise Unauthenticated("The token is from another issuer (iss).")


def issue(
    secret: str,
    *,
    sub: str,
    roles: Iterable[str] = (),
    ttl_seconds: float,
    name: str | None = None,
    email: str | None = None,
    now: float | None = None,
) -> str:
    """A token signed with HS256. Raises `msgspec.ValidationError` where `sub` cannot be a user id.

    `iat` has milliseconds, as the sign-outs that it is compared with: a token made right after one is newer than it.
    """
    issued_at = int((time.time() if now is None else now) * 1000) / 1000
    claims: dict[str, Any] = {
        "sub": msgspec.convert(sub, UserId),
        "aud": AUDIENCE,
        "iat": issued_at,
        "exp": issued_at + ttl_seconds,
        "roles": list(roles),
    }
    claims |= {key: value for key, value in (("name", name), ("email", email)) if value is not None}
    return jwt.encode(claims, secret, algorithm="HS256")


def read_jwks(path: Path) -> dict[str, jwt.PyJWK]:
    """The RS256 and EdDSA keys of a JSON Web Key Set, by `kid`. Raises `SettingsError`.

    Keys for other algorithms or for encryption are passed over, for an issuer's set may hold them as well; secrets are
    an error, because whoever can read such a file could sign.
    """
    keys: dict[str, jwt.PyJWK] = {}
    try:
        entries = json.loads(path.read_bytes())["keys"]
        for entry in entries:
            if entry["kty"] == "oct" or "d" in entry:
                raise SettingsError(f"{path} holds a secret or private key; only public keys belong into it.")
            algorithm = {"RSA": "RS256", "OKP": "EdDSA"}.get(entry["kty"])
            if algorithm is None or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
                continue
            if entry["kid"] in keys:
                raise SettingsError(f"{path} has two keys with the kid {entry['kid']!r}.")
            key = jwt.PyJWK(entry, algorithm)
            if isinstance(key.key, RSAPublicKey) and key.key.key_size < 2048:
                raise SettingsError(f"{path}: the RSA key {entry['kid']!r} is shorter than 2048 bits.")
            keys[entry["kid"]] = key
    except (OSError, ValueError, TypeError, KeyError, jwt.PyJWTError) as problem:
        raise SettingsError(f"{path} is no usable JSON Web Key Set: {type(problem).__name__}: {problem}") from None
    if not keys:
        raise SettingsError(f"{path} holds no key for RS256 or EdDSA.")
    return keys


def _check_kind(header: Mapping[str, Any], payload: Mapping[str, Any]) -> None:
    """Refuse what is signed with the right key for another purpose: refresh, ID and logout tokens (RFC 8725, 3.11)."""
    header_type = str(header.get("typ", "jwt")).lower()
    kinds = [str(payload[claim]).lower() for claim in _KIND_CLAIMS if claim in payload]
    said_to_be_access = header_type != "jwt" or bool(kinds)
    if header_type not in _ACCESS_HEADER_TYPES or any(kind not in _ACCESS_KINDS for kind in kinds):
        raise Unauthenticated("This is no access token.")
    if not said_to_be_access and any(claim in payload for claim in _ID_TOKEN_CLAIMS):
        raise Unauthenticated("This is an ID token, not an access token.")


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _fit(text: str | None, shape: Any) -> str | None:
    """The text where it can be kept, else None: an odd name is no reason to lock its bearer out."""
    try:
        fitting: str = msgspec.convert(text, shape)
        fitting.encode("utf-8")
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
    return None if "\0" in fitting else fitting
