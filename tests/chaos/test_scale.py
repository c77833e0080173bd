"""One worker, four, two, while events come: no count is off, and no partition waits for long."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from schemas.codec import RecordCodec
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.message import Message
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire
from tests.chaos.processes import Processes
from tests.oracle import readers
from tests.waiting import wait_until
from topology.graph import app_id, build_graph, state_topic
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

PARTITIONS = 4
STAGES = ("track_engagement", "track_listening")
SOURCE, WINDOWS, DAILY = "user-events", "engagement-windows", "user-episode-daily"
COUNTED = {"impression": "impressions", "click": "clicks", "play": "plays", "complete": "completes"}
SUMS = (*COUNTED.values(), "heard_ms")

TICK_S = 0.1
EVENTS_A_TICK = 40
SESSION_S = 10.0
"""After which the broker takes a worker for dead (`streams.app`)."""

RECOVERY_S = 5.0
SLACK_S = 10.0
"""Four workers, a batcher, a broker and this test share a small machine."""


class Load(threading.Thread):
    """Writes events to every partition until told to stop, and counts what they add up to."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="load", daemon=True)
        registry = topic_registry(settings.kafka_bootstrap_servers)
        self._codec = RecordCodec(SOURCE, "user_event", registry)
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._stopping = threading.Event()
        self.written = 0
        self.windows: dict[tuple[Any, ...], Counter[Any]] = {}
        self.days: dict[tuple[Any, ...], Counter[Any]] = {}

    def run(self) -> None:
        while not self._stopping.wait(TICK_S):
            for _ in range(EVENTS_A_TICK):
                self._write()
            self._producer.poll(0)
        assert self._producer.flush(30) == 0

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _write(self) -> None:
        number = self.written = self.written + 1
        user, episode = f"u{number % 300}", f"pi:{number % 70}"
        kind = (*COUNTED, "progress")[number % 5]
        at = datetime.now(UTC).replace(microsecond=0)
        heard_ms = number * 7919 % 60_000
        for counts in (
            self.windows.setdefault((episode, at.replace(second=0)), Counter()),
            self.days.setdefault((user, episode, at.date()), Counter()),
        ):
            counts["heard_ms"] += heard_ms
            if kind in COUNTED:
                counts[COUNTED[kind]] += 1
        event = {
            "event_id": f"e{number}",
            "user_id": user,
            "episode_id": episode,
            "kind": kind,
            "occurred_at": at,
            "heard_ms": heard_ms,
        }
        self._producer.produce(SOURCE, self._codec.encode(event), key=user)


class Tables:
    """What a reader of the outputs makes of them."""

    def __init__(self, settings: Settings) -> None:
        self._bootstrap = settings.kafka_bootstrap_servers
        self._wire = Wire(build_graph(PARTITIONS), topic_registry(self._bootstrap))

    def windows(self) -> dict[tuple[Any, ...], Counter[Any]]:
        return _added_up(readers.windows(self._outputs(WINDOWS)))

    def days(self) -> dict[tuple[Any, ...], Counter[Any]]:
        return _added_up(readers.daily(self._outputs(DAILY)))

    def _outputs(self, topic: str) -> list[tuple[int, list[dict[str, Any]]]]:
        found: list[Message] = []
        reading = LogTail(self._bootstrap, [topic])
        reading.read_to_end(found.extend)
        reading.close()
        found.sort(key=lambda message: (message.partition, message.offset))
        frames = [(m.partition, self._wire.decode(topic, m.value)) for m in found]
        return [(number, frame.to_dicts()) for number, frame in frames if frame.height]


def _added_up(
    parts: dict[int, dict[tuple[Any, ...], dict[str, Any]]],
) -> dict[tuple[Any, ...], Counter[Any]]:
    total: dict[tuple[Any, ...], Counter[Any]] = {}
    for rows in parts.values():
        for place, row in rows.items():
            total.setdefault(place, Counter()).update({name: row[name] for name in SUMS})
    return total


