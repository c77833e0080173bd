"""What trending remembers of one partition of `engagement-windows`: new listeners by the minute.

Rows say how much a source partition has counted so far; what a row adds to the row before it goes
into the sums of its minute (kept for six hours) and of its hour (kept for a day), so that a
ranking adds up one row for each episode and minute, whatever the number of source partitions.

**When a row is forgotten.** A row of a source partition can change as long as its minute is less
than the allowed lateness behind the newest of that source partition. A source partition tells of
many minutes at once in several messages, in any order; therefore what is settled by one message is
taken as settled ten seconds of the log's time later, at the next change of the bounds. From then
on rows below the bound are repeats, and are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from streams.engagement.core.window_rows import (
    MINUTE_BITS,
    SOURCE_BITS,
    SOURCES,
    SourceCounts,
    WindowMessage,
    minute_of,
    source_of,
    window_rows,
)
from streams.engagement.core.window_state import WindowState, by_source
from streams.state.hash_table import Array, ColumnarHashTable

HALF_LIFE_MINUTES = 30
HORIZON_MINUTES = 6 * 60
HOUR, DAY_HOURS = 60, 24
USUAL_HOURS = DAY_HOURS - 1

SLACK_MINUTES = 5
"""How much longer than the allowed lateness rows are kept: a source partition tells of a minute
a little after it has changed."""

SETTLE_MS = 10_000
"""Time of the log between two changes of the bounds."""

_COUNTS = ("plays", "new_listeners")
_LOW = (1 << MINUTE_BITS) - 1
_SOURCES, _TOLD = "sources", "told"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums per episode, by its number."""

    scores: Array
    """float64: new listeners of the last six hours, halved every half hour."""
    plays: Array
    """int64: plays of the last six hours."""
    recent: Array
    """int64: new listeners of the last hour."""
    usual: Array
    """float64: new listeners an hour in the 23 hours before it."""


