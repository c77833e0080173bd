"""Rows of CSV, JSON lines and Parquet files, a few thousand at a time, each with its line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from streams.operations.core.imports import Rows

CHUNK = 10_000
LONGEST_FIELD = 64 * 1_048_576
"""Characters of the longest CSV field: a transcript may be long."""


class FileError(ValueError):
    """A file that cannot be imported at all; the text says why."""


def read_rows(
    path: Path,
    required: Collection[str],
    advance: Callable[[float], None] = lambda share: None,
) -> Iterator[Rows]:
    """The rows of a file by its suffix: `.csv`, `.jsonl`/`.ndjson`/`.json` lines or `.parquet`.

    ``advance`` is told which share of the file has been read, 0 to 1. FileError if the file is of
    another kind, cannot be read, or has columns but not the ``required`` ones.
    """
    readers = {
        ".csv": _csv,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".json": _jsonl,
        ".parquet": _parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FileError(f"{path.name} ends neither in .csv nor in .jsonl nor in .parquet")
    try:
        yield from reader(path, required, advance)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _csv(path: Path, required: Collection[str], advance: Callable[[float], None]) -> Iterator[Rows]:
    csv.field_size_limit(LONGEST_FIELD)
    size = path.stat().st_size or 1
    # bytes that are no UTF-8 become surrogates, which the row's own check refuses
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(_counted(file, size, advance))
        header = [name.strip() for name in next(reader, [])]
        _require(path, header, required)
        rows, begins = Rows(), reader.line_num + 1
        while True:
            try:
                values = next(reader, None)
            except csv.Error as error:
                rows.refused.append((begins, str(error)))
                begins = reader.line_num + 1
                continue
            if values is None:
                break
            if len(values) == len(header):
                rows.lines.append(begins)
                rows.rows.append(dict(zip(header, values, strict=True)))
            elif values:
                reason = f"{len(values)} fields where the header has {len(header)}"
                rows.refused.append((begins, reason))
            begins = reader.line_num + 1
            if len(rows.rows) >= CHUNK:
                yield rows
                rows = Rows()
        yield rows


def _counted(file: Any, size: int, advance: Callable[[float], None]) -> Iterator[str]:
    read = 0
    for number, line in enumerate(file):
        read += len(line)
        if number % CHUNK == 0:
            advance(min(read / size, 1.0))
        yield line


def _jsonl(
    path: Path, required: Collection[str], advance: Callable[[float], None]
) -> Iterator[Rows]:
    size = path.stat().st_size or 1
    rows, read = Rows(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            read += len(line)
            try:
                value = parse_json_object(line)
            except ValueError as error:
                rows.refused.append((number, str(error)))
            else:
                if value is not None:
                    rows.lines.append(number)
                    rows.rows.append(value)
            if number % CHUNK == 0:
                advance(read / size)
                yield rows
                rows = Rows()
    yield rows


def parse_json_object(line: bytes) -> dict[str, Any] | None:
    """The object of a JSON line; None for a blank line. ValueError if it holds anything else."""
    if not line.strip():
        return None
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("no valid UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("no JSON: nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _parquet(
    path: Path, required: Collection[str], advance: Callable[[float], None]
) -> Iterator[Rows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _require(path, file.schema_arrow.names, required)
            total, read = file.metadata.num_rows or 1, 0
            for batch in file.iter_batches(CHUNK):
                lines = list(range(read + 1, read + 1 + batch.num_rows))
                yield Rows(lines, batch.to_pylist())
                read += batch.num_rows
                advance(read / total)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FileError(f"{path.name} is no Parquet file: {error}") from error


def _require(path: Path, columns: Collection[str], required: Collection[str]) -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        raise FileError(
            f"{path.name} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}"
        )
