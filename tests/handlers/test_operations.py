"""What operators, monitoring and clients ask before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from app.runtime import Readiness
from models.meta import Overrides
from tests.handlers.identity import Server, running

HANDSHAKE = {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


@pytest.fixture
def server(io_loop: IOLoop, database: Any) -> Iterator[Server]:
    with running(io_loop, database) as server:
        yield server


@pytest.fixture
def proxied(io_loop: IOLoop, database: Any) -> Iterator[Server]:
    """Behind a trusted proxy on the same machine."""
    with running(io_loop, database, trusted_proxies=("127.0.0.1", "::1")) as server:
        yield server


async def test_a_living_process_says_so(server: Server) -> None:
    answer = await server("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    answer = await server("HEAD", "/healthz")
    assert (answer.status, answer.body) == (200, b"")
    assert (await server("POST", "/healthz", {})).status == 405


async def test_probes_need_no_name_no_sign_in_and_no_database(server: Server, connection: Any) -> None:
    connection.close()
    for path in ("/healthz", "/readyz"):
        for headers in ({"Host": "10.1.2.3:8888"}, {"Cookie": "copydesk_session=x"}, {"Authorization": "Bearer x"}):
            assert (await server("GET", path, headers=headers)).status == 200


async def test_a_server_is_ready_or_says_what_is_in_the_way(server: Server) -> None:
    answer = await server("GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"database": True, "feed": True, "draining": False})
    server.readiness = Readiness(database=True, feed=False, draining=True)
    answer = await server("GET", "/readyz")
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert [problem["path"] for problem in answer.json["errors"]] == ["$.feed", "$.draining"]
    assert answer.headers["Retry-After"] == "1"


async def test_metrics_are_for_programs_on_this_machine(server: Server) -> None:
    await server("GET", "/healthz")
    answer = await server("GET", "/metrics")
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert b'copydesk_request_seconds_count{method="GET",route="/healthz",status="200"} 1.0' in answer.body


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"])
async def test_metrics_through_a_proxy_are_for_admins(server: Server, header: str) -> None:
    headers = {header: "127.0.0.1"}
    for who, roles, status in (
        (None, (), 401),
        ("alice", (), 403),
        ("robot", ("service",), 403),
        ("root", ("admin",), 200),
    ):
        assert (await server("GET", "/metrics", who=who, roles=roles, headers=headers)).status == status


async def test_metrics_are_not_given_to_a_page_of_another_name(server: Server) -> None:
    assert (await server("GET", "/metrics", headers={"Host": "evil.example"})).status == 404


async def test_a_client_learns_how_to_connect(server: Server) -> None:
    answer = await server("GET", "/api/v1/config")
    assert (answer.status, answer.json) == (
        200,
        {
            "version": "1.2.3",
            "transports": ["websocket"],
            "ping_seconds": 25,
            "poll_seconds": 10,
            "limits": {
                "topics": 128,
                "message_bytes": 65_536,
                "body_bytes": 262_144,
                "bulk_body_bytes": 1_048_576,
                "page_size": 200,
            },
        },
    )


async def test_no_transports_means_that_updates_are_not_live(server: Server) -> None:
    server.runtime.apply(Overrides(websockets_enabled=False, poll_seconds=5, version=2))
    answer = await server("GET", "/api/v1/config")
    assert (answer.json["transports"], answer.json["poll_seconds"]) == ([], 5)
    answer = await server("GET", "/api/v1/diagnostics", headers=HANDSHAKE)
    assert answer.json["transports"] == []
    assert "switched off" in answer.json["advice"][0]


async def test_diagnostics_show_what_arrived_and_no_secrets(server: Server) -> None:
    secret = {
        "Authorization": f"Bearer {server.token('alice')}",
        "Cookie": "copydesk_session=hidden",
        "X-Api-Key": "hidden",
    }
    forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "Via": "1.1 proxy"}
    answer = await server("GET", "/api/v1/diagnostics", headers={**secret, **forwarded, **HANDSHAKE})
    assert answer.json == {
        "scheme": "http",
        "host": server.root.removeprefix("http://"),
        "remote_address": answer.json["peer_address"],
        "peer_address": answer.json["peer_address"],
        "trusted_proxy": False,
        "http_version": "HTTP/1.1",
        "forwarding_headers": {"Via": "1.1 proxy", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"},
        "upgrade_headers": HANDSHAKE,
        "transports": ["websocket"],
        "advice": answer.json["advice"],
    }
    (advice,) = answer.json["advice"]
    assert "COPYDESK_TRUSTED_PROXIES" in advice
    assert "hidden" not in answer.body.decode()
    assert server.token("alice").partition(".")[0] not in answer.body.decode()


async def test_diagnostics_believe_a_trusted_proxy_and_miss_what_it_does_not_send(proxied: Server) -> None:
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", **HANDSHAKE}
    answer = await proxied("GET", "/api/v1/diagnostics", headers=headers)
    seen = msgspec.json.decode(answer.body)
    assert (seen["scheme"], seen["remote_address"], seen["trusted_proxy"]) == ("https", "192.0.2.7", True)
    assert seen["advice"] == []
    answer = await proxied("GET", "/api/v1/diagnostics", headers=HANDSHAKE)
    assert "X-Forwarded-For and X-Forwarded-Proto" in answer.json["advice"][0]


@pytest.mark.parametrize(
    ("headers", "missing"),
    [
        ({}, ["`Upgrade: websocket`", "`Connection: Upgrade`"]),
        ({"Connection": "close", "Upgrade": "websocket"}, ["`Connection: Upgrade`"]),
        ({"Connection": "Upgrade", "Upgrade": "h2c"}, ["`Upgrade: websocket`"]),
    ],
)
async def test_diagnostics_name_what_is_missing_of_an_upgrade(
    server: Server, headers: dict[str, str], missing: list[str]
) -> None:
    answer = await server("GET", "/api/v1/diagnostics", headers=headers)
    assert answer.json["transports"] == []
    (advice,) = answer.json["advice"]
    for name in ("`Upgrade: websocket`", "`Connection: Upgrade`"):
        assert (f"o {name}" in advice) == (name in missing)
