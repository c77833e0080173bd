"""A stage that would begin in the middle of history ends instead, with a sentence; others go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import polars as pl
import pytest
from confluent_kafka import TopicPartition

from schemas import columnar
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader
from streams.kafka.purge import commit, committed
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from tests.broker.workers import DEAD, SOURCE, instance, records, write_garbage
from tests.chaos.processes import Processes
from tests.waiting import wait_until
from topology.access import admin_client
from topology.graph import app_id, build_graph, dead_letter_name, state_topic
from topology.settings import Settings
from topology.topics.engagement import ENGAGEMENT_WINDOWS

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

STAGE = "track_listening"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with instance(tmp_path_factory.mktemp("missing")) as settings:
        yield settings


def purge_all(settings: Settings, topic: str) -> dict[int, int]:
    """Partition -> where the topic begins and ends now."""
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        ends = logs.ends(topic)
    places = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
    admin = admin_client(settings.kafka_bootstrap_servers)
    for future in admin.delete_records(places).values():
        future.result(30)
    return ends


def send_batch(settings: Settings, partition: int) -> None:
    """A batch of one event, behind what is in the topic."""
    graph = build_graph(settings.event_partitions)
    event = {
        "partition": partition,
        "offset": 10**6,
        "event_id": "1",
        "user_id": "ada",
        "episode_id": "pi:1",
        "kind": "play",
    }
    schema = columnar.columns("user_event")
    rows = pl.DataFrame([{name: event.get(name) for name in schema}], schema=schema).with_columns(
        pl.lit(1_767_225_600_000).cast(schema["occurred_at"]).alias("occurred_at"),
        pl.lit(1_767_225_600_000).cast(schema["logged_at"]).alias("logged_at"),
        *(pl.lit(0, schema[name]).alias(name) for name in ("heard_ms", "position_ms")),
    )
    value = Wire(graph, open_registry(settings)).encode(SOURCE, rows)
    writer = producer(settings.kafka_bootstrap_servers)
    writer.produce(SOURCE, value, partition=partition)
    assert writer.flush(30) == 0


def reads_on(settings: Settings, processes: Processes) -> None:
    """Start the stage, have it put aside what comes now, and kill it."""
    write_garbage(settings)
    before = records(settings, DEAD)
    processes.start_worker("worker", [STAGE])
    wait_until(
        lambda: records(settings, DEAD) >= before + 2,
        60,
        "a worker that reads on",
        check=processes.check,
    )
    processes.end("worker", signal.SIGTERM)


def refuses(settings: Settings, processes: Processes) -> str:
    """Start the stage; the last line that it logs, once its group has forgotten it."""
    processes.start_worker("worker", [STAGE])
    assert processes.ended("worker", 60) == 70
    group = app_id(build_graph(settings.event_partitions).stages[STAGE])
    admin = admin_client(settings.kafka_bootstrap_servers)

    def left() -> bool:
        return not admin.describe_consumer_groups([group])[group].result(30).members

    wait_until(left, 30, "a group without members")
    said = processes.log("worker").splitlines()[-1]
    assert "track_listening would begin in the middle of history" in said
    assert "run `podstream replay track_listening`" in said
    assert "Traceback" not in processes.log("worker")
    return said


def test_a_stage_that_has_read_nothing_of_a_purged_topic_does_not_start(
    settings: Settings, processes: Processes
) -> None:
    graph = build_graph(settings.event_partitions)
    stage, topic = graph.stages[STAGE], graph.topics[SOURCE]
    (table,) = stage.tables
    write_garbage(settings, each=3)
    firsts = purge_all(settings, SOURCE)
    for _ in range(2):  # nor does it the next time
        said = refuses(settings, processes)
        assert "user-event-batches[" in said
        assert "before offset 3" in said
    assert committed(settings, app_id(stage), topic) == {}
    assert records(settings, state_topic(stage, table).name) == 0

    # That it is to begin there is what a replay commits for it.
    commit(settings, app_id(stage), {SOURCE: firsts})
    reads_on(settings, processes)

    # What the broker drops of a group that was away for long, the state still knows.
    for partition in range(2):
        send_batch(settings, partition)
    reads_on(settings, processes)
    assert records(settings, state_topic(stage, table).name) >= 2
    purge_all(settings, SOURCE)
    admin = admin_client(settings.kafka_bootstrap_servers)
    for future in admin.delete_consumer_groups([app_id(stage)]).values():
        future.result(30)
    reads_on(settings, processes)

    # What it has not read, and is gone all the same, it does not pass over.
    assert committed(settings, app_id(stage), topic)
    write_garbage(settings)
    purge_all(settings, SOURCE)
    refuses(settings, processes)


def test_of_a_topic_with_a_retention_a_new_stage_has_what_is_left(
    settings: Settings, processes: Processes
) -> None:
    name = ENGAGEMENT_WINDOWS.name
    writer = producer(settings.kafka_bootstrap_servers)
    for number in range(4):
        writer.produce(name, b"garbage", partition=number % 2)
    assert writer.flush(30) == 0
    purge_all(settings, name)
    for partition in range(2):
        writer.produce(name, b"garbage", partition=partition)
    assert writer.flush(30) == 0
    processes.start_worker("ranker", ["rank_trending"])
    wait_until(
        lambda: records(settings, dead_letter_name(name)) == 2,
        60,
        "a worker that begins at the oldest record that is left",
        check=processes.check,
    )
