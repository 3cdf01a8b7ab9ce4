"""What our mails say, as text and as HTML. Pure.

Names, titles and comments come from people: in HTML they are escaped, in headers they are one line, and everything
else is left to `email.message`, which refuses what would end a header.
"""

from __future__ import annotations

import email.policy
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from itertools import groupby

import msgspec
from tornado.template import Template

from models.mail import Frequency
from models.notification import NotificationType, Reason

_SUBJECT_LENGTH = 150
_NAME_LENGTH = 100

_SENTENCES: dict[NotificationType, str] = {
    "mention": "{actor} mentioned you in “{title}”",
    "reply": "{actor} replied in “{title}”",
    "comment": "{actor} commented on “{title}”",
    "assigned": "{actor} assigned “{title}” to you",
    "item_status": "{actor} changed the status of “{title}”",
    "publish_result": "{title}",
    "custom": "{title}",
}
_GROUP_SENTENCE = "{actor} mentioned a group of yours in “{title}”"
_REASONS: dict[Reason, str] = {
    "mentioned": "you were mentioned",
    "group_mentioned": "a group of yours was mentioned",
    "participant": "you take part in the thread",
    "follows_thread": "you follow the thread",
    "follows_item": "you follow the item",
    "follows_project": "you follow the project",
    "assignee": "the item is assigned to you",
    "creator": "you created the item",
    "addressed": "it was addressed to you",
}
_PERIODS = {"now": "", "hourly": "the last hour", "daily": "the last day"}
_MORE = "There are {} older ones as well: see your inbox."
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_UNBREAKABLE = frozenset({"list-unsubscribe", "message-id"})


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One event as a mail tells it."""

    type: NotificationType
    reason: Reason
    actor: str = ""
    """A name; empty where nobody is known."""
    title: str
    text: str = ""
    link: str = ""
    """An absolute URL, or nothing."""
    at: datetime
    """By the recipient's clock."""
    project: str = ""
    """The name of the project; empty where it belongs to none."""

    @property
    def sentence(self) -> str:
        """What happened, in one line."""
        sentence = _GROUP_SENTENCE if self.reason == "group_mentioned" else _SENTENCES[self.type]
        return sentence.format(actor=_line(self.actor) or "Somebody", title=_line(self.title))

    @property
    def because(self) -> str:
        """Why the recipient is told."""
        return f"You get this because {_REASONS[self.reason]}."

    @property
    def time(self) -> str:
        """When it happened."""
        return f"{self.at:%a} {self.at.day} {self.at:%b %Y, %H:%M}"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One mail to one recipient."""

    sender: str
    """As in the settings: an address, with or without a name before it in angle brackets."""
    recipient_name: str
    recipient: str
    """The address."""
    frequency: Frequency
    notices: Sequence[Notice]
    """Oldest first, at least one."""
    more: int = 0
    """How many are left out, because nobody reads so many in a mail."""
    message_id: str
    """With its angle brackets."""
    date: datetime
    unsubscribe_url: str
    preferences_url: str


class _Policy(email.policy.EmailPolicy):
    """Folds headers, but not those that are one long word: RFC 2047 is not for them."""

    def fold(self, name: str, value: str) -> str:
        return self._whole(name, value) or super().fold(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        return self._whole(name, value).encode("ascii") or super().fold_binary(name, value)

    def _whole(self, name: str, value: str) -> str:
        return f"{name}: {value}{self.linesep}" if name.lower() in _UNBREAKABLE else ""


_POLICY = _Policy(linesep="\r\n")


def compose(letter: Letter) -> EmailMessage:
    """The mail. Raises ValueError for addresses that are none."""
    message = EmailMessage(policy=_POLICY)
    message["Subject"] = subject(letter)
    message["From"] = letter.sender
    message["To"] = _address(letter.recipient_name, letter.recipient)
    message["Date"] = format_datetime(letter.date)
    message["Message-ID"] = letter.message_id
    message["Auto-Submitted"] = "auto-generated"
    message["List-Unsubscribe"] = f"<{letter.unsubscribe_url}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(_text(letter), cte="quoted-printable")
    message.add_alternative(_html(letter), subtype="html", cte="quoted-printable")
    return message


def subject(letter: Letter) -> str:
    """The subject line: what happened, or how much in how long."""
    count = len(letter.notices) + letter.more
    if count == 1:
        return _short(letter.notices[0].sentence)
    if letter.frequency == "now":
        return _short(f"{_line(letter.notices[-1].title)}: {count} news")
    return f"{count} notifications of {_PERIODS[letter.frequency]}"


def by_project(notices: Iterable[Notice]) -> list[tuple[str, list[Notice]]]:
    """The notices of each project by its name, in order of the names; what belongs to none comes last."""
    ordered = sorted(notices, key=lambda notice: (not notice.project, notice.project.casefold(), notice.project))
    return [(name, list(group)) for name, group in groupby(ordered, key=lambda notice: notice.project)]


def _text(letter: Letter) -> str:
    lines: list[str] = []
    for project, notices in by_project(letter.notices):
        if project:
            lines += [_line(project), "=" * min(len(_line(project)), 70), ""]
        for notice in notices:
            lines += [notice.sentence, notice.time]
            if notice.text:
                lines += ["", *(f"> {line}" for line in notice.text.splitlines())]
            lines += ["", *([notice.link] if notice.link else []), notice.because, ""]
    if letter.more:
        lines += [_MORE.format(letter.more), ""]
    lines += ["-- ", f"Stop these mails: {letter.unsubscribe_url}", f"Choose what you get: {letter.preferences_url}"]
    return "\n".join(lines) + "\n"


# Mail programs drop style sheets: what is to be seen stands at each element.
_HTML = Template(
    """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title></head>
