"""Tables of many keys whose cost for an event does not grow with their size: columns in numpy.

A `ColumnarHashTable` finds the rows of thousands of 64-bit keys in a few vector operations, by open
addressing: a key's place in the index follows from its hash, and the next place is tried where
another key has it. Rows lie densely, so a scan over all of them is one vector operation too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from streams.state.arrays import starts

Array = np.ndarray

KEY = "key"
"""The column of a table's keys in Arrow."""

_SMALLEST = 64
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads packed keys evenly
_FREE = -1


class ColumnarHashTable:
    """Rows of numbers by an int64 key.

    ``columns`` gives each column's dtype; a sub-array dtype such as ``("u8", (4,))`` gives a
    column several numbers a row. A new row is all zeros. The place of a row, its slot, is the
    same until rows are dropped. Keys and slots are arrays of int64, shape (n,).
    """

    def __init__(self, columns: Mapping[str, object]):
        self._dtypes = {name: np.dtype(dtype) for name, dtype in columns.items()}  # type: ignore[call-overload]
        self._clear(_SMALLEST)

    def _clear(self, capacity: int) -> None:
        self._size = 0
        self._keys = np.zeros(capacity, np.int64)
        self._columns = {name: np.zeros(capacity, dtype) for name, dtype in self._dtypes.items()}
        self._stamps = np.zeros(capacity, np.int32)
        self._touched: list[Array] = []
        self._reindex()

    def __len__(self) -> int:
        return self._size

    @property
    def keys(self) -> Array:
        """The keys of all rows, by slot: int64, shape (rows,)."""
        return self._keys[: self._size]

    def __getitem__(self, name: str) -> Array:
        """A column of all rows, by slot, to read and to write."""
        return self._columns[name][: self._size]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        arrays: tuple[Array, ...] = (self._keys, self._stamps, self._index)
        return sum(array.nbytes for array in (*arrays, *self._columns.values()))

    # -- finding -------------------------------------------------------------------------------

    def find(self, keys: Array) -> Array:
        """The slot of each key, -1 where there is none."""
        places = self._home(keys)
        slots: Array = self._index[places].astype(np.int64)
        (others,) = ((self._keys[slots] != keys) & (slots != _FREE)).nonzero()
        if others.size:
            places, wanted = places[others], keys[others]
            while others.size:
                places = (places + 1) & self._mask
                found = self._index[places]
                slots[others] = found
                further = (self._keys[found] != wanted) & (found != _FREE)
                others, places, wanted = others[further], places[further], wanted[further]
        return slots

    def upsert(self, keys: Array) -> Array:
        """The slot of each key, new rows added where there was none; keys may repeat."""
        slots = self.find(keys)
        (missing,) = (slots == _FREE).nonzero()
        if missing.size:
            # What np.unique does, in a third of its time for few keys.
            order = keys[missing].argsort(kind="stable")
            missing = missing[order]
            wanted = keys[missing]
            first = starts(wanted)
            slots[missing] = self._append(wanted[first])[first.cumsum() - 1]
        return slots

    def _append(self, keys: Array) -> Array:
        first, self._size = self._size, self._size + len(keys)
        if self._size > len(self._keys):
            self._grow(max(self._size, 2 * len(self._keys)))
        self._keys[first : self._size] = keys
        for column in self._columns.values():
            column[first : self._size] = 0
        slots = np.arange(first, self._size)
        if 2 * self._size > len(self._index):
            self._reindex()
        else:
            self._enter(slots)
        return slots

    def _grow(self, capacity: int) -> None:
        def grown(array: Array) -> Array:
            larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
            larger[: len(array)] = array
            return larger

        self._keys, self._stamps = grown(self._keys), grown(self._stamps)
        self._columns = {name: grown(column) for name, column in self._columns.items()}

    def _home(self, keys: Array) -> Array:
        return ((keys.view(np.uint64) * _MULTIPLIER) >> self._shift).view(np.int64)

    def _reindex(self) -> None:
        bits = max(self._size * 3, 2 * _SMALLEST).bit_length()
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._index = np.full(1 << bits, _FREE, np.int32)
        self._enter(np.arange(self._size))

    def _enter(self, slots: Array) -> None:
        """Enter rows into the index; their keys are not in it yet."""
        places = self._home(self._keys[slots])
        while slots.size:
            (free,) = (self._index[places] == _FREE).nonzero()
            self._index[places[free]] = slots[free]
            # Of several that found the same place free, one has it now.
            (lost,) = (self._index[places] != slots).nonzero()
            slots, places = slots[lost], (places[lost] + 1) & self._mask

    # -- changes -------------------------------------------------------------------------------

    def touch(self, slots: Array) -> None:
        """Note rows as changed; slots may repeat."""
        if slots.size:
            self._touched.append(self._distinct(slots))

    def changed(self) -> Array:
        """The slots touched since `forget_changes`, each once, in no order."""
        if not self._touched:
            return np.zeros(0, np.int64)
        if len(self._touched) > 1:
            self._touched = [self._distinct(np.concatenate(self._touched))]
        return self._touched[0]

    def forget_changes(self) -> None:
        """No row counts as changed from here on."""
        self._touched = []

    def _distinct(self, slots: Array) -> Array:
        turn = np.arange(len(slots), dtype=np.int32)
        self._stamps[slots] = turn
        distinct: Array = slots[self._stamps[slots] == turn]
        return distinct

    # -- dropping ------------------------------------------------------------------------------

    def drop(self, gone: Array) -> None:
        """Drop the rows where ``gone``, a mask over all rows; the others get new slots."""
        if not gone.any():
            return
        self._keep(~gone, self._keys[: self._size][~gone])

    def rekey(self, keys: Array) -> None:
        """Give every row a new key, by slot."""
        self._keep(np.ones(self._size, bool), keys)

    def _keep(self, kept: Array, keys: Array) -> None:
        changed = self.changed()
        slots = np.cumsum(kept) - 1
        self._touched = [slots[changed[kept[changed]]]] if changed.size else []
        rows = {name: column[: self._size][kept] for name, column in self._columns.items()}
        self._size = len(keys)
        capacity = max(_SMALLEST, self._size + self._size // 4)
        self._keys = np.zeros(capacity, np.int64)
        self._keys[: self._size] = keys
        self._stamps = np.zeros(capacity, np.int32)
        for name, values in rows.items():
            self._columns[name] = np.zeros(capacity, self._dtypes[name])
            self._columns[name][: self._size] = values
        self._reindex()

    # -- in and out ----------------------------------------------------------------------------

    def to_arrow(self, slots: Array | None = None) -> pa.RecordBatch:
        """The rows of these slots, or all of them: the column `key` and the others."""
        chosen = slice(0, self._size) if slots is None else slots
        arrays = [_to_arrow(self._keys[chosen])]
        arrays += [_to_arrow(column[chosen]) for column in self._columns.values()]
        return pa.RecordBatch.from_arrays(arrays, names=[KEY, *self._columns])

    def load(self, rows: pa.RecordBatch) -> None:
        """Put rows that `to_arrow` gave in the place of those with their keys."""
        slots = self.upsert(rows.column(KEY).to_numpy())
        for name, column in self._columns.items():
            column[slots] = _from_arrow(rows.column(name))


def _to_arrow(values: Array) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _from_arrow(values: pa.Array) -> Array:
    if pa.types.is_fixed_size_list(values.type):
        column: Array = values.flatten().to_numpy().reshape(len(values), values.type.list_size)
    else:
        column = values.to_numpy(zero_copy_only=False)
    return column
