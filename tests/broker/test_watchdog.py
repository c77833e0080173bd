"""A worker that lives but no longer works ends by itself, with one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka import CRASH_EXIT_CODE, end_offsets, producer, reader
from topology.apply import apply_topology
from topology.embedded.broker import running_broker
from topology.embedded.ports import free_ports
from topology.settings import Settings

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
SOURCE, DEAD = "user-event-batches", "user-event-batches.dlq"
SENTENCES = {"fetching": "has read nothing for", "loop": "the event loop has stood still"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("watchdog")
    with running_broker(home) as bootstrap:
        settings = Settings(
            podstream_home=home, kafka_bootstrap_servers=bootstrap, event_partitions=2
        )
        apply_topology(settings, mongo=False)
        yield settings


@pytest.mark.parametrize("how", SENTENCES)
def test_a_worker_that_stands_still_ends(settings: Settings, how: str, tmp_path: Path) -> None:
    marker, log = tmp_path / "stand-still", tmp_path / "worker.log"
    with log.open("wb") as output:
        process = _start(settings, how, marker, output)
        try:
            _write_garbage(settings)
            _wait_for_dead_letters(settings, process)
            # idle, with everything read: nothing to complain of
            time.sleep(5)
            assert process.poll() is None, log.read_text()
            marker.touch()
            time.sleep(1)
            _write_garbage(settings)
            assert process.wait(60) == CRASH_EXIT_CODE
        finally:
            process.kill()
            process.wait()
    lines = [line for line in log.read_text().splitlines() if SENTENCES[how] in line]
    assert len(lines) == 1, log.read_text()


def _start(settings: Settings, how: str, marker: Path, output: object) -> subprocess.Popen:
    (port,) = free_ports(1)
    script = Path(__file__).with_name("stalling_worker.py")
    return subprocess.Popen(
        [sys.executable, str(script), how, str(marker), str(port)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PODSTREAM_HOME": str(settings.podstream_home),
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "EVENT_PARTITIONS": str(settings.event_partitions),
            "PODSTREAM_STAGES": "track_listening",
        },
        cwd=ROOT,
        stdout=output,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
    )


def _write_garbage(settings: Settings) -> None:
    """What a stage puts aside at once: enough to see that it works."""
    writer = producer(settings.kafka_bootstrap_servers)
    for partition in range(settings.event_partitions):
        writer.produce(SOURCE, b"garbage", partition=partition)
    assert writer.flush(30) == 0


def _wait_for_dead_letters(settings: Settings, process: subprocess.Popen) -> None:
    """Until there are as many dead letters as there is garbage."""
    consumer = reader(settings.kafka_bootstrap_servers)
    deadline = time.monotonic() + 60
    while sum(end_offsets(consumer, DEAD).values()) < sum(end_offsets(consumer, SOURCE).values()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    consumer.close()
