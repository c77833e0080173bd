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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from streams.kafka.log_reader import LogReader
from tests.chaos.processes import Processes
from tests.chaos.river import (
    PAST,
    PATIENCE_S,
    SEED,
    SOURCE,
    TRACKERS,
    Log,
    Writer,
    wait_until_settled,
    what_happened,
)
from tests.drawing import drawn
from tests.waiting import wait_until
from topology.graph import app_id, build_graph, dead_letter_name, state_topic
from topology.model import Stage
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]

PARTITIONS = 3
SETTINGS = {"allowed_lateness_s": 900, "dedup_window": 3000}
KILLS, DRAWN = 10, 3
"""Kill points of each process, and how many of them a run takes that does not take all."""

IMPORTED = 3_000
"""Events of the file that is imported."""

PAST_LIFE_S = 15.0
"""For each kill so many seconds pass until event time is at the present."""
LIVE_TICKS = 40
"""At least so many ticks follow at the present."""
LONGEST_LIFE_S = 40.0
STEADY = (
    "engagement-windows",
    "rolling-windows",
    "table-progress",
    "user-episode-daily",
)
"""Outputs that grow all the time."""


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


def test_every_table_is_exact_after_kills(
    settings: Settings, processes: Processes, record_property: Callable[[str, object], None]
) -> None:
    graph, chance = build_graph(PARTITIONS), random.Random(SEED)
    tracked = [graph.stages[name] for name in TRACKERS]
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
    log = Log(settings)
    wait_until_settled(settings, log, at, processes.check)
    assert processes.end("batcher", signal.SIGTERM) == 0
    assert processes.end("second", signal.SIGTERM) == 0

    oracle = log.check(writer.deliveries)
    happened = what_happened(oracle)
    assert min(happened[name] for name in ("moved", "repeats", "dead")) > 100
    good = [row for of in oracle.sorted.values() for row in of.good]
    counted = Counter(row.event_id for row in good if row.event_id.startswith("imported"))
    assert counted == Counter(f"imported {number}" for number in range(IMPORTED))
    oracle.check_trending(log.outputs)
    anomalies = oracle.check_anomalies(log.outputs)
    assert anomalies > 0
    print(f"{anomalies} anomalies, {dict(happened)}")
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
