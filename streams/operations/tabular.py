"""Rows of CSV, JSON lines and Parquet files, a few thousand at a time, each with its line.

What other programs write is taken: packed with gzip, with a byte order mark, in UTF-16, with `;` or
tabs between the columns. What of a file was not understood is refused with its line and its size.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import msgspec

from streams.operations.core.imports import Row, Rows
from streams.operations.csv_records import read_csv
from streams.operations.table_source import CHUNK, Advance, FileError, Source

_KINDS = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    ".parquet": "parquet",
}
_PACKED = (".gz", ".gzip")
_PARQUET = b"PAR1"
_decode = msgspec.json.Decoder().decode


def read_rows(
    path: Path, required: Collection[str], advance: Advance = lambda share: None
) -> Iterator[Rows]:
    """The rows of a file by its suffix: `.csv`, `.tsv`, `.jsonl`/`.ndjson`/`.json` or `.parquet`.

    ``advance`` is told which share of the file has been read, 0 to 1. FileError if the file is of
    another kind, cannot be read, or has columns but not the ``required`` ones.
    """
    if not kind_of(path.name) and _suffix(path.name):
        raise FileError(f"{path.name} ends neither in .csv nor in .jsonl nor in .parquet")
    try:
        with path.open("rb") as file:
            yield from read_table(file, path.name, required, advance)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def kind_of(name: str) -> str:
    """`csv`, `jsonl` or `parquet` by the suffix of a file, packed or not; empty for any other."""
    return _KINDS.get(_suffix(name), "")


def _suffix(name: str) -> str:
    path = PurePosixPath(name.lower())
    return path.with_suffix("").suffix if path.suffix in _PACKED else path.suffix


def read_table(
    file: IO[bytes], name: str, required: Collection[str], advance: Advance = lambda share: None
) -> Iterator[Rows]:
    """The rows of an open, seekable file; where its ``name`` does not tell its kind, it does.

    Raises as `read_rows` does.
    """
    source = Source(file, name, advance)
    kind = kind_of(name) or ("jsonl" if source.head.lstrip().startswith(b"{") else "csv")
    try:
        if source.head.startswith(_PARQUET) or kind == "parquet":
            yield from _parquet(source, required)
        elif kind == "csv":
            yield from read_csv(source, required)
        else:
            yield from _jsonl(source)
    finally:
        source.let_go()


def _jsonl(source: Source) -> Iterator[Rows]:
    wide = source.encoding != "utf-8-sig"
    found: Iterator[Any] = source.read(source.text() if wide else source.file)
    number = 0
    while lines := list(islice(found, CHUNK)):
        if wide:
            lines = [line.encode("utf-8", "replace") for line in lines]
        yield _objects(lines, number + 1)
        number += len(lines)
    yield Rows([], [], [(number + 1, source.fault)] if source.fault else [])


def _objects(lines: list[bytes], first: int) -> Rows:
    """The objects of some lines, of which the first has this number."""
    try:
        values = list(map(_decode, lines))
        if set(map(type, values)) == {dict}:
            return Rows(list(range(first, first + len(lines))), values)
    except (ValueError, RecursionError):
        pass  # Which of them it is, line by line says.
    numbers: list[int] = []
    rows: list[Row] = []
    refused: list[tuple[int, str]] = []
    for number, line in enumerate(lines, first):
        try:
            value = parse_json_object(line)
        except ValueError as error:
            refused.append((number, str(error)))
        else:
            if value is not None:
                numbers.append(number)
                rows.append(value)
    return Rows(numbers, rows, refused)


def parse_json_object(line: bytes) -> dict[str, Any] | None:
    """The object of a JSON line; None for a blank line. ValueError if it holds anything else."""
    try:
        value = _decode(line)
        if type(value) is dict:
            return value
    except (ValueError, RecursionError):
        pass  # Whatever it is, the careful way says so.
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


def _parquet(source: Source, required: Collection[str]) -> Iterator[Rows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Its end is read first, and what is packed can only be read from its beginning.
        whole = io.BytesIO(source.file.read()) if source.packed else source.file
        with pq.ParquetFile(whole) as file:
            schema = file.schema_arrow
            if repeated := [name for name, n in Counter(schema.names).items() if n > 1]:
                raise FileError(f"{source.name} has column {', '.join(repeated)} twice")
            source.require(schema.names, required)
            # Impala and Hive do not mark as text what is text.
            unmarked = [field.name for field in schema if "binary" in str(field.type)]
            total, read = file.metadata.num_rows or 1, 0
            for batch in file.iter_batches(CHUNK):
                lines = list(range(read + 1, read + 1 + batch.num_rows))
                rows = batch.to_pylist()
                for row in rows if unmarked else ():
                    row.update((name, _as_text(row[name])) for name in unmarked)
                yield Rows(lines, rows)
                read += batch.num_rows
                source.advance(read / total)
    except (
        pa.ArrowInvalid,
        pa.ArrowNotImplementedError,
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
    ) as error:
        raise FileError(f"{source.name} is no Parquet file: {error}") from error


def _as_text(value: Any) -> Any:
    """Bytes as text, those that are no UTF-8 as surrogates; lists of them alike."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return [_as_text(part) for part in value] if isinstance(value, list) else value
