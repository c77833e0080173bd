"""Which events of a partition came before: told from what lies in the log before them, alone."""

from __future__ import annotations

import numpy as np
import polars as pl

from streams.state.arrays import starts
from streams.state.hash_table import ColumnarHashTable
from streams.state.interner import Hashed, hashed, hashes_of

_HASHES = (*hashes_of("event_id"), *hashes_of("user_id"))
_ODD = np.int64(-0x61C8_8646_80B5_83EB)
"""2^64 / golden ratio: two ids that change places are another pair."""

_COLUMNS = {"check": np.int64, "offset": np.int64}


def identities(events: pl.DataFrame) -> Hashed:
    """By which events are told apart: the id of each, among those of its listener."""
    hashes = events.select_seq(*_HASHES)
    event, user = (hashed(events[name], hashes) for name in ("event_id", "user_id"))
    return Hashed(
        event.column, event.rows, event.keys ^ user.keys * _ODD, event.checks ^ user.checks * _ODD
    )


class DedupWindow:
    """Which events of one partition were seen within the last ``window`` offsets.

    An event at offset o is a repeat if its identity occurred at an offset in [o - window, o): a
    function of the log alone. Ids are kept by two hashes of 64 bits each, in two generations; the
    older one is dropped once all of it is out of reach, so at most twice the window is held.
    """

    def __init__(self, window: int):
        self._window = window
        self._young, self._old = ColumnarHashTable(_COLUMNS), ColumnarHashTable(_COLUMNS)
        self._young_since = 0

    def __len__(self) -> int:
        """How many ids are held."""
        return len(self._young) + len(self._old)

    def repeats(self, event_ids: Hashed, offsets: np.ndarray) -> np.ndarray:
        """Places of the repeats among events in ascending offset order, all noted as seen."""
        if not len(offsets):
            return np.zeros(0, np.int64)
        self._turn(int(offsets[0]))
        keys, checks = event_ids.keys, event_ids.checks
        never = -1 - self._window
        before = _last_seen(self._old, keys, checks, never)
        known = len(self._young)
        slots = self._young.upsert(keys)
        held = slots < known
        if held.any():
            same = held & (self._young["check"][slots] == checks)
            before = np.where(same, self._young["offset"][slots], before)
        # Of the events with one id, each but the first comes after the one before it.
        order = np.argsort(slots, kind="stable")
        again = np.flatnonzero(~starts(slots[order]))
        later, earlier = order[again], order[again - 1]
        alike = checks[later] == checks[earlier]
        before[later[alike]] = offsets[earlier[alike]]
        self._young["check"][slots], self._young["offset"][slots] = checks, offsets
        return np.flatnonzero(offsets - before <= self._window)

    def _turn(self, offset: int) -> None:
        if offset - self._young_since > self._window:
            # All of the older generation was seen before the younger one began.
            self._young, self._old = ColumnarHashTable(_COLUMNS), self._young
            self._young_since = offset


def _last_seen(
    table: ColumnarHashTable, keys: np.ndarray, checks: np.ndarray, never: int
) -> np.ndarray:
    """The offset noted for each key, ``never`` where there is none."""
    seen = np.full(len(keys), never)
    if len(table):
        slots = table.find(keys)
        (found,) = np.nonzero(slots >= 0)
        found = found[table["check"][slots[found]] == checks[found]]
        seen[found] = table["offset"][slots[found]]
    return seen
