"""Entity tags: what they depend on, how headers are read, when a change is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import Malformed, StaleVersion
from models.etag import document_etag, if_match, opaque_tags
from models.project import Project

PROJECT = Project(id="P", name="Spring", version=3)


def test_a_tag_tells_the_version_and_notices_what_did_not_raise_it() -> None:
    tag = document_etag(PROJECT)
    assert tag.startswith('"3-')
    assert tag == document_etag(msgspec.structs.replace(PROJECT))
    assert tag != document_etag(msgspec.structs.replace(PROJECT, name="Summer"))
    assert tag != document_etag(msgspec.structs.replace(PROJECT, version=4))


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ('"a"', ["a"]),
        ('W/"a"', ["a"]),
        ('"a", W/"b" ,"c"', ["a", "b", "c"]),
        ('"a,b"', ["a,b"]),
        ('""', [""]),
        (" * ", ["*"]),
    ],
)
def test_strong_and_weak_tags_are_read_from_lists(header: str, tags: list[str]) -> None:
    assert opaque_tags(header) == tags


@pytest.mark.parametrize("header", ["a", '"a', '"a" "b"', "W/a", '"a", b', 'w/"a"', ",", '"a b"'])
def test_what_is_no_list_of_tags_is_malformed(header: str) -> None:
    with pytest.raises(Malformed):
        opaque_tags(header)


@given(st.text(max_size=50))
def test_no_header_breaks_the_reading(header: str) -> None:
    try:
        tags = opaque_tags(header)
    except Malformed:
        return
    assert all(isinstance(tag, str) for tag in tags)


def test_without_if_match_every_version_may_be_changed() -> None:
    if_match(None)(PROJECT)
    if_match("*")(PROJECT)


def test_a_matching_tag_weak_or_strong_lets_the_change_through() -> None:
    tag = document_etag(PROJECT)
    if_match(tag)(PROJECT)
    if_match(f"W/{tag}")(PROJECT)
    if_match(f'"other", {tag}')(PROJECT)


def test_a_tag_of_another_state_refuses_the_change() -> None:
    precondition = if_match(document_etag(PROJECT))
    for changed in ({"version": 4}, {"name": "Changed by another program"}):
        with pytest.raises(StaleVersion):
            precondition(msgspec.structs.replace(PROJECT, **changed))