def flat(counts: dict[tuple[Any, ...], Counter[Any]]) -> Counter[Any]:
    """Without the zeros."""
    return +Counter({(*key, name): n for key, of in counts.items() for name, n in of.items()})


class Watcher:
    """Looks at the groups of the stages, and at what they write for each source partition."""

    def __init__(self, settings: Settings) -> None:
        graph = build_graph(PARTITIONS)
        self._groups = [app_id(graph.stages[stage]) for stage in STAGES]
        self._admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
        self._logs = LogReader(settings.kafka_bootstrap_servers)
        self._state_topics = [
            state_topic(graph.stages[stage], table).name
            for stage in STAGES
            for table in graph.stages[stage].tables
        ]

    def wait_for_shares(self, processes: Processes, shares: list[int], patience_s: float) -> None:
        """Until the workers of each stage own so many partitions each."""
        wait_until(
            lambda: [self._shares(group) for group in self._groups] == [shares] * len(STAGES),
            patience_s,
            f"shares of {shares}",
            check=processes.check,
        )

    def _shares(self, group: str) -> list[int]:
        described = self._admin.describe_consumer_groups([group])[group].result(30)
        return sorted(len(m.assignment.topic_partitions) for m in described.members)

    def longest_wait(self, processes: Processes, patience_s: float) -> float:
        """Seconds from now until every stage has saved its state of every partition again.

        The first second does not count: a worker that was just killed may have been writing.
        """
        started = time.monotonic()
        time.sleep(1.0)
        before = self._written()
        wait_until(
            lambda: all(self._written()[place] > end for place, end in before.items()),
            patience_s,
            f"states that are saved after {before}",
            every_s=0.05,
            check=processes.check,
        )
        return time.monotonic() - started

    def _written(self) -> dict[tuple[str, int], int]:
        return {
            (topic, partition): end
            for topic in self._state_topics
            for partition, end in self._logs.ends(topic).items()
        }


@pytest.fixture
def load(settings: Settings) -> Iterator[Load]:
    load = Load(settings)
    load.start()
    yield load
    load.stop()


def test_workers_come_and_go_without_a_loss_or_a_double(
    settings: Settings, processes: Processes, load: Load
) -> None:
    watcher, tables = Watcher(settings), Tables(settings)
    processes.start_batcher("batcher")
    processes.start_worker("one", STAGES)
    watcher.wait_for_shares(processes, [4], 60)
    watcher.longest_wait(processes, 60)

    for name in ("two", "three", "four"):
        processes.start_worker(name, STAGES)
    watcher.wait_for_shares(processes, [1, 1, 1, 1], 120)
    watcher.longest_wait(processes, 60)

    processes.end("two", signal.SIGKILL)
    killed = watcher.longest_wait(processes, 60)
    watcher.wait_for_shares(processes, [1, 1, 2], 60)

    processes.start_worker("two", STAGES)
    watcher.wait_for_shares(processes, [1, 1, 1, 1], 120)
    assert processes.end("three", signal.SIGTERM) == 0
    assert processes.end("one", signal.SIGTERM) == 0
    stopped = watcher.longest_wait(processes, 60)
    watcher.wait_for_shares(processes, [2, 2], 60)
    watcher.longest_wait(processes, 60)

    load.stop()
    written = sum(day["heard_ms"] for day in load.days.values())
    wait_until(
        lambda: sum(day["heard_ms"] for day in tables.days().values()) >= written,
        60,
        "all that was heard",
        every_s=0.5,
        check=processes.check,
    )
    for name in ("batcher", "two", "four"):
        assert processes.end(name, signal.SIGTERM) == 0
    print(
        f"{load.written} events; every partition is processed again {killed:.1f} s after a kill, "
        f"{stopped:.1f} s after two were stopped"
    )
    assert flat(tables.days()) == flat(load.days)
    assert flat(tables.windows()) == flat(load.windows)
    assert killed <= SESSION_S + RECOVERY_S + SLACK_S
    assert stopped <= RECOVERY_S + SLACK_S
