"""The short form of `fuzz.py`: a server bears it, and whoever is beside does not notice. And every check can fail."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.security import frame_sequences
from tests.security.fuzz import Outcome, colleague_faults, fuzz, held_faults
from tests.security.message_mutations import message
from tests.security.wire import CLOSE, PONG, TEXT, WrongFrame, frame, masked, split

SEED = 20_264


def test_nobody_notices_fuzzed_frames_and_messages(
    io_loop: IOLoop, tmp_path: Path, mongodb_uri: str, database_name: str
) -> None:
    async def run() -> Outcome:
        return await fuzz(tmp_path, mongodb_uri, database_name, frames=3000, messages=1000, seed=SEED)

    outcome: Outcome = io_loop.run_sync(run, timeout=170)
    assert outcome.faults == [], outcome.figures
    assert outcome.figures["frames"] >= 3000
    assert outcome.figures["messages"] >= 1000
    assert outcome.figures["writes beside"] > 10


def test_every_planted_fault_is_found(io_loop: IOLoop, tmp_path: Path, mongodb_uri: str, database_name: str) -> None:
    planted = "handlers,tasks,files,events,exceptions"

    async def run() -> Outcome:
        return await fuzz(tmp_path, mongodb_uri, database_name, frames=600, messages=300, seed=SEED, faults=planted)

    outcome: Outcome = io_loop.run_sync(run, timeout=170)
    found = "\n".join(outcome.faults)
    for trace in (
        "more RealtimeHandler than before",
        "more tasks than before",
        "leaked resource: ",
        "colleague: told of",
        "traceback: ",
        "frames: ",
    ):
        assert trace in found, (trace, found)


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_a_colleague_who_missed_something_is_noticed() -> None:
    def push(seq: int, *comments: str) -> dict[str, Any]:
        events = [{"kind": "comment", "id": comment} for comment in comments]
        return {"push": "events", "seq": seq, "events": events}

    good = [{"push": "live"}, push(1, "a"), push(2, "b", "c")]
    assert colleague_faults(["a", "b", "c"], good, closed=False) == []
    for written, pushes, closed in (
        (["a", "b", "c", "d"], good, False),
        (["b", "a", "c"], good, False),
        (["a"], [push(1, "a"), push(2, "a")], False),
        (["a", "b"], [push(1, "a"), push(3, "b")], False),
        (["a", "b", "c"], [*good, {"push": "reset"}], False),
        (["a", "b", "c"], good, True),
    ):
        assert len(colleague_faults(written, pushes, closed=closed)) == 1


def test_what_is_held_longer_is_noticed() -> None:
    before = {"tasks": 10, "Outbox": 1}
    assert held_faults(before, {"tasks": 12, "Outbox": 1}) == []
    assert held_faults(before, {"tasks": 14, "Outbox": 1}) == ["held: 4 more tasks than before"]
    assert held_faults(before, {"tasks": 10, "Outbox": 1, "StrictFrames": 1}) == [
        "held: 1 more StrictFrames than before"
    ]


def test_a_server_that_breaks_a_rule_itself_is_noticed() -> None:
    good = frame(TEXT, bytes(70_000), mask=None) + frame(PONG, b"x", mask=None) + frame(CLOSE, b"", mask=None)
    frames, rest = split(good + b"\x81")
    assert ([one.opcode for one in frames], rest) == ([TEXT, PONG, CLOSE], b"\x81")
    assert [split(good[:length])[1] == b"" for length in (0, 70_010, len(good))] == [True] * 3
    for wrong in (good + frame(TEXT, b"x", mask=None), frame(TEXT, b"x"), frame(TEXT, b"x", mask=None, first=0xC0)):
        with pytest.raises(WrongFrame):
            split(wrong)


def test_masks_come_off() -> None:
    assert masked(b"\x01\x02\x03\x04", masked(b"\x01\x02\x03\x04", b"hello")) == b"hello"
    assert frame(TEXT, b"Hello", mask=b"\x37\xfa\x21\x3d") == bytes.fromhex("818537fa213d7f9f4d5158")  # RFC 6455, 5.7


def test_one_seed_is_one_sequence_and_all_kinds_come_up() -> None:
    kinds: Counter[str] = Counter()
    for number in range(2000):
        first, second = (frame_sequences.fatal(random.Random(number)) for _ in range(2))
        assert first == second
        kinds[first.name] += 1
    assert len(kinds) == 15
    messages = [message(random.Random(number), number, topics=("inbox",), tokens=("t" * 9,)) for number in range(2000)]
    assert 100 < sum(one.unreadable for one in messages) < 1000
    assert len({one.text for one in messages}) > 1000
