"""The client rules of docs/protocol.md, with a scripted server and a clock that the test moves. Runs in the browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page
from tornado.ioloop import IOLoop

from tests.browser.modules import Rest, open_modules

PROJECT = {"project": {"id": "p", "version": 1}, "items": [], "comments": [{"id": "c", "version": 1, "body": "old"}]}


class Tab:
    """A page with a client in it."""

    def __init__(self, page: Page, rest: Rest) -> None:
        self.page, self.rest = page, rest

    async def run(self, script: str) -> Any:
        """What a script returns; `client`, `store` and `sockets` are the page's."""
        return await self.page.evaluate(f"async () => {{ {script} }}")

    async def start(self, options: str = "{}", topic: str | None = "project:p") -> None:
        """Make a client, and let it subscribe."""
        await self.run(
            f"""
            const {{ connect }} = await import("/static/client.js");
            window.states = [];
            window.changes = [];
            window.client = connect({options});
            client.on("state", (state, reason) => states.push([state, reason?.code ?? null]));
            const topic = {"null" if topic is None else f'"{topic}"'};
            if (topic) window.store = client.subscribe(topic, (change) => changes.push(change));
            """
        )

    async def sockets(self, count: int) -> None:
        """Waits until the client has made so many sockets in all."""
        await self.page.wait_for_function("count => sockets.length === count", arg=count)

    async def connected(self, options: str = "{}") -> None:
        """As `start`, up to a live topic at position `p1`."""
        await self.start(options)
        await self.sockets(1)
        await self.run(f"sockets[0].welcome(); sockets[0].serve({PROJECT}, 'p1');")
        assert await self.state() == "live"

    async def pass_time(self, seconds: float) -> None:
        """Moves the page's clock; what is due happens."""
        await self.page.clock.run_for(round(seconds * 1000))

    async def state(self) -> Any:
        return await self.run("return client.state")

    async def socket_count(self) -> Any:
        return await self.run("return sockets.length")


@pytest.fixture
def tab(io_loop: IOLoop, browser: Browser) -> Iterator[Tab]:
    page, rest = io_loop.run_sync(lambda: open_modules(browser, clock=True))
    yield Tab(page, rest)
    io_loop.run_sync(page.close)


async def test_it_says_hello_subscribes_and_is_live_when_every_topic_is(tab: Tab) -> None:
    await tab.start()
    await tab.sockets(1)
    assert await tab.run("return [sockets[0].url, sockets[0].protocols]") == [
        "ws://copydesk.test/api/v1/realtime",
        ["copydesk.v1"],
    ]
    await tab.run("sockets[0].welcome()")
    assert await tab.run("return sockets[0].sent") == [
        {"op": "hello", "id": 1, "client": "copydesk-client/1"},
        {"op": "subscribe", "id": 2, "topic": "project:p"},
    ]
    await tab.run(f"sockets[0].serve({PROJECT}, 'p1')")
    assert await tab.run("return states") == [["catching_up", None], ["live", None]]
    assert await tab.run("return [client.user.id, store.state, changes.length, store.get('comment', 'c').body]") == [
        "bob",
        "live",
        1,
        "old",
    ]


async def test_after_a_break_it_resumes_from_its_position(tab: Tab) -> None:
    await tab.connected()
    await tab.run(
        """
        const doc = { id: "c", version: 2, body: "new" };
        const events = [{ kind: "comment", change: "update", id: "c", version: 2, doc }];
        sockets[0].say({ push: "events", topic: "project:p", position: "p2", events });
        sockets[0].say({ push: "ping", position: "p3" });
        sockets[0].end(1006);
        """
    )
    assert await tab.run("return [client.state, store.state, store.get('comment', 'c').body]") == [
        "offline",
        "stale",
        "new",
    ]
    await tab.pass_time(1)
    await tab.sockets(2)
    assert await tab.run("sockets[1].welcome(); return sockets[1].sent.at(-1)") == {
        "op": "subscribe",
        "id": 2,
        "topic": "project:p",
        "since": "p3",
    }


async def test_pings_are_answered(tab: Tab) -> None:
    await tab.connected()
    assert await tab.run("sockets[0].say({ push: 'ping' }); return sockets[0].sent.at(-1)") == {"op": "pong"}


async def test_it_is_not_live_while_the_server_does_not_hear_from_its_database(tab: Tab) -> None:
    await tab.connected()
    assert await tab.run(
        """
        states.length = 0;
        const events = { push: "events", topic: "project:p", position: "p2", events: [] };
        const ping = (stale) => ({ push: "ping", stale });
        for (const push of [ping(true), ping(false), ping(true), events, ping(true)]) sockets[0].say(push);
        sockets[0].end(1006);
        return states;
        """
    ) == [["catching_up", "stale"], ["live", None]] * 2 + [["catching_up", "stale"], ["offline", "lost"]]


