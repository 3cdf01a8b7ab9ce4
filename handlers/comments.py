"""Comments: /projects/{project_id}/comments and /projects/{project_id}/comments/{comment_id}"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from app.permissions import Action, may
from handlers.base import ApiHandler, Edge, Operation, Query, list_query
from models.comment import Comment, CommentPatch, NewComment
from models.comment_store import NEWEST_FIRST, CommentFilter, CommentStore
from models.errors import Conflict, StaleVersion
from models.fields import Id, UserId, WhenInput
from models.page import Page


class CommentsBaseHandler(ApiHandler):
    """What both handlers of comments share."""

    def initialize(self, *, edge: Edge, comments: CommentStore) -> None:
        super().initialize(edge=edge)
        self.comments = comments


class CommentsHandler(CommentsBaseHandler):
    """The comments of a project, on itself and on its items."""

    route = "/api/v1/projects/{project_id}/comments"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="List the comments of a project with the tombstones of deleted ones, newest first",
            action=Action.VIEW,
            query=list_query(
                Query(name="item_id", shape=Id, summary="Only on this item."),
                Query(name="thread_id", shape=Id, summary="Only in this thread."),
                Query(
                    name="resolved",
                    shape=bool,
                    summary="Only the first comments of threads: true: of resolved ones, false: of open ones.",
                ),
                Query(name="author", shape=UserId, summary="Only by this user."),
                Query(name="created_after", shape=WhenInput, summary="Only what was written after this time."),
            ),
            answer=Page[Comment],
        ),
        "POST": Operation(
            summary="Begin a thread, or reply in one with `thread_id` or `parent_id`",
            action=Action.COMMENT,
            body=NewComment,
            answer=Comment,
            status=201,
            idempotent=True,
            refusals=(Conflict,),
        ),
    }

    async def get(self, project_id: str) -> None:
        wanted = CommentFilter(
            item_id=self.query("item_id"),
            thread_id=self.query("thread_id"),
            resolved=self.query("resolved"),
            author=self.query("author"),
            created_after=self.query("created_after"),
        )
        self.reply_page(await self.comments.page(project_id, wanted, self.page_request(default_sort=NEWEST_FIRST)))

    async def post(self, project_id: str) -> None:
        new = self.read(NewComment)
        comment = await self.comments.create(project_id, new, author=self.caller.user_id, make_id=self.make_id)
        location = f"/api/v1/projects/{project_id}/comments/{comment.id}"
        self.reply(comment, status=201, location=location, etag="document")


class CommentHandler(CommentsBaseHandler):
    """One comment, or its tombstone."""

    route = "/api/v1/projects/{project_id}/comments/{comment_id}"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Read a comment, or the tombstone of a deleted one", action=Action.VIEW, answer=Comment
        ),
        "PATCH": Operation(
            summary="Edit your own comment, or resolve or reopen the thread that it begins",
            action=Action.COMMENT,
            body=CommentPatch,
            answer=Comment,
            refusals=(Conflict, StaleVersion),
        ),
        "DELETE": Operation(
            summary="Delete your own comment, or as an owner of the project any; a tombstone stays",
            action=Action.COMMENT,
            status=204,
            refusals=(Conflict, StaleVersion),
        ),
    }

    async def get(self, project_id: str, comment_id: str) -> None:
        self.reply(await self.comments.get(project_id, comment_id), etag="document")

    async def patch(self, project_id: str, comment_id: str) -> None:
        patch = self.read(CommentPatch)
        comment = await self.comments.patch(
            project_id, comment_id, patch, by=self.caller.user_id, precondition=self.precondition
        )
        self.reply(comment, etag="document")

    async def delete(self, project_id: str, comment_id: str) -> None:
        await self.comments.delete(
            project_id,
            comment_id,
            by=self.caller.user_id,
            owner=may(self.member.role, Action.MANAGE),
            precondition=self.precondition,
        )
        self.reply()
