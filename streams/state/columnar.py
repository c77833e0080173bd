"""States made of keyed tables, of names by number, and of a few figures: in and out of a log.

What such a state numbers keeps its number from snapshot to snapshot, so changes carry only the
names that were added, and the rows that have changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from streams.state.hash_table import ColumnarHashTable
from streams.state.interner import StringInterner
from streams.state.packing import pack, unpack

FEWEST_PRUNED = 1_000
"""Names that are not worth numbering anew."""

_META = "meta"
_PIECE_ROWS = 50_000


class ColumnarState(ABC):
    """The `PartitionState` of what a stage keeps in tables."""

    applied: int
    FIGURES: ClassVar[tuple[str, ...]]
    """The attributes that are integers, ``applied`` among them."""

    @abstractmethod
    def _tables(self) -> dict[str, ColumnarHashTable]:
        """Every table, by a name of its own."""

    @abstractmethod
    def _names(self) -> dict[str, StringInterner]:
        """What is numbered, by a name that no table has."""

    @abstractmethod
    def _prune(self) -> None:
        """Drop what is not needed any more, before all of it is written down."""

    def changes(self) -> bytes:
        parts = {_META: self._figures()}
        for name, names in self._names().items():
            if added := names.added():
                parts[name] = _names_batch(len(names) - len(added), added)
        for name, table in self._tables().items():
            if (slots := table.changed()).size:
                parts[name] = table.to_arrow(slots)
        self.forget_changes()
        return pack(parts)

    def forget_changes(self) -> None:
        for table in self._tables().values():
            table.forget_changes()
        for names in self._names().values():
            names.forget_changes()

    def snapshot(self) -> Iterator[bytes]:
        self._prune()
        self.forget_changes()
        yield pack({_META: self._figures()})
        for name, names in self._names().items():
            for first in range(0, len(names), _PIECE_ROWS):
                piece = names.all()[first : first + _PIECE_ROWS]
                yield pack({name: _names_batch(first, piece)})
        for name, table in self._tables().items():
            for first in range(0, len(table), _PIECE_ROWS):
                slots = np.arange(first, min(first + _PIECE_ROWS, len(table)))
                yield pack({name: table.to_arrow(slots)})

    def load_changes(self, value: bytes) -> None:
        names, tables = self._names(), self._tables()
        for name, rows in unpack(value).items():
            if name in tables:
                tables[name].load(rows)
            elif name in names:
                names[name].load(rows.column("first")[0].as_py(), rows.column("name").to_pylist())
            else:
                for figure in self.FIGURES:
                    setattr(self, figure, rows.column(figure)[0].as_py())

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self.load_changes(piece)

    def _figures(self) -> pa.RecordBatch:
        figures = [pa.array([getattr(self, name)], pa.int64()) for name in self.FIGURES]
        return pa.RecordBatch.from_arrays(figures, self.FIGURES)


def _names_batch(first: int, names: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"first": pa.array([first] * len(names), pa.int64()), "name": pa.array(names, pa.string())}
    )
