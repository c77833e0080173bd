"""A replay forgets what is named and all that was made of it; cut off anywhere, it goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.write_delta import histories
from schemas import columnar
from schemas.codec import RecordCodec
from streams.events.core.batching import FIRST_OFFSET, LAST_OFFSET
from streams.kafka.clients import producer, reader
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.message import Message
from streams.kafka.purge import commit, committed
from streams.kafka.registry import open_registry, topic_registry
from streams.kafka.wire import Wire
from streams.operations.replay import ReplayError, replay
from tests.broker.workers import instance
from tests.chaos.processes import Processes
from tests.waiting import wait_until
from topology.graph import app_id, build_graph, state_topic
from topology.settings import Settings
from topology.topics.engagement import LISTENING_SESSIONS, USER_EPISODE_DAILY
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

BATCHES, EVENTS, DAILY = USER_EVENT_BATCHES.name, USER_EVENTS.name, USER_EPISODE_DAILY.name
STAGE = "track_listening"
OWNED = ("bob", "ada")
"""A listener of each partition."""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with instance(tmp_path) as settings:
        yield settings


class CutOffError(Exception):
    """The command was killed."""


class Replays:
    """The command on an instance, cut off before its n-th step."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.graph = settings, build_graph(settings.event_partitions)
        self.steps: list[str] = []

    def run(self, *names: str, cut_off: int = -1, **more: Any) -> int:
        self.steps = []

        def say(step: str) -> None:
            if len(self.steps) == cut_off:
                raise CutOffError(step)
            self.steps.append(step)

        made = histories(self.settings, self.graph)
        registry = open_registry(self.settings)
        return replay(self.settings, self.graph, registry, names, made, say=say, **more)

    def committed(self, stage: str, topic: str = BATCHES) -> dict[int, int]:
        group = app_id(self.graph.stages[stage])
        return committed(self.settings, group, self.graph.topics[topic])

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        with LogReader(self.settings.kafka_bootstrap_servers) as logs:
            return {number: logs.bounds(topic, number) for number in logs.partitions(topic)}


def send(settings: Settings, topic: str, number: int, partition: int, **headers: str) -> None:
    writer = producer(settings.kafka_bootstrap_servers)
    with_headers = [(name, value.encode()) for name, value in headers.items()]
    for _ in range(number):
        writer.produce(topic, b"x", partition=partition, headers=list(with_headers))
    assert writer.flush(30) == 0


def test_what_stands_in_the_way_is_named_and_nothing_is_changed(settings: Settings) -> None:
    command = Replays(settings)
    stage = command.graph.stages[STAGE]
    state = state_topic(stage, stage.tables[0]).name
    for topic in (state, DAILY):
        send(settings, topic, 3, 0)
    before = {topic: command.bounds(topic) for topic in (state, DAILY, BATCHES)}
    with pytest.raises(ReplayError, match="No stage nobody"):
        command.run("nobody")
    consumer = reader(settings.kafka_bootstrap_servers, app_id(command.graph.stages["recommend"]))
    consumer.subscribe([BATCHES])
    consumer.poll(10)
    with pytest.raises(ReplayError, match="recommend is running: stop all but the broker"):
        command.run(STAGE)
    consumer.close()
    command.settings = settings.model_copy(update={"checkpoint_root": "hdfs://far/checkpoints"})
    with pytest.raises(ReplayError, match="Remove hdfs://far/checkpoints/write_delta/batches and"):
        command.run(STAGE)
    assert {topic: command.bounds(topic) for topic in before} == before
    command.run(STAGE, checkpoints_removed=True)
    assert command.bounds(DAILY)[0] == (3, 3)


