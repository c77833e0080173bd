"""confluent-kafka clients as every part of Podstream uses them."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from streams.kafka.message import Message

log = logging.getLogger(__name__)

CRASH_EXIT_CODE = 70

SILENCE_S = 60.0
"""Longest that a reader waits for records that are there."""


def producer(bootstrap_servers: str, **overrides: Any) -> Producer:
    """An idempotent producer that places keys as Java's and Faust's producers do (murmur2)."""
    return Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.max.bytes": 32 * 1_048_576,
            **overrides,
        }
    )


def reader(bootstrap_servers: str, group: str = "podstream-reader", **overrides: Any) -> Consumer:
    """A consumer that commits nothing: for whoever assigns partitions by hand."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 32 * 1_048_576,
            # librdkafka otherwise idles for a second whenever its queue is full
            "fetch.queue.backoff.ms": 10,
            **overrides,
        }
    )


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


def end_offsets(consumer: Consumer, topic: str, timeout_s: float = 30.0) -> dict[int, int]:
    """Partition -> offset of the next record to be written. KeyError if there is no such topic."""
    metadata = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    if metadata.error is not None:
        raise KeyError(f"topic {topic} does not exist: run `podstream topology apply`")
    return {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout_s)[1]
        for number in metadata.partitions
    }


class TopicReader:
    """Reads whole topics without a consumer group and hands every record on, in batches.

    ``read_to_end()`` returns once the ends that the topics had when it was called are reached.
    """

    def __init__(self, bootstrap_servers: str, topics: Sequence[str]):
        tell_ends: dict[str, Any] = {"enable.partition.eof": True}
        self._consumer = reader(bootstrap_servers, **tell_ends)
        self._read_up_to: dict[tuple[str, int], int] = {}
        assignment = []
        for topic in topics:
            for partition in end_offsets(self._consumer, topic):
                assignment.append(TopicPartition(topic, partition, OFFSET_BEGINNING))
        self._assignment = assignment
        self._consumer.assign(assignment)

    def poll(self, timeout_s: float, limit: int = 2000) -> list[Message]:
        """What has arrived, at most ``limit`` records, waiting up to ``timeout_s``."""
        messages = []
        for record in self._consumer.consume(limit, timeout=timeout_s):
            error = record.error()
            if error is None:
                message = to_message(record)
                messages.append(message)
                self._read_up_to[message.topic, message.partition] = message.offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                # The last offsets of a log may hold no record, after compaction for one.
                place = (record.topic() or "", record.partition() or 0)
                self._read_up_to[place] = record.offset() or 0
            else:
                log.warning("reading %s: %s", record.topic(), error)
        return messages

    def read_to_end(self, apply: Callable[[list[Message]], None]) -> None:
        """Apply everything up to the ends as they are now; TimeoutError if nothing comes."""
        ends = {
            (part.topic, part.partition): self._consumer.get_watermark_offsets(part, timeout=30)
            for part in self._assignment
        }
        missing = {place: end for place, (low, end) in ends.items() if end > low}
        heard = time.monotonic()
        while missing := {
            place: end for place, end in missing.items() if self._read_up_to.get(place, 0) < end
        }:
            if messages := self.poll(0.2):
                heard = time.monotonic()
                apply(messages)
            elif time.monotonic() - heard > SILENCE_S:
                raise TimeoutError(f"nothing comes of {sorted(missing)}")

    def close(self) -> None:
        self._consumer.close()


def read_all(
    bootstrap_servers: str, topics: Sequence[str], apply: Callable[[list[Message]], None]
) -> None:
    """Apply every record that the topics hold now. Raises KeyError for a topic that is not there,
    and as `TopicReader.read_to_end` does."""
    topic_reader = TopicReader(bootstrap_servers, topics)
    try:
        topic_reader.read_to_end(apply)
    finally:
        topic_reader.close()


def end_process(why: str) -> NoReturn:
    """Log why, and the exception being handled; end as after kill -9: work then comes again."""
    log.critical(why, exc_info=sys.exc_info()[0] is not None)
    logging.shutdown()
    os._exit(CRASH_EXIT_CODE)


class BackgroundReader(threading.Thread):
    """Follows topics in a thread: reads to the end, says so, and goes on.

    If it cannot go on the process ends: nobody may work with references that stand still.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topics: Sequence[str],
        apply: Callable[[list[Message]], None],
        caught_up: Callable[[], None],
    ):
        super().__init__(name=f"reader-{'-'.join(topics)}", daemon=True)
        self._reader = TopicReader(bootstrap_servers, topics)
        self._apply = apply
        self._caught_up = caught_up
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            self._reader.read_to_end(self._apply)
            self._caught_up()
            while not self._stopping.is_set():
                if messages := self._reader.poll(0.25):
                    self._apply(messages)
            self._reader.close()
        except BaseException:
            if not self._stopping.is_set():
                end_process(f"{self.name} cannot go on; the process ends")

    def stop(self) -> None:
        self._stopping.set()
