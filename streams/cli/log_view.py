"""Where the topics of an instance begin and end, and how far groups have read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.kafka.clients import reader
from streams.kafka.log_reader import LogReader
from streams.operations.checkpoints import Offsets
from topology.access import admin_client
from topology.graph import dead_letter_name
from topology.model import Graph

TIMEOUT_S = 15.0


@dataclass(frozen=True)
class DeadLetters:
    """How many records a dead-letter topic holds."""

    topic: str
    count: int


class LogView:
    """First and end offsets of every declared topic, read once."""

    def __init__(self, bootstrap_servers: str, graph: Graph):
        self.graph = graph
        self._servers = bootstrap_servers
        self._admin = admin_client(bootstrap_servers, log_level=0)
        existing = self._admin.list_topics(timeout=TIMEOUT_S).topics
        partitions = [
            TopicPartition(name, number)
            for name, topic in existing.items()
            if name in graph.topics
            for number in topic.partitions
        ]
        self.first = self._offsets(partitions, OffsetSpec.earliest())
        self.end = self._offsets(partitions, OffsetSpec.latest())

    def _offsets(self, partitions: list[TopicPartition], spec: OffsetSpec) -> Offsets:
        if not partitions:
            return {}
        asked = self._admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=TIMEOUT_S)
        found: Offsets = {}
        for partition, answer in asked.items():
            found.setdefault(partition.topic, {})[partition.partition] = answer.result().offset
        return found

    def committed(self, group: str, topics: Iterable[str]) -> Offsets:
        """What a consumer group has committed of the topics; empty for one that never did.

        By way of a consumer: confluent-kafka's `list_consumer_group_offsets` (2.16) ends in a
        segmentation fault while a fresh broker has no group coordinator yet.
        """
        partitions = [
            TopicPartition(topic, number) for topic in topics for number in self.end.get(topic, {})
        ]
        if not partitions:
            return {}
        consumer = reader(self._servers, group, log_level=0)
        committed: Offsets = {}
        try:
            for one in consumer.committed(partitions, timeout=TIMEOUT_S):
                if one.error is None and one.offset >= 0:
                    committed.setdefault(one.topic, {})[one.partition] = one.offset
        finally:
            consumer.close()
        return committed

    def lag(self, topics: Iterable[str], done: Offsets) -> int:
        """Records of the topics beyond ``done``; a partition nothing was done of counts whole."""
        return sum(
            max(0, end - max(done.get(topic, {}).get(partition, 0), self.first[topic][partition]))
            for topic in topics
            for partition, end in self.end.get(topic, {}).items()
        )

    def dead_letters(self) -> list[DeadLetters]:
        """How many records each dead-letter topic holds."""
        consumed = {name for stage in self.graph.stages.values() for name in stage.consumes}
        names = sorted(dead_letter_name(topic) for topic in consumed)
        return [DeadLetters(name, self.lag([name], {})) for name in names]

    def last_value(self, topic: str) -> bytes | None:
        """The newest record's value of a topic with one partition; None if it has no record."""
        if topic not in self.end:
            return None
        with LogReader(self._servers, TIMEOUT_S, log_level=0) as logs:
            record = logs.last(topic, 0)
            return record.value() if record is not None else None
