"""Confluent framing and Avro records: what a message of an `avro` topic looks like on the wire."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, Protocol

import fastavro

from schemas import files

_HEADER = struct.Struct(">bI")
HEADER_SIZE = _HEADER.size


class BadRecordError(ValueError):
    """A message that cannot be used; the text says why, for the dead-letter header."""


class UnknownSchemaError(BadRecordError):
    """A message whose schema id nobody registered."""


class Registry(Protocol):
    """Where schema ids are kept."""

    def schema(self, schema_id: int) -> Any:
        """The parsed writer's schema of an id; UnknownSchemaError if there is none."""

    def id_of(self, subject: str) -> int:
        """The id of the newest version under a subject; KeyError if nothing is registered."""


def subject_of(topic: str) -> str:
    """Confluent's TopicNameStrategy."""
    return f"{topic}-value"


def frame(schema_id: int, payload: bytes) -> bytes:
    """0x00, the schema id as 4 bytes big-endian, the Avro payload."""
    return _HEADER.pack(0, schema_id) + payload


def unframe(value: bytes | None) -> tuple[int, bytes]:
    """Schema id and payload of a framed message; BadRecordError if it is no frame."""
    if value is None:
        raise BadRecordError("the message has no value")
    if len(value) < HEADER_SIZE or value[0] != 0:
        raise BadRecordError("not a Confluent frame: expected 0x00 and a 4-byte schema id")
    return _HEADER.unpack_from(value)[1], value[HEADER_SIZE:]


def to_plain(schema_name: str, record: Any) -> bytes:
    """A record as Avro without a frame, as state holds it: who reads it knows the schema."""
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, files.parsed(schema_name), record)
    return buffer.getvalue()


def from_plain(schema_name: str, value: bytes) -> Any:
    """The record in what `to_plain` gave, now or when the schema had fewer fields at its end."""
    newest = files.parsed(schema_name)
    *older, last = files.versions(schema_name)
    for version in (last, *reversed(older)):
        writer = files.parsed(schema_name, version)
        try:
            return fastavro.schemaless_reader(BytesIO(value), writer, newest)
        except (EOFError, IndexError):  # of an older version, fields at the end are missing
            continue
    raise EOFError(f"{len(value)} bytes are no {schema_name}")


class RecordCodec:
    """Encodes and decodes the records of one topic.

    A record is a dict as fastavro has it: timestamps are timezone-aware datetimes, dates are dates.
    """

    def __init__(self, topic: str, schema_name: str, registry: Registry):
        self._topic = topic
        self._reader = files.parsed(schema_name)
        self._registry = registry

    def encode(self, record: dict[str, Any]) -> bytes:
        """A framed message; BadRecordError if the record does not fit the schema."""
        buffer = BytesIO()
        try:
            fastavro.schemaless_writer(buffer, self._reader, record)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise BadRecordError(f"record does not fit its schema: {error}") from error
        return frame(self._registry.id_of(subject_of(self._topic)), buffer.getvalue())

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """The record of a framed message; BadRecordError if there is none in it."""
        schema_id, payload = unframe(value)
        writer = self._registry.schema(schema_id)
        buffer = BytesIO(payload)
        try:
            record = fastavro.schemaless_reader(buffer, writer, self._reader)
        except Exception as error:  # fastavro raises many kinds on garbage
            raise BadRecordError(f"payload does not decode: {error!r}") from error
        if buffer.tell() != len(payload):
            raise BadRecordError(f"{len(payload) - buffer.tell()} bytes left after the record")
        if not isinstance(record, dict):
            raise BadRecordError("the payload is no record")
        return record
