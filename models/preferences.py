"""Preferences: which notifications reach a user, by which way, and when not."""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pymongo import ReturnDocument

from models.database_types import Database
from models.fields import Report, Unfit
from models.notification import NotificationType
from models.page import fit

EmailChoice = Literal["off", "now", "hourly", "daily"]
ClockTime = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9](?!\n)$", description="HH:MM.")]


class TypePreference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By which ways notifications of one type come."""

    in_app: bool
    email: EmailChoice


class TypeDefault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an administrator sets for those who chose nothing; what is absent stays as built in."""

    in_app: bool | UnsetType = UNSET
    email: EmailChoice | UnsetType = UNSET


class QuietHours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When no e-mail is sent, by the user's own clock; over midnight where `to` is earlier than `from`."""

    from_: ClockTime = msgspec.field(name="from")
    to: ClockTime

    def __post_init__(self) -> None:
        if self.from_ == self.to:
            raise ValueError("Expected `from` and `to` to differ")


class Preferences(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user wants to be told, and how. As the stores give it, `types` has every type."""

    types: dict[NotificationType, TypePreference] = {}
    quiet_hours: QuietHours | UnsetType = UNSET
    time_zone: Annotated[str, Meta(max_length=64, description="A name of the IANA time zone database.")] = "UTC"

    def __post_init__(self) -> None:
        if self.time_zone not in _time_zones():
            raise ValueError("Expected a time zone of the IANA database, such as Europe/Stockholm, at `time_zone`")


BUILT_IN: Mapping[NotificationType, TypePreference] = {
    "mention": TypePreference(in_app=True, email="now"),
    "reply": TypePreference(in_app=True, email="hourly"),
    "comment": TypePreference(in_app=True, email="off"),
    "assigned": TypePreference(in_app=True, email="now"),
    "item_status": TypePreference(in_app=True, email="off"),
    "publish_result": TypePreference(in_app=True, email="off"),
    "custom": TypePreference(in_app=True, email="now"),
}


Choices = Mapping[NotificationType, TypePreference | TypeDefault]
"""By type, what was chosen: all of it, or the part that a link in a mail sets."""


class PreferencesStore:
    """The preferences of all users. Those that do not fit are reported and count as none."""

    def __init__(
        self,
        database: Database,
        *,
        report: Report,
        defaults: Callable[[], Mapping[NotificationType, TypeDefault]] = dict,
    ) -> None:
        """`defaults` gives what administrators have set at the moment."""
        self._preferences, self._report, self._defaults = database["preferences"], report, defaults

    async def get(self, user_id: str) -> Preferences:
        """A user's preferences, with the defaults for what the user did not choose."""
        return (await self.of_many([user_id]))[user_id]

    async def put(self, user_id: str, preferences: Preferences) -> Preferences:
        """Replace a user's choices. Types that are not named follow the defaults, those of later too."""
        document = {"_id": user_id, **msgspec.to_builtins(preferences)}
        await self._preferences.replace_one({"_id": user_id}, document, upsert=True)
        return self._complete(preferences.types, preferences)

    async def without_mail(self, user_id: str, types: Collection[NotificationType]) -> None:
        """Switch e-mail off for some types. All that the user did not choose goes on following the defaults."""
        if not types:
            return
        # As a pipeline it makes the objects that are missing, also where another program wrote null.
        document = await self._preferences.find_one_and_update(
            {"_id": user_id},
            [{"$set": {f"types.{name}.email": "off" for name in types}}],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        if fit(document, _read, "preferences", self._report) is None:
            # What cannot be read counts as nothing, and so would this choice in it.
            off = {"_id": user_id, "types": {name: {"email": "off"} for name in types}}
            await self._preferences.replace_one({"_id": user_id}, off, upsert=True)

    async def of_many(self, user_ids: Collection[str]) -> dict[str, Preferences]:
        """The same as `get` for each of the users."""
        chosen = {user_id: self._complete({}, Preferences()) for user_id in user_ids}
        async for document in self._preferences.find({"_id": {"$in": list(user_ids)}}):
            read = fit(document, _read, "preferences", self._report)
            if read is not None:
                chosen[document["_id"]] = self._complete(*read)
        return chosen

    def _complete(self, chosen: Choices, preferences: Preferences) -> Preferences:
        overrides = self._defaults()
        types = {
            name: _over(chosen.get(name), _over(overrides.get(name), built_in)) for name, built_in in BUILT_IN.items()
        }
        return msgspec.structs.replace(preferences, types=types)


def _over(choice: TypePreference | TypeDefault | None, otherwise: TypePreference) -> TypePreference:
    if choice is None:
        return otherwise
    return TypePreference(
        in_app=otherwise.in_app if choice.in_app is UNSET else choice.in_app,
        email=otherwise.email if choice.email is UNSET else choice.email,
    )


def _read(document: Mapping[str, Any]) -> tuple[Choices, Preferences]:
    values = {name: document[name] for name in Preferences.__struct_fields__ if document.get(name) is not None}
    try:
        types = msgspec.convert(values.pop("types", {}), dict[NotificationType, TypeDefault])
        return types, msgspec.convert(values, Preferences)
    except msgspec.ValidationError as problem:
        raise Unfit(str(problem)) from None


@functools.cache
def _time_zones() -> frozenset[str]:
    # `localtime` and `Factory` are no places: the first is this machine's, the second says that nobody chose.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})
