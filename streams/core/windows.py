"""Rows of `engagement_window`, made of the minutes in the state."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from streams.core.audience import MINUTE_MS
from streams.core.engagement import COUNTS, Engagement, episode_of, time_of
from streams.core.keyed import Names

_MESSAGE_ROWS = 50_000


def window_rows(state: Engagement, partition: int, slots: np.ndarray) -> pl.DataFrame:
    """What the minutes with these slots hold, in their order: the whole value so far."""
    minutes = state.minutes
    counts = minutes["counts"][slots].astype(np.int64)
    return pl.DataFrame(
        {
            "episode_id": state.episodes.of(episode_of(minutes)[slots]),
            "bucket": pl.Series(time_of(minutes)[slots] * MINUTE_MS).cast(pl.Datetime("ms", "UTC")),
            "source_partition": np.full(len(slots), partition, np.int32),
            "offset": minutes["offset"][slots],
            **{name: counts[:, number] for number, name in enumerate(COUNTS)},
            "heard_ms": minutes["heard_ms"][slots],
        },
        schema_overrides={"episode_id": pl.String},
    )


def history_messages(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows in ascending order of buckets, in messages of whole buckets."""
    start = 0
    while start < rows.height:
        end = start + _MESSAGE_ROWS
        if end < rows.height:
            last = rows["bucket"][end - 1]
            end = int(rows["bucket"].search_sorted(last, side="right"))
        yield rows[start:end]
        start = end


class Targets:
    """The partition of `engagement-windows` that an episode belongs to."""

    def __init__(self, partitions: int):
        self._partitions = partitions
        self._names = Names()
        self._targets = np.zeros(0, np.int32)

    def split(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """Rows by target: crc32(episode_id) modulo the partitions."""
        codes = self._names.codes(rows["episode_id"].to_list())
        new = self._names.added()
        if new:
            made = [zlib.crc32(name.encode()) % self._partitions for name in new]
            self._targets = np.concatenate((self._targets, np.array(made, np.int32)))
            self._names.forget_changes()
        targets = self._targets[codes]
        order = np.argsort(targets, kind="stable")
        ends = np.searchsorted(targets[order], np.arange(self._partitions + 1))
        ordered = rows[order]
        for target in range(self._partitions):
            if ends[target] < ends[target + 1]:
                yield target, ordered[int(ends[target]) : int(ends[target + 1])]


def late_rows(frames: Sequence[pl.DataFrame], offsets: np.ndarray) -> pl.DataFrame:
    """The event rows with these offsets."""
    events = pl.concat(frames).filter(pl.col("offset").is_in(offsets.tolist()))
    return events.unique("offset", keep="first").sort("offset")
