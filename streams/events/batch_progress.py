"""Finds a partition's resume offset from its last batch, in the logs of a broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import Message as KafkaMessage

from streams.events.core.batching import Chunk
from streams.events.core.origins import Source
from streams.kafka.clients import PartitionsError, described, to_message
from streams.kafka.log_reader import LogReader, Record
from streams.kafka.message import Message
from topology.model import Graph
from topology.settings import Settings
from topology.topics.events import USER_EVENTS


def event_source(settings: Settings, graph: Graph) -> Source:
    """The topic of events as the broker has it.

    PartitionsError if it has other partitions than are declared: listeners would be sought where
    they are not. KafkaException if there is no such topic or no broker.
    """
    declared = graph.topics[USER_EVENTS.name]
    found = described(settings.kafka_bootstrap_servers, declared.name)
    if (partitions := len(found.partitions)) != declared.partitions:
        raise PartitionsError(
            f"{declared.name} has {partitions} partitions, and this process was started for "
            f"{declared.partitions}: set EVENT_PARTITIONS={partitions}, as for every other process."
        )
    return Source.of(str(found.topic_id), declared)


def to_chunk(records: Sequence[Record]) -> Chunk:
    """The records of one partition, in their order, column by column."""
    # Methods of the class in `map`: a call from Python for each of them costs twice as much.
    part: Any = KafkaMessage
    headers = list(map(part.headers, records))
    return Chunk(
        list(map(part.offset, records)),
        [log_ms for _, log_ms in map(part.timestamp, records)],
        list(map(part.value, records)),
        headers if any(headers) else (),
    )


class KafkaEventLogs(LogReader):
    """`EventLogs` on a broker. Raises SilentLogError and KafkaException."""

    def messages(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
        """The records from ``start`` up to but without ``end``, many at a time."""
        for records in self.span(topic, partition, start, end):
            yield list(map(to_message, records))

    def chunks(self, topic: str, partition: int, start: int, end: int) -> Iterator[Chunk]:
        """The same, column by column."""
        return map(to_chunk, self.span(topic, partition, start, end))
