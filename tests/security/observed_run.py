"""`run.py` that writes down what it holds whenever SIGUSR2 comes, and that can be given faults to find.

OBSERVED_TO names the file; OBSERVED_FAULTS lists faults, separated by commas.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from app.conversation import Conversation  # noqa: E402 - the path comes first
from handlers.frames import StrictFrames  # noqa: E402
from handlers.outbox import Outbox  # noqa: E402
from handlers.realtime import RealtimeHandler  # noqa: E402

HELD = (RealtimeHandler, StrictFrames, Outbox, Conversation)
_kept: list[Any] = []


def tell(*_signal: object) -> None:
    """Write down how many tasks there are, and how many objects of each connection."""
    gc.collect()
    counts: Counter[str] = Counter(type(held).__name__ for held in gc.get_objects() if isinstance(held, HELD))
    counts["tasks"] = len(asyncio.all_tasks())
    path = Path(os.environ["OBSERVED_TO"])
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(counts), encoding="utf-8")
    draft.replace(path)


def plant(faults: set[str]) -> None:
    """Have the server do wrong, in a few ways."""
    ended, sent, heard = RealtimeHandler.on_close, Outbox.send, Conversation.hear
    frames = 0

    def on_close(self: RealtimeHandler) -> None:
        ended(self)
        if "handlers" in faults:
            _kept.append(self)
        if "tasks" in faults:
            _kept.append(asyncio.ensure_future(asyncio.sleep(3600)))
        if "files" in faults:
            os.dup(0)

    def send(self: Outbox, data: bytes) -> None:
        nonlocal frames
        frames += b'"events"' in data
        if "events" not in faults or b'"events"' not in data or frames % 5:
            sent(self, data)

    def hear(self: Conversation, message: str) -> Awaitable[None] | None:
        if "exceptions" in faults and "fuzz" in message:
            raise RuntimeError("planted")
        return heard(self, message)

    RealtimeHandler.on_close, Outbox.send, Conversation.hear = on_close, send, hear  # type: ignore[method-assign]


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, tell)
    plant(set(os.environ.get("OBSERVED_FAULTS", "").split(",")))
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
