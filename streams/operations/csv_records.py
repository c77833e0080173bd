"""Rows of CSV files: blocks of lines at once where each is a row, record by record where not."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice

from streams.operations.core.imports import Rows
from streams.operations.core.table import LONGEST_FIELD, Table, plain_columns
from streams.operations.table_source import CHUNK, Source

BLOCK = 1_000
"""Lines that are taken at once: a field of several lines among them costs all the slow way."""

_DELIMITERS = (",", ";", "\t", "|")
_SAYS_DELIMITER = re.compile(r"sep=(\t|[^\s\"])[\r\n]{0,2}", re.I)
"""The first line by which spreadsheets tell each other what is between the columns."""


def read_csv(source: Source, required: Collection[str]) -> Iterator[Rows]:
    """The rows of a CSV file, and the records that are none. FileError without ``required``."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = source.read(source.text())
    first, *before = reversed(list(_up_to_header(lines)))
    says = next(filter(None, map(_SAYS_DELIMITER.fullmatch, before)), None)
    delimiter = says[1] if says else _delimiter_of(first, required)
    # Who writes blanks behind the commas of the header writes them everywhere.
    records = _Records(source, delimiter, f"{delimiter} " in first, len(before))
    line, names, fault = next(records.read([first], lines), (1, [], ""))
    header = [name.strip() for name in names]
    repeated = [name for name, count in Counter(header).items() if count > 1 and name]
    if repeated and not fault:
        size = source.size_of(list(lines))
        fault = f"column {', '.join(repeated)} twice: {size:,} bytes passed over"
    if fault:
        yield Rows(refused=[(line, fault)])
        return
    source.require(header, required)
    yield from _rows(source, records, lines, names, header)


def _rows(
    source: Source, records: _Records, lines: Iterator[str], names: list[str], header: list[str]
) -> Iterator[Rows]:
    """What comes behind the header, whose ``names`` are as they stand there."""
    table = Table(header)
    rows = Rows(rows=table)
    while block := list(islice(lines, BLOCK)):
        begin = records.line + 1
        if (columns := records.plain(block, names)) is not None:
            rows.lines.extend(range(begin, records.line + 1))
            table.extend(columns)
        else:
            for begins, values, reason in records.read(block, lines):
                if fault := reason or records.mismatch(values, names):
                    rows.refused.append((begins, fault))
                else:
                    rows.lines.append(begins)
                    table.append(values)
        if len(table) >= CHUNK:
            yield rows
            table = Table(header)
            rows = Rows(rows=table)
    if source.fault:
        rows.refused.append((records.line + 1, source.fault))
    yield rows


class _Records:
    """The records of a CSV file, each with the lines that it takes."""

    def __init__(self, source: Source, delimiter: str, spaced: bool, line: int) -> None:
        self.line = line
        """The lines that have been read."""
        self._source = source
        self._lines: list[str] = []
        self._ended = False
        self._delimiter = delimiter
        self._spaced = spaced

    def plain(self, block: Sequence[str], names: Sequence[str]) -> list[list[str]] | None:
        """The columns of a block of lines if each is a row; else nothing of it has been read."""
        columns = None if self._spaced else plain_columns(block, self._delimiter, names)
        if columns is not None:
            self.line += len(block)
        return columns

    def read(
        self, block: Sequence[str], following: Iterator[str]
    ) -> Iterator[tuple[int, list[str], str]]:
        """(line, fields, fault) of each record that begins in a block of lines and is not blank:
        those with a fault are none. The last may take lines of those ``following``.
        """
        end = self.line + len(block)
        lines = self._noted(chain(block, following))
        reader = csv.reader(lines, delimiter=self._delimiter, skipinitialspace=self._spaced)
        while self.line < end:
            self._lines.clear()
            begins, fault = self.line + 1, ""
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

    def mismatch(self, values: Sequence[str], names: Sequence[str]) -> str:
        """Why the record that was read last is no row under a header; empty if it is one."""
        if values == names:
            return "the header once more"
        if len(values) == len(names):
            return ""
        reason = f"{len(values)} fields where the header has {len(names)}"
        return self._passed_over(reason) if len(self._lines) > 1 else reason

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
            self.line += 1
            yield line
        self._ended = True


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
