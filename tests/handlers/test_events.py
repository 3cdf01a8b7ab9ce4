"""Server-Sent Events and long poll: the same pushes with the same guarantee."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from tornado.ioloop import IOLoop

from tests.conftest import Copydesk
from tests.editor import Store


class EventSource:
    """Reads a stream of Server-Sent Events as the HTML standard says (9.2.6), from a bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.head, self._reader, self._writer = head, reader, writer
        self.messages: list[tuple[str, dict[str, Any], str | None]] = []
        self.comments = 0
        self.last_id: str | None = None
        self.stores: dict[str, Store] = {}

    @classmethod
    async def open(
        cls, url: str, token: str, topics: str, *, last_id: str | None = None, more: str = ""
    ) -> EventSource:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        writer.write(
            f"GET /api/v1/events/stream?topics={quote(topics)}{more} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {token}\r\n{resume}\r\n".encode()
        )
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
        return cls(reader, writer, head)

    async def next(self) -> tuple[str, dict[str, Any], str | None]:
        """The next message: its event, its data, and the id it came with."""
        name, data, mark = "", "", None
        while True:
            line = (await asyncio.wait_for(self._reader.readline(), 20)).decode()
            assert line, "the stream ended"
            line = line.rstrip("\n")
            if line == "":
                if not data:
                    continue
                push = json.loads(data)
                self.last_id = mark or self.last_id
                self.messages.append((name, push, mark))
                store = self.stores.setdefault(push.get("topic", ""), Store())
                if name == "snapshot":
                    store.snapshot(push["data"])
                for event in push.get("events", ()):
                    store.apply(event)
                return self.messages[-1]
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "":
                self.comments += 1
            elif field == "event":
                name = value
            elif field == "data":
                data = value
            elif field == "id":
                mark = value

    async def until(self, name: str, **fields: Any) -> dict[str, Any]:
        """Read on until a push with these fields."""
        while True:
            got, push, _ = await self.next()
            if got == name and all(push.get(key) == value for key, value in fields.items()):
                return push

    async def until_event(self, identifier: str) -> dict[str, Any]:
        """Read on until an event of this document."""
        while True:
            for event in (await self.until("events"))["events"]:
                if event["id"] == identifier:
                    found: dict[str, Any] = event
                    return found

    async def end(self) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self._reader.read(), 20)

    def close(self) -> None:
        self._writer.close()


Open = Callable[..., Awaitable[EventSource]]


@pytest.fixture
def listen(io_loop: IOLoop, copydesk: Copydesk) -> Iterator[Open]:
    """Open streams that end with the test."""
    opened: list[EventSource] = []

    async def open_one(topics: str, user: str = "bob", **options: Any) -> EventSource:
        opened.append(await EventSource.open(copydesk.url, copydesk.token(user), topics, **options))
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()

    async def gone() -> None:
        await asyncio.wait_for(copydesk.server.connections.emptied(), 20)

    io_loop.run_sync(gone)


async def _poll(copydesk: Copydesk, topics: str, user: str = "bob", **query: Any) -> dict[str, Any]:
    text = "".join(f"&{name}={value}" for name, value in query.items())
    answer: dict[str, Any] = await copydesk.call("GET", f"/events?topics={quote(topics)}{text}", user=user)
    return answer


async def test_a_stream_begins_with_a_snapshot_and_goes_on_with_events(copydesk: Copydesk, listen: Open) -> None:
    project = await copydesk.project()
    source = await listen(f"project:{project}")
    assert "200 OK" in source.head
    assert "Content-Type: text/event-stream" in source.head
    assert "X-Accel-Buffering: no" in source.head
    assert (await source.next())[0] == "snapshot"
    await source.until("live")
    comment = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Hello"})
    event = await source.until_event(comment["id"])
    assert event["doc"] == await copydesk.call("GET", f"/projects/{project}/comments/{comment['id']}")
    _, push, mark = source.messages[-1]
    assert mark == push["position"]


async def test_no_position_is_told_before_all_topics_are_live(copydesk: Copydesk, listen: Open) -> None:
    project = await copydesk.project()
    source = await listen(f"projects,project:{project},inbox")
    for topic in ("projects", f"project:{project}", "inbox"):
        await source.until("live", topic=topic)
    marks = [mark for _, _, mark in source.messages]
    assert all(mark is None for mark in marks[:-1])
    assert marks[-1] is not None


async def test_a_stream_resumes_with_exactly_what_was_missed_on_all_its_topics(
    copydesk: Copydesk, listen: Open
) -> None:
    project = await copydesk.project()
    first = await listen(f"projects,project:{project}")
    await first.until("live", topic=f"project:{project}")
    first.close()
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "One"})
    await copydesk.call("PATCH", f"/projects/{project}", {"name": "Renamed"})
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Two"})
    second = await listen(f"projects,project:{project}", last_id=first.last_id)
    await second.until("live", topic=f"project:{project}")
    assert not [push for name, push, _ in second.messages if name in ("snapshot", "reset")]
    events = [
        (push["topic"].partition(":")[0], event["kind"], event["doc"].get("body") or event["doc"].get("name"))
        for name, push, _ in second.messages
        if name == "events"
        for event in push["events"]
        if event["kind"] != "activity"
    ]
    assert [event for event in events if event[0] == "project"] == [
        ("project", "comment", "One"),
        ("project", "project", "Renamed"),
        ("project", "comment", "Two"),
    ]
    assert [event for event in events if event[0] == "projects"] == [("projects", "project", "Renamed")]
    # Commit order holds across topics.
    assert events.index(("projects", "project", "Renamed")) in (1, 2)


