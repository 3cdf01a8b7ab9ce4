"""The stage that things break on: a replica set, Copydesk processes, editors, writers, and the reckoning at the end."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pymongo
from pymongo.errors import OperationFailure, PyMongoError
from tornado.httpclient import AsyncHTTPClient

from app import commands
from app.settings import Settings
from tests.editor import Editor, Store
from tests.ledger import ledger, leftovers, measured
from tests.ledger.editors import Door, ReconnectingEditor, StreamingEditor
from tests.ledger.ledger import Findings
from tests.ledger.leftovers import Usage
from tests.ledger.replica_set import ReplicaSet
from tests.ledger.writers import PATIENCE_SECONDS, ProgramWriter, RestWriter, Writer, program, request
from tests.real import nginx
from tests.real.processes import Process

SECRET = "s" * 32
PING_SECONDS = 5
CATCH_UP_SECONDS = 180.0
"""Ten times what anything takes alone that is waited for: who waits in vain learns it late, and who is slow passes."""
CAPPED_POSITION_LOST = 136
POOL = 80
"""More connections to MongoDB and threads than at the start: Motor's 32 threads, each with a connection, on three
members."""


class Stage:
    """Everything of one run. Made by `stage`."""

    def __init__(self, members: ReplicaSet, folder: Path, *, seed: int) -> None:
        self.replica_set, self.folder = members, folder
        self.rng = random.Random(seed)
        self.database_name = f"ledger_{uuid.uuid4().hex[:12]}"
        self.processes: list[Process] = []
        self.doors: list[Door] = []
        self.http = AsyncHTTPClient(force_instance=True, max_clients=64)
        self.editors: list[ReconnectingEditor] = []
        self.probes: list[ReconnectingEditor] = []
        self.writers: list[Writer] = []
        self.patience_seconds = PATIENCE_SECONDS
        """For how long a writer repeats one write; then it does not know the outcome."""
        self.marks: dict[str, int] = {}
        """How much of each editor's log was looked at already."""
        self.open_project = self.private_project = ""
        self._program, self.database = program(members.uri, self.database_name)
        self._proxy: nginx.Nginx | None = None
        self.begin: Any = None
        self._usage: list[Usage] = []
        self._wrote = (0.0, 0.0)

    # -- setting up ---------------------------------------------------------------------------------------------------

    async def open(self, *, servers: int, behind_nginx: bool, **settings: str) -> None:
        """Processes, projects, and the point from which the ledger counts."""
        chosen = {
            "mongodb_uri": self.replica_set.uri,
            "mongodb_database": self.database_name,
            "auth_secret": SECRET,
            "ping_seconds": str(PING_SECONDS),
            "log_format": "json",
            "max_connections_per_user": "4000",
            "max_connections_per_address": "4000",
            "max_requests_per_second_per_user": "4000",
            "max_requests_per_second_per_address": "4000",
            "max_topics_per_second_per_user": "4000",
            "max_idempotency_keys_per_hour_per_user": "4000000",
            "allowed_hosts": f"127.0.0.1,{nginx.SERVER_NAME}",
            "trusted_proxies": "127.0.0.1",
            **settings,
        }

        def start(number: int) -> Process:
            return Process(log=self.folder / f"server-{number}.log", **chosen)

        # The first alone, so that one makes the collections and their indexes; the others at the same time.
        self.processes.append(await asyncio.to_thread(start, 0))
        self.processes += await asyncio.gather(*(asyncio.to_thread(start, number) for number in range(1, servers)))
        if behind_nginx:
            (self.folder / "nginx").mkdir()
            self._proxy = nginx.start(self.folder / "nginx", [process.port for process in self.processes])
            self.doors = [Door(self._proxy.port, self._proxy.host)]
        else:
            self.doors = [Door(process.port, f"127.0.0.1:{process.port}") for process in self.processes]
        # Before anything that an editor can see, because snapshots may be a little older than what was just written.
        self.begin = (await self.database.command("ping"))["operationTime"]
        self.open_project = await self._project({"name": "Open"})
        members = [{"principal": "user:member", "role": "viewer"}]
        self.private_project = await self._project({"name": "Private", "visibility": "private", "members": members})
        await self.until(lambda: self._activities(2), "the activities of both projects")
        self._usage = [await measured.usage(self.http, process) for process in self.processes]

    async def _project(self, body: dict[str, Any]) -> str:
        answer = await self.call("POST", "/projects", body)
        assert answer is not None, "no answer"
        assert answer["code"] == 201, answer
        made: str = answer["id"]
        return made

    async def _activities(self, count: int) -> bool:
        return await self.database.activities.count_documents({}) >= count

    async def _logged(self) -> bool:
        """Whether the change log has as many entries as there are things that give one."""
        try:
            return await self._activities(await self.database.items.count_documents({}) + 2)
        except PyMongoError:
            return False

    async def call(self, method: str, path: str, body: Any = None, *, user: str = "alice", **headers: str) -> Any:
        """One request through any door: the JSON of its answer with `code`; None for none."""
        door = self.rng.choice(self.doors)
        answer = await request(self.http, door, method, path, body, token=self.token(user), **headers)
        if answer is None:
            return None
        return {**(json.loads(answer.body) if answer.body else {}), "code": answer.code}

    def token(self, user: str) -> str:
        """A bearer token for an editor."""
        settings = Settings(auth_secret=SECRET)
        return commands.token(settings, sub=user, roles=(), ttl_seconds=24 * 3600, name=None, email=None)

    async def people(self, *, members: int = 14, streaming: int = 2, probes: int = 4) -> None:
        """Editors who may see everything, some of them over Server-Sent Events, and some who may not."""
        both = [f"project:{self.open_project}", f"project:{self.private_project}"]
        for number in range(members + streaming):
            kind = StreamingEditor if number >= members else ReconnectingEditor
            self.editors.append(self.editor(f"member-{number}", "member", both, kind))
        self.probes += [self.editor(f"probe-{number}", f"probe{number}", both) for number in range(probes)]
        for each in (*self.editors, *self.probes):
            each.start()
        await self.until(self._settled, "everybody to be connected")

    def editor(
        self, name: str, user: str, topics: Sequence[str], kind: type[ReconnectingEditor] = ReconnectingEditor
    ) -> ReconnectingEditor:
        """One more editor, who has not begun yet."""
        made = kind(
            name,
            self.token(user),
            topics,
            doors=lambda: self.doors,
            rng=random.Random(self.rng.random()),
        )
        made.ping_seconds = PING_SECONDS
        return made

    async def _settled(self) -> bool:
        return all(each.settled for each in (*self.editors, *self.probes))

    # -- the run ------------------------------------------------------------------------------------------------------

    async def write(self, count: int, per_second: float, *, rest: float = 0.15, bare: bool = False) -> None:
        """So many writes at such a pace; a share of them over REST."""
        projects = [self.open_project, self.open_project, self.private_project]
        seeds = [random.Random(self.rng.random()) for _ in range(4)]
        turn = len(self.writers)  # the names of writers are in their marks, so they are never used again
        programs: list[Writer] = [
            ProgramWriter(f"program{turn + number}", projects, seeds[number], database=self.database, bare=bare)
            for number in range(2)
        ]
        writer = RestWriter(
            f"rest{turn}", projects, seeds[2], token=self.token("alice"), doors=lambda: self.doors, client=self.http
        )
        self.writers += [*programs, writer]
        for one in self.writers:
            one.patience_seconds = self.patience_seconds
        begun = time.time()
        ends: list[float] = []

        async def run(one: Writer, share: float) -> None:
            await one.run(round(count * share), per_second * share)
            ends.append(time.time())

        async with asyncio.TaskGroup() as group:
            for one in programs:
                group.create_task(run(one, (1 - rest) / 2))
            group.create_task(run(writer, rest))
        # From then on it may be silent because nobody writes: who waits for a dead process's mark waits for a minute.
        self._wrote = (begun, min(ends))

    async def during(
        self, work: Awaitable[None], break_something: Callable[[], Awaitable[None]], *, times: int
    ) -> None:
        """While something is done, break something so many times, one after the other."""
        doing = asyncio.ensure_future(work)
        try:
            for _ in range(times):
                await break_something()
            await doing
        finally:
            doing.cancel()
            await asyncio.wait({doing})

    async def settle(self, *, logged: bool = True) -> Findings:
        """Wait until everybody has a last comment in each project, and compare with a fresh read.

        `logged`: the change log is complete, as nothing fell off the oplog before the worker had read it.
        """
        findings = Findings()
        if logged:
            await self.until(self._logged, "the change log to be complete")
        self._last = {}
        for project in (self.open_project, self.private_project):
            last = f"last-{uuid.uuid4().hex[:8]}"
            self._last[f"project:{project}"] = last
            await self._insert(project, last)
        deadline = time.monotonic() + CATCH_UP_SECONDS
        for topic, last in self._last.items():
            for each in self.editors:
                # Through the editors' own eyes, since the database cannot say what they have seen.
                while not each.log.holds(topic, last) and time.monotonic() < deadline:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                if not each.log.holds(topic, last):
                    findings.add("not converged", f"{each.log.name} never saw the last comment of {topic}")
        fresh = await self._fresh()
        for each in self.editors:
            for topic, store in fresh.stores.items():
                held = each.log.stores.get(topic, Store())
                for kind in ("project", "item", "comment"):
                    name = f"{each.log.name}, {topic}"
                    findings.merge(ledger.check_converged(name, held.of(kind), store.of(kind)))
        return findings

    async def _insert(self, project: str, comment: str) -> None:
        document = {"_id": comment, "project_id": project, "body": comment, "author": "end"}
        while True:
            try:
                await self.database.comments.replace_one(
                    {"_id": comment}, {**document, "created_at": datetime.now(UTC), "version": 1}, upsert=True
                )
            except PyMongoError:
                await asyncio.sleep(0.2)
            else:
                return

    async def _fresh(self) -> Editor:
        door = self.rng.choice(self.doors)
        editor = await Editor.connect(f"http://127.0.0.1:{door.port}", self.token("member"), headers=door.headers)
        for topic in self._last:
            reply = await editor.subscribe(topic)
            assert "ok" in reply, reply
        await editor.close()
        return editor

    async def reckon(self, *, warnings: int, usage: bool = True) -> Findings:
        """Settle, send everybody away, and check everything. `usage`: the processes are those of the beginning."""
        findings = await self.settle()
        for each in (*self.editors, *self.probes):
            await each.stop()
        truth = await asyncio.to_thread(measured.commits, self.replica_set.uri, self.database_name, self.begin)
        private = f"project:{self.private_project}"
        writes = [write for writer in self.writers for write in writer.writes]
        answered = {write.mark: write.at for write in writes if write.outcome == "ok"}
        private_ids = {commit.key[0] for commit in truth.commits if commit.topic == private} | {self.private_project}
        for each in self.editors:
            for topic, last in self._last.items():
                found = ledger.check_editor(truth, each.log, topic, until=(last, 1))
                found.delay_seconds = ledger.longest_delay(each.log, topic, answered)
                if topic != private:
                    found.silence_seconds = ledger.longest_silence(each.log, topic, *self._wrote)
                findings.merge(found)
        for probe in self.probes:
            findings.merge(ledger.check_probe(probe.log, private, private_ids))
        findings.merge(ledger.check_writes(truth, writes))
        findings.merge(ledger.check_activities(truth))
        for number, process in enumerate(self.processes):
            lines = (self.folder / f"server-{number}.log").read_text(encoding="utf-8").splitlines()
            findings.merge(leftovers.check_log(lines, warnings=warnings))
            if usage:
                await self.until(lambda process=process: self._deserted(process), "connections to end")
                findings.merge(
                    leftovers.check_usage(self._usage[number], await measured.usage(self.http, process), pool=POOL)
                )
        findings.pause_seconds = ledger.longest_pause(writes, *self._wrote)
        findings.counts["commits"] = len(truth.commits)
        findings.counts["connections"] = sum(each.connections for each in (*self.editors, *self.probes))
        return findings

    async def turn_over_the_oplog(self) -> None:
        """Write so much that nothing is left in a tiny oplog of what was there."""
        begun = (await self.database.command("ping"))["operationTime"]
        while not await self._oplog_begins_after(begun):
            await self._program[f"{self.database_name}_junk"].junk.insert_many(
                [{"x": "x" * 100_000} for _ in range(20)]
            )

    async def _oplog_begins_after(self, begun: bson.Timestamp) -> bool:
        try:
            oldest = await self._program.local["oplog.rs"].find_one(sort=[("$natural", 1)])
        except OperationFailure as error:
            if error.code != CAPPED_POSITION_LOST:
                raise
            # What is looked at is just being cut off.
            return False
        return oldest is not None and oldest["ts"] >= begun

    async def _deserted(self, process: Process) -> bool:
        return (await measured.usage(self.http, process)).connections == 0

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until something is true that nobody can tell us of."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while not await condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            await asyncio.sleep(0.05)  # what is waited for is in other processes

    async def close(self) -> None:
        """End everything but the replica set."""
        for each in (*self.editors, *self.probes):
            await each.stop()
        if self._proxy is not None:
            await asyncio.to_thread(self._proxy.stop)
        for process in self.processes:
            await asyncio.to_thread(process.stop)
        self.http.close()
        await self._program.close()
        # Another client, because that of a program gives up long before MongoDB is done.
        async with pymongo.AsyncMongoClient[dict[str, Any]](self.replica_set.uri) as cleaner:
            await cleaner.drop_database(self.database_name)
            await cleaner.drop_database(f"{self.database_name}_junk")


@asynccontextmanager
async def stage(
    members: ReplicaSet,
    folder: Path,
    *,
    seed: int,
    servers: int = 2,
    behind_nginx: bool = False,
    **settings: str,
) -> AsyncIterator[Stage]:
    """A stage for a while; `settings` of the processes, as text."""
    made = Stage(members, folder, seed=seed)
    try:
        await made.open(servers=servers, behind_nginx=behind_nginx, **settings)
        yield made
    finally:
        await made.close()
