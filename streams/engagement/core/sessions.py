"""Sessions of listeners: events without a pause of more than half an hour, whatever their order.

The state is one row for each listener and half hour of event time in which anything happened: the
first and the last event and the sums. That is enough to chain sessions exactly. Two events of one
half hour are never further apart than a pause may be long, so they are of one session; those of
half hours that are not neighbours are further apart; and for neighbours, the last event of the
one and the first of the other tell.

A row is old once its last event lies more than a pause and the allowed lateness behind the
watermark. Nothing can happen to an old row any more: an event that is not too late lies more than
a pause after it. So an old row that is chained to the next half hour is merged into that, and one
that is not ends its session. Whenever that is looked at, it comes out the same, and at most the
few half hours that may still change are held for each listener.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.units import MINUTE_MS
from streams.state.hash_table import ColumnarHashTable

SESSION_GAP_MS = 30 * MINUTE_MS
"""The longest pause within a session."""

SUMS = ("events", "plays", "completes", "heard_ms")

_NUMBER_BITS = 32
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_GONE = np.iinfo(np.int64).max
"""`last` of a row that is over: such a row is never old, and is dropped with many others."""

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class ClosedSessions:
    """Sessions that are over, column by column."""

    users: np.ndarray
    """int64, the listeners' numbers."""
    started_at: np.ndarray
    ended_at: np.ndarray
    """int64, event time in milliseconds."""
    sums: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.users)


class Sessions:
    """The open sessions of one source partition; an event may come ``lateness_ms`` too late."""

    def __init__(self, lateness_ms: int):
        self.rows = ColumnarHashTable({"first": "i8", "last": "i8", **dict.fromkeys(SUMS, "i8")})
        self._patience_ms = SESSION_GAP_MS + lateness_ms
        self._gone = 0
        self._oldest = _GONE
        """No row's last event is before it."""

    def users(self) -> np.ndarray:
        """The listener, by number, of each row."""
        return self.rows.keys >> _NUMBER_BITS

    def renumber(self, numbers: np.ndarray) -> None:
        """Listeners have got new numbers, by their old ones."""
        bins = self.rows.keys & _NUMBER_MASK
        self.rows.rekey((numbers[self.users()] << _NUMBER_BITS) | bins)

    def add(
        self,
        users: np.ndarray,
        times: np.ndarray,
        plays: np.ndarray,
        completes: np.ndarray,
        heard_ms: np.ndarray,
    ) -> None:
        """Take in events that are not too late, in any order; all arrays are by event.

        ``users``: the listeners' numbers; ``times``: int64 ms; ``plays`` and ``completes``: masks.
        """
        slots = self.rows.upsert((users << _NUMBER_BITS) | (times // SESSION_GAP_MS))
        first = self.rows["first"]
        first[slots[self.rows["events"][slots] == 0]] = _GONE
        np.minimum.at(first, slots, times)
        np.maximum.at(self.rows["last"], slots, times)
        np.add.at(self.rows["events"], slots, 1)
        np.add.at(self.rows["plays"], slots[plays], 1)
        np.add.at(self.rows["completes"], slots[completes], 1)
        np.add.at(self.rows["heard_ms"], slots, heard_ms)
        self.rows.touch(slots)
        self._oldest = min(self._oldest, int(times.min()))

    def close(self, watermark: int) -> ClosedSessions:
        """The sessions that are over now that the newest event is ``watermark``, each once."""
        old_before = watermark - self._patience_ms
        if self._oldest >= old_before:
            return self._closed(_NONE)
        old = np.flatnonzero(self.rows["last"] < old_before)
        closed = self._closed(self._merge(old[np.argsort(self.rows.keys[old])]))
        self._forget(old)
        self._oldest = int(self.rows["last"].min(initial=_GONE))
        return closed

    def closed_by(self, ended_at: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Which of the events of ``times``, in the order of the log, closed each session."""
        return np.searchsorted(
            np.maximum.accumulate(times), ended_at + self._patience_ms, side="right"
        )

    def settle(self, watermark: int) -> None:
        """Forget rows that were over at a watermark: a log of changes does not tell which went."""
        last = self.rows["last"]
        self.rows.drop((last < watermark - self._patience_ms) | (last == _GONE))
        self._gone = 0
        self._oldest = int(self.rows["last"].min(initial=_GONE))

    def drop_gone(self) -> None:
        """Give back the memory of rows that are over."""
        self.rows.drop(self.rows["last"] == _GONE)
        self._gone = 0

    def drop_user(self, user: int) -> None:
        """Forget a listener, by number; the sessions of others stay as they are."""
        self.rows.drop((self.users() == user) | (self.rows["last"] == _GONE))
        self._gone = 0

    def _merge(self, old: np.ndarray) -> np.ndarray:
        """Merge chained rows, each chain into its last row, or into the one that comes after if
        that is not old; give the slots of the sessions that are over.

        ``old``: slots in ascending order of their keys.
        """
        if not old.size:
            return old
        keys, first, last = self.rows.keys[old], self.rows["first"], self.rows["last"]
        chained = (keys[1:] == keys[:-1] + 1) & (first[old[1:]] - last[old[:-1]] <= SESSION_GAP_MS)
        begin = np.flatnonzero(np.concatenate(([True], ~chained)))
        ends = old[np.append(begin[1:], len(old)) - 1]
        heads = old[begin]
        after = self.rows.find(self.rows.keys[ends] + 1)
        open_ = (
            (after >= 0) & (first[after] - last[ends] <= SESSION_GAP_MS) & (last[after] != _GONE)
        )
        into = np.where(open_, after, ends)
        for name in SUMS:
            column = self.rows[name]
            sums = np.add.reduceat(column[old], begin)
            column[into] = np.where(open_, column[after] + sums, sums)
        first[into] = first[heads]
        self.rows.touch(after[open_])
        over: np.ndarray = ends[~open_]
        return over

    def _closed(self, slots: np.ndarray) -> ClosedSessions:
        return ClosedSessions(
            self.users()[slots],
            self.rows["first"][slots],
            self.rows["last"][slots],
            {name: self.rows[name][slots] for name in SUMS},
        )

    def _forget(self, slots: np.ndarray) -> None:
        self.rows["last"][slots] = _GONE
        self._gone += len(slots)
        # Dropping costs as much as there is in the table: wait until a good part of it is gone.
        if 4 * self._gone > len(self.rows):
            self.drop_gone()
