"""Feeds nginx/nchan: reads the change stream with PyMongo and publishes every change over one kept connection.

    python nchan_bridge.py URI DATABASE PORT

Prints a line when its stream is open.
"""

from __future__ import annotations

import http.client
import json
import sys

from pymongo import MongoClient


def main() -> None:
    uri, database, port = sys.argv[1:]
    nginx = http.client.HTTPConnection("127.0.0.1", int(port))
    collection = MongoClient(uri)[database].comments
    with collection.watch(full_document="updateLookup") as stream:
        stream.try_next()
        print("open", flush=True)
        for change in stream:
            text = json.dumps({"change": change["operationType"], "doc": change["fullDocument"]}, default=str)
            nginx.request("POST", "/pub?id=project", text.encode(), {"Content-Type": "application/json"})
            nginx.getresponse().read()


if __name__ == "__main__":
    main()
