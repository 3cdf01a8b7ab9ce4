"""Entity tags, and the precondition that a change is refused when the document moved on (RFC 9110, 8.8.3 and 13.1)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Protocol

import msgspec

from models.errors import Malformed, StaleVersion

_TAG = re.compile(r'\s*(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')


class Versioned(Protocol):
    """Anything with a version: a project, an item, a comment, a notification."""

    @property
    def version(self) -> int: ...


Precondition = Callable[[Versioned], None]
"""Called with the current document before it is changed; raises `StaleVersion`."""


def digest(representation: bytes) -> str:
    """A short hash of what is sent."""
    return hashlib.blake2b(representation, digest_size=9).hexdigest()


def document_etag(document: Versioned) -> str:
    """``"<version>-<hash>"``: the hash tells apart what another program changed without raising the version."""
    return f'"{document.version}-{digest(msgspec.json.encode(document))}"'


def opaque_tags(header: str) -> list[str]:
    """The tags of an `If-Match` or `If-None-Match` header without quotes and weakness; ``*`` stands for itself.

    A weak tag counts as the strong one, because a proxy that compresses weakens every tag on its way.
    """
    if header.strip() == "*":
        return ["*"]
    tags, at = [], 0
    while at < len(header):
        match = _TAG.match(header, at)
        if match is None:
            raise Malformed("If-Match and If-None-Match take quoted entity tags, separated by commas, or *.")
        if match[1] != "*":  # in quotes it is a tag that no document has, and not the one that stands for all
            tags.append(match[1])
        at = match.end()
    return tags


def if_match(header: str | None) -> Precondition:
    """The precondition that a request's `If-Match` states; without one, every current version is fine."""
    if header is None:
        return lambda _document: None
    tags = opaque_tags(header)

    def check(document: Versioned) -> None:
        if "*" not in tags and document_etag(document).strip('"') not in tags:
            raise StaleVersion("It has changed since you read it. Read it again, then change the new version.")

    return check
