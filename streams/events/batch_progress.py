"""Finds a partition's resume offset from its last batch, in the logs of a broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import Message as KafkaMessage

from streams.events.core.batching import Chunk
from streams.kafka.clients import to_message
from streams.kafka.log_reader import LogReader, Record
from streams.kafka.message import Message


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
