"""confluent-kafka clients as every part of Podstream uses them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from confluent_kafka import Consumer, KafkaError, Producer, TopicCollection
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import TopicDescription

from streams.kafka.message import Message
from streams.kafka.sizes import LARGEST_RECORD_BYTES
from topology.access import admin_client, kafka_config
from topology.acls import READERS

log = logging.getLogger(__name__)

CRASH_EXIT_CODE = 70
ADMIN_TIMEOUT_S = 60.0


class PartitionsError(RuntimeError):
    """A topic has not as many partitions as this process was started for."""


class DeliveryError(RuntimeError):
    """The broker did not take a record; whoever sent it must not go on as if it had."""


def producer(bootstrap_servers: str, **overrides: Any) -> Producer:
    """An idempotent producer that places keys as Java's and Faust's producers do (murmur2).

    AccessError if the brokers do not let this process in.
    """
    return Producer(
        {
            **kafka_config(bootstrap_servers),
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.max.bytes": LARGEST_RECORD_BYTES,
            **overrides,
        }
    )


def reader(bootstrap_servers: str, group: str = READERS, **overrides: Any) -> Consumer:
    """A consumer that commits nothing: for whoever assigns partitions by hand.

    AccessError if the brokers do not let this process in.
    """
    return Consumer(
        {
            **kafka_config(bootstrap_servers),
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": LARGEST_RECORD_BYTES,
            # librdkafka otherwise idles for a second whenever its queue is full
            "fetch.queue.backoff.ms": 10,
            **overrides,
        }
    )


def described(bootstrap_servers: str, topic: str) -> TopicDescription:
    """A topic as the brokers have it. KafkaException if there is no such topic or no broker."""
    admin = admin_client(bootstrap_servers)
    asked = admin.describe_topics(TopicCollection([topic]), request_timeout=ADMIN_TIMEOUT_S)
    found: TopicDescription = asked[topic].result()
    return found


def topic_id(bootstrap_servers: str, topic: str) -> str:
    """The id that Kafka gave to a topic when it was made: one made anew has another.

    KafkaException if there is no such topic or no broker.
    """
    return str(described(bootstrap_servers, topic).topic_id)


def send_all(
    bootstrap_servers: str,
    topic: str,
    records: Iterable[Mapping[str, Any]],
    timeout_s: float = ADMIN_TIMEOUT_S,
) -> None:
    """Send records, each as `Producer.produce` takes it; return when all of them are in the log.

    DeliveryError if the topic does not take one, or does not answer in time.
    """
    failed: list[KafkaError] = []

    def noted(error: KafkaError | None, _: KafkaMessage) -> None:
        if error is not None:
            failed.append(error)

    writer = producer(bootstrap_servers)
    for record in records:
        writer.produce(topic, **record, on_delivery=noted)
    if writer.flush(timeout_s) or failed:
        raise DeliveryError(f"{topic} did not take all that was sent: {failed}")


def to_message(record: KafkaMessage) -> Message:
    """A confluent-kafka record as our own."""
    topic, partition, offset = record.topic(), record.partition(), record.offset()
    if topic is None or partition is None or offset is None:
        raise ValueError("the record has no place in the log: it is an error event")
    headers: Any = record.headers() or ()
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        key=_as_bytes(record.key()),
        value=_as_bytes(record.value()),
        timestamp_ms=record.timestamp()[1],
        headers=tuple(headers),
    )


def _as_bytes(part: str | bytes | None) -> bytes | None:
    return part.encode() if isinstance(part, str) else part


def end_process(why: str) -> NoReturn:
    """Log why, and the exception being handled; end as after kill -9: work then comes again."""
    log.critical(why, exc_info=sys.exc_info()[0] is not None)
    logging.shutdown()
    os._exit(CRASH_EXIT_CODE)
