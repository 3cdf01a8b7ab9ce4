"""The API documents as such: valid, closed, complete, served; and the checkers that other tests rely on."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from app import asyncapi, openapi
from app.openapi import operation_id
from app.protocol import CloseCode
from handlers import docs_page
from handlers.routes import operations
from models.errors import family
from tests.conftest import Copydesk
from tests.contract.conformance import (
    Recorded,
    answer_complaints,
    asyncapi_complaints,
    command_complaints,
    frame_complaints,
    problem_complaints,
)

REST = openapi.document(operations(), version="1")
LIVE = asyncapi.document(version="1")


def test_the_openapi_document_is_valid() -> None:
    assert [problem.message for problem in OpenAPIV31SpecValidator(REST).iter_errors()] == []


def test_the_asyncapi_document_is_valid() -> None:
    assert asyncapi_complaints(LIVE) == []


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation_id(path, method) for path, methods in operations().items() for method in methods]
    assert len(set(names)) == len(names)


def test_everything_the_server_sends_is_closed() -> None:
    open_ones = {
        name
        for document in (REST, LIVE)
        for name, schema in document["components"]["schemas"].items()
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False
    }
    assert open_ones == set()


def test_optional_fields_of_answers_are_not_required_and_others_are() -> None:
    project = REST["components"]["schemas"]["Project"]
    assert project["required"] == ["id", "name", "labels", "visibility", "members", "version"]
    assert "due_at" in project["properties"]
    assert REST["components"]["schemas"]["NewProject"]["required"] == ["name"]


def test_the_list_of_codes_is_the_family_of_refusals() -> None:
    assert REST["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == sorted(family())
    assert LIVE["components"]["schemas"]["ErrorBody"]["properties"]["code"]["enum"] == sorted(family())


def test_every_close_code_is_explained() -> None:
    assert set(asyncapi.CLOSE_CODES) == set(CloseCode)


async def test_both_documents_are_served_without_a_sign_in(copydesk: Copydesk) -> None:
    for name, field in (("openapi", "paths"), ("asyncapi", "channels")):
        first = await copydesk.request("GET", f"/{name}.json", user=None)
        assert first.code == 200
        assert first.headers["Content-Type"] == "application/json; charset=UTF-8"
        assert field in json.loads(first.body)
        again = await copydesk.request("GET", f"/{name}.json", user=None, If_None_Match=first.headers["Etag"])
        assert again.code == 304


# -- the readable page ------------------------------------------------------------------------------------------------


async def _docs(copydesk: Copydesk, method: str = "GET", **headers: str) -> HTTPResponse:
    return await AsyncHTTPClient().fetch(
        f"{copydesk.url}/docs", method=method, headers=headers, allow_nonstandard_methods=True, raise_error=False
    )


async def test_the_page_runs_nothing_and_loads_nothing_from_elsewhere(copydesk: Copydesk) -> None:
    page = await _docs(copydesk)
    assert page.code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "script-src" not in policy
    html = page.body.decode()
    assert "<script" not in html
    assert "style=" not in html
    assert re.findall(r'(?:src|href)="(?:https?:)?//', html) == []
    sheet = await AsyncHTTPClient().fetch(f"{copydesk.url}/static/docs.css")
    assert sheet.headers["Content-Type"] == "text/css; charset=utf-8"


async def test_the_page_refuses_other_verbs_and_foreign_hosts_in_the_usual_shape(copydesk: Copydesk) -> None:
    for answer, status in ((await _docs(copydesk, "POST"), 405), (await _docs(copydesk, Host="evil.example"), 404)):
        recorded = Recorded(method="GET", path="/docs", status=answer.code, headers=answer.headers, body=answer.body)
        assert answer.code == status
        assert problem_complaints(REST, recorded) == []


def test_every_link_within_the_page_leads_somewhere() -> None:
    html = docs_page.render(REST, LIVE).decode()
    targets = re.findall(r' id="([^"]+)"', html)
    assert len(set(targets)) == len(targets)
    assert set(re.findall(r'href="#([^"]+)"', html)) - set(targets) == set()


def test_the_page_has_an_anchor_for_every_error_code_and_close_code() -> None:
    html = docs_page.render(REST, LIVE).decode()
    wanted = [*(f"error-{code}" for code in family()), *(f"close-{int(code)}" for code in CloseCode), "behind-nginx"]
    assert [anchor for anchor in wanted if f'id="{anchor}"' not in html] == []


def test_the_page_shows_every_path_and_escapes_what_it_shows() -> None:
    html = docs_page.render(REST, LIVE).decode()
    assert [path for path in operations() if f"<code>{path}</code>" not in html] == []
    planted = copy.deepcopy(REST)
    planted["paths"]["/healthz"]["get"]["summary"] = "<script>alert(`1 & 2`)</script>"
    html = docs_page.render(planted, LIVE).decode()
    assert "<script" not in html
    assert "&lt;script&gt;alert(<code>1 &amp; 2</code>)" in html


# -- the checkers, each with a planted fault --------------------------------------------------------------------------

_AT = "2026-01-01T00:00:00.000Z"
_HEALTH = {"method": "GET", "path": "/healthz", "status": 200, "headers": {"Content-Type": "application/json"}}
_PROBLEM = {
    "type": "/docs#error-invalid",
    "title": "The request does not fit the schema",
    "status": 422,
    "code": "invalid",
    "detail": "Expected an integer.",
    "request_id": "r",
}


def _recorded(**changes: Any) -> Recorded:
    body = changes.pop("json", {"status": "ok"})
    return Recorded(**{**_HEALTH, "body": json.dumps(body).encode() if body is not None else b"", **changes})


def _refused(**changes: Any) -> Recorded:
    headers = changes.pop("headers", {"Content-Type": "application/problem+json"})
    status = changes.pop("http_status", 422)
    return _recorded(status=status, headers=headers, json={**_PROBLEM, **changes})


def test_a_good_answer_passes() -> None:
    assert answer_complaints(REST, _recorded()) == []
    assert answer_complaints(REST, _refused()) == []
    assert problem_complaints(REST, _refused()) == []


@pytest.mark.parametrize(
    "answer",
    [
        _recorded(json={"status": "ok", "secret": 1}),
        _recorded(json={"status": None}),
        _recorded(json={}),
        _recorded(status=204, json=None),
        _recorded(headers={"Content-Type": "text/html"}),
        _recorded(method="PUT"),
        _recorded(path="/nowhere"),
        _refused(code="stale_version"),
        _refused(code="made_up"),
        _refused(status=400),
        _recorded(path="/api/v1/projects", json={"items": [], "position": "p"}),
        _recorded(
            path="/api/v1/projects",
            json={
                "items": [{"id": "p", "name": "n", "created_at": "2026-01-01T00:00:00Z", "version": 1}],
                "position": "p",
            },
            headers={
                "Content-Type": "application/json", "ETag": '"e"', "Copydesk-Position": "p", "X-Poll-Interval": "10",
            },
        ),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_as_described_is_found(answer: Recorded) -> None:
    assert answer_complaints(REST, answer) != []


@pytest.mark.parametrize(
    "answer",
    [
        _refused(headers={"Content-Type": "application/json"}),
        _refused(code="made_up"),
        _refused(type="about:blank"),
        _refused(status=400),
        _refused(stack="..."),
        _refused(errors=[]),
        _refused(errors=[{"path": "$"}]),
        _refused(detail="Traceback (most recent call last)"),
        _refused(detail="pymongo.errors.AutoReconnect"),
        _refused(http_status=503, status=503, code="busy", type="/docs#error-busy"),
    ],
)
def test_a_wrong_error_answer_is_found(answer: Recorded) -> None:
    assert problem_complaints(REST, answer) != []


@pytest.mark.parametrize(
    "frame",
    [
        {"push": "gossip"},
        {"push": "live", "topic": "projects"},
        {"push": "live", "topic": "projects", "position": None},
        {"push": "live", "topic": "projects", "position": "p", "extra": 1},
        {"push": "events", "topic": "projects", "position": "p", "events": []},
        {"push": "events", "topic": "projects", "position": "p", "events": [{"kind": "project", "change": "update"}]},
        {
            "push": "events",
            "topic": "t",
            "position": "p",
            "events": [{"kind": "item", "change": "enter", "id": "i", "version": 1, "at": _AT, "doc": {}}],
        },
        {"push": "snapshot", "topic": "projects", "data": {"items": []}, "part": 1, "last": True},
        {"push": "error", "code": "made_up", "detail": "d", "retry": False},
        {"id": 1},
        {"id": 1, "ok": {"topic": "projects"}},
        {"id": 1, "error": {"code": "not_found"}},
    ],
)
def test_a_frame_that_is_not_as_described_is_found(frame: dict[str, Any]) -> None:
    assert frame_complaints(LIVE, frame) != []


def test_a_good_frame_passes() -> None:
    assert frame_complaints(LIVE, {"push": "live", "topic": "projects", "position": "p"}) == []
    assert frame_complaints(LIVE, {"id": 1, "ok": {}}) == []


def test_commands_are_described_as_they_are_read() -> None:
    assert command_complaints(LIVE, {"op": "subscribe", "id": 1, "topic": "projects", "since": "p"}) == []
    assert command_complaints(LIVE, {"op": "pong"}) == []
    for wrong in ({"op": "shout", "id": 1}, {"op": "hello"}, {"op": "subscribe", "id": 1}, {"op": "pong", "x": 1}):
        assert command_complaints(LIVE, wrong) != []


def _broken(*path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(LIVE)
    place: Any = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    "document",
    [
        {},
        _broken("asyncapi", value="2.6.0"),
        _broken("info", value={"title": "t"}),
        _broken("paths", value={}),
        _broken("operations", "send_pushes", "action", value="publish"),
        _broken("operations", "send_pushes", "messages", value=[]),
        _broken("operations", "send_pushes", "messages", value=[{"$ref": "#/components/messages/push.live"}]),
        _broken("operations", "send_pushes", "channel", value={"$ref": "#/channels/nowhere"}),
        _broken("components", "messages", "push.live", value={"name": "live"}),
        _broken("components", "schemas", "Live", value={"type": "nothing"}),
    ],
)
def test_a_broken_asyncapi_document_is_found(document: dict[str, Any]) -> None:
    assert asyncapi_complaints(document) != []
