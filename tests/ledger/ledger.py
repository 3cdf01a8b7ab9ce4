"""The ledger: what was committed against what each editor was told. Pure; every check is proved in `test_checks.py`.

What was committed is read once at the end, by a plain PyMongo change stream, so the order is the database's own.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tests.ledger.log import DELETED, EditorLog, Entry, Key, key_of

Outcome = Literal["ok", "failed", "unknown"]
SAMPLES = 5


class Write(NamedTuple):
    """What a writer did, and what it was told of it. `mark` is this write's alone."""

    by: str
    mark: str
    outcome: Outcome
    at: float = 0.0
    """Unix time at which it was told."""


class Commit(NamedTuple):
    """One change of the database, in the order of the database."""

    topic: str
    key: Key
    mark: str | None
    kind: str
    about: str | None = None
    """The item that an entry of the change log is about."""


@dataclass
class Findings:
    """How often each thing happened that must not, with a few examples; `repeated` and `resets` may."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    silence_seconds: float = 0.0
    """The longest that one editor heard of nothing."""
    pause_seconds: float = 0.0
    """The longest that there was nothing to hear of."""
    delay_seconds: float = 0.0
    """The longest that one editor was not told of what a writer already had an answer for."""

    def add(self, what: str, example: object, times: int = 1) -> None:
        """One more."""
        if times:
            self.counts[what] += times
            if self.counts[what] <= SAMPLES:
                self.examples.append(f"{what}: {example}")

    def merge(self, other: Findings) -> None:
        """Those of another editor, too."""
        self.counts += other.counts
        self.examples = (self.examples + other.examples)[: 4 * SAMPLES]
        self.silence_seconds = max(self.silence_seconds, other.silence_seconds)
        self.pause_seconds = max(self.pause_seconds, other.pause_seconds)
        self.delay_seconds = max(self.delay_seconds, other.delay_seconds)

    @property
    def faults(self) -> dict[str, int]:
        """What breaks the promise."""
        return {name: self.counts[name] for name in FAULTS if self.counts[name]}


FAULTS = (
    "lost",
    "duplicated",
    "inverted",
    "phantom",
    "wrong text",
    "leaked",
    "not converged",
    "lost write",
    "undone write",
    "doubled write",
    "missing activity",
    "doubled activity",
    "traceback",
    "noise",
    "leaked resource",
)


class Truth:
    """All commits of a run, by their order."""

    def __init__(self, commits: Iterable[Commit]) -> None:
        self.commits = tuple(commits)
        self.index = {commit.key: number for number, commit in enumerate(self.commits)}
        if len(self.index) != len(self.commits):
            raise ValueError("two commits have one name, so the editors could not tell them apart either")
        self.by_id: dict[str, list[int]] = {}
        for number, commit in enumerate(self.commits):
            self.by_id.setdefault(commit.key[0], []).append(number)

    def held(self, document_id: str, version: int | None, mark: str | None) -> int | None:
        """The last commit of a document that a snapshot with this version and mark includes."""
        for number in reversed(self.by_id.get(document_id, ())):
            commit = self.commits[number]
            if commit.key[1] == version if mark is None else commit.mark == mark:
                return number
        return None


def commit_of(change: Mapping[str, Any], topics: dict[str, str]) -> Commit:
    """One document of a plain change stream. `topics` remembers where a document belongs, for later changes of it."""
    document_id, collection = change["documentKey"]["_id"], change["ns"]["coll"]
    document = change.get("fullDocument") if change["operationType"] in ("insert", "replace") else None
    if document is not None:
        topics[document_id] = f"project:{document_id if collection == 'projects' else document['project_id']}"
        version, fields = document.get("version", 1), document
    else:
        fields = change.get("updateDescription", {}).get("updatedFields", {})
        version = fields.get("version")
    mark = fields.get("body", fields.get("name"))
    if fields.get("deleted_at") is not None:
        mark = None
    deleted = change["operationType"] == "delete"
    key = key_of(document_id, version=version, mark=mark, deleted=deleted)
    kind = "activity" if collection == "activities" else collection.removesuffix("s")
    about = fields.get("item_id") if kind == "activity" else None
    return Commit(topics.get(document_id, "?"), key, mark, kind, about)


# -- the checks -------------------------------------------------------------------------------------------------------


def check_editor(truth: Truth, log: EditorLog, topic: str, *, until: Key) -> Findings:
    """Lost, duplicated, out of order, made up: one editor's topic up to and with the commit `until`."""
    findings = Findings()
    walk = _Walk(truth, log, topic, findings)
    for entry in log.entries:
        if entry.topic == topic:
            walk.take(entry)
    walk.end()
    last = truth.index[until]
    texts_gone = _texts_gone(truth)
    for number, commit in enumerate(truth.commits[: last + 1]):
        if commit.topic != topic:
            continue
        if not walk.covered[number]:
            findings.add("lost", f"{log.name} was not told of {commit.key} {commit.mark}")
        elif number in walk.marks and walk.marks[number] != commit.mark:
            hidden = walk.marks[number] is None and commit.key[0] in texts_gone
            if not hidden and commit.kind != "activity":
                findings.add("wrong text", f"{log.name}: {commit.key} says {walk.marks[number]}, not {commit.mark}")
    return findings


