"""The caller's preferences: by which ways notifications of each type come, and when not: /preferences"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from app.permissions import Action
from handlers.base import ApiHandler, Edge, Operation
from models.preferences import Preferences, PreferencesStore


class PreferencesHandler(ApiHandler):
    """GET and PUT /api/v1/preferences"""

    route = "/api/v1/preferences"
    operations: ClassVar[Mapping[str, Operation]] = {
        "GET": Operation(
            summary="Which notifications reach you and how, with the defaults for what you did not choose",
            action=Action.SIGNED_IN,
            answer=Preferences,
        ),
        "PUT": Operation(
            summary="Choose it; what is left out goes back to the defaults",
            action=Action.SIGNED_IN,
            body=Preferences,
            answer=Preferences,
        ),
    }

    def initialize(self, *, edge: Edge, preferences: PreferencesStore) -> None:
        super().initialize(edge=edge)
        self.preferences = preferences

    async def get(self) -> None:
        self.reply(await self.preferences.get(self.caller.user_id))

    async def put(self) -> None:
        self.reply(await self.preferences.put(self.caller.user_id, self.read(Preferences)))
