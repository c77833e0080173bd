"""Events in, tables and documents out, batches purged, all of it replayed: what the oracle says."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from pymongo import MongoClient

from schemas.codec import RecordCodec
from streams.cli.local.instance import variables
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.message import Message
from streams.kafka.purge import commit, committed, purge
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire
from streams.operations.verify import Verifier
from tests.broker.workers import instance
from tests.chaos.processes import Processes
from tests.oracle import tables
from tests.oracle.check import Oracle
from tests.oracle.listeners import EPISODES, Delivery, Listeners, last_event
from tests.oracle.log import Entry
from tests.oracle.readers import DAILY_SUMS, pick
from tests.paths import ROOT
from tests.waiting import wait_for_rest, wait_until
from topology.graph import app_id, build_graph
from topology.settings import Settings
from topology.topics.engagement import ENGAGEMENT_HISTORY, LISTENING_SESSIONS
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS

pytestmark = [
    pytest.mark.broker,
    pytest.mark.mongo,
    pytest.mark.spark,
    pytest.mark.timeout(900),
]

BATCHES, EVENTS = USER_EVENT_BATCHES.name, USER_EVENTS.name
STAGES = ("track_engagement", "track_listening", "serve_mongo")
REPLAYED = ("track_engagement", "track_listening")
HOURS = 30
"""Of event time: over the end of a day, whose tables are final then."""

PATIENCE_S = 180.0
COUNTS = ("plays", "completes", "heard_ms")


@pytest.fixture
def settings(tmp_path: Path, mongo_uri: str) -> Iterator[Settings]:
    with instance(tmp_path, mongo_uri) as settings:
        more = {
            "allowed_lateness_s": 900,
            "dedup_window": 3000,
            "delta_trigger_s": 0.5,
            "als_min_new": 10**9,
            "spark_driver_memory": "1g",
        }
        yield settings.model_copy(update=more)


class World:
    """An instance, what was written to it, and what has become of that."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self.settings, self.processes = settings, processes
        self.graph = build_graph(settings.event_partitions)
        self._bootstrap = settings.kafka_bootstrap_servers
        registry = topic_registry(self._bootstrap)
        self._wire = Wire(self.graph, registry)
        self._codec = RecordCodec(EVENTS, "user_event", registry)
        self._producer = producer(self._bootstrap)
        self._crowd = Listeners(5, 40, timedelta(seconds=settings.allowed_lateness_s))
        self._deliveries: list[Delivery] = []
        for name, episode in EPISODES.items():
            value = RecordCodec("episode-metadata", "episode", registry).encode(episode)
            self._producer.produce("episode-metadata", value, key=name)

    def write(self, number: int, start: datetime, end: datetime) -> None:
        """So many events, and a last one in each partition that all of them end with."""
        for delivery in self._crowd.deliveries(number, start, end, fast=timedelta(minutes=2)):
            self._write(delivery)
        for partition in range(self.settings.event_partitions):
            last = last_event(partition, self.settings.event_partitions, end)
            event = {**(last.event or {}), "event_id": f"last {partition} {end}"}
            self._write(Delivery(last.key, event), partition=partition)
        assert self._producer.flush(30) == 0

    def _write(self, delivery: Delivery, **place: Any) -> None:
        number = str(len(self._deliveries)).encode()
        self._deliveries.append(delivery)
        value = delivery.value(self._codec.encode)
        headers: list[tuple[str, str | bytes | None]] = [("delivery", number)]
        self._producer.produce(EVENTS, value, key=delivery.key, headers=headers, **place)

    # -- the processes -----------------------------------------------------------------------------

    def start(self) -> None:
        self.processes.start_spark("spark")
        self.processes.start_batcher("batcher")
        self.processes.start_worker("worker", STAGES)

    def stop(self) -> None:
        for name in ("batcher", "worker", "spark"):
            assert self.processes.end(name, signal.SIGTERM) == 0, self.processes.log(name)[-3000:]

    # -- what there is -----------------------------------------------------------------------------

    def messages(self, topic: str) -> list[Message]:
        found: list[Message] = []
        with LogTail(self._bootstrap, [topic]) as tail:
            tail.read_to_end(found.extend)
        return sorted(found, key=lambda message: (message.partition, message.offset))

    def outputs(self, topic: str) -> list[tuple[int, Any]]:
        values = [(m.partition, self._wire.decode(topic, m.value)) for m in self.messages(topic)]
        return [(p, v.to_dicts() if isinstance(v, pl.DataFrame) else v) for p, v in values]

    def oracle(self) -> Oracle:
        entries: dict[int, list[Entry]] = {n: [] for n in range(self.settings.event_partitions)}
        for message in self.messages(EVENTS):
            delivery = self._deliveries[int(message.header("delivery") or b"")]
            at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=message.timestamp_ms)
            entries[message.partition].append(Entry(message.offset, at, delivery.readable))
        lateness_s, window = self.settings.allowed_lateness_s, self.settings.dedup_window
        return Oracle.of(entries, EPISODES, lateness_s=lateness_s, dedup_window=window)

    def rows(self, table: str) -> list[dict[str, Any]]:
        path = f"{self.settings.delta_root}/{table}"
        if not DeltaTable.is_deltatable(path):
            return []
        rows: list[dict[str, Any]] = DeltaTable(path).to_pyarrow_table().to_pylist()
        return rows

    def served(self) -> Counter[str]:
        """The sum of the minutes that MongoDB serves."""
        with MongoClient[dict[str, Any]](self.settings.mongodb_uri.get_secret_value()) as client:
            documents = list(client[self.settings.mongodb_database]["engagement_windows"].find({}))
        return Counter({name: sum(one[name] for one in documents) for name in COUNTS})

    def check_log(self, oracle: Oracle) -> None:
        dead = [
            (
                int(message.header("__connect.errors.partition") or b""),
                int(message.header("__connect.errors.offset") or b""),
            )
            for message in self.messages("user-events.dlq")
        ]
        oracle.check_batches(self.outputs, dead)
        oracle.check_engagement(self.outputs)
        oracle.check_listening(self.outputs)

    def compare(self, oracle: Oracle) -> dict[str, bool]:
        """Table -> whether it is what the oracle says."""
        found: dict[str, bool] = {}
        good = [(n, row.offset) for n, records in oracle.sorted.items() for row in records.good]
        events = [
            (row["source_partition"], row["source_offset"]) for row in self.rows("user_events")
        ]
        found["user_events"] = sorted(events) == sorted(good)
        daily = {
            (row["source_partition"], row["user_id"], row["episode_id"], row["day"]): pick(
                row, DAILY_SUMS
            )
            for row in self.rows("user_vs_episode_daily")
        }
        found["user_vs_episode_daily"] = daily == _flat(
            oracle.per_partition(tables.daily), DAILY_SUMS
        )
        for table, key, of in (
            ("engagement_minutes", ("episode_id", "bucket"), tables.history),
            ("listening_sessions", ("user_id", "started_at"), tables.sessions),
        ):
            told = [
                ((row["source_partition"], *(row[name] for name in key)), pick(row, COUNTS))
                for row in self.rows(table)
            ]
            each = dict(told)
            wanted_rows = _flat(oracle.per_partition(of, oracle.lateness), COUNTS)
            found[table] = each == wanted_rows and len(told) == len(each)
        days = oracle.per_partition(tables.days, oracle.lateness)
        final = {
            place: row
            for place, row in _flat(days, (*COUNTS, "downloads", "final")).items()
            if row.pop("final")
        }
        found["episode_daily"] = final == {
            (row["source_partition"], row["episode_id"], row["day"]): pick(
                row, (*COUNTS, "downloads")
            )
            for row in self.rows("episode_daily")
        }
        wanted = Counter[str]()
        for windows in oracle.per_partition(tables.windows).values():
            for row in windows.values():
                wanted.update(pick(row, COUNTS))
        found["engagement_windows"] = self.served() == wanted
        return found

    def wait_until_exact(self) -> Oracle:
        """Return when everything read is in every table, and they are what they should be."""
        oracle = self.oracle()
        ends = {n: records.written() for n, records in oracle.sorted.items()}
        batcher = app_id(self.graph.stages["batch_events"])

        def batched() -> bool:
            return committed(self.settings, batcher, self.graph.topics[EVENTS]) == ends

        wait_until(batched, PATIENCE_S, "batches of everything", check=self.processes.check)
        state: dict[str, bool] = {}

        def exact() -> bool:
            state.clear()
            state.update(self.compare(oracle))
            return all(state.values())

        try:
            wait_until(exact, PATIENCE_S, "exact tables", every_s=1.0, check=self.processes.check)
        finally:
            print(state, self.served())
        outputs = sorted({t for name in REPLAYED for t in self.graph.stages[name].produces})
        with LogReader(self._bootstrap) as logs:
            wait_for_rest(
                lambda: {topic: logs.ends(topic) for topic in outputs},
                12.0,
                PATIENCE_S,
                "outputs that come to rest",
                check=self.processes.check,
            )
        return oracle


