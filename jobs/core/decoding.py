"""From Kafka's messages to table rows, as Arrow: what Spark's Python workers run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
from polars.interchange import CompatLevel

from jobs.core.facts import FACTS, Decoded, Facts, drop_repeats, positions
from jobs.core.forgetting import ForgottenRows, UpTo
from schemas.codec import BadRecordError

Decode = Callable[[str, bytes | None], Any]
"""``decode(topic, value)``: what is in a message; BadRecordError if nothing usable is."""

PLACE = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("error", pa.string()),
        ("deleted", pa.bool_()),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
    ]
)
"""What every output row begins with: the message, what is wrong with it, whether it deletes what
was there, the source position."""

_READ = "read "
"""Begins the names of columns that no table can have."""


def output_schema(tables: Mapping[str, pa.Schema]) -> pa.Schema:
    """The place of a row, and for every table a struct column with the row in it, or null."""
    structs = [pa.field(name, pa.struct(list(schema))) for name, schema in sorted(tables.items())]
    return pa.schema([*PLACE, *structs])


def decode_batches(
    batches: Iterable[pa.RecordBatch],
    decode: Decode,
    tables: Mapping[str, pa.Schema],
    applied: Mapping[str, Mapping[int, int]],
    forgotten: UpTo,
) -> Iterator[pa.RecordBatch]:
    """Rows of every message of ``batches`` (topic, partition, offset, key, value), as
    `output_schema`.

    ``applied`` says how far each table has got, per source partition; repeats are dropped, and so
    is what is made of nothing but what is ``forgotten``. A message that does not decode gives one
    row with its ``error`` and nothing else; a tombstone, where it deletes a row, one with the key.
    The messages of a partition must come in the order of the log.
    """
    forgetting = ForgottenRows(forgotten)
    progress = {table: dict(offsets) for table, offsets in applied.items()}
    schema = output_schema(tables)
    for batch in batches:
        others: list[dict[str, Any]] = []
        for topic, messages in _decoded(batch, decode, others):
            facts = FACTS[topic]
            rows = to_arrow(facts.rows(messages), _with_source(tables[facts.table], facts))
            rows = _with_place(rows, messages)
            if facts.source is not None:
                rows = drop_repeats(rows, facts.source, progress.setdefault(facts.table, {}))
            rows = forgetting.without(rows, facts.made_from)
            yield from _assemble(schema, facts, topic, rows)
        if others:
            rows = pa.Table.from_pylist(others, schema=schema)
            yield from rows.combine_chunks().to_batches()


def _decoded(
    batch: pa.RecordBatch, decode: Decode, others: list[dict[str, Any]]
) -> Iterator[tuple[str, list[Decoded]]]:
    """Topic and messages of what decodes: a frame alone, so that few are in memory at a time.

    Rows of bad messages and tombstones are added to ``others``.
    """
    records: dict[str, list[Decoded]] = {}
    columns = (batch.column(name) for name in ("topic", "partition", "offset", "key", "value"))
    for cells in zip(*columns, strict=True):
        topic, partition, offset, key, value = (cell.as_py() for cell in cells)
        place = {"topic": topic, "partition": partition, "offset": offset}
        if value is None:
            facts = FACTS[topic]
            if facts.keyed_by and key:
                row = {facts.keyed_by: key.decode(errors="replace")}
                others.append({**place, "deleted": True, facts.table: row})
            continue
        try:
            content = decode(topic, value)
        except BadRecordError as error:
            others.append({**place, "error": str(error)})
            continue
        if isinstance(content, pl.DataFrame):
            yield topic, [Decoded(partition, offset, content)]
        else:
            records.setdefault(topic, []).append(Decoded(partition, offset, content))
    yield from records.items()


def _with_source(table: pa.Schema, facts: Facts) -> pa.Schema:
    """The table's columns, and those of the source position that it does not keep."""
    missing = [name for name in facts.source or () if name not in table.names]
    return pa.schema([*table, *(pa.field(name, pa.int32()) for name in missing)])


def to_arrow(rows: list[dict[str, Any]] | pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Rows as one chunk of exactly ``schema``; columns that it does not name are left out."""
    if isinstance(rows, pl.DataFrame):
        table = rows.select(schema.names).to_arrow(compat_level=CompatLevel.oldest()).cast(schema)
    else:
        table = pa.Table.from_pylist(rows, schema=schema)
    return table.combine_chunks()


def _with_place(rows: pa.Table, messages: list[Decoded]) -> pa.Table:
    """The rows and where they were read: a record is one row, a frame all rows of one message."""
    each = 1 if len(messages) == len(rows) else len(rows)
    for name, kind in (("partition", pa.int32()), ("offset", pa.int64())):
        places = [getattr(message, name) for message in messages for _ in range(each)]
        rows = rows.append_column(_READ + name, pa.array(places, kind))
    return rows


def _assemble(
    schema: pa.Schema, facts: Facts, topic: str, rows: pa.Table
) -> Iterator[pa.RecordBatch]:
    """Rows of one table in the common output schema."""
    count = rows.num_rows
    if not count:
        return
    columns: dict[str, pa.Array] = {"topic": pa.array([topic] * count)}
    for name in ("partition", "offset"):
        columns[name] = rows[_READ + name].combine_chunks()
    if facts.source is not None:
        partition, offset = facts.source
        columns["source_partition"] = rows[partition].combine_chunks()
        columns["source_offset"] = positions(rows[offset]).combine_chunks()
    fields = list(schema.field(facts.table).type)
    columns[facts.table] = pa.StructArray.from_arrays(
        [rows[field.name].combine_chunks() for field in fields], fields=fields
    )
    yield pa.RecordBatch.from_arrays(
        [columns.get(field.name, pa.nulls(count, field.type)) for field in schema], schema=schema
    )
