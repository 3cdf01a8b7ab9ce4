"""Comments in MongoDB: threads, edits, tombstones, mentions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from tornado.ioloop import IOLoop

from models.comment import MENTION_CAP, Anchor, Comment, CommentPatch, NewComment, mentioned
from models.comment_store import NEWEST_FIRST, CommentFilter, CommentStore
from models.errors import Conflict, Forbidden, Invalid, NotFound, Refusal, StaleVersion
from models.etag import document_etag, if_match
from models.fields import Ids, Unfit, stamp
from models.page import PageRequest

Reported = list[tuple[str, object, str]]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = if_match(None)


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def clock() -> list[datetime]:
    """The time is its last entry."""
    return [NOON]


@pytest.fixture
def comments(io_loop: IOLoop, database: Any, reported: Reported, clock: list[datetime]) -> CommentStore:
    async def prepare() -> None:
        await database.projects.insert_many([{"_id": "P", "name": "Spring"}, {"_id": "Q", "name": "Other"}])
        await database.items.insert_many(
            [
                {"_id": "I", "project_id": "P"},
                {"_id": "J", "project_id": "P"},
                {"_id": "gone", "project_id": "P", "deleted_at": NOON},
                {"_id": "elsewhere", "project_id": "Q"},
            ]
        )
        await database.activities.insert_one({"_id": "A", "project_id": "P"})

    io_loop.run_sync(prepare)
    return CommentStore(database, report=lambda *what: reported.append(what), now=lambda: clock[-1])


make_id = Ids()


async def say(comments: CommentStore, body: str = "Hello", *, by: str = "alice", **more: Any) -> Comment:
    return await comments.create("P", NewComment(body=body, **more), author=by, make_id=make_id)


async def listed(comments: CommentStore, **wanted: Any) -> list[str | msgspec.UnsetType]:
    page = await comments.page("P", CommentFilter(**wanted), PageRequest(sort=NEWEST_FIRST, scope=b"", position=""))
    return [comment.body for comment in page.items]


def foreign(comment_id: str, **more: Any) -> dict[str, Any]:
    """A comment as another program may write it: with nothing but what is needed."""
    return {"_id": comment_id, "project_id": "P", "body": comment_id, "author": "dora", "created_at": NOON} | more


# -- writing --------------------------------------------------------------------------------------------------------


async def test_a_comment_reads_back_as_it_was_answered(comments: CommentStore) -> None:
    written = await say(
        comments, "@bob, @role:legal: look", item_id="I", activity_id="A", anchor=Anchor(property="title", quote="Hi")
    )
    assert await comments.get("P", written.id) == written
    assert msgspec.to_builtins(written) == {
        "id": written.id,
        "project_id": "P",
        "item_id": "I",
        "thread_id": written.id,
        "activity_id": "A",
        "anchor": {"property": "title", "quote": "Hi"},
        "body": "@bob, @role:legal: look",
        "mentions": ["bob"],
        "mention_groups": ["legal"],
        "author": "alice",
        "created_at": "2026-03-01T12:00:00.000Z",
        "version": 1,
    }


@pytest.mark.parametrize("named", ["thread_id", "parent_id"])
async def test_a_reply_lands_in_the_thread_and_on_its_item(comments: CommentStore, named: str) -> None:
    first = await say(comments, item_id="I")
    reply = await say(comments, "Yes", by="bob", **{named: first.id})
    assert (reply.thread_id, reply.item_id) == (first.id, "I")
    assert reply.parent_id == (first.id if named == "parent_id" else UNSET)


async def test_a_reply_to_a_reply_lands_in_the_same_thread(comments: CommentStore) -> None:
    first = await say(comments)
    reply = await say(comments, parent_id=first.id)
    second = await say(comments, parent_id=reply.id, thread_id=first.id)
    assert (second.thread_id, second.parent_id, second.item_id) == (first.id, reply.id, UNSET)


async def test_what_a_reply_names_has_to_agree(comments: CommentStore) -> None:
    first, other = await say(comments, item_id="I"), await say(comments)
    reply = await say(comments, thread_id=first.id, item_id="I")
    for wrong, path in (
        ({"parent_id": reply.id, "thread_id": other.id}, "$.thread_id"),
        ({"thread_id": first.id, "item_id": "J"}, "$.item_id"),
        ({"thread_id": other.id, "item_id": "I"}, "$.item_id"),
        ({"thread_id": reply.id}, "$.thread_id"),
    ):
        with pytest.raises(Invalid) as refusal:
            await say(comments, **wrong)
        assert refusal.value.errors[0].path == path


@pytest.mark.parametrize(
    "nowhere",
    [
        {"item_id": "none"},
        {"item_id": "gone"},
        {"item_id": "elsewhere"},
        {"thread_id": "none"},
        {"parent_id": "none"},
        {"activity_id": "none"},
        {"thread_id": "foreign"},
    ],
)
async def test_a_comment_on_what_is_not_in_this_project_is_refused(
    comments: CommentStore, database: Any, nowhere: dict[str, str]
) -> None:
    await database.comments.insert_one(foreign("foreign", project_id="Q"))
    with pytest.raises(NotFound) as refusal:
        await say(comments, **nowhere)
    assert refusal.value.errors[0].path == f"$.{next(iter(nowhere))}"
    assert await listed(comments) == []


async def test_a_reply_on_an_item_that_was_removed_is_refused(comments: CommentStore, database: Any) -> None:
    first = await say(comments, item_id="I")
    await database.items.update_one({"_id": "I"}, {"$set": {"deleted_at": NOON}})
    with pytest.raises(NotFound):
        await say(comments, thread_id=first.id)


async def test_nobody_replies_to_a_tombstone_or_in_its_thread(comments: CommentStore) -> None:
    first = await say(comments)
    reply = await say(comments, thread_id=first.id)
    deleted = await say(comments, thread_id=first.id)
    await comments.delete("P", deleted.id, by="alice", owner=False, precondition=ANY)
    with pytest.raises(Conflict):
        await say(comments, parent_id=deleted.id)
    await say(comments, parent_id=reply.id)
    await comments.delete("P", first.id, by="alice", owner=False, precondition=ANY)
    for named in ({"thread_id": first.id}, {"parent_id": first.id}, {"parent_id": reply.id}):
        with pytest.raises(Conflict):
            await say(comments, **named)


async def test_a_thread_lives_on_where_another_program_removed_its_first_comment(
    comments: CommentStore, database: Any
) -> None:
    first = await say(comments, item_id="I")
    reply = await say(comments, thread_id=first.id)
    await database.comments.delete_one({"_id": first.id})
    second = await say(comments, parent_id=reply.id)
    assert (second.thread_id, second.item_id) == (first.id, "I")


async def test_a_comment_written_while_its_project_is_deleted_does_not_stay(
    comments: CommentStore, database: Any
) -> None:
    await database.projects.update_one({"_id": "P"}, {"$set": {"deleted_at": NOON}})
    with pytest.raises(NotFound):
        await say(comments)
    (left,) = [document async for document in database.comments.find()]
    assert left["deleted_at"] == NOON


async def test_a_second_attempt_with_the_same_id_finds_the_first_comment(comments: CommentStore) -> None:
    new = NewComment(body="Once")
    first = await comments.create("P", new, author="alice", make_id=lambda: "C1")
    assert await comments.create("P", new, author="alice", make_id=lambda: "C1") == first
    with pytest.raises(Conflict):
        await comments.create("P", new, author="mallory", make_id=lambda: "C1")
    assert await listed(comments) == ["Once"]


# -- mentions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("@bob and @carol, @bob again", (["bob", "carol"], [])),
        ("ask @role:legal-team.", ([], ["legal-team"])),
        ("bob@example.com", ([], [])),
        ("(@bob) é@carol -@dora", (["bob", "dora"], [])),
        ("@bob. @carol- @d.e-f_", (["bob", "carol", "d.e-f_"], [])),
        ("@ @role: @@bob", (["role", "bob"], [])),
        ("@" + "x" * 64, (["x" * 64], [])),
        ("@" + "x" * 65, ([], [])),
    ],
)
def test_a_mention_is_an_at_sign_and_a_name_after_no_word_character(
    body: str, found: tuple[list[str], list[str]]
) -> None:
    assert mentioned(body) == found


def test_of_what_another_program_says_is_mentioned_no_more_than_the_cap_is_taken() -> None:
    stored = {"_id": "c", "project_id": "p", "body": "Hi", "author": "import", "created_at": NOON}
    named = ["bob", "bob", *(f"user{number}" for number in range(4000))]
    read = Comment.from_document({**stored, "mentions": named, "mention_groups": ["legal"]})
    assert read.mentions == ["bob", *(f"user{number}" for number in range(MENTION_CAP - 1))]
    assert read.mention_groups == []
    with pytest.raises(Unfit):
        Comment.from_document({**stored, "mentions": [{"a": 1}]})


async def test_more_mentions_than_the_cap_are_refused_in_a_new_text_and_in_an_edit(comments: CommentStore) -> None:
    most = " ".join(f"@user{number}" for number in range(MENTION_CAP - 1)) + " @role:legal"
    written = await say(comments, most + " @user1")
    assert len(written.mentions) + len(written.mention_groups) == MENTION_CAP
    with pytest.raises(Invalid):
        await say(comments, most + " @one-more")
    with pytest.raises(Invalid):
        await comments.patch("P", written.id, CommentPatch(body=most + " @x"), by="alice", precondition=ANY)
    assert await comments.get("P", written.id) == written


# -- changing -------------------------------------------------------------------------------------------------------


async def test_an_edit_by_its_author_changes_text_and_mentions(comments: CommentStore, clock: list[datetime]) -> None:
    written = await say(comments, "@bob look")
    clock.append(NOON + timedelta(minutes=1))
    edited = await comments.patch("P", written.id, CommentPatch(body="@role:legal look"), by="alice", precondition=ANY)
    assert (edited.body, edited.mentions, edited.mention_groups) == ("@role:legal look", [], ["legal"])
    assert (edited.edited_at, edited.version) == ("2026-03-01T12:01:00.000Z", 2)
    assert await comments.get("P", written.id) == edited


async def test_a_text_is_edited_by_its_author_only_and_all_of_a_patch_or_nothing_applies(
    comments: CommentStore,
) -> None:
    written = await say(comments)
    patch = CommentPatch(body="Not mine", resolved=True)
    with pytest.raises(Forbidden):
        await comments.patch("P", written.id, patch, by="bob", precondition=ANY)
    assert await comments.get("P", written.id) == written
    both = await comments.patch("P", written.id, CommentPatch(body="Mine", resolved=True), by="alice", precondition=ANY)
    assert (both.body, both.version) == ("Mine", 2)
    assert both.resolved == msgspec.convert({"by": "alice", "at": both.edited_at}, type(both.resolved))


async def test_a_thread_is_resolved_and_reopened_by_anyone(comments: CommentStore) -> None:
    written = await say(comments)
    resolved = await comments.patch("P", written.id, CommentPatch(resolved=True), by="bob", precondition=ANY)
    assert msgspec.to_builtins(resolved.resolved) == {"by": "bob", "at": "2026-03-01T12:00:00.000Z"}
    assert resolved.edited_at is UNSET
    again = await comments.patch("P", written.id, CommentPatch(resolved=True), by="carol", precondition=ANY)
    assert again == resolved
    reopened = await comments.patch("P", written.id, CommentPatch(resolved=False), by="carol", precondition=ANY)
    assert (reopened.resolved, reopened.version) == (UNSET, 3)


async def test_a_reply_is_neither_resolved_nor_reopened(comments: CommentStore) -> None:
    first = await say(comments)
    reply = await say(comments, thread_id=first.id)
    for resolved in (True, False):
        with pytest.raises(Invalid):
            await comments.patch("P", reply.id, CommentPatch(resolved=resolved), by="alice", precondition=ANY)


async def test_a_patch_that_changes_nothing_writes_nothing(comments: CommentStore, database: Any) -> None:
    written = await say(comments)
    before = await database.comments.find_one()
    for patch in (CommentPatch(), CommentPatch(body="Hello", resolved=False)):
        assert await comments.patch("P", written.id, patch, by="alice", precondition=ANY) == written
    assert await database.comments.find_one() == before


async def test_a_stale_precondition_refuses_an_edit_and_a_removal(comments: CommentStore) -> None:
    written = await say(comments)
    current = if_match(document_etag(written))
    await comments.patch("P", written.id, CommentPatch(resolved=True), by="bob", precondition=ANY)
    with pytest.raises(StaleVersion):
        await comments.patch("P", written.id, CommentPatch(body="Two"), by="alice", precondition=current)
    with pytest.raises(StaleVersion):
        await comments.delete("P", written.id, by="alice", owner=False, precondition=current)


async def test_an_edit_and_a_resolution_at_the_same_moment_both_stand(comments: CommentStore) -> None:
    written = await say(comments)
    patches = [("alice", CommentPatch(body="Two")), ("bob", CommentPatch(resolved=True))]
    await asyncio.gather(*(comments.patch("P", written.id, patch, by=by, precondition=ANY) for by, patch in patches))
    after = await comments.get("P", written.id)
    assert (after.body, after.resolved is not UNSET, after.version) == ("Two", True, 3)


# -- deleting -------------------------------------------------------------------------------------------------------


async def test_a_deleted_comment_leaves_a_tombstone_without_its_text(comments: CommentStore, database: Any) -> None:
    first = await say(comments, "@bob secret", anchor=Anchor(property="title"), item_id="I")
    await say(comments, "Reply", thread_id=first.id)
    await comments.delete("P", first.id, by="alice", owner=False, precondition=ANY)
    assert msgspec.to_builtins(await comments.get("P", first.id)) == {
        "id": first.id,
        "project_id": "P",
        "item_id": "I",
        "thread_id": first.id,
        "mentions": [],
        "mention_groups": [],
        "author": "alice",
        "created_at": "2026-03-01T12:00:00.000Z",
        "deleted_at": "2026-03-01T12:00:00.000Z",
        "deleted_by": "alice",
        "version": 2,
    }
    assert await listed(comments) == ["Reply", UNSET]
    stored = await database.comments.find_one({"_id": first.id})
    assert not {"body", "mentions", "mention_groups", "anchor"} & set(stored)
    assert stored["deleted_by"] == "alice"


@pytest.mark.parametrize("deleted_by", [None, 7, "no user id", {"name": "Bob"}])
def test_whoever_another_program_says_has_deleted_it_does_not_hide_the_tombstone(deleted_by: Any) -> None:
    document = {"_id": "t", "project_id": "P", "author": "bob", "created_at": NOON, "deleted_by": deleted_by}
    assert Comment.from_document(document | {"deleted_at": NOON}).deleted_by is UNSET
    assert Comment.from_document(document | {"body": "There"}).deleted_by is UNSET


@pytest.mark.parametrize(
    ("by", "owner", "allowed"), [("alice", False, True), ("bob", True, True), ("bob", False, False)]
)
async def test_the_author_and_owners_delete_and_may_do_so_twice(
    comments: CommentStore, database: Any, by: str, owner: bool, allowed: bool
) -> None:
    written = await say(comments)
    before = await database.comments.find_one()
    for _ in range(2):
        if allowed:
            await comments.delete("P", written.id, by=by, owner=owner, precondition=ANY)
        else:
            with pytest.raises(Forbidden):
                await comments.delete("P", written.id, by=by, owner=owner, precondition=ANY)
    after = await comments.get("P", written.id)
    assert after.version == (2 if allowed else 1)
    assert allowed or await database.comments.find_one() == before
    with pytest.raises(Forbidden):
        await comments.delete("P", written.id, by="mallory", owner=False, precondition=ANY)


async def test_a_tombstone_is_not_changed_any_more(comments: CommentStore) -> None:
    written = await say(comments)
    await comments.delete("P", written.id, by="alice", owner=False, precondition=ANY)
    for patch in (CommentPatch(body="Back"), CommentPatch(resolved=True)):
        with pytest.raises(Conflict):
            await comments.patch("P", written.id, patch, by="alice", precondition=ANY)


async def test_what_is_not_there_is_neither_changed_nor_deleted(comments: CommentStore, database: Any) -> None:
    await database.comments.insert_one(foreign("F", project_id="Q"))
    refusals: list[type[Refusal]] = []
    for comment_id in ("none", "F"):
        for attempt in (
            comments.get("P", comment_id),
            comments.patch("P", comment_id, CommentPatch(resolved=True), by="dora", precondition=ANY),
            comments.delete("P", comment_id, by="dora", owner=True, precondition=ANY),
        ):
            with pytest.raises(Refusal) as refusal:
                await attempt
            refusals.append(refusal.type)
    assert refusals == [NotFound] * 6


# -- lists and other programs ---------------------------------------------------------------------------------------


async def test_comments_are_filtered_by_item_thread_author_time_and_state(
    comments: CommentStore, database: Any, clock: list[datetime]
) -> None:
    first = await say(comments, "one", item_id="I")
    clock.append(NOON + timedelta(seconds=1))
    await say(comments, "two", thread_id=first.id, by="bob")
    clock.append(NOON + timedelta(seconds=2))
    other = await say(comments, "three", by="bob")
    await comments.patch("P", other.id, CommentPatch(resolved=True), by="bob", precondition=ANY)
    await database.comments.insert_one(foreign("four", created_at=NOON - timedelta(days=1)))
    assert await listed(comments) == ["three", "two", "one", "four"]
    assert await listed(comments, item_id="I") == ["two", "one"]
    assert await listed(comments, thread_id=first.id) == ["two", "one"]
    assert await listed(comments, thread_id="four") == ["four"]
    assert await listed(comments, author="bob") == ["three", "two"]
    assert await listed(comments, created_after=NOON) == ["three", "two"]
    assert await listed(comments, resolved=True) == ["three"]
    assert await listed(comments, resolved=False) == ["one", "four"]


async def test_a_foreign_comment_with_what_is_needed_is_read_with_defaults_and_replied_to(
    comments: CommentStore, database: Any
) -> None:
    await database.comments.insert_one(foreign("F", body="@bob @role:legal hello"))
    read = await comments.get("P", "F")
    assert (read.thread_id, read.mentions, read.mention_groups, read.version) == ("F", ["bob"], ["legal"], 1)
    reply = await say(comments, thread_id="F")
    assert reply.thread_id == "F"
    resolved = await comments.patch("P", "F", CommentPatch(resolved=True), by="alice", precondition=ANY)
    assert resolved.version == 2


async def test_a_foreign_comment_that_does_not_fit_is_reported_and_breaks_nothing(
    comments: CommentStore, database: Any, reported: Reported
) -> None:
    await say(comments, "one")
    await database.comments.insert_many([foreign("F", body=7), foreign("G", resolved={"by": "bob", "at": "now"})])
    assert await listed(comments) == ["one"]
    for attempt in (
        comments.get("P", "F"),
        comments.patch("P", "F", CommentPatch(body="x"), by="dora", precondition=ANY),
        comments.delete("P", "G", by="dora", owner=True, precondition=ANY),
        say(comments, thread_id="F"),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert {what[:2] for what in reported} == {("comments", "F"), ("comments", "G")}


@pytest.mark.parametrize(
    "broken", [{"body": None}, {"body": ""}, {"author": "a b"}, {"created_at": 5}, {"mentions": "bob"}]
)
def test_a_document_of_the_wrong_shape_is_unfit(broken: dict[str, Any]) -> None:
    assert Comment.from_document(foreign("F")).id == "F"
    with pytest.raises(Unfit):
        Comment.from_document(foreign("F") | broken)


async def test_who_took_part_in_a_thread_is_known_with_their_first_comment(
    comments: CommentStore, database: Any
) -> None:
    await database.comments.insert_many(
        [
            foreign("t", author="alice", created_at=NOON),
            foreign("t1", author="bob", created_at=NOON + timedelta(seconds=2), thread_id="t"),
            foreign("t2", author="bob", created_at=NOON + timedelta(seconds=1), thread_id="t", deleted_at=NOON),
            foreign("t3", author="carol", created_at="yesterday", thread_id="t"),
            foreign("t4", author="no name!", created_at=NOON, thread_id="t"),
            foreign("u", author="dave", created_at=NOON),
        ]
    )
    assert await comments.participants({"P"}, {"t"}) == {
        "t": {"alice": (stamp(NOON), "t"), "bob": (stamp(NOON + timedelta(seconds=1)), "t2")}
    }
    assert await comments.participants({"P"}, set()) == {}
