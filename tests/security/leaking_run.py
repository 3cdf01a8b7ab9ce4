"""`run.py` whose log leaks: every request, nothing redacted. Shows that a search for secrets finds some."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import structlog  # noqa: E402 - the path comes first

from app import logs  # noqa: E402
from app.auth import Authenticator  # noqa: E402
from handlers.base import ApiHandler  # noqa: E402

log = structlog.get_logger("copydesk.leak")


def leak() -> None:
    """Have each request logged whole."""
    prepare, sign_in = ApiHandler.prepare, Authenticator.sign_in
    logs.redact = lambda _logger, _method, event: event

    async def prepare_and_tell(self: ApiHandler) -> None:
        log.debug("request", what=str(self.request.headers))
        await prepare(self)

    async def sign_in_and_tell(self: Authenticator, username: str, password: str, *, address: str) -> Any:
        log.debug("sign_in", what=password)
        return await sign_in(self, username, password, address=address)

    ApiHandler.prepare = prepare_and_tell  # type: ignore[assignment,method-assign]
    Authenticator.sign_in = sign_in_and_tell  # type: ignore[method-assign]


if __name__ == "__main__":
    leak()
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