def test_a_checkpoint_elsewhere_is_never_removed(settings: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "others"
    (elsewhere / "write_delta" / "batches").mkdir(parents=True)
    root = settings.podstream_home / "checkpoints" / "write_delta"
    root.parent.mkdir(parents=True)
    root.symlink_to(elsewhere / "write_delta")
    with pytest.raises(ReplayError, match="is not below"):
        Replays(settings).run(STAGE)
    assert (elsewhere / "write_delta" / "batches").exists()


def test_cut_off_at_any_step_it_does_the_rest_when_it_is_run_again(settings: Settings) -> None:
    command = Replays(settings)
    graph = command.graph
    stage = graph.stages[STAGE]
    state = state_topic(stage, stage.tables[0]).name
    made = histories(settings, graph)
    table, checkpoint = made[DAILY].table, Path(made[DAILY].checkpoint)
    amounts = pl.DataFrame({"heard_ms": [1, 2]}).to_arrow()
    steps, cut_off = 10, 0
    while cut_off < steps:
        send(settings, state, 3, 0)
        send(settings, EVENTS, 4, 1)
        send(settings, BATCHES, 2, 1, **{FIRST_OFFSET: "0", LAST_OFFSET: "3"})
        send(settings, DAILY, 2, 1)
        send(settings, LISTENING_SESSIONS.name, 1, 0)
        write_deltalake(table, amounts, mode="append")
        (checkpoint / "offsets").mkdir(parents=True)
        end = command.bounds(BATCHES)[1][1]
        for other in (STAGE, "track_engagement"):
            commit(settings, app_id(graph.stages[other]), {BATCHES: {1: end - 1}})

        with pytest.raises(CutOffError):
            command.run(STAGE, cut_off=cut_off)
        if command.bounds(state)[0] == (0, 0):  # it has forgotten: then it may not start
            assert command.committed(STAGE) == {}
            first, last = command.bounds(BATCHES)[1]
            assert 0 < first < last
        events = sum(end for _, end in command.bounds(EVENTS).values())
        assert command.run(STAGE) == events
        steps = len(command.steps)
        cut_off += 1

        assert command.bounds(state)[0] == (0, 0)
        for topic in (DAILY, LISTENING_SESSIONS.name):
            assert all(first == end for first, end in command.bounds(topic).values())
        assert DeltaTable(table).to_pyarrow_table().num_rows == 0
        assert list(checkpoint.parent.iterdir()) == []
        first, end = command.bounds(BATCHES)[1]
        assert end == first + 1, "the record that says where to begin"
        assert command.committed(STAGE) == command.committed("track_engagement") == {1: first}
        assert command.committed("recommend") == {}, "it has never read anything"
    assert steps > 6


def stamp(codec: RecordCodec, event_id: str, user: str) -> bytes:
    return codec.encode(
        {
            "event_id": event_id,
            "user_id": user,
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": datetime.now(UTC),
        }
    )


def test_what_an_older_release_counted_where_it_lay_is_counted_there_again(
    settings: Settings, processes: Processes
) -> None:
    """Handed over now, it would count twice wherever it is not forgotten."""
    command = Replays(settings)
    registry = topic_registry(settings.kafka_bootstrap_servers)
    codec = RecordCodec(EVENTS, "user_event", registry)
    wire = Wire(command.graph, registry)
    writer = producer(settings.kafka_bootstrap_servers)

    def write(event_id: str, user: str, partition: int) -> None:
        writer.produce(EVENTS, stamp(codec, event_id, user), key=user, partition=partition)
        assert writer.flush(30) == 0

    def batched() -> dict[int, list[str]]:
        found: list[Message] = []
        with LogTail(settings.kafka_bootstrap_servers, [BATCHES]) as tail:
            tail.read_to_end(found.extend)
        ids: dict[int, list[str]] = {0: [], 1: []}
        for message in sorted(found, key=lambda m: m.offset):
            ids[message.partition] += wire.decode(BATCHES, message.value)["event_id"].to_list()
        return ids

    def batch_until(expected: dict[int, list[str]]) -> None:
        processes.start_batcher("batcher")
        wait_until(lambda: batched() == expected, 180, "batches", check=processes.check)
        end = sum(last for _, last in command.bounds(EVENTS).values())
        group = app_id(command.graph.stages["batch_events"])
        topic = command.graph.topics[EVENTS]
        wait_until(
            lambda: sum(committed(settings, group, topic).values()) == end,
            180,
            "all that was handed over is read",
            check=processes.check,
        )
        assert processes.end("batcher", signal.SIGTERM) == 0

    # An older release counted both where they lay.
    write("old stray", OWNED[1], 0)
    write("own", OWNED[0], 0)
    rows = pl.DataFrame({"event_id": ["old stray", "own"]})
    schema = columnar.columns("user_event")
    whole = rows.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name != "event_id"
    ).select(list(schema))
    value = columnar.to_message(whole, "user_event")
    headers: list[tuple[str, str | bytes | None]] = [(FIRST_OFFSET, b"0"), (LAST_OFFSET, b"1")]
    writer.produce(BATCHES, value, partition=0, headers=headers)
    assert writer.flush(30) == 0
    # This one hands over what comes then.
    write("new stray", OWNED[1], 0)
    write("another", OWNED[1], 1)
    batch_until({0: ["old stray", "own"], 1: ["another", "new stray"]})
    written = command.bounds(EVENTS)

    for _ in range(2):
        command.run()
        batch_until({0: ["old stray", "own"], 1: ["another", "new stray"]})
    again = command.bounds(EVENTS)
    assert again[0] == written[0]
    assert again[1][1] == written[1][1] + 2, "the new stray is handed over again, and known"