async def test_35_seconds_of_silence_are_a_broken_connection(tab: Tab) -> None:
    await tab.connected()
    await tab.pass_time(25)
    await tab.run("sockets[0].say({ push: 'ping' })")
    await tab.pass_time(34)
    assert await tab.state() == "live"
    await tab.pass_time(3)
    await tab.sockets(2)
    assert await tab.run("return sockets[0].closedWith") == 1000


async def test_a_handshake_that_nobody_answers_is_given_up(tab: Tab) -> None:
    await tab.start()
    await tab.sockets(1)
    await tab.pass_time(18)
    await tab.sockets(2)


@pytest.mark.parametrize(("random", "waits"), [(0.999999, [1, 2, 4, 8, 16, 30, 30]), (0, [0.2] * 7)])
async def test_waits_double_up_to_30_seconds_and_are_never_nothing(tab: Tab, random: float, waits: list[float]) -> None:
    await tab.run(f"Math.random = () => {random}")
    for code in (1000, 1006, 4003):
        await tab.run("sockets.length = 0")
        await tab.start()
        for attempt, wait in enumerate(waits, start=1):
            await tab.sockets(attempt)
            await tab.run(f"sockets.at(-1).welcome(); sockets.at(-1).end({code})")
            await tab.pass_time(wait - 0.1)
            assert await tab.socket_count() == attempt, code
            await tab.pass_time(0.2)
        await tab.sockets(len(waits) + 1)
        await tab.run("client.close()")


async def test_a_connection_that_lasted_starts_the_waits_afresh(tab: Tab) -> None:
    await tab.run("Math.random = () => 0.999999")
    await tab.start()
    for attempt in range(1, 5):
        await tab.sockets(attempt)
        await tab.run("sockets.at(-1).end(1006)")
        await tab.pass_time(16)
    await tab.sockets(5)
    await tab.run("sockets.at(-1).welcome()")
    await tab.pass_time(11)
    await tab.run("sockets.at(-1).end(1006)")
    await tab.pass_time(1)
    await tab.sockets(6)


@pytest.mark.parametrize(
    "occasion", ["dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange'))"]
)
async def test_it_tries_at_once_when_there_is_reason_to_but_not_over_and_over(tab: Tab, occasion: str) -> None:
    await tab.run("Math.random = () => 0.999999")
    await tab.start()
    for attempt in range(1, 6):
        await tab.sockets(attempt)
        await tab.run("sockets.at(-1).end(1006)")
        if attempt < 5:
            await tab.pass_time(2 ** (attempt - 1))
    for _ in range(3):
        await tab.run(occasion)
        await tab.pass_time(0.01)
    assert await tab.socket_count() == 5
    await tab.pass_time(1)
    await tab.sockets(6)


async def test_it_waits_as_long_as_the_server_says_whoever_looks(tab: Tab) -> None:
    await tab.connected()
    await tab.run(
        """
        sockets[0].say({ push: "error", code: "rate_limited", detail: "Later.", retry: true, retry_after_ms: 20000 });
        sockets[0].end(4008);
        dispatchEvent(new Event("online"));
        """
    )
    await tab.pass_time(19)
    assert await tab.socket_count() == 1
    await tab.pass_time(2)
    await tab.sockets(2)
    await tab.run(
        "sockets[1].welcome(); sockets[1].say({ push: 'drain', reconnect_in_ms: 9000 }); sockets[1].end(4000)"
    )
    assert await tab.run("return client.reason.code") == "drain"
    await tab.pass_time(8)
    assert await tab.socket_count() == 2
    await tab.pass_time(2)
    await tab.sockets(3)


async def test_the_range_of_a_close_code_says_what_to_do(tab: Tab) -> None:
    for code, state, reason in (
        (1000, "offline", "lost"),
        (1009, "offline", "lost"),
        (4000, "offline", "drain"),
        (4001, "offline", "lost"),
        (4099, "offline", "lost"),
        (4101, "offline", "token_expired"),
        (4102, "offline", "lost"),
        (4199, "offline", "lost"),
        (4400, "disabled", "lost"),
        (4401, "disabled", "unauthenticated"),
        (4403, "disabled", "forbidden"),
        (4406, "disabled", "protocol"),
        (4409, "disabled", "websockets_disabled"),
        (4499, "disabled", "lost"),
    ):
        await tab.run("sockets.length = 0")
        await tab.connected()
        await tab.run(f"sockets[0].end({code})")
        assert await tab.run("return [client.state, client.reason.code]") == [state, reason], code
        if state == "offline":
            await tab.pass_time(1)
            await tab.sockets(2)
        else:
            await tab.pass_time(120)
            await tab.run("document.dispatchEvent(new Event('visibilitychange'))")
            await tab.pass_time(2)
            assert await tab.socket_count() == 1, code
        await tab.run("client.close()")


