"""The shortest way from a commit to a program: PyMongo's change stream and nothing behind it.

    python bare_watcher.py URI DATABASE

Prints a line when its stream is open; for a line `N` on standard input the delays of the next N comments, in ms.
"""

from __future__ import annotations

import json
import sys
import time

from pymongo import MongoClient


def main() -> None:
    uri, database = sys.argv[1:]
    collection = MongoClient(uri)[database].comments
    images = {"full_document": "whenAvailable", "full_document_before_change": "whenAvailable"}
    with collection.watch(**images) as stream:
        stream.try_next()
        print("open", flush=True)
        for line in sys.stdin:
            delays = []
            for _ in range(int(line)):
                body = next(stream)["fullDocument"]["body"]
                delays.append((time.perf_counter_ns() - int(body.rstrip("^").rpartition(" ")[2])) / 1e6)
            print(json.dumps(delays), flush=True)


if __name__ == "__main__":
    main()