async def test_a_position_that_cannot_be_resumed_is_answered_with_reset_and_snapshot(
    copydesk: Copydesk, listen: Open
) -> None:
    project = await copydesk.project()
    source = await listen(f"project:{project}", more="&since=nonsense")
    assert (await source.next())[1] == {"push": "reset", "topic": f"project:{project}", "reason": "unknown"}
    await source.until("snapshot")
    await source.until("live")


async def test_an_unseen_topic_is_refused_and_the_others_go_on(copydesk: Copydesk, listen: Open) -> None:
    hidden = await copydesk.project(visibility="private")
    seen = await copydesk.project()
    source = await listen(f"project:{hidden},project:{seen},project:missing")
    await source.until("live", topic=f"project:{seen}")
    refused = {push["topic"]: push["code"] for name, push, _ in source.messages if name == "unsubscribed"}
    assert refused == {f"project:{hidden}": "not_found", "project:missing": "not_found"}


async def test_who_loses_a_project_is_told_and_hears_nothing_after(copydesk: Copydesk, listen: Open) -> None:
    project = await copydesk.project(visibility="private", members=[{"principal": "user:bob", "role": "viewer"}])
    source = await listen(f"project:{project},projects")
    await source.until("live", topic="projects")
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "Before"})
    await copydesk.call("PATCH", f"/projects/{project}", {"members": [{"principal": "user:alice", "role": "owner"}]})
    await copydesk.call("POST", f"/projects/{project}/comments", {"body": "After"})
    other = await copydesk.project("Other")
    while not any(event["id"] == other for _, push, _ in source.messages for event in push.get("events", ())):
        await source.next()
    said = json.dumps([push for _, push, _ in source.messages])
    assert "Before" in said
    assert "After" not in said
    assert any(push.get("code") == "not_found" for name, push, _ in source.messages if name == "unsubscribed")


@pytest.mark.parametrize("copydesk", [{"ping_seconds": 1}], indirect=True)
async def test_a_ping_moves_an_idle_stream_on(copydesk: Copydesk, listen: Open) -> None:
    project = await copydesk.project()
    source = await listen(f"project:{project}")
    live = await source.until("live")
    await copydesk.project("Elsewhere")
    while True:
        ping = await source.until("ping")
        if ping["position"] != live["position"]:
            break
    assert source.last_id == ping["position"]
    await source.until("ping")
    assert source.comments >= 2, "one at the beginning, one with each ping"


async def test_a_sign_out_ends_the_stream_with_the_reason(copydesk: Copydesk, listen: Open) -> None:
    source = await listen("projects")
    await source.until("live")
    await copydesk.call("DELETE", "/session?everywhere=true", user="bob")
    push = await source.until("error")
    assert push["code"] == "unauthenticated"
    assert await source.end() == b""


async def test_a_poll_without_a_position_answers_at_once_with_one(copydesk: Copydesk) -> None:
    answer = await _poll(copydesk, "projects", wait=25)
    assert answer["pushes"] == []
    assert answer["more"] is False
    assert answer["position"]


async def test_a_poll_waits_for_news_and_brings_it(copydesk: Copydesk) -> None:
    begun = await _poll(copydesk, "projects")
    waiting = asyncio.ensure_future(_poll(copydesk, "projects", since=begun["position"], wait=25))
    other = await copydesk.project("Other")
    answer = await waiting
    assert [event["id"] for push in answer["pushes"] for event in push["events"]] == [other]
    again = await _poll(copydesk, "projects", since=answer["position"])
    assert again["pushes"] == []


async def test_a_poll_that_hears_nothing_moves_on(copydesk: Copydesk) -> None:
    begun = await _poll(copydesk, "inbox")
    await copydesk.project("Elsewhere")
    answer = await _poll(copydesk, "inbox", since=begun["position"], wait=0.5)
    assert answer["pushes"] == []
    assert answer["position"] != begun["position"]


async def test_a_poll_from_an_unknown_position_says_reset(copydesk: Copydesk) -> None:
    answer = await _poll(copydesk, "projects,inbox", since="nonsense", wait=25)
    assert answer["pushes"] == [
        {"push": "reset", "topic": "projects", "reason": "unknown"},
        {"push": "reset", "topic": "inbox", "reason": "unknown"},
    ]


async def test_a_poll_of_many_events_comes_in_parts_that_lose_nothing(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    position = (await _poll(copydesk, f"project:{project}"))["position"]
    now = datetime.now(UTC)
    await copydesk.database.comments.insert_many(
        [
            {"_id": f"c{number:04}", "project_id": project, "body": "x", "author": "import", "created_at": now}
            for number in range(2500)
        ]
    )
    ids: list[str] = []
    while len(ids) < 2500:
        answer = await _poll(copydesk, f"project:{project}", since=position, wait=5)
        got = [event["id"] for push in answer["pushes"] for event in push["events"] if event["kind"] == "comment"]
        assert len(got) <= 1250
        ids += got
        position = answer["position"]
    assert ids == [f"c{number:04}" for number in range(2500)]


@pytest.mark.parametrize("query", ["", "?topics=", "?topics=projects&wait=26", "?topics=projects&wait=x"])
async def test_a_bad_poll_is_invalid(copydesk: Copydesk, query: str) -> None:
    response = await copydesk.request("GET", f"/events{query}", user="bob")
    assert response.code == 422, response.body


async def test_nobody_listens_without_signing_in(copydesk: Copydesk) -> None:
    for path in ("/events?topics=projects", "/events/stream?topics=projects"):
        assert (await copydesk.request("GET", path, user=None)).code == 401
