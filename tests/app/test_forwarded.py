"""What is believed about where a request came from."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from app.forwarded import Origin, Proxies

PROXY, CLIENT = "10.0.0.1", "192.0.2.7"


def request(peer: str | None, headers: Mapping[str, str], protocol: str = "http") -> HTTPServerRequest:
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    made = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "x", **headers}))
    made.remote_ip, made.protocol = peer, protocol
    return made


def origin(peer: str | None, headers: dict[str, str], *trusted: str) -> Origin:
    return Proxies(trusted).origin(request(peer, headers))


FORWARDED = {"X-Forwarded-For": CLIENT, "X-Forwarded-Proto": "https", "X-Real-IP": "203.0.113.9"}


def test_nobody_is_believed_by_default() -> None:
    assert origin("127.0.0.1", FORWARDED) == Origin(address="127.0.0.1", scheme="http", proxied=False)


def test_a_trusted_proxy_is_believed() -> None:
    assert origin(PROXY, FORWARDED, PROXY) == Origin(address=CLIENT, scheme="https", proxied=True)
    assert origin(PROXY, FORWARDED, "10.0.0.0/8") == Origin(address=CLIENT, scheme="https", proxied=True)
    assert origin("::ffff:10.0.0.1", FORWARDED, PROXY) == Origin(address=CLIENT, scheme="https", proxied=True)
    assert origin("::1", FORWARDED, "::1") == Origin(address=CLIENT, scheme="https", proxied=True)


@pytest.mark.parametrize("peer", ["10.0.0.2", "11.0.0.1", "", None, "/run/socket", "::2"])
def test_anyone_else_is_not(peer: str | None) -> None:
    assert origin(peer, FORWARDED, PROXY) == Origin(address=peer or "", scheme="http", proxied=False)


def test_what_the_client_itself_put_into_the_chain_is_not_believed() -> None:
    chain = {"X-Forwarded-For": f"127.0.0.1, 198.51.100.1, {CLIENT}"}
    assert origin(PROXY, chain, PROXY).address == CLIENT
    assert origin(PROXY, {"X-Forwarded-For": f"{CLIENT}, 10.0.0.2, 10.0.0.3"}, "10.0.0.0/8").address == CLIENT


@pytest.mark.parametrize("text", ["", "unknown", "1.2.3", "<script>", f"{CLIENT}:80", ",,"])
def test_a_chain_that_is_none_leaves_the_peer(text: str) -> None:
    assert origin(PROXY, {"X-Forwarded-For": text}, PROXY).address == PROXY
    assert origin(PROXY, {"X-Forwarded-For": f"{CLIENT}, {text}"}, PROXY).address == PROXY


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("http", "http"),
        ("http, https", "https"),
        ("https,http", "http"),
        ("ftp", "http"),
    ],
)
def test_the_scheme_is_what_the_nearest_proxy_says(said: str, scheme: str) -> None:
    assert origin(PROXY, {"X-Forwarded-Proto": said}, PROXY).scheme == scheme


def test_our_own_tls_counts() -> None:
    assert Proxies(()).origin(request(CLIENT, {}, protocol="https")).scheme == "https"
    assert Proxies([PROXY]).origin(request(PROXY, {}, protocol="https")).scheme == "https"
