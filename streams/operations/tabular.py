"""Rows of CSV, JSON lines and Parquet files, a few thousand at a time, each with its line.

What other programs write is taken: packed with gzip, with a byte order mark, in UTF-16, with `;` or
tabs between the columns. What of a file was not understood is refused with its line and its size.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import msgspec

from streams.http.charsets import wide_encoding
from streams.http.decompress import GZIP_MAGIC
from streams.operations.core.imports import Rows

CHUNK = 20_000
LONGEST_FIELD = 64 * 1_048_576
"""Characters of the longest CSV field: a transcript may be long."""

_KINDS = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    ".parquet": "parquet",
}
_PACKED = (".gz", ".gzip")
_PARQUET = b"PAR1"
_BOMS_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_BOMS_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DELIMITERS = (",", ";", "\t", "|")
_SAYS_DELIMITER = re.compile(r"sep=(.)[\r\n]{0,2}", re.I)
"""The first line by which spreadsheets tell each other what is between the columns."""
_LOOKED_AT = 4_096
_decode = msgspec.json.Decoder().decode

Advance = Callable[[float], None]


class FileError(ValueError):
    """A file that cannot be imported at all; the text says why."""


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
    source = _Source(file, name, advance)
    kind = kind_of(name) or ("jsonl" if source.head.lstrip().startswith(b"{") else "csv")
    try:
        if source.head.startswith(_PARQUET) or kind == "parquet":
            yield from _parquet(source, required)
        elif kind == "csv":
            yield from _csv(source, required)
        else:
            yield from _jsonl(source)
    finally:
        source.let_go()


class _Unpacked(io.RawIOBase):
    """What a gzip file holds, no further than it was asked for.

    `gzip.GzipFile` fills what it is handed, and loses all of it where the file is broken within.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto1(buffer)


class _Source:
    """A file, unpacked if it is packed, as bytes or as lines.

    ``fault`` says why the lines ended before the file did, empty if they did not.
    """

    def __init__(self, file: IO[bytes], name: str, advance: Advance) -> None:
        self.name, self.fault = name, ""
        self._raw, self.advance = file, advance
        self._size = file.seek(0, io.SEEK_END) or 1
        file.seek(0)
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        unpacked = io.BufferedReader(_Unpacked(file)) if packed else None
        self.file: IO[bytes] = unpacked or file
        self.packed = packed
        try:
            # No more than is needed: what follows may be broken, and is for `read` to say.
            self.head = unpacked.peek(_LOOKED_AT) if unpacked else file.read(_LOOKED_AT)
        except (EOFError, zlib.error, OSError) as error:
            raise FileError(f"{name} is no gzip file: {error}") from error
        if not packed:
            file.seek(0)
        self.encoding = _encoding_of(self.head[:_LOOKED_AT])
        self._text: io.TextIOWrapper | None = None

    def read(self, lines: IO[Any]) -> Iterator[Any]:
        """The lines up to the end, or to where a packed file is broken."""
        try:
            for number, line in enumerate(lines):
                if number % CHUNK == 0:
                    self.progress()
                yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.fault = f"the packed file is broken, what follows is lost: {error}"
        self.progress()

    def progress(self) -> None:
        self.advance(min(self._raw.tell() / self._size, 1.0))

    def text(self) -> io.TextIOWrapper:
        # Bytes that are no UTF-8 become surrogates, which the row's own check refuses.
        errors = "surrogateescape" if self.encoding == "utf-8-sig" else "replace"
        self._text = io.TextIOWrapper(self.file, self.encoding, errors, newline="")
        return self._text

    def let_go(self) -> None:
        """Leave the file to whoever opened it: text that is read of it would close it."""
        if self._text is not None and not self.file.closed:
            self._text.detach()

    def size_of(self, lines: Sequence[str]) -> int:
        """The bytes that lines take in the file, once it is unpacked."""
        encoding = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
        codec = encoding.get(self.encoding, self.encoding)
        errors = "surrogateescape" if codec == "utf-8" else "replace"
        return sum(len(line.encode(codec, errors)) for line in lines)


def _encoding_of(head: bytes) -> str:
    if head.startswith(_BOMS_UTF_32):
        return "utf-32"
    if head.startswith(_BOMS_UTF_16):
        return "utf-16"
    return wide_encoding(head) or "utf-8-sig"


