"""What makes our own texts recognisable: a MAC under keys that follow from the server's secrets. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable


class Keys:
    """The keys of one purpose, so that what was made for one is not taken for another.

    The first secret signs, all of them are accepted: one can be replaced while what it signed is still about. Equal
    secrets give equal MACs on every process.
    """

    def __init__(self, secrets: Iterable[bytes], *, purpose: bytes, mac_bytes: int) -> None:
        self._keys = tuple(hmac.digest(secret, purpose, "sha256") for secret in secrets)
        self._mac_bytes = mac_bytes

    def mac(self, body: bytes) -> bytes:
        """The `mac_bytes` bytes that stand for who made `body`."""
        return self._mac(self._keys[0], body)

    def made(self, body: bytes, mac: bytes) -> bool:
        """Whether one of the secrets made it; takes as long whether nearly right or not at all."""
        return any(hmac.compare_digest(mac, self._mac(key, body)) for key in self._keys)

    def _mac(self, key: bytes, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=key, digest_size=self._mac_bytes).digest()
