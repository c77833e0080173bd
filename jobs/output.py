"""What a Spark stage sends from the driver: records of declared topics, and dead letters."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from schemas.codec import BadRecordError
from streams.kafka.clients import DeliveryError, producer, to_message
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry
from streams.kafka.sizes import letter
from streams.kafka.wire import Wire, dead_letter_headers, error_headers, key_bytes
from topology.graph import check_writes, dead_letter_name
from topology.model import Graph, Stage
from topology.settings import Settings

log = logging.getLogger(__name__)

DELIVERY_TIMEOUT_S = 60.0

Headers = list[tuple[str, str | bytes | None]]


class Output:
    """A stage's way out. `flush` returns once everything sent has been delivered."""

    def __init__(self, settings: Settings, graph: Graph, stage: Stage):
        self._settings = settings
        self._stage = stage
        self.wire = Wire(graph, open_registry(settings))
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._failures: list[str] = []

    def send(self, topic: str, record: dict[str, Any] | None, key: str) -> None:
        """Send a record, or a tombstone, to a produced topic.

        Raises UndeclaredError, BadRecordError.
        """
        check_writes(self._stage, topic)
        self._produce(topic, self.wire.encode(topic, record), key_bytes(key), [])

    def dead_letters(self, places: Iterable[tuple[str, int, int, str]]) -> None:
        """Copy messages (topic, partition, offset, what is wrong) to their dead-letter topics."""
        with LogReader(self._settings.kafka_bootstrap_servers) as logs:
            for topic, partition, offset, error in places:
                dead = dead_letter_name(topic)
                check_writes(self._stage, dead)
                found = [one for (one,) in logs.span(topic, partition, offset, offset + 1)]
                if not found:
                    raise DeliveryError(f"{topic}/{partition}@{offset} could not be read again")
                message = to_message(found[0])
                why = error_headers(
                    topic, partition, offset, self._stage.name, BadRecordError(error)
                )
                headers = dead_letter_headers(message.headers, why)
                log.warning("%s/%d@%d is unusable: %s", topic, partition, offset, error)
                made = letter(self.wire.graph.topics[dead], message.key, message.value, headers)
                self._produce(dead, made.value, made.key, [*made.headers])
        self.flush()

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: list[tuple[str, str | bytes | None]],
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, value, key, headers=headers, on_delivery=self._on_delivery
                )
                break
            except BufferError:  # the queue is full: let some be delivered
                self._producer.poll(0.1)
        self._producer.poll(0)

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failures.append(f"{message.topic()}: {error}")

    def flush(self) -> None:
        """Wait for the deliveries. Raises DeliveryError if one failed or took too long."""
        left = self._producer.flush(DELIVERY_TIMEOUT_S)
        failures, self._failures = self._failures, []
        if left or failures:
            raise DeliveryError(f"{left} records undelivered; {failures[:3]}")
