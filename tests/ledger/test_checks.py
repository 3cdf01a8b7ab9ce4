"""Each check of the ledger finds the fault that is planted for it, and nothing where there is none."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.ledger import ledger, leftovers
from tests.ledger.ledger import Commit, Findings, Truth, Write
from tests.ledger.leftovers import Usage
from tests.ledger.log import EditorLog, key_of

TOPIC = "project:open"
COMMITS = 2000
Push = dict[str, Any]


def _commits() -> list[Commit]:
    """Comments that come, change with and without a version, become tombstones, and go; in one order."""
    rng = random.Random(1)
    versions: dict[str, int] = {}
    made: list[Commit] = []
    for number in range(COMMITS):
        mark: str | None = f"mark-{number}"
        chance = rng.random()
        if not versions or chance < 0.5:
            comment, version, deleted = f"comment-{number}", 1, False
            versions[comment] = 1
        else:
            comment = rng.choice(sorted(versions))
            deleted = chance < 0.53
            raised = chance > 0.58
            versions[comment] += raised
            version = versions[comment] if raised else None
            if deleted or chance > 0.97:
                mark = None if deleted or raised else mark
            if deleted or mark is None:
                del versions[comment]
        key = key_of(comment, version=version, mark=mark, deleted=deleted)
        made.append(Commit(TOPIC, key, None if deleted else mark, "comment"))
    made.append(Commit(TOPIC, ("last", 1), "last", "comment"))
    return made


TRUTH = Truth(_commits())


def _event(commit: Commit) -> Push:
    comment, version = commit.key
    deleted = version == "deleted for good"
    event: Push = {
        "kind": "comment",
        "change": "delete" if deleted else "update",
        "id": comment,
        "at": "",
        "version": None,
    }
    if isinstance(version, int):
        event |= {"version": version, "change": "enter" if version == 1 else "update"}
    if not deleted:
        event["doc"] = {"id": comment, "version": version if isinstance(version, int) else 1}
        event["doc"] |= {} if commit.mark is None else {"body": commit.mark}
    return event


def _events(commits: list[Commit]) -> list[Push]:
    """A frame for each."""
    return [
        {"push": "events", "topic": TOPIC, "position": str(number), "events": [_event(commit)]}
        for number, commit in enumerate(commits)
    ]


def _log(pushes: list[Push]) -> EditorLog:
    log = EditorLog("bob")
    log.take(0.0, {"push": "snapshot", "topic": TOPIC, "data": {"comments": []}, "part": 1, "last": True})
    log.take(0.0, {"push": "live", "topic": TOPIC, "position": "0"})
    for moment, push in enumerate(pushes):
        log.take(float(moment), push)
    return log


def _found(pushes: list[Push]) -> dict[str, int]:
    return ledger.check_editor(TRUTH, _log(pushes), TOPIC, until=("last", 1)).faults


PERFECT = _events(list(TRUTH.commits))


def _at(predicate: Callable[[Commit], bool], number: int = 100) -> int:
    """Where the first commit of a kind stands after so many."""
    return next(at for at in range(number, len(TRUTH.commits)) if predicate(TRUTH.commits[at]))


ENTRY = TRUTH.commits[_at(lambda commit: isinstance(commit.key[1], str) and commit.mark is not None)]
"""One that the client does not drop when it comes twice."""


def _is_new(commit: Commit) -> bool:
    return commit.key[1] == 1


def test_a_perfect_log_has_no_fault() -> None:
    assert _found(PERFECT) == {}


def test_one_event_in_a_thousand_that_is_dropped_is_lost() -> None:
    dropped = [push for number, push in enumerate(PERFECT) if number % 1000 != 999]
    assert _found(dropped) == {"lost": 2}


def test_an_end_that_is_cut_off_is_lost() -> None:
    assert _found(PERFECT[:-3]) == {"lost": 3}


def test_two_events_of_different_documents_that_change_places_are_inverted() -> None:
    place = _at(lambda commit: _is_new(commit) and _is_new(TRUTH.commits[TRUTH.index[commit.key] + 1]))
    swapped = [*PERFECT[:place], PERFECT[place + 1], PERFECT[place], *PERFECT[place + 2 :]]
    assert _found(swapped) == {"inverted": 1}


def test_a_version_that_comes_twice_is_dropped_by_the_client_and_no_fault() -> None:
    place = _at(_is_new)
    twice = [*PERFECT[: place + 1], PERFECT[place], *PERFECT[place + 1 :]]
    findings = ledger.check_editor(TRUTH, _log(twice), TOPIC, until=("last", 1))
    assert findings.faults == {}
    assert findings.counts["repeated"] == 1


def test_a_change_without_a_version_that_comes_twice_is_duplicated() -> None:
    place = _at(lambda commit: isinstance(commit.key[1], str) and commit.mark is not None)
    twice = [*PERFECT[: place + 1], PERFECT[place], *PERFECT[place + 1 :]]
    assert _found(twice) == {"duplicated": 1}


def test_an_event_that_nobody_committed_is_a_phantom() -> None:
    made_up = _events([Commit(TOPIC, ("nobody", 1), "nothing", "comment")])
    assert _found([*PERFECT[:50], *made_up, *PERFECT[50:]]) == {"phantom": 1}


def test_an_event_of_another_topic_is_a_phantom() -> None:
    commits = list(TRUTH.commits)
    place = _at(_is_new)
    commits[place] = commits[place]._replace(topic="project:other")
    found = ledger.check_editor(Truth(commits), _log(PERFECT), TOPIC, until=("last", 1)).faults
    assert found == {"phantom": 1}


def test_a_later_text_under_an_earlier_version_is_noticed() -> None:
    place = _at(lambda commit: _is_new(commit) and not any(c.mark is None for c in _same(commit)))
    changed = _events([TRUTH.commits[place]._replace(mark="of later")])
    assert _found([*PERFECT[:place], *changed, *PERFECT[place + 1 :]]) == {"wrong text": 1}


def _same(commit: Commit) -> list[Commit]:
    return [TRUTH.commits[number] for number in TRUTH.by_id[commit.key[0]]]


# -- resuming ---------------------------------------------------------------------------------------------------------


def test_a_resume_that_repeats_the_end_has_no_fault() -> None:
    versioned = [commit for commit in TRUTH.commits if isinstance(commit.key[1], int)]
    pushes = _events(versioned)
    found = ledger.check_editor(Truth(versioned), _log([*pushes[:500], *pushes[480:]]), TOPIC, until=("last", 1))
    assert found.faults == {}
    assert found.counts["repeated"] == 20


def test_one_event_that_is_forgotten_on_resume_is_lost() -> None:
    assert _found([*PERFECT[:500], *PERFECT[501:]]) == {"lost": 1}


def _snapshot(number: int) -> list[Push]:
    """What a snapshot after so many commits says."""
    log = _log(PERFECT[:number])
    comments = list(log.stores[TOPIC].of("comment").values())
    return [
        {"push": "reset", "topic": TOPIC, "reason": "too_old"},
        {"push": "snapshot", "topic": TOPIC, "data": {"comments": comments}, "part": 1, "last": True},
        {"push": "live", "topic": TOPIC, "position": str(number)},
    ]


def test_a_snapshot_stands_for_what_was_missed() -> None:
    findings = ledger.check_editor(
        TRUTH, _log([*PERFECT[:500], *_snapshot(900), *PERFECT[900:]]), TOPIC, until=("last", 1)
    )
    assert findings.faults == {}
    assert findings.counts["resets"] == 1


def test_a_gap_between_snapshot_and_stream_is_lost() -> None:
    place = _at(_is_new, 900)
    assert _found([*PERFECT[:500], *_snapshot(place), *PERFECT[place + 1 :]]) == {"lost": 1}


def test_a_snapshot_without_one_document_is_lost() -> None:
    reset, snapshot, live = _snapshot(900)
    missed = [one for one in snapshot["data"]["comments"] if TRUTH.by_id[one["id"]][0] > 500]
    kept = [one for one in missed if all(commit.key[1] != "deleted for good" for commit in _by(one["id"]))]
    forgotten = kept[0]
    snapshot["data"]["comments"].remove(forgotten)
    found = _found([*PERFECT[:500], reset, snapshot, live, *PERFECT[900:]])
    assert set(found) == {"lost"}


def _by(document_id: str) -> list[Commit]:
    return [TRUTH.commits[number] for number in TRUTH.by_id[document_id]]


def test_who_goes_back_behind_a_snapshot_may_be_told_of_the_change_log_again() -> None:
    commits = [commit._replace(kind="activity") if commit.key == ENTRY.key else commit for commit in TRUTH.commits]
    place, truth = TRUTH.index[ENTRY.key], Truth(commits)

    def found(*, snapshot: bool, goes_back: bool, live_first: bool = False) -> dict[str, int]:
        log = _log([*PERFECT[:900], *(_snapshot(900) if snapshot else ()), *PERFECT[900:1000]])
        if goes_back:
            log.went_back(0.0)
        live = {"push": "live", "topic": TOPIC, "position": "1000"}
        again = [live, PERFECT[place]] if live_first else [PERFECT[place], live]
        for push in (*again, *PERFECT[1000:]):
            log.take(0.0, push)
        return ledger.check_editor(truth, log, TOPIC, until=("last", 1)).faults

    assert found(snapshot=True, goes_back=True) == {}
    assert found(snapshot=False, goes_back=True) == {"duplicated": 1}
    assert found(snapshot=True, goes_back=False) == {"duplicated": 1}
    assert found(snapshot=True, goes_back=True, live_first=True) == {"duplicated": 1}


def test_a_change_without_a_version_whose_text_is_gone_is_told_all_the_same() -> None:
    place = next(
        number
        for number, commit in enumerate(TRUTH.commits)
        if isinstance(commit.key[1], str) and commit.mark is not None and _by(commit.key[0])[-1].mark is None
    )
    hidden = copy.deepcopy(PERFECT[place])
    del hidden["events"][0]["doc"]["body"]
    assert _found([*PERFECT[:place], hidden, *PERFECT[place + 1 :]]) == {}
    assert _found([*PERFECT[:place], *PERFECT[place + 1 :]]) == {"lost": 1}
    assert _found([*PERFECT[: place + 1], hidden, *PERFECT[place + 1 :]]) != {}


def test_a_position_counts_from_live_on() -> None:
    log = _log(PERFECT[:10])
    assert log.positions[TOPIC] == "9"
    log.connected()
    log.take(20.0, PERFECT[10])
    assert log.positions[TOPIC] == "9"
    log.take(21.0, {"push": "live", "topic": TOPIC, "position": "11"})
    assert log.positions[TOPIC] == "11"


def test_a_ping_moves_only_what_is_live_on_this_connection() -> None:
    log = _log(PERFECT[:10])
    log.take(10.0, {"push": "ping", "position": "10"})
    assert log.positions[TOPIC] == "10"
    log.connected()
    log.take(11.0, {"push": "ping", "position": "99"})
    assert log.positions[TOPIC] == "10"


def test_who_is_not_resumed_forgets_the_position_from_before() -> None:
    log = _log(PERFECT[:10])
    log.answered(1.0, {"topic": TOPIC, "resumed": False, "replayed": 0, "reason": "unknown"})
    assert log.positions == {}
    assert log.stores == {}


# -- writers, rights, states ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (Write("w", "mark-0", "ok"), {}),
        (Write("w", "mark-0", "unknown"), {}),
        (Write("w", "nowhere", "unknown"), {}),
        (Write("w", "nowhere", "failed"), {}),
        (Write("w", "nowhere", "ok"), {"lost write": 1}),
        (Write("w", "mark-0", "failed"), {"undone write": 1}),
    ],
)
def test_what_writers_were_told_is_what_is_there(write: Write, fault: dict[str, int]) -> None:
    assert ledger.check_writes(TRUTH, [write]).faults == fault


def test_a_write_that_is_there_twice_is_doubled() -> None:
    twice = Truth([*TRUTH.commits, Commit(TOPIC, ("again", 1), "mark-0", "comment")])
    assert ledger.check_writes(twice, [Write("w", "mark-0", "ok")]).faults == {"doubled write": 1}


def test_an_item_without_its_entry_in_the_change_log_is_noticed_and_so_is_one_with_two() -> None:
    item = Commit(TOPIC, ("item", 1), "name", "item")
    entries = [Commit(TOPIC, (f"entry-{number}", 1), None, "activity", about="item") for number in range(2)]
    assert ledger.check_activities(Truth([item, entries[0]])).faults == {}
    assert ledger.check_activities(Truth([item])).faults == {"missing activity": 1}
    assert ledger.check_activities(Truth([item, *entries])).faults == {"doubled activity": 1}


def test_a_probe_that_hears_of_the_private_topic_is_a_leak() -> None:
    log = _log(PERFECT[:1])
    assert ledger.check_probe(log, "project:private", {"secret"}).faults == {}
    assert ledger.check_probe(log, TOPIC, set()).faults["leaked"] == 3


def test_a_private_document_on_a_public_topic_is_a_leak() -> None:
    event = _events([Commit(TOPIC, ("secret", 1), "private", "comment")])
    assert ledger.check_probe(_log(event), "project:private", {"secret"}).faults == {"leaked": 1}


def test_a_store_that_differs_in_one_field_has_not_converged() -> None:
    fresh = {"a": {"id": "a", "body": "one"}, "b": {"id": "b", "body": "two"}}
    assert ledger.check_converged("bob", fresh, fresh).faults == {}
    assert ledger.check_converged("bob", {**fresh, "b": {"id": "b", "body": "too"}}, fresh).faults == {
        "not converged": 1
    }
    assert ledger.check_converged("bob", {"a": fresh["a"]}, fresh).faults == {"not converged": 1}
    assert ledger.check_converged("bob", fresh, {"a": fresh["a"]}).faults == {"not converged": 1}


def test_the_longest_silence_counts_from_the_first_write_to_the_last() -> None:
    log = _log([])
    for moment in (10.0, 11.0, 15.0, 16.0):
        log.take(moment, PERFECT[0])
    assert ledger.longest_silence(log, TOPIC, 9.0, 17.0) == 4.0
    assert ledger.longest_silence(log, TOPIC, 3.0, 17.0) == 7.0
    assert ledger.longest_silence(log, TOPIC, 9.0, 25.0) == 9.0


def test_the_longest_pause_of_the_writers_is_told_beside_it() -> None:
    writes = [Write("w", "", "ok", 10.0), Write("w", "", "unknown", 11.0), Write("w", "", "ok", 12.5)]
    assert ledger.longest_pause(writes, 9.0, 13.0) == 2.5


def test_the_longest_delay_is_from_a_writers_answer_to_the_event() -> None:
    log = _log([])
    for moment, push in ((10.0, PERFECT[0]), (14.0, PERFECT[1])):
        log.take(moment, push)
    assert ledger.longest_delay(log, TOPIC, {"mark-0": 9.5, "mark-1": 11.0, "elsewhere": 0.0}) == 3.0
    assert ledger.longest_delay(log, "project:other", {"mark-0": 9.5}) == 0.0


# -- processes --------------------------------------------------------------------------------------------------------


def test_a_traceback_in_a_log_is_noticed_and_so_is_a_flood_of_warnings() -> None:
    quiet = ['{"event": "stopping", "level": "info"}', '{"event": "hm", "level": "warning"}']
    assert leftovers.check_log(quiet, warnings=1).faults == {}
    assert leftovers.check_log([*quiet, quiet[1]], warnings=1).faults == {"noise": 1}
    assert leftovers.check_log(["Traceback (most recent call last):"], warnings=1).faults == {"traceback": 1}
    assert leftovers.check_log(['{"event": "x", "level": "error", "exception": "T"}'], warnings=1).faults == {
        "traceback": 1
    }


def test_a_noisy_log_is_shown_line_by_line() -> None:
    lines = [f'{{"event": "hm", "number": {number}, "level": "warning"}}' for number in range(3)]
    assert all(line in leftovers.check_log(lines, warnings=2).examples[0] for line in lines)


def test_lines_about_unreadable_changes_are_told_from_those_of_a_busy_machine() -> None:
    mine = [
        '{"event": "malformed_document", "level": "warning"}',
        '{"event": "change_stream_reopening", "reason": "OperationFailure 10334", "level": "warning"}',
    ]
    busy = [
        '{"event": "change_stream_reopening", "reason": "NetworkTimeout", "level": "warning"}',
        '{"event": "lease_not_renewed", "level": "warning"}',
        "no JSON",
    ]
    assert leftovers.about_changes([*busy, *mine]) == mine


@pytest.mark.parametrize(("name", "more"), [("files", 11), ("threads", 11), ("connections", 1), ("subscriptions", 1)])
def test_what_is_left_of_connections_that_ended_is_noticed(name: str, more: int) -> None:
    before = Usage(files=10, threads=5, connections=0, subscriptions=0)
    assert leftovers.check_usage(before, before, pool=10).faults == {}
    after = before._replace(**{name: getattr(before, name) + more})
    assert leftovers.check_usage(before, after, pool=10).faults == {"leaked resource": 1}


def test_the_findings_of_all_editors_are_added_up() -> None:
    both = Findings()
    for seconds in (2.0, 1.0):
        one = Findings(silence_seconds=seconds)
        one.add("lost", "this")
        both.merge(one)
    assert both.faults == {"lost": 2}
    assert both.silence_seconds == 2.0
