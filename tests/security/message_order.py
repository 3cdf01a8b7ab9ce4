"""What one socket is told, whatever is said over it and in whatever order: the contract of docs/protocol.md. Pure.

`Contract.say` makes a message and notes what has to come of it; `Contract.hear` takes what came. The order in which
replies to `subscribe` come, and whether a later command overtakes one, are the server's choice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

Step = tuple[str, ...]
"""What is said, its details by name: ``("subscribe", "shared", "good", "snapshot")``."""

USERS = ("bob", "alice")
TOO_LONG = "x" * 81
OPEN = ("shared", "projects", "inbox")
"""Topics that everybody has; those named after a user are that user's alone."""
UNREADABLE = ("", "hello", "[]", '{"op": "pong"', '{"op": NaN}', '{"op": "pong", "op": "hello"}', '"\\ud800"')
MALFORMED_LIMIT = 3

_TOPICS = (*OPEN, *USERS, "missing", "empty", "nonsense", "long")
STEPS: tuple[tuple[Step, ...], ...] = (
    tuple(("subscribe", topic, since, view)
          for topic in ("shared", "shared", *_TOPICS) for since in ("now", "good", "forged")
          for view in ("snapshot", "bare")),
    tuple(("subscribe", topic, "now", "snapshot") for topic in (*OPEN, *USERS)),
    tuple(("unsubscribe", topic) for topic in ("shared", "shared", *_TOPICS)),
    tuple(("hello", who) for who in (*USERS, "bad", "nobody")),
    tuple(("refresh", who) for who in (*USERS, "bad")),
    (("pong",), ("unknown op",), ("unknown op", "no id")),
    tuple(("unknown field", op) for op in ("hello", "subscribe", "unsubscribe", "refresh", "pong")),
    tuple(("unreadable", str(number)) for number in range(len(UNREADABLE))),
    (("settle",),),
)  # fmt: skip
"""All that may be said, by kind; each kind is as likely as the others."""


class Words(NamedTuple):
    """What the names in steps stand for."""

    topics: Mapping[str, str]
    tokens: Mapping[str, str]
    position: str
    """A good one."""


class Asked(NamedTuple):
    """A `subscribe` that is not answered yet."""

    topic: str
    natural: str
    since: str
    snapshot: bool


class Heard:
    """What came of a subscription since its reply."""

    def __init__(self, number: int, *, snapshot: bool) -> None:
        self.number, self.snapshot = number, snapshot
        self.parts, self.whole, self.live = 0, not snapshot, False
        self.comments: list[str] = []


