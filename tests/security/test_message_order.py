"""Any order of commands on one socket gets the answers of the contract, and nobody beside notices. And it can fail."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tornado.ioloop import IOLoop

from app import conversation
from app.conversation import Conversation
from app.protocol import Frame, Unsubscribe, reply_ok
from handlers.realtime import RealtimeHandler
from tests.conftest import Copydesk
from tests.editor import Editor
from tests.handlers.raw_socket import CLOSE, TEXT, RawSocket, started_with
from tests.security.fuzz import colleague_faults
from tests.security.message_order import STEPS, TOO_LONG, Contract, Step, Words
from tests.security.stage import UNLIMITED

BESIDE = "carol"
unlimited = started_with(
    max_messages_per_second=1_000_000, ping_seconds=3600, **{f"max_{name}": 1_000_000 for name in UNLIMITED}
)
steps = st.one_of(*map(st.sampled_from, STEPS))
greetings = st.sampled_from([[("hello", "bob")]] * 4 + [[("hello", "alice")], []])
conversations = st.tuples(greetings, st.lists(steps, min_size=3, max_size=30)).map(lambda parts: [*parts[0], *parts[1]])


class Scene:
    """A server, its projects, and somebody beside who works and must not notice."""

    def __init__(self, copydesk: Copydesk, beside: Editor, topics: dict[str, str]) -> None:
        self.copydesk, self.beside, self.topics = copydesk, beside, topics
        self.tokens = {user: copydesk.token(user) for user in ("alice", "bob")} | {"bad": "nonsense"}
        self.written: list[str] = []

    @classmethod
    async def set(cls, copydesk: Copydesk) -> Scene:
        """Projects for all, and one for each user alone."""
        private = [await copydesk.project(user, user=user, visibility="private") for user in ("alice", "bob")]
        shared = f"project:{await copydesk.project('Shared', user=BESIDE)}"
        topics = {
            "shared": shared, "projects": "projects", "inbox": "inbox", "missing": "project:missing",
            "empty": "project:", "nonsense": "nonsense", "long": TOO_LONG,
            "alice": f"project:{private[0]}", "bob": f"project:{private[1]}",
        }  # fmt: skip
        scene = cls(copydesk, await copydesk.editor(BESIDE), topics)
        await scene.beside.subscribe(shared)
        await scene.write()
        return scene

    async def write(self) -> str:
        """A comment that the one beside writes, and has heard of when this is done."""
        path = f"/projects/{self.topics['shared'].partition(':')[2]}/comments"
        comment: str = (await self.copydesk.call("POST", path, {"body": "x"}, user=BESIDE))["id"]
        self.written.append(comment)
        await self.beside.until_event(self.topics["shared"], id=comment)
        return comment

    async def converse(self, said: list[Step]) -> None:
        """One whole conversation. `AssertionError` where it is not as the contract says."""
        words = Words(self.topics, self.tokens, self.beside.positions[self.topics["shared"]])
        talk = Talk(await RawSocket.open(self.copydesk), Contract(words))
        writing = asyncio.ensure_future(self.write())
        try:
            assert (await talk.socket.request(self.copydesk)).status == 101
            for step in said:
                await talk.say(step)
            await talk.settle()
            await writing
            if talk.contract.closing is None:
                await talk.end(self.topics["shared"], await self.write())
        finally:
            await asyncio.gather(writing, return_exceptions=True)
            await talk.socket.close()
        pushes = self.beside.pushes[self.topics["shared"]]
        assert colleague_faults(self.written, pushes, closed=self.beside.closed.done()) == []


class Talk:
    """A socket, and the contract that it is held to."""

    def __init__(self, socket: RawSocket, contract: Contract) -> None:
        self.socket, self.contract = socket, contract
        self._number = 0
        self._closed = False

    async def say(self, step: Step) -> None:
        """One step, without waiting for what comes of it; or wait for all that is due."""
        if step == ("settle",):
            await self.settle()
        elif not self._closed:
            self._number += 1
            self.socket.send(self.contract.say(self._number, step).encode())

    async def settle(self) -> None:
        """Hear all that is due, or the end. What comes late is missed with the reply to a command said after it."""
        if self._closed:
            return
        await self.say(("unknown op",))
        while not (self.contract.settled and self.contract.closing is None):
            opcode, payload = await self.socket.frame()
            if opcode == CLOSE:
                self._closed = True
                self.contract.hear_close(int.from_bytes(payload[:2]))
                return
            assert opcode == TEXT, (opcode, payload)
            self.contract.hear(json.loads(payload))

    async def end(self, topic: str, comment: str) -> None:
        """A comment that others have heard of was told here too where its topic is listened to; nothing else was."""
        await self.settle()
        if topic in self.contract.listening:
            assert self.contract.listening[topic].comments[-1:] == [comment], "an event is missing"


@pytest.fixture
def scene(io_loop: IOLoop, copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """One server for all conversations. What a conversation needs in time, a busy machine does not have."""
    monkeypatch.setattr(conversation, "MALFORMED_WINDOW_SECONDS", 3600)
    monkeypatch.setattr("handlers.realtime.HELLO_SECONDS", 3600)
    made: Scene = io_loop.run_sync(lambda: Scene.set(copydesk))
    return made


@pytest.fixture
def hold(io_loop: IOLoop, scene: Scene) -> Iterator[Callable[..., None]]:
    """Have so many conversations; raises what one of them raised."""

    def have(examples: int, *phases: Phase) -> None:
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=phases or tuple(Phase),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(conversations)
        def any_order(said: list[Step]) -> None:
            io_loop.run_sync(lambda: scene.converse(said))

        any_order()

    return have


@unlimited
def test_any_order_of_commands_gets_the_answers_of_the_contract(
    hold: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged:
        hold(120)
    assert defects(logged) == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def defects(logged: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pure: lines of the log that tell of a defect of ours."""
    return [line for line in logged if line["log_level"] in ("error", "critical") or line.get("exc_info")]