<body style="margin:0;padding:16px;font-family:sans-serif;font-size:15px;line-height:1.45;color:#1d2125">
{% for project, notices in projects %}
{% if project %}<h2 style="font-size:17px;margin:20px 0 8px">{{ line(project) }}</h2>{% end %}
{% for notice in notices %}
<div style="margin:0 0 20px">
<p style="margin:0"><strong>{{ notice.sentence }}</strong></p>
<p style="margin:0;color:#626f86;font-size:13px">{{ notice.time }}</p>
{% if notice.text %}
<blockquote style="margin:8px 0;padding:0 0 0 12px;border-left:3px solid #c7cdd6;white-space:pre-wrap">
{{ notice.text }}</blockquote>
{% end %}
{% if notice.link %}<p style="margin:8px 0"><a href="{{ notice.link }}">Open it in Copydesk</a></p>{% end %}
<p style="margin:0;color:#626f86;font-size:13px">{{ notice.because }}</p>
</div>
{% end %}
{% end %}
{% if letter.more %}<p>{{ more.format(letter.more) }}</p>{% end %}
<hr style="border:0;border-top:1px solid #c7cdd6">
<p style="color:#626f86;font-size:13px"><a href="{{ letter.unsubscribe_url }}">Stop these mails</a> ·
<a href="{{ letter.preferences_url }}">Choose what you get</a></p>
</body>
</html>
""",
    autoescape="xhtml_escape",
)


def _html(letter: Letter) -> str:
    page: bytes = _HTML.generate(
        title=subject(letter), projects=by_project(letter.notices), letter=letter, line=_line, more=_MORE
    )
    return page.decode()


def _address(name: str, address: str) -> Address:
    """Raises ValueError."""
    if not address.isascii():
        raise ValueError("expected an address in ASCII; many mail servers take no other")
    try:
        return Address(display_name=_line(name)[:_NAME_LENGTH], addr_spec=address)
    except (IndexError, MessageError) as problem:
        # What the parser of the standard library raises for some addresses that are none.
        raise ValueError(str(problem)) from None


def _line(text: str) -> str:
    """A text without line breaks and control characters."""
    return _BREAKS.sub(" ", text).strip()


def _short(line: str) -> str:
    return line if len(line) <= _SUBJECT_LENGTH else line[: _SUBJECT_LENGTH - 1].rstrip() + "…"
