"""What is counted and measured, for Prometheus (https://prometheus.io/docs/practices/naming/)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# Otherwise every counter brings a second series with the time of its creation, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library annotates it only in part

Transport = Literal["websocket", "sse", "poll"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The media type of what `Metrics.render` returns."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics of one process, in a registry of their own, so that two servers in one test do not share them.

    The attributes are the metrics themselves: ``metrics.errors.labels("not_found").inc()``. A label has few values, and
    clients cannot choose them, because each combination is kept for ever.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._reads: list[Callable[[], None]] = []
        self.requests = Histogram(
            "copydesk_request_seconds",
            "Time that HTTP requests took, in seconds.",
            ["method", "route", "status"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.errors = Counter("copydesk_errors", "Refusals sent, over REST and sockets.", ["code"], registry=registry)

        self.connections = Gauge("copydesk_connections", "Live connections.", ["transport"], registry=registry)
        self.topics = Gauge("copydesk_topics", "Topics that somebody listens to.", registry=registry)
        self.subscriptions = Gauge("copydesk_subscriptions", "Pairs of a connection and a topic.", registry=registry)
        self.pending_bytes = Gauge("copydesk_pending_bytes", "Bytes waiting for slow clients.", registry=registry)
        self.closes = Counter("copydesk_closes", "Sockets closed, by close code.", ["code"], registry=registry)
        self.slow_closes = Counter(
            "copydesk_slow_closes", "Connections given up because their client did not read.", registry=registry
        )
        self.frames_out = Counter("copydesk_frames_out", "Frames sent to clients.", registry=registry)
        self.bytes_out = Counter("copydesk_bytes_out", "Bytes of the frames sent to clients.", registry=registry)
        self.deliveries = Counter(
            "copydesk_deliveries",
            "Events handed to connections: one event for ten listeners counts ten.",
            registry=registry,
        )

        self.events_in = Counter(
            "copydesk_events_in", "Changes that MongoDB reported.", ["collection", "kind"], registry=registry
        )
        self.malformed_documents = Counter(
            "copydesk_malformed_documents",
            "Stored documents that do not fit their shape and were skipped; each is logged once.",
            ["collection"],
            registry=registry,
        )
        self.stream_lag_seconds = Gauge(
            "copydesk_stream_lag_seconds", "Time from a change in MongoDB to its arrival here.", registry=registry
        )
        self.stream_stale = Gauge(
            "copydesk_stream_stale", "1 while MongoDB is silent for too long, else 0.", registry=registry
        )
        self.stream_reopenings = Counter(
            "copydesk_stream_reopenings",
            "Times the change stream had to be opened again.",
            ["reason"],
            registry=registry,
        )
        self.history_events = Gauge("copydesk_history_events", "Events kept in memory.", registry=registry)
        self.history_bytes = Gauge("copydesk_history_bytes", "Bytes of the events kept in memory.", registry=registry)

        self.overviews = Counter(
            "copydesk_overviews",
            "Overviews answered: read from MongoDB, kept from an earlier read because nothing has changed since, or"
            " renewed by reading what has.",
            ["source"],
            registry=registry,
        )
        self.overviews_bytes = Gauge(
            "copydesk_overviews_bytes", "Bytes of the overviews kept in memory.", registry=registry
        )

        self.lease_held = Gauge(
            "copydesk_lease_held", "1 while this process does what is done once among all, else 0.", registry=registry
        )
        self.activities_written = Counter(
            "copydesk_activities_written", "Entries that this process added to the change log.", registry=registry
        )
        self.mails = Counter(
            "copydesk_mails",
            "Mails that this process sent, will try again, gave up, or that nobody needed any more.",
            ["outcome"],
            registry=registry,
        )
        self.mail_server_down = Gauge(
            "copydesk_mail_server_down",
            "1 while this process cannot hand over mail to the mail server, else 0.",
            registry=registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One HTTP request was answered. `route` is the pattern of the path, never the path itself."""
        known = method if method in _METHODS else "other"
        self.requests.labels(known, route or "none", str(status)).observe(seconds)

    def measure(self, read: Callable[[], None]) -> None:
        """Have `read` bring up to date what is known anyway, whenever somebody asks for the metrics."""
        self._reads.append(read)

    def render(self) -> bytes:
        """All metrics in the text format, in UTF-8."""
        for read in self._reads:
            read()
        return generate_latest(self.registry)
