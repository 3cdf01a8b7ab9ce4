"""How often something may be tried, per key, in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from models.errors import RateLimited


class Allowance:
    """A number of attempts per key that fills up again with time; one bucket per key, the longest unused go first."""

    def __init__(
        self, attempts: int, seconds: float, *, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000
    ) -> None:
        """`attempts` at once; one comes back every `seconds`."""
        self._attempts, self._seconds, self._clock, self._capacity = attempts, seconds, clock, capacity
        # Per key the time at which all attempts will be there again (the generic cell rate algorithm).
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> None:
        """Use one attempt. Raises `RateLimited` where none is left; that costs nothing."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._seconds
        wait = full_at - now - self._attempts * self._seconds
        if wait > 0:
            raise RateLimited("Too many attempts. Wait, then try again.", retry_after=wait)
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._capacity:
            self._full_at.popitem(last=False)

    def give_back(self, key: str) -> None:
        """The attempt was none: it succeeded, or was not carried out."""
        if key in self._full_at:
            self._full_at[key] -= self._seconds
