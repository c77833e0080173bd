"""`batch_events` against a broker: garbage is put aside as it came, the rest goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer

from schemas import columnar
from schemas.codec import RecordCodec, frame
from streams.cli.local.broker import running_broker
from streams.events.batch_events import BatchEvents
from streams.events.core import quiet
from streams.events.core.batching import FIRST_OFFSET, LAST_OFFSET
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogTail
from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from streams.kafka.quiet import quiet_to
from streams.kafka.registry import open_registry, topic_registry
from streams.kafka.wire import ERROR_PREFIX
from streams.operations.arrivals import measure_arrivals
from streams.operations.core.rebuild import count_daily
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.apply import apply_topology
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = pytest.mark.broker

PARTITIONS = 2
OWNED = ("bob", "ada")
"""A listener of each partition, by Kafka's default."""
DAY_S = 86_400


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("batch")
    with running_broker(home) as bootstrap:
        settings = Settings(
            podstream_home=home, kafka_bootstrap_servers=bootstrap, event_partitions=PARTITIONS
        )
        apply_topology(settings, open_registry(settings), mongo=False)
        yield settings


@contextmanager
def batch_events(
    settings: Settings, name: str, partitions: int = PARTITIONS
) -> Iterator[subprocess.Popen[Any]]:
    environment = {
        **os.environ,
        "PODSTREAM_HOME": str(settings.podstream_home),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "EVENT_PARTITIONS": str(partitions),
    }
    with (settings.podstream_home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.events.batch_events"],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


class Log:
    """What is in topics so far."""

    def __init__(self, settings: Settings, *topics: str) -> None:
        self._reader = LogTail(settings.kafka_bootstrap_servers, topics)
        self.messages: dict[str, list[Message]] = {topic: [] for topic in topics}

    def read(self) -> None:
        def keep(messages: list[Message]) -> None:
            for message in messages:
                self.messages[message.topic].append(message)

        self._reader.read_to_end(keep)

    def events(self) -> pl.DataFrame:
        batches = self.messages["user-event-batches"]
        return pl.concat([columnar.from_message(m.value, "user_event") for m in batches])

    def accounted(self, partition: int) -> list[int]:
        ranges = [
            [int(message.header(name) or b"") for name in (FIRST_OFFSET, LAST_OFFSET)]
            for message in self.messages["user-event-batches"]
            if message.partition == partition
        ]
        return [offset for first, last in ranges for offset in range(first, last + 1)]

    def ends(self) -> list[int]:
        """The offset behind the last event of each partition."""
        ends = [0] * PARTITIONS
        for message in self.messages["user-events"]:
            ends[message.partition] = message.offset + 1
        return ends

    def wait_for(self, read: list[int]) -> None:
        """Until that many offsets of each partition are accounted for."""
        deadline = time.monotonic() + 60
        while any(self.accounted(p)[-1:] != [n - 1] for p, n in enumerate(read) if n):
            assert time.monotonic() < deadline, [len(self.accounted(p)) for p in range(PARTITIONS)]
            self.read()


def event(codec: RecordCodec, event_id: str, **changes: object) -> bytes:
    record = {
        "event_id": event_id,
        "user_id": "ada",
        "episode_id": "pi:1",
        "kind": "play",
        "occurred_at": datetime.now(UTC),
        **changes,
    }
    return codec.encode(record)


def test_a_process_that_was_started_for_other_partitions_is_refused(settings: Settings) -> None:
    """It would seek listeners where no other process does."""
    with batch_events(settings, "other", PARTITIONS + 1) as process:
        assert process.wait(60) == 1
    said = (settings.podstream_home / "other.log").read_text().splitlines()
    assert said[-1].startswith("user-events has 2 partitions")
    assert "EVENT_PARTITIONS=2" in said[-1]


def test_garbage_is_put_aside_as_it_came_and_a_restart_repeats_nothing(settings: Settings) -> None:
    codec = RecordCodec(
        "user-events", "user_event", topic_registry(settings.kafka_bootstrap_servers)
    )
    tomorrow = datetime.fromtimestamp(time.time() + 2 * DAY_S, UTC)
    bad = [
        b"not a frame",
        None,
        frame(987_654, b"payload"),
        frame(1, b"\xff\xff\xff"),
        event(codec, "negative", heard_ms=-1),
        event(codec, "tomorrow", occurred_at=tomorrow),
        event(codec, "", heard_ms=1),
        event(codec, "long", surface="x" * 1025),
    ]
    good = [event(codec, f"good-{number}") for number in range(300)]
    values = [value for n, one in enumerate(good) for value in ([one, bad[n]] if n < 8 else [one])]
    values.append(event(codec, "good-7"))
    out = producer(settings.kafka_bootstrap_servers)

    def write() -> None:
        for number, value in enumerate(values):
            headers: list[tuple[str, str | bytes | None]] = [("trace", str(number).encode())]
            out.produce("user-events", value, key=b"ada", partition=1, headers=headers)
        out.flush()

    log = Log(settings, "user-events", "user-event-batches", "user-events.dlq")
    write()
    with batch_events(settings, "first") as process:
        log.wait_for([0, len(values)])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    dead = log.messages["user-events.dlq"]
    assert [message.value for message in dead] == bad
    assert {message.key for message in dead} == {b"ada"}
    assert [message.header("trace") for message in dead] == [b"%d" % (2 * n + 1) for n in range(8)]
    for message in dead:
        offset = int(message.header(ERROR_PREFIX + "offset") or b"")
        assert log.messages["user-events"][offset].value == message.value
        assert message.header(ERROR_PREFIX + "partition") == b"1"
        assert message.header(ERROR_PREFIX + "stage") == b"batch_events"
    assert log.events()["event_id"].to_list() == [f"good-{n}" for n in range(300)]

    # All of it once more, through a process that has only the log to know what was before.
    write()
    with batch_events(settings, "second"):
        log.wait_for([0, 2 * len(values)])
    assert log.events().height == 300
    assert len(log.messages["user-events.dlq"]) == 16
    assert log.accounted(1) == list(range(2 * len(values)))


def test_partitions_in_which_nothing_comes_any_more_are_said_to_be_quiet(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "FIRST_AFTER_S", 0.5)
    out = producer(settings.kafka_bootstrap_servers)
    codec = RecordCodec(
        "user-events", "user_event", topic_registry(settings.kafka_bootstrap_servers)
    )
    exact = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": "exact"}
    )
    exact.init_transactions()
    exact.begin_transaction()
    exact.produce("user-events", event(codec, "with a marker behind"), key=b"ada", partition=1)
    exact.commit_transaction()
    log = Log(settings, "user-events", "user-event-batches")
    log.read()
    before, stop = len(log.messages["user-event-batches"]), threading.Event()

    def said() -> dict[int, int]:
        log.read()
        batches = log.messages["user-event-batches"][before:]
        told = ((batch.partition, quiet_to(batch.headers)) for batch in batches)
        return {partition: at for partition, at in told if at is not None}

    graph = build_graph(PARTITIONS)

    def run() -> None:
        stage = graph.stages["batch_events"]
        BatchEvents(stage, settings, graph, open_registry(settings)).run(stop)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            wait_until(
                lambda: said().keys() == {0, 1},
                60,
                "both are quiet",
                check=lambda: running.done() and running.result(),
            )
            assert max(said().values()) <= (time.time() - 60) * 1000
            out.produce("user-events", event(codec, "after all"), key=b"ada", partition=1)
            out.flush()
            log.read()
            log.wait_for(log.ends())
        finally:
            stop.set()
    running.result()
    assert log.events()["event_id"].to_list()[-2:] == ["with a marker behind", "after all"]
    written = [m.offset for m in log.messages["user-events"] if m.partition == 1]
    assert written[-1] - written[-2] == 2, "the marker takes an offset"
    assert log.accounted(1) == list(range(written[-1] + 1))