async def test_a_new_token_is_asked_for_before_each_attempt_and_when_one_is_about_to_end(tab: Tab) -> None:
    await tab.run("window.tokens = 0")
    await tab.connected("{ token: async () => `token ${++tokens}` }")
    assert await tab.run("return sockets[0].sent[0].token") == "token 1"
    await tab.run("sockets[0].say({ push: 'token_expiring', expires_at: '' })")
    await tab.page.wait_for_function("sockets[0].sent.at(-1).op === 'refresh'")
    assert await tab.run("return sockets[0].sent.at(-1).token") == "token 2"
    await tab.run("sockets[0].end(4101)")
    await tab.pass_time(1)
    await tab.sockets(2)
    assert await tab.run("sockets[1].welcome(); return sockets[1].sent[0].token") == "token 3"


async def test_where_websockets_are_switched_off_it_reads_over_rest_and_does_not_try(tab: Tab) -> None:
    tab.rest.answers = {
        "/config": [{"transports": []}, {"transports": []}, {"transports": ["websocket"]}],
        "/projects/p": {"id": "p", "version": 1},
        "/projects/p/items?limit=200": {"items": [{"id": "i", "version": 1}], "next_cursor": "more"},
        "/projects/p/items?limit=200&cursor=more": {"items": [{"id": "j", "version": 1}]},
        "/projects/p/comments?limit=200": [{"items": []}, {"items": [{"id": "c", "version": 1}]}],
    }
    await tab.start()
    await tab.page.wait_for_function("changes.length === 1")
    read = """
        const counts = ["item", "comment"].map((kind) => store.documents(kind).length);
        return [client.state, client.reason.code, store.state, ...counts];
    """
    assert await tab.run(read) == ["disabled", "websockets_disabled", "stale", 2, 0]
    await tab.pass_time(120)
    await tab.run("dispatchEvent(new Event('online')); await client.refresh()")
    await tab.pass_time(1)
    assert await tab.run(read) == ["disabled", "websockets_disabled", "stale", 2, 1]
    assert await tab.socket_count() == 0
    while not await tab.socket_count():
        await tab.run("await client.refresh()")
        await tab.pass_time(1)
    assert await tab.run(f"sockets[0].welcome(); sockets[0].serve({PROJECT}, 'p1'); return client.state") == "live"


async def test_handshakes_that_keep_failing_are_said_and_rest_fills_the_store(tab: Tab) -> None:
    tab.rest.answers |= {
        "/projects/p": {"id": "p", "version": 1},
        "/projects/p/items?limit=200": {"items": []},
        "/projects/p/comments?limit=200": {"items": []},
    }
    await tab.start()
    for attempt in range(1, 4):
        await tab.sockets(attempt)
        await tab.run("sockets.at(-1).end(1006)")
        await tab.pass_time(4)
    await tab.page.wait_for_function("changes.length === 1")
    assert await tab.run("return [client.state, client.reason.code, store.state]") == [
        "offline",
        "handshake_failed",
        "stale",
    ]
    await tab.sockets(4)


async def test_a_server_that_is_away_is_not_a_server_that_forbids(tab: Tab) -> None:
    tab.rest.answers["/config"] = [None, 503, {"transports": ["websocket"]}]
    await tab.start(topic=None)
    await tab.page.wait_for_function("client.state === 'offline'")
    assert await tab.run("return client.reason.code") == "unreachable"
    await tab.pass_time(1)
    await tab.page.wait_for_function("client.reason.code === 'unavailable'")
    await tab.pass_time(2)
    await tab.sockets(1)


async def test_an_event_without_its_document_is_reported_once_it_was_fetched(tab: Tab) -> None:
    await tab.connected()
    tab.rest.answers["/projects/p/comments/c"] = [503, {"id": "c", "version": 2, "body": "fetched"}]
    await tab.run(
        """
        const events = [{ kind: "comment", change: "update", id: "c", version: 2 }];
        sockets[0].say({ push: "events", topic: "project:p", position: "p2", events });
        """
    )
    assert await tab.run("return [changes.length, store.get('comment', 'c').body]") == [1, "old"]
    while await tab.run("return changes.length") == 1:
        await tab.pass_time(1)
    assert await tab.run("return [changes[1].events[0].doc.body, store.get('comment', 'c').body]") == ["fetched"] * 2