Patch = Callable[[pytest.MonkeyPatch], None]


def sends(name: str, times: int, *, holding: bytes = b"") -> Patch:
    """Frames of a name are sent so many times in place of once, but to the one beside."""
    send = RealtimeHandler.send

    def planted(handler: RealtimeHandler, frame: Frame) -> None:
        is_beside = handler.identity is not None and handler.identity.user_id == BESIDE
        is_meant = frame.name == name and holding in frame.payload and not is_beside
        for _ in range(times if is_meant else 1):
            send(handler, frame)

    return lambda patch: patch.setattr(RealtimeHandler, "send", planted)


def keeps_topics(patch: pytest.MonkeyPatch) -> None:
    """What is unsubscribed from goes on."""
    carry_out = Conversation._carry_out

    async def planted(self: Conversation, command: Any) -> None:
        if isinstance(command, Unsubscribe) and self.identity is not None:
            self._listener.send(reply_ok(command.id, {}))
        else:
            await carry_out(self, command)

    patch.setattr(Conversation, "_carry_out", planted)


def forgets_who_it_is(patch: pytest.MonkeyPatch) -> None:
    """A second hello is as good as the first."""
    hello = Conversation._hello

    async def planted(self: Conversation, command: Any) -> None:
        self.identity = None
        await hello(self, command)

    patch.setattr(Conversation, "_hello", planted)


FAULTS: dict[str, tuple[Patch, str]] = {
    "a reply twice": (sends("reply", 2), "a reply to nothing that waits for one"),
    "a refresh without a reply": (sends("reply", 0, holding=b'"ok":{"expires_at"'), "has no reply, and this came"),
    "live twice": (sends("live", 2), "live twice"),
    "an event twice": (sends("events", 2), "told twice"),
    "no events": (sends("events", 0), "an event is missing"),
    "two identities": (forgets_who_it_is, "not conflict"),
    "topics that stay": (keeps_topics, "a topic that was not subscribed to"),
    "nonsense for ever": (lambda patch: patch.setattr(conversation, "MALFORMED_LIMIT", 99), "in place of|to nothing"),
    "an exception": (lambda patch: patch.setattr(conversation, "_moment", lambda _time: 1 // 0), "not ok"),
}


@unlimited
def test_every_planted_fault_is_found(hold: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (plant, found) in FAULTS.items():
        with monkeypatch.context() as patch, capture_logs() as logged:
            plant(patch)
            with pytest.raises(AssertionError, match=found):
                hold(100, Phase.generate)
        assert bool(defects(logged)) == (name == "an exception")
    hold(1)
