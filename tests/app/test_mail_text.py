"""What mails say, and that nothing in them can become a header or markup."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, cast, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mail_text import Letter, Notice, by_project, compose
from models.notification import NotificationType, Reason

MOMENT = datetime(2026, 3, 2, 9, 5, tzinfo=UTC)
LINK = "https://cms.example/api/v1/unsubscribe?token=" + "t" * 130
HEADERS = {
    "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "List-Unsubscribe", "List-Unsubscribe-Post",
    "MIME-Version", "Content-Type",
}  # fmt: skip


def notice(**what: Any) -> Notice:
    given_: dict[str, Any] = {
        "type": "mention",
        "reason": "mentioned",
        "actor": "Alice",
        "title": "Press release",
        "text": "Please have a look",
        "link": "https://cms.example/#/projects/1",
        "at": MOMENT,
        "project": "Spring",
        **what,
    }
    return Notice(**given_)


def letter(*notices: Notice, **what: Any) -> Letter:
    given_: dict[str, Any] = {
        "sender": "Copydesk <copydesk@cms.example>",
        "recipient_name": "Bob",
        "recipient": "bob@cms.example",
        "frequency": "now",
        "notices": notices or [notice()],
        "message_id": "<1@cms.example>",
        "date": MOMENT,
        "unsubscribe_url": LINK,
        "preferences_url": "https://cms.example/#/preferences",
        **what,
    }
    return Letter(**given_)


def received(sent: Letter) -> EmailMessage:
    """The mail as it arrives."""
    return cast("EmailMessage", email.message_from_bytes(compose(sent).as_bytes(), policy=email.policy.default))


def part(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    assert isinstance(found, EmailMessage)
    return str(found.get_content()).replace("\r\n", "\n")


def test_a_mail_has_text_and_html_and_all_headers() -> None:
    message = received(letter())
    assert set(message.keys()) == HEADERS
    assert message["Subject"] == "Alice mentioned you in “Press release”"
    assert (message["From"], message["To"]) == ("Copydesk <copydesk@cms.example>", "Bob <bob@cms.example>")
    assert message["Message-ID"] == "<1@cms.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    for kind in ("plain", "html"):
        text = part(message, kind)
        for word in ("Alice mentioned you", "Spring", "Please have a look", "Mon 2 Mar 2026, 09:05", LINK):
            assert word in text
        assert "https://cms.example/#/projects/1" in text
        assert "You get this because you were mentioned." in text


def test_the_link_in_the_header_is_on_one_line_and_as_it_is() -> None:
    lines = compose(letter()).as_bytes().decode().split("\r\n")
    assert f"List-Unsubscribe: <{LINK}>" in lines


@pytest.mark.parametrize("kind", get_args(NotificationType))
def test_every_type_has_its_sentence(kind: NotificationType) -> None:
    subject = received(letter(notice(type=kind)))["Subject"]
    assert "Press release" in subject
    assert "{" not in subject


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_is_told(reason: Reason) -> None:
    assert "You get this because " in part(received(letter(notice(reason=reason))), "plain")


def test_what_people_write_is_no_markup() -> None:
    nasty = "<script>alert(1)</script>\"'&"
    html = part(received(letter(notice(title=nasty, actor=nasty, text=nasty, project=nasty))), "html")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 4


def test_a_link_cannot_leave_its_attribute() -> None:
    html = part(received(letter(notice(link='https://x.example/"onmouseover="alert(1)'))), "html")
    assert '"onmouseover' not in html


_NASTY = st.text(max_size=60) | st.sampled_from(
    ["a\r\nBcc: eve@evil.example", "a\nX: y", "a\u2028b", "a\x00b", "=?utf-8?q?x?=", '"', "<eve@evil.example>", "a, b"]
)


@given(title=_NASTY, actor=_NASTY, name=_NASTY, text=_NASTY)
def test_names_and_titles_add_no_header_and_no_recipient(title: str, actor: str, name: str, text: str) -> None:
    message = received(letter(notice(title=title, actor=actor, text=text), recipient_name=name))
    assert set(message.keys()) == HEADERS
    assert [address.addr_spec for address in message["To"].addresses] == ["bob@cms.example"]
    assert all(len(line) <= 998 for line in compose(letter(notice(title=title, text=text))).as_bytes().split(b"\r\n"))


@pytest.mark.parametrize(
    "address", ["a@b, c@d", "a@b\r\nBcc: c@d", "a@b> <c@d", "nobody", "", "a@", "@b", "bób@cms.example", "a b@c"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compose(letter(recipient=address)).as_bytes()


def test_a_digest_is_grouped_by_project_and_counts() -> None:
    notices = [notice(project="Summer"), notice(project=""), notice(project="Spring"), notice(project="Summer")]
    message = received(letter(*notices, frequency="daily", more=3))
    assert message["Subject"] == "7 notifications of the last day"
    text = part(message, "plain")
    assert text.index("Spring\n======") < text.index("Summer\n======")
    assert "3 older ones" in text
    assert [(name, len(group)) for name, group in by_project(notices)] == [("Spring", 1), ("Summer", 2), ("", 1)]


def test_several_events_of_one_thread_are_one_mail_with_their_number() -> None:
    assert received(letter(notice(), notice(type="reply")))["Subject"] == "Press release: 2 news"


def test_a_long_title_is_cut() -> None:
    subject = received(letter(notice(title="T" * 255)))["Subject"]
    assert len(subject) == 150
    assert subject.endswith("…")


def test_the_same_letter_says_the_same_again() -> None:
    first, second = received(letter()), received(letter())
    assert [part(first, kind) for kind in ("plain", "html")] == [part(second, kind) for kind in ("plain", "html")]
    assert first["Message-ID"] == second["Message-ID"]


def test_texts_of_a_letter_are_its_own() -> None:
    changed = msgspec.structs.replace(letter(), recipient_name="")
    assert received(changed)["To"].addresses[0].addr_spec == "bob@cms.example"
