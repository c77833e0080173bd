"""A worker that has nothing to do, or little, has no errors to log."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from streams.kafka.clients import producer
from tests.broker.workers import alive, instance, records, start
from tests.waiting import wait_until

pytestmark = pytest.mark.broker

SOURCE, DEAD = "episode-candidates", "episode-candidates.dlq"
IDLE_S = 6.0
"""Three times as long as the worker's Faust is patient."""


def test_an_idle_worker_logs_no_error(tmp_path: Path) -> None:
    """One partition gets nothing at all, the other one something now and then."""
    log = tmp_path / "worker.log"
    with instance(tmp_path) as settings, log.open("wb") as output:
        process = start(settings, "impatient_worker.py", output=output, stages="unite_episodes")
        writer = producer(settings.kafka_bootstrap_servers)
        try:
            for number in range(1, 4):
                writer.produce(SOURCE, b"garbage", partition=0)
                assert writer.flush(30) == 0
                wait_until(
                    lambda number=number: records(settings, DEAD) == number,  # type: ignore[misc]
                    60,
                    "a dead letter",
                    check=lambda: alive(process),
                )
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(IDLE_S)
        finally:
            process.kill()
            process.wait()
    assert "goes to the dead-letter topic" in log.read_text()
    assert "ERROR" not in log.read_text(), log.read_text()
