"""What the tries of one way to Copydesk mean: a line for each, and findings. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from app.findings import PING_FACTOR, Found
from app.probing import Answer, PollSeen, Quiet, SocketSeen, StreamSeen, Way

State = Literal["good", "bad", "off", "skipped"]

_SHORTEST_TIMEOUT = 90
_ARRIVED = re.compile(r"host name '([^']*)'")


class Row(msgspec.Struct, frozen=True):
    """One line of a report."""

    name: str
    state: State
    text: str


class Judged(msgspec.Struct, frozen=True):
    """Lines of a report, and the findings behind those that are bad."""

    rows: list[Row] = []
    found: list[Found] = []

    def row(self, name: str, state: State, text: str) -> None:
        """Add a line."""
        self.rows.append(Row(name, state, text))

    def find(self, code: str, **seen: object) -> None:
        """Add a finding, once."""
        if all(other.code != code for other in self.found):
            self.found.append(Found(code=code, seen={name: str(value) for name, value in seen.items()}))


def timeout_for(ping_seconds: float) -> int:
    """Seconds for which a proxy should wait."""
    return max(_SHORTEST_TIMEOUT, math.ceil(ping_seconds * PING_FACTOR))


def judge_rest(way: Way, config: Answer, judged: Judged) -> bool:
    """Whether Copydesk answers at all."""
    if config.status is None:
        judged.row("REST", "bad", f"{config.error} after {_ms(config.seconds)}")
        judged.find("unreachable", address=way.url, detail=config.error)
        return False
    if config.status == 200 and "version" in config.body:
        judged.row("REST", "good", f"Copydesk {config.body['version']} answered after {_ms(config.seconds)}")
        return True
    judged.row("REST", "bad", refusal(config))
    status, host = config.status, {"host": way.host, "name": way.name}
    if status == 404 and "COPYDESK_ALLOWED_HOSTS" in config.detail:
        match = _ARRIVED.search(config.detail)
        arrived = match[1] if match else "another name"
        if arrived == way.name:
            judged.find("host_not_allowed", **host)
        else:
            judged.find("host_replaced", sent=way.host, arrived=arrived)
    elif status in (301, 302, 303, 307, 308):
        judged.find("redirected", status=status, location=config.location)
    elif status == 421:
        judged.find("name_unknown", **host)
    elif status in (502, 504) or "(502)" in config.detail:
        judged.find("proxy_finds_nothing", status=status)
    elif status == 503 and "code" in config.body:
        judged.find("not_ready", detail=config.detail)
    else:
        judged.find("not_copydesk", address=way.url, status=status, type=config.type)
    return False


def judge_reached(way: Way, reached: Answer, judged: Judged) -> None:
    """What arrived of a request's headers."""
    if "host" not in reached.body:
        judged.row("Headers", "bad", refusal(reached))
        judged.find("not_copydesk", address=f"{way.url}/api/v1/diagnostics", status=reached.status, type=reached.type)
        return
    seen, before = reached.body, len(judged.found)
    headers: Mapping[str, str] = seen["forwarding_headers"]
    # Copydesk names no server in its answers. Without this, a program on the proxy's own machine would pass for it.
    proxied = bool(headers or reached.server)
    trusted = bool(seen["trusted_proxy"])
    if seen["host"] != way.host:
        judged.find("host_replaced", sent=way.host, arrived=seen["host"])
    if headers and not trusted:
        judged.find("proxy_untrusted", peer=seen["peer_address"])
    if proxied and trusted:
        if "X-Forwarded-For" not in headers:
            judged.find("forwarded_for_missing")
        if "X-Forwarded-Proto" not in headers:
            judged.find("forwarded_proto_missing")
        elif seen["scheme"] != way.scheme:
            judged.find("forwarded_proto_wrong", sent=way.scheme, arrived=seen["scheme"])
    through = f"through the proxy {seen['peer_address']}" if proxied and trusted else "without a trusted proxy"
    text = f"{seen['scheme']}, host {seen['host']}, {seen['http_version']}, {through}"
    judged.row("Headers", "bad" if len(judged.found) > before else "good", text)


