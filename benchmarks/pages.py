"""What each page costs a browser: requests, bytes, and the time until there is something to work with.

    .venv/bin/python -m benchmarks.pages [--rounds 5] [--items 500 --items 5000]

A real Chromium and a server with its embedded MongoDB, on this machine. Each page is opened in a new window with an
empty cache, and once more there, as after a reload. Useful is: what the page is for is painted, a row of items say.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from playwright.sync_api import APIRequestContext, Browser, BrowserContext, Page, sync_playwright

from benchmarks.machine import described
from benchmarks.processes import Served, copydesk
from benchmarks.table import Figures, table

AT_ONCE = 200
"""Items that one request takes."""
USEFUL = "useful after ms"
STATUSES = ("draft", "in_review", "ready", "published")
WORDS = ("landing page", "price list", "newsletter", "hero picture", "terms and conditions")

# Two frames: what is in the document when the first begins has been painted when the second does.
_WATCH = """
window.useful = new Promise((resolve) => {
  new MutationObserver((_records, observer) => {
    if (!document.querySelector(%s)) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())));
  }).observe(document, { childList: true, subtree: true, attributes: true });
});
"""


@dataclass(frozen=True)
class Subject:
    """A page, and by what one sees that it is of use."""

    name: str
    address: str
    useful: str
    user: str | None = "bob"


def subjects(sizes: list[int]) -> Iterator[Subject]:
    """Every page; a project once for each size."""
    yield Subject("sign-in", "", ".sign-in button", None)
    yield Subject("projects", "", ".card .name")
    yield Subject("project, 6 items", "#/projects/demo-spring", ".item .name")
    for size in sizes:
        yield Subject(f"project, {size:,} items", f"#/projects/{size}-items", ".item .name")
    yield Subject("preferences", "#/preferences", "form:not([hidden]) td select")
    yield Subject("/diagnosis", "diagnosis", "#checks > li")
    yield Subject("/docs", "docs", "article h4")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, action="append", help="of a project; may be repeated")
    parser.add_argument("--only", help="pages whose name begins so")
    arguments = parser.parse_args()
    sizes = arguments.items or [500, 5000]
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"))),
        None,
    )
    if program is None:
        print("This needs Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with copydesk("--demo") as served, sync_playwright() as playwright:
        bearer = {"Authorization": f"Bearer {served.token('alice', 'admin', 'editor')}"}
        api = playwright.request.new_context(base_url=served.url, extra_http_headers=bearer)
        projects = {size: fill(api, size) for size in sizes}
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        runs: dict[str, list[Figures]] = {}
        for _ in range(arguments.rounds):
            for subject in subjects(sizes):
                if not subject.name.startswith(arguments.only or ""):
                    continue
                address = subject.address
                for size, project in projects.items():
                    address = address.replace(f"{size}-items", project)
                runs.setdefault(subject.name, []).append(opened(browser, served, subject, address))
        browser.close()
    for fact in described():
        print(f"* {fact}")
    print("\n" + table(runs, first="page"))
    late = [name for name, times in runs.items() if statistics.median(each[USEFUL] for each in times) > 1000]
    print(f"\nLater than a second: {', '.join(late) or 'none'}.")
    return 0


def opened(browser: Browser, served: Served, subject: Subject, address: str) -> Figures:
    """One page in a new window, and again in the same."""
    window = browser.new_context(viewport={"width": 1280, "height": 860})
    if subject.user is not None:
        sign_in(window, served, subject.user)
    page = window.new_page()
    page.add_init_script(_WATCH % msgspec.json.encode(subject.useful).decode())
    url = f"{served.url}/{address}"
    first, used = Traffic(page), served.cpu_seconds()
    page.goto(url)
    useful = useful_after(page)
    used = served.cpu_seconds() - used
    requests, received = first.requests, first.received
    page.wait_for_load_state("networkidle")
    begun = Traffic(page)
    page.reload()
    again = useful_after(page)
    window.close()
    return {
        USEFUL: useful,
        "server CPU ms until then": used * 1000,
        "requests until then": requests,
        "KiB until then": received / 1024,
        "after a reload ms": again,
        "KiB then": begun.received / 1024,
    }


class Traffic:
    """Requests and bytes of a page from now on, as Chromium counts them: headers included, sockets not."""

    def __init__(self, page: Page) -> None:
        self.requests, self.received = 0, 0.0
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.responseReceived", self._answered)
        session.on("Network.loadingFinished", self._finished)

    def _answered(self, _event: object) -> None:
        self.requests += 1

    def _finished(self, event: dict[str, float]) -> None:
        self.received += event["encodedDataLength"]


def useful_after(page: Page) -> float:
    """Milliseconds from the navigation on."""
    return float(page.evaluate("window.useful"))


def sign_in(window: BrowserContext, served: Served, user: str) -> None:
    """As the form does."""
    answer = window.request.post(
        f"{served.url}/api/v1/session",
        data={"username": user, "password": f"{user}-demo"},
        headers={"Origin": served.url},
    )
    if answer.status != 201:
        raise RuntimeError(answer.text())


def fill(api: APIRequestContext, size: int) -> str:
    """A project with so many items, and a comment on every twentieth; its id."""

    def post(path: str, body: object) -> dict[str, Any]:
        answer = api.post(f"/api/v1/projects{path}", data=body)
        if not answer.ok:
            raise RuntimeError(answer.text())
        return answer.json()

    project: str = post("", {"name": f"{size} items"})["id"]
    for start in range(0, size, AT_ONCE):
        items = [item(size, number) for number in range(start, min(start + AT_ONCE, size))]
        for result in post(f"/{project}/items", {"items": items})["results"][::20]:
            post(f"/{project}/comments", {"body": "Is this the newest text?", "item_id": result["id"]})
    return project


def item(size: int, number: int) -> dict[str, object]:
    """One of many."""
    return {
        "content": {"id": f"content-{size}-{number}", "version": "1"},
        "name": f"{WORDS[number % len(WORDS)].capitalize()} {number}",
        "type": "page",
        "language": "en",
        "path": f"/section-{number % 20}/page-{number}",
        "status": STATUSES[number % len(STATUSES)],
    }


if __name__ == "__main__":
    sys.exit(main())
