"""A real broker with preloaded events, and processes whose time and memory are watched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from live_path.events import Events, Generator

from streams.cli.local.ports import free_ports
from streams.kafka.clients import producer, reader
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry, topic_registry
from topology.apply import apply_topology
from topology.graph import app_id, build_graph
from topology.settings import Settings
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS

ROOT = Path(__file__).parents[2]
SOURCE, BATCHES = USER_EVENTS.name, USER_EVENT_BATCHES.name
TIMEOUT_S = 60.0
SAMPLE_S = 0.2


class BenchmarkError(RuntimeError):
    """Something did not come to an end, or the figures are wrong."""


def say(text: str) -> None:
    """Progress, beside the JSON."""
    print(text, file=sys.stderr, flush=True)


class Totals:
    """What was produced, for comparison with what is in the outputs."""

    def __init__(self) -> None:
        self.events = self.plays = self.heard_ms = 0

    def add(self, events: Events) -> None:
        """Count events that have been sent."""
        self.events += len(events.values)
        self.plays += events.plays
        self.heard_ms += events.heard_ms


class Cluster:
    """The topics of a deployment on a broker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bootstrap = settings.kafka_bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        self._graph = build_graph(settings.event_partitions)
        apply_topology(settings, open_registry(settings), mongo=False)
        self.registry = topic_registry(self.bootstrap)
        self.schema_id = self.registry.id_of(f"{SOURCE}-value")

    def preload(self, topic: str, generator: Generator, count: int) -> Totals:
        """Produce events as fast as the broker takes them."""
        totals = Totals()
        out = producer(
            self.bootstrap,
            **{"linger.ms": 20, "queue.buffering.max.messages": 1_000_000, "log_level": 0},
        )
        for events in generator.chunks(count):
            pairs = zip(events.values, events.users, strict=True)
            out.produce_batch(topic, [{"value": value, "key": user} for value, user in pairs])
            totals.add(events)
            out.poll(0)
            while len(out) > 500_000:
                out.poll(0.1)
        if left := out.flush(TIMEOUT_S):
            raise BenchmarkError(f"{left} events did not reach the broker")
        if sum(self.ends(topic).values()) != totals.events:
            raise BenchmarkError(f"{topic} does not hold the events that were produced")
        return totals

    def create(self, topic: str) -> None:
        """A topic of as many partitions as the events have."""
        partitions = self.settings.event_partitions
        for made in self._admin.create_topics([NewTopic(topic, partitions)]).values():
            made.result()

    def reset(self) -> None:
        """Delete everything that was made of the events; the events stay."""
        made = set(self._graph.topics) - {SOURCE, "_schemas"}
        for deleted in self._admin.delete_topics(list(made)).values():
            deleted.result()
        for group in self._admin.list_consumer_groups().result().valid:
            self._forget(group.group_id)
        deadline = time.monotonic() + TIMEOUT_S
        while made.intersection(self._admin.list_topics(timeout=10).topics):
            if time.monotonic() > deadline:
                raise BenchmarkError("topics were not deleted")
            time.sleep(0.2)
        apply_topology(self.settings, open_registry(self.settings), mongo=False)

    def _forget(self, group: str) -> None:
        """Delete a group; one that was killed has members for a while."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._admin.delete_consumer_groups([group])[group].result()
            except KafkaException as error:
                if (
                    error.args[0].code() != KafkaError.NON_EMPTY_GROUP
                    or time.monotonic() > deadline
                ):
                    raise
                time.sleep(0.5)

    def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record of each partition."""
        with LogReader(self.bootstrap) as logs:
            return logs.ends(topic)

    def committed(self, stage: str, topic: str) -> dict[int, int]:
        """How far the group of a stage has acknowledged a topic, by partition."""
        consumer = reader(self.bootstrap, self._group(stage))
        try:
            wanted = [TopicPartition(topic, n) for n in range(self.settings.event_partitions)]
            return {p.partition: p.offset for p in consumer.committed(wanted, timeout=TIMEOUT_S)}
        finally:
            consumer.close()

    def wait_for_group(
        self, stage: str, topic: str, processes: Processes, timeout_s: float
    ) -> None:
        """Until the group of a stage has acknowledged all of a topic."""

        def caught_up() -> bool:
            return self.committed(stage, topic) == self.ends(topic)

        processes.wait(caught_up, f"{stage} has read {topic}", timeout_s)

    def _group(self, stage: str) -> str:
        return app_id(self._graph.stages[stage])

    def wait_for_members(
        self, stages: Sequence[str], processes: Processes, workers: int = 1
    ) -> None:
        """Until the groups of the stages share out every partition among so many workers."""
        groups = [self._group(stage) for stage in stages]

        def shared_out() -> bool:
            described = self._admin.describe_consumer_groups(groups).values()
            shares = [
                [len(member.assignment.topic_partitions) for member in group.result().members]
                for group in described
            ]
            return all(
                sum(share) >= self.settings.event_partitions and len(share) == workers
                for share in shares
            )

        processes.wait(shared_out, "the worker has its partitions", TIMEOUT_S)


