"""States made of columnar tables, of strings by number, and of a few figures: in and out of a log.

A value is a pack of Arrow record batches (`streams.state.packing`): ``meta`` has one row with the
figures; a batch of the name of one of the state's string interners has the strings that were
added, from the number ``first`` on; one of the name of a table its rows; any other is written
whole each time. What a state numbers keeps its number from snapshot to snapshot, and numbers
follow from the source log alone, so changes carry only the strings that were added, and the rows
that have changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from streams.state.hash_table import ColumnarHashTable
from streams.state.interner import StringInterner
from streams.state.packing import pack, unpack

META = "meta"
PIECE_ROWS = 50_000
"""Rows or names in a piece of a snapshot: a few megabytes."""


class ColumnarState(ABC):
    """The `PartitionState` of what a stage keeps in tables."""

    applied: int
    renumbered = 0
    """How often numbers have been given anew."""

    FIGURES: ClassVar[tuple[str, ...]]
    """The attributes that are integers, ``applied`` among them."""

    @abstractmethod
    def _tables(self) -> dict[str, ColumnarHashTable]:
        """Every table, by a name of its own."""

    @abstractmethod
    def _names(self) -> dict[str, StringInterner]:
        """What is numbered, by a name that no table has."""

    @abstractmethod
    def _used(self) -> dict[str, np.ndarray]:
        """The numbers of each of `_names` that tables refer to: a mask over all of them."""

    @abstractmethod
    def _renumber(self, numbers: Mapping[str, np.ndarray]) -> None:
        """Put new numbers into all tables; ``numbers`` has the new one by the old one."""

    def _whole(self, changes_only: bool) -> dict[str, pa.RecordBatch]:
        """Small batches that are written whole, by a name that nothing else has.

        With ``changes_only``, those that are the same as when they were written last may be left
        out.
        """
        return {}

    def _load_whole(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        """Take over batches that `_whole` gave. ValueError if the state has none of these names."""
        raise ValueError(f"{type(self).__name__} has nothing of the names {sorted(batches)}")

    # -- out -----------------------------------------------------------------------------------

    def changes(self) -> bytes:
        """One value with what has changed since the last one, for the log."""
        batches = {META: self._figures(), **self._whole(changes_only=True)}
        for name, names in self._names().items():
            if added := names.added():
                batches[name] = _names_batch(len(names) - len(added), added)
        for name, table in self._tables().items():
            if (slots := table.changed()).size:
                batches[name] = table.to_arrow(slots)
        self.forget_changes()
        return pack(batches)

    def forget_changes(self) -> None:
        """What `changes` gives begins anew from here."""
        for table in self._tables().values():
            table.forget_changes()
        for names in self._names().values():
            names.forget_changes()

    def snapshot(self) -> Iterator[bytes]:
        """The whole state in pieces, each of which loads as changes do."""
        self._forget_unused()
        self.forget_changes()
        yield pack({META: self._figures(), **self._whole(changes_only=False)})
        for name, names in self._names().items():
            for first in range(0, len(names), PIECE_ROWS):
                piece = names.all()[first : first + PIECE_ROWS]
                yield pack({name: _names_batch(first, piece)})
        for name, table in self._tables().items():
            for first in range(0, len(table), PIECE_ROWS):
                slots = np.arange(first, min(first + PIECE_ROWS, len(table)))
                yield pack({name: table.to_arrow(slots)})

    def _forget_unused(self) -> None:
        """Forget the strings that no table refers to, once they are the most."""
        used = self._used()
        if 2 * sum(int(mask.sum()) for mask in used.values()) >= sum(map(len, used.values())):
            return
        names = self._names()
        self._renumber({name: names[name].keep(mask) for name, mask in used.items()})
        self.renumbered += 1

    def _figures(self) -> pa.RecordBatch:
        figures = [pa.array([getattr(self, name)], pa.int64()) for name in self.FIGURES]
        return pa.RecordBatch.from_arrays(figures, self.FIGURES)

    # -- in ------------------------------------------------------------------------------------

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        """Take over the pieces that `snapshot` gave."""
        for piece in pieces:
            self.load_changes(piece)

    def load_changes(self, value: bytes) -> None:
        """Take over what `changes` gave, after all that came before it."""
        self._load(unpack(value))

    def _load(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        names, tables = self._names(), self._tables()
        whole: dict[str, pa.RecordBatch] = {}
        for name, rows in batches.items():
            if name in tables:
                tables[name].load(rows)
            elif name in names:
                names[name].load(rows.column("first")[0].as_py(), rows.column("name").to_pylist())
            elif name == META:
                for figure in self.FIGURES:
                    setattr(self, figure, rows.column(figure)[0].as_py())
            else:
                whole[name] = rows
        if whole:
            self._load_whole(whole)


def _names_batch(first: int, names: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"first": pa.array([first] * len(names), pa.int64()), "name": pa.array(names, pa.string())}
    )