class TrendingState(WindowState):
    """New listeners of one partition's episodes; ``bounds_ms``: the log's time of the bounds."""

    FIGURES = ("applied", "bounds_ms")
    SHIFTS: ClassVar = {
        "parts": MINUTE_BITS + SOURCE_BITS,
        "minutes": MINUTE_BITS,
        "hours": MINUTE_BITS,
    }

    def __init__(self, allowed_lateness_s: int):
        super().__init__()
        self.published: frozenset[str] = frozenset()
        """The scopes published: each needs a tombstone, a ranking of nothing, once it is empty."""
        self._published_saved = self.published
        self._hold = -(-allowed_lateness_s // 60) + SLACK_MINUTES
        self._parts = SourceCounts(_COUNTS)
        self._minutes = ColumnarHashTable(dict.fromkeys(_COUNTS, np.int32))
        self._hours = ColumnarHashTable({"new_listeners": np.int32})
        self._bounds = np.zeros((3, SOURCES), np.int64)
        self.bounds_ms = 0

    @property
    def at(self) -> int:
        """The newest minute, counted from 1970."""
        return int(self._newest.max())

    @property
    def nbytes(self) -> int:
        """Memory held by the tables, in bytes."""
        return sum(table.nbytes for table in self._tables().values())

    # -- folding -------------------------------------------------------------------------------

    def fold(self, messages: Iterable[WindowMessage]) -> bool:
        """Take in messages in the order of their offsets; whether any of them was new."""
        waiting: list[WindowMessage] = []
        new = [message for message in messages if message.offset > self.applied]
        for message in new:
            if message.log_ms >= self.bounds_ms + SETTLE_MS:
                self._add(waiting)
                self._settle(message.log_ms)
                waiting = []
            waiting.append(message)
        self._add(waiting)
        return bool(new)

    def _add(self, messages: Sequence[WindowMessage]) -> None:
        if not messages:
            return
        rows, hour = window_rows(messages, _COUNTS), self.at // HOUR
        told = ~rows.ahead
        np.maximum.at(self._newest, rows.sources[told], rows.minutes[told])
        counted = (rows.counts["plays"] > 0) | (rows.counts["new_listeners"] > 0)
        rows = rows.take(counted & (rows.minutes >= self._floor[rows.sources]))
        keys, grown = self._parts.replace(rows.keys(self.names), rows)
        keys >>= SOURCE_BITS
        self._grow(self._minutes, keys, grown)
        keys = keys & ~_LOW | (keys & _LOW) // HOUR
        self._grow(self._hours, keys, {"new_listeners": grown["new_listeners"]})
        self.applied = messages[-1].offset
        if self.at // HOUR > hour:
            self._drop_old()

    @staticmethod
    def _grow(table: ColumnarHashTable, keys: Array, grown: dict[str, Array]) -> None:
        some = np.any([counts != 0 for counts in grown.values()], axis=0)
        slots = table.upsert(keys[some])
        for name, counts in grown.items():
            np.add.at(table[name], slots, counts[some].astype(np.int32))
        table.touch(slots)

    def _settle(self, log_ms: int) -> None:
        self._floor[:] = self._settled
        self._settled[:] = np.maximum(self._newest - self._hold, 0)
        self.bounds_ms = log_ms
        gone = self._settled_parts()
        # Dropping costs as much as all rows: a little at a time is not worth it.
        if 4 * gone.sum() > len(gone):
            self._parts.drop(gone)

    def _settled_parts(self) -> Array:
        keys = self._parts.keys
        settled: Array = minute_of(keys) < self._floor[source_of(keys)]
        return settled

    def _drop_old(self) -> None:
        at = self.at
        self._minutes.drop((self._minutes.keys & _LOW) <= at - HORIZON_MINUTES)
        self._hours.drop((self._hours.keys & _LOW) < at // HOUR - DAY_HOURS)

    # -- looking -------------------------------------------------------------------------------

    def totals(self) -> Totals:
        """Sums over the minutes and hours up to `at`.

        The 23 hours of ``usual`` begin within an hour of the clock; of that hour's new listeners,
        which are known for the whole of it, the share of the time counts that lies within.
        """
        episodes, new = len(self.names), self._minutes["new_listeners"]
        age = self.at - (self._minutes.keys & _LOW)
        codes = self._minutes.keys >> MINUTE_BITS
        # An age below 0 comes from a clock that is fast: its time will come.
        live = (age >= 0) & (age < HORIZON_MINUTES)
        fade = 0.5 ** (np.arange(HORIZON_MINUTES) / HALF_LIFE_MINUTES)
        hour, minute = divmod(self.at, HOUR)

        def total(chosen: Array, weights: Array) -> Array:
            return np.bincount(codes[chosen], weights[chosen], episodes)

        past_hour = live & (age < HOUR)
        overlap = past_hour & (age > minute)
        back = hour - (self._hours.keys & _LOW)
        within = (back >= 1) & (back <= DAY_HOURS)
        weights = np.where(back == DAY_HOURS, (HOUR - 1 - minute) / HOUR, 1.0)
        day = np.bincount(
            (self._hours.keys >> MINUTE_BITS)[within],
            (weights * self._hours["new_listeners"])[within],
            episodes,
        )
        return Totals(
            scores=total(live, new * fade[np.where(live, age, 0)]),
            plays=total(live, self._minutes["plays"]).astype(np.int64),
            recent=total(past_hour, new).astype(np.int64),
            usual=(day - total(overlap, new)) / USUAL_HOURS,
        )

    @property
    def _newest(self) -> Array:
        """The newest minute of each source partition."""
        newest: Array = self._bounds[0]
        return newest

    @property
    def _settled(self) -> Array:
        """The bound to be at the next change of the bounds."""
        settled: Array = self._bounds[1]
        return settled

    @property
    def _floor(self) -> Array:
        """The first minute of each source partition that may still change."""
        floor: Array = self._bounds[2]
        return floor

    # -- in and out ----------------------------------------------------------------------------

    def _tables(self) -> dict[str, ColumnarHashTable]:
        return {"parts": self._parts, "minutes": self._minutes, "hours": self._hours}

    def _whole(self, changes_only: bool) -> dict[str, pa.RecordBatch]:
        columns = dict(zip("nsf", self._bounds, strict=True))
        batches = {_SOURCES: by_source(columns, np.flatnonzero(self._newest))}
        if not changes_only or self.published != self._published_saved:
            scopes = pa.array(sorted(self.published), "string")
            batches[_TOLD] = pa.RecordBatch.from_pydict({_TOLD: scopes})
        return batches

    def _load_whole(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        known, *bounds = (column.to_numpy() for column in batches[_SOURCES].columns)
        self._bounds[:, known] = bounds
        if (told := batches.get(_TOLD)) is not None:
            self.published = self._published_saved = frozenset(told.column(_TOLD).to_pylist())

    def forget_changes(self) -> None:
        """What `changes` gives begins anew from here, the published scopes included."""
        super().forget_changes()
        self._published_saved = self.published

    def snapshot(self) -> Iterator[bytes]:
        """The whole state in pieces, without what is old or has been added up."""
        self._drop_old()
        self._parts.drop(self._settled_parts())
        return super().snapshot()
