"""How often somebody may guess a password: per account and per address, in the memory of one process."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.admission import household
from app.allowance import Allowance
from models.errors import RateLimited

ACCOUNT_GUESSES, ACCOUNT_SECONDS = 10, 30.0
"""So many wrong passwords in a row for one account; after that, one more every so many seconds."""
ADDRESS_GUESSES, ADDRESS_SECONDS = 50, 6.0
"""The same for one address, behind which there may be a whole office."""


class Guesses:
    """The two allowances of a sign-in."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = Allowance(ACCOUNT_GUESSES, ACCOUNT_SECONDS, clock=clock)
        self._addresses = Allowance(ADDRESS_GUESSES, ADDRESS_SECONDS, clock=clock)

    def take(self, account: str, address: str) -> None:
        """Before a password is looked at. Raises `RateLimited`."""
        self._addresses.take(household(address))
        try:
            self._accounts.take(account)
        except RateLimited:
            self._addresses.give_back(household(address))
            raise

    def give_back(self, account: str, address: str) -> None:
        """The password was right, or was never looked at."""
        self._accounts.give_back(account)
        self._addresses.give_back(household(address))
