"""Items: /projects/{project_id}/items and what hangs below it, and /items?content_id="""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import UnsetType

from app.access import NOWHERE
from app.permissions import Action, may
from app.strict_json import convert, parse
from handlers.base import BODY_LIMIT, BULK_BODY_LIMIT, ApiHandler, Edge, Operation, Query, list_query
from models.bulk import BULK_LIMIT, BulkAnswer, Entries, NewItems, StatusChange, refuse_repeats
from models.errors import Conflict, DuplicateContent, Forbidden, Invalid, StaleVersion, TooLarge
from models.fields import ShortText, UserId
from models.item import PUBLISHER_STATUSES, Item, ItemPatch, Language, NewItem, Status
from models.item_store import CONTENT_SORT, DEFAULT_SORT, SORTS, ItemFilter, ItemStore
from models.page import Page, SearchText, sort_names
from models.revision import stored


class ItemsBaseHandler(ApiHandler):
    """What all handlers of items share."""

    def initialize(self, *, edge: Edge, items: ItemStore) -> None:
        super().initialize(edge=edge)
        self.items = items

    async def may_see(self, project_id: str) -> bool:
        """Whether the caller may know of a project other than the one in the path."""
        return await self.edge.access.sees(self.caller, project_id)

    def check_may_set(self, *statuses: Status | UnsetType) -> None:
        """Refuse a publisher's status from whom is none, also where the item has it already. Raises `Forbidden`."""
        for status in statuses:
            if status in PUBLISHER_STATUSES and not may(self.member.role, Action.PUBLISH):
                raise Forbidden(f"Only a publisher may set {status}; your role in this project is {self.member.role}.")


class ItemsHandler(ItemsBaseHandler):
    """The items of a project."""

    route = "/api/v1/projects/{project_id}/items"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="List the items of a project",
            action=Action.VIEW,
            query=list_query(
                Query(name="status", shape=Status, summary="Only with this status."),
                Query(name="type", shape=ShortText, summary="Only of this type."),
                Query(name="language", shape=Language, summary="Only in this language, or for any language."),
                Query(name="assignee", shape=UserId, summary="Only assigned to this user."),
                Query(name="q", shape=SearchText, summary="Only where each of these begins a word of the name."),
                sorts=sort_names(SORTS),
            ),
            answer=Page[Item],
        ),
        "POST": Operation(
            summary=f"Add an item (201), or with `items` up to {BULK_LIMIT} of them, each for itself (200)",
            action=Action.EDIT,
            body=NewItem | NewItems,
            answer=Item | BulkAnswer,
            status=201,
            body_limit=BULK_BODY_LIMIT,
            idempotent=True,
            refusals=(DuplicateContent, Conflict),
        ),
    }

    async def get(self, project_id: str) -> None:
        wanted = ItemFilter(
            status=self.query("status"),
            type=self.query("type"),
            language=self.query("language"),
            assignee=self.query("assignee"),
            q=self.query("q", ""),
        )
        self.reply_page(await self.items.page(project_id, wanted, self.page_request(default_sort=DEFAULT_SORT)))

    async def post(self, project_id: str) -> None:
        body = parse(self.request.body)
        if isinstance(body, dict) and "items" in body:
            await self._add_many(project_id, convert(body, Entries).items)
            return
        if len(self.request.body) > BODY_LIMIT:
            raise TooLarge(f"The body of one item may have {BODY_LIMIT} bytes.")
        new = convert(body, NewItem)
        self.check_may_set(new.status)
        item = await self.items.create(
            project_id, new, by=self.caller.user_id, make_id=self.make_id, may_see=self.may_see
        )
        self.reply(item, status=201, location=f"/api/v1/projects/{project_id}/items/{item.id}", etag="document")

    async def _add_many(self, project_id: str, entries: list[Any]) -> None:
        """Refuse all where a part breaks the rules of the call; otherwise each entry has a result of its own."""
        read = [_new_item(entry, at=f"$.items[{index}]") for index, entry in enumerate(entries)]
        contents = (
            (new.content.id, new.content.version, new.language) if isinstance(new, NewItem) else index
            for index, new in enumerate(read)
        )
        refuse_repeats(contents, path="$.items", what="content, version and language")
        fitting = [new for new in read if isinstance(new, NewItem)]
        self.check_may_set(*(new.status for new in fitting))
        added = await self.items.create_many(
            project_id, fitting, by=self.caller.user_id, make_id=self.make_id, may_see=self.may_see
        )
        results = iter(added)
        self.reply(BulkAnswer.of([next(results) if isinstance(new, NewItem) else new for new in read], done=201))


def _new_item(entry: Any, *, at: str) -> NewItem | Invalid:
    try:
        new = convert(entry, NewItem, at=at)
        stored(new)  # refuses a time that MongoDB cannot keep, which would otherwise refuse all entries
    except Invalid as refusal:
        return refusal
    return new


class ItemHandler(ItemsBaseHandler):
    """One item."""

    route = "/api/v1/projects/{project_id}/items/{item_id}"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(summary="Read an item", action=Action.VIEW, answer=Item),
        "PATCH": Operation(
            summary="Change an item",
            action=Action.EDIT,
            body=ItemPatch,
            answer=Item,
            refusals=(Conflict, StaleVersion),
        ),
        "DELETE": Operation(
            summary="Take an item out of its project; the content in the CMS stays",
            action=Action.EDIT,
            status=204,
            refusals=(Conflict, StaleVersion),
        ),
    }

    async def get(self, project_id: str, item_id: str) -> None:
        self.reply(await self.items.get(project_id, item_id), etag="document")

    async def patch(self, project_id: str, item_id: str) -> None:
        patch = self.read(ItemPatch)
        self.check_may_set(patch.status)
        item = await self.items.patch(
            project_id, item_id, patch, by=self.caller.user_id, precondition=self.precondition
        )
        self.reply(item, etag="document")

    async def delete(self, project_id: str, item_id: str) -> None:
        await self.items.delete(project_id, item_id, by=self.caller.user_id, precondition=self.precondition)
        self.reply()


class ItemsStatusHandler(ItemsBaseHandler):
    """The status of many items."""

    route = "/api/v1/projects/{project_id}/items/status"
    operations: ClassVar[Mapping[str, Operation]] = {
        "POST": Operation(
            summary=f"Give up to {BULK_LIMIT} items one status",
            action=Action.EDIT,
            body=StatusChange,
            answer=BulkAnswer,
            body_limit=BULK_BODY_LIMIT,
            idempotent=True,
        ),
    }

    async def post(self, project_id: str) -> None:
        change = self.read(StatusChange)
        refuse_repeats(change.ids, path="$.ids", what="id")
        self.check_may_set(change.status)
        outcomes = await self.items.set_status(project_id, change.ids, change.status, by=self.caller.user_id)
        self.reply(BulkAnswer.of(outcomes, done=200, ids=change.ids))


class ContentItemsHandler(ItemsBaseHandler):
    """The items of one content in all projects that the caller may see."""

    route = "/api/v1/items"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Find out which projects hold a content, in which versions and languages",
            action=Action.SIGNED_IN,
            query=list_query(
                Query(name="content_id", shape=ShortText, summary="The content's id in the CMS.", required=True)
            ),
            answer=Page[Item],
        ),
    }

    async def get(self) -> None:
        content_id = self.query("content_id")
        request = self.page_request(default_sort=CONTENT_SORT)
        holders = await self.items.holders(content_id) or [NOWHERE]
        visible = [project_id for project_id in holders if await self.may_see(project_id)]
        self.reply_page(await self.items.content_page(content_id, visible, request))
