"""Kill -9 at seeded moments of both processes: every table is what the oracle says.

While listeners as bad as real ones write, the batcher and the worker are killed at kill points
drawn from ten each: some time after they began to write what a seed names (batches, windows,
state...), or while they are still starting. Some listeners' clients place keys as Podstream does,
others by librdkafka's default, others send none. A file of events is imported by a command that is
killed, by two at once, and once more. Then a second worker comes, and the first one goes.
At the end the log of `user-events` is read back with its own times, and the oracle reads it too.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas.codec import RecordCodec
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire
from tests.chaos.processes import TRACKERS, Processes
from tests.drawing import drawn
from tests.oracle.check import Oracle
from tests.oracle.listeners import EPISODES, Delivery, Listeners, last_event
from tests.oracle.log import Entry
from tests.waiting import wait_for_rest, wait_until
from topology.graph import app_id, build_graph, dead_letter_name, state_topic
from topology.model import Graph, Stage
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]

PARTITIONS = 3
SETTINGS = {"allowed_lateness_s": 900, "dedup_window": 3000}
SEED = 20
KILLS, DRAWN = 10, 3
"""Kill points of each process, and how many of them a run takes that does not take all."""

SOURCE = "user-events"
TICK_S = 0.25
EVENTS_A_TICK = 40
RUSH_EVERY, RUSH = 60, 150
"""After so many ticks, so many plays of one episode at once: an anomaly."""

IMPORTED = 3_000
"""Events of the file that is imported."""

PAST = timedelta(hours=30)
"""Event time begins so long before the run."""
PAST_LIFE_S = 15.0
"""For each kill so many seconds pass until event time is at the present."""
LIVE_TICKS = 40
"""At least so many ticks follow at the present."""
SETTLED_S = 12.0
"""Longer than days take to be told of."""
LONGEST_LIFE_S = 40.0
PATIENCE_S = 90.0
STEADY = (
    "engagement-windows",
    "rolling-windows",
    "table-progress",
    "user-episode-daily",
)
"""Outputs that grow all the time."""


class Writer(threading.Thread):
    """Writes what listeners do, until told to stop, and remembers every delivery."""

    def __init__(self, settings: Settings, past_s: float) -> None:
        super().__init__(name="writer", daemon=True)
        self.past_s = past_s
        registry = topic_registry(settings.kafka_bootstrap_servers)
        self._codec = RecordCodec(SOURCE, "user_event", registry)
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._other = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
        self._crowd = Listeners(SEED, 60, timedelta(minutes=15))
        self._stopping = threading.Event()
        self.live_ticks = 0
        self.deliveries: list[Delivery] = []
        for episode_id, episode in EPISODES.items():
            codec = RecordCodec("episode-metadata", "episode", registry)
            self._producer.produce("episode-metadata", codec.encode(episode), key=episode_id)
        self._producer.flush()

    def run(self) -> None:
        began, started, ticks = datetime.now(UTC), time.monotonic(), count(1)
        while not self._stopping.wait(TICK_S):
            share = min(1.0, (time.monotonic() - started) / self.past_s)
            live = share == 1.0
            now = datetime.now(UTC) if live else began - PAST * (1 - share)
            fast = timedelta(hours=20) if live else timedelta(minutes=2)
            # A busy minute, and then nothing until the next tick.
            for delivery in self._crowd.deliveries(
                EVENTS_A_TICK, now - timedelta(minutes=1), now, fast=fast
            ):
                self._write(delivery)
            if not live and next(ticks) % RUSH_EVERY == 0:
                for delivery in self._crowd.rush(RUSH, now):
                    self._write(delivery)
            self.live_ticks += live
            self._producer.poll(0)
            self._other.poll(0)
        for delivery in self._crowd.rest():
            self._write(delivery)
        self._producer.flush()
        self._other.flush()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def last(self, at: datetime) -> None:
        """One last event in every partition, all of them at the same time."""
        for partition in range(PARTITIONS):
            self._write(last_event(partition, PARTITIONS, at), partition=partition)
        self._producer.flush()

    def _write(self, delivery: Delivery, **place: Any) -> None:
        value = delivery.value(self._codec.encode)
        number = len(self.deliveries)
        headers: Any = [("delivery", str(number).encode())]
        self.deliveries.append(delivery)
        client = 0 if place else zlib.crc32(delivery.key.encode()) % 4
        sender = self._other if client == 1 else self._producer
        key = None if client == 2 else delivery.key
        sender.produce(SOURCE, value, key=key, headers=headers, **place)


@dataclass(frozen=True)
class KillPoint:
    """When a process is killed: once a topic has so many more records than when it was started,
    or after so many seconds."""

    topic: str | None
    records: int
    seconds: float = LONGEST_LIFE_S


class Killer(threading.Thread):
    """Starts a process and kills it at each of its points; in the end it runs."""

    def __init__(
        self, settings: Settings, points: Sequence[KillPoint], start: Any, end: Any
    ) -> None:
        super().__init__(daemon=True)
        self._logs = LogReader(settings.kafka_bootstrap_servers)
        self._points = points
        self._start_process, self._end_process = start, end
        self.failure: BaseException | None = None
        self.story: list[str] = []

    @property
    def moments(self) -> int:
        """How many of its points are after some records, and not after some seconds."""
        return sum(point.topic is not None for point in self._points)

    def run(self) -> None:
        try:
            self._start_process()
            for point in self._points:
                self._wait_for(point)
                self._end_process(signal.SIGKILL)
                self._start_process()
        except BaseException as error:
            self.failure = error

    def _wait_for(self, point: KillPoint) -> None:
        started = time.monotonic()
        mark = self._records(point.topic) + point.records if point.topic else sys.maxsize
        while (life := time.monotonic() - started) < point.seconds:
            if point.topic and self._records(point.topic) >= mark:
                self.story.append(f"{point.topic}+{point.records} ({life:.1f} s)")
                return
            time.sleep(0.01)
        self.story.append(f"{life:.1f} s (looking at {point.topic})")

    def _records(self, topic: str) -> int:
        return sum(self._logs.ends(topic).values())


def kill_points(chance: random.Random, topics: Sequence[str], most: int) -> list[KillPoint]:
    """Mostly after one to ``most`` records of some topic; two of ten soon after the start."""
    points = [KillPoint(chance.choice(topics), chance.randint(1, most)) for _ in range(KILLS)]
    for place in chance.sample(range(KILLS), KILLS // 5):
        points[place] = KillPoint(None, 0, chance.uniform(0.3, 6.0))
    return points


class Log:
    """What the topics hold, read once."""

    def __init__(self, settings: Settings, graph: Graph) -> None:
        self._bootstrap = settings.kafka_bootstrap_servers
        self._wire = Wire(graph, topic_registry(self._bootstrap))

    def messages(self, topic: str) -> list[Message]:
        """Everything in a topic, partition by partition."""
        found: list[Message] = []
        reading = LogTail(self._bootstrap, [topic])
        reading.read_to_end(found.extend)
        reading.close()
        return sorted(found, key=lambda message: (message.partition, message.offset))

    def outputs(self, topic: str) -> list[tuple[int, Any]]:
        values = [(m.partition, self._wire.decode(topic, m.value)) for m in self.messages(topic)]
        return [(p, v.to_dicts() if isinstance(v, pl.DataFrame) else v) for p, v in values]

    def entries(self, deliveries: Sequence[Delivery]) -> dict[int, list[Entry]]:
        """The log of events with the times that the broker gave."""
        found: dict[int, list[Entry]] = {number: [] for number in range(PARTITIONS)}
        for message in self.messages(SOURCE):
            delivered = message.header("delivery")  # an import has none
            event = (
                deliveries[int(delivered)].readable
                if delivered is not None
                else self._wire.decode(SOURCE, message.value)
            )
            told = message.header("podstream.origin")
            sender, _, number = (told or b"").decode().rpartition(":")
            origin = (sender, int(number)) if told is not None else None
            logged_at = datetime.fromtimestamp(0, UTC) + timedelta(
                milliseconds=message.timestamp_ms
            )
            found[message.partition].append(Entry(message.offset, logged_at, event, origin))
        return found

    def dead(self) -> Iterator[tuple[int, int]]:
        """Partition and offset of the events that were put aside, unchanged."""
        source = {(m.partition, m.offset): m for m in self.messages(SOURCE)}
        for message in self.messages(dead_letter_name(SOURCE)):
            place = (
                int(message.header("__connect.errors.partition") or b""),
                int(message.header("__connect.errors.offset") or b""),
            )
            assert (message.key, message.value) == (source[place].key, source[place].value)
            yield place

    def check_ranges(self, written: dict[int, int]) -> None:
        """The batches of a partition account for all of its offsets, one after another."""
        reached = dict.fromkeys(written, 0)
        for message in self.messages("user-event-batches"):
            assert int(message.header("first_offset") or b"") == reached[message.partition]
            reached[message.partition] = int(message.header("last_offset") or b"") + 1
        assert reached == written


def test_every_table_is_exact_after_kills(
    settings: Settings, processes: Processes, record_property: Callable[[str, object], None]
) -> None:
    graph, chance = build_graph(PARTITIONS), random.Random(SEED)
    tracked = [graph.stages[name] for name in TRACKERS]
    outputs = sorted({topic for stage in tracked for topic in stage.produces})
    states = [state_topic(stage, table).name for stage in tracked for table in stage.tables]
    points = {
        "batcher": kill_points(chance, ["user-event-batches", dead_letter_name(SOURCE)], 20),
        "worker": kill_points(chance, [*STEADY, *states], 8),
    }
    chosen: dict[str, list[KillPoint]] = {}
    for name, of in points.items():
        places = drawn(name, range(KILLS), DRAWN)
        record_property(f"kill points of the {name}:", places)
        chosen[name] = [of[place] for place in places]
    killers = [
        Killer(
            settings,
            chosen["batcher"],
            lambda: processes.start_batcher("batcher"),
            lambda number: processes.end("batcher", number),
        ),
        Killer(
            settings,
            chosen["worker"],
            lambda: processes.start_worker("worker"),
            lambda number: processes.end("worker", number),
        ),
    ]
    writer = Writer(settings, PAST_LIFE_S * len(chosen["worker"]))
    started = time.monotonic()
    for thread in (writer, *killers):
        thread.start()
    path = settings.podstream_home / "events.jsonl"
    import_again_and_again(processes, path, chance.uniform(1.0, 4.0))
    for killer in killers:
        killer.join()
        assert killer.failure is None, killer.failure
        print(f"killed after {', '.join(killer.story)}")
        assert sum("+" in line for line in killer.story) >= killer.moments // 2, killer.story

    processes.start_worker("second")
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    wait_until(lambda: shared(admin, tracked), PATIENCE_S, "both workers share every stage")
    assert processes.end("worker", signal.SIGTERM) == 0
    enough = writer.live_ticks + LIVE_TICKS
    wait_until(
        lambda: writer.live_ticks >= enough, PATIENCE_S + writer.past_s, "events at the present"
    )
    writer.stop()
    at = datetime.now(UTC).replace(microsecond=0)
    time.sleep(1)
    writer.last(at)
    log = Log(settings, graph)
    wait_until_settled(settings, processes, log, at, outputs)
    assert processes.end("batcher", signal.SIGTERM) == 0
    assert processes.end("second", signal.SIGTERM) == 0

    entries = log.entries(writer.deliveries)
    oracle = Oracle.of(
        entries,
        EPISODES,
        lateness_s=settings.allowed_lateness_s,
        dedup_window=settings.dedup_window,
        owner=lambda user: partition_of(user.encode(), PARTITIONS),
    )
    written = {number: len(records) for number, records in entries.items()}
    assert {number: records.written() for number, records in oracle.sorted.items()} == written
    records = [entry for of in entries.values() for entry in of]
    assert sum(entry.origin is None for entry in records) == len(writer.deliveries)
    happened = what_happened(oracle)
    assert min(happened[name] for name in ("moved", "repeats", "dead")) > 100
    good = [row for of in oracle.sorted.values() for row in of.good]
    counted = Counter(row.event_id for row in good if row.event_id.startswith("imported"))
    assert counted == Counter(f"imported {number}" for number in range(IMPORTED))
    oracle.check_batches(log.outputs, list(log.dead()))
    log.check_ranges(written)
    assert log.messages(dead_letter_name("user-event-batches")) == []
    oracle.check_engagement(log.outputs)
    oracle.check_listening(log.outputs)
    oracle.check_trending(log.outputs)
    anomalies = oracle.check_anomalies(log.outputs)
    assert anomalies > 0
    print(f"written {written}, {anomalies} anomalies, {dict(happened)}")
    print(f"all exact after {time.monotonic() - started:.0f} s")


def import_again_and_again(processes: Processes, path: Path, killed_after_s: float) -> None:
    """The events of a file: by a command that is killed, by two at once, and once more."""
    at = datetime.now(UTC) - PAST
    rows = [
        {
            "event_id": f"imported {number}",
            "user_id": f"imported {number % 40}",
            "episode_id": "pi:100",
            "kind": "progress",
            "occurred_at": (at + timedelta(seconds=number % 600)).isoformat(),
            "heard_ms": 30_000,
        }
        for number in range(IMPORTED)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    killed = processes.import_events("import", path)
    time.sleep(killed_after_s)
    killed.kill()
    killed.wait()
    two = {name: processes.import_events(name, path) for name in ("second import", "third import")}
    for name, process in two.items():
        assert process.wait(PATIENCE_S) == 0, processes.log(name)
    last = processes.import_events("last import", path)
    assert last.wait(PATIENCE_S) == 0, processes.log("last import")
    assert "imported already" in processes.log("last import")


def shared(admin: AdminClient, stages: Sequence[Stage]) -> bool:
    """Whether each stage's group has partitions on two members."""
    groups = admin.describe_consumer_groups([app_id(stage) for stage in stages])
    members = [described.result(30).members for described in groups.values()]
    return all(
        sum(bool(member.assignment.topic_partitions) for member in of) == 2 for of in members
    )


