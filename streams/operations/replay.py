"""Sends every event through again, for stages that are to begin from nothing.

`user-event-batches` is purged behind its readers; what replays it is its source. `batch_events`
goes on where its last batch ended, so that without a batch it begins at the first event: the same
batches come again, with the same source offsets, by which every stage knows what it has counted
already. The stages named here have forgotten that: their states and their committed offsets go.
"""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.registry import SchemaStore
from streams.kafka.log_reader import LogReader
from streams.kafka.purge import committed
from topology.access import admin_client
from topology.apply import apply_topology
from topology.graph import app_id, is_on, state_topic
from topology.model import Graph, Stage
from topology.settings import Settings
from topology.topics.events import USER_EVENT_BATCHES

BATCHING = "batch_events"
TIMEOUT_S = 30.0


class ReplayError(RuntimeError):
    """Nothing is replayed, and nothing was changed; the message says what to do."""


def replay(settings: Settings, graph: Graph, registry: SchemaStore, names: Collection[str]) -> int:
    """Make ``names`` begin from nothing, and `batch_events` at the first event; how many events
    come again.

    ReplayError for an unknown stage, where one of these runs, or where another stage has batches
    left to read; KafkaException where the broker fails, after which the same call does the rest.
    """
    if unknown := sorted(set(names) - graph.stages.keys()):
        raise ReplayError(f"No stage {', '.join(unknown)}: there are {', '.join(graph.stages)}.")
    stages = [graph.stages[name] for name in names]
    topic = graph.topics[USER_EVENT_BATCHES.name]
    with LogReader(settings.kafka_bootstrap_servers, TIMEOUT_S) as logs:
        bounds = {
            partition: logs.bounds(topic.name, partition)
            for partition in logs.partitions(topic.name)
        }
        (source,) = graph.stages[BATCHING].consumes
        events = sum(logs.ends(source).values())
    for stage in graph.stages.values():
        if topic.name in stage.consumes and stage not in stages and is_on(stage, settings):
            reached = committed(settings, app_id(stage), topic)
            left = sum(end - max(first, reached.get(p, 0)) for p, (first, end) in bounds.items())
            if left > 0:
                raise ReplayError(
                    f"{stage.name} has {left} batches to read that would be taken from it: let it "
                    "finish while batch_events is stopped, or name it as well."
                )
    admin = admin_client(settings.kafka_bootstrap_servers)
    for stage in (graph.stages[BATCHING], *stages):
        _forget(admin, stage)
    _delete_topics(admin, [state_topic(s, table).name for s in stages for table in s.tables])
    apply_topology(settings, registry, mongo=False)
    ends = [TopicPartition(topic.name, p, end) for p, (first, end) in bounds.items() if end > first]
    if ends:
        for future in admin.delete_records(ends, request_timeout=TIMEOUT_S).values():
            future.result(TIMEOUT_S)
    return events


def _forget(admin: AdminClient, stage: Stage) -> None:
    """Remove what a stage has committed. ReplayError if a worker of it runs."""
    group = app_id(stage)
    try:
        admin.delete_consumer_groups([group], request_timeout=TIMEOUT_S)[group].result()
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.NON_EMPTY_GROUP:
            raise ReplayError(f"{stage.name} is running: stop it first.") from error
        if code != KafkaError.GROUP_ID_NOT_FOUND:
            raise


def _delete_topics(admin: AdminClient, names: list[str]) -> None:
    if not names:
        return
    for future in admin.delete_topics(names, request_timeout=TIMEOUT_S).values():
        try:
            future.result()
        except KafkaException as error:  # by a call before this one, that was cut off
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
