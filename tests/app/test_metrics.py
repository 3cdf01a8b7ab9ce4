"""The metrics: named and explained as Prometheus expects, and with labels that clients cannot choose."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics


def test_every_metric_is_ours_by_name_and_says_what_it_is() -> None:
    families = list(Metrics().registry.collect())
    assert families
    for family in families:
        assert family.name.startswith("copydesk_")
        assert family.documentation.endswith(".")


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.frames_out.inc()
    assert one.registry.get_sample_value("copydesk_frames_out_total") == 1
    assert other.registry.get_sample_value("copydesk_frames_out_total") == 0


def test_what_is_rendered_can_be_read_back() -> None:
    metrics = Metrics()
    metrics.request("GET", "/api/v1/projects/{project_id}", 200, 0.02)
    metrics.closes.labels("4001").inc()
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
    labels = (("method", "GET"), ("route", "/api/v1/projects/{project_id}"), ("status", "200"))
    assert samples[("copydesk_request_seconds_count", labels)] == 1
    assert samples[("copydesk_request_seconds_sum", labels)] == 0.02
    assert samples[("copydesk_closes_total", (("code", "4001"),))] == 1


def test_invented_methods_do_not_become_labels() -> None:
    metrics = Metrics()
    for method in ("BREW", "BREW2", ""):
        metrics.request(method, "", 405, 0.0)
    labels = {"method": "other", "route": "none", "status": "405"}
    assert metrics.registry.get_sample_value("copydesk_request_seconds_count", labels) == 3
