"""Rows of `engagement-windows` as its readers fold them: absolute counts, put into numpy.

A row is all that one source partition has counted so far for an episode and a minute. Rows come
again after restarts, and those of different source partitions in any order; of the rows with one
key, the one with the highest offset counts. Keys pack an episode's number, the minute and the
source partition into 64 bits, in this order, so that shifting a key right leaves the key of what
it adds up to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from schemas.units import MINUTE_MS
from streams.state.hash_table import Array, ColumnarHashTable
from streams.state.interner import StringInterner

SOURCE_BITS, MINUTE_BITS = 12, 26
"""4,096 source partitions, and the minutes of 127 years from 1970 on."""

SOURCES = 1 << SOURCE_BITS
_MINUTES = 1 << MINUTE_BITS


@dataclass(frozen=True, slots=True)
class WindowMessage:
    """One message: its offset, the log's time in milliseconds (0: none told), and its rows.

    By source partition, as `core.watermark` says: ``watermarks`` has its last final minute since
    1970, ``logged_ms`` and ``quiet_ms`` have times of the log, in milliseconds.
    """

    offset: int
    log_ms: int
    rows: pl.DataFrame
    watermarks: Mapping[int, int] = field(default_factory=dict)
    logged_ms: Mapping[int, int] = field(default_factory=dict)
    quiet_ms: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WindowRows:
    """Rows column by column, int64 each; a row whose key is not valid is left out."""

    episodes: pl.Series
    minutes: Array
    sources: Array
    offsets: Array
    counts: dict[str, Array]
    ahead: Array
    """bool: the minute had not begun by the log's time, so some player's clock is fast. The row is
    counted, but must not advance the watermark."""

    def __len__(self) -> int:
        return len(self.minutes)

    def take(self, mask: Array) -> WindowRows:
        """The rows where ``mask``."""
        if mask.all():
            return self
        return WindowRows(
            self.episodes.filter(pl.Series(mask)),
            self.minutes[mask],
            self.sources[mask],
            self.offsets[mask],
            {name: column[mask] for name, column in self.counts.items()},
            self.ahead[mask],
        )

    def keys(self, names: StringInterner) -> Array:
        """Episode, minute and source partition as one number each."""
        codes = names.codes(self.episodes)
        numbers: Array = (codes << MINUTE_BITS | self.minutes) << SOURCE_BITS | self.sources
        return numbers


def window_rows(messages: Sequence[WindowMessage], counts: Sequence[str]) -> WindowRows:
    """All rows of messages, with these of their counts."""
    columns = ("episode_id", "bucket", "source_partition", "offset", *counts)
    frames = [message.rows for message in messages]
    rows = (frames[0] if len(frames) == 1 else pl.concat(frames)).select(columns)
    rows = rows.cast({"bucket": pl.Int64, "source_partition": pl.Int64})
    log_ms = np.repeat([message.log_ms for message in messages], [len(frame) for frame in frames])
    if rows.null_count().sum_horizontal().item():
        log_ms = log_ms[rows.select(~pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()]
        rows = rows.drop_nulls()
    buckets = rows["bucket"].to_numpy()
    read = WindowRows(
        rows["episode_id"],
        buckets // MINUTE_MS,
        rows["source_partition"].to_numpy(),
        rows["offset"].to_numpy(),
        {name: rows[name].to_numpy() for name in counts},
        (log_ms > 0) & (buckets > log_ms),
    )
    minutes, sources = read.minutes, read.sources
    valid = (minutes >= 0) & (minutes < _MINUTES) & (sources >= 0) & (sources < SOURCES)
    return read.take(valid & (read.offsets >= 0))


def minute_of(keys: Array) -> Array:
    """The minute in keys that have a source partition."""
    return (keys >> SOURCE_BITS) & (_MINUTES - 1)


def source_of(keys: Array) -> Array:
    """The source partitions in keys of rows."""
    return keys & (SOURCES - 1)


class SourceCounts(ColumnarHashTable):
    """What each source partition last said of each episode and minute.

    ``seen`` is the offset of the row that counts, plus one, so that 0 means none yet.
    """

    def __init__(self, counts: Sequence[str]):
        super().__init__({"seen": np.int64, **dict.fromkeys(counts, np.int32)})
        self._counts = tuple(counts)

    def replace(self, keys: Array, rows: WindowRows) -> tuple[Array, dict[str, Array]]:
        """Let each row replace what is held for its key, unless that is as new.

        Gives the keys whose counts are new, each once, and by how much each count has grown.
        """
        slots, seen = self.upsert(keys), rows.offsets + 1
        newer = np.flatnonzero(seen > self["seen"][slots])
        np.maximum.at(self["seen"], slots[newer], seen[newer])
        newest = newer[seen[newer] == self["seen"][slots[newer]]]
        # The same row may be there twice.
        slots, first = np.unique(slots[newest], return_index=True)
        newest = newest[first]
        grown = {}
        for name in self._counts:
            now = rows.counts[name][newest]
            grown[name] = now - self[name][slots]
            self[name][slots] = now
        self.touch(slots)
        return keys[newest], grown
