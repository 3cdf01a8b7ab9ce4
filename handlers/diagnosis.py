"""The page at `/diagnosis`: what gets through from this browser to the server, and what to change where it does not."""

from __future__ import annotations

from app.findings import IN_BROWSER, PING_FACTOR
from handlers.pages import RenderedHandler, rendered


class DiagnosisHandler(RenderedHandler):
    """GET /diagnosis. Needs no sign-in, which may be what does not work."""

    route = "/diagnosis"
    # With the words of every finding in it: its script only chooses among them, and needs no API for that.
    page = rendered("diagnosis.html", "diagnosis.js", findings=IN_BROWSER, ping_factor=PING_FACTOR)
