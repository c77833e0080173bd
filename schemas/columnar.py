"""Arrow messages: many rows of one record schema in one Kafka message, as an Arrow IPC stream."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa
from polars.interchange import CompatLevel

from schemas import files
from schemas.codec import BadRecordError

SOURCE_COLUMNS: dict[str, pl.DataType] = {
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "logged_at": pl.Datetime("ms", "UTC"),
}
"""Where an event came from, and when the log took it: every row of a batch of events has it."""

_PRIMITIVES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "bytes": pl.Binary(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
}


def _polars_type(avro: Any) -> pl.DataType:
    if isinstance(avro, list):
        (inner,) = (branch for branch in avro if branch != "null")
        return _polars_type(inner)
    if isinstance(avro, str):
        return _PRIMITIVES[avro]
    match avro.get("logicalType"):
        case "timestamp-millis":
            return pl.Datetime("ms", "UTC")
        case "date":
            return pl.Date()
    if avro["type"] == "enum":
        return pl.Enum(avro["symbols"])
    return _PRIMITIVES[avro["type"]]


@cache
def columns(schema_name: str, only: tuple[str, ...] | None = None) -> pl.Schema:
    """Name and polars type of the fields of a flat record schema, or of some, in its order.

    Rows of `user_event` also have the `SOURCE_COLUMNS`. KeyError if there is no such schema.
    """
    fields = {f["name"]: _polars_type(f["type"]) for f in files.load(schema_name)["fields"]}
    if schema_name == "user_event":
        fields = {**SOURCE_COLUMNS, **fields}
    return pl.Schema({n: dtype for n, dtype in fields.items() if only is None or n in only})


@cache
def arrow_schema(schema_name: str) -> pa.Schema:
    """The same columns as pyarrow's types; an enum is a plain string there."""
    frame = pl.DataFrame(schema=columns(schema_name)).cast({pl.Enum: pl.String})
    return frame.to_arrow(compat_level=CompatLevel.oldest()).schema


def frame_of(values: Mapping[str, Any], schema_name: str) -> pl.DataFrame:
    """Rows whose columns are ``values``, by name, cast to the types that the schema declares.

    Times are integers in milliseconds, dates integers in days since 1970. KeyError if a column is
    missing.
    """
    # Series by series: polars takes long over a frame of arrays, if the rows are few.
    declared = columns(schema_name)
    return pl.DataFrame([_series(name, values[name], dtype) for name, dtype in declared.items()])


def _series(name: str, values: Any, dtype: pl.DataType) -> pl.Series:
    series = pl.Series(name, values, pl.String if dtype == pl.String else None)
    # A day is a number of 32 bits.
    return series.cast(pl.Int32).cast(dtype) if dtype == pl.Date else series.cast(dtype)


def to_message(frame: pl.DataFrame, schema_name: str, *, compress: bool = False) -> bytes:
    """The rows as one Arrow IPC stream, columns in the declared order and of the declared types.

    With ``compress`` each column is packed on its own, by lz4: whoever reads some of the columns
    unpacks these only. Readers of Arrow read either form. polars' errors if a column is missing or
    cannot be cast.
    """
    buffer = BytesIO()
    _as_declared(frame, schema_name).write_ipc_stream(
        buffer,
        compression="lz4" if compress else "uncompressed",
        compat_level=CompatLevel.oldest(),
    )
    return buffer.getvalue()


def from_message(
    value: bytes | None, schema_name: str, only: tuple[str, ...] | None = None
) -> pl.DataFrame:
    """The rows of a message, of all columns or of these; BadRecordError if it lacks one."""
    if value is None:
        raise BadRecordError("the message has no value")
    try:
        return _as_declared(_read(value, schema_name, only), schema_name, only)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise BadRecordError(f"not an Arrow batch of {schema_name}: {error}") from error


def _read(value: bytes, schema_name: str, only: tuple[str, ...] | None) -> pl.DataFrame:
    if only is not None:
        with suppress(pl.exceptions.ColumnNotFoundError):  # it may be older than a column
            return pl.read_ipc_stream(BytesIO(value), columns=columns(schema_name, only).names())
    return pl.read_ipc_stream(BytesIO(value))


def _as_declared(
    frame: pl.DataFrame, schema_name: str, only: tuple[str, ...] | None = None
) -> pl.DataFrame:
    declared = columns(schema_name, only)
    # Ours are as declared already; selecting and casting a few rows costs more than reading them,
    # and so does comparing schemas as wholes.
    if frame.columns == declared.names() and frame.dtypes == declared.dtypes():
        return frame
    missing = set(declared.names()).difference(frame.columns)
    added = [pl.lit(v).alias(n) for n, v in _defaults(schema_name).items() if n in missing]
    return frame.with_columns(added).select(declared.names()).cast(declared)


@cache
def _defaults(schema_name: str) -> dict[str, Any]:
    """What older messages did not have yet, and what is to be read instead."""
    fields = files.load(schema_name)["fields"]
    defaults = {field["name"]: field["default"] for field in fields if "default" in field}
    return {"logged_at": None, **defaults} if schema_name == "user_event" else defaults
