"""The clients of `batch_events`, and what they give."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from streams.kafka import clients as kafka
from streams.kafka.log_reader import Record


def batch_producer(bootstrap_servers: str) -> Producer:
    """What batches are sent by: after a failure nothing later gets into the log."""
    return kafka.producer(
        bootstrap_servers,
        **{
            # It would hide the gap.
            "enable.gapless.guarantee": True,
            "message.timeout.ms": 0,
            "linger.ms": 0,
            # Batches are compressed already, column by column.
            "compression.type": "none",
            "queue.buffering.max.kbytes": 131_072,
        },
    )


def event_consumer(bootstrap_servers: str, group: str) -> Consumer:
    """What reads events: the partitions of the group are divided by who is there."""
    return kafka.reader(
        bootstrap_servers,
        group,
        **{
            "auto.offset.reset": "error",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 10_000,
            "queued.max.messages.kbytes": 16_384,
            "fetch.message.max.bytes": 1_048_576,
            "fetch.wait.max.ms": 50,
            # A full queue is emptied within milliseconds; librdkafka would wait for a second.
            "fetch.queue.backoff.ms": 5,
        },
    )


def request_consumer(bootstrap_servers: str) -> Consumer:
    """What reads requests to forget listeners, of partitions that it is given."""
    return kafka.reader(bootstrap_servers)


def raise_error(records: list[Record]) -> None:
    """Raise KafkaException for the first record that is an error."""
    if error := next(filter(None, map(KafkaMessage.error, records)), None):
        raise KafkaException(error)


def by_partition(records: list[Record]) -> dict[int, list[Record]]:
    """The records of each partition, in their order. They arrive in long runs of one partition."""
    groups: dict[int, list[Record]] = {}
    partition_of: Any = KafkaMessage.partition
    for partition, run in groupby(records, partition_of):
        groups.setdefault(partition, []).extend(run)
    return groups
