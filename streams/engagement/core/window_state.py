"""What the states that are folded from `engagement-windows` have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pyarrow as pa

from streams.state.columnar import META, ColumnarState
from streams.state.hash_table import KEY, Array
from streams.state.interner import StringInterner

_EARLIER_META, _EARLIER_NAMES = "clock", "names"


class WindowState(ColumnarState):
    """A function of one partition's rows of `engagement-windows` up to the offset ``applied``.

    Its tables' keys begin with the episode's number; what lies below it in them are bits of time
    and of the source partition.
    """

    SHIFTS: ClassVar[Mapping[str, int]]
    """By table, how many bits of its keys lie below the episode's number."""

    def __init__(self) -> None:
        self.applied = -1
        self.names = StringInterner()

    def _names(self) -> dict[str, StringInterner]:
        return {"episodes": self.names}

    def _used(self) -> dict[str, np.ndarray]:
        used = np.zeros(len(self.names), bool)
        for name, table in self._tables().items():
            used[table.keys >> self.SHIFTS[name]] = True
        return {"episodes": used}

    def _renumber(self, numbers: Mapping[str, np.ndarray]) -> None:
        for name, table in self._tables().items():
            table.rekey(_renumbered(table.keys, self.SHIFTS[name], numbers["episodes"]))

    def _load(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        super()._load(self._from_earlier(batches))

    def _from_earlier(self, batches: Mapping[str, pa.RecordBatch]) -> dict[str, pa.RecordBatch]:
        """Batches as they are written now, of those that earlier releases wrote.

        Their figures are called a clock, and in every value the episodes are numbered from 0 on,
        beside their names. Here they get numbers by first appearance, as in whoever reads the same
        log.
        """
        found = dict(batches)
        if (figures := found.pop(_EARLIER_META, None)) is not None:
            found = {META: figures, **found}
        if (names := found.pop(_EARLIER_NAMES, None)) is not None:
            numbers = self.names.codes(names.column(_EARLIER_NAMES).to_pylist())
            self.names.forget_changes()
            for name in found.keys() & self.SHIFTS.keys():
                keys = found[name].column(KEY).to_numpy()
                place = found[name].schema.get_field_index(KEY)
                local = pa.array(_renumbered(keys, self.SHIFTS[name], numbers))
                found[name] = found[name].set_column(place, KEY, local)
        return found


def by_source(columns: Mapping[str, Array], known: Array) -> pa.RecordBatch:
    """The ``known`` source partitions, by number, and their places in columns of all of them."""
    chosen = {name: column[known] for name, column in columns.items()}
    return pa.RecordBatch.from_pydict({"source": known, **chosen})


def _renumbered(keys: Array, shift: int, numbers: Array) -> Array:
    renumbered: Array = numbers[keys >> shift] << shift | keys & ((1 << shift) - 1)
    return renumbered
