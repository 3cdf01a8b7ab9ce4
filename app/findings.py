"""What can be wrong between a browser and Copydesk, or with its MongoDB, and what to do about it. Pure.

One catalogue for the page at `/diagnosis`, `run.py doctor` and `docs/diagnosis.md`: all three use the same words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

PING_FACTOR = 3
"""A proxy waits at least so many times the time between pings: docs/behind-nginx.md, "The clocks"."""

_PLACE = re.compile(r"\{(\w+)\}")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be wrong. ``{name}`` in a text is filled in with what was seen."""

    code: str
    what: str
    do: str
    lines: tuple[str, ...] = ()
    """What to write where `do` says, exactly."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A finding with what was seen."""

    code: str
    seen: Mapping[str, str] = {}

    @property
    def what(self) -> str:
        """What is wrong, in one or two sentences."""
        return filled(CATALOGUE[self.code].what, self.seen)

    @property
    def do(self) -> str:
        """What to do about it."""
        return filled(CATALOGUE[self.code].do, self.seen)

    @property
    def lines(self) -> list[str]:
        """What to write."""
        return [filled(line, self.seen) for line in CATALOGUE[self.code].lines]


def filled(text: str, seen: Mapping[str, str]) -> str:
    """A text with its places filled. What was not seen keeps its name, so that a missing one shows."""
    return _PLACE.sub(lambda place: seen.get(place[1], place[0]), text)


_UPGRADE_LINES = (
    "# in the http block:",
    "map $http_upgrade $copydesk_upgrade {",
    '    default       "";',
    "    ~*^websocket$ websocket;",
    "}",
    "map $copydesk_upgrade $copydesk_connection {",
    "    default upgrade;",
    '    ""      close;',
    "}",
    "# in the server block, and again in a location that has a proxy_set_header of its own:",
    "proxy_http_version 1.1;",
    "proxy_set_header Upgrade $copydesk_upgrade;",
    "proxy_set_header Connection $copydesk_connection;",
)

# -- the way to the server ---------------------------------------------------------------------------------------------

_WAY = (
    Finding(
        code="unreachable",
        what="Nothing answers at {address}: {detail}.",
        do="Check the name and the port, that the server behind it runs, and that no firewall is in between.",
    ),
    Finding(
        code="certificate",
        what="The certificate of {address} is not accepted: {detail}.",
        do="Give nginx the whole chain, for this host name, and renew it before it expires.",
        lines=(
            "ssl_certificate     /etc/ssl/copydesk/fullchain.pem;",
            "ssl_certificate_key /etc/ssl/copydesk/privkey.pem;",
        ),
    ),
    Finding(
        code="redirected",
        what="Requests are sent elsewhere ({status} to {location}). A WebSocket follows no redirect.",
        do="Open the page, and point programs, at the final address.",
    ),
    Finding(
        code="name_unknown",
        what="nginx does not know the host name {host} (421).",
        do="Add it to server_name in nginx, and to COPYDESK_ALLOWED_HOSTS.",
        lines=("server_name {name};",),
    ),
    Finding(
        code="host_not_allowed",
        what="Copydesk does not answer for the host name {host}, which arrived as it was sent.",
        do="Start every process of Copydesk with this setting.",
        lines=("COPYDESK_ALLOWED_HOSTS={name}",),
    ),
    Finding(
        code="host_replaced",
        what=(
            "The proxy changes the Host header: {sent} was sent and {arrived} arrived. Copydesk then takes its own page"
            " for another site's: sockets and saving are refused with cross_origin, or everything with 404."
        ),
        do="In the server block of nginx, and again in a location that has a proxy_set_header of its own:",
        lines=("proxy_set_header Host $http_host;",),
    ),
    Finding(
        code="proxy_finds_nothing",
        what="The proxy answers, and finds no process of Copydesk behind it ({status}).",
        do="Start Copydesk, or correct the addresses in the upstream block of nginx.",
    ),
    Finding(
        code="not_copydesk",
        what="What answers at {address} is not Copydesk ({status}, {type}).",
        do=(
            "Send every path to Copydesk: another server block, a sign-in page, try_files or a CDN may answer in its"
            " place."
        ),
        lines=("location / {", "    proxy_pass http://copydesk;", "}"),
    ),
    Finding(
        code="not_ready",
        what="Copydesk answers and cannot work now: {detail}",
        do="/readyz of the process says what is in the way, mostly MongoDB; the log says why.",
    ),
    Finding(
        code="proxy_untrusted",
        what=(
            "A proxy at {peer} sends forwarding headers, and Copydesk does not trust it. All users then seem to come"
            " from one address, and https counts as http."
        ),
        do="If that is your proxy, start every process of Copydesk with this setting.",
        lines=("COPYDESK_TRUSTED_PROXIES={peer}",),
    ),
    Finding(
        code="forwarded_for_missing",
        what="The proxy does not say whom it speaks for (X-Forwarded-For). Limits count all users as one.",
        do="In the server block of nginx:",
        lines=("proxy_set_header X-Forwarded-For $remote_addr;",),
    ),
    Finding(
        code="forwarded_proto_missing",
        what=(
            "The proxy does not say whether the browser speaks TLS (X-Forwarded-Proto). Behind https the session cookie"
            " then lacks Secure, and signing in may not last."
        ),
        do="In every server block of nginx:",
        lines=("proxy_set_header X-Forwarded-Proto $scheme;",),
    ),
    Finding(
        code="forwarded_proto_wrong",
        what="The browser speaks {sent}, and the proxy says {arrived} (X-Forwarded-Proto).",
        do=(
            "In every server block of nginx. If something before nginx ends TLS, see `Something before nginx` in"
            " docs/behind-nginx.md."
        ),
        lines=("proxy_set_header X-Forwarded-Proto $scheme;",),
    ),
)

