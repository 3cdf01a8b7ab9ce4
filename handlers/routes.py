"""The route table: which handler classes there are, and what each of them needs.

A path stands in its handler class (`route`); here it becomes a pattern. The API document and the table of rights in the
tests are made from this table, so nothing that is served can be forgotten there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from tornado.routing import URLSpec

from app import asyncapi, openapi
from handlers import docs_page
from handlers.activities import ActivitiesHandler
from handlers.admin import AdminUserHandler, AdminUsersHandler, ConnectionsHandler, SettingsHandler, SignOutHandler
from handlers.base import Edge, Handler, UnknownPathHandler
from handlers.comments import CommentHandler, CommentsHandler
from handlers.diagnosis import DiagnosisHandler
from handlers.documents import AsyncApiHandler, DocsHandler, OpenApiHandler
from handlers.events import EventPollHandler, EventStreamHandler
from handlers.items import ContentItemsHandler, ItemHandler, ItemsHandler, ItemsStatusHandler
from handlers.mail import DeadLetterHandler, DeadLettersHandler, RequeueHandler, UnsubscribeHandler
from handlers.notifications import (
    NotificationCountHandler,
    NotificationHandler,
    NotificationsHandler,
    NotificationsMarkHandler,
)
from handlers.operation import Operation
from handlers.operations import ConfigHandler, DiagnosticsHandler, HealthHandler, MetricsHandler, ReadyHandler
from handlers.pages import IconHandler, PageHandler, StaticHandler
from handlers.preferences import PreferencesHandler
from handlers.projects import OverviewHandler, ProjectHandler, ProjectsHandler
from handlers.realtime import RealtimeHandler
from handlers.session import SessionHandler
from handlers.subscriptions import SubscriptionHandler, SubscriptionsHandler
from handlers.users import UserHandler, UsersHandler

HANDLERS: dict[type[Handler], tuple[str, ...]] = {
    ProjectsHandler: ("projects",),
    ProjectHandler: ("projects",),
    OverviewHandler: ("overviews",),
    SessionHandler: (),
    UsersHandler: ("users",),
    UserHandler: ("users",),
    AdminUsersHandler: ("users",),
    AdminUserHandler: ("users",),
    SignOutHandler: ("users",),
    SettingsHandler: ("meta", "runtime"),
    ConnectionsHandler: ("connections",),
    ConfigHandler: ("runtime", "version", "available"),
    DiagnosticsHandler: ("runtime", "available"),
    HealthHandler: (),
    ReadyHandler: ("readiness",),
    MetricsHandler: (),
    ItemsHandler: ("items",),
    ItemHandler: ("items",),
    ItemsStatusHandler: ("items",),
    ContentItemsHandler: ("items",),
    CommentsHandler: ("comments",),
    CommentHandler: ("comments",),
    ActivitiesHandler: ("activities",),
    NotificationsHandler: ("inbox", "postings"),
    NotificationHandler: ("inbox", "postings"),
    NotificationCountHandler: ("inbox", "postings"),
    NotificationsMarkHandler: ("inbox", "postings"),
    SubscriptionsHandler: ("subscriptions",),
    SubscriptionHandler: ("subscriptions", "items", "comments"),
    PreferencesHandler: ("preferences",),
    UnsubscribeHandler: ("preferences", "unsubscriptions"),
    DeadLettersHandler: ("mails",),
    DeadLetterHandler: ("mails",),
    RequeueHandler: ("mails",),
    EventStreamHandler: ("sources", "connections", "runtime", "ready"),
    EventPollHandler: ("sources", "connections", "ready"),
    RealtimeHandler: ("hub", "joiner", "connections", "runtime", "ready"),
    OpenApiHandler: ("openapi",),
    AsyncApiHandler: ("asyncapi",),
    DocsHandler: ("docs",),
    PageHandler: (),
    DiagnosisHandler: (),
    StaticHandler: (),
    IconHandler: (),
}
"""Each handler and the names of the services that its `initialize` takes besides `edge`."""

_PARAMETER = re.compile(r"\{(\w+)\}")


def routes(edge: Edge, services: Mapping[str, Any]) -> list[URLSpec]:
    """Tornado's table. A service that `services` lacks is a KeyError here and now, not at the first request."""
    return [
        URLSpec(
            pattern(handler.route),
            handler,
            {"edge": edge, **{name: services[name] for name in needed}},
            name=handler.__name__,
        )
        for handler, needed in sorted(HANDLERS.items(), key=lambda entry: _precedence(entry[0].route))
    ]


def operations() -> dict[str, Mapping[str, Operation]]:
    """What the API document is made from: by path, the verbs of every handler that says something about itself."""
    return {handler.route: handler.operations for handler in HANDLERS if hasattr(handler, "operations")}


def application_settings(edge: Edge) -> dict[str, Any]:
    """What `tornado.web.Application` is told besides: how unknown paths are answered."""
    return {"default_handler_class": UnknownPathHandler, "default_handler_args": {"edge": edge}}


def pattern(route: str) -> str:
    """``/projects/{project_id}`` as the regular expression that Tornado matches; a parameter never spans a slash."""
    parts = _PARAMETER.split(route)
    return "".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)) + r"\Z"


def _precedence(route: str) -> list[tuple[bool, str]]:
    """Words before parameters: `/items/status` is no item with the id `status`."""
    return [("{" in segment, segment) for segment in route.split("/")]


@functools.cache
def documents(version: str) -> Mapping[str, Any]:
    """The API described, by the services of `handlers.documents`: half a second's work, the same for every server."""
    rest, live = openapi.document(operations(), version=version), asyncapi.document(version=version)
    return {"openapi": rest, "asyncapi": live, "docs": docs_page.render(rest, live)}