def test_partitions_move_between_processes_without_loss(settings: Settings) -> None:
    codec = RecordCodec(
        "user-events", "user_event", topic_registry(settings.kafka_bootstrap_servers)
    )
    log = Log(settings, "user-events", "user-event-batches", "user-events.dlq")
    log.read()
    before = log.ends()
    out = producer(settings.kafka_bootstrap_servers)
    sent = list(before)

    def write(number: int) -> None:
        for _ in range(number):
            for partition in range(PARTITIONS):
                name = f"moved-{partition}-{sent[partition]}"
                value = event(codec, name, user_id=OWNED[partition])
                out.produce("user-events", value, partition=partition)
                sent[partition] += 1
        out.flush()

    with batch_events(settings, "one") as one:
        write(500)
        log.wait_for(sent)
        with batch_events(settings, "two") as two:
            for _ in range(30):
                write(50)
                time.sleep(0.1)
            one.send_signal(signal.SIGTERM)
            assert one.wait(30) == 0
            write(500)
            log.wait_for(sent)
            two.send_signal(signal.SIGTERM)
            assert two.wait(30) == 0
    ids = log.events().unique(["partition", "offset"])["event_id"]
    moved = ids.filter(ids.str.starts_with("moved"))
    assert moved.len() == moved.n_unique() == sum(sent) - sum(before)
    for partition, total in enumerate(sent):
        assert sorted(set(log.accounted(partition))) == list(range(total))


