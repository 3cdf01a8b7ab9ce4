"""How often something may be tried, per key, in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from models.errors import RateLimited

PACE_SECONDS = 2.0
"""A client that paused may run ahead of its pace by so much."""
ROUNDING = 1e-9
"""Seconds. A clock's own error is nobody's haste."""
TRY_AGAIN = "Too many attempts. Wait, then try again."


class Allowance:
    """A number of attempts per key that fills up again with time; one bucket per key, the longest unused go first."""

    def __init__(
        self,
        attempts: int,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        capacity: int = 10_000,
        refusal: str = TRY_AGAIN,
    ) -> None:
        """`attempts` at once; one comes back every `seconds`. `refusal` is what who has none left is told."""
        self._attempts, self._seconds, self._clock, self._capacity = attempts, seconds, clock, capacity
        self._refusal = refusal
        # Per key the time at which all attempts will be there again (the generic cell rate algorithm).
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, amount: int = 1) -> None:
        """Use one attempt, or several. Raises `RateLimited` where they are not left; that costs nothing.

        More than there can ever be are let in where nothing has been used: what is allowed to be sent at all is sent.
        """
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now)
        wait = full_at + (min(amount, self._attempts) - self._attempts) * self._seconds - now
        if wait > ROUNDING:
            raise RateLimited(self._refusal, retry_after=wait)
        self._note(key, full_at + amount * self._seconds)

    def spend(self, key: str, amount: int) -> None:
        """Count what has happened already, allowed or not: the next attempt pays for it."""
        self._note(key, max(self._full_at.get(key, 0.0), self._clock()) + amount * self._seconds)

    def give_back(self, key: str) -> None:
        """The attempt was none: it succeeded, or was not carried out."""
        if key in self._full_at:
            self._full_at[key] -= self._seconds

    def left(self, key: str) -> tuple[int, float]:
        """How many attempts are left, and the seconds until all are there again."""
        full_in = max(0.0, self._full_at.get(key, 0.0) - self._clock())
        return max(0, int(self._attempts - full_in / self._seconds + 1e-6)), full_in

    def _note(self, key: str, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._capacity:
            self._full_at.popitem(last=False)


class Pace:
    """How fast one client may go on: so many steps a second, and those of `ahead` seconds at once after a pause."""

    __slots__ = ("_ahead", "_clock", "_full_at", "_seconds")

    def __init__(
        self, per_second: int, *, ahead: float = PACE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._ahead, self._clock = 1.0 / per_second, ahead, clock
        self._full_at = 0.0

    def take(self, steps: int = 1) -> float:
        """Count so many steps, allowed or not. Answers by how many seconds the client is too fast: 0 for not at all."""
        now = self._clock()
        self._full_at = max(self._full_at, now) + steps * self._seconds
        too_fast = self._full_at - now - self._ahead
        return too_fast if too_fast > ROUNDING else 0.0
