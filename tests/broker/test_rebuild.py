"""A rebuild on real parts, while events keep coming: exact, promoted, nothing is lost by it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pymongo
import pytest

from schemas.codec import RecordCodec
from streams.cli.local.instance import environment as instance_environment
from streams.cli.local.ports import free_ports
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogTail
from streams.kafka.message import Message
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire
from streams.operations.rebuild import LIVE, Rebuilder, drop_kept_generations
from streams.serving.mongo.expiry import EXPIRY, FIELD, MINUTES
from tests.broker.workers import instance, records
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.graph import build_graph
from topology.settings import Settings

BATCH_EVENTS = [sys.executable, "-m", "streams.events.batch_events"]
pytestmark = [pytest.mark.broker, pytest.mark.mongo]

STAGES = "track_engagement,track_listening,serve_mongo"
START = datetime.now(UTC) - timedelta(hours=2)


@contextmanager
def running(argv: list[str], environment: dict[str, str], log_file: Path) -> Iterator[None]:
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            argv, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield
            assert process.poll() is None, log_file.read_text()[-3000:]
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mongo_uri: str) -> Iterator[Settings]:
    with instance(tmp_path_factory.mktemp("rebuild"), mongo_uri) as settings:
        yield settings


@pytest.fixture(scope="module")
def environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **instance_environment(settings)}


@pytest.fixture(scope="module")
def stages(settings: Settings, environment: dict[str, str]) -> Iterator[None]:
    """The event path, from `user-events` to MongoDB."""
    home, (port,) = settings.podstream_home, free_ports(1)
    worker = [sys.executable, "-m", "faust", "-A", "streams.app", "--datadir", str(home / "worker")]
    with ExitStack() as stack:
        stack.enter_context(running(BATCH_EVENTS, environment, home / "batch.log"))
        stack.enter_context(
            running(
                [*worker, "worker", "--web-port", str(port), "--loglevel", "warn"],
                {**environment, "PODSTREAM_STAGES": STAGES},
                home / "worker.log",
            )
        )
        yield


class Listeners:
    """Writes events, and remembers what they add up to."""

    def __init__(self, settings: Settings) -> None:
        registry = topic_registry(settings.kafka_bootstrap_servers)
        self._codec = RecordCodec("user-events", "user_event", registry)
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._chance = random.Random(7)
        self._number = 0
        self.expected: Counter[str] = Counter()

    def write(self, number: int) -> None:
        for _ in range(number):
            self._number += 1
            user = f"u{self._chance.randrange(20)}"
            kind = self._chance.choice(["impression", "click", "play", "progress"])
            heard = self._chance.randrange(1000)
            event = {
                "event_id": str(self._number),
                "user_id": user,
                "episode_id": f"pi:{self._chance.randrange(30)}",
                "kind": kind,
                "occurred_at": START + timedelta(seconds=self._chance.randrange(1200)),
                "heard_ms": heard,
                "position_ms": 0,
            }
            self.expected.update({f"{kind}s": 1, "heard_ms": heard})
            for _ in range(2 if self._number % 50 == 0 else 1):
                self._producer.produce("user-events", self._codec.encode(event), key=user)
        self._producer.produce("user-events", b"garbage", key="u1")
        self._producer.flush()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Goes on writing, some 500 a second, for as long as the block lasts."""
        done = threading.Event()

        def write() -> None:
            while not done.wait(0.02):
                self.write(10)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def served(settings: Settings) -> dict[str, int]:
    """The sum of everything that MongoDB serves."""
    names = ("impressions", "clicks", "plays", "heard_ms")
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        documents = list(client[settings.mongodb_database]["engagement_windows"].find({}))
    return {name: sum(document[name] for document in documents) for name in names}


def late(settings: Settings) -> Counter[str]:
    """The sum of what came too late for the windows: each event once, however often it is there."""
    registry = topic_registry(settings.kafka_bootstrap_servers)
    wire = Wire(build_graph(settings.event_partitions), registry)
    frames: list[pl.DataFrame] = []
    reader = LogTail(settings.kafka_bootstrap_servers, ["late-events"])
    reader.read_to_end(
        lambda records: frames.extend(wire.decode(r.topic, r.value) for r in records)
    )
    reader.close()
    events = pl.concat(frames).unique(["partition", "offset"])
    kinds: Counter[str] = Counter(events["kind"].cast(pl.String).to_list())
    sums = Counter({f"{kind}s": number for kind, number in kinds.items()})
    sums["heard_ms"] = int(events["heard_ms"].sum())
    return sums


