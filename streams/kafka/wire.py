"""Between messages and what is in them, for any topic of the graph."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import polars as pl

from schemas import columnar
from schemas.codec import BadRecordError, RecordCodec, Registry
from streams.kafka.message import Message
from topology.model import Graph, Topic

log = logging.getLogger(__name__)

ERROR_PREFIX = "__connect.errors."

ORIGIN = "podstream.origin"
"""Header: who sent a record that may have to be sent again, a colon, and its number there."""


class Wire:
    """Encodes and decodes by the format that a topic declares."""

    def __init__(self, graph: Graph, registry: Registry):
        self.graph = graph
        self._registry = registry
        self._codec = cache(self._make_codec)

    def _make_codec(self, topic: str) -> RecordCodec:
        schema = self.graph.topics[topic].schema
        if schema is None:
            raise BadRecordError(f"{topic} declares no schema")
        return RecordCodec(topic, schema, self._registry)

    def encode(
        self, topic: str, value: bytes | dict[str, Any] | pl.DataFrame | None
    ) -> bytes | None:
        """A value as ``topic`` has it: a dict as an Avro record, a DataFrame as Arrow rows.

        Bytes, and None for a tombstone, stay as they are. BadRecordError if it does not fit.
        """
        if value is None or isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            return self._codec(topic).encode(value)
        return columnar.to_message(value, _schema_name(self.graph.topics[topic]))

    def decode(self, topic: str, value: bytes | None, only: tuple[str, ...] | None = None) -> Any:
        """A dict for an Avro topic, a frame for an Arrow topic; BadRecordError if it is neither.

        Of a frame, ``only`` these columns are read.
        """
        declared = self.graph.topics[topic]
        if declared.format == "arrow":
            return columnar.from_message(value, _schema_name(declared), only)
        return self._codec(topic).decode(value)

    def readable(self, messages: Sequence[Message], reader: str) -> Iterator[tuple[Message, Any]]:
        """Each message with what is in it; with None for a tombstone.

        What does not decode is passed over, with a line that names the ``reader``: the stage that
        consumes the topic, rather than being told all of it, has it dead-lettered.
        """
        for message in messages:
            if message.value is None:
                yield message, None
                continue
            try:
                yield message, self.decode(message.topic, message.value)
            except BadRecordError as error:
                log.warning(
                    "%s: %s[%d]@%d is passed over: %s",
                    reader,
                    message.topic,
                    message.partition,
                    message.offset,
                    error,
                )


def _schema_name(topic: Topic) -> str:
    if topic.schema is None:
        raise BadRecordError(f"{topic.name} declares no schema")
    return topic.schema


def error_headers(
    topic: str,
    partition: int | None,
    offset: int | None,
    stage: str,
    error: BaseException,
) -> list[tuple[str, bytes]]:
    """The headers of a dead letter, named as Kafka Connect names them.

    Without an offset it never was in the topic, and without a partition none was chosen.
    """
    values = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "stage": stage,
        "class.name": type(error).__name__,
        "exception.message": str(error)[:1000],
    }
    return [
        (ERROR_PREFIX + name, str(value).encode())
        for name, value in values.items()
        if value is not None
    ]


def key_bytes(key: str | bytes | None) -> bytes | None:
    """A key as the log has it: text is UTF-8."""
    return key.encode() if isinstance(key, str) else key


def dead_letter_headers(
    original: Sequence[tuple[str, bytes]], errors: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """The record's own headers, then why it is here; an earlier verdict is replaced."""
    kept = [(name, value) for name, value in original if not name.startswith(ERROR_PREFIX)]
    return [*kept, *errors]
