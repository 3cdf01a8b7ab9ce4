"""One user, one address, one flood: refused by name and in time, and the others do not notice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from app import admission
from tests.conftest import Copydesk
from tests.handlers.raw_socket import started_with
from tests.security import flood


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are kept back for a moment only."""
    monkeypatch.setattr(admission, "HOLD_SECONDS", 0.05)


def refused(answer: HTTPResponse) -> None:
    """It has to be a 429 that says when to come back."""
    problem = json.loads(answer.body)
    assert (answer.code, problem["code"]) == (429, "rate_limited"), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1


@started_with(max_requests_per_second_per_user=10, auth_secret=flood.SECRET)
async def test_a_flood_is_refused_and_the_others_are_served_all_the_while(copydesk: Copydesk) -> None:
    # How fast they are is for the script to say, on a machine that does nothing else.
    outcome = await flood.measure(copydesk.server.port, seconds=0.5, connections=50, settle=0.5)
    assert outcome.refused > 0
    assert outcome.served <= 10 * 5 + 10 * 30


@pytest.mark.parametrize(("flooded", "good"), [(20.0, True), (20.1, False)])
def test_a_flood_that_others_notice_fails_the_script(flooded: float, good: bool) -> None:
    assert flood.Outcome(10.0, flooded, refused=1, served=1).good is good


@started_with(max_requests_per_second_per_user=1)
async def test_a_user_over_the_limit_is_refused_and_others_are_not(copydesk: Copydesk) -> None:
    first = await copydesk.request("GET", "/projects", user="bob")
    assert first.headers["RateLimit-Policy"] == '"user";q=5;w=5'
    assert first.headers["RateLimit"] == '"user";r=4;t=1'
    answers = await asyncio.gather(*(copydesk.request("GET", "/projects", user="bob") for _ in range(30)))
    over = [answer for answer in answers if answer.code != 200]
    assert len(over) >= 15
    for answer in over:
        refused(answer)
        assert answer.headers["RateLimit-Policy"] == '"user";q=5;w=5'
        assert answer.headers["RateLimit"].startswith('"user";r=0;t=')
    assert (await copydesk.request("GET", "/projects", user="carol")).code == 200


@started_with(max_requests_per_second_per_address=1)
async def test_an_address_over_the_limit_is_refused_whatever_it_asks_but_probes_never_are(copydesk: Copydesk) -> None:
    paths = ("/", "/static/client.js", "/docs", "/nothing", "/api/v1/config", "/api/v1/realtime", "/metrics")
    client = AsyncHTTPClient()

    async def get(path: str) -> HTTPResponse:
        return await client.fetch(copydesk.url + path, raise_error=False)

    answers = await asyncio.gather(*(get(path) for path in paths for _ in range(6)))
    over = [answer for answer in answers if answer.code == 429]
    assert len(over) >= 25
    for answer in over:
        refused(answer)
    for path in ("/healthz", "/readyz"):
        assert [answer.code for answer in await asyncio.gather(*(get(path) for _ in range(10)))] == [200] * 10


@started_with(max_body_bytes_per_minute_per_user=20_000)
async def test_bytes_over_the_limit_are_refused_before_they_are_read(copydesk: Copydesk) -> None:
    project = await copydesk.project(user="bob")
    body = {"body": "x" * 9000}
    answers = [await copydesk.request("POST", f"/projects/{project}/comments", body, user="bob") for _ in range(3)]
    assert [answer.code for answer in answers[:2]] == [201, 201]
    refused(answers[2])
    assert '"user-bytes";r=' in answers[2].headers["RateLimit"]
    assert (await copydesk.request("POST", f"/projects/{project}/comments", body, user="carol")).code == 201


