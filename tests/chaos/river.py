"""What a test of kills writes into the river, and what it reads there in the end.

Listeners as bad as real ones write, some by clients that place keys as Podstream does, others by
librdkafka's default, others without keys. The log of `user-events` is read back with its own times.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
from confluent_kafka import Producer

from schemas.codec import RecordCodec
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire
from tests.oracle.check import Oracle
from tests.oracle.listeners import EPISODES, Delivery, Listeners, last_event
from tests.oracle.log import Entry
from tests.waiting import wait_for_rest, wait_until
from topology.graph import build_graph, dead_letter_name
from topology.settings import Settings

SOURCE = "user-events"
TRACKERS = ("track_engagement", "track_listening", "rank_trending", "detect_anomalies")
SEED = 20
TICK_S = 0.25
EVENTS_A_TICK = 40
RUSH_EVERY, RUSH = 60, 150
"""After so many ticks, so many plays of one episode at once: an anomaly."""

PAST = timedelta(hours=30)
"""Event time begins so long before the run: more than a day, by which a source partition that a
killed worker has not got to may be behind, and is waited for all the same."""

SETTLED_S = 12.0
"""Longer than days take to be told of."""
PATIENCE_S = 90.0


class Writer(threading.Thread):
    """Writes what listeners do, until told to stop, and remembers every delivery."""

    def __init__(self, settings: Settings, past_s: float) -> None:
        super().__init__(name="writer", daemon=True)
        self.past_s = past_s
        self._partitions = settings.event_partitions
        registry = topic_registry(settings.kafka_bootstrap_servers)
        self._codec = RecordCodec(SOURCE, "user_event", registry)
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._other = Producer(
            {"bootstrap.servers": settings.kafka_bootstrap_servers, "enable.idempotence": True}
        )
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
        for partition in range(self._partitions):
            self._write(last_event(partition, self._partitions, at), partition=partition)
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


class Log:
    """What the topics hold, read once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bootstrap = settings.kafka_bootstrap_servers
        self._wire = Wire(build_graph(settings.event_partitions), topic_registry(self._bootstrap))

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
        found: dict[int, list[Entry]] = {p: [] for p in range(self._settings.event_partitions)}
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

    def check(self, deliveries: Sequence[Delivery], *, missing: bool = False) -> Oracle:
        """Every table is what the oracle says; gives the oracle.

        ``missing``: some deliveries came after what this log is a copy of.
        """
        entries = self.entries(deliveries)
        partitions = self._settings.event_partitions
        oracle = Oracle.of(
            entries,
            EPISODES,
            lateness_s=self._settings.allowed_lateness_s,
            dedup_window=self._settings.dedup_window,
            owner=lambda user: partition_of(user.encode(), partitions),
        )
        written = {number: len(records) for number, records in entries.items()}
        assert {number: records.written() for number, records in oracle.sorted.items()} == written
        records = [entry for of in entries.values() for entry in of]
        delivered = sum(entry.origin is None for entry in records)
        assert delivered < len(deliveries) if missing else delivered == len(deliveries)
        oracle.check_batches(self.outputs, list(self.dead()))
        self.check_ranges(written)
        assert self.messages(dead_letter_name("user-event-batches")) == []
        oracle.check_engagement(self.outputs)
        oracle.check_listening(self.outputs)
        return oracle

    def check_ranges(self, written: dict[int, int]) -> None:
        """The batches of a partition account for all of its offsets, one after another."""
        reached = dict.fromkeys(written, 0)
        for message in self.messages("user-event-batches"):
            assert int(message.header("first_offset") or b"") == reached[message.partition]
            reached[message.partition] = int(message.header("last_offset") or b"") + 1
        assert reached == written


def wait_until_settled(
    settings: Settings, log: Log, at: datetime, check: Callable[[], object] = lambda: None
) -> None:
    """Return when the tables have the last events, and nothing more is written for a while."""
    graph = build_graph(settings.event_partitions)
    outputs = sorted({topic for name in TRACKERS for topic in graph.stages[name].produces})
    wanted = {(stage, p) for stage in TRACKERS[:2] for p in range(settings.event_partitions)}

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
        check=check,
    )
    watcher = LogReader(settings.kafka_bootstrap_servers)
    wait_for_rest(
        lambda: {topic: watcher.ends(topic) for topic in outputs},
        SETTLED_S,
        PATIENCE_S,
        "outputs that come to rest",
        check=check,
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
