"""Rows of `engagement_window`, made of the minutes in the state."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from schemas import columnar
from schemas.units import MINUTE_MS
from streams.engagement.core.engagement import COUNTS, Engagement, episode_of, time_of

_MESSAGE_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Minutes:
    """What minutes of one source partition hold, whatever happens to the state afterwards."""

    episodes: list[str]
    columns: dict[str, np.ndarray]
    """The other columns of `engagement_window`: int64, one number a minute."""
    counts: np.ndarray
    """int32, shape (minutes, counts), as COUNTS."""


def minutes_of(state: Engagement, partition: int, slots: np.ndarray) -> Minutes:
    """What the minutes with these slots hold, in their order: the whole value so far."""
    minutes = state.minutes
    columns = {
        "bucket": time_of(minutes)[slots] * MINUTE_MS,
        "source_partition": np.full(len(slots), partition),
        "offset": minutes["offset"][slots],
        "heard_ms": minutes["heard_ms"][slots],
    }
    episodes = state.episodes.of(episode_of(minutes)[slots])
    return Minutes(episodes, columns, minutes["counts"][slots])


def window_rows(several: Sequence[Minutes]) -> pl.DataFrame:
    """Rows of `engagement_window` of all of these minutes, one after another."""
    counts = np.concatenate([some.counts for some in several]).astype(np.int64)
    columns: dict[str, Any] = {
        "episode_id": [episode for some in several for episode in some.episodes],
        **{
            name: np.concatenate([some.columns[name] for some in several])
            for name in several[0].columns
        },
        **{name: counts[:, number] for number, name in enumerate(COUNTS)},
    }
    return columnar.frame_of(columns, "engagement_window")


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
        partitions: np.ndarray = targets[episode_of(state.minutes)[slots]]
        return partitions

    def all(self) -> range:
        """Every partition there is."""
        return range(self._partitions)

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