class _Walk:
    """Through one editor's log, ticking off commits."""

    def __init__(self, truth: Truth, log: EditorLog, topic: str, findings: Findings) -> None:
        self._truth, self._log, self._topic, self._findings = truth, log, topic, findings
        self.covered = bytearray(len(truth.commits))
        self.marks: dict[int, str | None] = {}
        self._told = bytearray(len(truth.commits))
        self._highest = -1
        self._after_snapshot = False
        self._absent: set[str] = set()
        """Documents of the topic that the last snapshot did not hold."""
        self._forgotten = self._told_again = 0
        """Activities before `_forgotten` were replaced by a snapshot that does not hold them. Who comes back with an
        older position all the same is told of those before `_told_again` once more, and no longer knows them."""
        self._of_topic = [number for number, commit in enumerate(truth.commits) if commit.topic == topic]
        self._unsnapped = [number for number in self._of_topic if truth.commits[number].kind == "activity"]

    def take(self, entry: Entry) -> None:
        if entry.what == "snapshot":
            self._snapshot(entry)
        elif entry.what in ("reset", "not resumed"):
            self._findings.counts["resets"] += entry.what == "reset"
            self._findings.counts["not resumed"] += entry.what == "not resumed"
        elif entry.what == "went back":
            self._told_again = max(self._forgotten, self._highest + 1 if self._after_snapshot else 0)
        elif entry.what == "live":
            self._told_again = 0
        for event in entry.events:
            number = self._truth.index.get(event.key)
            if number is None and event.mark is None and event.key[1] is None:
                number = self._hidden(event.key[0])
            if number is None or self._truth.commits[number].topic != self._topic:
                self._findings.add("phantom", f"{self._log.name}: {event}")
            elif not event.applied:
                self._findings.counts["repeated"] += 1
            else:
                self._apply(number, event.mark)

    def _hidden(self, document_id: str) -> int | None:
        """Which change lost its text and has no version to go by: the next such one of a document that is gone."""
        numbers = self._truth.by_id.get(document_id, ())
        if not numbers or self._truth.commits[numbers[-1]].mark is not None:
            return None
        commits = ((number, self._truth.commits[number].key[1]) for number in numbers)
        unversioned = (number for number, name in commits if isinstance(name, str) and name != DELETED)
        return next((number for number in unversioned if not self.covered[number]), None)

    def _apply(self, number: int, mark: str | None) -> None:
        key = self._truth.commits[number].key
        if self._after_snapshot:
            self._cover_unsnapped(number)
        if self._truth.commits[number].kind == "activity" and number < self._told_again:
            self._findings.counts["told again"] += 1
            return
        if self._told[number]:
            self._findings.add("duplicated", f"{self._log.name}: {key}")
        elif number < self._highest:
            self._findings.add("inverted", f"{self._log.name}: {key} after {self._truth.commits[self._highest].key}")
        self._told[number] = self.covered[number] = 1
        self.marks[number] = mark
        self._highest = max(self._highest, number)

    def _snapshot(self, entry: Entry) -> None:
        """It stands for every commit up to what it holds of each document, and for all of those that are gone."""
        for document_id in {self._truth.commits[number].key[0] for number in self._of_topic}:
            numbers = self._truth.by_id[document_id]
            held = entry.held.get(document_id)
            last = self._truth.held(document_id, *held) if held is not None else None
            if last is not None:
                self._highest = max(self._highest, last)
            for number in numbers:
                if last is not None and number <= last:
                    self.covered[number] = 1
        self._absent = {self._truth.commits[number].key[0] for number in self._of_topic} - entry.held.keys()
        self._after_snapshot = True

    def _cover_unsnapped(self, before: int) -> None:
        """What a snapshot cannot show, and the events after it begin behind: activities, and what was gone again."""
        gone = [self._truth.by_id[document_id] for document_id in self._absent]
        gone = [numbers for numbers in gone if self._truth.commits[numbers[-1]].key[1] == DELETED]
        for number in itertools.chain(self._unsnapped, *(numbers for numbers in gone if numbers[-1] < before)):
            if number < before:
                self.covered[number] = 1
        self._forgotten = before
        self._after_snapshot = False

    def end(self) -> None:
        if self._after_snapshot:
            self._cover_unsnapped(len(self.covered))


