"""A worker that has nothing to do, or little, has no errors to log, and says how it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from streams.cli.local.ports import free_ports
from streams.kafka.clients import producer
from streams.monitoring.tracing import TRACEPARENT
from tests.broker.workers import alive, instance, records, start
from tests.waiting import wait_until

pytestmark = pytest.mark.broker

SOURCE, DEAD = "episode-candidates", "episode-candidates.dlq"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IDLE_S = 6.0
"""Three times as long as the worker's Faust is patient."""


def told(port: int) -> dict[str, float]:
    """The metrics of the stage, by name."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("stage") == "unite_episodes"
    }


def test_an_idle_worker_logs_no_error(tmp_path: Path) -> None:
    """One partition gets nothing at all, the other one something now and then."""
    log = tmp_path / "worker.log"
    (port,) = free_ports(1)
    with instance(tmp_path) as settings, log.open("wb") as output:
        process = start(
            settings,
            "impatient_worker.py",
            output=output,
            stages="unite_episodes",
            metrics_port=port,
            log_format="json",
        )
        writer = producer(settings.kafka_bootstrap_servers)
        try:
            for number in range(1, 4):
                writer.produce(SOURCE, b"garbage", partition=0, headers=[(TRACEPARENT, TRACE)])
                assert writer.flush(30) == 0
                wait_until(
                    lambda number=number: records(settings, DEAD) == number,  # type: ignore[misc]
                    60,
                    "a dead letter",
                    check=lambda: alive(process),
                )
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(IDLE_S)
            for path in ("health", "ready"):
                answer = requests.get(f"http://127.0.0.1:{port}/{path}", timeout=10)
                assert (answer.status_code, answer.text) == (200, "ok\n")
            metrics = told(port)
            assert metrics["podstream_stage_dead_letters_total"] == 3
            assert metrics["podstream_stage_records_total"] == 3
            assert metrics["podstream_stage_latency_seconds_count"] == 3
            assert metrics["podstream_stage_ready"] == 1
            assert metrics["podstream_stage_partitions"] > 0
        finally:
            process.kill()
            process.wait()
    assert "ERROR" not in log.read_text(), log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    refusals = [line for line in lines if "goes to the dead-letter topic" in line["message"]]
    assert [(line["process"], line["stage"], line["trace_id"]) for line in refusals] == [
        ("ingest", "unite_episodes", TRACE[3:35].decode())
    ] * 3