def wait_until_settled(
    settings: Settings, processes: Processes, log: Log, at: datetime, outputs: Sequence[str]
) -> None:
    """Return when the tables have the last events, and nothing more is written for a while."""
    wanted = {(stage, p) for stage in TRACKERS[:2] for p in range(PARTITIONS)}

    def reached() -> set[tuple[str, int]]:
        return {
            (record["stage"], record["source_partition"])
            for _, record in log.outputs("table-progress")
            if record["watermark"] >= at
        }

    wait_until(
        lambda: reached() >= wanted,
        PATIENCE_S,
        "the last events in the tables",
        every_s=0.5,
        check=processes.check,
    )
    watcher = LogReader(settings.kafka_bootstrap_servers)
    wait_for_rest(
        lambda: {topic: watcher.ends(topic) for topic in outputs},
        SETTLED_S,
        PATIENCE_S,
        "outputs that come to rest",
        check=processes.check,
    )
    watcher.close()


def what_happened(oracle: Oracle) -> Counter[Any]:
    """How much of everything there was, to see that the run was worth something."""
    total: Counter[Any] = Counter()
    for number, verdicts in oracle.verdicts.items():
        records = oracle.sorted[number]
        total.update(
            good=len(records.good),
            dead=len(records.dead),
            repeats=len(records.repeats),
            moved=len(records.moved),
            late=sum(v.late for v in verdicts),
            streams=sum(v.stream for v in verdicts),
            engaged=sum(v.engaged for v in verdicts),
            new_listeners=sum(v.new_listener for v in verdicts),
        )
    return total