def _flat(
    by_partition: dict[int, dict[tuple[Any, ...], dict[str, Any]]], names: tuple[str, ...]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {
        (partition, *place): pick(row, names)
        for partition, rows in by_partition.items()
        for place, row in rows.items()
    }


def check_that_it_verifies(settings: Settings) -> None:
    """Every way to each number agrees; one number that is made wrong is found, with its key."""

    def violations() -> dict[str, list[str]]:
        verifier = Verifier(settings, random.Random(5))
        try:
            findings = verifier.run()
        finally:
            verifier.close()
        print({found.check: found.compared for found in findings})
        assert [found.check for found in findings if not found.compared] == []
        return {f.check: [v.sentence() for v in f.violations] for f in findings if f.violations}

    assert violations() == {}
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        windows = client[settings.mongodb_database]["engagement_windows"]
        wrong = windows.find().sort("bucket", -1).limit(200)[199]
        partition = min(wrong["parts"])
        windows.update_one({"_id": wrong["_id"]}, {"$inc": {f"parts.{partition}.plays": 1}})
        found = violations()
        windows.replace_one({"_id": wrong["_id"]}, wrong)
    episode, minute = wrong["episode_id"], wrong["bucket"].isoformat()
    (sentence,) = found["minutes in Delta against minutes"]
    assert f"episode_id {episode}, bucket {minute}+00:00, partition {partition}:" in sentence
    (sentence,) = found["totals against minutes"]
    assert f"bucket {minute}+00:00, partition {partition}: plays" in sentence


def test_tables_and_documents_after_a_replay_are_those_of_the_log(
    settings: Settings, processes: Processes
) -> None:
    world, now = World(settings, processes), datetime.now(UTC).replace(microsecond=0)
    begin = now - timedelta(hours=HOURS)
    world.start()
    world.write(600, begin, begin + timedelta(hours=20))
    world.wait_until_exact()
    world.write(300, begin + timedelta(hours=20), now - timedelta(hours=2))
    world.check_log(world.wait_until_exact())
    world.stop()

    # What everybody has read is purged: batches and all that was made of them, but the newest.
    graph = world.graph
    topics = {
        name: topic if topic.purge_after_ms is None else replace(topic, purge_after_ms=0)
        for name, topic in graph.topics.items()
    }
    reached = {}
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        for name in ("recommend", "learn_blend"):
            commit(settings, app_id(graph.stages[name]), {BATCHES: logs.ends(BATCHES)})
    spark = graph.stages["write_delta"]
    for name in spark.consumes:
        if topics[name].purge_after_ms is not None:
            reached[name] = committed(settings, app_id(spark), topics[name])
    purged = purge(settings, replace(graph, topics=topics), {spark.name: reached})
    assert {BATCHES, ENGAGEMENT_HISTORY.name, LISTENING_SESSIONS.name} <= purged.keys()

    # More comes meanwhile, so that batches are cut across what was counted before.
    world.write(300, now - timedelta(hours=2), now)
    command = [sys.executable, "-m", "streams.cli.main", "replay", *REPLAYED]
    environment = {**os.environ, **variables(settings)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "events come again once batch_events runs" in done.stdout
    assert world.rows("user_vs_episode_daily") == world.rows("engagement_minutes") == []

    world.start()
    oracle = world.wait_until_exact()
    world.check_log(oracle)
    check_that_it_verifies(settings)
    world.stop()
    assert "would begin in the middle" not in processes.log("worker")
    assert sum(len(verdicts) for verdicts in oracle.verdicts.values()) > 900
