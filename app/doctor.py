"""`run.py doctor`: what gets through to a Copydesk from here, hop by hop, and whether its MongoDB can serve it."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from app.examining import examine
from app.findings import Found
from app.judging import (
    Judged,
    State,
    judge_poll,
    judge_quiet,
    judge_reached,
    judge_rest,
    judge_socket,
    judge_stream,
)
from app.mongod import Say
from app.probing import Quiet, Way, duration
from app.settings import CannotStart, Settings

WIDTH = 100
_DEFAULT_PING = 25.0
_MARKS: Mapping[State, str] = {"good": "ok", "bad": "BAD", "off": "off", "skipped": "-"}


async def doctor(
    settings: Settings, url: str, *, direct: str | None, token: str, quick: bool, say: Say
) -> tuple[list[str], bool]:
    """The report as lines, and whether all is well. `say` is told what takes long. Raises `CannotStart`."""
    try:
        ways = {f"through {url}": Way(url, token=token)}
        if direct is not None:
            ways[f"directly at {direct}"] = Way(direct, public_url=url, token=token)
    except ValueError as problem:
        raise CannotStart(f"{problem}.") from None
    try:
        tried = await asyncio.gather(*(_try(way, quick=quick, say=say) for way in ways.values()))
    finally:
        for way in ways.values():
            way.close()
    parts = dict(zip(ways, tried, strict=True))
    if settings.mongodb_uri is not None:
        parts["MongoDB"] = Judged()
        await examine(settings, parts["MongoDB"])
    lines = report(f"Copydesk doctor: {url}", parts, _where(list(ways), tried))
    return lines, not any(part.found for part in parts.values())


async def _try(way: Way, *, quick: bool, say: Say) -> Judged:
    """Everything that can be tried on one way."""
    judged = Judged()
    config = await way.get("/config")
    if config.untrusted:
        judged.find("certificate", address=way.url, detail=config.error)
        way.go_on_untrusted()
        config = await way.get("/config")
    if config.status == 401 and way.has_token:
        judged.find("token_refused", detail=config.detail)
        way.forget_token()
        config = await way.get("/config")
    if not judge_rest(way, config, judged):
        return judged
    transports: list[str] = config.body["transports"]
    ping_seconds = float(config.body.get("ping_seconds", _DEFAULT_PING))
    signed_in = way.has_token
    reached, socket, stream, poll = await asyncio.gather(
        way.reached(),
        _or_none(way.socket() if "websocket" in transports else None),
        _or_none(way.stream() if signed_in else None),
        _or_none(way.poll() if signed_in else None),
    )
    judge_reached(way, reached, judged)
    judge_socket(socket, transports, judged)
    judge_stream(stream, judged)
    judge_poll(poll, ping_seconds, judged)
    if not quick:
        seconds = duration(ping_seconds)
        say(f"{way.url}: measuring how long quiet connections live, at most {seconds:.0f} s (--quick leaves it out)")
        judge_quiet(await _quiet(way, seconds, transports, signed_in=signed_in), ping_seconds, judged)
    return judged


async def _quiet(way: Way, seconds: float, transports: list[str], *, signed_in: bool) -> dict[str, Quiet | None]:
    socket, stream, poll = await asyncio.gather(
        _or_none(way.quiet_socket(seconds) if "websocket" in transports else None),
        _or_none(way.quiet_stream(seconds) if signed_in else None),
        _or_none(way.quiet_poll(seconds) if signed_in else None),
    )
    return {"WebSocket": socket, "event stream": stream, "long poll": poll}


async def _or_none(trying: Any) -> Any:
    return None if trying is None else await trying


def _where(names: list[str], tried: list[Judged]) -> str:
    """On which side of the proxy to look, where both ways were tried."""
    if len(tried) < 2 or not any(part.found for part in tried):
        return ""
    through, directly = ({found.code for found in part.found} for part in tried)
    if not directly:
        return "Directly all is well: what is wrong lies in between, mostly in the proxy."
    if through <= directly:
        return "Directly it is the same: look at Copydesk itself first."
    return "Some of it is wrong directly, too: begin with that."


def report(title: str, parts: Mapping[str, Judged], where: str = "") -> list[str]:
    """The lines that are printed."""
    lines = [title]
    for name, part in parts.items():
        lines += ["", name]
        lines += [f"  {_MARKS[row.state]:<4}{row.name:<20}{row.text}" for row in part.rows]
    numbered = list(_merged(parts))
    if not numbered:
        return [*lines, "", "Nothing to change was found."]
    lines += ["", f"{len(numbered)} {'thing' if len(numbered) == 1 else 'things'} to change"]
    lines += [where] if where else []
    for number, (found, names) in enumerate(numbered, start=1):
        lines += ["", f"{number}. {found.code} ({', '.join(names)})"]
        lines += _wrapped(found.what) + _wrapped(found.do)
        lines += [f"       {line}" for line in found.lines]
    return [*lines, "", "Each finding is explained in docs/diagnosis.md."]


def _merged(parts: Mapping[str, Judged]) -> Iterable[tuple[Found, list[str]]]:
    """Each finding once, with the names of the ways on which it was found."""
    merged: dict[str, tuple[Found, list[str]]] = {}
    for name, part in parts.items():
        for found in part.found:
            merged.setdefault(found.code, (found, []))[1].append(name)
    return merged.values()


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="   ", subsequent_indent="   ", break_long_words=False, break_on_hyphens=False
    )
