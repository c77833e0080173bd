"""Messages of many events at once, byte for byte what `RecordCodec` makes of each.

A record of Avro is the encodings of its fields, one behind the other. So each column is encoded by
itself, as an Arrow array of bytes, and Arrow joins the parts of each row: no value becomes an
object of Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas import files
from schemas.codec import frame

Encode = Callable[[pl.Series], Any]
"""Gives the encodings of a column: an Arrow array of bytes, or a scalar where they are all one."""


def _scalar(value: bytes) -> pa.LargeBinaryScalar:
    """A value for Arrow, by way of polars: pyarrow's own conversion loads pandas."""
    return pl.Series([value], dtype=pl.Binary).to_arrow()[0]


_NULL, _VALUE, _NOTHING = map(_scalar, (b"\x00", b"\x02", b""))
_SHIFTS = np.arange(0, 70, 7, dtype=np.uint64)
"""A long takes up to ten bytes, of seven bits each, the lowest first."""


class EventEncoder:
    """Encodes frames of events under one schema id. The frames' times are in milliseconds."""

    def __init__(self, schema_id: int):
        self._start = _scalar(frame(schema_id, b""))
        fields = files.load("user_event")["fields"]
        self._columns = {field["name"]: _column(field["type"]) for field in fields}

    def encode(self, events: pl.DataFrame) -> pa.LargeBinaryArray:
        """The message of each row."""
        if events.is_empty():
            return pl.Series([], dtype=pl.Binary).to_arrow()
        parts = (encode(events[name]) for name, encode in self._columns.items())
        return _joined(self._start, *parts)


def _column(avro: Any) -> Encode:
    """How a column of a type is encoded."""
    if isinstance(avro, list):
        inner = _column(avro[1])
        return lambda column: _of_union(column, inner)
    if isinstance(avro, dict) and avro["type"] == "enum":
        places = {symbol: place for place, symbol in enumerate(avro["symbols"])}
        return lambda column: _longs(column.replace_strict(places, return_dtype=pl.Int64))
    return _strings if avro == "string" else _longs


def _of_union(column: pl.Series, encode: Encode) -> Any:
    """Of null and a type: which of the two it is, then the value."""
    if column.null_count() == len(column):
        return _NULL
    some = _joined(_VALUE, encode(column.drop_nulls()))
    if not column.null_count():
        return some
    there = column.is_not_null().to_numpy()
    return some.take(pa.array(np.cumsum(there) - 1, mask=~there)).fill_null(_NULL)


def _strings(column: pl.Series) -> Any:
    """How long each is in bytes, then its UTF-8."""
    texts = column.cast(pl.Binary).to_arrow()
    return _joined(_varints(pc.binary_length(texts).to_numpy()), texts)


def _longs(column: pl.Series) -> Any:
    return _varints(column.cast(pl.Int64).to_numpy())


def _varints(numbers: NDArray[np.int64]) -> Any:
    """Each number in zigzag, so that small ones are short whatever their sign, by septets."""
    zigzag = (numbers << 1 ^ numbers >> 63).view(np.uint64)[:, None]
    wide = int(zigzag.max()).bit_length()
    shifts = _SHIFTS[: max(1, -(-wide // 7))]
    there = np.ones((len(numbers), len(shifts)), bool)
    there[:, 1:] = zigzag >> shifts[1:] > 0
    septets = (zigzag >> shifts & np.uint64(0x7F)).astype(np.uint8)
    septets[:, :-1] |= there[:, 1:].astype(np.uint8) << 7  # another one follows
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    buffers = [None, pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(septets[there])]
    return pa.Array.from_buffers(pa.large_binary(), len(numbers), buffers)


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, _NOTHING)
