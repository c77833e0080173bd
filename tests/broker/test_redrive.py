"""Dead letters go back to where they came from, once, on a real broker and by the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from schemas.codec import RecordCodec
from streams.cli.commands.dead_letters import summary
from streams.cli.local.instance import environment as instance_environment
from streams.kafka.clients import producer
from streams.kafka.dead_letters import Progress, read_letters
from streams.kafka.letters import REDRIVEN
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.message import Message
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire, dead_letter_headers, error_headers
from streams.operations.redrive import SENT_AT_ONCE, Redriver
from tests.broker.workers import instance
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo, pytest.mark.timeout(120)]

PODSTREAM = [sys.executable, "-m", "streams.cli.main", "dlq"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mongo_uri: str) -> Iterator[Settings]:
    with instance(tmp_path_factory.mktemp("redrive"), mongo_uri) as settings:
        yield settings


@pytest.fixture(scope="module")
def environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **instance_environment(settings), "COLUMNS": "80"}


class Desk:
    """Puts letters into dead-letter topics, reads what went back, and calls the command."""

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        self._settings = settings
        self._servers = settings.kafka_bootstrap_servers
        self._environment = environment
        self._producer = producer(self._servers)
        self._offset = 0

    def die(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = b"u1",
        place: tuple[int, int] | None = None,
        reason: str = "bad",
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> None:
        """A dead letter as a stage writes it; without ``place`` as anybody else might."""
        if place is not None:
            why = error_headers(topic, *place, "some_stage", ValueError(reason))
            headers = (*headers, *why)
        self.write(f"{topic}.dlq", value, key=key, partition=0, headers=headers)

    def write(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        partition: int,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> int:
        """Write a record; its offset."""
        taken: list[int] = []

        def delivered(error: object, record: confluent_kafka.Message) -> None:
            assert error is None, error
            offset = record.offset()
            assert offset is not None
            taken.append(offset)

        self._producer.produce(
            topic,
            value,
            key,
            partition=partition,
            headers=list(headers),
            on_delivery=delivered,
        )
        self._producer.flush()
        return taken[0]

    def podstream(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*PODSTREAM, *arguments],
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def state(self, topic: str) -> dict[str, Any]:
        """What `list` says of a topic."""
        dead = f"{topic}.dlq"
        letters = read_letters(self._servers, [dead])[dead]
        return summary(
            dead, letters, Progress(self._settings).read().get(dead, []), redrivable=True
        )

    def records(self, topic: str) -> list[Message]:
        found: list[Message] = []
        topic_reader = LogTail(self._servers, [topic])
        topic_reader.read_to_end(found.extend)
        topic_reader.close()
        return found


@pytest.fixture(scope="module")
def desk(settings: Settings, environment: dict[str, str]) -> Desk:
    return Desk(settings, environment)


def test_a_letter_goes_back_as_it_came_and_only_once(desk: Desk) -> None:
    trace: tuple[tuple[str, bytes | None], ...] = (("trace", b"\x01"), ("trace", None))
    # The same key in both partitions: the place of the source record decides, not the key.
    desk.die("episode-ids", b"one", place=(0, 5), headers=trace)
    desk.die("episode-ids", b"two", place=(1, 5), reason="other")
    desk.die("episode-ids", b"one", place=(0, 5), headers=trace)  # sent again after a crash
    desk.die("episode-ids", None, place=(1, 6), reason="other")
    desk.die("episode-ids", b"nobody's", key=b"u7")

    would = desk.podstream("redrive", "episode-ids", "--dry-run")
    assert "episode-ids.dlq@0 from [0]@5, key u1, 3 bytes: bad" in would
    assert "would redrive 4 to episode-ids" in would
    assert desk.records("episode-ids") == []

    said = desk.podstream("redrive", "episode-ids.dlq", "--where", "^oth", "--limit", "1")
    assert said.splitlines() == [
        "redriven 1 of 1 to episode-ids",
        "3 not asked for, and still wait",
    ]
    assert [(m.partition, m.value) for m in desk.records("episode-ids")] == [(1, b"two")]
    assert (desk.state("episode-ids")["waiting"], desk.state("episode-ids")["redriven"]) == (3, 1)

    assert desk.podstream("redrive", "episode-ids") == "redriven 3 of 3 to episode-ids\n"
    desk.die("episode-ids", b"two", place=(1, 5), reason="other")  # a late copy of what is done
    assert desk.podstream("redrive", "episode-ids") == "redriven 0 of 0 to episode-ids\n"
    rows = {row["topic"]: row for row in json.loads(desk.podstream("list", "--json"))}
    assert rows["user-event-batches.dlq"]["waiting"] is None
    assert rows["episode-ids.dlq"] == {
        "topic": "episode-ids.dlq",
        "count": 4,
        "waiting": 0,
        "redriven": 4,
        "died_again": 0,
        "newest_reason": "other",
    }
    back = {m.value: m for m in desk.records("episode-ids")}
    assert {value: m.partition for value, m in back.items() if value != b"nobody's"} == {
        b"one": 0,
        b"two": 1,
        None: 1,
    }
    assert {m.key for m in back.values()} == {b"u1", b"u7"}
    assert back[b"one"].headers == (*trace, (REDRIVEN, b"1"))


def test_what_is_still_bad_dies_again_as_a_new_letter(
    desk: Desk, settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    registry = topic_registry(settings.kafka_bootstrap_servers)
    codec = RecordCodec("user-events", "user_event", registry)
    event = codec.encode(
        {
            "event_id": "e1",
            "user_id": "ada",  # who belongs to partition 1
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": datetime.now(UTC),
            "heard_ms": 0,
            "position_ms": 0,
        }
    )
    wire = Wire(build_graph(2), registry)
    desk.write("user-events", b"garbage", key=b"u1", partition=1)
    desk.die("user-events", event, place=(1, 1000), reason="schema 7 is unknown")
    command = [sys.executable, "-m", "streams.events.batch_events"]
    with (tmp_path / "log").open("wb") as log:
        batching = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_until(lambda: desk.state("user-events")["count"] == 2, 60, "the dead event")
            assert "redriven 2 of 2" in desk.podstream("redrive", "user-events")
            wait_until(lambda: desk.state("user-events")["count"] == 3, 60, "that it dies again")
        finally:
            batching.kill()
            batching.wait()
    assert desk.state("user-events")["waiting"] == desk.state("user-events")["died_again"] == 1
    shown = json.loads(desk.podstream("show", "user-events", "--limit", "1"))
    assert (shown["value"], shown["headers"]) == ("garbage", {REDRIVEN: "1"})
    assert shown["error"]["partition"] == "1"
    batches = [
        (m.partition, wire.decode(m.topic, m.value)) for m in desk.records("user-event-batches")
    ]
    assert [
        (partition, event_id) for partition, batch in batches for event_id in batch["event_id"]
    ] == [(1, "e1")]
    said = desk.podstream("redrive", "user-events")
    assert "1 of them had been redriven before and died again" in said
    last = desk.records("user-events")[-1]
    assert (last.value, dict(last.headers)) == (b"garbage", {REDRIVEN: b"2"})


def test_an_old_record_does_not_undo_a_newer_one(desk: Desk) -> None:
    """In a compacted topic the newest record of a key counts."""
    old = desk.write("feeds", b"old", key=b"a", partition=0)
    only = desk.write("feeds", b"only", key=b"b", partition=0)
    desk.write("feeds", b"new", key=b"a", partition=0)
    desk.die("feeds", b"old", key=b"a", place=(0, old))
    desk.die("feeds", b"only", key=b"b", place=(0, only))
    assert desk.podstream("redrive", "feeds").splitlines() == [
        "redriven 1 of 1 to feeds",
        "1 not sent: a newer record of their key has replaced them",
    ]
    assert [m.value for m in desk.records("feeds")] == [b"old", b"only", b"new", b"only"]
    assert desk.state("feeds")["waiting"] == 0


def test_what_the_broker_refuses_is_told_and_takes_nothing_with_it(desk: Desk) -> None:
    """A compacted topic takes no record without a key."""
    desk.die("episode-metadata", b"1", key=b"k")
    desk.die("episode-metadata", b"2", key=None)
    desk.die("episode-metadata", b"3", key=b"k")
    said = desk.podstream("redrive", "episode-metadata", code=1)
    assert "redriven 2 of 3 to episode-metadata" in said
    assert "refused: episode-metadata.dlq@1, key None" in said
    assert "1 refused by the broker, and still wait" in said
    assert [m.value for m in desk.records("episode-metadata")] == [b"1", b"3"]
    assert desk.state("episode-metadata")["waiting"] == 1


def test_a_record_as_large_as_the_topic_takes_comes_back(desk: Desk, settings: Settings) -> None:
    limit = build_graph(2).topics["episode-candidates"].max_message_bytes
    noise = os.urandom(limit)  # nothing to gain by compressing it
    taken: list[bool] = []
    writer = producer(settings.kafka_bootstrap_servers)
    while not any(taken):
        largest = noise[: -60 - len(taken)]
        writer.produce(
            "episode-candidates",
            largest,
            b"u1",
            partition=0,
            on_delivery=lambda error, _: taken.append(error is None),
        )
        writer.flush()
    assert 2 <= len(taken) < 40
    desk.die("episode-candidates", largest, place=(0, 0))
    desk.die("episode-candidates", b"small", place=(0, 1))
    assert "redriven 2 of 2" in desk.podstream("redrive", "episode-candidates")
    back = desk.records("episode-candidates")[1:]
    assert [m.value for m in back] == [largest, b"small"]
    assert [dict(m.headers) for m in back] == [{}, {REDRIVEN: b"1"}]


def test_batches_of_rows_are_not_sent_back(desk: Desk) -> None:
    said = desk.podstream("redrive", "user-event-batches", code=1)
    assert "podstream rebuild --check" in said


def test_of_two_runs_at_once_one_is_told_so(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.die("episode-transcripts", b"x", key=b"k")
    plan = Redriver.plan
    told: list[str] = []

    def meanwhile(self: Redriver, *arguments: object) -> object:
        monkeypatch.undo()
        told.append(desk.podstream("redrive", "episode-transcripts", code=1))
        return plan(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Redriver, "plan", meanwhile)
    source = build_graph(2).topics["episode-transcripts"]
    _, outcome = Redriver(settings, source).run()
    assert "Another `podstream dlq redrive` is at work" in told[0]
    assert len(outcome.sent) == len(desk.records("episode-transcripts")) == 1


def test_a_kill_in_the_middle_loses_no_letter(
    desk: Desk, settings: Settings, environment: dict[str, str]
) -> None:
    number = 100 * SENT_AT_ONCE
    writer = producer(settings.kafka_bootstrap_servers)
    for one in range(number):
        why = error_headers("episode-anomalies", 0, one, "s", ValueError("bad"))
        headers = list(dead_letter_headers([], why))
        writer.produce("episode-anomalies.dlq", str(one).encode(), f"k{one}", headers=headers)  # type: ignore[arg-type]
    writer.flush()
    logs = LogReader(settings.kafka_bootstrap_servers)
    running = subprocess.Popen(
        [*PODSTREAM, "redrive", "episode-anomalies"], env=environment, cwd=ROOT
    )
    sent = 3 * SENT_AT_ONCE
    wait_until(
        lambda: logs.ends("episode-anomalies")[0] > sent,
        60,
        "some letters that were sent",
        every_s=0.01,
    )
    running.kill()
    assert running.wait() == -9
    logs.close()
    left = desk.state("episode-anomalies")["waiting"]
    assert 0 < left < number
    assert f"redriven {left} of {left}" in desk.podstream("redrive", "episode-anomalies")
    times = Counter(m.value for m in desk.records("episode-anomalies") if m.headers)
    assert len(times) == number
    assert sum(times.values()) - number <= SENT_AT_ONCE
