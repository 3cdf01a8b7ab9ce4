"""What the tests of inboxes share: deliveries that follow from a number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import UNSET

from models.fields import stamp
from models.notification import Delivery, NotificationEvent, Subject

# In the future, so that MongoDB does not remove what has not expired by the clock of the test.
NOON = datetime(2100, 3, 1, 12, tzinfo=UTC)


def thread(thread_id: str = "T", project_id: str = "P", item_id: str | None = "I") -> Subject:
    return Subject(
        kind="thread", project_id=project_id, item_id=UNSET if item_id is None else item_id, thread_id=thread_id
    )


def delivery(
    number: int,
    user_id: str = "bob",
    *,
    subject: Subject | None = None,
    actor: str = "alice",
    text: str | None = None,
    comment_id: str | None = None,
    **event: Any,
) -> Delivery:
    """The event of change `number`, a second after that of the number before: by default a comment of a thread."""
    said = f"Comment {number}" if text is None else text
    return Delivery(
        user_id=user_id,
        subject=thread() if subject is None else subject,
        event=NotificationEvent(
            **{
                "id": f"e{number}-{user_id}",
                "type": "comment",
                "reason": "follows_thread",
                "at": stamp(NOON + timedelta(seconds=number)),
                "actor": actor,
                "comment_id": f"c{number}" if comment_id is None else comment_id,
                "text": said,
                **event,
            }
        ),
        title="Start page",
        body=said,
        link="/#/projects/P/items/I",
        place=(1000 + number, 1, 1),
    )
