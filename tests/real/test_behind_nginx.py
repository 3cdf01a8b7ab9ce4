"""Copydesk behind a real nginx with the configuration that is shipped, and with the mistakes that people make in it."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse
from tornado.ioloop import IOLoop

from app import commands
from app.main import Server
from app.settings import Settings
from models.errors import Refusal
from tests.conftest import Copydesk
from tests.editor import Editor
from tests.real import nginx
from tests.real.conftest import BEHIND_NGINX
from tests.real.nginx import Nginx, replaced, without
from tests.real.processes import Process

ROOT = Path(__file__).parents[2]
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
NO_UPGRADE = without("proxy_set_header Upgrade", "proxy_set_header Connection")

StartServer = Callable[..., Copydesk]
StartNginx = Callable[..., Nginx]


class Client:
    """Somebody outside, who knows nginx only."""

    def __init__(self, proxy: Nginx) -> None:
        self.proxy = proxy
        self.editors: list[Editor] = []

    def token(self, user: str, roles: Sequence[str] = ()) -> str:
        """A bearer token."""
        settings = Settings(auth_secret="s" * 32)
        return commands.token(settings, sub=user, roles=roles, ttl_seconds=3600, name=None, email=None)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str | None = "alice",
        roles: Sequence[str] = (),
        host: str = "",
        **headers: str,
    ) -> HTTPResponse:
        """One request. Underscores in header names become hyphens."""
        sent = {"Host": host or self.proxy.host, **{name.replace("_", "-"): text for name, text in headers.items()}}
        if user is not None:
            sent["Authorization"] = f"Bearer {self.token(user, roles)}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        return await AsyncHTTPClient().fetch(
            self.proxy.url + path,
            method=method,
            headers=sent,
            body=None if body is None else json.dumps(body),
            allow_nonstandard_methods=True,
            follow_redirects=False,
            raise_error=False,
            # Another end of the loopback than nginx has, so that the two can be told apart.
            network_interface="127.0.0.2",
        )

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """One request to the API, where success is expected: the JSON of the answer."""
        response = await self.request(method, f"/api/v1{path}", body, **options)
        assert response.code < 400, (response.code, response.body)
        return json.loads(response.body)

    async def editor(self, user: str | None = "bob", **headers: str) -> Editor:
        """An editor who has said hello, by a token or by the session in the handshake."""
        token = None if user is None else self.token(user)
        editor = await Editor.connect(self.proxy.url, token, headers={"Host": self.proxy.host, **headers})
        self.editors.append(editor)
        return editor

    async def refused_handshake(self, **headers: str) -> HTTPResponse:
        """The answer to a handshake that is expected to fail."""
        with pytest.raises(HTTPClientError) as refused:
            await Editor.connect(self.proxy.url, hello=False, headers={"Host": self.proxy.host, **headers})
        assert refused.value.response is not None
        return refused.value.response

    async def close(self) -> None:
        """Close what is open."""
        for editor in self.editors:
            await editor.close()


@pytest.fixture
def connect(io_loop: IOLoop, start_nginx: StartNginx) -> Iterator[Callable[..., Client]]:
    """Start nginx before these ports, and be its client."""
    clients: list[Client] = []

    def client(upstreams: list[int], *edits: nginx.Edit) -> Client:
        clients.append(Client(start_nginx(upstreams, *edits)))
        return clients[-1]

    yield client
    for each in clients:
        io_loop.run_sync(each.close)
    AsyncHTTPClient().close()


@pytest.fixture
def servers(request: pytest.FixtureRequest, start_server: StartServer) -> list[Server]:
    """Two servers on one database, as nginx expects them; with more settings where a test is `configured`."""
    return [start_server(**{**BEHIND_NGINX, **getattr(request, "param", {})}).server for _ in range(2)]


@pytest.fixture
def ports(servers: list[Server]) -> list[int]:
    """Where they listen."""
    return [server.port for server in servers]


def configured(**settings: Any) -> pytest.MarkDecorator:
    """The two servers have these settings."""
    return pytest.mark.parametrize("servers", [settings], indirect=True, ids=[",".join(settings)])


def problem(response: HTTPResponse) -> Any:
    """The JSON of an error answer, which has the shape that the API has everywhere."""
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.body)
    assert {"type", "title", "status", "code", "detail", "request_id"} <= set(body)
    assert body["status"] == response.code
    return body


# -- the shipped configuration ----------------------------------------------------------------------------------------


async def test_a_comment_sent_through_nginx_reaches_an_editor_whose_socket_goes_through_nginx(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports)
    project = (await client.call("POST", "/projects", {"name": "Spring"}))["id"]
    topic = f"project:{project}"
    bobs = [await client.editor("bob") for _ in range(4)]
    for bob in bobs:
        await bob.subscribe(topic)

    comment = await client.call("POST", f"/projects/{project}/comments", {"body": "Hello @bob"})

    for bob in bobs:
        event = await bob.until_event(topic, id=comment["id"])
        assert event["doc"] == comment


async def test_an_event_stream_brings_each_event_at_once(connect: Callable[..., Client], ports: list[int]) -> None:
    client = connect(ports)
    project = (await client.call("POST", "/projects", {"name": "Spring"}))["id"]
    reader, writer = await asyncio.open_connection("127.0.0.1", client.proxy.port)
    head = f"GET /api/v1/events/stream?topics=project:{project} HTTP/1.1\r\nHost: {client.proxy.host}\r\n"
    writer.write(f"{head}Authorization: Bearer {client.token('bob')}\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"event: live"), 20)

    comment = await client.call("POST", f"/projects/{project}/comments", {"body": "Short"})

    await asyncio.wait_for(reader.readuntil(comment["id"].encode()), 20)
    writer.close()
    await writer.wait_closed()


async def test_sockets_are_spread_over_both_processes(connect: Callable[..., Client], servers: list[Server]) -> None:
    client = connect([server.port for server in servers])
    for _ in range(6):
        await client.editor()
    assert [len(server.connections) for server in servers] == [3, 3]


def test_an_idle_socket_outlives_the_60_seconds_after_which_nginx_would_cut_it(
    io_loop: IOLoop, connect: Callable[..., Client], ports: list[int]
) -> None:
    async def idle() -> None:
        client = connect(ports)
        bob = await client.editor()
        begun = io_loop.time()
        pings = 0
        while io_loop.time() - begun < 65:
            await bob.until(lambda: len(bob.of("ping")) > pings, seconds=40)  # noqa: B023 - awaited in this round
            pings += 1
            await bob.socket.write_message(json.dumps({"op": "pong"}))
        assert not bob.closed.done()
        await client.call("GET", "/session", user="bob")
        project = (await client.call("POST", "/projects", {"name": "Later"}))["id"]
        assert "ok" in await bob.subscribe(f"project:{project}")

    io_loop.run_sync(idle, timeout=120)


async def test_nginx_cuts_a_socket_that_gets_no_ping_within_its_read_timeout(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports, replaced("proxy_read_timeout 90s", "proxy_read_timeout 1s"))
    bob = await client.editor()
    code, _reason = await asyncio.wait_for(bob.closed, 20)
    assert code is None  # cut without a close frame, which browsers show as 1006


@configured(ping_seconds=0.25)
async def test_pings_keep_a_socket_open_that_the_read_timeout_would_cut(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports, replaced("proxy_read_timeout 90s", "proxy_read_timeout 1s"))
    bob = await client.editor()
    await bob.until(lambda: len(bob.of("ping")) >= 10)
    assert not bob.closed.done()


async def test_the_page_opens_its_socket_with_the_cookie_because_the_host_arrives_with_its_port(
    connect: Callable[..., Client], servers: list[Server]
) -> None:
    await _add_user(servers[0].settings)
    client = connect([server.port for server in servers])
    origin = f"http://{client.proxy.host}"

    bob = await client.editor(None, Origin=origin, Cookie=await _session(client, origin))

    assert "ok" in await bob.subscribe("projects")


async def test_a_host_without_its_port_makes_the_page_look_like_another_site(
    connect: Callable[..., Client], servers: list[Server]
) -> None:
    await _add_user(servers[0].settings)
    right = connect([server.port for server in servers])
    cookie = await _session(right, f"http://{right.proxy.host}")
    wrong = connect([server.port for server in servers], replaced(r"Host \$http_host;", "Host $host;"))

    refused = await wrong.refused_handshake(Origin=f"http://{wrong.proxy.host}", Cookie=cookie)

    assert (refused.code, problem(refused)["code"]) == (403, "cross_origin")
    seen = await wrong.call("GET", "/diagnostics", user=None)
    assert seen["host"] == nginx.SERVER_NAME  # where the page says which port is missing


async def test_a_host_that_is_not_sent_on_is_named_in_the_refusal(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    response = await connect(ports, without("proxy_set_header Host")).request("GET", "/api/v1/config")
    assert response.code == 404
    assert "'copydesk'" in problem(response)["detail"]  # what nginx calls its upstream


async def test_a_socket_of_another_site_is_refused_through_nginx(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    refused = await connect(ports).refused_handshake(Origin="http://evil.example")
    assert (refused.code, problem(refused)["code"]) == (403, "cross_origin")


async def test_a_name_that_is_not_ours_is_refused_by_nginx(connect: Callable[..., Client], ports: list[int]) -> None:
    client = connect(ports)
    for host in ("evil.example", f"evil.example:{client.proxy.port}", "127.0.0.1", f"{nginx.SERVER_NAME}.evil.example"):
        response = await client.request("GET", "/", host=host)
        assert response.code == 421
        assert b"server_name" in response.body


async def test_a_name_that_nginx_lets_through_and_copydesk_does_not_know_is_a_404_that_names_the_setting(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports, replaced(r"server_name copydesk\.example;", "server_name copydesk.example www.example;"))
    response = await client.request("GET", "/api/v1/config", host="www.example")
    assert response.code == 404
    assert "COPYDESK_ALLOWED_HOSTS" in problem(response)["detail"]


async def test_a_name_in_the_request_line_does_not_smuggle_another_host_in(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports)
    ours, evil = nginx.SERVER_NAME, "evil.example"
    assert await _status(client, f"GET http://{evil}/api/v1/config HTTP/1.1\r\nHost: {ours}\r\n") == 421
    assert await _status(client, f"GET http://{ours}/api/v1/config HTTP/1.1\r\nHost: {evil}\r\n") == 404
    assert await _status(client, "GET /api/v1/config HTTP/1.0\r\n") == 421


async def test_forwarding_headers_from_outside_are_overwritten(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    seen = await connect(ports).call(
        "GET",
        "/diagnostics",
        user=None,
        X_Forwarded_For="203.0.113.7",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="evil.example",
        X_Real_IP="203.0.113.7",
        Forwarded="for=203.0.113.7",
    )
    assert seen["forwarding_headers"] == {"X-Forwarded-For": "127.0.0.2", "X-Forwarded-Proto": "http"}
    assert (seen["remote_address"], seen["peer_address"], seen["scheme"]) == ("127.0.0.2", "127.0.0.1", "http")
    assert seen["trusted_proxy"] is True


async def test_copydesk_sees_everything_that_a_socket_needs(connect: Callable[..., Client], ports: list[int]) -> None:
    seen = await connect(ports).call("GET", "/diagnostics", user=None, **_as_arguments(UPGRADE))
    assert {name.lower(): text for name, text in seen["upgrade_headers"].items()} == {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
    }
    assert seen["transports"][0] == "websocket"
    assert seen["advice"] == []
    assert seen["http_version"] == "HTTP/1.1"


@configured(trusted_proxies=())
async def test_an_untrusted_proxy_is_told_of_in_the_diagnostics(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    seen = await connect(ports).call("GET", "/diagnostics", user=None, **_as_arguments(UPGRADE))
    assert (seen["remote_address"], seen["trusted_proxy"]) == ("127.0.0.1", False)
    assert "COPYDESK_TRUSTED_PROXIES" in seen["advice"][0]


async def test_no_other_protocol_than_websocket_is_let_through(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    seen = await connect(ports).call("GET", "/diagnostics", user=None, Upgrade="h2c", Connection="Upgrade")
    assert seen["upgrade_headers"] == {"Connection": "close"}


async def test_metrics_are_not_open_to_those_who_come_through_nginx(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports)
    assert (await client.request("GET", "/metrics", user=None)).code == 401
    assert (await client.request("GET", "/metrics")).code == 403


async def test_the_page_and_the_client_module_come_through_nginx_as_copydesk_serves_them(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports)
    page = await client.request("GET", "/", user=None)
    module = await client.request("GET", "/static/client.js", user=None)
    assert (page.code, module.code) == (200, 200)
    assert f"ws://{client.proxy.host}" in page.headers["Content-Security-Policy"]
    assert module.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert page.headers["Server"] == "nginx"  # no version


async def test_strange_paths_get_the_same_answer_through_nginx_as_directly(
    connect: Callable[..., Client], servers: list[Server]
) -> None:
    client = connect([server.port for server in servers])
    for path in ("//api/v1/config", "/api/v1/%2e%2e/config", "/api/v1/x/../config", "/api/%2fv1/config", "/api/..;/v1"):
        through = await _status(client, f"GET {path} HTTP/1.1\r\nHost: {client.proxy.host}\r\n")
        directly = await _status(client, f"GET {path} HTTP/1.1\r\nHost: {client.proxy.host}\r\n", servers[0].port)
        assert (path, through) == (path, directly) == (path, 404)


async def test_the_access_log_tells_of_sockets_and_never_of_a_query(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports)
    bob = await client.editor()
    await bob.close()
    response = await client.request("GET", "/api/v1/realtime?token=secret.secret.secret", **UPGRADE)
    assert response.code == 400
    client.proxy.stop()
    lines = [json.loads(line) for line in client.proxy.access_log.splitlines()]
    assert {(line["path"], line["status"], line["upgrade"]) for line in lines} == {
        ("/api/v1/realtime", 101, "websocket"),
        ("/api/v1/realtime", 400, "websocket"),
    }
    assert "secret" not in client.proxy.access_log


async def test_a_client_that_trickles_its_headers_is_cut_off(connect: Callable[..., Client], ports: list[int]) -> None:
    client = connect(ports, replaced("client_header_timeout 10s", "client_header_timeout 1s"))
    reader, writer = await asyncio.open_connection("127.0.0.1", client.proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: copydesk.example\r\nX-Slow: ")
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    await writer.wait_closed()


async def test_what_nginx_itself_refuses_has_the_shape_of_the_api(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports, replaced("limit_conn copydesk_address 1200", "limit_conn copydesk_address 1"))
    too_large = await client.request("POST", "/api/v1/projects", {"name": "x" * 3_000_000})
    assert (too_large.code, problem(too_large)["code"]) == (413, "too_large")

    holding = await Editor.connect(
        client.proxy.url, client.token("bob"), headers={"Host": client.proxy.host}, network_interface="127.0.0.2"
    )
    client.editors.append(holding)
    too_many = await client.request("GET", "/api/v1/config")
    assert (too_many.code, problem(too_many)["code"]) == (429, "rate_limited")
    assert int(too_many.headers["Retry-After"]) > 0


def test_the_titles_in_the_answers_of_nginx_are_those_of_copydesk() -> None:
    ours = {kind.code: (kind.status, kind.title) for kind in _family(Refusal)}
    bodies = re.findall(r"return (\d+) '(\{.*\})';", nginx.SHIPPED.read_text(encoding="utf-8"))
    assert len(bodies) == 4
    for status, text in bodies:
        body = json.loads(text)
        assert ours[body["code"]] == (body["status"], body["title"]) == (int(status), body["title"])
        assert body["type"] == f"/docs#error-{body['code']}"


# -- mistakes ---------------------------------------------------------------------------------------------------------


async def test_without_the_upgrade_lines_the_handshake_is_answered_with_what_is_missing_and_what_arrived(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports, NO_UPGRADE)

    refused = await client.refused_handshake()

    said = problem(refused)
    assert (refused.code, said["code"]) == (426, "upgrade_required")
    assert "Upgrade: websocket" in said["detail"]
    assert "X-Forwarded-For" in said["detail"]
    assert [error["path"] for error in said["errors"]] == ["header Upgrade", "header Connection"]
    assert set(said["received"]) == {"Connection", "Sec-WebSocket-Version", "X-Forwarded-For", "X-Forwarded-Proto"}
    assert said["help"] == "/docs#behind-nginx"
    seen = await client.call("GET", "/diagnostics", user=None, **_as_arguments(UPGRADE))
    assert "websocket" not in seen["transports"]
    assert "a proxy in between dropped it" in seen["advice"][0]


async def test_with_the_connection_line_alone_missing_only_that_is_named(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    refused = await connect(ports, without("proxy_set_header Connection")).refused_handshake()
    assert refused.code == 426
    assert [error["path"] for error in problem(refused)["errors"]] == ["header Connection"]


async def test_with_http_1_0_between_nginx_and_copydesk_the_handshake_says_so(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports, without("proxy_http_version"))

    said = problem(await client.refused_handshake())

    assert said["code"] == "upgrade_required"
    assert "HTTP/1.1" in said["detail"]
    assert said["errors"] == [{"path": "HTTP version", "message": "expected `HTTP/1.1`"}]
    seen = await client.call("GET", "/diagnostics", user=None, **_as_arguments(UPGRADE))
    assert "websocket" not in seen["transports"]
    assert "`HTTP/1.1`" in seen["advice"][0]


async def test_a_bare_proxy_pass_is_told_of_everything_at_once(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    client = connect(ports, NO_UPGRADE, without("proxy_http_version"))
    said = problem(await client.refused_handshake())
    assert [error["path"] for error in said["errors"]] == ["header Upgrade", "header Connection", "HTTP version"]


@configured(websockets_enabled=False)
async def test_switched_off_sockets_are_refused_through_nginx_with_the_reason(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    refused = await connect(ports).refused_handshake()
    assert (refused.code, problem(refused)["code"]) == (403, "websockets_disabled")


async def test_sockets_that_are_switched_off_at_run_time_close_on_every_process(
    connect: Callable[..., Client], servers: list[Server]
) -> None:
    client = connect([server.port for server in servers])
    bobs = [await client.editor() for _ in range(4)]
    assert [len(server.connections) for server in servers] == [2, 2]

    await client.call("PATCH", "/admin/settings", {"websockets_enabled": False}, roles=["admin"])

    for bob in bobs:
        assert (await asyncio.wait_for(bob.closed, 20))[0] == 4409
    assert problem(await client.refused_handshake())["code"] == "websockets_disabled"
    assert "websocket" not in (await client.call("GET", "/config", user=None))["transports"]


# -- processes that come and go ---------------------------------------------------------------------------------------


async def test_when_a_process_dies_rest_goes_on_and_its_sockets_resume_at_the_other(
    connect: Callable[..., Client], processes: tuple[Process, Process]
) -> None:
    client = connect([process.port for process in processes])
    project = (await client.call("POST", "/projects", {"name": "Spring"}))["id"]
    topic, path = f"project:{project}", f"/projects/{project}/comments"
    bob = await client.editor()
    await bob.subscribe(topic)
    before = await client.call("POST", path, {"body": "Before"})
    await bob.until_event(topic, id=before["id"])

    (holder,) = [process for process in processes if await _sockets(process) == 1]
    holder.kill()
    await asyncio.wait_for(bob.closed, 20)
    missed = [await client.call("POST", path, {"body": f"Missed {number}"}) for number in range(5)]
    again = await client.editor()
    reply = await again.subscribe(topic, since=bob.positions[topic])

    assert reply["ok"]["resumed"] is True
    comments = [event["doc"] for event in again.events(topic) if event["kind"] == "comment"]
    assert comments == missed
    after = await client.call("POST", path, {"body": "After"})
    await again.until_event(topic, id=after["id"])


def test_processes_restarted_one_after_the_other_lose_no_request_and_send_their_sockets_elsewhere(
    io_loop: IOLoop, connect: Callable[..., Client], processes: tuple[Process, Process]
) -> None:
    async def restart() -> None:
        client = connect([process.port for process in processes])
        project = (await client.call("POST", "/projects", {"name": "Spring"}))["id"]
        path = f"/api/v1/projects/{project}/comments"
        bobs = [await client.editor() for _ in range(2)]
        statuses: Counter[tuple[str, int]] = Counter()
        enough = asyncio.Event()

        async def trickle() -> None:
            while not enough.is_set():
                # Without a key: nothing and nobody may repeat it.
                posted = await client.request("POST", path, {"body": "One of many"})
                read = await client.request("GET", path)
                statuses.update([("POST", posted.code), ("GET", read.code)])

        trickles = [asyncio.create_task(trickle()) for _ in range(4)]
        # The second time nobody has a socket any more, and nothing but the requests themselves holds a process up.
        for process in (*processes, *processes):
            assert await asyncio.to_thread(process.stop) == 0
            await asyncio.to_thread(process.start)
        enough.set()
        await asyncio.gather(*trickles)

        assert set(statuses) == {("POST", 201), ("GET", 200)}
        assert await _count(client, f"/projects/{project}/comments") == statuses["POST", 201]
        for bob in bobs:
            assert (await bob.closed)[0] == 4000
            assert bob.of("drain")

    io_loop.run_sync(restart, timeout=120)


async def test_when_no_process_is_there_nginx_says_so_as_the_api_would_and_recovers_by_itself(
    connect: Callable[..., Client], processes: tuple[Process, Process]
) -> None:
    client = connect([process.port for process in processes])
    for process in processes:
        process.kill()

    refused = await client.refused_handshake()
    response = await client.request("POST", "/api/v1/projects", {"name": "Spring"})

    for answer in (refused, response):
        assert (answer.code, problem(answer)["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    await asyncio.to_thread(processes[0].start)
    assert (await client.request("GET", "/api/v1/config")).code == 200


# -- TLS, and something in front of nginx -----------------------------------------------------------------------------


@configured(allowed_hosts=("localhost",))
async def test_the_tls_lines_work_as_their_comment_says(
    connect: Callable[..., Client], servers: list[Server], tmp_path: Path
) -> None:
    await _add_user(servers[0].settings)
    # A name that leads here, because TLS takes it from the address.
    renamed = replaced(r"copydesk\.example", "localhost")
    client = connect([server.port for server in servers], lambda text: _with_tls(renamed(text), tmp_path / "nginx-1"))
    certificate = str(tmp_path / "nginx-1" / "fullchain.pem")
    url = f"https://localhost:{client.proxy.tls_port}"

    plain = await client.request("GET", "/x?y=z", host="localhost")
    assert (plain.code, plain.headers["Location"]) == (308, "https://localhost/x?y=z")

    answer = await AsyncHTTPClient().fetch(
        f"{url}/api/v1/session",
        method="POST",
        headers={"Origin": url, "Content-Type": "application/json"},
        body=json.dumps({"username": "bob", "password": "bob-password"}),
        ca_certs=certificate,
    )
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert cookie.startswith("__Host-copydesk_session=")
    assert "Secure" in attributes
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"

    bob = await Editor.connect(url, headers={"Origin": url, "Cookie": cookie}, ca_certs=certificate)
    client.editors.append(bob)
    assert "ok" in await bob.subscribe("projects")

    with pytest.raises(ssl.SSLError):  # a client that asks for another name gets no certificate
        await AsyncHTTPClient().fetch(f"https://127.0.0.1:{client.proxy.tls_port}/", validate_cert=False)


async def test_behind_another_proxy_the_lines_in_the_documentation_find_the_real_client(
    connect: Callable[..., Client], ports: list[int]
) -> None:
    in_http, in_server = re.findall(
        r"```nginx\n(# In the (?:http|server) block.*?)```", (ROOT / "docs/behind-nginx.md").read_text(), re.DOTALL
    )

    def edit(text: str) -> str:
        local = [lines.replace("10.0.0.0/8", "127.0.0.2") for lines in (in_http, in_server)]
        text = replaced(r"(?=^upstream copydesk)", local[0])(text)
        return replaced(r"^ +proxy_set_header X-Forwarded-Proto \$scheme;$", local[1])(text)

    client = connect(ports, edit)
    seen = await client.call(
        "GET", "/diagnostics", user=None, X_Forwarded_For="198.51.100.9, 203.0.113.7", X_Forwarded_Proto="https"
    )
    assert (seen["remote_address"], seen["scheme"]) == ("203.0.113.7", "https")
    assert seen["forwarding_headers"]["X-Forwarded-For"] == "203.0.113.7"


# -- helpers ----------------------------------------------------------------------------------------------------------


def _as_arguments(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): text for name, text in headers.items()}


async def _add_user(settings: Settings) -> None:
    await commands.add_user(settings, name="bob", password="bob-password", roles=[], full_name=None, email=None)


async def _session(client: Client, origin: str) -> str:
    """Sign in as the page does; the cookie as it is sent back."""
    signing_in = {"username": "bob", "password": "bob-password"}
    response = await client.request("POST", "/api/v1/session", signing_in, user=None, Origin=origin)
    assert response.code == 201, response.body
    return response.headers["Set-Cookie"].partition(";")[0]


async def _status(client: Client, head: str, port: int | None = None) -> int:
    """The status that a request gets which no well-behaved client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port or client.proxy.port)
    writer.write(f"{head}Connection: close\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


async def _sockets(process: Process) -> int:
    """How many sockets a process has: it tells this machine, where no proxy is in between."""
    metrics = (await AsyncHTTPClient().fetch(f"{process.url}/metrics", headers={"Host": nginx.SERVER_NAME})).body
    found = re.search(rb'^copydesk_connections\{transport="websocket"\} (\d+)', metrics, re.MULTILINE)
    assert found is not None
    return int(found[1])


async def _count(client: Client, path: str) -> int:
    """How long a list is."""
    total, cursor = 0, ""
    while True:
        page = await client.call("GET", f"{path}?limit=200{cursor}")
        total += len(page["items"])
        if "next_cursor" not in page:
            return total
        cursor = f"&cursor={page['next_cursor']}"


def _family(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for each in kind.__subclasses__():
        yield each
        yield from _family(each)


def _with_tls(text: str, folder: Path) -> str:
    """Make a certificate and run the command in the comment on the shipped file."""
    name = re.search(r"server_name (?!_)(\S+);", text)
    command = re.search(r"^# +(sed .*) /etc/nginx/conf\.d/copydesk\.conf$", text, re.MULTILINE)
    assert name is not None
    assert command is not None
    _make_certificate(name[1], folder)
    file = folder / "edited.conf"
    file.write_text(text, encoding="utf-8")
    subprocess.run(f"{command[1]} {file}", shell=True, check=True)  # noqa: S602 - the command is our own
    return file.read_text(encoding="utf-8")


def _make_certificate(name: str, folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "privkey.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
