"""Reads logs of Kafka outside consumer groups: a span of a partition, a tail, and where logs end.

One policy for everyone who reads a log:

- *Holes* are passed over. An offset may hold no record: compaction or truncation took it, or it is
  the marker of a transaction. What counts is where the client says that it is.
- *Transient* errors of the broker are waited out.
- *Silence*: if nothing comes for `SILENCE_S` although there is more, SilentLogError says so.
- Any other error is a KafkaException, at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage

from streams.kafka.clients import end_process, reader, to_message
from streams.kafka.message import Message

log = logging.getLogger(__name__)

T = TypeVar("T")

Record = Any
"""A confluent_kafka.Message without error, whose stubs allow None where a record has a value."""

Place = tuple[str, int]
"""Topic and partition."""

SILENCE_S = 60.0
"""Longest that a broker may give nothing of what it has, in seconds, where nobody says less."""

SPAN_RECORDS = 20_000
"""Most records in one list of a span."""

_WAIT_S = 0.1
_ASK_AGAIN_S = 0.1

_TRANSIENT = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._UNKNOWN_PARTITION,  # a topic that was just created is not known everywhere
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class SilentLogError(KafkaException, TimeoutError):
    """The broker gives nothing of a log although there is more; the text says what and how long."""

    def __init__(self, sentence: str):
        super().__init__(KafkaError(KafkaError._TIMED_OUT, sentence))

    def __str__(self) -> str:
        return str(self.args[0].str())


class _Reading:
    """One consumer that commits nothing, and the policy of this module."""

    def __init__(self, bootstrap_servers: str, silence_s: float, **options: Any):
        self._silence_s = silence_s
        self._consumer: Consumer = reader(
            bootstrap_servers, **{"enable.partition.eof": True, **options}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def exists(self, topic: str) -> bool:
        """Whether the broker has the topic.

        All topics are asked for: one that is asked for by name might be created, or be missing for
        a moment only.
        """
        return topic in self._ask("topics", lambda s: self._consumer.list_topics(timeout=s)).topics

    def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions, ascending. KeyError if there is no such topic."""
        metadata = self._ask(topic, lambda s: self._consumer.list_topics(topic, timeout=s))
        found = metadata.topics[topic]
        if found.error is not None:
            raise KeyError(f"topic {topic} does not exist: run `podstream topology apply`")
        return sorted(found.partitions)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The offset of the first record that is left, and the one after the last.

        Of a log with transactions the end is where all of them are decided.
        """
        place = TopicPartition(topic, partition)
        return self._ask(
            f"{topic}[{partition}]",
            lambda s: self._consumer.get_watermark_offsets(place, timeout=s),
        )

    def ends(self, topic: str) -> dict[int, int]:
        """Partition -> offset after its last record. KeyError if there is no such topic."""
        return {number: self.bounds(topic, number)[1] for number in self.partitions(topic)}

    def offset_since(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """The first offset whose record has this log time or a later one; the end if none has."""
        place = TopicPartition(topic, partition, timestamp_ms)
        (found,) = self._ask(
            f"{topic}[{partition}]",
            lambda s: self._consumer.offsets_for_times([place], timeout=s),
        )
        return found.offset if found.offset >= 0 else self.bounds(topic, partition)[1]

    def _ask(self, what: str, call: Callable[[float], T]) -> T:
        """What the call gives, which gets the seconds left; asked again after transient errors."""
        until = time.monotonic() + self._silence_s
        while True:
            try:
                return call(max(until - time.monotonic(), 0.001))
            except KafkaException as error:
                if error.args[0].code() not in _TRANSIENT:
                    raise
                if time.monotonic() + _ASK_AGAIN_S >= until:
                    raise SilentLogError(
                        f"the broker has not answered for {self._silence_s:g} s about {what}: "
                        f"{error.args[0].str()}"
                    ) from error
                time.sleep(_ASK_AGAIN_S)

    def _take(self, limit: int, timeout_s: float) -> tuple[list[Record], dict[Place, int]]:
        """What has arrived, and the offset of each partition that has been read to its end.

        Waits up to ``timeout_s`` for as many as ``limit``.
        """
        arrived = self._consumer.consume(limit, timeout=timeout_s)
        errors = list(map(KafkaMessage.error, arrived))
        if not any(errors):
            return arrived, {}
        records, ends = list[Record](), dict[Place, int]()
        for record, error in zip(arrived, errors, strict=True):
            if error is None:
                records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[record.topic() or "", record.partition() or 0] = record.offset() or 0
            elif error.code() in _TRANSIENT:
                log.warning("reading %s[%s]: %s", record.topic(), record.partition(), error)
            else:
                raise KafkaException(error)
        return records, ends


class LogReader(_Reading):
    """Reads spans of partitions, one at a time. Raises SilentLogError and KafkaException."""

    def __init__(self, bootstrap_servers: str, silence_s: float = SILENCE_S, **options: Any):
        quick = {"fetch.wait.max.ms": 10, "fetch.queue.backoff.ms": 5}
        super().__init__(bootstrap_servers, silence_s, **{**quick, **options})

    def span(
        self, topic: str, partition: int, start: int, end: int, limit: int = SPAN_RECORDS
    ) -> Iterator[list[Record]]:
        """The records from offset ``start`` up to but without ``end``, in lists of ``limit``.

        The span may have holes; ``end`` is at most what `bounds` gave. One span is read at a time.
        """
        if start >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, start)])
        position, heard = start, time.monotonic()
        while position < end:
            # It waits for all that it is asked for.
            records, ends = self._take(min(limit, end - position), _WAIT_S)
            reached = max(position, ends.get((topic, partition), 0))
            if records:
                reached = max(reached, records[-1].offset() + 1)
                if records[0].offset() < position or reached > end:
                    records = [one for one in records if position <= one.offset() < end]
            if reached > position:
                position = reached
                if records:
                    yield records
                heard = time.monotonic()
            elif time.monotonic() - heard > self._silence_s:
                raise SilentLogError(
                    f"{topic}[{partition}] gives nothing from offset {position} on, although it "
                    f"ends at {end}: the broker has been silent for {self._silence_s:g} s"
                )
        self._consumer.unassign()

    def last(self, topic: str, partition: int) -> Record | None:
        """The newest record of a partition; None if there is none at its last offset."""
        first, end = self.bounds(topic, partition)
        for records in self.span(topic, partition, max(first, end - 1), end):
            return records[-1]
        return None


class LogTail(_Reading):
    """Reads whole topics from their first records, and follows them, in batches.

    KeyError for a topic that does not exist; else as `LogReader` raises.
    """

    def __init__(self, bootstrap_servers: str, topics: Sequence[str], silence_s: float = SILENCE_S):
        super().__init__(bootstrap_servers, silence_s)
        self._read_up_to: dict[Place, int] = {}
        self._places = [(topic, n) for topic in topics for n in self.partitions(topic)]
        self._consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in self._places])

    def poll(self, timeout_s: float, limit: int = 2000) -> list[Message]:
        """What has arrived, at most ``limit`` records, waiting up to ``timeout_s`` seconds."""
        records, ends = self._take(limit, timeout_s)
        messages = list(map(to_message, records))
        for message in messages:
            self._read_up_to[message.topic, message.partition] = message.offset + 1
        self._read_up_to.update(ends)
        return messages

    def read_to_end(self, apply: Callable[[list[Message]], None]) -> None:
        """Apply everything up to the ends that the topics have now."""
        bounds = {place: self.bounds(*place) for place in self._places}
        missing = {place: end for place, (first, end) in bounds.items() if end > first}
        heard = time.monotonic()
        while missing := {
            place: end for place, end in missing.items() if self._read_up_to.get(place, 0) < end
        }:
            if messages := self.poll(0.2):
                apply(messages)
                heard = time.monotonic()
            elif time.monotonic() - heard > self._silence_s:
                left = sorted(missing.items())
                names = ", ".join(
                    f"{topic}[{number}] before {end}" for (topic, number), end in left
                )
                raise SilentLogError(
                    f"nothing has come for {self._silence_s:g} s of {names}: the broker is silent"
                )


def read_all(
    bootstrap_servers: str,
    topics: Sequence[str],
    apply: Callable[[list[Message]], None],
    silence_s: float = SILENCE_S,
) -> None:
    """Apply every record that the topics hold now, in batches. Raises as `LogTail` does."""
    with LogTail(bootstrap_servers, topics, silence_s) as tail:
        tail.read_to_end(apply)


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
        self._tail = LogTail(bootstrap_servers, topics)
        self._apply = apply
        self._caught_up = caught_up
        self._stopping = threading.Event()

    def run(self) -> None:
        """Follow until `stop`."""
        try:
            self._tail.read_to_end(self._apply)
            self._caught_up()
            while not self._stopping.is_set():
                if messages := self._tail.poll(0.25):
                    self._apply(messages)
            self._tail.close()
        except BaseException:
            if not self._stopping.is_set():
                end_process(f"{self.name} cannot go on; the process ends")

    def stop(self) -> None:
        """Let the thread end soon."""
        self._stopping.set()
