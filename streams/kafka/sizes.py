"""How large records are, whether a topic takes them, and what is put aside where none does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from streams.kafka.wire import ERROR_PREFIX
from topology.model import Topic

LARGEST_RECORD_BYTES = 32 * 1_048_576
"""Longest record that a client of ours sends, before it is compressed."""

VALUE_BYTES = ERROR_PREFIX + "value.bytes"
"""Header of a dead letter that has only the beginning of a value: how long the whole one was."""

KEPT_BYTES = 4_096
"""What such a letter keeps of a value, and of a key."""

_OVERHEAD_BYTES = 160
"""At most what a batch of one record takes beside key, value and headers, and one more header."""

Header = tuple[str, bytes | None]


class RecordTooLargeError(ValueError):
    """A record that its topic does not take."""


class Letter(NamedTuple):
    """Key, value and headers of a dead letter."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def record_bytes(key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()) -> int:
    """At most what a record takes in the log before it is compressed."""
    parts = [key, value, *(part for pair in headers for part in pair)]
    # A header's lengths take up to five bytes each.
    return sum(len(part) for part in parts if part) + 10 * len(headers) + _OVERHEAD_BYTES


def takes(
    topic: Topic, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
) -> bool:
    """Whether a topic takes a record.

    Brokers measure what is compressed, as producers of ours do by lz4, which may pack an eighth
    less than it does here.
    """
    size = record_bytes(key, value, headers)
    if size <= topic.max_message_bytes or value is None:
        return size <= topic.max_message_bytes
    if size > LARGEST_RECORD_BYTES:
        return False
    packed = len(pa.compress(value, codec="lz4", asbytes=True))
    return size - len(value) + packed <= topic.max_message_bytes * 7 // 8


def too_large(
    topic: Topic, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
) -> RecordTooLargeError:
    """The error of a record that a topic does not take."""
    return RecordTooLargeError(
        f"a record of {record_bytes(key, value, headers):,} bytes, where {topic.name} takes "
        f"{topic.max_message_bytes:,}"
    )


def letter(
    dead: Topic, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> Letter:
    """A dead letter as its topic takes it: whole, or with the beginning of its value.

    Where key or headers alone are too much, the headers that say why it died are left.
    """
    if takes(dead, key, value, headers):
        return Letter(key, value, headers)
    cut = [*headers, (VALUE_BYTES, str(len(value or b"")).encode())]
    beginning = (value or b"")[:KEPT_BYTES]
    if takes(dead, key, beginning, cut):
        return Letter(key, beginning, cut)
    why = [(name, text) for name, text in cut if name.startswith(ERROR_PREFIX)]
    return Letter(None if key is None else key[:KEPT_BYTES], beginning, why)