Send = Callable[[str, bytes], None]
STYLES = ("ours", "librdkafka", "kafka-python", "without-keys", "mixed")
LISTENERS, EVENTS_EACH = 40, 30


def producers(settings: Settings) -> tuple[dict[str, Send], Callable[[], None]]:
    """Ways in which the world sends an event of a listener, and what waits for the deliveries."""
    ours = producer(settings.kafka_bootstrap_servers)
    plain = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "client.id": "plain app"}
    )
    named: list[tuple[str, str | bytes | None]] = [("client.id", b"plain app")]

    def by_kafka_python(user: str, value: bytes) -> None:
        # Its default partitioner, whose values the unit tests hold.
        plain.produce("user-events", value, user, partition_of(user.encode(), PARTITIONS))

    def flush() -> None:
        ours.flush()
        plain.flush()

    return {
        "ours": lambda user, value: ours.produce("user-events", value, user),
        "librdkafka": lambda user, value: plain.produce("user-events", value, user, headers=named),
        "kafka-python": by_kafka_python,
        "without-keys": lambda _, value: plain.produce("user-events", value),
    }, flush


def tables_of(events: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """What each listener heard of each episode and day, by the style in which it was sent."""
    rows = count_daily(events).with_columns(
        pl.col("user_id").str.split_exact(" ", 1).struct.rename_fields(["style", "user"]).alias("u")
    )
    rows = rows.drop("user_id").unnest("u").sort("user", "episode_id", "day")
    return {
        str(style): frame
        for (style,), frame in rows.partition_by("style", as_dict=True, include_key=False).items()
    }


def test_whoever_sends_the_events_the_tables_are_equal_also_with_kills(settings: Settings) -> None:
    codec = RecordCodec(
        "user-events", "user_event", topic_registry(settings.kafka_bootstrap_servers)
    )
    now = datetime.now(UTC)
    send, flush = producers(settings)
    by_turns = [send[name] for name in STYLES[:-1]]

    def write(start: int, end: int) -> None:
        for number in range(start, end):
            for style in STYLES:
                for listener in range(LISTENERS):
                    user = f"{style} {listener}"
                    heard = {"kind": "progress", "heard_ms": number * 1000 + listener}
                    value = event(codec, f"e{number}", user_id=user, occurred_at=now, **heard)
                    chosen = by_turns[(number + listener) % 4] if style == "mixed" else send[style]
                    chosen(user, value)
        flush()

    log = Log(settings, "user-events", "user-event-batches")
    before = measure_arrivals(settings, 30).handed_over
    for kill in range(3):
        with batch_events(settings, f"killed-{kill}"):
            write(kill * 10, kill * 10 + 10)
            time.sleep(0.3 * kill)
    with batch_events(settings, "at-last"):
        deadline = time.monotonic() + 60
        expected = len(STYLES) * LISTENERS * EVENTS_EACH
        while True:
            log.read()
            events = log.events().unique(["partition", "offset"])
            events = events.filter(pl.col("user_id").str.contains(" "))
            if events.height >= expected:
                break
            assert time.monotonic() < deadline, events.height
    assert events.height == expected == events.n_unique(["user_id", "event_id"])
    for user, partition in events.select("user_id", "partition").unique().iter_rows():
        assert partition == partition_of(user.encode(), PARTITIONS)
    tables = tables_of(events)
    assert tables["ours"].height == LISTENERS
    for style in STYLES[1:]:
        assert tables[style].equals(tables["ours"]), style
    moved = Counter(measure_arrivals(settings, 30).handed_over)
    moved.subtract(before)
    assert moved["plain app"] > 300
    assert moved["unknown"] > 300
