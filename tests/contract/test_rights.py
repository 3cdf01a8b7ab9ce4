"""Every route and verb, asked by every kind of caller: who is let in, and how the others are turned away.

A caller who is let in goes on to a query argument that nobody knows (422), which is checked after the rights. So every
route is asked the same harmless way, and an answer tells just what the rights say.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from tornado.httpclient import AsyncHTTPClient

from app.permissions import NEEDED_ROLE, Action
from handlers.routes import HANDLERS, operations
from models.fields import ProjectRole
from tests.conftest import Copydesk

IN = 422

CALLERS: dict[str, tuple[str, ...] | None] = {
    "nobody": None,
    "outsider": (),
    "viewer": (),
    "commenter": (),
    "editor": (),
    "publisher": (),
    "owner": (),
    "service": ("service",),
    "admin": ("admin",),
}
"""Who asks, and the instance roles in their token. Who is named like a project role has just that one."""

ANSWERS: dict[Action, dict[str, int]] = {
    Action.ANYONE: dict.fromkeys(CALLERS, IN),
    Action.SIGNED_IN: {**dict.fromkeys(CALLERS, IN), "nobody": 401},
    Action.VIEW: {**dict.fromkeys(CALLERS, IN), "nobody": 401, "outsider": 404},
    Action.COMMENT: {**dict.fromkeys(CALLERS, IN), "nobody": 401, "outsider": 404, "viewer": 403},
    Action.EDIT: {
        **dict.fromkeys(CALLERS, IN), "nobody": 401, "outsider": 404, "viewer": 403, "commenter": 403,
    },
    Action.PUBLISH: {
        **dict.fromkeys(CALLERS, IN), "nobody": 401, "outsider": 404, "viewer": 403, "commenter": 403, "editor": 403,
    },
    Action.MANAGE: {**dict.fromkeys(CALLERS, 403), "nobody": 401, "outsider": 404, "owner": IN, "admin": IN},
    Action.NOTIFY: {**dict.fromkeys(CALLERS, 403), "nobody": 401, "service": IN, "admin": IN},
    Action.ADMINISTER: {**dict.fromkeys(CALLERS, 403), "nobody": 401, "admin": IN},
}  # fmt: skip

ROUTES: dict[str, dict[str, Action]] = {
    "/api/v1/session": {"POST": Action.ANYONE, "GET": Action.SIGNED_IN, "DELETE": Action.SIGNED_IN},
    "/api/v1/config": {"GET": Action.ANYONE},
    "/api/v1/diagnostics": {"GET": Action.ANYONE},
    "/api/v1/openapi.json": {"GET": Action.ANYONE},
    "/api/v1/asyncapi.json": {"GET": Action.ANYONE},
    "/api/v1/realtime": {"GET": Action.ANYONE},
    "/api/v1/events/stream": {"GET": Action.SIGNED_IN},
    "/api/v1/events": {"GET": Action.SIGNED_IN},
    "/healthz": {"GET": Action.ANYONE},
    "/readyz": {"GET": Action.ANYONE},
    "/metrics": {"GET": Action.ANYONE},
    "/api/v1/projects": {"GET": Action.SIGNED_IN, "POST": Action.SIGNED_IN},
    "/api/v1/projects/{project_id}": {"GET": Action.VIEW, "PATCH": Action.EDIT, "DELETE": Action.MANAGE},
    "/api/v1/projects/{project_id}/overview": {"GET": Action.VIEW},
    "/api/v1/projects/{project_id}/items": {"GET": Action.VIEW, "POST": Action.EDIT},
    "/api/v1/projects/{project_id}/items/{item_id}": {
        "GET": Action.VIEW, "PATCH": Action.EDIT, "DELETE": Action.EDIT,
    },
    "/api/v1/projects/{project_id}/items/status": {"POST": Action.EDIT},
    "/api/v1/projects/{project_id}/comments": {"GET": Action.VIEW, "POST": Action.COMMENT},
    "/api/v1/projects/{project_id}/comments/{comment_id}": {
        "GET": Action.VIEW, "PATCH": Action.COMMENT, "DELETE": Action.COMMENT,
    },
    "/api/v1/projects/{project_id}/activities": {"GET": Action.VIEW},
    "/api/v1/items": {"GET": Action.SIGNED_IN},
    "/api/v1/notifications": {"GET": Action.SIGNED_IN, "POST": Action.NOTIFY},
    "/api/v1/notifications/count": {"GET": Action.SIGNED_IN},
    "/api/v1/notifications/mark": {"POST": Action.SIGNED_IN},
    "/api/v1/notifications/{notification_id}": {
        "GET": Action.SIGNED_IN, "PATCH": Action.SIGNED_IN, "DELETE": Action.SIGNED_IN,
    },
    "/api/v1/subscriptions": {"GET": Action.SIGNED_IN},
    "/api/v1/subscriptions/{subject}": {
        "GET": Action.SIGNED_IN, "PUT": Action.SIGNED_IN, "DELETE": Action.SIGNED_IN,
    },
    "/api/v1/preferences": {"GET": Action.SIGNED_IN, "PUT": Action.SIGNED_IN},
    "/api/v1/unsubscribe": {"GET": Action.ANYONE, "POST": Action.ANYONE},
    "/api/v1/users": {"GET": Action.SIGNED_IN},
    "/api/v1/users/{user_id}": {"GET": Action.ADMINISTER, "PATCH": Action.ADMINISTER},
    "/api/v1/admin/users": {"GET": Action.ADMINISTER},
    "/api/v1/admin/users/{user_id}": {"GET": Action.ADMINISTER, "PATCH": Action.ADMINISTER},
    "/api/v1/admin/users/{user_id}/sign-out": {"POST": Action.ADMINISTER},
    "/api/v1/admin/settings": {"GET": Action.ADMINISTER, "PATCH": Action.ADMINISTER},
    "/api/v1/admin/connections": {"GET": Action.ADMINISTER},
    "/api/v1/admin/dead-letters": {"GET": Action.ADMINISTER},
    "/api/v1/admin/dead-letters/{letter_id}": {"DELETE": Action.ADMINISTER},
    "/api/v1/admin/dead-letters/{letter_id}/requeue": {"POST": Action.ADMINISTER},
}  # fmt: skip
"""What each route is meant to ask for. A new one stands here as well, or the tests fail."""

FILES = {"/", "/diagnosis", "/docs", "/favicon.ico", "/static/{path}"}
"""Pages and files, the same for everybody, that read nothing of anybody."""

OTHERWISE = {("/api/v1/realtime", "GET"): 426}
"""What a caller who is let in gets where there are no query arguments to check."""


def differences(served: Mapping[str, Mapping[str, Any]], meant: Mapping[str, Mapping[str, Action]]) -> list[str]:
    """Where the route table and the table above disagree."""
    found = [f"{route} is not listed" for route in served if route not in meant]
    found += [f"{route} is listed and not served" for route in meant if route not in served]
    for route in served.keys() & meant.keys():
        actions = {method: operation.action for method, operation in served[route].items()}
        if actions != meant[route]:
            found.append(f"{route} asks for {actions}, meant is {meant[route]}")
    return found


def test_every_route_is_listed_with_what_it_asks_for() -> None:
    assert differences(operations(), ROUTES) == []


def test_what_says_nothing_about_itself_is_a_page_or_a_file() -> None:
    assert {handler.route for handler in HANDLERS if not hasattr(handler, "operations")} == FILES


def test_an_unlisted_route_a_missing_one_and_another_action_are_found() -> None:
    served: dict[str, Mapping[str, Any]] = dict(operations())
    health = served["/healthz"]
    assert differences({**served, "/api/v1/secrets": health}, ROUTES) != []
    assert differences({route: verbs for route, verbs in served.items() if route != "/healthz"}, ROUTES) != []
    assert differences({**served, "/api/v1/admin/settings": health}, ROUTES) != []
    assert differences({**served, "/healthz": {**health, "POST": health["GET"]}}, ROUTES) != []


def test_every_action_and_every_caller_has_an_expected_answer() -> None:
    assert set(ANSWERS) == set(Action)
    assert all(set(answers) == set(CALLERS) for answers in ANSWERS.values())
    assert {role for role in CALLERS if role in get_args(ProjectRole)} == set(get_args(ProjectRole))
    # The two tables say the same: the weakest role that is let in is the one that the action needs.
    for action, role in NEEDED_ROLE.items():
        assert next(caller for caller in get_args(ProjectRole) if ANSWERS[action][caller] == IN) == role


async def _private_project(copydesk: Copydesk) -> dict[str, str]:
    members = [{"principal": f"user:{role}", "role": role} for role in get_args(ProjectRole)]
    project = await copydesk.project(user="founder", visibility="private", members=members)
    content = {"id": "c", "version": "1"}
    item = await copydesk.call("POST", f"/projects/{project}/items", {"name": "n", "content": content}, user="founder")
    comment = await copydesk.call("POST", f"/projects/{project}/comments", {"body": "b"}, user="founder")
    return {"project_id": project, "item_id": item["id"], "comment_id": comment["id"], "user_id": "founder",
            "notification_id": "n", "subject": f"project:{project}", "letter_id": "l"}  # fmt: skip


async def _ask(copydesk: Copydesk, method: str, path: str, caller: str) -> tuple[int, str]:
    roles = CALLERS[caller]
    headers = {} if roles is None else {"Authorization": f"Bearer {copydesk.token(caller, *roles)}"}
    answer = await AsyncHTTPClient().fetch(
        f"{copydesk.url}{path}?no_such_argument=1",
        method=method,
        headers={**headers, "Content-Type": "application/json"},
        body="{}" if method not in ("GET", "DELETE") else None,
        allow_nonstandard_methods=True,
        raise_error=False,
    )
    return answer.code, json.loads(answer.body).get("detail", "")


async def test_every_caller_gets_the_answer_that_their_role_gives_on_every_route(copydesk: Copydesk) -> None:
    ids = await _private_project(copydesk)
    wrong = []
    asked = 0
    for route, verbs in operations().items():
        for method, operation in verbs.items():
            path = re.sub(r"\{(\w+)\}", lambda match: ids[match[1]], route)
            answers = await asyncio.gather(*(_ask(copydesk, method, path, caller) for caller in CALLERS))
            for caller, (status, detail) in zip(CALLERS, answers, strict=True):
                expected = ANSWERS[operation.action][caller]
                if expected == IN:
                    expected = OTHERWISE.get((route, method), IN)
                asked += 1
                if status != expected:
                    wrong.append(f"{method} {path} by {caller}: {status} ({detail}), expected {expected}")
    assert wrong == []
    assert asked == sum(len(verbs) for verbs in operations().values()) * len(CALLERS)


async def test_what_may_not_be_seen_and_what_does_not_exist_are_answered_alike(copydesk: Copydesk) -> None:
    ids = await _private_project(copydesk)
    for route, verbs in operations().items():
        if "{project_id}" not in route:
            continue
        for method in verbs:
            real = re.sub(r"\{(\w+)\}", lambda match: ids[match[1]], route)
            hidden, missing = await asyncio.gather(
                _ask(copydesk, method, real, "outsider"),
                _ask(copydesk, method, real.replace(ids["project_id"], "no-such-project"), "outsider"),
            )
            assert hidden == missing
            assert hidden[0] == 404


@pytest.mark.parametrize(("user", "roles", "status"), [(None, (), 401), ("bob", (), 403), ("root", ("admin",), 200)])
async def test_metrics_through_a_proxy_are_for_admins(
    copydesk: Copydesk, user: str | None, roles: tuple[str, ...], status: int
) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1"}
    if user is not None:
        headers["Authorization"] = f"Bearer {copydesk.token(user, *roles)}"
    answer = await AsyncHTTPClient().fetch(f"{copydesk.url}/metrics", headers=headers, raise_error=False)
    assert answer.code == status
