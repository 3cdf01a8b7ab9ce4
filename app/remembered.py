"""What was read from the database and is believed until the feed says that it changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """A bounded cache by key, emptied by the feed. The absence of a document is not remembered."""

    def __init__(
        self, read: Callable[[str], Awaitable[T | None]], *, trusted: Callable[[], bool], capacity: int = 10_000
    ) -> None:
        """`trusted` says whether the feed is current; while it is not, everything is read afresh."""
        self._read, self._trusted, self._capacity = read, trusted, capacity
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._forgotten = 0

    async def get(self, key: str) -> T | None:
        """The value; None where there is nothing in the database."""
        if key in self._kept and self._trusted():
            self._kept.move_to_end(key)
            return self._kept[key]
        before = self._forgotten
        value = await self.renew(key, lambda: self._read(key))
        # What was reported while we were reading may be newer than what we read.
        return value if self._forgotten == before else await self._read(key)

    async def renew(self, key: str, read: Callable[[], Awaitable[T | None]]) -> T | None:
        """Read, or write and read, in another way than usual, and remember what comes of it."""
        before = self._forgotten
        value = await read()
        if value is not None and self._forgotten == before:
            self._kept[key] = value
            self._kept.move_to_end(key)
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return value

    def forget(self, key: str) -> None:
        """It changed."""
        self._kept.pop(key, None)
        self._forgotten += 1

    def forget_all(self) -> None:
        """Nothing is known any more."""
        self._kept.clear()
        self._forgotten += 1
