"""Where a request really came from: the peer, or what a trusted proxy in front of us says about it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Literal

import msgspec
from tornado.httputil import HTTPServerRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The client's end of a request."""

    address: str
    scheme: Literal["http", "https"]
    proxied: bool
    """Whether the peer is one of the trusted proxies."""


class Proxies:
    """The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; from anyone else they are ignored.

    Tornado's own `xheaders` believes everybody, so it stays off.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        """`trusted`: addresses and networks, such as ``10.0.0.0/8``."""
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in trusted)

    def origin(self, request: HTTPServerRequest) -> Origin:
        """The client's address and scheme."""
        peer = request.remote_ip or ""
        scheme: Literal["http", "https"] = "https" if request.protocol == "https" else "http"
        if not self.trusts(peer):
            return Origin(address=peer, scheme=scheme, proxied=False)
        said = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower()
        if said in ("http", "https"):
            scheme = "https" if said == "https" else "http"
        return Origin(address=self._client(request, peer), scheme=scheme, proxied=True)

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def _client(self, request: HTTPServerRequest, peer: str) -> str:
        """The last address of the chain that is no proxy of ours; what stands before it may be made up."""
        address = peer
        for text in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
            parsed = _parsed(text.strip())
            if parsed is None:
                break
            address = str(parsed)
            if not self.trusts(address):
                break
        return address


def _parsed(text: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket of both families shows version 4 peers as ::ffff:a.b.c.d.
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed
