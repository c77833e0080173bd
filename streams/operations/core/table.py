"""Rows of text by column, and the quick way to them: CSV of plain lines is cut at the commas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import methodcaller
from typing import overload

from streams.operations.core.imports import Row

LONGEST_FIELD = 64 * 1_048_576
"""Characters of the longest CSV field: a transcript may be long."""


_HIDDEN = "\x1f"
"""Where there is one in the text, quotes are for the module `csv`."""


class Table(Sequence[Row]):
    """Rows of texts, kept by column: each becomes a dict only when it is asked for as a row."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._columns: list[list[str]] = [[] for _ in names]

    def append(self, values: Sequence[str]) -> None:
        """Add a row: one value for each name."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def extend(self, columns: Sequence[list[str]]) -> None:
        """Add rows by column: one column for each name, all of one length."""
        for column, values in zip(self._columns, columns, strict=True):
            column.extend(values)

    def by_name(self) -> dict[str, list[str]]:
        """The columns; of those named alike the last."""
        return dict(zip(self.names, self._columns, strict=True))

    def __len__(self) -> int:
        return len(self._columns[0]) if self._columns else 0

    def __iter__(self) -> Iterator[Row]:
        for values in zip(*self._columns, strict=True):
            yield dict(zip(self.names, values, strict=True))

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        return {name: column[place] for name, column in self.by_name().items()}


def plain_columns(
    lines: Sequence[str], delimiter: str, names: Sequence[str]
) -> list[list[str]] | None:
    """The columns of CSV lines that are a row each; None if the module `csv` is to read them.

    A row each they are where quotes stand around whole fields of one line, and in each line as
    many delimiters as between the names. So a header that comes again, and blank lines, are not
    for here either.
    """
    text = "".join(lines)
    width = len(names)
    if width < 2 or len(text) > LONGEST_FIELD:
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    hides = False
    if '"' in text:
        text = _unquoted(text, delimiter)
        hides = _HIDDEN in text
    text = text.removesuffix("\n")
    counts = set(map(methodcaller("count", delimiter), text.split("\n")))
    if counts != {width - 1}:
        return None
    cells = text.replace("\n", delimiter).split(delimiter)
    if hides:
        cells = [cell.replace(_HIDDEN, delimiter) for cell in cells]
    columns = [cells[place::width] for place in range(width)]
    again = names[0] in columns[0] and tuple(names) in zip(*columns, strict=True)
    return None if again else columns


def _unquoted(text: str, delimiter: str) -> str:
    """Lines without the quotes around whole fields, and _HIDDEN for each delimiter within these;
    nothing if there are other quotes, or fields of several lines."""
    outside, inside = (parts := text.split('"'))[::2], parts[1::2]
    borders = {delimiter, "\n"}
    opens = {part[-1:] for part in outside[1:-1]} <= borders and outside[0][-1:] in borders | {""}
    closes = {part[:1] for part in outside[1:-1]} <= borders and outside[-1][:1] in borders | {""}
    within = _HIDDEN.join(inside)
    if len(parts) % 2 == 0 or not (opens and closes) or "\n" in within or _HIDDEN in text:
        return ""
    if delimiter in within:
        parts[1::2] = [part.replace(delimiter, _HIDDEN) for part in inside]
    return "".join(parts)
