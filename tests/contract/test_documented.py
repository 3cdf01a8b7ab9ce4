"""The reference pages name everything there is: routes, arguments, settings, codes, metrics, topics, messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from app.asyncapi import COMMANDS, PUSHES, TOPICS, tag
from app.metrics import Metrics
from app.permissions import ROLES
from app.protocol import CloseCode
from app.settings import describe
from handlers.routes import HANDLERS, operations
from models.activity import Activity, ActivityType
from models.comment import Comment
from models.errors import family
from models.item import STATUSES, Item
from models.mail import DeadLetter
from models.meta import SettingsPatch
from models.notification import Counts, Notification, NotificationEvent, NotificationType, Reason, Subject
from models.notification_input import Mark, NotificationPatch, State
from models.posting import Posting
from models.preferences import Preferences
from models.project import Project
from models.schema import COLLECTIONS
from models.subscription import Subscription

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def missing(text: str, needed: Iterable[str]) -> list[str]:
    """Which of some texts do not stand in a page."""
    return [part for part in needed if part not in text]


def sections(text: str) -> dict[str, str]:
    """What stands under each heading of an operation, by ``GET /path``."""
    parts = re.split(r"^### `(\w+ [^`]+)`.*$", text, flags=re.MULTILINE)
    bodies = (re.split(r"^## ", body, flags=re.MULTILINE)[0] for body in parts[2::2])
    return dict(zip(parts[1::2], bodies, strict=True))


def undocumented_operations(text: str, served: dict[str, Any]) -> list[str]:
    """Operations without a section, sections without an operation, query arguments that their section leaves out."""
    documented = sections(text)
    found = []
    for path, verbs in served.items():
        for method, operation in verbs.items():
            name = f"{method} {path.removeprefix('/api/v1')}"
            if name not in documented:
                found.append(f"{name} has no section")
                continue
            body = documented.pop(name)
            # `limit` and `cursor` are the same everywhere; a section may point to another of the same list.
            if "as under" not in body:
                found += [f"{name}: {query.name}" for query in operation.query if f"`{query.name}" not in body]
    return [*found, *(f"{name} does not exist" for name in documented)]


def broken_links(name: str, text: str) -> list[str]:
    """Links to pages of ours that are not there."""
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    return [f"{name}: {target}" for target in targets if not (DOCS / target).exists()]


def test_every_route_and_query_argument_is_documented() -> None:
    assert undocumented_operations(page("rest.md"), dict(operations())) == []


def test_every_field_status_role_and_activity_type_is_documented() -> None:
    text = page("rest.md")
    things = (
        Project, Item, Comment, Activity, Notification, Subject, NotificationEvent, Counts, Subscription, Preferences,
        Posting, NotificationPatch, Mark, DeadLetter,
    )  # fmt: skip
    fields = [field.encode_name for thing in things for field in msgspec.structs.fields(thing)]
    spelled = {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", span)}
    assert [name for name in fields if name not in spelled] == []
    literals = (ActivityType, NotificationType, Reason, State)
    words = (*STATUSES, *ROLES, *(word for literal in literals for word in get_args(literal)))
    assert missing(text, (f"`{word}`" for word in words)) == []


def test_every_type_and_reason_of_a_notification_is_explained() -> None:
    rows = [line for line in page("notifications.md").splitlines() if line.startswith("| `")]
    words = (*get_args(NotificationType), *get_args(Reason))
    assert missing("\n".join(rows), (f"`{word}`" for word in words)) == []


def test_every_optional_field_is_marked_so() -> None:
    text = page("rest.md")
    for thing in (Project, Item, Comment, Notification):
        optional = [field for field in msgspec.structs.fields(thing) if msgspec.UnsetType in get_args(field.type)]
        assert missing(text, (f"`{field.encode_name}?`" for field in optional)) == []


def test_every_setting_is_documented_as_it_is() -> None:
    rows = (
        f"| `{setting.variable}` | `{setting.flag}` | {setting.type} | {setting.default} | {setting.description} |"
        for setting in describe()
    )
    assert missing(page("settings.md"), rows) == []
    documented = set(re.findall(r"^\| `(COPYDESK_\w+)`", page("settings.md"), flags=re.MULTILINE))
    assert documented == {setting.variable for setting in describe()}


LIMITS = re.compile(r"_(MAX|LIMIT|HISTORY|CATCH_UP|IDLE)_|_LIMIT$")


def limits_left_out(text: str, variables: Iterable[str]) -> list[str]:
    """Settings whose name says that they are a limit, and that have no row in a page."""
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    return missing(rows, (f"`{variable}`" for variable in variables if LIMITS.search(variable)))


def test_every_limit_has_its_row_among_the_limits() -> None:
    variables = [setting.variable for setting in describe()]
    assert limits_left_out(page("hardening.md"), variables) == []
    assert len([variable for variable in variables if LIMITS.search(variable)]) > 20


def test_every_run_time_setting_is_documented() -> None:
    assert missing(page("settings.md"), (f"`{name}`" for name in SettingsPatch.__struct_fields__)) == []


def test_every_error_code_is_documented_with_its_status() -> None:
    rows = [f"| {refusal.status} | `{code}` | {'yes' if refusal.retry else ''} |" for code, refusal in family().items()]
    assert missing(page("errors.md"), rows) == []
    assert len(re.findall(r"^\| \d{3} \|", page("errors.md"), flags=re.MULTILINE)) == len(rows)


def test_every_close_code_is_documented_by_name() -> None:
    rows = [f"| {int(code)} | `{code.name.lower()}` |" for code in CloseCode]
    assert missing(page("protocol.md"), rows) == []
    assert len(re.findall(r"^\| \d{4} \|", page("protocol.md"), flags=re.MULTILINE)) == len(rows)


def _metric_rows() -> list[str]:
    rows = []
    for metric in vars(Metrics()).values():
        if hasattr(metric, "_documentation"):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append(f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |")
    return rows


def test_every_metric_is_documented_as_it_is() -> None:
    rows = _metric_rows()
    assert len(rows) > 15
    assert missing(page("metrics.md"), rows) == []
    assert len(re.findall(r"^\| `copydesk_", page("metrics.md"), flags=re.MULTILINE)) == len(rows)


def test_every_topic_command_and_push_is_documented_with_its_fields() -> None:
    text = page("protocol.md")
    assert missing(text, (f"| `{topic}` |" for topic in TOPICS)) == []
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*$", text, flags=re.MULTILINE)}
    for message in (*COMMANDS, *PUSHES):
        fields = [field.encode_name for field in msgspec.structs.fields(message) if field.encode_name != "id"]
        assert [name for name in fields if not re.search(rf"`{name}\??`", rows[tag(message)])] == []


def test_every_collection_is_named_to_programs_that_write() -> None:
    assert missing(page("data.md"), (f"`{name}`" for name in COLLECTIONS)) == []


def test_every_module_has_its_place_in_the_description() -> None:
    text = page("architecture.md")
    modules = [f"{folder.name}/{path.name}" for folder in (ROOT / "app",) for path in folder.glob("[a-z]*.py")]
    assert missing(text, (f"`{name}`" if name != "app/main.py" else name for name in modules)) == []
    named = re.findall(r"(?:app|handlers|models)/[a-z_]+\.py", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = [link for path in DOCS.glob("*.md") for link in broken_links(path.name, path.read_text("utf-8"))]
    assert broken == []


# -- the checkers, each with a planted fault --------------------------------------------------------------------------


def test_a_limit_that_stands_in_no_row_is_found() -> None:
    variables = ["COPYDESK_MAX_ONE", "COPYDESK_MAX_TWO", "COPYDESK_A_LIMIT", "COPYDESK_PORT"]
    text = "`COPYDESK_MAX_TWO` is in the text, and\n| `COPYDESK_MAX_ONE` | 1 |"
    assert limits_left_out(text, variables) == ["`COPYDESK_MAX_TWO`", "`COPYDESK_A_LIMIT`"]


def test_what_is_not_named_is_found() -> None:
    assert missing("one two", ["one", "three"]) == ["three"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("### `GET /projects`", "### `GET /project`"),
        ("### `DELETE /session`", "DELETE /session"),
        ("`created_after`", "created after"),
        ("`content_id` is", "It is"),
    ],
)
def test_a_hole_in_the_reference_is_found(old: str, new: str) -> None:
    text = page("rest.md")
    assert old in text
    assert undocumented_operations(text.replace(old, new), dict(operations())) != []


def test_a_section_about_nothing_and_a_dead_link_are_found() -> None:
    assert undocumented_operations(page("rest.md") + "\n### `GET /weather`\nSunny.\n", dict(operations())) != []
    assert broken_links("x.md", "see [there](nowhere.md) and [here](rest.md#lists)") == ["x.md: nowhere.md"]


def test_pages_and_files_are_the_only_routes_without_a_section() -> None:
    silent = {handler.route for handler in HANDLERS} - set(operations())
    assert silent == {"/", "/diagnosis", "/docs", "/favicon.ico", "/static/{path}"}
