"""A disk that is full costs time, nothing acknowledged: with room again the log goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.cli.local.broker import broker_command, wait_for_broker
from streams.cli.local.child import running_child
from streams.cli.local.ports import free_ports
from streams.demo.simulate_listeners import simulate
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader
from tests.broker.workers import instance
from topology.graph import build_graph
from topology.settings import LOOPBACK

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

TOPIC = "filled"
RECORD = b"x" * 20_000
LIMIT_BYTES = 24_000_000
"""A file may not grow beyond: to the broker it is a write that fails, as on a full disk."""

LIMITED = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES}))
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _write(bootstrap: str, numbers: range, seconds: int) -> set[int]:
    """Which of these the broker acknowledged, each a record that has its number as key."""
    acknowledged = set[int]()
    writer = producer(
        bootstrap,
        **{"message.timeout.ms": seconds * 1000, "compression.type": "none", "log_level": 0},
    )
    for number in numbers:

        def delivered(error: object, _: object, number: int = number) -> None:
            if error is None:
                acknowledged.add(number)

        writer.produce(TOPIC, RECORD, str(number).encode(), on_delivery=delivered)
        writer.poll(0)
    writer.flush(seconds + 5)
    return acknowledged


def test_what_was_acknowledged_outlives_a_full_disk(tmp_path: Path) -> None:
    port, controller = free_ports(2)
    bootstrap = f"{LOOPBACK}:{port}"
    argv, environment = broker_command(tmp_path / "home", port, controller)
    limited = [sys.executable, "-c", LIMITED, *argv]
    sent = range(2 * LIMIT_BYTES // len(RECORD))
    with running_child(limited, environment, tmp_path / "broker.log", 30.0):
        wait_for_broker(bootstrap)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
        acknowledged = _write(bootstrap, sent, 20)
        assert 500 < len(acknowledged) < len(sent), "more than there is room for"

    with running_child(argv, environment, tmp_path / "broker.log", 30.0):
        wait_for_broker(bootstrap)
        more = _write(bootstrap, range(len(sent), len(sent) + 500), 60)
        assert len(more) == 500
        with LogReader(bootstrap) as logs:
            first, end = logs.bounds(TOPIC, 0)
            keys = [int(r.key()) for records in logs.span(TOPIC, 0, first, end) for r in records]
    assert acknowledged | more <= set(keys)
    assert len(keys) == len(set(keys))


def test_the_demos_listeners_wait_for_room(tmp_path: Path) -> None:
    with instance(tmp_path / "instance") as settings:
        told: list[str] = []
        full = settings.model_copy(update={"disk_reserve": 2**62})
        graph = build_graph(settings.event_partitions)
        truth = simulate(full, graph, seconds=3, report=told.append)
        assert truth.events == 0
        assert any("less than DISK_RESERVE" in line for line in told)