class Processes:
    """Processes that end with the block, their processor time and memory sampled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.podstream_home
        self._running: dict[str, subprocess.Popen] = {}
        self._watched: dict[str, psutil.Process] = {}
        self._before: dict[str, float] = {}
        self._peak: dict[str, int] = {}
        self._ended = threading.Event()

    def watch(self, name: str, pid: int) -> None:
        """Also sample a process that was started elsewhere."""
        self._watched[name] = psutil.Process(pid)

    def start_worker(self, stages: Sequence[str]) -> None:
        """A Faust worker of these stages."""
        (port,) = free_ports(1)
        options = ["--datadir", str(self._home / "worker"), "worker"]
        self.start(
            "worker",
            ["-m", "faust", "-A", "streams.app", *options, "--web-port", str(port), "-l", "warn"],
            {"PODSTREAM_STAGES": ",".join(stages)},
        )

    def start(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start Python in the checkout."""
        environment = {
            **os.environ,
            "PODSTREAM_HOME": str(self._home),
            "KAFKA_BOOTSTRAP_SERVERS": self._settings.kafka_bootstrap_servers,
            "EVENT_PARTITIONS": str(self._settings.event_partitions),
            **(environment or {}),
        }
        with (self._home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *argv],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._running[name] = process
        self.watch(name, process.pid)

    def wait(self, done: Any, what: str, timeout_s: float, every_s: float = 0.2) -> None:
        """Return once ``done()``; BenchmarkError if a process ends before, or time runs out."""
        deadline = time.monotonic() + timeout_s
        while not done():
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise BenchmarkError(f"{name} ended: {self.log(name)[-2000:]}")
            if time.monotonic() > deadline:
                logs = {name: self.log(name)[-1000:] for name in self._running}
                raise BenchmarkError(f"waited {timeout_s:.0f} s in vain until {what}: {logs}")
            time.sleep(every_s)

    def log(self, name: str) -> str:
        """What a process has printed so far."""
        return (self._home / f"{name}.log").read_text(errors="replace")

    def mark(self) -> None:
        """Count processor time from now on."""
        self._before = {name: _cpu_s(process) for name, process in self._watched.items()}

    def usage(self) -> dict[str, dict[str, float]]:
        """Processor seconds since `mark`, and the most memory ever held, of each process."""
        return {
            name: {
                "cpu_s": round(_cpu_s(process) - self._before.get(name, 0.0), 2),
                "peak_rss_mib": round(self._peak.get(name, 0) / 2**20),
            }
            for name, process in self._watched.items()
        }

    def sample(self) -> None:
        """Note the processes' memory until they have ended."""
        while not self._ended.wait(SAMPLE_S):
            for name, process in list(self._watched.items()):
                try:
                    memory = process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                self._peak[name] = max(self._peak.get(name, 0), memory)

    def end(self) -> None:
        """Stop the processes, by force after 20 seconds."""
        self._ended.set()
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running_processes(settings: Settings) -> Iterator[Processes]:
    """Processes that end with the block."""
    processes = Processes(settings)
    threading.Thread(target=processes.sample, daemon=True).start()
    try:
        yield processes
    finally:
        processes.end()


def broker_pid(port: int) -> int:
    """The process that listens on a port of this machine; BenchmarkError if there is none."""
    for child in psutil.Process().children(recursive=True):
        for connection in child.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return child.pid
    raise BenchmarkError(f"nobody listens on port {port}")


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
