"""The doctor against real servers, behind a real nginx with the mistakes that people make in it, and its words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import findings
from app.doctor import doctor, report
from app.findings import CATALOGUE, Found, filled
from app.judging import Judged
from app.probing import Way, duration
from app.settings import CannotStart, Settings
from tests.conftest import Copydesk
from tests.real import nginx
from tests.real.nginx import Nginx, replaced, without
from tests.real.test_behind_nginx import _with_tls as with_tls

ROOT = Path(__file__).parents[2]
OWN_NAME = replaced(r"server_name copydesk\.example", "server_name 127.0.0.1")
EVENTS = r"(location /api/v1/events \{)"
COLLECTING = (
    without("proxy_buffering off"),
    replaced(EVENTS, r"\1 proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"),
)
IMPATIENT = replaced("proxy_read_timeout 90s", "proxy_read_timeout 1s")

StartNginx = Callable[..., Nginx]


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[StartNginx]:
    """nginx before a server, reached at 127.0.0.1."""
    started: list[Nginx] = []
    numbers = itertools.count(1)

    def start(port: int, *edits: nginx.Edit, own_name: bool = True) -> Nginx:
        folder = tmp_path / f"nginx-{next(numbers)}"
        folder.mkdir()
        started.append(nginx.start(folder, [port], *edits, *([OWN_NAME] if own_name else [])))
        return started[-1]

    yield start
    for running in started:
        running.stop()


class Asked:
    """A report, taken apart."""

    def __init__(self, lines: list[str], well: bool) -> None:
        self.text, self.well = "\n".join(lines), well
        self.codes = re.findall(r"^\d+\. (\w+) \(", self.text, re.MULTILINE)

    def marks(self, part: str = "through") -> dict[str, str]:
        """The mark of each line of a part, by its name."""
        body = self.text.split(f"\n\n{part}", 1)[1].split("\n\n", 1)[0]
        rows = re.findall(r"^  (ok|BAD|off|-) +(\S+(?: \S+)*)  +\S", body, re.MULTILINE)
        return {name: mark for mark, name in rows}


async def ask(url: str, *, direct: str | None = None, token: str = "", quick: bool = True, uri: str = "") -> Asked:
    """What the doctor says."""
    settings = Settings(mongodb_uri=uri or None)
    return Asked(*await doctor(settings, url, direct=direct, token=token, quick=quick, say=lambda _text: None))


BEHIND = pytest.mark.parametrize("copydesk", [{"trusted_proxies": ("127.0.0.1",)}], indirect=True)
QUICK_PINGS = pytest.mark.parametrize(
    "copydesk", [{"trusted_proxies": ("127.0.0.1",), "ping_seconds": 3}], indirect=True
)

# -- the way to the server --------------------------------------------------------------------------------------------


async def test_a_server_without_a_proxy_is_found_well(copydesk: Copydesk) -> None:
    asked = await ask(copydesk.url, token=copydesk.token("bob"))
    assert (asked.codes, asked.well) == ([], True)
    assert asked.marks() == dict.fromkeys(["REST", "Headers", "WebSocket", "Event stream", "Long poll"], "ok")
    assert "said hello as bob" in asked.text
    assert "Nothing to change was found." in asked.text


async def test_without_a_token_it_says_what_it_cannot_tell(copydesk: Copydesk) -> None:
    asked = await ask(copydesk.url)
    assert (asked.codes, asked.well) == ([], True)
    assert asked.marks()["WebSocket"] == "ok"
    assert asked.marks()["Event stream"] == asked.marks()["Long poll"] == "-"
    assert "needs a token" in asked.text


@BEHIND
@pytest.mark.parametrize(
    ("edits", "codes"),
    [
        pytest.param((), [], id="the shipped configuration"),
        pytest.param(
            (without("proxy_set_header Upgrade", "proxy_set_header Connection"),), ["upgrade_dropped"], id="no upgrade"
        ),
        pytest.param((without("proxy_set_header Connection"),), ["upgrade_dropped"], id="no Connection"),
        pytest.param((without("proxy_http_version"),), ["old_http"], id="http 1.0"),
        pytest.param(COLLECTING, ["stream_buffered"], id="buffering"),
        pytest.param(
            (replaced(r"(proxy_set_header Host )\$http_host;", r"\1$host;"),), ["host_replaced"], id="host without port"
        ),
        pytest.param((without("proxy_set_header Host"),), ["host_replaced"], id="name of the upstream"),
        pytest.param(
            (without("proxy_set_header X-Forwarded-Proto"),), ["forwarded_proto_missing"], id="no X-Forwarded-Proto"
        ),
        pytest.param(
            # The page is then one of another site: Origin says http.
            (replaced(r"(X-Forwarded-Proto )\$scheme", r"\1https"),),
            ["forwarded_proto_wrong", "handshake_refused"],
            id="wrong scheme",
        ),
        pytest.param((without("proxy_set_header X-Forwarded-For"),), ["forwarded_for_missing"], id="no address"),
        pytest.param(
            (without("proxy_set_header X-Forwarded-For", "proxy_set_header X-Forwarded-Proto"),),
            ["forwarded_for_missing", "forwarded_proto_missing"],
            id="no forwarding headers at all",
        ),
        pytest.param((replaced(r"(location / \{)", r"\1 return 200 hello;"),), ["not_copydesk"], id="another answers"),
        pytest.param((replaced(r"(location / \{)", r"\1 return 302 /in;"),), ["redirected"], id="redirected"),
        pytest.param(
            (replaced(r"(location = /api/v1/realtime \{)", r"\1 return 403;"),), ["handshake_refused"], id="firewall"
        ),
        pytest.param(
            (replaced(EVENTS, r"\1 return 403;"),), ["stream_refused", "poll_refused"], id="events are refused"
        ),
        pytest.param((IMPATIENT,), ["poll_cut"], id="short proxy_read_timeout"),
    ],
)
async def test_it_names_what_is_wrong_in_nginx_and_that_the_direct_way_is_well(
    copydesk: Copydesk, start_nginx: StartNginx, edits: tuple[nginx.Edit, ...], codes: list[str]
) -> None:
    proxy = start_nginx(copydesk.server.port, *edits)
    asked = await ask(proxy.url, direct=copydesk.url, token=copydesk.token("bob"))
    assert (asked.codes, asked.well) == (codes, not codes)
    assert set(asked.marks("directly").values()) == {"ok"}
    assert ("Directly all is well" in asked.text) is bool(codes)
    for code in codes:
        for line in CATALOGUE[code].lines:
            assert filled(line, {"timeout": "90"}) in asked.text
    assert not re.search(r"\{\w+\}", asked.text)


@BEHIND
async def test_the_missing_headers_of_a_handshake_are_named_one_by_one(
    copydesk: Copydesk, start_nginx: StartNginx
) -> None:
    proxy = start_nginx(copydesk.server.port, without("proxy_set_header Connection"))
    text = (await ask(proxy.url)).text
    assert "arrives without Connection: Upgrade: a proxy" in text
    assert "Upgrade: websocket and" not in text


async def test_an_untrusted_proxy_is_named_with_its_address(copydesk: Copydesk, start_nginx: StartNginx) -> None:
    asked = await ask(start_nginx(copydesk.server.port).url)
    assert asked.codes == ["proxy_untrusted"]
    assert "COPYDESK_TRUSTED_PROXIES=127.0.0.1" in asked.text


@BEHIND
async def test_a_proxy_without_a_process_behind_it_and_nothing_at_all(
    copydesk: Copydesk, start_nginx: StartNginx
) -> None:
    proxy = start_nginx(1)
    assert (await ask(proxy.url)).codes == ["proxy_finds_nothing"]
    proxy.stop()
    asked = await ask(proxy.url, direct=copydesk.url)
    assert asked.codes == ["unreachable"]
    assert "Connection refused" in asked.text


@pytest.mark.parametrize("copydesk", [{"allowed_hosts": ("copydesk.example",)}], indirect=True)
async def test_a_name_that_copydesk_does_not_know_is_named_with_the_setting(copydesk: Copydesk) -> None:
    asked = await ask(copydesk.url)
    assert asked.codes == ["host_not_allowed"]
    assert "COPYDESK_ALLOWED_HOSTS=127.0.0.1" in asked.text


@pytest.mark.parametrize(
    ("copydesk", "code"),
    [
        ({"websockets_enabled": False}, "websockets_off"),
        ({"websockets_enabled": False, "fallback": "none"}, "updates_off"),
    ],
    indirect=["copydesk"],
)
async def test_what_is_switched_off_is_said_to_be(copydesk: Copydesk, code: str) -> None:
    asked = await ask(copydesk.url)
    assert asked.codes == [code]
    assert asked.marks()["WebSocket"] == "off"


async def test_a_bad_token_is_said_to_be_and_no_token_is_ever_shown(copydesk: Copydesk) -> None:
    token = copydesk.token("bob")
    good, bad = await ask(copydesk.url, token=token), await ask(copydesk.url, token=token + "x")
    assert bad.codes == ["token_refused"]
    assert token not in good.text + bad.text


@pytest.mark.parametrize("url", ["copydesk.example", "ftp://x", "http://", "http://x/y", "http://u:p@x", "http://x:y"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(CannotStart):
        await ask(url)


@BEHIND
@pytest.mark.parametrize(
    ("edits", "codes"),
    [((), []), ((without("proxy_set_header X-Forwarded-Proto"),), ["forwarded_proto_missing"])],
    ids=["as shipped", "no X-Forwarded-Proto"],
)
async def test_over_tls_a_certificate_that_is_not_trusted_is_named_and_gets_no_token(
    copydesk: Copydesk, start_nginx: StartNginx, tmp_path: Path, edits: tuple[nginx.Edit, ...], codes: list[str]
) -> None:
    renamed = replaced(r"copydesk\.example", "localhost")
    start_tls = (renamed, lambda text: with_tls(text, tmp_path / "nginx-1"), *edits)
    proxy = start_nginx(copydesk.server.port, *start_tls, own_name=False)
    asked = await ask(f"https://localhost:{proxy.tls_port}", token=copydesk.token("bob"))
    assert asked.codes == ["certificate", *codes]
    assert "self-signed" in asked.text.replace("self signed", "self-signed")
    assert asked.marks()["WebSocket"] == "ok"
    assert asked.marks()["Event stream"] == "-"
    assert (await ask(proxy.url.replace("127.0.0.1", "localhost"))).codes == ["redirected"]


# -- silence ----------------------------------------------------------------------------------------------------------


@QUICK_PINGS
async def test_a_short_read_timeout_is_found_by_waiting(copydesk: Copydesk, start_nginx: StartNginx) -> None:
    proxy = start_nginx(copydesk.server.port, IMPATIENT)
    asked = await ask(proxy.url, direct=copydesk.url, token=copydesk.token("bob"), quick=False)
    assert asked.codes == ["poll_cut", "idle_cut"]
    assert "proxy_read_timeout 90s;" in asked.text
    quiet = ["Quiet WebSocket", "Quiet event stream", "Quiet long poll"]
    assert [asked.marks()[name] for name in quiet] == ["BAD"] * 3
    assert [asked.marks("directly")[name] for name in quiet] == ["ok"] * 3


@QUICK_PINGS
async def test_without_a_token_silence_is_measured_until_the_server_asks_who_it_is(
    copydesk: Copydesk, start_nginx: StartNginx
) -> None:
    asked = await ask(start_nginx(copydesk.server.port, IMPATIENT).url, quick=False)
    assert asked.codes == ["idle_cut"]
    assert asked.marks()["Quiet event stream"] == "-"


def test_silence_is_measured_for_two_pings() -> None:
    assert duration(25) > 50
    assert duration(0.25) == 8


# -- the words --------------------------------------------------------------------------------------------------------


def test_every_line_to_write_into_nginx_stands_in_the_shipped_configuration() -> None:
    shipped = re.sub(r" +", " ", re.sub(r"#tls *", "", nginx.SHIPPED.read_text("utf-8")))
    seen = {"timeout": "90", "name": "copydesk.example"}
    for finding in findings.IN_BROWSER:
        for line in finding.lines:
            if not line.startswith(("#", "COPYDESK_")):
                assert re.sub(r" +", " ", filled(line, seen)) in shipped, finding.code


def test_every_finding_is_explained_on_its_page() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text("utf-8")
    assert re.findall(r"^### `(\w+)`", page, re.MULTILINE) == list(CATALOGUE)


def test_a_report_numbers_findings_and_names_each_once() -> None:
    found = Found(code="websockets_off")
    lines = report("Title", {"through a": Judged([], [found]), "directly at b": Judged([], [found])}, "Look there.")
    assert lines[0] == "Title"
    assert "1 thing to change" in lines
    assert "1. websockets_off (through a, directly at b)" in lines
    assert lines.index("Look there.") == lines.index("1 thing to change") + 1


def test_what_was_not_seen_shows_as_a_hole() -> None:
    assert filled("{a} and {b}", {"a": "1"}) == "1 and {b}"


async def test_a_way_past_the_proxy_uses_the_name_that_users_know(copydesk: Copydesk) -> None:
    way = Way(copydesk.url, public_url="https://localhost:8443")
    reached = await way.reached()
    way.close()
    assert reached.body["host"] == "localhost:8443"
