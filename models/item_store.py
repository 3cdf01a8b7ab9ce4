"""The `items` collection: the only code that reads and writes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from pymongo.errors import BulkWriteError, DuplicateKeyError

from models.database_types import Database, Document
from models.errors import Conflict, DuplicateContent, FieldError, NotFound, Refusal
from models.etag import Precondition
from models.fields import MakeId, Report, utc_now
from models.item import Item, ItemPatch, NewItem, Status
from models.page import Page, PageRequest, Sort, fit, read_page, word_prefixes
from models.revision import Pipeline, change, changes, revise, stored

MaySee = Callable[[str], Awaitable[bool]]
"""Whether the caller may see a project: decides whether a refusal may name it."""

_MISSING = "There is no such item in this project."
_DEFAULTS = {"language": "", "rank": 0}
"""What a foreign document that lacks the field is read as."""
_ANY_LANGUAGE = ("", None)
"""How "any" is stored: by us, and by programs that leave the field out."""
_DUPLICATE_KEY = 11000
_ATTEMPTS = 3


SORTS = {
    "rank": Sort("rank", "number"),
    "name": Sort("name", "text"),
    "status": Sort("status", "text"),
    "type": Sort("type", "text"),
    "changed_at": Sort("changed_at", "date"),
}
DEFAULT_SORT = "rank"
CONTENT_SORT = "-changed_at"
"""The order of a content's items in several projects, where `rank` would compare what cannot be compared."""


class ItemFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which items of a project to list; None: whatever it is."""

    status: Status | None = None
    type: str | None = None
    language: str | None = None
    """Items of any language ("") match every language."""
    assignee: str | None = None
    q: str = ""
    """Words of the name, or their beginnings, in any case."""


class ItemStore:
    """Items of all projects. Documents that do not fit are reported, left out of lists and not found when asked for."""

    def __init__(self, database: Database, *, report: Report, now: Callable[[], datetime] = utc_now) -> None:
        self._items, self._projects = database["items"], database["projects"]
        self._report, self._now = report, now

    async def get(self, project_id: str, item_id: str) -> Item:
        """One undeleted item. Raises `NotFound`."""
        document = await self._items.find_one({**_place(project_id, item_id), "deleted_at": None})
        if document is None:
            raise NotFound(_MISSING)
        return self._fit(document)

    async def project_of(self, item_id: str) -> str | None:
        """The project of an undeleted item; None where there is no such item."""
        document = await self._items.find_one({"_id": item_id, "deleted_at": None}, {"project_id": 1})
        return document["project_id"] if document and isinstance(document.get("project_id"), str) else None

    async def of_many(self, item_ids: Collection[str]) -> dict[str, Item]:
        """Those of the items that there are, by id, whichever projects they are in."""
        if not item_ids:
            return {}
        found = self._items.find({"_id": {"$in": sorted(item_ids)}, "deleted_at": None})
        items = [fit(document, Item.from_document, "items", self._report) async for document in found]
        return {item.id: item for item in items if item is not None}

    async def page(self, project_id: str, wanted: ItemFilter, request: PageRequest) -> Page[Item]:
        """The undeleted items of a project. Raises `Invalid` for an unknown sort or a foreign cursor."""
        where: Document = {"project_id": project_id, "deleted_at": None, **word_prefixes("name", wanted.q)}
        for name in ("status", "type", "assignee"):
            value = getattr(wanted, name)
            if value is not None:
                where[name] = value
        if wanted.language is not None:
            where["language"] = {"$in": [wanted.language, *_ANY_LANGUAGE]}
        return await self._read_page(where, request)

    async def holders(self, content_id: str) -> list[str]:
        """The projects in which some version of a content stands, in any language; the caller may not see them all."""
        found = await self._items.distinct("project_id", {"content.id": content_id, "deleted_at": None})
        return [project_id for project_id in found if isinstance(project_id, str)]

    async def content_page(self, content_id: str, project_ids: Sequence[str], request: PageRequest) -> Page[Item]:
        """The items of a content, in all its versions and languages, within these projects. Raises `Invalid`."""
        where = {"content.id": content_id, "project_id": {"$in": list(project_ids)}, "deleted_at": None}
        return await self._read_page(where, request)

    async def create(self, project_id: str, new: NewItem, *, by: str, make_id: MakeId, may_see: MaySee) -> Item:
        """Add one item. Raises `DuplicateContent`, `Conflict`, or `NotFound` where the project is gone."""
        (outcome,) = await self.create_many(project_id, [new], by=by, make_id=make_id, may_see=may_see)
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome

    async def create_many(
        self, project_id: str, new: Sequence[NewItem], *, by: str, make_id: MakeId, may_see: MaySee
    ) -> list[Item | Refusal]:
        """Add items, each for itself: one that is refused does not stop the others. Outcomes in the order of `new`.

        An `_id` that is there already is a first attempt of the same request that was committed without our hearing
        of it. Raises `NotFound`, with nothing left behind, where the project is deleted meanwhile.
        """
        now = self._now()
        documents = [_document(project_id, entry, item_id=make_id(), by=by, at=now) for entry in new]
        free = await self._without_holder_of_no_language(documents)
        inserted = await self._insert(free)
        outcomes = [
            self._fit(document)
            if document["_id"] in inserted
            else await self._insert_or_explain(document, by=by, may_see=may_see)
            for document in documents
        ]
        if await self._project(project_id) is None:
            # Whoever deletes a project marks it first and its items after that, so one of us two sees the other.
            ids = [document["_id"] for document in documents]
            await self._items.update_many({"_id": {"$in": ids}, "deleted_at": None}, revise(set=self._deletion(by)))
            raise NotFound("There is no such project, or you may not see it.")
        return outcomes

    async def patch(
        self, project_id: str, item_id: str, patch: ItemPatch, *, by: str, precondition: Precondition
    ) -> Item:
        """Change an item. Raises `NotFound`, `StaleVersion`, `Conflict`, `Invalid`."""
        if patch.rank is None:
            # Stored all the same: lists sort by it.
            patch = msgspec.structs.replace(patch, rank=0)

        def plan(document: Document) -> Pipeline | None:
            precondition(self._fit(document))
            assigned, removed = changes(msgspec.structs.asdict(patch), document, _DEFAULTS)
            if not assigned and not removed:
                return None
            return revise(set=assigned | {"changed_at": self._now(), "changed_by": by}, unset=removed)

        return self._fit(await change(self._items, _place(project_id, item_id), plan, missing=_MISSING))

    async def delete(self, project_id: str, item_id: str, *, by: str, precondition: Precondition) -> None:
        """Take an item out of its project; the content in the CMS is not touched.

        Raises `NotFound`, `StaleVersion`, `Conflict`.
        """

        def plan(document: Document) -> Pipeline:
            precondition(self._fit(document))
            return revise(set=self._deletion(by))

        await change(self._items, _place(project_id, item_id), plan, missing=_MISSING)

    async def set_status(self, project_id: str, ids: Sequence[str], status: Status, *, by: str) -> list[Item | Refusal]:
        """Give many items one status, in three round trips. Outcomes in the order of `ids`."""
        before = await self._several(project_id, ids)
        pending = [item.id for item in before.values() if item.status != status]
        if pending:
            await self._items.update_many(
                {"_id": {"$in": pending}, "project_id": project_id, "deleted_at": None, "status": {"$ne": status}},
                revise(set={"status": status, "changed_at": self._now(), "changed_by": by}),
            )
        after = await self._several(project_id, ids) if pending else before
        return [after.get(item_id) or NotFound(_MISSING) for item_id in ids]

    # -- adding -------------------------------------------------------------------------------------------------------

    async def _without_holder_of_no_language(self, documents: Sequence[Document]) -> list[Document]:
        """Those documents whose content no foreign item without a `language` holds.

        The unique index takes a missing language for another value than the empty one; both mean "any".
        """
        contents = sorted({document["content"]["id"] for document in documents if document["language"] == ""})
        held = set()
        if contents:
            found = self._items.find(
                {"content.id": {"$in": contents}, "language": None, "deleted_at": None}, {"content": 1}
            )
            held = {_content(document) async for document in found}
        return [document for document in documents if document["language"] != "" or _content(document) not in held]

    async def _insert(self, documents: Sequence[Document]) -> set[str]:
        """Insert what no unique index refuses; the ids of these."""
        inserted = {document["_id"] for document in documents}
        if not documents:
            return inserted
        try:
            await self._items.insert_many(documents, ordered=False)
        except BulkWriteError as problem:
            failures = problem.details["writeErrors"]
            if problem.details["writeConcernErrors"] or any(entry["code"] != _DUPLICATE_KEY for entry in failures):
                raise
            inserted -= {documents[entry["index"]]["_id"] for entry in failures}
        return inserted

    async def _insert_or_explain(self, document: Document, *, by: str, may_see: MaySee) -> Item | Refusal:
        """What to answer for a document that a unique index refused."""
        for _ in range(_ATTEMPTS):
            present = await self._items.find_one({"_id": document["_id"]})
            if present is not None:
                return self._first_attempt(present, document)
            holder = await self._items.find_one(_holders_of(document))
            if holder is not None:
                project = await self._project(holder.get("project_id"))
                if project is not None:
                    return await _duplicate(holder, project, may_see)
                # Nobody can see or remove it: a crash between the deletion of a project and that of its items left it
                # behind, or another program removed the project for good.
                await self._items.update_one({"_id": holder["_id"], "deleted_at": None}, revise(set=self._deletion(by)))
            try:
                await self._items.insert_one(document)
            except DuplicateKeyError:
                continue
            return self._fit(document)
        return Conflict("Others add the same content at the same moment. Look where it is now.")

    def _first_attempt(self, present: Mapping[str, Any], document: Mapping[str, Any]) -> Item | Refusal:
        same = all(present.get(name) == document[name] for name in ("project_id", "created_by", "content"))
        if not same or present.get("deleted_at") is not None:
            return Conflict("An earlier attempt of this request added the item, and it was removed since.")
        return self._fit(present)

    async def _project(self, project_id: object) -> Document | None:
        living = {"_id": {"$eq": project_id}, "deleted_at": None}
        project: Document | None = await self._projects.find_one(living, {"name": 1})
        return project

    def _deletion(self, by: str) -> Document:
        now = self._now()
        return {"deleted_at": now, "deleted_by": by, "changed_at": now, "changed_by": by}

    # -- reading ------------------------------------------------------------------------------------------------------

    def _fit(self, document: Mapping[str, Any]) -> Item:
        """The item, or `NotFound` and a report."""
        item = fit(document, Item.from_document, "items", self._report)
        if item is None:
            raise NotFound(_MISSING)
        return item

    async def _read_page(self, where: Document, request: PageRequest) -> Page[Item]:
        return await read_page(
            self._items, where, request, sorts=SORTS, convert=Item.from_document, report=self._report
        )

    async def _several(self, project_id: str, ids: Sequence[str]) -> dict[str, Item]:
        """The undeleted ones among `ids`, by id."""
        wanted = {"_id": {"$in": list(ids)}, "project_id": project_id, "deleted_at": None}
        documents = await self._items.find(wanted).to_list(None)
        fitting = (fit(document, Item.from_document, "items", self._report) for document in documents)
        return {item.id: item for item in fitting if item is not None}


def _place(project_id: str, item_id: str) -> Document:
    return {"_id": item_id, "project_id": project_id}


def _document(project_id: str, new: NewItem, *, item_id: str, by: str, at: datetime) -> Document:
    who_and_when = {"created_at": at, "created_by": by, "changed_at": at, "changed_by": by}
    return {"_id": item_id, "project_id": project_id, **stored(new), **who_and_when, "version": 1}


def _content(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which version of which content a document is of; None where another program wrote something else there."""
    content = document.get("content")
    pair = (content.get("id"), content.get("version")) if isinstance(content, Mapping) else ()
    match pair:
        case (str(content_id), str(version)):
            return content_id, version
    return None


def _holders_of(document: Mapping[str, Any]) -> Document:
    """A filter for the items that stand in the way of this one."""
    content, language = document["content"], document["language"]
    return {
        "content.id": content["id"],
        "content.version": content["version"],
        "language": language or {"$in": list(_ANY_LANGUAGE)},
        "deleted_at": None,
    }


async def _duplicate(holder: Mapping[str, Any], project: Mapping[str, Any], may_see: MaySee) -> DuplicateContent:
    """The refusal; it names the project only to who may see it."""
    if not await may_see(project["_id"]):
        where = "a project that you may not see"
    else:
        where = f"the project {str(project.get('name'))!r} ({project['_id']}), as item {holder['_id']}"
    return DuplicateContent(
        f"This version of the content, in this language, stands in {where}.",
        errors=(FieldError("$.content", f"Stands in {where}"),),
    )
