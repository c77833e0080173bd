"""Several Arrow tables and lists of names in one value, for a state's log."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pyarrow as pa

_LENGTH = struct.Struct(">I")


def pack(tables: Mapping[str, pa.RecordBatch]) -> bytes:
    """Named record batches as one value: for each its name and its Arrow IPC stream."""
    parts: list[bytes] = []
    for name, rows in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows)
        for part in (name.encode(), sink.getvalue().to_pybytes()):
            parts += [_LENGTH.pack(len(part)), part]
    return b"".join(parts)


def unpack(value: bytes) -> dict[str, pa.RecordBatch]:
    """What `pack` was given."""
    parts, place = [], 0
    while place < len(value):
        (length,) = _LENGTH.unpack_from(value, place)
        place += _LENGTH.size
        parts.append(value[place : place + length])
        place += length
    return {
        name.decode(): pa.ipc.open_stream(stream).read_next_batch()
        for name, stream in zip(parts[::2], parts[1::2], strict=True)
    }
