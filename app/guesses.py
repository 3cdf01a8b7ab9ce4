"""How often somebody may guess a password: per account and per address, in the memory of one process."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from models.errors import RateLimited

ACCOUNT_GUESSES, ACCOUNT_SECONDS = 10, 30.0
"""So many wrong passwords in a row for one account; after that, one more every so many seconds."""
ADDRESS_GUESSES, ADDRESS_SECONDS = 50, 6.0
"""The same for one address, behind which there may be a whole office."""


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


class Guesses:
    """The two allowances of a sign-in."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = Allowance(ACCOUNT_GUESSES, ACCOUNT_SECONDS, clock=clock)
        self._addresses = Allowance(ADDRESS_GUESSES, ADDRESS_SECONDS, clock=clock)

    def take(self, account: str, address: str) -> None:
        """Before a password is looked at. Raises `RateLimited`."""
        self._addresses.take(_network(address))
        try:
            self._accounts.take(account)
        except RateLimited:
            self._addresses.give_back(_network(address))
            raise

    def give_back(self, account: str, address: str) -> None:
        """The password was right, or was never looked at."""
        self._accounts.give_back(account)
        self._addresses.give_back(_network(address))


def _network(address: str) -> str:
    """One household has 2**64 addresses of version 6: they count as one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
