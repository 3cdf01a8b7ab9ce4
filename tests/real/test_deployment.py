"""What is shipped for operators fits the server: names of settings, ports, times."""

from __future__ import annotations

import re
from pathlib import Path

from app.settings import Settings, describe

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "deploy" / "copydesk.service").read_text(encoding="utf-8")
NGINX = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("behind-nginx.md", "deployment.md")}


def test_every_setting_that_is_named_exists() -> None:
    known = {setting.variable for setting in describe()}
    for text in (UNIT, NGINX, *PAGES.values()):
        named = set(re.findall(r"COPYDESK_[A-Z_]+", text))
        assert named
        assert named <= known


def test_the_unit_and_nginx_speak_of_the_same_ports() -> None:
    upstreams = re.findall(r"^    server 127\.0\.0\.1:(\d+) ", NGINX, re.MULTILINE)
    (started,) = re.findall(r"systemctl enable --now (.*)", UNIT)
    assert started.split() == [f"copydesk@{port}" for port in upstreams]
    assert started in PAGES["deployment.md"]
    assert int(upstreams[0]) == Settings(auth_secret="s" * 32).port


def test_the_times_are_in_the_order_that_they_must_have() -> None:
    settings = Settings(auth_secret="s" * 32)
    timeouts = [int(text) for text in re.findall(r"proxy_read_timeout (\d+)s;", NGINX)]
    assert len(timeouts) == 2
    assert min(timeouts) > 3 * settings.ping_seconds
    assert int(re.findall(r"send_timeout (\d+)s;", NGINX)[0]) > settings.max_pending_seconds
    assert int(re.findall(r"TimeoutStopSec=(\d+)", UNIT)[0]) > 10 > settings.drain_seconds
    assert int(re.findall(r"limit_conn copydesk_address (\d+);", NGINX)[0]) > settings.max_connections_per_address
    assert int(re.findall(r"LimitNOFILE=(\d+)", UNIT)[0]) > settings.max_connections


def test_every_line_of_nginx_that_the_page_explains_is_shipped() -> None:
    table = PAGES["behind-nginx.md"].partition("## What each line does")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `([a-z_]+)", table, re.MULTILINE)
    assert len(explained) > 8
    for word in explained:
        assert re.search(rf"\b{word}\b", NGINX), word