def judge_socket(socket: SocketSeen | None, transports: list[str], judged: Judged) -> None:
    """Whether a WebSocket opens and speaks. None: it was not tried, because it is switched off."""
    name = "WebSocket"
    if socket is None:
        judged.row(name, "off", "switched off on this server")
        judged.find("websockets_off" if transports else "updates_off")
        return
    if socket.answered:
        who = f"said hello as {socket.user}" if socket.user else "passes messages both ways"
        judged.row(name, "good", f"opened after {_ms(socket.seconds)} and {who}")
        return
    answer = socket.refused
    if answer is None:
        judged.row(name, "bad", "opened, and nothing came back on it")
        judged.find("socket_silent")
        return
    judged.row(name, "bad", refusal(answer))
    missing = [_missing(entry) for entry in answer.body.get("errors", ())]
    if answer.status == 426 and missing == ["HTTP/1.1"]:
        judged.find("old_http")
    elif answer.status == 426 and missing:
        judged.find("upgrade_dropped", missing=" and without ".join(missing))
    elif answer.body.get("code") == "cross_origin" and any(found.code == "host_replaced" for found in judged.found):
        return  # follows from that
    elif answer.status is None:
        judged.find("handshake_refused", status="no answer", detail=answer.error)
    else:
        judged.find("handshake_refused", status=answer.status, detail=answer.detail or answer.type)


def judge_stream(stream: StreamSeen | None, judged: Judged) -> None:
    """Whether the event stream comes as it is made. None: not tried."""
    name = "Event stream"
    if stream is None:
        judged.row(name, "skipped", "not tried: it needs a token")
    elif stream.refused is not None:
        judged.row(name, "bad", refusal(stream.refused))
        judged.find("stream_refused", status=stream.refused.status, detail=stream.refused.detail)
    elif stream.live_seconds is not None:
        first, live = _ms(stream.first_seconds or 0), _ms(stream.live_seconds)
        judged.row(name, "good", f"first bytes after {first}, live after {live}")
    elif stream.first_seconds is not None:
        judged.row(name, "bad", "ended before it was live")
        judged.find("stream_ended")
    else:
        # Copydesk sends the first bytes at once, so that somebody else kept them.
        judged.row(name, "bad", f"nothing came out of it within {stream.seconds:.1f} s")
        judged.find("stream_buffered", seconds=f"{stream.seconds:.1f}")


def judge_poll(poll: PollSeen | None, ping_seconds: float, judged: Judged) -> None:
    """Whether a long poll may wait. None: not tried."""
    name = "Long poll"
    if poll is None:
        judged.row(name, "skipped", "not tried: it needs a token")
        return
    answer, seconds = poll.answer, f"{poll.answer.seconds:.1f}"
    if answer.status == 200:
        judged.row(name, "good", f"waited {seconds} s, as it should")
    elif poll.wait and (answer.status in (None, 504) or "(504)" in answer.detail):
        judged.row(name, "bad", f"cut after {seconds} s")
        judged.find("poll_cut", wait=poll.wait, seconds=seconds, timeout=timeout_for(ping_seconds))
    else:
        judged.row(name, "bad", refusal(answer))
        judged.find("poll_refused", status=answer.status or "no answer", detail=answer.detail or answer.error)


def judge_quiet(seen: Mapping[str, Quiet | None], ping_seconds: float, judged: Judged) -> None:
    """How connections bore silence, by the names ``WebSocket``, ``event stream`` and ``long poll``."""
    for transport, quiet in seen.items():
        name = f"Quiet {transport}"
        if quiet is None:
            judged.row(name, "skipped", "not measured")
        elif not quiet.cut:
            judged.row(name, "good", _survived(quiet))
        else:
            judged.row(name, "bad", f"cut after {quiet.silence:g} s without a word")
            values: dict[str, Any] = {"seconds": f"{quiet.silence:g}", "timeout": timeout_for(ping_seconds)}
            if quiet.wait:
                judged.find("poll_cut", wait=quiet.wait, **values)
            else:
                judged.find("idle_cut", transport=transport, ping=f"{ping_seconds:g}", **values)


def refusal(answer: Answer) -> str:
    """An answer that is not what was asked for, on one line."""
    if answer.status is None:
        return answer.error
    code = answer.body.get("code")
    return f"{answer.status} {code}: {answer.detail}" if code else f"{answer.status}, {answer.type}"


def _survived(quiet: Quiet) -> str:
    if quiet.wait:
        return f"waited {quiet.silence:g} s, and was answered"
    if quiet.code == 4401:
        return f"lived through {quiet.silence:g} s of silence, until the server asked who it was"
    if quiet.code:
        return f"ended by the server ({quiet.code}); longest silence {quiet.silence:g} s"
    return f"lived through {quiet.silence:g} s of silence"


def _missing(entry: Mapping[str, str]) -> str:
    return entry.get("message", "").removeprefix("expected `").removesuffix("`")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
