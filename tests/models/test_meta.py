"""The epoch of a database and the settings that admins change at run time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from models import schema
from models.errors import Conflict, StaleVersion
from models.meta import MetaStore, Overrides, SettingsPatch, read_epoch, renew_epoch
from models.preferences import TypeDefault

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Reported = list[tuple[str, object, str]]


def anything(_stored: Overrides) -> None:
    """No precondition."""


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def meta(io_loop: IOLoop, database: Any, reported: Reported) -> MetaStore:
    io_loop.run_sync(lambda: schema.apply(database))
    return MetaStore(database, report=lambda *what: reported.append(what), now=lambda: NOON)


async def test_the_epoch_stays_the_same(meta: MetaStore, database: Any) -> None:
    epochs = await asyncio.gather(*(read_epoch(database) for _ in range(5)))
    assert len(set(epochs)) == 1
    assert len(epochs[0].id) == 8


async def test_an_operator_can_begin_another_epoch(meta: MetaStore, database: Any) -> None:
    before = await read_epoch(database)
    await renew_epoch(database)
    after = await read_epoch(database)
    assert after.id != before.id
    assert after.begun > before.begun
    assert await read_epoch(database) == after


async def test_a_restored_backup_is_another_epoch(meta: MetaStore, database: Any, plain_database: Any) -> None:
    first = await read_epoch(database)
    document = plain_database.meta.find_one({"_id": "epoch"})
    plain_database.meta.drop()
    plain_database.meta.insert_one(document)
    restored = await read_epoch(database)
    plain_database.meta.delete_many({})
    emptied = await read_epoch(database)
    assert len({first.id, restored.id, emptied.id}) == 3


async def test_an_epoch_that_an_older_release_made_stays(meta: MetaStore, plain_database: Any, database: Any) -> None:
    plain_database.meta.insert_one({"_id": "epoch", "value": "$value", "created_at": NOON})
    epoch = await read_epoch(database)
    assert epoch.begun == (0, 0)
    assert plain_database.meta.find_one({"_id": "epoch"}) == {"_id": "epoch", "value": "$value", "created_at": NOON}


async def test_the_epoch_needs_no_schema(database: Any) -> None:
    assert len((await read_epoch(database)).id) == 8


async def test_nothing_is_overridden_at_first(meta: MetaStore) -> None:
    assert await meta.overrides() == Overrides()


async def test_defaults_of_notifications_are_merged_type_by_type(meta: MetaStore, plain_database: Any) -> None:
    async def patch(defaults: Any) -> Overrides:
        given = msgspec.convert({"notification_defaults": defaults}, SettingsPatch)
        return await meta.patch(given, by="root", precondition=anything)

    first = await patch({"comment": {"email": "daily"}, "reply": {"in_app": False, "email": "off"}})
    assert first.notification_defaults == {
        "comment": TypeDefault(email="daily"),
        "reply": TypeDefault(in_app=False, email="off"),
    }
    assert plain_database.meta.find_one({"_id": "settings"})["notification_defaults"]["comment"] == {"email": "daily"}
    assert await patch({"comment": {"email": "daily"}}) == first  # nothing changed, the version neither
    second = await patch({"comment": None, "reply": {"email": None}, "custom": {}})
    assert second.notification_defaults == {"reply": TypeDefault(in_app=False)}
    assert (await patch({"reply": {"in_app": None}})).notification_defaults is msgspec.UNSET
    await patch({"comment": {"email": "daily"}})
    assert (await patch(None)).notification_defaults is msgspec.UNSET


async def test_settings_are_set_changed_and_given_back(meta: MetaStore, plain_database: Any) -> None:
    patch = SettingsPatch(websockets_enabled=False, max_pending_bytes=5000)
    overrides = await meta.patch(patch, by="root", precondition=anything)
    at = "2026-03-01T12:00:00.000Z"
    assert overrides == Overrides(
        websockets_enabled=False, max_pending_bytes=5000, updated_at=at, updated_by="root", version=2
    )
    assert await meta.overrides() == overrides
    overrides = await meta.patch(
        SettingsPatch(websockets_enabled=None, fallback="poll"), by="carol", precondition=anything
    )
    assert overrides == Overrides(fallback="poll", max_pending_bytes=5000, updated_at=at, updated_by="carol", version=3)
    assert "websockets_enabled" not in plain_database.meta.find_one({"_id": "settings"})


async def test_a_patch_that_changes_nothing_writes_nothing(meta: MetaStore, plain_database: Any) -> None:
    assert await meta.patch(SettingsPatch(fallback=None), by="root", precondition=anything) == Overrides()
    assert plain_database.meta.find_one({"_id": "settings"}) is None
    await meta.patch(SettingsPatch(fallback="none"), by="root", precondition=anything)
    before = plain_database.meta.find_one({"_id": "settings"})
    await meta.patch(SettingsPatch(fallback="none"), by="carol", precondition=anything)
    assert plain_database.meta.find_one({"_id": "settings"}) == before


async def test_patches_at_once_are_all_kept(meta: MetaStore) -> None:
    patches = [
        SettingsPatch(fallback="none"),
        SettingsPatch(log_level="debug"),
        SettingsPatch(max_connections=7),
        SettingsPatch(poll_seconds=1.5),
    ]
    await asyncio.gather(*(meta.patch(patch, by="root", precondition=anything) for patch in patches))
    overrides = await meta.overrides()
    assert (overrides.fallback, overrides.log_level, overrides.max_connections) == ("none", "debug", 7)
    assert (overrides.poll_seconds, overrides.version) == (1.5, 5)


async def test_a_precondition_sees_what_is_stored(meta: MetaStore) -> None:
    await meta.patch(SettingsPatch(fallback="none"), by="root", precondition=anything)

    def stale(stored: Overrides) -> None:
        assert stored.fallback == "none"
        raise StaleVersion

    with pytest.raises(StaleVersion):
        await meta.patch(SettingsPatch(fallback="poll"), by="root", precondition=stale)
    assert (await meta.overrides()).fallback == "none"


async def test_a_broken_document_is_reported_and_overrides_nothing(
    meta: MetaStore, plain_database: Any, reported: Reported
) -> None:
    plain_database.meta.insert_one({"_id": "settings", "websockets_enabled": "perhaps", "max_connections": 5})
    assert await meta.overrides() == Overrides()
    assert [what[:2] for what in reported] == [("meta", "settings")]
    with pytest.raises(Conflict, match="remove it"):
        await meta.patch(SettingsPatch(fallback="poll"), by="root", precondition=anything)


async def test_what_another_program_wrote_without_a_version_can_be_changed(
    meta: MetaStore, plain_database: Any
) -> None:
    plain_database.meta.insert_one({"_id": "settings", "max_connections": 5})
    assert (await meta.overrides()).max_connections == 5
    overrides = await meta.patch(SettingsPatch(max_connections=6), by="root", precondition=anything)
    assert (overrides.max_connections, overrides.version) == (6, 2)