class Contract:
    """One conversation. `AssertionError` for whatever the contract does not allow."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._names = {topic: name for name, topic in words.topics.items()}
        self.user: str | None = None
        self.closing: int | None = None
        """The code with which the server has to close; nothing that is said later counts."""
        self._unreadable = 0
        self._prompt: dict[int, tuple[str, str]] = {}
        """Replies that come in the order of the commands: by id, the outcome and the topic that is left then."""
        self._asked: dict[int, Asked] = {}
        self._pushes: Counter[str] = Counter()
        """Errors that come as pushes."""
        self._last_about: dict[str, int] = {}
        self._answered_about: dict[str, int] = {}
        self.listening: dict[str, Heard] = {}
        """Subscriptions by topic."""

    @property
    def settled(self) -> bool:
        """Whether all that has to come has come."""
        waiting = any(
            not heard.live for topic, heard in self.listening.items() if self._last_about[topic] == heard.number
        )
        return not (self._prompt or self._asked or +self._pushes or waiting)

    # -- what is said -------------------------------------------------------------------------------------------------

    def say(self, number: int, step: Step) -> str:
        """The text of a step."""
        kind, *details = step
        if kind == "unreadable":
            if self.closing is None:
                self._unreadable += 1
                self._pushes["malformed"] += 1
                self.closing = 4400 if self._unreadable == MALFORMED_LIMIT else None
            return UNREADABLE[int(details[0])]
        command = self._command(kind, details, number)
        if self.closing is None:
            self._expect(kind, details, number, command)
        return json.dumps(command)

    def _command(self, kind: str, details: list[str], number: int) -> dict[str, Any]:
        words = self._words
        match kind, details:
            case "hello", ["nobody"]:
                return {"op": "hello", "id": number}
            case (("hello" | "refresh"), [who]):
                return {"op": kind, "id": number, "token": words.tokens[who]}
            case "subscribe", [topic, since, view]:
                position = {"now": {}, "good": {"since": words.position}, "forged": {"since": words.position[::-1]}}
                return {
                    "op": kind, "id": number, "topic": words.topics[topic], "snapshot": view == "snapshot",
                    **position[since],
                }  # fmt: skip
            case "unsubscribe", [topic]:
                return {"op": kind, "id": number, "topic": words.topics[topic]}
            case "pong", _:
                return {"op": "pong"}
            case "unknown op", ["no id"]:
                return {"op": "nonsense"}
            case "unknown op", _:
                return {"op": "nonsense", "id": number}
            case "unknown field", [op]:
                fields = {"topic": words.topics["shared"]} if op.endswith("subscribe") else {}
                tokens = {"token": words.tokens["bob"]} if op in ("hello", "refresh") else {}
                return {"op": op, "id": number, **fields, **tokens, "as_user": "alice"}
        raise ValueError(f"no step {kind} {details}")

    def _expect(self, kind: str, details: list[str], number: int, command: Mapping[str, Any]) -> None:
        topic = command.get("topic", "")
        if kind == "pong":
            return
        if "id" not in command:
            self._pushes["invalid"] += 1
        elif kind.startswith("unknown") or topic == TOO_LONG:
            self._prompt[number] = ("invalid", "")
        elif kind == "hello":
            self._expect_hello(details[0], number)
        elif self.user is None:
            self._pushes["unauthenticated"] += 1
            self.closing = 4401
        elif kind == "subscribe":
            self._last_about[topic] = number
            self._asked[number] = Asked(topic, self._natural(details[0]), details[1], details[2] == "snapshot")
        elif kind == "unsubscribe":
            self._last_about[topic] = number
            self._prompt[number] = ("ok", topic)
        else:
            outcome = {self.user: "ok", "bad": "unauthenticated"}.get(details[0], "forbidden")
            self._prompt[number] = (outcome, "")

    def _expect_hello(self, who: str, number: int) -> None:
        if self.user is not None:
            self._prompt[number] = ("conflict", "")
        elif who in USERS:
            self.user = who
            self._prompt[number] = ("ok", "")
        else:
            self._prompt[number] = ("unauthenticated", "")
            self._pushes["unauthenticated"] += 1
            self.closing = 4401

    def _natural(self, name: str) -> str:
        """What comes of a `subscribe` that no other command overtakes."""
        if name in OPEN or name == self.user:
            return "ok"
        return "invalid" if name == "nonsense" else "not_found"

    # -- what is heard ------------------------------------------------------------------------------------------------

    def hear(self, message: Mapping[str, Any]) -> None:
        """One message of the server."""
        if "push" in message:
            self._hear_push(message)
            return
        number = message["id"]
        assert ("ok" in message) != ("error" in message), message
        outcome = "ok" if "ok" in message else message["error"]["code"]
        if number in self._asked:
            self._hear_subscribed(number, outcome, message)
            return
        assert number in self._prompt, f"a reply to nothing that waits for one: {message}"
        assert number == next(iter(self._prompt)), f"{next(iter(self._prompt))} has no reply, and this came: {message}"
        expected, left = self._prompt.pop(number)
        assert outcome == expected, f"not {expected}: {message}"
        if left:
            assert message["ok"] == {}, message
            self._settle(left, number)
        if "user" in message.get("ok", ()):
            assert message["ok"]["user"]["id"] == self.user, message

    def _hear_subscribed(self, number: int, outcome: str, message: Mapping[str, Any]) -> None:
        asked = self._asked.pop(number)
        overtaken = self._last_about[asked.topic] > number
        assert outcome == asked.natural or (overtaken and outcome == "conflict"), f"not {asked.natural}: {message}"
        if outcome != "ok":
            if self._answered_about.get(asked.topic, -1) < number:
                self._settle(asked.topic, number)
            return
        answer = message["ok"]
        reason = "unknown" if asked.since == "forged" else None
        assert (answer["topic"], answer["resumed"], answer.get("reason")) == (
            asked.topic,
            asked.since == "good",
            reason,
        ), message
        assert self._answered_about.get(asked.topic, -1) < number, f"after a later command about its topic: {message}"
        self._settle(asked.topic, number)
        self.listening[asked.topic] = Heard(number, snapshot=asked.snapshot and not answer["resumed"])

    def _settle(self, topic: str, number: int) -> None:
        self._answered_about[topic] = number
        self.listening.pop(topic, None)

    def _hear_push(self, push: Mapping[str, Any]) -> None:
        kind = push["push"]
        if kind == "ping":
            return
        if kind == "error":
            assert self._pushes[push["code"]] > 0, f"nothing asked for {push}"
            self._pushes[push["code"]] -= 1
            return
        assert kind in ("snapshot", "live", "events"), push
        heard = self.listening.get(push["topic"])
        assert heard is not None, f"a topic that was not subscribed to: {push}"
        if kind == "snapshot":
            assert not heard.whole, f"more than was asked for: {push}"
            heard.parts, heard.whole = heard.parts + 1, push["last"]
            assert push["part"] == heard.parts, push
            self._check_rights(push)
        elif kind == "live":
            assert heard.whole, f"live before the snapshot was whole: {push}"
            assert not heard.live, f"live twice: {push}"
            heard.live = True
        else:
            heard.comments += [event["id"] for event in push["events"] if event["kind"] == "comment"]
            assert len(set(heard.comments)) == len(heard.comments), f"told twice: {push}"
            self._check_rights(push)

    def _check_rights(self, push: Mapping[str, Any]) -> None:
        """Nothing of another user's project, by whatever topic."""
        text = json.dumps(push)
        for user in USERS:
            project = self._words.topics[user].partition(":")[2]
            assert user == self.user or project not in text, f"of {user}'s to {self.user}: {push}"

    def hear_close(self, code: int) -> None:
        """The server has closed, after which nothing comes."""
        assert code == self.closing, f"closed with {code} in place of {self.closing}"
        assert not self._prompt, f"closed without a reply to {list(self._prompt)}"
        assert not +self._pushes, f"closed without telling of {+self._pushes}"
