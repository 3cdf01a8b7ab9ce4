"""The client's copy of a topic: snapshot plus events is always what a fresh read would give. Runs in the browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser.modules import run_with

_HELPERS = """
const { Replica } = await import("/static/client-replica.js");
const topic = "project:p";
const doc = (id, version, body = "") => ({ id, version, body });
const event = (change, id, version, document) => ({ kind: "comment", change, id, version, doc: document });
const events = (...list) => ({ push: "events", topic, position: "e", events: list });
const live = (position = "1", seq) => ({ push: "live", topic, position, seq });
const snapshot = (comments, part = 1, last = true) => ({ push: "snapshot", topic, data: { comments }, part, last });
const bodies = (replica) => Object.fromEntries(replica.documents("comment").map(({ id, body }) => [id, body]));
function subscribed(comments = []) {
  const replica = new Replica(topic);
  replica.asked();
  replica.accepted({ resumed: false });
  replica.receive(snapshot(comments));
  replica.receive(live());
  return replica;
}
"""


async def run(page: Page, script: str) -> Any:
    """What a script that uses the helpers returns."""
    return await run_with(page, _HELPERS, script)


async def test_an_event_is_dropped_only_when_its_version_is_known(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([doc("a", 3, "three")]);
        const applied = [];
        for (const version of [2, 3, 4, null]) {
          const given = event("update", "a", version, doc("a", version ?? 4, `${version}`));
          const { events: done } = replica.receive(events(given));
          applied.push([done.length, replica.get("comment", "a").body]);
        }
        return applied;
        """,
    ) == [[0, "three"], [0, "three"], [1, "4"], [1, "null"]]


async def test_after_a_foreign_replacement_with_a_lower_version_own_changes_still_count(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([doc("a", 7, "seven")]);
        replica.receive(events(event("update", "a", null, doc("a", 1, "replaced"))));
        replica.receive(events(event("update", "a", 2, doc("a", 2, "ours"))));
        return bodies(replica);
        """,
    ) == {"a": "ours"}


@pytest.mark.parametrize("change", ["leave", "delete"])
async def test_what_left_is_forgotten_with_its_version(page: Page, change: str) -> None:
    assert await run(
        page,
        f"""
        const replica = subscribed([doc("a", 7), doc("b", 1, "b")]);
        replica.receive(events(event("{change}", "a", 7)));
        const without = bodies(replica);
        replica.receive(events(event("enter", "a", 1, doc("a", 1, "back"))));
        return [without, bodies(replica)];
        """,
    ) == [{"b": "b"}, {"a": "back", "b": "b"}]


async def test_positions_count_only_from_live(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = new Replica(topic);
        const seen = [];
        const note = () => seen.push([replica.state, replica.position ?? null]);
        replica.asked(); replica.accepted({ resumed: false }); note();
        replica.receive(snapshot([])); replica.receive(events()); replica.reached("ping"); note();
        replica.receive(live("live")); note();
        replica.receive({ ...events(), position: "event" }); note();
        replica.reached("ping"); note();
        replica.disconnected(); replica.reached("later"); note();
        return seen;
        """,
    ) == [
        ["loading", None],
        ["stale", None],
        ["live", "live"],
        ["live", "event"],
        ["live", "ping"],
        ["stale", "ping"],
    ]


async def test_a_snapshot_in_parts_takes_the_old_ones_place_in_one_step(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([doc("old", 1, "old")]);
        const seen = [];
        const give = (push) => {
          const { snapshot } = replica.receive(push);
          seen.push([replica.state, snapshot, bodies(replica)]);
        };
        give({ push: "reset", topic, reason: "lost" });
        give(events(event("update", "old", 2, doc("old", 2, "before the first part"))));
        give(snapshot([doc("a", 1, "a1")], 1, false));
        give(events(event("update", "a", 2, doc("a", 2, "a2"))));
        give(snapshot([doc("b", 1, "b1")], 2, true));
        give(live());
        return seen;
        """,
    ) == [
        ["stale", False, {"old": "old"}],
        ["stale", False, {"old": "old"}],
        ["stale", False, {"old": "old"}],
        ["stale", False, {"old": "old"}],
        ["stale", True, {"a": "a2", "b": "b1"}],
        ["live", False, {"a": "a2", "b": "b1"}],
    ]


async def test_pushes_of_an_earlier_subscription_are_not_taken_for_answers(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([doc("a", 1, "a")]);
        replica.asked();
        replica.receive(events(event("delete", "a", null)));
        replica.receive(live("wrong"));
        const before = [replica.state, bodies(replica), replica.position];
        replica.accepted({ resumed: true });
        replica.receive(events(event("delete", "a", null)));
        replica.receive(live("right"));
        return [...before, replica.state, bodies(replica), replica.position];
        """,
    ) == ["stale", {"a": "a"}, "1", "live", {}, "right"]


