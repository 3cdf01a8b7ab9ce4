"""The composition root: builds everything, starts it and stops it in order. The only module that imports handlers."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any

import structlog
from tornado.netutil import bind_sockets
from tornado.web import Application

from app import demo, logs, process
from app.access import Access
from app.admission import Admission
from app.auth import Authenticator
from app.connections import Connections
from app.consequences import Consequences, apply_schema
from app.database import Connection as DatabaseConnection
from app.feed import ChangeFeed
from app.forwarded import Proxies
from app.gauges import Gauges
from app.guesses import Guesses
from app.history import History
from app.hub import Hub
from app.informing import Informing
from app.lease import Lease
from app.listening import ListeningServer, Unfinished
from app.live import Live
from app.metrics import Metrics, Transport
from app.overviews import Overviews
from app.passwords import Passwords
from app.position import PositionCodec
from app.pressure import Pressure
from app.protocol import MAX_MESSAGE_BYTES, CloseCode
from app.relay import Relay
from app.runtime import Readiness, Runtime
from app.settings import CannotStart, Settings
from app.stores import Stores
from app.tokens import Tokens
from app.worker import Worker, set_out
from handlers.base import BULK_BODY_LIMIT, Edge
from handlers.routes import application_settings, documents, routes
from models import meta
from models.database_types import Database
from models.fields import Ids

log = structlog.get_logger("copydesk")

VERSION = importlib.metadata.version("copydesk")
TRANSPORTS: tuple[Transport, ...] = ("websocket", "sse", "poll")
"""What this server has, whether or not it is switched on."""
WARM_UP_SECONDS = 10.0
"""For which a server that starts reads the recent past, from which it resumes clients, before it does without."""


class Server:
    """One Copydesk process without its command line. `start`, then `stop`; `failed` if it cannot go on."""

    def __init__(self, settings: Settings, connection: DatabaseConnection) -> None:
        """Builds nothing that needs the database; that is `start`."""
        self.settings, self._connection = settings, connection
        self.metrics = Metrics()
        self.report = logs.malformed_reporter(self.metrics)
        self.runtime = Runtime(settings)
        self._pressure = Pressure(max_memory_bytes=settings.max_memory_bytes)
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.port = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False

    @property
    def database(self) -> Database:
        """The database, for the demo content and for tests."""
        return self._connection.database

    @property
    def url(self) -> str:
        """Where it listens."""
        host = self.settings.address if ":" not in self.settings.address else f"[{self.settings.address}]"
        return f"http://{host}:{self.port}"

    @property
    def lag_seconds(self) -> float:
        """How far what listeners see is behind the database, as far as anyone can tell."""
        silent = self.feed.silent_seconds
        return max(self._relay.lag_seconds, silent if silent > 1.0 else 0.0)

    @property
    def stale(self) -> bool:
        """Whether the feed has lost touch with the database."""
        return self.feed.stale

    # -- start --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything, in order; returns when the server is ready. Raises `CannotStart`."""
        database = self._connection.database
        await apply_schema(database)
        await set_out(database)
        self.stores = Stores(database, settings=self.settings, runtime=self.runtime, report=self.report)
        self._build(await meta.read_epoch(database))
        self.runtime.apply(await self.stores.meta.overrides())
        self._run(self._relay.run(), "relay")
        self._run(self._lease.run(), "lease")
        self._run(self._worker.run(), "worker")
        for name, work in self._informing.tasks().items():
            self._run(work, name)
        self._run(self._heartbeat(), "heartbeat")
        await self._until_positioned()
        if self.settings.demo:
            await demo.add(database, passwords=self._passwords, report=self.report)
        self._listen()

    def _build(self, epoch: meta.Epoch) -> None:
        settings, database = self.settings, self._connection.database
        secrets = (settings.auth_secret, settings.auth_secret_previous)
        self._ids = Ids()
        self._codec = PositionCodec(secrets=tuple(secret.encode() for secret in secrets if secret), epoch=epoch.id)
        self.feed = ChangeFeed(
            self._connection.stream_database,
            begun=epoch.begun,
            history_seconds=settings.history_seconds,
            stale_seconds=settings.stale_seconds,
        )
        self._history = History(
            max_events=settings.history_events,
            max_bytes=settings.history_bytes,
            max_seconds=settings.history_seconds,
        )
        self.hub = Hub(encode=self._codec.encode, max_buffered_bytes=settings.max_pending_bytes)
        self._overviews = Overviews(
            self.stores.overviews,
            hub=self.hub,
            history=self._history,
            metrics=self.metrics,
            max_bytes=settings.overviews_bytes,
        )
        self._access = Access(self.stores.projects.accesses, trusted=self._trusted)
        self._passwords = Passwords()
        self._authenticator = Authenticator(
            tokens=Tokens.from_settings(settings),
            users=self.stores.users,
            sessions=self.stores.sessions,
            proxies=Proxies(settings.trusted_proxies),
            passwords=self._passwords,
            guesses=Guesses(),
            trusted=self._trusted,
        )
        self.connections = Connections(
            hub=self.hub,
            health=self,
            encode=self._codec.encode,
            limits=lambda: self.runtime.now,
            ping_seconds=settings.ping_seconds,
            max_rate=settings.max_connection_rate,
        )
        self._live = Live(
            database,
            hub=self.hub,
            history=self._history,
            codec=self._codec,
            access=self._access,
            snapshots=self.stores.snapshots,
            settings=settings,
            stale=lambda: self.feed.stale,
            connected=lambda: len(self.connections),
        )
        self._consequences = Consequences(
            authenticator=self._authenticator,
            connections=self.connections,
            runtime=self.runtime,
            meta=self.stores.meta,
            repair=self._repair,
        )
        self._relay = Relay(
            feed=self.feed,
            history=self._history,
            hub=self.hub,
            access=self._access,
            consequences=self._consequences,
            database=database,
            metrics=self.metrics,
            report=self.report,
        )
        self._relay.observers.append(self._overviews.follow)
        holder = self._ids()
        self._lease = Lease(
            database,
            "worker",
            holder=holder,
            changed=lambda held: self.metrics.lease_held.set(int(held)),
        )
        self._informing = Informing(
            database,
            settings=settings,
            stores=self.stores,
            access=self._access,
            lease=self._lease,
            connections=self.connections,
            metrics=self.metrics,
            process=holder,
        )
        self._worker = Worker(
            database,
            lease=self._lease,
            relay=self._relay,
            activities=self.stores.activities,
            notifications=self._informing.notifications,
            retention=timedelta(days=settings.activity_retention_days),
            metrics=self.metrics,
        )
        self.metrics.measure(
            Gauges(
                self.metrics,
                hub=self.hub,
                connections=self.connections,
                history=self._history,
                feed=self.feed,
                overviews=self._overviews,
                lag_seconds=lambda: self.lag_seconds,
            ).read
        )

    def _listen(self) -> None:
        unfinished = Unfinished()
        edge = Edge(
            settings=self.settings,
            authenticator=self._authenticator,
            access=self._access,
            idempotency=self.stores.idempotency,
            metrics=self.metrics,
            ids=self._ids,
            position=lambda: self._codec.encode(self.hub.position),
            runtime=self.runtime,
            admission=Admission(self.settings, pressure=self._pressure),
            unfinished=unfinished,
        )
        application = Application(
            routes(edge, self._services()),
            compress_response=True,
            websocket_max_message_size=MAX_MESSAGE_BYTES,
            websocket_ping_interval=0,
            log_function=lambda _handler: None,
            **application_settings(edge),
        )
        self._http = ListeningServer(
            application,
            max_body_size=BULK_BODY_LIMIT,
            max_header_size=32 * 1024,
            idle_connection_timeout=75,
            body_timeout=30,
        )
        self._http.crowded, self._http.unfinished = self._pressure.crowded, unfinished
        try:
            sockets = bind_sockets(self.settings.port, address=self.settings.address, backlog=4096)
        except OSError as problem:
            raise CannotStart(
                f"Cannot listen on {self.settings.address} port {self.settings.port}: {problem.strerror}."
                " Choose another with --port; 0 takes any free one."
            ) from None
        self.port = sockets[0].getsockname()[1]
        self._http.add_sockets(sockets)

    def _services(self) -> Mapping[str, Any]:
        """What handlers are given, by the names in the route table."""
        return {
            **documents(VERSION),
            **vars(self.stores),
            "overviews": self._overviews,
            "unsubscriptions": self._informing.unsubscriptions,
            "runtime": self.runtime,
            "hub": self.hub,
            "joiner": self._live.joiner,
            "sources": self._live.sources,
            "connections": self.connections,
            "readiness": self._readiness,
            "ready": lambda: not self._draining and self._relay.positioned.is_set(),
            "version": VERSION,
            "available": TRANSPORTS,
        }

    async def _until_positioned(self) -> None:
        """The feed has worked off the recent past, or has failed to. A past that takes too long is left out."""
        positioned = asyncio.ensure_future(self._relay.positioned.wait())
        late = asyncio.get_running_loop().call_later(WARM_UP_SECONDS, self._leave_out_the_past)
        await _first_of(positioned, self.failed)
        late.cancel()
        if not positioned.done():
            positioned.cancel()
            raise CannotStart(f"The change stream could not be opened: {self.failed.result()}")

    def _leave_out_the_past(self) -> None:
        """Whoever comes back is resumed from MongoDB then, or reads again. What does not start serves nobody."""
        log.warning("past_left_out", seconds=WARM_UP_SECONDS, do="Lower COPYDESK_HISTORY_SECONDS if this is the rule.")
        self.feed.skip()

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A background task with an owner that notices its death: a silent server is worse than a stopped one."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled() or self._draining:
                return
            error = task.exception() or RuntimeError(f"{name} ended by itself")
            log.critical("task_died", task=name, exc_info=error)
            if not self.failed.done():
                self.failed.set_result(error)

        task.add_done_callback(ended)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self.connections.tick_seconds)
            self._pressure.look()
            if hasattr(self, "_http"):
                self._http.sweep()
            self.connections.tick()
            self._history.trim()

    # -- what handlers ask ---------------------------------------------------------------------------------------------

    async def _repair(self) -> None:
        """After a drop: collections as they should be, and the epoch of the history that begins with them."""
        database = self._connection.database
        self._codec.renew((await meta.read_epoch(database)).id)
        await apply_schema(database)
        await set_out(database)

    def _trusted(self) -> bool:
        return not self.feed.stale

    def _readiness(self) -> Readiness:
        return Readiness(database=not self.feed.stale, feed=self._relay.positioned.is_set(), draining=self._draining)

    # -- stop ---------------------------------------------------------------------------------------------------------

    async def stop(self, *, drain_seconds: float = 0.0) -> None:
        """Send everyone elsewhere over `drain_seconds`, finish what was begun, and end. Fine before `start`."""
        self._draining = True
        if hasattr(self, "_http"):
            self._http.stop_listening()
            await self._drain(drain_seconds)
        if hasattr(self, "feed"):
            self._worker.stop()
            self._informing.stop()
            await self.feed.stop()
        for task in self._tasks:
            if task.get_name() == "heartbeat":
                task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=5)
            for task in late:
                # Whatever a crash may break off: the next process goes on from where this one got to for sure.
                log.warning("task_broken_off", task=task.get_name())
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if hasattr(self, "_passwords"):
            await self._live.close()
            await self._consequences.close()
            self._passwords.close()

    async def _drain(self, seconds: float) -> None:
        """Each client is told when to come back, and is closed then: they do not all knock at the next door at once."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for moment, connection in self.connections.announce_drain(seconds):
            await asyncio.sleep(max(0.0, begun + moment - loop.time()))
            connection.leave(CloseCode.DRAIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(begun + seconds + 2.0):
                await self.connections.emptied()
                await self._http.finished()
        await self._http.close_all_connections()


def serve(settings: Settings) -> int:
    """Run until a signal ends it; the exit code is 0 after a clean stop, 1 after a failure. Raises `CannotStart`."""
    return process.serve(settings, Server)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