class _Records:
    """The records of a CSV file, each with the lines that it takes."""

    def __init__(self, source: _Source, delimiter: str, first: Sequence[str]) -> None:
        self._source = source
        self._lines: list[str] = []
        self._ended = False
        self._delimiter = delimiter
        self._first = first

    def read(self, lines: Iterator[str]) -> Iterator[tuple[int, list[str], str]]:
        """(line, fields, fault) of each record that is not blank: those with a fault are none."""
        # Who writes blanks behind the commas of the header writes them everywhere.
        spaced = all(f"{self._delimiter} " in line for line in self._first)
        reader = csv.reader(
            self._noted(chain(self._first, lines)),
            delimiter=self._delimiter,
            skipinitialspace=spaced,
        )
        begins = 1
        while True:
            self._lines.clear()
            fault = ""
            try:
                values = next(reader, None)
            except csv.Error as error:
                values, fault = [], self._passed_over(str(error))
            if values is None:
                return
            if self._ended:
                # The reader asked for more lines than there are, and took what it had.
                fault = self._passed_over("a quote that is opened is never closed")
            elif len(self._lines) > 1 and self._swallows_rows(len(values)):
                fault = self._passed_over("a quote that is opened is closed in another row")
            if values or fault:
                yield begins, values, fault
            begins = reader.line_num + 1

    def mismatch(self, values: Sequence[str], columns: int) -> str:
        """Why a record of another number of fields than there are ``columns`` is refused."""
        reason = f"{len(values)} fields where the header has {columns}"
        return self._passed_over(reason) if len(self._lines) > 1 else reason

    def rest(self, lines: Iterator[str]) -> int:
        """The bytes of all that has not been read."""
        return self._source.size_of(list(lines))

    def _swallows_rows(self, columns: int) -> bool:
        """Whether a quote is closed in the middle of a field, and a row lies between the two."""
        try:
            next(csv.reader(self._lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            within = csv.reader(
                self._lines[1:-1], delimiter=self._delimiter, quoting=csv.QUOTE_NONE
            )
            return any(len(row) == columns for row in within)
        return False

    def _passed_over(self, reason: str) -> str:
        return f"{reason}: {self._source.size_of(self._lines):,} bytes passed over"

    def _noted(self, lines: Iterator[str]) -> Iterator[str]:
        note = self._lines.append
        for line in lines:
            note(line)
            yield line
        self._ended = True


def _csv(source: _Source, required: Collection[str]) -> Iterator[Rows]:
    csv.field_size_limit(LONGEST_FIELD)
    lines = source.read(source.text())
    first, *before = reversed(list(_up_to_header(lines)))
    skipped = len(before)
    says = next(filter(None, map(_SAYS_DELIMITER.fullmatch, before)), None)
    delimiter = says[1] if says else _delimiter_of(first, required)
    records = _Records(source, delimiter, [first])
    found = records.read(lines)
    line, names, fault = next(found, (1, [], ""))
    header = [name.strip() for name in names]
    if fault:
        yield Rows(refused=[(line + skipped, fault)])
        return
    if repeated := [name for name, count in Counter(header).items() if count > 1 and name]:
        reason = f"column {', '.join(repeated)} twice: {records.rest(lines):,} bytes passed over"
        yield Rows(refused=[(line + skipped, reason)])
        return
    _require(source.name, header, required)
    rows = Rows()
    columns = len(header)
    for begins, values, fault in found:
        if fault:
            rows.refused.append((begins + skipped, fault))
        elif len(values) != columns:
            rows.refused.append((begins + skipped, records.mismatch(values, columns)))
        elif values == names:
            rows.refused.append((begins + skipped, "the header once more"))
        else:
            rows.lines.append(begins + skipped)
            rows.rows.append(dict(zip(header, values, strict=True)))
        line = begins
        if len(rows.rows) >= CHUNK:
            yield rows
            rows = Rows()
    if source.fault:
        rows.refused.append((line + skipped + 1, source.fault))
    yield rows


def _up_to_header(lines: Iterator[str]) -> Iterator[str]:
    """The first line that holds columns, and those before it, which are blank or `sep=;`."""
    for line in lines:
        yield line
        if line.strip() and not _SAYS_DELIMITER.fullmatch(line):
            return
    yield ""


def _delimiter_of(first: str, required: Collection[str]) -> str:
    """What is between the columns: that by which the most of those required are there."""

    def fits(delimiter: str) -> int:
        try:
            names = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            return 0
        return len({name.strip() for name in names} & set(required))

    return max(_DELIMITERS, key=fits)


def _jsonl(source: _Source) -> Iterator[Rows]:
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
    rows = Rows()
    for number, line in enumerate(lines, first):
        try:
            value = parse_json_object(line)
        except ValueError as error:
            rows.refused.append((number, str(error)))
        else:
            if value is not None:
                rows.lines.append(number)
                rows.rows.append(value)
    return rows


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


def _parquet(source: _Source, required: Collection[str]) -> Iterator[Rows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Its end is read first, and what is packed can only be read from its beginning.
        whole = io.BytesIO(source.file.read()) if source.packed else source.file
        with pq.ParquetFile(whole) as file:
            schema = file.schema_arrow
            if repeated := [name for name, n in Counter(schema.names).items() if n > 1]:
                raise FileError(f"{source.name} has column {', '.join(repeated)} twice")
            _require(source.name, schema.names, required)
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


def _require(name: str, columns: Collection[str], required: Collection[str]) -> None:
    missing = [column for column in required if column not in columns]
    if missing:
        raise FileError(
            f"{name} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}"
        )