async def test_a_missing_frame_is_noticed_and_nothing_after_it_is_applied(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([]);
        replica.receive(live("p41", 41));
        const enter = (id, seq) => ({ ...events(event("enter", id, 1, doc(id, 1, id))), seq, position: `p${seq}` });
        const gaps = [42, 42, 44, 45].map((seq, n) => replica.receive(enter(`${n}`, seq)).gap);
        return [gaps, bodies(replica), replica.position, replica.state];
        """,
    ) == [[False, False, True, False], {"0": "0", "1": "1"}, "p42", "stale"]


async def test_a_thin_event_names_what_to_fetch_and_is_reported_with_what_came(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([doc("a", 1, "old")]);
        const first = replica.receive(events(event("update", "a", 2)));
        const wanted = replica.fetchStarts("comment", "a");
        const { events: [reported] } = replica.fetched("comment", "a", doc("a", 2, "new"));
        return [first.events, first.fetch, wanted, reported.version, reported.doc.body, bodies(replica)];
        """,
    ) == [[], [{"kind": "comment", "id": "a"}], True, 2, "new", {"a": "new"}]


async def test_a_fetch_never_undoes_a_newer_event(page: Page) -> None:
    assert await run(
        page,
        """
        const outcomes = {};
        const fetching = (name, then) => {
          const replica = subscribed([doc("a", 1, "old")]);
          replica.receive(events(event("update", "a", 2)));
          replica.fetchStarts("comment", "a");
          then(replica);
          const { fetch } = replica.fetched("comment", "a", doc("a", 2, "fetched"));
          outcomes[name] = [bodies(replica), fetch.length];
        };
        fetching("full event", (replica) => replica.receive(events(event("update", "a", 3, doc("a", 3, "three")))));
        fetching("deleted", (replica) => replica.receive(events(event("delete", "a", null))));
        fetching("changed again", (replica) => replica.receive(events(event("update", "a", 3))));
        fetching("changed by others", (replica) => replica.receive(events(event("update", "a", null))));
        fetching("a new snapshot", (replica) => replica.load({ comments: [doc("a", 5, "five")] }));
        const replica = subscribed([doc("a", 1, "old")]);
        replica.receive(events(event("update", "a", 4)));
        replica.fetchStarts("comment", "a");
        const { fetch } = replica.fetched("comment", "a", doc("a", 3, "from before the change"));
        outcomes["too old"] = [bodies(replica), fetch.length];
        replica.fetchStarts("comment", "a");
        const { events: [gone] } = replica.fetched("comment", "a", null);
        outcomes["not there"] = [bodies(replica), gone.change];
        return outcomes;
        """,
    ) == {
        "full event": [{"a": "three"}, 0],
        "deleted": [{}, 0],
        "changed again": [{"a": "old"}, 1],
        "changed by others": [{"a": "old"}, 1],
        "a new snapshot": [{"a": "five"}, 0],
        "too old": [{"a": "old"}, 1],
        "not there": [{}, "delete"],
    }


