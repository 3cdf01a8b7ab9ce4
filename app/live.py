"""A part of `app/main.py`: what brings a client from a position, or from nothing, to the present."""

from __future__ import annotations

import random
from collections.abc import Callable

from app.access import Access
from app.catchup import CatchUp, read_stretch
from app.follower import Sources
from app.history import History
from app.hub import Hub
from app.joining import Joiner
from app.missed import Missed
from app.position import PositionCodec
from app.settings import Settings
from app.views import Views
from models.database_types import Database
from models.snapshot import SnapshotStore

RESET_SPREAD_SECONDS = 0.002
"""For each connection, the time over which a reset of all of them is spread."""


class Live:
    """For sockets the `joiner`, for event streams and long poll the `sources`; one per process."""

    def __init__(
        self,
        database: Database,
        *,
        hub: Hub,
        history: History,
        codec: PositionCodec,
        access: Access,
        snapshots: SnapshotStore,
        settings: Settings,
        stale: Callable[[], bool],
        connected: Callable[[], int],
    ) -> None:
        """`connected`: how many connections there are now."""
        self._catch_up = CatchUp(
            lambda after, until: read_stretch(database, after, until),
            here=lambda: hub.position,
            streams=settings.catch_up_streams,
            max_events=settings.catch_up_events,
            max_seconds=settings.catch_up_seconds,
        )
        self.sources = Sources(
            hub=hub,
            history=history,
            missed=Missed(history=history, catch_up=self._catch_up, positions=codec),
            views=Views(snapshots),
            access=access,
            encode=codec.encode,
        )
        self.joiner = Joiner(
            hub=hub,
            missed=self.sources.missed,
            access=access,
            views=self.sources.views,
            stale=stale,
            spread=lambda: random.uniform(0.0, connected() * RESET_SPREAD_SECONDS),  # noqa: S311 - spreads load
        )

    async def close(self) -> None:
        """End what is under way; called when all connections are gone."""
        await self.joiner.close()
        await self._catch_up.close()
