"""Logging: one line a message, through one chain, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app import logs
from app.metrics import Metrics

# A token that signs nothing: {"alg":"HS256"} and {"sub":"alice"}, with an invented signature.
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_messages_and_those_of_libraries_have_one_shape(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    structlog.get_logger("copydesk.http").info("started", request_id="01J", port=8888)
    logging.getLogger("tornado.general").warning("odd header from %s", "127.0.0.1")
    ours, theirs = lines(stream)
    assert ours["event"] == "started"
    assert (ours["logger"], ours["level"], ours["request_id"], ours["port"]) == ("copydesk.http", "info", "01J", 8888)
    assert (theirs["logger"], theirs["level"], theirs["event"]) == (
        "tornado.general",
        "warning",
        "odd header from 127.0.0.1",
    )
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize("style", ["json", "text"])
def test_no_secret_reaches_the_log(stream: io.StringIO, style: Any) -> None:
    logs.configure("info", style, stream)
    log = structlog.get_logger("copydesk.test")
    log.info("one", authorization="Basic YWxpY2U6c2VzYW1l", headers={"Cookie": "a=sesame"}, session_token="sesame")
    log.info("two", path=f"/?t={TOKEN}", detail=["Bearer sesame", {"auth_secret": "sesame"}], raw=b"Bearer sesame")
    log.info("three", uri="mongodb://admin:sesame@db.example/")
    logging.getLogger("pymongo").warning("cannot reach mongodb://admin:sesame@db.example with %s", TOKEN)
    logging.getLogger("tornado.general").warning("header Cookie: copydesk_session=sesame; x=1")
    try:
        int(f"the token {TOKEN} for mongodb://admin:sesame@db.example")
    except ValueError:
        log.exception("four")
    assert "four" in stream.getvalue()
    assert "sesame" not in stream.getvalue()
    assert "YWxpY2U6" not in stream.getvalue()
    assert "c2lnbmF0dXJl" not in stream.getvalue()


def test_a_line_feed_in_a_value_does_not_begin_a_line_of_its_own(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    structlog.get_logger("copydesk.test").info("odd", path='/\n{"event": "forged"}')
    assert [line["event"] for line in lines(stream)] == ["odd"]


def test_a_value_that_is_no_json_is_shown_and_breaks_nothing(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    structlog.get_logger("copydesk.test").info("odd", error=ValueError("x"), mixed={1: {2, 3}}, lone="\ud800")
    (line,) = lines(stream)
    assert line["error"] == "ValueError('x')"


def test_the_level_is_changed_while_running(stream: io.StringIO) -> None:
    logs.configure("warning", "json", stream)
    log = structlog.get_logger("copydesk.test")
    log.info("unseen")
    logs.set_level("debug")
    log.debug("seen")
    logging.getLogger("pymongo.command").debug("never seen: it holds whole commands")
    assert [line["event"] for line in lines(stream)] == ["seen"]


def test_requests_leave_no_access_log(stream: io.StringIO) -> None:
    logs.configure("debug", "json", stream)
    logging.getLogger("tornado.access").error("500 GET /")
    assert lines(stream) == []


def test_what_a_request_is_bound_to_stands_in_every_line_of_it(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    with structlog.contextvars.bound_contextvars(connection_id="01K"):
        structlog.get_logger("copydesk.test").info("inside")
        logging.getLogger("tornado.general").warning("inside too")
    assert [line["connection_id"] for line in lines(stream)] == ["01K", "01K"]


def test_a_malformed_document_is_logged_and_counted_once(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    metrics = Metrics()
    report = logs.malformed_reporter(metrics, remembered=2)
    for identifier in ("a", "a", {"not": "hashable"}, "a"):
        report("items", identifier, "Expected `str`, got `int` - at `$.name`")
    assert [line["id"] for line in lines(stream)] == ["'a'", "{'not': 'hashable'}"]
    assert metrics.registry.get_sample_value("copydesk_malformed_documents_total", {"collection": "items"}) == 2


def test_what_was_reported_is_forgotten_in_the_end(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    report = logs.malformed_reporter(Metrics(), remembered=2)
    for identifier in ("a", "b", "c", "a"):
        report("items", identifier, "does not fit")
    assert [line["id"] for line in lines(stream)] == ["'a'", "'b'", "'c'", "'a'"]