async def test_activities_are_reported_and_not_kept(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([]);
        const activity = { kind: "activity", change: "enter", id: "x", version: null, doc: {} };
        const { events: done } = replica.receive(events(activity));
        return [done.length, replica.documents("activity")];
        """,
    ) == [1, []]


async def test_a_topic_that_is_lost_leaves_nothing(page: Page) -> None:
    assert await run(
        page,
        """
        const replica = subscribed([doc("a", 1, "secret")]);
        const { snapshot } = replica.lost({ code: "not_found", detail: "No." });
        const then = [replica.state, replica.problem.code, snapshot, bodies(replica), replica.position ?? null];
        replica.asked();
        replica.accepted({ resumed: false });
        return [...then, replica.state];
        """,
    ) == ["gone", "not_found", True, {}, None, "loading"]


_INBOX = """
const replica = new Replica("inbox");
replica.asked();
replica.accepted({ resumed: false });
const part = (number, last, ...ids) => ({
  push: "snapshot", topic: "inbox", part: number, last,
  data: { notifications: ids.map((id) => ({ id, version: 1 })), counts: { unseen: 1, unread: 1, seq: 5 } },
});
replica.receive(part(1, false, "a"));
replica.receive(part(2, true, "b"));
const push = (events) => ({ push: "events", topic: "inbox", position: "1", events });
const hear = (...list) => replica.receive(push(list)).events.length;
const counts = (version, seq) => (
  { kind: "counts", change: "update", id: "bob", version, doc: { unseen: 2, unread: 2, seq } }
);
const told = (id, version, fields = {}) => (
  { kind: "notification", change: "update", id, version, doc: { id, version, ...fields } }
);
const held = () => replica.documents("notification").map(({ id }) => id).sort().join(" ");
const seq = () => replica.get("counts", "counts")?.seq;
"""


async def test_the_inbox_keeps_the_servers_counts_and_never_older_ones(page: Page) -> None:
    assert await run(
        page,
        f"""
        {_INBOX}
        const seen = [seq()];
        for (const given of [counts(3, 6), counts(2, 5), counts(3, 6), counts(null, 4), counts(3, 7)]) {{
          seen.push(hear(given), seq());
        }}
        return seen;
        """,
    ) == [5, 1, 6, 0, 6, 0, 6, 1, 4, 1, 7]


async def test_an_archived_entry_is_put_away_and_comes_back_when_it_is_taken_out(page: Page) -> None:
    assert await run(
        page,
        f"""
        {_INBOX}
        const seen = [held()];
        const step = (...given) => seen.push(hear(...given), held());
        step(told("a", 2, {{ archived_at: "then" }}));
        step(told("a", 2));
        step(told("a", 3));
        step(told("c", 1, {{ archived_at: "then" }}));
        step({{ kind: "notification", change: "delete", id: "c", version: 2 }});
        step({{ kind: "notification", change: "delete", id: "unknown", version: 2 }});
        step(told("d", 1));
        return seen;
        """,
    ) == ["a b", 1, "b", 0, "b", 1, "a b", 1, "a b", 1, "a b", 0, "a b", 1, "a b d"]


async def test_what_an_inbox_has_to_fetch_is_counted_like_what_it_is_told(page: Page) -> None:
    assert await run(
        page,
        f"""
        {_INBOX}
        const thin = {{ ...counts(3), doc: undefined }};
        const {{ fetch }} = replica.receive(push([thin]));
        replica.fetchStarts("counts", "counts");
        replica.fetched("counts", "counts", {{ unseen: 0, unread: 0, seq: 9 }});
        return [fetch, seq(), hear(counts(2, 8)), seq(), hear(counts(4, 10)), seq()];
        """,
    ) == [[{"kind": "counts", "id": "counts"}], 9, 0, 9, 1, 10]


async def test_old_snapshot_plus_events_equals_a_fresh_read_wherever_it_joins_and_resumes(page: Page) -> None:
    differing = await run(
        page,
        """
        let state = 12345;
        const random = (n) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
        /** A history of random changes: [event, all documents after it]. */
        function history(length) {
          const all = new Map();
          const steps = [[null, {}]];
          for (let step = 1; step <= length; step += 1) {
            const id = `${random(4)}`;
            const held = all.get(id);
            const what = random(10);
            let made;
            if (!held) {
              all.set(id, doc(id, 1 + random(3), `s${step}`));
              made = event("enter", id, all.get(id).version, all.get(id));
            } else if (what < 2) {
              all.delete(id);
              made = event(what ? "delete" : "leave", id, what ? null : held.version + 1);
            } else if (what < 4) {
              all.set(id, doc(id, 1 + random(held.version), `s${step}`));
              made = event("update", id, null, all.get(id));
            } else {
              all.set(id, doc(id, held.version + 1, `s${step}`));
              made = event("update", id, held.version + 1, all.get(id));
            }
            steps.push([made, Object.fromEntries([...all].map(([key, { body }]) => [key, body]))]);
          }
          return steps;
        }
        const ordered = (object) => JSON.stringify(Object.entries(object).sort());
        const differing = [];
        for (let round = 0; round < 300; round += 1) {
          const steps = history(40);
          const documents = new Map();
          const joined = random(30);
          for (const [made] of steps.slice(1, joined + 1)) {
            if (made.doc) documents.set(made.id, made.doc);
            else documents.delete(made.id);
          }
          const replica = subscribed([...documents.values()]);
          const broken = joined + random(40 - joined);
          for (const [made] of steps.slice(joined + 1, broken + 1)) replica.receive(events(made));
          // At least once: what comes after the break begins before it.
          const resumed = joined + random(broken - joined + 1);
          replica.disconnected();
          replica.asked();
          replica.accepted({ resumed: true });
          replica.receive(events(...steps.slice(resumed + 1).map(([made]) => made)));
          replica.receive(live());
          if (ordered(bodies(replica)) !== ordered(steps.at(-1)[1])) differing.push([round, joined, broken, resumed]);
        }
        return differing;
        """,
    )
    assert differing == []