def test_a_rebuild_agrees_and_is_promoted_while_events_flow(
    settings: Settings, stages: None, environment: dict[str, str]
) -> None:
    listeners = Listeners(settings)
    listeners.write(2000)
    progress: list[tuple[int, int]] = []
    rebuilder = Rebuilder(
        settings, say=print, progress=lambda done, total: progress.append((done, total))
    )
    try:
        with listeners.writing():
            before = records(settings, "user-events")
            wait_until(lambda: records(settings, "user-events") > before, 30, "events that flow")
            outcome = rebuilder.run()
    finally:
        rebuilder.close()
    assert [c.differences for c in outcome.comparisons] == [[], [], []]
    assert outcome.promoted
    assert outcome.generation == 2
    assert outcome.events >= 2000
    assert outcome.repeats >= 40
    assert outcome.refused >= 1
    assert progress[-1][0] == progress[-1][1]

    # Nothing was lost by taking over: in the end MongoDB has what was written, once,
    # or among what came too late.
    def found() -> dict[str, int]:
        tardy = late(settings)
        return {name: number + tardy[name] for name, number in served(settings).items()}

    wanted = {name: listeners.expected[name] for name in served(settings)}
    wait_until(lambda: found() == wanted, 30, "everything that was written, once")
    assert late(settings)["plays"] > 0

    registry = topic_registry(settings.kafka_bootstrap_servers)
    codec = RecordCodec("table-generations", "table_generation", registry)
    pointers: list[Message] = []
    reader = LogTail(settings.kafka_bootstrap_servers, ["table-generations"])
    reader.read_to_end(pointers.extend)
    reader.close()
    (pointer,) = [codec.decode(record.value) for record in pointers]
    assert (pointers[0].key, pointer["table"], pointer["generation"]) == (b"live", LIVE, 2)
    assert {place["source_partition"] for place in pointer["offsets"]} == {0, 1}
    assert outcome.beside == "engagement_windows_g1"

    # A count that is wrong in what is served: exit 1, told by its key, and left as it is.
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        collection = client[settings.mongodb_database]["engagement_windows"]
        wrong = collection.find_one({"plays": {"$gt": 0}})
        assert wrong is not None
        collection.replace_one({"_id": wrong["_id"]}, {**wrong, "plays": wrong["plays"] + 1})
    command = [sys.executable, "-m", "streams.cli.main", "rebuild", "--check"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "MongoDB engagement_windows" in done.stdout
    assert "DIFFER" in done.stdout
    assert wrong["episode_id"] in done.stdout
    assert "Generation 3 is not promoted" in done.stdout
    assert found()["plays"] == wanted["plays"] + 1
    assert drop_kept_generations(settings) == ["engagement_windows_g1", "engagement_windows_g3"]

    # What has expired is not missed, and does not come back.
    limit = START + timedelta(minutes=10)
    with pymongo.MongoClient[dict[str, Any]](
        settings.mongodb_uri.get_secret_value(), tz_aware=True
    ) as client:
        database = client[settings.mongodb_database]
        database["engagement_windows"].replace_one({"_id": wrong["_id"]}, wrong)
        database[EXPIRY].update_one({"_id": MINUTES.key}, {"$set": {FIELD: limit}}, upsert=True)
        assert database["engagement_windows"].delete_many({"bucket": {"$lt": limit}}).deleted_count
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not database["engagement_windows"].count_documents({"bucket": {"$lt": limit}})
        assert database["engagement_windows"].count_documents({}) > 0


def test_dead_letters_are_listed_and_shown(
    settings: Settings, stages: None, environment: dict[str, str]
) -> None:
    """The garbage of the events above, on record as it came."""

    def podstream(*arguments: str) -> str:
        command = [sys.executable, "-m", "streams.cli.main", "dlq", *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    Listeners(settings).write(1)
    counts: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + 30
    while not counts.get("user-events.dlq", {}).get("count") and time.monotonic() < deadline:
        counts = {row["topic"]: row for row in json.loads(podstream("list", "--json"))}
    assert counts["user-events.dlq"]["count"] > 0
    assert "not a Confluent frame" in counts["user-events.dlq"]["newest_reason"]
    assert counts["recommendations.dlq"] == {
        "topic": "recommendations.dlq",
        "count": 0,
        "waiting": 0,
        "redriven": 0,
        "died_again": 0,
        "newest_reason": None,
    }
    shown = json.loads(podstream("show", "user-events", "--limit", "1"))
    assert (shown["key"], shown["value"], shown["bytes"]) == ("u1", "garbage", 7)
    assert shown["error"]["stage"] == "batch_events"
    assert shown["error"]["topic"] == "user-events"
