"""Passwords: hashed with argon2id, off the event loop, and never faster for an unknown user than for a known one."""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from models.errors import Busy

MAX_WAITING = 32
"""Sign-ins that may wait for a thread; one hash takes 64 MiB and about 0.1 s of processor time."""

# RFC 9106, section 4, the second recommended option. Stated here because `_NOBODY` must have the same.
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4, hash_len=32, salt_len=16, type=Type.ID)
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$M6Hwbb0zRJn64fn0VHuQng$7Yn2QEaQR7mdrcuk27m7BVefiYFdpdgs0fL+E75M4vg"
"""What an unknown user's password is compared with, so that the answer takes as long and tells nothing."""


class Passwords:
    """Hashes and compares in threads of its own: the loop goes on, and the memory is bounded."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="passwords")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash to keep of a password."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _HASHER.hash, _bytes(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed; None stands for a user who has none. Raises `Busy`."""
        if self._waiting >= MAX_WAITING:
            raise Busy("Too many people are signing in at this moment. Try again shortly.")
        self._waiting += 1
        try:
            matches = await asyncio.get_running_loop().run_in_executor(
                self._threads, _matches, _NOBODY if hashed is None else hashed, password
            )
        finally:
            self._waiting -= 1
        return matches and hashed is not None

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)


def _matches(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    # The same text can be typed composed or decomposed, depending on the keyboard.
    return unicodedata.normalize("NFC", password).encode("utf-8")