# -- live updates ------------------------------------------------------------------------------------------------------

_LIVE = (
    Finding(
        code="updates_off",
        what="This server offers no live updates at all; pages have a Refresh button instead.",
        do="If that is not meant: COPYDESK_WEBSOCKETS_ENABLED=true, or COPYDESK_FALLBACK=sse.",
    ),
    Finding(
        code="websockets_off",
        what="WebSockets are switched off on this server.",
        do="If that is not meant: COPYDESK_WEBSOCKETS_ENABLED=true, and at run time PATCH /api/v1/admin/settings.",
    ),
    Finding(
        code="upgrade_dropped",
        what="The WebSocket handshake arrives without {missing}: a proxy on the way drops that.",
        do="If the proxy is nginx, write this. Each further proxy on the way needs the same.",
        lines=_UPGRADE_LINES,
    ),
    Finding(
        code="old_http",
        what="The proxy speaks HTTP/1.0 to Copydesk, in which there is no WebSocket.",
        do="In the server block of nginx:",
        lines=("proxy_http_version 1.1;",),
    ),
    Finding(
        code="handshake_refused",
        what="The WebSocket handshake is refused with {status}: {detail}",
        do="If these are not Copydesk's words, something in between refuses; let /api/v1/realtime pass there.",
    ),
    Finding(
        code="handshake_failed",
        what=(
            "The WebSocket does not open, though the same address answers ordinary requests. Browsers do not tell pages"
            " why; run.py doctor does."
        ),
        do="Allow WebSockets to /api/v1/realtime in what stands in between. TLS helps against many company proxies.",
    ),
    Finding(
        code="socket_silent",
        what="The WebSocket opens and what is said on it does not arrive.",
        do="Something in between holds WebSocket messages back, such as a virus scanner. TLS helps against many.",
    ),
    Finding(
        code="idle_cut",
        what=(
            "A quiet {transport} is cut after {seconds} s, sooner than Copydesk says something by itself, every"
            " {ping} s."
        ),
        do=(
            "In the locations of /api/v1/realtime and /api/v1/events in nginx, and the same in what stands before it."
            " Or lower COPYDESK_PING_SECONDS below half of what they wait."
        ),
        lines=("proxy_read_timeout {timeout}s;",),
    ),
    Finding(
        code="stream_buffered",
        what="A proxy collects the event stream: nothing came out of it within {seconds} s.",
        do=(
            "In the location of /api/v1/events in nginx; and take `proxy_ignore_headers X-Accel-Buffering`, `gzip` for"
            " text/event-stream and `proxy_cache` out of it. The same in every proxy before."
        ),
        lines=("location /api/v1/events {", "    proxy_buffering off;", "}"),
    ),
    Finding(
        code="stream_refused",
        what="The event stream is refused with {status}: {detail}",
        do="If these are not Copydesk's words, something in between refuses; let /api/v1/events/stream pass there.",
    ),
    Finding(
        code="stream_ended",
        what="The event stream ends, or stops, before it is live.",
        do="Something in between ends or holds back answers without a length; let /api/v1/events/stream pass there.",
    ),
    Finding(
        code="poll_refused",
        what="The long poll is refused with {status}: {detail}",
        do="If these are not Copydesk's words, something in between refuses; let /api/v1/events pass there.",
    ),
    Finding(
        code="poll_cut",
        what="A long poll that waits {wait} s is cut after {seconds} s.",
        do="In the location of /api/v1/events in nginx, and the same in what stands before it:",
        lines=("proxy_read_timeout {timeout}s;",),
    ),
    Finding(
        code="token_refused",
        what="The token is refused: {detail}",
        do="Print a new one with `run.py token`, with the secret of this server.",
    ),
)

