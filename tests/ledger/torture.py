"""Every fault in full, one after the other: `python -m tests.ledger.torture` prints a table row for each.

A row is replayed with its seed. `--scale` makes it shorter or longer; what was found stands in docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.ledger.replica_set import replica_set
from tests.ledger.result import Result, Size
from tests.ledger.rows import FULL, ROWS


def main() -> int:
    """Run what was asked for; 1 where a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", choices=ROWS, action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run")
    parser.add_argument("--scale", type=float, default=1.0, help="of writes and faults, 1 being the full form")
    arguments = parser.parse_args()
    failed = False
    print("| row | seed | seconds | figures | broken | late |\n| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in arguments.row or ROWS:
        seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
        begun = time.monotonic()
        result = _run(name, seed, _scaled(FULL[name], arguments.scale))
        figures = "; ".join(f"{figure}: {value}" for figure, value in result.figures.items())
        broken, late = "; ".join(result.broken) or "none", "; ".join(result.late) or "none"
        print(f"| {name} | {seed} | {time.monotonic() - begun:.0f} | {figures} | {broken} | {late} |", flush=True)
        for example in result.findings.examples:
            print(f"{name}: {example[:600]}", file=sys.stderr, flush=True)
        failed |= bool(result.broken)
    return int(failed)


def _scaled(size: Size, scale: float) -> Size:
    return size._replace(writes=max(1, round(size.writes * scale)), times=max(1, round(size.times * scale)))


def _run(name: str, seed: int, size: Size) -> Result:
    """On a replica set of its own, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="copydesk-torture-") as folder:
        work = Path(folder) / "servers"
        work.mkdir()
        with replica_set(Path(folder) / "members") as members:
            return asyncio.run(ROWS[name](members, work, seed, size))


if __name__ == "__main__":
    sys.exit(main())
