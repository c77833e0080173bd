"""Purges derived topics behind their readers, as Kafka Streams does with its repartition topics.

What derives from another topic is kept as long as somebody still has to read it. A retention by
time would take it from a stage that was switched off for longer, without a word; here a record goes
once every stage that consumes its topic has committed it, and its topic's age has passed. A stage
that has never committed anything has read nothing, so nothing goes. Stages on Spark keep their
progress elsewhere, and whoever runs them says how far they are.

The newest record of a partition always stays: by it `batch_events` finds where to go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaException, TopicPartition

from streams.kafka.clients import reader
from streams.kafka.log_reader import LogReader
from topology.access import admin_client
from topology.graph import app_id, is_on
from topology.model import Graph, Topic
from topology.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
EVERY_S = 60.0

Reached = Mapping[str, Mapping[str, Mapping[int, int]]]
"""Stage -> topic -> partition -> the offset that it goes on at."""


def cut(first: int, end: int, aged: int, committed: Iterable[int]) -> int:
    """The offset before which records of a partition may go; ``first`` if none may.

    ``aged`` is the offset of the first record that is too young, ``committed`` the offset that each
    reader goes on at, below 0 where it has committed nothing.
    """
    return max(first, min((aged, end - 1, *committed)))


def purge(settings: Settings, graph: Graph, spark: Reached) -> dict[str, int]:
    """Purge every topic that is declared so; how many records went from each.

    ``spark`` tells for each stage on Spark where it goes on, by topic and partition; what it does
    not name has not been read.

    TimeoutError, KafkaException and SilentLogError where the broker fails: nothing is lost by
    trying again later.
    """
    places: dict[TopicPartition, int] = {}
    purged = dict[str, int]()
    with LogReader(settings.kafka_bootstrap_servers, TIMEOUT_S) as logs:
        for topic in graph.own_topics().values():
            if topic.purge_after_ms is None:
                continue
            for place, first in _cuts(settings, graph, topic, logs, spark).items():
                if place.offset > first:
                    places[place] = first
                    purged[topic.name] = purged.get(topic.name, 0) + place.offset - first
    if places:
        admin = admin_client(settings.kafka_bootstrap_servers)
        for future in admin.delete_records(list(places), request_timeout=TIMEOUT_S).values():
            future.result(TIMEOUT_S)
    return purged


def purge_while(settings: Settings, graph: Graph, stop: threading.Event) -> None:
    """Purge once a minute until told to stop: for a graph without stages on Spark."""
    while not stop.wait(EVERY_S):
        try:
            purge(settings, graph, {})
        except (KafkaException, TimeoutError) as error:
            log.warning("nothing was purged, which is tried again: %s", error)


def _cuts(
    settings: Settings, graph: Graph, topic: Topic, logs: LogReader, spark: Reached
) -> Mapping[TopicPartition, int]:
    """Where each partition of a topic is to begin -> where it begins now."""
    since_ms = time.time_ns() // 1_000_000 - (topic.purge_after_ms or 0)
    readers = [
        spark.get(stage.name, {}).get(topic.name, {})
        if stage.runner == "spark"
        else committed(settings, app_id(stage), topic)
        for stage in graph.stages.values()
        if topic.name in stage.consumes and is_on(stage, settings)
    ]
    cuts = {}
    for partition in range(topic.partitions):
        first, end = logs.bounds(topic.name, partition)
        aged = logs.offset_since(topic.name, partition, since_ms)
        before = cut(first, end, aged, (reached.get(partition, -1) for reached in readers))
        cuts[TopicPartition(topic.name, partition, before)] = first
    return cuts


def committed(settings: Settings, group: str, topic: Topic) -> dict[int, int]:
    """Partition -> the offset that a group goes on at; partitions it never committed are left out.

    KafkaException where the broker fails.
    """
    consumer = reader(settings.kafka_bootstrap_servers, group, log_level=0)
    try:
        asked = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
        found = consumer.committed(asked, timeout=TIMEOUT_S)
    finally:
        consumer.close()
    return {one.partition: one.offset for one in found if one.error is None and one.offset >= 0}


def commit(settings: Settings, group: str, offsets: Mapping[str, Mapping[int, int]]) -> None:
    """Tell a group, that has no members, how far it has got: topic -> partition -> next offset.

    So whoever purges, or measures lag, sees a reader that keeps its progress elsewhere.
    KafkaException where the broker fails.
    """
    places = [
        TopicPartition(topic, partition, offset)
        for topic, reached in offsets.items()
        for partition, offset in reached.items()
    ]
    if not places:
        return
    consumer = reader(settings.kafka_bootstrap_servers, group, log_level=0)
    try:
        consumer.commit(offsets=places, asynchronous=False)
    finally:
        consumer.close()
