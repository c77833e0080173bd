"""The embedded broker: real, strict about topics, and durable through kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from streams.cli.local.broker import BrokerError, broker_command, wait_for_broker
from streams.cli.local.ports import free_ports
from topology.settings import LOOPBACK

pytestmark = pytest.mark.broker


def _create(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)


def _produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    failures: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 40_000_000})
    for value in values:
        producer.produce(
            topic, value, on_delivery=lambda error, _: failures.append(error) if error else None
        )
    assert producer.flush(30) == 0
    if failures:
        raise KafkaException(failures[0])


def _read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes | None] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        found += [message.value() for message in consumer.consume(count, 0.5)]
    consumer.close()
    return found


def test_topics_are_not_created_by_using_them(broker: str) -> None:
    name = f"undeclared-{uuid.uuid4().hex}"
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": uuid.uuid4().hex,
            "allow.auto.create.topics": True,
        }
    )
    consumer.subscribe([name])
    consumer.poll(1.0)
    consumer.close()
    assert name not in AdminClient({"bootstrap.servers": broker}).list_topics(timeout=10).topics


def test_large_messages_pass_and_the_log_keeps_them_for_ever(broker: str) -> None:
    name = f"large-{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": broker})
    topic = NewTopic(name, 1, 1, config={"max.message.bytes": str(16 * 2**20)})
    admin.create_topics([topic])[name].result(30)
    value = os.urandom(12 * 2**20)
    _produce(broker, name, [value])
    assert _read(broker, name, 1) == [value]
    resource = ConfigResource("topic", name)
    config = admin.describe_configs([resource])[resource].result(30)
    assert config["retention.ms"].value == "-1"


def test_data_and_offsets_survive_kill_9_and_a_change_of_port(tmp_path: Path) -> None:
    values = [f"record {number}".encode() for number in range(500)]

    def started() -> tuple[subprocess.Popen[Any], str]:
        port, controller_port = free_ports(2)
        argv, extra = broker_command(tmp_path, port, controller_port)
        process = subprocess.Popen(argv, env={**os.environ, **extra}, stdout=subprocess.DEVNULL)
        wait_for_broker(f"{LOOPBACK}:{port}", 60)
        return process, f"{LOOPBACK}:{port}"

    process, bootstrap = started()
    try:
        _create(bootstrap, "kept")
        _produce(bootstrap, "kept", values)
        group = Consumer({"bootstrap.servers": bootstrap, "group.id": "readers"})
        group.commit(offsets=[TopicPartition("kept", 0, 123)], asynchronous=False)
        group.close()
        process.send_signal(signal.SIGKILL)
        process.wait(10)

        process, bootstrap = started()
        assert _read(bootstrap, "kept", 500) == values
        group = Consumer({"bootstrap.servers": bootstrap, "group.id": "readers"})
        (committed,) = group.committed([TopicPartition("kept", 0)], timeout=20)
        group.close()
        assert committed.offset == 123
    finally:
        process.kill()
        process.wait(10)


def test_waiting_for_nobody_ends_in_a_sentence() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BrokerError, match=f"No broker answered at {LOOPBACK}:{port}"):
        wait_for_broker(f"{LOOPBACK}:{port}", 0.5)
