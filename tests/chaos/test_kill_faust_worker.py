"""Kill -9 in mid-run, of the batcher and of a Faust worker: every count stays exact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas import columnar
from schemas.codec import RecordCodec
from schemas.registry import TopicRegistry
from streams.context import Message
from streams.kafka import TopicReader, producer
from topology.apply import apply_topology
from topology.embedded.broker import running_broker
from topology.embedded.ports import free_ports
from topology.settings import Settings

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
EVENTS = 40_000
START = datetime(2026, 1, 1, 23, 55, tzinfo=UTC)
COUNTED = {"impression": "impressions", "click": "clicks", "play": "plays", "complete": "completes"}
KINDS = (*COUNTED, "progress", "like")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("chaos")
    with running_broker(home) as bootstrap:
        settings = Settings(
            podstream_home=home, kafka_bootstrap_servers=bootstrap, event_partitions=PARTITIONS
        )
        apply_topology(settings, mongo=False)
        yield settings


class Processes:
    """The processes of the event path, started, killed and started again."""

    def __init__(self, settings: Settings):
        self._home = settings.podstream_home
        self._running: dict[str, subprocess.Popen] = {}
        self._environment = {
            **os.environ,
            "PODSTREAM_HOME": str(self._home),
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "EVENT_PARTITIONS": str(PARTITIONS),
            "PODSTREAM_STAGES": "track_engagement,track_listening",
        }

    def start_batcher(self, name: str) -> None:
        self._start(name, ["streams.batch_events"])

    def start_worker(self, name: str) -> None:
        (port,) = free_ports(1)
        folder = self._home / name
        options = ["--datadir", str(folder), "worker", "--web-port", str(port), "-l", "warn"]
        self._start(name, ["faust", "-A", "streams.app", *options])

    def _start(self, name: str, module: list[str]) -> None:
        with (self._home / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", *module],
                env=self._environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self, name: str, number: signal.Signals) -> int:
        process = self._running.pop(name)
        assert process.poll() is None, (self._home / f"{name}.log").read_text()[-3000:]
        process.send_signal(number)
        return process.wait(60)

    def kill_all(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


@contextmanager
def processes(settings: Settings) -> Iterator[Processes]:
    running = Processes(settings)
    try:
        yield running
    finally:
        running.kill_all()


class Oracle:
    """Writes events, some of them twice, and knows what they add up to."""

    def __init__(self, settings: Settings):
        self._registry = TopicRegistry(settings.kafka_bootstrap_servers)
        self._codec = RecordCodec("user-events", "user_event", self._registry)
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._random = random.Random(11)
        self._written = 0
        self.windows: dict[tuple, Counter] = {}
        self.days: dict[tuple, Counter] = {}

    def write(self, number: int) -> None:
        for _ in range(number):
            value, user = self._next()
            for _ in range(2 if self._random.random() < 0.05 else 1):
                self._producer.produce("user-events", value, key=user)
        self._producer.flush()

    def _next(self) -> tuple[bytes, str]:
        chance = self._random
        self._written += 1
        user, episode = f"u{chance.randrange(40)}", f"pi:{chance.randrange(30)}"
        kind = chance.choice(KINDS)
        at = START + timedelta(milliseconds=chance.randrange(10 * 60_000))
        heard_ms = chance.randrange(60_000)
        for counts in (
            self.windows.setdefault((episode, at.replace(second=0, microsecond=0)), Counter()),
            self.days.setdefault((user, episode, at.date()), Counter()),
        ):
            counts["heard_ms"] += heard_ms
            if kind in COUNTED:
                counts[COUNTED[kind]] += 1
        record = {
            "event_id": f"e{self._written}",
            "user_id": user,
            "episode_id": episode,
            "kind": kind,
            "occurred_at": at,
            "heard_ms": heard_ms,
        }
        return self._codec.encode(record), user


class Outputs:
    """What a reader of the outputs has, by the rules that their topics declare."""

    def __init__(self, settings: Settings):
        topics = ["engagement-windows", "user-episode-daily"]
        self._reader = TopicReader(settings.kafka_bootstrap_servers, topics)
        self._parts: dict[tuple, dict] = {}
        self._applied: dict[int, int] = {}
        self.days: dict[tuple, Counter] = {}

    def read(self) -> None:
        self._reader.read_to_end(self._apply)

    def _apply(self, messages: list[Message]) -> None:
        for message in messages:
            if message.topic == "engagement-windows":
                self._apply_windows(message)
            else:
                self._apply_days(message)

    def _apply_windows(self, message: Message) -> None:
        rows = columnar.from_message(message.value, "engagement_window").iter_rows(named=True)
        for row in rows:
            key = (row["episode_id"], row["bucket"], row["source_partition"])
            if key not in self._parts or row["offset"] >= self._parts[key]["offset"]:
                self._parts[key] = row

    def _apply_days(self, message: Message) -> None:
        rows = columnar.from_message(message.value, "user_episode_daily").to_dicts()
        last = rows[0]["last_offset"]
        if last <= self._applied.get(message.partition, -1):
            return
        self._applied[message.partition] = last
        for row in rows:
            counts = self.days.setdefault(
                (row["user_id"], row["episode_id"], row["day"]), Counter()
            )
            counts.update({name: row[name] for name in (*COUNTED.values(), "heard_ms")})

    def windows(self) -> dict[tuple, Counter]:
        windows: dict[tuple, Counter] = {}
        for (episode, bucket, _), row in self._parts.items():
            counts = windows.setdefault((episode, bucket), Counter())
            counts.update({name: row[name] for name in (*COUNTED.values(), "heard_ms")})
        return windows

    def heard_ms(self) -> tuple[int, int]:
        return (
            sum(counts["heard_ms"] for counts in self.windows().values()),
            sum(counts["heard_ms"] for counts in self.days.values()),
        )


def test_counts_stay_exact_through_kills_and_a_second_worker(settings: Settings) -> None:
    oracle, outputs = Oracle(settings), Outputs(settings)
    with processes(settings) as running:
        running.start_batcher("batcher")
        running.start_worker("worker")
        oracle.write(2000)
        wait_for(outputs, oracle)
        for number in range(3):
            for _ in range(10):
                oracle.write(EVENTS // 60)
                time.sleep(0.05)
            running.end("worker", signal.SIGKILL)
            if number == 1:
                running.end("batcher", signal.SIGKILL)
                running.start_batcher("batcher")
            running.start_worker("worker")
            oracle.write(EVENTS // 6)
        wait_for(outputs, oracle)
        running.start_worker("second")
        for _ in range(20):
            oracle.write(200)
            time.sleep(0.3)
        wait_for(outputs, oracle)
        assert running.end("worker", signal.SIGTERM) == 0
        oracle.write(2000)
        wait_for(outputs, oracle)
        assert running.end("batcher", signal.SIGTERM) == 0
        assert running.end("second", signal.SIGTERM) == 0
    assert +outputs_of(outputs.windows()) == +outputs_of(oracle.windows)
    assert +outputs_of(outputs.days) == +outputs_of(oracle.days)


def outputs_of(counts: dict[tuple, Counter]) -> Counter:
    """Flat counts, without the zeros."""
    return Counter({(*key, name): n for key, of in counts.items() for name, n in of.items()})


def wait_for(outputs: Outputs, oracle: Oracle) -> None:
    expected = sum(counts["heard_ms"] for counts in oracle.windows.values())
    deadline = time.monotonic() + 120
    while outputs.heard_ms() != (expected, expected):
        assert time.monotonic() < deadline, (outputs.heard_ms(), expected)
        assert max(outputs.heard_ms()) <= expected
        outputs.read()
