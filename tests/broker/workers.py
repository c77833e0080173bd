"""Worker processes on a broker of their own; dead letters of garbage show that they work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import SecretStr

from streams.cli.local.broker import running_broker
from streams.cli.local.instance import environment
from streams.cli.local.ports import free_ports
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from tests.paths import ROOT
from topology.apply import apply_topology
from topology.graph import build_graph
from topology.settings import Settings

SOURCE, DEAD = "user-event-batches", "user-event-batches.dlq"


@contextmanager
def instance(home: Path, mongo_uri: str = "") -> Iterator[Settings]:
    """A broker with two partitions of events, and a database of its own on a MongoDB server."""
    with running_broker(home) as bootstrap:
        settings = Settings(
            podstream_home=home, kafka_bootstrap_servers=bootstrap, event_partitions=2
        )
        if mongo_uri:
            database = {"mongodb_uri": SecretStr(mongo_uri), "mongodb_database": home.name}
            settings = settings.model_copy(update=database)
        apply_topology(settings, open_registry(settings), mongo=bool(mongo_uri))
        yield settings


def start(
    settings: Settings,
    script: str,
    *args: str,
    output: IO[bytes],
    stages: str = "track_listening",
    metrics_port: int = 0,
    log_format: str = "text",
) -> subprocess.Popen[Any]:
    """Start a script of this folder, a worker of these stages; its last argument is a port."""
    (port,) = free_ports(1)
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(script)), *args, str(port)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PODSTREAM_HOME": str(settings.podstream_home),
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "EVENT_PARTITIONS": str(settings.event_partitions),
            "PODSTREAM_STAGES": stages,
            "METRICS_PORT": str(metrics_port),
            "LOG_FORMAT": log_format,
        },
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def list_maker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of `recommend` and `serve_mongo`."""
    home, (port,) = settings.podstream_home, free_ports(1)
    argv = [sys.executable, "-m", "faust", "-A", "streams.app", "--datadir", str(home / "worker")]
    stages = {"PODSTREAM_STAGES": "recommend,serve_mongo"}
    with (home / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*argv, "worker", "--web-port", str(port), "--loglevel", "warn"],
            env={**os.environ, **environment(settings), **stages},
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
            alive(process)
        finally:
            process.kill()
            process.wait()


class StageWriter:
    """Writes records as stages do."""

    def __init__(self, settings: Settings):
        graph = build_graph(settings.event_partitions)
        self._wire = Wire(graph, open_registry(settings))
        self._producer = producer(settings.kafka_bootstrap_servers)

    def write(self, topic: str, value: Any, key: str | None = None, partition: int = -1) -> None:
        """Write a record; return once it is in the log."""
        encoded = self._wire.encode(topic, value)
        self._producer.produce(topic, encoded, key=key, partition=partition)
        assert self._producer.flush(30) == 0


def alive(process: subprocess.Popen[bytes]) -> None:
    """AssertionError if a process has ended."""
    assert process.poll() is None, f"the process ended with {process.returncode}"


def write_garbage(settings: Settings, each: int = 1) -> None:
    """What a stage puts aside at once, so many records a partition."""
    writer = producer(settings.kafka_bootstrap_servers)
    for partition in range(settings.event_partitions):
        for _ in range(each):
            writer.produce(SOURCE, b"garbage", partition=partition)
    assert writer.flush(30) == 0


def records(settings: Settings, topic: str) -> int:
    """How many records a topic has got."""
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        return sum(logs.ends(topic).values())
