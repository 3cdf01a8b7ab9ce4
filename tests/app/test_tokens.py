"""Which tokens are accepted, and which are not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import unicodedata
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from app.settings import Settings, SettingsError
from app.tokens import Tokens, issue, read_jwks
from models.errors import TokenExpired, Unauthenticated

SECRET, PREVIOUS = "s" * 32, "p" * 32
NOW = 1_800_000_000.0
GOOD = {"sub": "alice", "aud": "copydesk", "exp": NOW + 60, "iat": NOW}

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def tokens(**changes: Any) -> Tokens:
    return Tokens(**{"secrets": [SECRET, PREVIOUS], "public_keys": {}, "clock": lambda: NOW, **changes})


def signed(claims: dict[str, Any], headers: dict[str, Any] | None = None, secret: str = SECRET) -> str:
    return jwt.encode(claims, secret, algorithm="HS256", headers=headers)


def raw(header: str, payload: str, secret: bytes = SECRET.encode()) -> str:
    """A token that no library would make, with a good signature."""
    parts = [base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in (header, payload)]
    message = b".".join(parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, message, "sha256")).rstrip(b"=")
    return (message + b"." + signature).decode()


def key_set(path: Path, *keys: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"keys": keys}))
    return path


def rsa_jwk(**changes: Any) -> dict[str, Any]:
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "rsa", **changes}


def ed_jwk(**changes: Any) -> dict[str, Any]:
    return {**jwt.algorithms.OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True), "kid": "ed", **changes}


@pytest.fixture
def with_keys(tmp_path: Path) -> Tokens:
    return tokens(public_keys=read_jwks(key_set(tmp_path / "jwks.json", rsa_jwk(), ed_jwk())))


def test_a_token_says_who_its_bearer_is() -> None:
    claims = tokens().verify(signed({**GOOD, "name": " Alice ", "email": "a@example.org", "roles": ["admin", "desk"]}))
    assert (claims.sub, claims.name, claims.email, claims.roles) == (
        "alice",
        "Alice",
        "a@example.org",
        ["admin", "desk"],
    )
    assert (claims.exp, claims.iat) == (NOW + 60, NOW)


def test_only_sub_exp_and_aud_are_needed() -> None:
    claims = tokens().verify(signed({"sub": "alice", "aud": ["other", "copydesk"], "exp": NOW + 1}))
    assert (claims.iat, claims.name, claims.email, claims.roles) == (None, None, None, [])


def test_what_we_issue_we_accept() -> None:
    token = issue(
        SECRET, sub="alice", roles=["admin"], ttl_seconds=5, name="Alice", email="a@example.org", now=NOW + 0.5
    )
    claims = tokens().verify(token)
    assert (claims.sub, claims.roles, claims.iat, claims.exp) == ("alice", ["admin"], NOW + 0.5, NOW + 5.5)


def test_the_previous_secret_is_still_accepted() -> None:
    assert tokens().verify(signed(GOOD, secret=PREVIOUS)).sub == "alice"
    with pytest.raises(Unauthenticated):
        tokens().verify(signed(GOOD, secret="x" * 32))


def test_secrets_keys_and_issuer_come_from_the_settings(tmp_path: Path) -> None:
    path = key_set(tmp_path / "jwks.json", rsa_jwk())
    settings = Settings(auth_secret=SECRET, auth_secret_previous=PREVIOUS, jwks_file=path, issuer="https://id.example")
    made = Tokens.from_settings(settings, clock=lambda: NOW)
    good = {**GOOD, "iss": "https://id.example"}
    for token in (
        signed(good),
        signed(good, secret=PREVIOUS),
        jwt.encode(good, RSA_KEY, "RS256", headers={"kid": "rsa"}),
    ):
        assert made.verify(token).sub == "alice"
    with pytest.raises(Unauthenticated):
        made.verify(signed(GOOD))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "HS384", "HS512", "RS512", "ES256", "", None, 5, ["HS256"]]
)
def test_other_algorithms_are_refused(with_keys: Tokens, algorithm: object) -> None:
    header = json.dumps({"alg": algorithm, "kid": "rsa"})
    for token in (raw(header, json.dumps(GOOD)), raw(header, json.dumps(GOOD)).rpartition(".")[0] + "."):
        with pytest.raises(Unauthenticated):
            with_keys.verify(token)


def test_public_keys_belong_to_their_own_algorithm(with_keys: Tokens) -> None:
    assert with_keys.verify(jwt.encode(GOOD, RSA_KEY, "RS256", headers={"kid": "rsa"})).sub == "alice"
    assert with_keys.verify(jwt.encode(GOOD, ED_KEY, "EdDSA", headers={"kid": "ed"})).sub == "alice"
    for key, algorithm, kid in ((RSA_KEY, "RS256", "ed"), (RSA_KEY, "PS256", "rsa"), (ED_KEY, "EdDSA", "rsa")):
        with pytest.raises(Unauthenticated):
            with_keys.verify(jwt.encode(GOOD, key, algorithm, headers={"kid": kid}))


def test_a_public_key_cannot_be_used_as_a_secret(with_keys: Tokens) -> None:
    public = RSA_KEY.public_key()
    for form in (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1):
        for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
            token = raw('{"alg":"HS256","kid":"rsa"}', json.dumps(GOOD), public.public_bytes(encoding, form))
            with pytest.raises(Unauthenticated):
                with_keys.verify(token)


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "https://evil.example/key", "' OR 1=1", "", "x" * 5000, None, 5, {"$ne": 1}]
)
def test_an_unknown_kid_is_refused(with_keys: Tokens, kid: object) -> None:
    token = jwt.encode(GOOD, RSA_KEY, "RS256", headers={"kid": "rsa"})
    header = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": kid}).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        with_keys.verify(f"{header}.{token.split('.', 1)[1]}")
    with pytest.raises(Unauthenticated):
        with_keys.verify(jwt.encode(GOOD, RSA_KEY, "RS256"))


@pytest.mark.parametrize("header", ["jku", "jwk", "x5u", "x5c", "crit", "b64"])
def test_a_token_that_brings_its_own_key_is_refused(with_keys: Tokens, header: str) -> None:
    for value in ("https://evil.example/keys", rsa_jwk(), ["exp"], True):
        with pytest.raises(Unauthenticated):
            with_keys.verify(raw(json.dumps({"alg": "HS256", header: value}), json.dumps(GOOD)))


def test_a_changed_token_is_refused() -> None:
    header, payload, signature = signed(GOOD).split(".")
    other = base64.urlsafe_b64encode(json.dumps({**GOOD, "sub": "bob"}).encode()).rstrip(b"=").decode()
    for token in (f"{header}.{other}.{signature}", f"{header}.{payload}.{signature[:-4]}AAAA", f"{header}.{payload}"):
        with pytest.raises(Unauthenticated):
            tokens().verify(token)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "Bearer", "é.é.é", "\ud800.a.b", "x" * 20_000, "a.b.c.d", "e30.e30.e30"]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(token)


@pytest.mark.parametrize(
    "payload", ["null", "[]", '"x"', "5", "{", "[" * 5000, '{"exp":' + "9" * 5000 + "}", '{"a":' * 1000, "\ud800"]
)
def test_a_signed_payload_that_is_no_object_of_claims_is_refused(payload: str) -> None:
    if payload == "\ud800":
        message = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (b'{"alg":"HS256"}', b"\xff\xfe"))
        signature = base64.urlsafe_b64encode(hmac.new(SECRET.encode(), message, hashlib.sha256).digest()).rstrip(b"=")
        token = (message + b"." + signature).decode()
    else:
        token = raw('{"alg":"HS256"}', payload)
    with pytest.raises(Unauthenticated):
        tokens().verify(token)


def test_deep_nesting_in_the_header_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(raw("[" * 5000, json.dumps(GOOD)))


@pytest.mark.parametrize(
    "exp", ["NaN", "Infinity", "-1", '"9e99"', f'"{NOW + 60}"', "null", "true", "1e300", "9e99", "[1]", "253402300800"]
)
def test_an_expiry_that_is_no_sane_number_is_refused(exp: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(raw('{"alg":"HS256"}', f'{{"sub":"alice","aud":"copydesk","exp":{exp}}}'))


def test_a_token_expires_with_a_minute_of_grace() -> None:
    assert tokens().verify(signed({**GOOD, "exp": NOW - 59})).sub == "alice"
    for exp in (NOW - 60, NOW - 61, 0):
        with pytest.raises(TokenExpired):
            tokens().verify(signed({**GOOD, "exp": exp}))


def test_a_token_from_the_future_is_refused() -> None:
    for claim in ("nbf", "iat"):
        assert tokens().verify(signed({**GOOD, claim: NOW + 60})).sub == "alice"
        with pytest.raises(Unauthenticated):
            tokens().verify(signed({**GOOD, claim: NOW + 61}))


@pytest.mark.parametrize("claim", ["sub", "exp", "aud"])
def test_a_required_claim_must_be_there(claim: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(signed({name: value for name, value in GOOD.items() if name != claim}))


@pytest.mark.parametrize(
    "aud", ["copydesk2", "copy", "COPYDESK", "", [], ["x"], {"copydesk": 1}, None, 5, ["copydesk", 5]]
)
def test_a_token_for_another_audience_is_refused(aud: object) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(raw('{"alg":"HS256"}', json.dumps({**GOOD, "aud": aud})))


@pytest.mark.parametrize(
    "iss", ["https://id.example/", "https://id", "id.example", "", None, ["https://id.example"], 5]
)
def test_the_issuer_is_compared_exactly(iss: object) -> None:
    strict = tokens(issuer="https://id.example")
    assert strict.verify(signed({**GOOD, "iss": "https://id.example"})).sub == "alice"
    for claims in ({**GOOD, "iss": iss}, GOOD):
        with pytest.raises(Unauthenticated):
            strict.verify(raw('{"alg":"HS256"}', json.dumps(claims)))


@pytest.mark.parametrize("sub", ["", "a b", "a/b", "alice\n", "x" * 65, "ålice", "$ne", None, 5, {"$ne": None}])
def test_a_sub_that_is_no_user_id_is_refused(sub: object) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(raw('{"alg":"HS256"}', json.dumps({**GOOD, "sub": sub})))


@pytest.mark.parametrize("roles", ["admin", {"admin": 1}, [1], [None], [["admin"]], 5])
def test_roles_are_a_list_of_strings(roles: object) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(raw('{"alg":"HS256"}', json.dumps({**GOOD, "roles": roles})))


def test_groups_that_no_project_can_name_are_left_out() -> None:
    claims = tokens().verify(signed({**GOOD, "roles": ["desk", "", " ", "x" * 256, "nul\0", "editor", "line\n"]}))
    assert claims.roles == ["desk", "editor"]


def test_groups_have_the_names_that_directories_give_them() -> None:
    names = ["Web Editors", "/desk/förlag", "CN=Press,OU=Städte", "x" * 255]
    claims = tokens().verify(signed({**GOOD, "roles": [unicodedata.normalize("NFD", name) for name in names]}))
    assert claims.roles == names


def test_a_group_with_half_a_character_is_left_out() -> None:
    claims = tokens().verify(raw('{"alg":"HS256"}', json.dumps({**GOOD, "roles": ["\ud800", "desk"]})))
    assert claims.roles == ["desk"]


@pytest.mark.parametrize("name", ["", "  ", "x" * 256, "a\0b", "\ud800"])
def test_a_name_that_cannot_be_kept_does_not_lock_anyone_out(name: str) -> None:
    claims = tokens().verify(raw('{"alg":"HS256"}', json.dumps({**GOOD, "name": name, "email": f"{name}@"})))
    assert (claims.name, claims.email) == (None, None)


@pytest.mark.parametrize("typ", ["refresh+jwt", "rt+jwt", "logout+jwt", "id_token", "secevent+jwt", "dpop+jwt", 5])
def test_a_token_of_another_type_is_refused(typ: object) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(raw(json.dumps({"alg": "HS256", "typ": typ}), json.dumps(GOOD)))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_access_tokens_are_accepted_under_all_their_names(typ: str) -> None:
    assert tokens().verify(signed(GOOD, headers={"typ": typ})).sub == "alice"


@pytest.mark.parametrize(
    "said",
    [
        {"token_use": "id"},
        {"token_use": "refresh"},
        {"typ": "Refresh"},
        {"typ": "ID"},
        {"typ": "Offline"},
        {"token_type": "refresh"},
        {"typ": None},
        {"nonce": "n"},
        {"at_hash": "x"},
        {"c_hash": "x"},
    ],
)
def test_refresh_and_id_tokens_are_no_access_tokens(said: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        tokens().verify(signed({**GOOD, **said}))


@pytest.mark.parametrize("said", [{"token_use": "access"}, {"typ": "Bearer", "nonce": "n"}, {"token_type": "access"}])
def test_tokens_that_say_they_are_access_tokens_are_accepted(said: dict[str, Any]) -> None:
    assert tokens().verify(signed({**GOOD, **said})).sub == "alice"


def test_keys_for_other_purposes_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    others = [rsa_jwk(kid="enc", use="enc"), rsa_jwk(kid="ps", alg="PS256"), {"kty": "EC", "kid": "ec", "crv": "P-256"}]
    assert set(read_jwks(key_set(path, *others, rsa_jwk(use="sig", alg="RS256"), ed_jwk(alg="EdDSA")))) == {"rsa", "ed"}
    with pytest.raises(SettingsError, match="holds no key"):
        read_jwks(key_set(path, *others))


def test_a_key_set_that_cannot_be_trusted_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 - to be refused
    for message, keys in {
        "secret or private": [{"kty": "oct", "kid": "x", "k": "c2VjcmV0"}],
        "or private key": [jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True) | {"kid": "x"}],
        "two keys": [rsa_jwk(), rsa_jwk()],
        "shorter than 2048": [{**jwt.algorithms.RSAAlgorithm.to_jwk(short, as_dict=True), "kid": "short"}],
        "no usable": [{"kty": "RSA", "kid": "x", "n": "!", "e": "AQAB"}],
        "KeyError": [{key: value for key, value in rsa_jwk().items() if key != "kid"}],
    }.items():
        with pytest.raises(SettingsError, match=message):
            read_jwks(key_set(path, *keys))
    for text in ("", "[]", '{"keys": 5}', "\xff", '{"keys": ["x"]}'):
        path.write_text(text)
        with pytest.raises(SettingsError, match=r"jwks\.json"):
            read_jwks(path)
    with pytest.raises(SettingsError, match="absent"):
        read_jwks(tmp_path / "absent.json")
