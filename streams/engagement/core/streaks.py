"""Streaks: on how many days in a row each listener has listened.

The state is one row for each listener and recent UTC day with listening: how many such days in a
row end with it. A day that is not the newest may still come in, as late as an event may be; it
then lengthens the streak of the day after it. Days that no event can be next to are forgotten.
"""

from __future__ import annotations

import numpy as np

from schemas.units import DAY_MS
from streams.state.hash_table import ColumnarHashTable

_NUMBER_BITS = 32
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1


class Streaks:
    """The recent days of listening of one source partition, of which events of up to
    ``lateness_ms``, less than a day, behind the newest are taken."""

    def __init__(self, lateness_ms: int):
        self.rows = ColumnarHashTable({"days": "i4"})
        self._lateness_ms = lateness_ms
        self._earliest = 0

    def users(self) -> np.ndarray:
        """The listener, by number, of each row."""
        return self.rows.keys >> _NUMBER_BITS

    def renumber(self, numbers: np.ndarray) -> None:
        """Listeners have got new numbers, by their old ones."""
        days = self.rows.keys & _NUMBER_MASK
        self.rows.rekey((numbers[self.users()] << _NUMBER_BITS) | days)

    def add(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Take in listening that is not too late, in any order; gives the slots of what changed.

        ``users``: the listeners' numbers; ``times``: int64 ms.
        """
        keys = (users << _NUMBER_BITS) | (times // DAY_MS)
        new = np.unique(keys[self.rows.find(keys) < 0])
        if not new.size:
            return np.zeros(0, np.int64)
        # Of the days that were there, only the one right after a new day can be later than it.
        after = new[self.rows.find(new + 1) >= 0] + 1
        changed = np.union1d(new, after)
        begins = np.concatenate(([True], changed[1:] != changed[:-1] + 1))
        heads = np.flatnonzero(begins)
        before = self.rows.find(changed[heads] - 1)
        # -1 where there was no listening on the day before: nothing to continue.
        carried = np.where(before >= 0, self.rows["days"][before], 0) if len(self.rows) else 0
        place = np.cumsum(begins) - 1
        days = np.arange(len(changed)) - heads[place] + 1
        slots = self.rows.upsert(changed)
        self.rows["days"][slots] = days + np.broadcast_to(carried, heads.shape)[place]
        self.rows.touch(slots)
        return slots

    def drop_user(self, user: int) -> None:
        """Forget a listener, by number."""
        self.rows.drop(self.users() == user)

    def rows_of(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Listeners by number, days since 1970 and length of the streak in days."""
        return (
            self.users()[slots],
            self.rows.keys[slots] & _NUMBER_MASK,
            self.rows["days"][slots],
        )

    def drop_old(self, watermark: int) -> None:
        """Forget the days before the one before the earliest that may still come."""
        earliest = (watermark - self._lateness_ms) // DAY_MS - 1
        if earliest > self._earliest:
            self._earliest = earliest
            self.rows.drop((self.rows.keys & _NUMBER_MASK) < earliest)
