"""A real Kafka broker: one KRaft node on the loopback interface."""

from __future__ import annotations

import base64
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from jobs.spark_jars import classpath
from streams.cli.local.child import running_child
from streams.cli.local.ports import free_ports
from topology.java import require_java
from topology.settings import LOOPBACK

_MEGABYTE = 1_048_576
_LOGGING = Path(__file__).with_name("log4j2.xml")
STOP_TIMEOUT_S = 30.0
OFFSETS_PARTITIONS = 5


class BrokerError(RuntimeError):
    """The broker did not come up; the message says where to look."""


def broker_properties(home: Path, port: int, controller_port: int) -> dict[str, str]:
    """The broker's `server.properties`. Topics carry their own settings; these are the rest."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # voters by configuration, not in the metadata log: the port may differ at the next start
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(home / "kafka" / "data"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": str(OFFSETS_PARTITIONS),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "5",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "5",
        "group.initial.rebalance.delay.ms": "0",
        # what a group has read is part of the state: it does not expire while we are switched off
        "offsets.retention.minutes": str(2**31 - 1),
        # after kill -9 the next start waits until the former registration has expired
        "broker.session.timeout.ms": "5000",
        "broker.heartbeat.interval.ms": "1000",
        "log.retention.ms": "-1",
        "message.max.bytes": str(32 * _MEGABYTE),
        "replica.fetch.max.bytes": str(32 * _MEGABYTE),
        # whether an event's time is plausible is judged by a stage, not by the broker
        "log.message.timestamp.after.max.ms": str(2**63 - 1),
        # index files are allocated in full
        "log.segment.bytes": str(256 * _MEGABYTE),
        "log.index.size.max.bytes": str(2 * _MEGABYTE),
        "log.retention.check.interval.ms": "60000",
        # the broker's own topics: the newest segment of committed offsets is never compacted, and
        # the metadata's log begins anew by whole segments; an idle one says so twice a second
        "offsets.topic.segment.bytes": str(4 * _MEGABYTE),
        "metadata.log.segment.bytes": str(8 * _MEGABYTE),
        "metadata.max.retention.bytes": str(16 * _MEGABYTE),
        "metadata.max.idle.interval.ms": "5000",
        "log.cleaner.dedupe.buffer.size": str(32 * _MEGABYTE),
        "num.recovery.threads.per.data.dir": "2",
    }


def broker_command(home: Path, port: int, controller_port: int) -> tuple[list[str], dict[str, str]]:
    """Prepare ``home/kafka`` (format it at the first start); give argv and extra environment.

    Data of an earlier start is kept, also after kill -9. Raises JavaError, JarsError, BrokerError.
    """
    java = require_java()
    path = classpath("kafka")
    folder = home / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    properties = folder / "server.properties"
    wanted = broker_properties(home, port, controller_port)
    properties.write_text("".join(f"{key}={value}\n" for key, value in wanted.items()))
    if not (folder / "data" / "meta.properties").exists():
        _format(java, path, properties)
    argv = [java, "-Xms128m", "-Xmx512m", "-XX:+UseParallelGC"]
    argv += ["-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"]
    argv += [f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", path]
    argv += ["kafka.Kafka", str(properties)]
    return argv, {}


def _format(java: str, path: str, properties: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    argv = [java, "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", path]
    # `=` keeps an id that starts with a dash from being taken for an option
    argv += ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise BrokerError(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")


def wait_for_broker(bootstrap: str, timeout_s: float = 60.0) -> None:
    """Return once a broker answers at ``bootstrap`` and coordinates groups.

    Raises BrokerError after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    # log_level 0 (emergencies): refused connections are what we are waiting out
    admin = AdminClient(
        {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 250}
    )
    while time.monotonic() < deadline:
        try:
            if admin.list_topics(timeout=1.0).brokers and _coordinates(bootstrap):
                return
        except KafkaException:
            time.sleep(0.1)
    raise BrokerError(f"No broker answered at {bootstrap} within {timeout_s:.0f} s.")


def _coordinates(bootstrap: str) -> bool:
    """Whether groups can be used; raises KafkaException while they cannot.

    A new broker makes the topic of committed offsets at the first request, and answers "not
    coordinator" until each of its partitions is loaded. Java's hash of names that differ in the
    last digit only is consecutive, so these groups touch every partition.
    """
    for number in range(OFFSETS_PARTITIONS):
        group = {"group.id": f"ready-{number}", "log_level": 0}
        consumer = Consumer({"bootstrap.servers": bootstrap, **group})
        try:
            consumer.committed([TopicPartition("any", 0)], timeout=2.0)
        finally:
            consumer.close()
    return True


@contextmanager
def running_broker(
    home: Path, port: int | None = None, controller_port: int | None = None
) -> Iterator[str]:
    """A broker for as long as the block lasts; gives its bootstrap servers. For tests.

    Ports left out are free ones. Its log is ``home/logs/broker.log``.
    """
    free = free_ports(2)
    port, controller_port = port or free[0], controller_port or free[1]
    argv, environment = broker_command(home, port, controller_port)
    log_file = home / "logs" / "broker.log"
    with running_child(argv, environment, log_file, STOP_TIMEOUT_S) as process:
        bootstrap = f"{LOOPBACK}:{port}"
        _wait_for_start(process, bootstrap, log_file)
        yield bootstrap


def _wait_for_start(process: subprocess.Popen[Any], bootstrap: str, log_file: Path) -> None:
    for _ in range(24):
        if process.poll() is not None:
            raise BrokerError(f"The broker ended with code {process.returncode}: see {log_file}")
        try:
            return wait_for_broker(bootstrap, 5.0)
        except BrokerError:
            continue
    raise BrokerError(f"The broker did not come up at {bootstrap}: see {log_file}")
