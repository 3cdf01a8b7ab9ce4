"""What one user and one address may ask of this process in a time, and what is told of that in each answer.

In memory only: each process counts for itself, and a restart forgives. Who asks too much is kept waiting a little
before it is refused, so that a flood costs its sender connections and this process next to nothing.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import msgspec

from app.allowance import Allowance
from app.pressure import Pressure
from app.settings import Settings

WINDOW_SECONDS = 5
"""After a pause, so many seconds' worth of requests may come at once: a page that opens asks for many things."""
BYTES_WINDOW_SECONDS = 60
KEYS_WINDOW_SECONDS = 3600
TOPICS_WINDOW_SECONDS = 30
"""A browser that comes back joins the topics of all its pages at once."""

HOLD_SECONDS = 1.0
"""How long a refusal is kept back, from half of it to one and a half: what is answered together comes back together."""
MAX_HELD = 500
"""Refusals kept back at once; more go out at once, and their connection is closed."""
KEYS_KEPT = 20_000
"""Users, or addresses, that are remembered for each limit: about 4 MB. Who was quiet longest is forgotten first."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of the kind that answers tell of (draft-ietf-httpapi-ratelimit-headers-10)."""

    name: str
    allowance: Allowance
    policy: str
    """Its item in `RateLimit-Policy`."""

    def state(self, key: str) -> str:
        """Its item in `RateLimit`."""
        remaining, seconds = self.allowance.left(key)
        return f'"{self.name}";r={remaining};t={math.ceil(seconds - 1e-6)}'


class Turns:
    """How many things of one user are under way at once; the others of that user wait, first come, first served."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._busy: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the end of the block."""
        busy = self._busy.get(user_id, 0)
        if busy < self._at_once:
            self._busy[user_id] = busy + 1
        else:
            await self._wait(user_id)
        try:
            yield
        finally:
            self._pass_on(user_id)

    async def _wait(self, user_id: str) -> None:
        passed = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, deque()).append(passed)
        try:
            await passed
        except asyncio.CancelledError:
            if not passed.cancelled():
                self._pass_on(user_id)  # it was this one's turn already
            raise

    def _pass_on(self, user_id: str) -> None:
        waiting = self._waiting.get(user_id)
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._waiting.pop(user_id, None)
        self._busy[user_id] -= 1
        if not self._busy[user_id]:
            del self._busy[user_id]


class Admission:
    """All limits of this kind; one per process."""

    def __init__(
        self,
        settings: Settings,
        *,
        pressure: Pressure,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.pressure, self._random = pressure, random
        self.turns = Turns(settings.max_requests_at_once_per_user)
        self._held = 0

        def allowance(attempts: int, seconds: float, refusal: str) -> Allowance:
            return Allowance(attempts, seconds / attempts, clock=clock, capacity=KEYS_KEPT, refusal=refusal)

        def requests(name: str, per_second: int, of: str) -> Quota:
            quota = per_second * WINDOW_SECONDS
            return Quota(
                name=name,
                allowance=allowance(quota, WINDOW_SECONDS, f"Too many requests {of}. Wait, then go on more slowly."),
                policy=f'"{name}";q={quota};w={WINDOW_SECONDS}',
            )

        def content(name: str, per_minute: int, of: str) -> Quota:
            return Quota(
                name=name,
                allowance=allowance(per_minute, BYTES_WINDOW_SECONDS, f"Too much was sent {of} in a short time."),
                policy=f'"{name}";q={per_minute};w={BYTES_WINDOW_SECONDS};qu="content-bytes"',
            )

        self.user = requests("user", settings.max_requests_per_second_per_user, "from this user")
        self.address = requests("address", settings.max_requests_per_second_per_address, "from this address")
        self.user_bytes = content("user-bytes", settings.max_body_bytes_per_minute_per_user, "by this user")
        self.address_bytes = content(
            "address-bytes", settings.max_body_bytes_per_minute_per_address, "from this address"
        )
        self._keys = allowance(
            settings.max_idempotency_keys_per_hour_per_user,
            KEYS_WINDOW_SECONDS,
            "This user has used too many idempotency keys in the last hour.",
        )
        self._topics = allowance(
            settings.max_topics_per_second_per_user * TOPICS_WINDOW_SECONDS,
            TOPICS_WINDOW_SECONDS,
            "This user joins too many topics. Wait, then go on.",
        )

    def visit(self, address: str) -> Visit:
        """The account of one request."""
        return Visit(self, household(address))

    def join(self, user_id: str, topics: int = 1) -> None:
        """Somebody asks to listen to so many topics. Raises `RateLimited`."""
        self._topics.take(user_id, topics)

    def key(self, user_id: str) -> None:
        """Somebody sends an idempotency key, which is kept for a day. Raises `RateLimited`."""
        self._keys.take(user_id)

    async def hold(self) -> bool:
        """Keep a refusal back for a moment. False where too many are: the connection is better closed."""
        if self._held >= MAX_HELD:
            return False
        self._held += 1
        try:
            await asyncio.sleep(HOLD_SECONDS * (0.5 + self._random()))
        finally:
            self._held -= 1
        return True


class Visit:
    """What one request has used, and has to be told."""

    __slots__ = ("_admission", "_charged", "_household", "_user_id")

    def __init__(self, admission: Admission, household: str) -> None:
        self._admission, self._household = admission, household
        self._user_id: str | None = None
        self._charged = 0

    def arrive(self, announced_bytes: int) -> None:
        """Before anybody looks who it is. Raises `RateLimited`."""
        self._admission.address.allowance.take(self._household)
        if announced_bytes:
            self._charged = announced_bytes
            self._admission.address_bytes.allowance.take(self._household, announced_bytes)

    def recognise(self, user_id: str) -> None:
        """It is known who it is. Raises `RateLimited`."""
        self._user_id = user_id
        self._admission.user.allowance.take(user_id)
        if self._charged:
            self._admission.user_bytes.allowance.take(user_id, self._charged)

    def received(self, size: int) -> None:
        """So much did come in the end; without an announcement it could not be refused before."""
        unpaid = size - self._charged
        if unpaid > 0:
            self._charged = size
            self._admission.address_bytes.allowance.spend(self._household, unpaid)
            if self._user_id is not None:
                self._admission.user_bytes.allowance.spend(self._user_id, unpaid)

    @property
    def headers(self) -> Iterator[tuple[str, str]]:
        """What the answer says of the limits that apply to its caller."""
        admission = self._admission
        if self._user_id is None:
            quotas, key = [admission.address, admission.address_bytes], self._household
        else:
            quotas, key = [admission.user, admission.user_bytes], self._user_id
        told = quotas if self._charged else quotas[:1]
        yield "RateLimit-Policy", ", ".join(quota.policy for quota in told)
        yield "RateLimit", ", ".join(quota.state(key) for quota in told)


@functools.lru_cache(maxsize=4096)
def household(address: str) -> str:
    """What counts as one address. One household has 2**64 addresses of version 6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