# -- MongoDB -----------------------------------------------------------------------------------------------------------

_MONGODB = (
    Finding(
        code="mongodb_unreachable",
        what="MongoDB does not answer: {detail}.",
        do="Check COPYDESK_MONGODB_URI, that mongod runs, and that no firewall is in between.",
    ),
    Finding(
        code="mongodb_refuses",
        what="MongoDB refuses the user: {detail}.",
        do="Check name, password and authSource in COPYDESK_MONGODB_URI.",
    ),
    Finding(
        code="mongodb_no_primary",
        what="The replica set {set} has no primary that can be written to.",
        do="Look at rs.status() in mongosh: more than half of the members must be there.",
    ),
    Finding(
        code="mongodb_old",
        what="This is MongoDB {version}. Copydesk needs {wanted} or newer.",
        do="Upgrade it, one major version at a time.",
    ),
    Finding(
        code="mongodb_no_replica_set",
        what="This MongoDB is {kind}. Change streams need a replica set; one member is enough.",
        do="Start mongod with --replSet, then, once, in mongosh:",
        lines=("rs.initiate()",),
    ),
    Finding(
        code="mongodb_rights",
        what="The user lacks rights on the database {database}: {missing}.",
        do="As an administrator, in mongosh:",
        lines=(
            'db = db.getSiblingDB("{source}")',
            'db.grantRolesToUser("{user}", [{ role: "readWrite", db: "{database}" }])',
            'db.grantRolesToUser("{user}", [{ role: "dbAdmin", db: "{database}" }])',
        ),
    ),
    Finding(
        code="mongodb_stream",
        what="No change stream can be opened on the database {database}: {detail}.",
        do="Copydesk lives from it. The user needs readWrite on the database, the set a majority of its members.",
    ),
    Finding(
        code="mongodb_oplog_short",
        what=(
            "MongoDB's oplog reaches back {window} only. Whoever was away for longer loads everything again, and after"
            " a restart Copydesk needs {needed} of it."
        ),
        do="Make it larger, on every member, in mongosh (megabytes), and give it a least age (hours):",
        lines=("db.adminCommand({ replSetResizeOplog: 1, size: {megabytes}, minRetentionHours: 24 })",),
    ),
    Finding(
        code="mongodb_no_images",
        what="Changes of these collections come without the documents before and after: {collections}.",
        do="Restart a process of Copydesk, which switches that on, or in mongosh, for each:",
        lines=(
            'db = db.getSiblingDB("{database}")',
            'db.runCommand({ collMod: "{collection}", changeStreamPreAndPostImages: { enabled: true } })',
        ),
    ),
)

CATALOGUE: dict[str, Finding] = {finding.code: finding for finding in (*_WAY, *_LIVE, *_MONGODB)}
"""Every finding by its code. Codes are stable: they stand in tickets."""

IN_BROWSER: tuple[Finding, ...] = (*_WAY, *_LIVE)
"""Those that a page can come to."""
