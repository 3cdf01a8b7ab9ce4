"""Server-Sent Events and long poll: the same pushes with the same guarantee."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from app.polling import Poll
from app.protocol import Frame
from tests.conftest import Copydesk
from tests.handlers.event_source import Open, poll
from tests.handlers.raw_socket import sign_in


async def test_a_stream_begins_with_a_snapshot_and_goes_on_with_events(copydesk: Copydesk, listen: Open) -> None:
    project = await copydesk.project()
    source = await listen(f"project:{project}")
    assert "200 OK" in source.head
    assert "Content-Type: text/event-stream" in source.head
    assert "X-Accel-Buffering: no" in source.head
    assert [name for name, _, _ in [await source.next(), await source.next()]] == ["snapshot", "live"]
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
    answer = await poll(copydesk, "projects", wait=25)
    assert answer["pushes"] == []
    assert answer["more"] is False
    assert answer["position"]


async def test_a_poll_waits_for_news_and_brings_it(copydesk: Copydesk) -> None:
    begun = await poll(copydesk, "projects")
    waiting = asyncio.ensure_future(poll(copydesk, "projects", since=begun["position"], wait=25))
    other = await copydesk.project("Other")
    answer = await waiting
    assert [event["id"] for push in answer["pushes"] for event in push["events"]] == [other]
    again = await poll(copydesk, "projects", since=answer["position"])
    assert again["pushes"] == []


async def test_a_poll_of_somebody_who_is_disabled_meanwhile_ends_at_once_and_tells_nothing(copydesk: Copydesk) -> None:
    begun = await poll(copydesk, "projects")
    path = f"/events?topics=projects&since={begun['position']}&wait=25"
    waiting = asyncio.ensure_future(copydesk.request("GET", path, user="bob"))
    await copydesk.until(lambda: len(copydesk.server.connections.polls) == 1)
    begun_at = time.monotonic()
    await copydesk.call("PATCH", "/admin/users/bob", {"disabled": True}, user="root", roles=("admin",))
    await copydesk.project("Secret")
    answer = await waiting
    assert (answer.code, b"Secret" in answer.body) == (401, False)
    assert time.monotonic() - begun_at < 20


async def test_a_poll_that_is_ended_in_the_moment_of_news_loses_nothing(
    copydesk: Copydesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a drain, or other roles: the client asks again, of whichever process."""
    send, begun = Poll.send, await poll(copydesk, "projects")

    def send_and_stop(self: Poll, frame: Frame) -> None:
        send(self, frame)
        if frame.name == "events":
            self.stop()

    waiting = asyncio.ensure_future(poll(copydesk, "projects", since=begun["position"], wait=25))
    await copydesk.until(lambda: len(copydesk.server.connections.polls) == 1)
    with monkeypatch.context() as patched:
        patched.setattr(Poll, "send", send_and_stop)
        other = await copydesk.project("Other")
        first = await waiting
    second = await poll(copydesk, "projects", since=first["position"])
    pushes = [*first["pushes"], *second["pushes"]]
    assert [event["id"] for push in pushes for event in push["events"]] == [other]


async def test_a_poll_that_hears_nothing_moves_on(copydesk: Copydesk) -> None:
    begun = await poll(copydesk, "inbox")
    await copydesk.project("Elsewhere")
    answer = await poll(copydesk, "inbox", since=begun["position"], wait=0.5)
    assert answer["pushes"] == []
    assert answer["position"] != begun["position"]


async def test_a_poll_from_an_unknown_position_says_reset(copydesk: Copydesk) -> None:
    answer = await poll(copydesk, "projects,inbox", since="nonsense", wait=25)
    assert answer["pushes"] == [
        {"push": "reset", "topic": "projects", "reason": "unknown"},
        {"push": "reset", "topic": "inbox", "reason": "unknown"},
    ]


async def test_a_poll_of_many_events_comes_in_parts_that_lose_nothing(copydesk: Copydesk) -> None:
    project = await copydesk.project()
    position = (await poll(copydesk, f"project:{project}"))["position"]
    now = datetime.now(UTC)
    await copydesk.database.comments.insert_many(
        [
            {"_id": f"c{number:04}", "project_id": project, "body": "x", "author": "import", "created_at": now}
            for number in range(2500)
        ]
    )
    ids: list[str] = []
    while len(ids) < 2500:
        answer = await poll(copydesk, f"project:{project}", since=position, wait=5)
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


@pytest.mark.parametrize("path", ["/events", "/events/stream"])
async def test_a_cookie_is_good_for_pages_of_this_server_only(copydesk: Copydesk, path: str) -> None:
    cookie = await sign_in(copydesk)
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}):
        answer = await copydesk.request("GET", f"{path}?topics=projects", user=None, Cookie=cookie, **headers)
        assert (answer.code, json.loads(answer.body)["code"]) == (403, "cross_origin"), headers
    # With a token it is no matter who asks: another site's page cannot have it sent along.
    await copydesk.call("GET", "/events?topics=projects", Origin="https://evil.example")


async def test_a_page_of_this_server_polls_with_its_cookie(copydesk: Copydesk) -> None:
    cookie = await sign_in(copydesk)
    own: tuple[dict[str, str], ...] = ({}, {"Origin": copydesk.url}, {"Sec-Fetch-Site": "same-origin"})
    for headers in (*own, {"Sec-Fetch-Site": "none"}):
        answer = await copydesk.request("GET", "/events?topics=projects", user=None, Cookie=cookie, **headers)
        assert answer.code == 200, (headers, answer.body)
