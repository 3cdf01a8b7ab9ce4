"""The pure parts of the client's ladder, in the browser without a server: which rung to take, taking events apart."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page

from tests.browser.modules import run_with

_HELPERS = """
const { Ladder, RUNGS } = await import("/static/client-ladder.js");
const { EventParser } = await import("/static/client-stream.js");
const { whyNoSocket, whyNoStream } = await import("/static/client-reasons.js");
const off = { code: "websockets_disabled", detail: "" };
const blocked = { code: "upgrade_dropped", detail: "" };
function memory(value = null) {
  return { value, read() { return this.value; }, write(given) { this.value = given; } };
}
"""


async def run(page: Page, script: str) -> Any:
    """What a script that uses the helpers returns."""
    return await run_with(page, _HELPERS, script)


async def test_it_begins_at_the_best_rung_that_is_offered_and_falls_one_at_a_time(page: Page) -> None:
    assert await run(
        page,
        """
        const seen = [];
        for (const offered of [RUNGS, ["sse", "poll"], ["poll"], ["websocket"], ["new", "websocket", "poll"], []]) {
          const ladder = new Ladder(memory());
          ladder.offer(offered, off);
          const steps = [`${ladder.rung} ${ladder.why?.code ?? ""}`];
          while (ladder.canFall) {
            ladder.fall(blocked);
            steps.push(ladder.rung);
          }
          seen.push([...steps, ladder.fall(blocked)]);
        }
        return seen;
        """,
    ) == [
        ["websocket ", "sse", "poll", False],
        ["sse websockets_disabled", "poll", False],
        ["poll websockets_disabled", False],
        ["websocket ", False],
        ["websocket ", "poll", False],
        ["null websockets_disabled", False],
    ]


async def test_what_did_not_hold_is_remembered_for_a_day_and_what_was_switched_off_is_not(page: Page) -> None:
    assert await run(
        page,
        """
        const kept = memory();
        const first = new Ladder(kept);
        first.offer(RUNGS, off);
        first.fall(blocked);
        first.holds();
        const begins = (value, offered = RUNGS) => {
          const ladder = new Ladder(memory(value));
          ladder.offer(offered, off);
          return `${ladder.rung} ${ladder.why?.code ?? ""}`;
        };
        const seen = [begins(kept.value), begins(kept.value, ["websocket"]), begins(kept.value, ["sse"])];
        const at = Date.now();
        seen.push(begins({ ...kept.value, at: at - 25 * 3600_000 }), begins({ rung: "pigeon", at }));
        seen.push(begins({ ...kept.value, at: at + 1e9 }), begins("nonsense"));
        first.climbTo("websocket");
        seen.push(kept.value);
        const other = new Ladder(kept);
        other.offer(["sse"], off);
        other.holds();
        return [...seen, kept.value];
        """,
    ) == [
        "sse upgrade_dropped",
        "websocket ",
        "sse websockets_disabled",
        *["websocket "] * 4,
        None,
        None,
    ]


async def test_a_rung_that_is_not_offered_any_more_is_left_and_one_that_is_new_is_climbed_to(page: Page) -> None:
    assert await run(
        page,
        """
        const ladder = new Ladder(memory());
        const seen = [];
        for (const offered of [["websocket", "sse", "poll"], ["sse", "poll"], ["poll"], RUNGS, ["websocket"], []]) {
          ladder.offer(offered, off);
          seen.push([ladder.rung, ladder.higher.join(" ")]);
        }
        return seen;
        """,
    ) == [["websocket", ""], ["sse", ""], ["poll", ""], ["poll", "websocket sse"], ["websocket", ""], [None, ""]]


async def test_it_looks_up_after_a_minute_then_ever_more_rarely(page: Page) -> None:
    assert await run(
        page,
        """
        Math.random = () => 0.5;
        const ladder = new Ladder(memory());
        ladder.offer(RUNGS, off);
        ladder.fall(blocked);
        const waits = Array.from({ length: 6 }, () => ladder.nextClimb() / 60_000);
        ladder.climbTo("websocket");
        return [...waits, ladder.nextClimb() / 60_000];
        """,
    ) == [1, 2, 4, 8, 15, 15, 1]


async def test_events_are_the_same_wherever_the_network_cuts_the_text(page: Page) -> None:
    assert await run(
        page,
        r"""
        const text = ":\n\nevent: live\nid: p1\ndata: {\"a\": 1}\n\n: note\r\ndata: one\r\ndata:two\r\n\r\n" +
          "id: only\n\ndata\n\nevent: x\rdata: y\r\r";
        const whole = JSON.stringify(new EventParser().feed(text + "\n"));
        const differing = [];
        for (let a = 0; a <= text.length; a += 1) {
          for (let b = a; b <= text.length; b += 1) {
            const parser = new EventParser();
            const pieces = [text.slice(0, a), text.slice(a, b), text.slice(b), "\n"];
            const found = pieces.flatMap((piece) => parser.feed(piece));
            if (JSON.stringify(found) !== whole) differing.push([a, b]);
          }
        }
        return [JSON.parse(whole), differing];
        """,
    ) == [
        [
            {"event": "live", "id": "p1", "data": '{"a": 1}'},
            {"data": "one\ntwo"},
            {"data": ""},
            {"event": "x", "data": "y"},
        ],
        [],
    ]


async def test_why_a_rung_does_not_hold_is_said_from_what_can_be_seen(page: Page) -> None:
    assert await run(
        page,
        """
        const socket = (end) => whyNoSocket(end).code;
        const seen = (status) => ({ seen: { status } });
        return [
          socket({ silent: true }), socket({ opened: true }), ...[426, 200, 204, 302].map((n) => socket(seen(n))),
          ...[0, 403, 404, 502].map((n) => socket(seen(n))),
          whyNoStream({ held: true }).code, whyNoStream({ ready: true, problem: { message: "" } }).code,
          whyNoStream({ problem: { message: "" } }).code,
        ];
        """,
    ) == [
        "timed_out",
        "cut",
        *["upgrade_dropped"] * 4,
        *["refused"] * 4,
        "held_back",
        "cut",
        "refused",
    ]
