"""Rows of `engagement_window`, made of the minutes in the state."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from schemas import columnar
from streams.core.engagement import COUNTS, Engagement, episode_of, time_of
from topology.model import MINUTE_MS

_MESSAGE_ROWS = 50_000
_COLUMNS = columnar.columns("engagement_window")


def window_rows(state: Engagement, partition: int, slots: np.ndarray) -> pl.DataFrame:
    """What the minutes with these slots hold, in their order: the whole value so far."""
    minutes = state.minutes
    counts = minutes["counts"][slots].astype(np.int64)
    buckets = pl.Series(time_of(minutes)[slots] * MINUTE_MS, dtype=pl.Int64)
    columns: dict[str, Any] = {
        "episode_id": pl.Series(state.episodes.of(episode_of(minutes)[slots]), dtype=pl.String),
        "bucket": buckets.cast(_COLUMNS["bucket"]),
        "source_partition": np.full(len(slots), partition, np.int32),
        "offset": minutes["offset"][slots],
        "heard_ms": minutes["heard_ms"][slots],
        **{name: counts[:, number] for number, name in enumerate(COUNTS)},
    }
    # In the declared order, so that a message can be made of it as it is.
    return pl.DataFrame({name: columns[name] for name in _COLUMNS})


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
    """The partition of `engagement-windows` that each minute's episode belongs to."""

    def __init__(self, partitions: int):
        self._partitions = partitions
        self._known: dict[int, tuple[int, np.ndarray]] = {}

    def of(self, state: Engagement, partition: int, slots: np.ndarray) -> np.ndarray:
        """crc32(episode_id) modulo the partitions, for the minutes with these slots."""
        renumbered, targets = self._known.get(partition, (-1, np.zeros(0, np.int64)))
        if renumbered != state.renumbered or len(targets) > len(state.episodes):
            targets = targets[:0]
        if new := state.episodes.all()[len(targets) :]:
            made = [zlib.crc32(name.encode()) % self._partitions for name in new]
            targets = np.concatenate((targets, np.array(made, np.int64)))
        self._known[partition] = (state.renumbered, targets)
        return targets[episode_of(state.minutes)[slots]]

    def forget(self) -> None:
        """Partitions moved: a state may have other numbers than the one before it."""
        self._known.clear()

    def split(self, rows: pl.DataFrame, targets: np.ndarray) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows of each target that has any."""
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