async def test_a_topic_may_be_refused_for_good_or_for_a_while(tab: Tab) -> None:
    await tab.connected()
    await tab.run(
        "sockets[0].say({ push: 'unsubscribed', topic: 'project:p', code: 'busy', detail: '', retry_after_ms: 5000 })"
    )
    assert await tab.run("return [client.state, store.state]") == ["catching_up", "stale"]
    await tab.pass_time(4.9)
    assert await tab.run("return sockets[0].sent.length") == 2
    await tab.pass_time(0.2)
    assert await tab.run("return sockets[0].sent.at(-1)") == {
        "op": "subscribe",
        "id": 3,
        "topic": "project:p",
        "since": "p1",
    }
    await tab.run(
        """
        sockets[0].say({ id: 3, ok: { topic: "project:p", resumed: true, replayed: 0 } });
        sockets[0].say({ push: "live", topic: "project:p", position: "p4" });
        sockets[0].say({ push: "unsubscribed", topic: "project:p", code: "not_found", detail: "No." });
        """
    )
    assert await tab.run("return [client.state, store.state, store.problem.code, store.documents('comment')]") == [
        "live",
        "gone",
        "not_found",
        [],
    ]
    await tab.run(
        "client.subscribe('projects'); sockets[0].say({ id: 4, error: { code: 'busy', detail: '', retry: true } })"
    )
    await tab.pass_time(1)
    assert await tab.run("return sockets[0].sent.filter(({ topic }) => topic === 'projects').length") == 2


async def test_stores_of_one_topic_share_one_subscription(tab: Tab) -> None:
    await tab.connected()
    assert await tab.run(
        """
        const heard = [];
        const second = client.subscribe("project:p", ({ snapshot }) => heard.push(snapshot));
        await Promise.resolve();
        const shared = [heard, second.get("comment", "c").body, sockets[0].sent.length];
        store.close();
        store.close();
        shared.push(sockets[0].sent.length, client.state);
        second.close();
        return [...shared, sockets[0].sent.at(-1)];
        """
    ) == [[True], "old", 2, 2, "live", {"op": "unsubscribe", "id": 3, "topic": "project:p"}]


async def test_a_listener_that_fails_does_not_keep_others_from_hearing(tab: Tab) -> None:
    await tab.connected()
    assert await tab.run(
        """
        const reported = [];
        window.reportError = (error) => reported.push(error.message);
        store.on("change", () => { throw new Error("mine"); });
        const heard = [];
        store.on("change", ({ events }) => heard.push(events.length));
        const events = [{ kind: "comment", change: "delete", id: "c", version: null }];
        sockets[0].say({ push: "events", topic: "project:p", position: "p2", events });
        return [reported, heard];
        """
    ) == [["mine"], [1]]


async def test_close_is_for_good(tab: Tab) -> None:
    await tab.connected()
    await tab.run("client.close()")
    await tab.pass_time(120)
    await tab.run("dispatchEvent(new Event('online'))")
    await tab.pass_time(2)
    assert await tab.run("return [client.state, client.reason.code, sockets.length, sockets[0].closedWith]") == [
        "offline",
        "closed",
        1,
        1000,
    ]


async def test_posts_carry_one_key_through_a_renewed_token(tab: Tab) -> None:
    tab.rest.answers |= {"/things": [401, {"id": "t"}], "/session": {"user": {}}}
    await tab.run("window.tokens = 0")
    await tab.start("{ token: () => `token ${++tokens}` }", topic=None)
    await tab.sockets(1)
    assert await tab.run("return (await client.request('POST', '/things', { body: {} })).body") == {"id": "t"}
    await tab.run("await client.request('POST', '/things', { body: {}, idempotencyKey: 'mine' })")
    await tab.run("await client.request('POST', '/session', { body: {} })")
    first, again, mine, session = [headers for method, _path, headers in tab.rest.asked if method == "POST"]
    assert first["idempotency-key"] == again["idempotency-key"] != "mine"
    assert (first["authorization"], again["authorization"]) == ("Bearer token 1", "Bearer token 2")
    assert mine["idempotency-key"] == "mine"
    assert "idempotency-key" not in session


async def test_whatever_goes_wrong_is_a_problem_error_with_a_code(tab: Tab) -> None:
    tab.rest.answers |= {"/missing": 404, "/away": None}
    await tab.page.route("**/api/v1/proxy", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    await tab.page.route("**/api/v1/portal", lambda route: route.fulfill(status=200, body="<h1>Sign in</h1>"))
    await tab.start(topic=None)
    assert await tab.run(
        """
        const { ProblemError } = await import("/static/client.js");
        const found = [];
        for (const path of ["/missing", "/away", "/proxy", "/portal"]) {
          const error = await client.request("GET", path).catch((error) => error);
          found.push([error instanceof ProblemError, error.code, error.status]);
        }
        return found;
        """
    ) == [[True, "not_found", 404], [True, "unreachable", 0], [True, "unreachable", 502], [True, "unexpected", 200]]
