"""Where batching goes on: what the log says of a partition's earlier batches.

Every batch says in its headers which source offsets it accounts for, so the last one says where
to go on. The window of event ids before that place is read again from the source.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from streams.events.core.batching import Chunk, PartitionBatcher, accounted_to
from streams.events.core.events import EventDecoder
from streams.kafka import clients as kafka
from streams.kafka.wire import ERROR_PREFIX

Record = Any
"""A confluent_kafka.Message, whose stubs allow None where a record that was read has a value."""

POLL_RECORDS = 20_000
TIMEOUT_S = 60.0
CLOCK_SKEW_MS = 60_000
"""How far the clocks of two processes may differ that own a partition one after the other."""


class LogMismatchError(RuntimeError):
    """The batches account for events that the source does not have."""


@dataclass(frozen=True)
class Topics:
    """The source of the events, the batches of them, and the refused ones."""

    source: str
    target: str
    dead: str


def resume(
    bootstrap_servers: str, topics: Topics, partition: int, window: int, decoder: EventDecoder
) -> tuple[PartitionBatcher, set[int]]:
    """A batcher that goes on where the partition's last batch ended.

    Also gives the source offsets that were refused, but that no batch accounts for: the process
    was killed in between. Raises LogMismatchError and KafkaException.
    """
    options: dict[str, Any] = {
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
        "fetch.queue.backoff.ms": 5,
    }
    reader = kafka.reader(bootstrap_servers, **options)
    try:
        low, high = _ends(reader, topics.source, partition)
        next_offset, written_ms = _last_batch(reader, topics.target, partition)
        next_offset = max(next_offset, low)
        if next_offset > high:
            raise LogMismatchError(
                f"{topics.target}[{partition}] accounts for {topics.source} up to offset "
                f"{next_offset - 1}, which ends at {high}: was the topic made anew?"
            )
        refused = _refused_since(reader, topics.dead, written_ms, partition)
        batcher = PartitionBatcher(partition, next_offset, window, decoder)
        start = max(low, next_offset - window)
        for records in _read(reader, topics.source, partition, start, next_offset):
            batcher.warm(to_chunk(records))
        return batcher, {offset for offset in refused if offset >= next_offset}
    finally:
        reader.close()


def _last_batch(reader: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """First source offset that no batch accounts for, and when the last batch was written."""
    low, high = _ends(reader, topic, partition)
    for records in _read(reader, topic, partition, max(low, high - 1), high):
        return accounted_to(records[-1].headers() or ()), records[-1].timestamp()[1]
    return 0, 0


def _refused_since(reader: Consumer, topic: str, written_ms: int, partition: int) -> set[int]:
    """Offsets of a source partition that were refused since a time."""
    _, high = _ends(reader, topic, 0)
    since = TopicPartition(topic, 0, max(0, written_ms - CLOCK_SKEW_MS))
    (start,) = reader.offsets_for_times([since], timeout=TIMEOUT_S)
    refused = set()
    for records in _read(reader, topic, 0, max(start.offset, 0), high):
        for record in records:
            errors = dict(record.headers() or ())
            if int(errors.get(ERROR_PREFIX + "partition", b"-1")) == partition:
                refused.add(int(errors[ERROR_PREFIX + "offset"]))
    return refused


def to_chunk(records: list[Record]) -> Chunk:
    """The records of one partition, column by column."""
    # Methods of the class in `map`: a call from Python for each of them costs twice as much.
    part: Any = KafkaMessage
    return Chunk(
        list(map(part.offset, records)),
        [log_ms for _, log_ms in map(part.timestamp, records)],
        list(map(part.value, records)),
    )


def _ends(reader: Consumer, topic: str, partition: int) -> tuple[int, int]:
    return reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)


def _read(
    reader: Consumer, topic: str, partition: int, start: int, end: int
) -> Iterator[list[Record]]:
    """Lists of the records from ``start`` up to but without ``end``; the range may have holes."""
    if start >= end:
        return
    reader.assign([TopicPartition(topic, partition, start)])
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        records: list[Record] = []
        at_end = False
        arrived: list[Record] = reader.consume(POLL_RECORDS, timeout=0.1)
        for record in arrived:
            error = record.error()
            if error is None and record.offset() < end:
                records.append(record)
            elif error is None or error.code() == KafkaError._PARTITION_EOF:
                at_end = True
            else:
                raise KafkaException(error)
        if records:
            deadline = time.monotonic() + TIMEOUT_S
            yield records
            at_end = at_end or records[-1].offset() == end - 1
        if at_end:
            return
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{topic}[{partition}] does not answer"))
