"""A process is asked for metrics, health and readiness over a real socket."""

from __future__ import annotations

import socket

import pytest
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from streams.cli.local.ports import free_ports
from streams.monitoring.instruments import Measured, family
from streams.monitoring.server import serve
from topology.monitoring.metrics import LAG
from topology.settings import LOOPBACK, Settings


def test_a_process_without_a_port_answers_nobody() -> None:
    assert serve(Settings(), "track", registry=CollectorRegistry()) is None


def test_metrics_are_measured_when_asked_and_checks_say_what_is_missing() -> None:
    (port,) = free_ports(1)
    registry = CollectorRegistry()
    missing: list[str] = ["track waits for its partitions", "track has 2 states to restore"]
    measured = [5, 7]
    registry.register(Measured(lambda: [family(LAG, {("track",): measured.pop(0)})]))
    server = serve(Settings(metrics_port=port), "track", ready=lambda: missing, registry=registry)
    assert server is not None

    def get(path: str) -> requests.Response:
        return requests.get(f"http://{LOOPBACK}:{port}{path}", timeout=10)

    def told(name: str) -> dict[str, float]:
        families = text_string_to_metric_families(get("/metrics").text)
        return {
            s.labels.get("stage", ""): s.value
            for f in families
            for s in f.samples
            if s.name == name
        }

    with socket.create_connection((LOOPBACK, port)):
        pass  # somebody who says nothing
    assert [told(LAG.name), told(LAG.name)] == [{"track": 5.0}, {"track": 7.0}]
    assert get("/health").status_code == 200
    answer = get("/ready")
    assert (answer.status_code, answer.text.splitlines()) == (503, missing)
    missing.clear()
    assert get("/ready").text == "ok\n"
    assert get("/").status_code == 404
    with pytest.raises(OSError, match="in use"):
        serve(Settings(metrics_port=port), "other", registry=CollectorRegistry())
    server.server_close()
