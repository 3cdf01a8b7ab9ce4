"""What changes mean for people: whom they name, what there is to tell, who follows from now on. Pure."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType

from app.changes import Change, access_of
from models.comment import Comment
from models.item import Item
from models.project import Project
from models.subscription import AutomaticFollow, AutoReason


def concerns(change: Change) -> bool:
    """Whether anything at all may have to be done about a change; most have nothing to do with anybody's inbox."""
    match change.collection:
        case "comments":
            return new_comment(change) is not None or edited(change) is not None or is_gone(change)
        case "items":
            return item_news(change) is not None
        case "projects":
            return access_changed(change) or _is_new(change)
        case "users":
            return rights_changed(change)
        case "postings":
            return change.raw_after is not None and change.raw_after.get("sent_at") is None
    return False


def new_comment(change: Change) -> Comment | None:
    """The comment that was just written."""
    return change.after if _is_new(change) and isinstance(change.after, Comment) and _lives(change.after) else None


def edited(change: Change) -> Comment | None:
    """The comment as its text is since this change; what was before may be unknown."""
    before, after = change.before, change.after
    if not isinstance(after, Comment) or change.operation == "insert" or change.thin or not _lives(after):
        return None
    if change.unseen or (before is None and change.raw_before is not None):  # or it could not be read before
        return after
    return after if isinstance(before, Comment) and before.body != after.body and not is_gone(change) else None


def is_gone(change: Change) -> bool:
    """Whether a comment was deleted: for good, or down to its tombstone. One that moved elsewhere counts as deleted."""
    if change.collection != "comments":
        return False
    before, after = change.before, change.after
    if change.operation == "delete":
        return True
    if not isinstance(after, Comment) or change.operation == "insert":
        return False
    if not _lives(after):
        return not isinstance(before, Comment) or _lives(before)
    return isinstance(before, Comment) and before.project_id != after.project_id


def access_changed(change: Change) -> bool:
    """Whether somebody may have lost the right to see a project."""
    if change.collection != "projects" or change.operation == "insert":
        return False
    return change.thin or change.unseen or access_of(change.before) != access_of(change.after)


def rights_changed(change: Change) -> bool:
    """Whether a user may have lost the right to see something."""
    if change.collection != "users" or change.operation == "insert":
        return False
    before, after = change.raw_before, change.raw_after
    if change.thin or before is None or after is None:
        return True
    return any(before.get(name) != after.get(name) for name in ("roles", "groups"))


def place_of(change: Change) -> tuple[str, str | UnsetType, str | UnsetType] | None:
    """The project, item and thread that a change tells people about; None where it tells nobody."""
    comment = new_comment(change) or edited(change)
    if comment is not None:
        return comment.project_id, comment.item_id, comment.thread_id
    item = item_news(change)
    return None if item is None else (item.project_id, item.id, UNSET)


def chain(project_id: str, item_id: str | UnsetType, thread_id: str | UnsetType) -> list[str]:
    """The subjects of subscriptions that a place belongs to, the most specific first."""
    named = (("thread", thread_id), ("item", item_id), ("project", project_id))
    return [f"{kind}:{id_}" for kind, id_ in named if id_ is not UNSET]


def users_of(change: Change) -> list[str]:
    """The users whom a change itself names as those to be told."""
    comment = new_comment(change) or edited(change)
    if comment is not None:
        return comment.mentions
    item = item_news(change)
    named = () if item is None else (item.assignee, item.created_by)
    return [user_id for user_id in named if user_id is not UNSET]


def groups_of(change: Change) -> list[tuple[str, str]]:
    """The groups that a change mentions, each with the project."""
    comment = new_comment(change) or edited(change)
    if comment is None:
        return []
    return [(group, comment.project_id) for group in newly_mentioned(change, comment)[1]]


# -- who follows by themselves ---------------------------------------------------------------------------------------


def automatic_follows(change: Change) -> list[tuple[AutomaticFollow, str]]:
    """What people follow from now on because they made it, wrote in it, were mentioned in it or are assigned to it.

    Each with the id of its project: who may not see that follows nothing there.
    """
    after = change.after
    found: list[tuple[str | UnsetType, str, AutoReason, str]] = []
    if isinstance(after, Project) and _is_new(change):
        found.append((after.created_by, f"project:{after.id}", "creator", after.id))
    item = item_news(change)
    if item is not None and _is_new(change):
        found.append((item.created_by, f"item:{item.id}", "creator", item.project_id))
    if item is not None and newly_assigned(change):
        found.append((item.assignee, f"item:{item.id}", "assignee", item.project_id))
    comment = new_comment(change)
    if comment is not None:
        found.append((comment.author, f"thread:{comment.thread_id}", "author", comment.project_id))
    comment = comment or edited(change)
    if comment is not None:
        mentioned, _ = newly_mentioned(change, comment)
        found += [(user, f"thread:{comment.thread_id}", "mentioned", comment.project_id) for user in mentioned]
    since = datetime.fromisoformat(change.at)
    return [
        (AutomaticFollow(user_id=user_id, subject=subject, auto=auto, since=since, place=change.position), project_id)
        for user_id, subject, auto, project_id in found
        if user_id is not UNSET
    ]


def newly_mentioned(change: Change, comment: Comment) -> tuple[list[str], list[str]]:
    """The users and groups that a comment mentions since this change. None where nobody knows what was before."""
    if change.unseen or (change.before is None and change.raw_before is not None):
        return [], []
    before = change.before
    if not isinstance(before, Comment):
        return comment.mentions, comment.mention_groups
    users = [user for user in comment.mentions if user not in before.mentions]
    return users, [group for group in comment.mention_groups if group not in before.mention_groups]


def item_news(change: Change) -> Item | None:
    """The item, where a change of it may tell somebody something."""
    item = change.after
    if not isinstance(item, Item) or change.thin or change.unseen:
        return None
    news = newly_assigned(change) or status_changed(change) or (_is_new(change) and item.created_by is not UNSET)
    return item if news else None


def newly_assigned(change: Change) -> bool:
    """Whether an item has another assignee since this change."""
    before, after = change.before, change.after
    if not isinstance(after, Item) or after.assignee is UNSET:
        return False
    return before.assignee != after.assignee if isinstance(before, Item) else _is_new(change)


def status_changed(change: Change) -> bool:
    """Whether an item that stayed where it is has another status since this change."""
    before, after = change.before, change.after
    if not isinstance(before, Item) or not isinstance(after, Item):
        return False
    return before.project_id == after.project_id and before.status != after.status


def _is_new(change: Change) -> bool:
    """Whether the document was made by this change. One that only starts to fit its shape is no news."""
    return change.operation == "insert" and change.before is None and change.after is not None and not change.thin


def _lives(comment: Comment) -> bool:
    return comment.deleted_at is UNSET