@started_with(max_idempotency_keys_per_hour_per_user=2)
async def test_idempotency_keys_over_the_limit_are_refused_and_nothing_is_done(copydesk: Copydesk) -> None:
    keys = [{"Idempotency_Key": f"k{number}"} for number in range(3)]
    answers = [await copydesk.request("POST", "/projects", {"name": "P"}, user="bob", **key) for key in keys]
    assert [answer.code for answer in answers] == [201, 201, 429]
    refused(answers[2])
    assert await copydesk.database.projects.count_documents({"created_by": "bob"}) == 2
    assert await copydesk.database.idempotency.count_documents({}) == 2
    assert (await copydesk.request("POST", "/projects", {"name": "P"}, user="bob")).code == 201


@started_with(max_topics_per_second_per_user=1)
async def test_a_flood_of_topics_is_refused_on_sockets_and_streams_and_the_socket_lives(copydesk: Copydesk) -> None:
    bob, carol = await copydesk.editor("bob"), await copydesk.editor("carol")
    replies = [await bob.command("subscribe", topic="inbox", snapshot=False) for _ in range(60)]
    outcomes = Counter("ok" if "ok" in reply else reply["error"]["code"] for reply in replies)
    assert set(outcomes) == {"ok", "rate_limited"}
    over = next(reply["error"] for reply in replies if "error" in reply)
    assert over["retry"] is True
    assert over["retry_after_ms"] >= 1
    refused(
        await copydesk.request(
            "GET", "/events/stream?topics=" + ",".join(f"project:{n}" for n in range(31)), user="bob"
        )
    )
    assert "ok" in await bob.command("unsubscribe", topic="inbox")
    assert "ok" in await carol.subscribe("inbox")


@started_with(max_connections_per_user=2)
async def test_who_reconnects_again_and_again_is_refused_at_the_upgrade(copydesk: Copydesk) -> None:
    headers = {
        "Authorization": f"Bearer {copydesk.token('bob')}", "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip

    async def once() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", copydesk.server.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET /api/v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode())
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return int(line.split()[1])

    codes = [await once() for _ in range(60)]
    assert codes[:20] == [101] * 20
    assert codes.count(429) >= 10
    await copydesk.editor("carol")


@started_with(max_connections_per_user=2)
async def test_polls_that_wait_are_counted_like_connections(copydesk: Copydesk) -> None:
    position = json.loads((await copydesk.request("GET", "/events?topics=inbox", user="bob")).body)["position"]
    path = f"/events?topics=inbox&wait=25&since={position}"
    waiting = [asyncio.ensure_future(copydesk.request("GET", path, user="bob")) for _ in range(2)]
    await copydesk.until(lambda: len(copydesk.server.connections.polls) == 2)
    refused(await copydesk.request("GET", path, user="bob"))
    assert (await copydesk.request("GET", "/events?topics=inbox", user="carol")).code == 200
    for poll in tuple(copydesk.server.connections.polls):
        poll.stop()
    assert [answer.code for answer in await asyncio.gather(*waiting)] == [200, 200]
    assert (await copydesk.request("GET", "/events?topics=inbox", user="bob")).code == 200


async def test_without_memory_to_spare_new_work_is_refused_and_old_work_goes_on(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await copydesk.project()
    bob = await copydesk.editor("bob")
    await bob.subscribe(f"project:{project}")
    monkeypatch.setattr(copydesk.server._pressure, "_max_memory_bytes", 1)
    copydesk.server._pressure.look()
    answers = [await copydesk.request("GET", path) for path in ("/projects", "/config", "/events?topics=inbox")]
    for answer in answers:
        assert (answer.code, json.loads(answer.body)["code"]) == (503, "busy")
        assert int(answer.headers["Retry-After"]) >= 1
    upgrade = await AsyncHTTPClient().fetch(f"{copydesk.url}/api/v1/realtime", raise_error=False)
    assert upgrade.code == 503
    assert (await AsyncHTTPClient().fetch(f"{copydesk.url}/healthz")).code == 200
    comment = {"_id": "c", "project_id": project, "body": "Hi", "author": "carol", "created_at": datetime.now(UTC)}
    await copydesk.database.comments.insert_one(comment)
    await bob.until_event(f"project:{project}", id="c")
    monkeypatch.undo()
    copydesk.server._pressure.look()
    assert (await copydesk.request("GET", "/projects")).code == 200
