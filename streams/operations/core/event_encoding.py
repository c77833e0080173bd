"""Messages of many events at once, byte for byte what `RecordCodec` makes of each.

A record of Avro is the encodings of its fields, one behind the other. So each column is encoded by
itself, and the parts of each row are joined: a third of what an encoder
of records takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import polars as pl

from schemas import files
from schemas.codec import frame

Encode = Callable[[pl.Series], Iterable[bytes]]

_NULL, _VALUE = b"\x00", b"\x02"
_MOST_KEPT = 100_000
"""Distinct numbers of a column whose encodings are kept."""

_SIX_BYTES = (1 << 35, 1 << 42)
"""The numbers, zigzag, that take six bytes: times from 1987 to 2039 are among them."""


class EventEncoder:
    """Encodes frames of events under one schema id. The frames' times are in milliseconds."""

    def __init__(self, schema_id: int):
        self._start = frame(schema_id, b"")
        fields = files.load("user_event")["fields"]
        self._columns = {field["name"]: _column(field["type"]) for field in fields}

    def encode(self, events: pl.DataFrame) -> list[bytes]:
        """The message of each row."""
        parts: list[Iterable[bytes]] = []
        constant = self._start
        for name, encode in self._columns.items():
            column = events[name]
            if column.null_count() == len(column):
                constant += _NULL
                continue
            if constant:
                parts.append([constant] * len(column))
                constant = b""
            parts.append(encode(column))
        if constant:
            parts.append([constant] * events.height)
        return list(map(b"".join, zip(*parts, strict=True)))


class _Numbers(dict[int, bytes]):
    """The encoding of each number, made once."""

    def __missing__(self, number: int) -> bytes:
        if len(self) >= _MOST_KEPT:
            self.clear()
        made = self[number] = _long(number)
        return made


def _column(avro: Any) -> Encode:
    """How a column of a type is encoded."""
    if isinstance(avro, list):
        inner = _column(avro[1])
        return lambda column: _of_union(column, inner)
    if isinstance(avro, dict) and avro["type"] == "enum":
        symbols = {symbol: _long(number) for number, symbol in enumerate(avro["symbols"])}
        return lambda column: map(symbols.__getitem__, column.to_list())
    if isinstance(avro, dict):
        return _times
    if avro == "string":
        return _strings
    numbers = _Numbers()
    return lambda column: map(numbers.__getitem__, column.to_list())


def _of_union(column: pl.Series, encode: Encode) -> Iterable[bytes]:
    if not column.null_count():
        return [_VALUE + part for part in encode(column)]
    values = iter(encode(column.drop_nulls()))
    return [_NULL if null else _VALUE + next(values) for null in column.is_null().to_list()]


def _strings(column: pl.Series) -> Iterable[bytes]:
    texts = column.cast(pl.Binary).to_list()
    lengths = list(map(len, texts))
    if max(lengths) < len(_LENGTHS):
        return [_LENGTHS[length] + text for length, text in zip(lengths, texts, strict=True)]
    return [_long(length) + text for length, text in zip(lengths, texts, strict=True)]


def _long(number: int) -> bytes:
    rest, encoded = number << 1 ^ number >> 63, bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _times(column: pl.Series) -> Iterable[bytes]:
    numbers = column.to_numpy()
    zigzag = (numbers << 1 ^ numbers >> 63).view(np.uint64)
    low, high = _SIX_BYTES
    if zigzag.min() < low or zigzag.max() >= high:
        return map(_long, column.to_list())
    shifts = np.arange(0, 42, 7, dtype=np.uint64)
    septets = (zigzag[:, None] >> shifts & np.uint64(0x7F)).astype(np.uint8)
    septets[:, :5] |= 0x80
    data = septets.tobytes()
    return [data[start : start + 6] for start in range(0, len(data), 6)]


_LENGTHS = [_long(length) for length in range(1025)]