def _texts_gone(truth: Truth) -> set[str]:
    """Comments that were deleted, either way: their text is not replayed any more."""
    return {commit.key[0] for commit in truth.commits if commit.mark is None}


def check_writes(truth: Truth, writes: Iterable[Write]) -> Findings:
    """What was acknowledged is there, once; what was refused is not."""
    findings = Findings()
    times = Counter(commit.mark for commit in truth.commits if commit.mark is not None)
    for write in writes:
        findings.counts[f"writes {write.outcome}"] += 1
        if write.outcome == "ok" and not times[write.mark]:
            findings.add("lost write", write)
        elif write.outcome == "failed" and times[write.mark]:
            findings.add("undone write", write)
        if times[write.mark] > 1:
            findings.add("doubled write", f"{write} is there {times[write.mark]} times")
    return findings


def check_activities(truth: Truth) -> Findings:
    """What is done once among all processes: each new item has one entry of the change log."""
    findings = Findings()
    entries = Counter(commit.about for commit in truth.commits if commit.kind == "activity")
    for commit in truth.commits:
        if commit.kind == "item" and commit.key[1] == 1:
            item = commit.key[0]
            findings.add("missing activity", f"none of {item}", int(not entries[item]))
            findings.add("doubled activity", f"{entries[item]} of {item}", max(0, entries[item] - 1))
    return findings


def check_probe(log: EditorLog, topic: str, private: Container[str]) -> Findings:
    """Nothing of a topic reached somebody who may not see it, nor of its documents on any other topic."""
    findings = Findings()
    for entry in log.entries:
        if entry.topic == topic and entry.what in ("events", "snapshot", "live", "resumed", "not resumed", "reset"):
            findings.add("leaked", f"{log.name} got {entry.what} of {topic}")
        ids = [event.key[0] for event in entry.events] + list(entry.held)
        for document_id in ids:
            if document_id in private:
                findings.add("leaked", f"{log.name} was told of {document_id} on {entry.topic}")
    return findings


def check_converged(
    name: str, held: Mapping[str, Mapping[str, Any]], fresh: Mapping[str, Mapping[str, Any]]
) -> Findings:
    """The documents of a kind that a client holds are those of a fresh read, field by field."""
    findings = Findings()
    for document_id in held.keys() | fresh.keys():
        if held.get(document_id) != fresh.get(document_id):
            example = f"{name} has {held.get(document_id)} where there is {fresh.get(document_id)}"
            findings.add("not converged", example)
    return findings


def longest_silence(log: EditorLog, topic: str, begin: float, end: float) -> float:
    """Seconds between two frames with events on a topic, at most, while something was written all the time."""
    return _longest_pause([entry.at for entry in log.of("events", topic)], begin, end)


def longest_pause(writes: Iterable[Write], begin: float, end: float) -> float:
    """Seconds without an acknowledged write, at most. A majority had nothing new then, so there was nothing to tell."""
    return _longest_pause(sorted(write.at for write in writes if write.outcome == "ok"), begin, end)


def longest_delay(log: EditorLog, topic: str, answered: Mapping[str, float]) -> float:
    """Seconds from a writer's answer to the event, at most. `answered`: when, by mark. MongoDB's elections, in which
    nothing is committed, are no part of it."""
    delays = [
        entry.at - answered[event.mark]
        for entry in log.of("events", topic)
        for event in entry.events
        if event.mark in answered and event.kind != "activity"
    ]
    return max(delays, default=0.0)


def _longest_pause(moments: Sequence[float], begin: float, end: float) -> float:
    within = [begin, *(moment for moment in moments if begin <= moment <= end), end]
    return max(after - before for before, after in itertools.pairwise(within))
