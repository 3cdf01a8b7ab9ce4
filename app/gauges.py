"""What is known anyway and is read only when somebody asks for the metrics."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter

from app.connections import Connections
from app.feed import ChangeFeed
from app.history import History
from app.hub import Hub
from app.metrics import Metrics
from app.overviews import Overviews


class Gauges:
    """Brings the metrics up to date with the parts that keep plain numbers, because a metric's lock costs more."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        hub: Hub,
        connections: Connections,
        history: History,
        feed: ChangeFeed,
        overviews: Overviews,
        lag_seconds: Callable[[], float],
    ) -> None:
        self._metrics, self._hub, self._connections = metrics, hub, connections
        self._history, self._feed, self._lag_seconds = history, feed, lag_seconds
        self._overviews = overviews
        self._counted: dict[Counter, int] = {}

    def read(self) -> None:
        """Read all of them."""
        metrics, connections = self._metrics, tuple(self._connections)
        for transport in ("websocket", "sse"):
            live = sum(connection.transport == transport for connection in connections)
            metrics.connections.labels(transport).set(live)
        metrics.connections.labels("poll").set(len(self._connections.polls))
        metrics.topics.set(self._hub.topics)
        metrics.subscriptions.set(self._hub.subscriptions)
        metrics.pending_bytes.set(sum(connection.pending_bytes for connection in connections))
        metrics.history_events.set(len(self._history))
        metrics.history_bytes.set(self._history.bytes)
        metrics.overviews_bytes.set(self._overviews.bytes)
        metrics.stream_lag_seconds.set(self._lag_seconds())
        metrics.stream_stale.set(int(self._feed.stale))
        self._count(metrics.deliveries, self._hub.deliveries)
        self._count(metrics.frames_out, self._connections.frames_out)
        self._count(metrics.bytes_out, self._connections.bytes_out)
        for reason, times in self._feed.reopened.items():
            self._count(metrics.stream_reopenings.labels(reason), times)

    def _count(self, counter: Counter, total: int) -> None:
        counter.inc(total - self._counted.get(counter, 0))
        self._counted[counter] = total
