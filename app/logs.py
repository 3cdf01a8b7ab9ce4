"""Logging: one line per message on standard error, JSON or text, and never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from app.metrics import Metrics
from models.fields import Report

Level = Literal["debug", "info", "warning", "error"]

log = structlog.get_logger("copydesk.documents")

_SECRET_NAME = re.compile(r"authorization|cookie|token|password|passwd|secret|api_?key|credential", re.IGNORECASE)
_SECRET_TEXTS = (
    # A JSON Web Token: its header is JSON, so it begins with `{"` in base64.
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*"), "[token]"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s,;\"']+", re.IGNORECASE), r"\1 [redacted]"),
    (re.compile(r"\b((?:__Host-)?copydesk_session)=[^\s;,\"']+"), r"\1=[redacted]"),
    (re.compile(r"://[^/@\s]+@"), "://[redacted]@"),
)
_REDACTED = "[redacted]"

# Their debug messages are about themselves and hold whole commands; the rest of the log must stay readable at "debug".
_TALKATIVE = ("asyncio", "pymongo", "motor")


def configure(level: Level, style: Literal["json", "text"] | None = None, stream: TextIO | None = None) -> None:
    """Send all logging of the process, the libraries' too, to `stream` (standard error), through one chain.

    `style` None is text on a terminal and JSON elsewhere. May be called again.
    """
    stream = stream or sys.stderr
    text = style == "text" or (style is None and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Loggers are made at import, before this; a cached one would keep what was configured then.
        cache_logger_on_first_use=False,
    )
    render: structlog.typing.Processor = (
        # Plain, also where `rich` is installed: its tracebacks show the values of variables, secrets among them.
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if text
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            # Last of all before rendering, so that nothing added later can slip past.
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, render],
        )
    )
    logging.getLogger().handlers = [handler]
    logging.captureWarnings(capture=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Requests are counted and timed by route (`app.metrics`); a line for each would drown the rest.
    logging.getLogger("tornado.access").disabled = True
    set_level(level)


def set_level(level: Level) -> None:
    """The least important messages to log, from now on."""
    logging.getLogger().setLevel(level.upper())


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that takes out what would let a reader of the log sign in as somebody else."""
    return {name: _without_secrets(name, value) for name, value in event.items()}


def _without_secrets(name: str, value: object) -> object:
    if _SECRET_NAME.search(name) and value is not None:
        return _REDACTED
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        for pattern, replacement in _SECRET_TEXTS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {str(key): _without_secrets(str(key), part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_without_secrets("", part) for part in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _without_secrets("", repr(value))


def malformed_reporter(metrics: Metrics, *, remembered: int = 10_000) -> Report:
    """Logs and counts every stored document that does not fit, once.

    The newest `remembered` of them are kept in memory; one that was forgotten is told of again.
    """
    known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def report(collection: str, identifier: object, problem: str) -> None:
        # The id of a foreign document may be anything, of any length.
        key = (collection, repr(identifier)[:200])
        if key in known:
            known.move_to_end(key)
            return
        known[key] = None
        if len(known) > remembered:
            known.popitem(last=False)
        metrics.malformed_documents.labels(collection).inc()
        log.warning("malformed_document", collection=collection, id=key[1], problem=problem)

    return report
