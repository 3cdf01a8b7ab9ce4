"""Runs something else at a chosen suspension point of a coroutine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class Stepped:
    """Awaits `work`; after its `point`-th suspension, before it goes on, `action` runs to its end. 0: before the start.

    `suspensions` tells afterwards how many there were.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], point: int, action: Callable[[], Awaitable[None]]) -> None:
        self._work, self._point, self._action = work, point, action
        self.suspensions = 0
        self.ran = False

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._point == 0:
            yield from self._run()
        steps = self._work.__await__()
        sent: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited_for = steps.throw(error) if error is not None else steps.send(sent)
            except StopIteration as end:
                return end.value
            error = None
            try:
                sent = yield waited_for
            except BaseException as thrown:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                error = thrown
            self.suspensions += 1
            if self.suspensions == self._point:
                yield from self._run()

    def _run(self) -> Generator[Any, Any, None]:
        self.ran = True
        yield from self._action().__await__()
