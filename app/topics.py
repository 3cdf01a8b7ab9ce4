"""The topics that clients name, and the keys under which events are routed to their listeners. Pure."""

from __future__ import annotations

import re

from models.errors import Invalid, NotFound

PROJECTS = "projects"
INBOX = "inbox"
NO_PROJECT = "There is no such project, or you may not see it."

_PROJECT_TOPIC = re.compile(r"project:([A-Za-z0-9_-]{1,64})\Z")
_INBOX_KEY = "inbox:"


def check_topic(topic: str) -> None:
    """Raises `NotFound` for a project that cannot be, `Invalid` for what is no topic at all."""
    if topic in (PROJECTS, INBOX) or _PROJECT_TOPIC.match(topic):
        return
    if topic.startswith("project:"):
        raise NotFound(NO_PROJECT)
    raise Invalid("There is no such topic; there are project:<id>, projects and inbox.")


def is_project(key: str) -> bool:
    """Whether a topic or a key is that of one project."""
    return key.startswith("project:")


def is_inbox(key: str) -> bool:
    """Whether a key is that of somebody's inbox."""
    return key.startswith(_INBOX_KEY)


def project_key(project_id: str) -> str:
    """The key of one project's events, which is also the name of the topic."""
    return f"project:{project_id}"


def inbox_key(user_id: str) -> str:
    """The key of one user's inbox. `check_topic` refuses it as a name: only `key_of` leads to it."""
    return _INBOX_KEY + user_id


def key_of(topic: str, user_id: str) -> str:
    """Under which key a caller finds the events of a topic: `inbox` names everybody's own."""
    return inbox_key(user_id) if topic == INBOX else topic


def topic_of(key: str) -> str:
    """What the listeners of a key call it."""
    return INBOX if is_inbox(key) else key
