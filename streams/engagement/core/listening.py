"""Who heard how much of what, per UTC day: the amounts that one batch of events adds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from polars.interchange import CompatLevel

from schemas import columnar
from schemas.metrics import EVENT_COUNTS, OPINIONS
from schemas.units import DAY_MS
from streams.events.core.event_rows import KINDS
from streams.state.arrays import starts

_OF_KIND = {name: name.removesuffix("s") for name in (*EVENT_COUNTS, *OPINIONS)}


def added_by(events: pl.DataFrame, applied: int) -> pl.DataFrame | None:
    """Rows of `user_episode_daily` for the events above offset ``applied``; None if there are none.

    All rows carry the offset range of the events counted. A reader that has applied a range skips
    it when it comes again, so the rows of one batch must not be mixed with those of another.
    """
    fresh = above(events, applied)
    return added_by_each([fresh])[0] if fresh.height else None


def above(events: pl.DataFrame, applied: int) -> pl.DataFrame:
    """The events whose offset is above ``applied``."""
    if events.is_empty() or events["offset"].to_numpy().min() > applied:
        return events
    return events.filter(pl.col("offset") > applied)


def added_by_each(batches: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """The rows of `user_episode_daily` that each of the batches, none of them empty, adds."""
    if not batches:
        return []
    events = batches[0] if len(batches) == 1 else pl.concat(batches)
    batch = np.repeat(np.arange(len(batches)), [one.height for one in batches])
    occurred = events["occurred_at"].to_physical().to_numpy()
    days = occurred // DAY_MS
    order, begin = _groups(
        batch, _codes(events["user_id"]), _codes(events["episode_id"]), days - days.min()
    )
    first, batch = order[begin], batch[order[begin]]
    occurred = occurred[order]
    offsets = [one["offset"].to_numpy() for one in batches]
    columns: dict[str, Any] = {
        "user_id": events["user_id"][first],
        "episode_id": events["episode_id"][first],
        "day": days[first],
        "source_partition": events["partition"].to_numpy()[first],
        "first_offset": np.array([some.min() for some in offsets])[batch],
        "last_offset": np.array([some.max() for some in offsets])[batch],
        **_count_kinds(events["kind"].to_physical().to_numpy()[order], begin),
        "heard_ms": np.add.reduceat(events["heard_ms"].to_numpy()[order], begin),
        "first_at": np.minimum.reduceat(occurred, begin),
        "last_at": np.maximum.reduceat(occurred, begin),
        "duration_ms": np.maximum.reduceat(_lengths(events["duration_ms"])[order], begin),
    }
    rows = columnar.frame_of(columns, "user_episode_daily")
    ends = np.searchsorted(batch, np.arange(len(batches) + 1)).tolist()
    return [rows[start:end] for start, end in pairwise(ends)]


def _lengths(durations: pl.Series) -> np.ndarray:
    """Milliseconds; 0 where the player told none."""
    if durations.null_count() == len(durations):
        return np.zeros(len(durations), np.int64)
    return durations.fill_null(0).to_numpy()


def _codes(strings: pl.Series) -> np.ndarray:
    """A number for each string, by first appearance: sorting numbers is 10 times as fast."""
    codes: np.ndarray = (
        strings.to_arrow(compat_level=CompatLevel.oldest()).dictionary_encode().indices.to_numpy()
    ).astype(np.int64)
    return codes


def _groups(*numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order that brings rows with the same numbers together, ascending by the first of them,
    and where each such group begins in it."""
    key = numbers[0]
    for more in numbers[1:]:
        key = key * (int(more.max()) + 1) + more
    order = np.argsort(key, kind="stable")
    return order, np.flatnonzero(starts(key[order]))


def _count_kinds(kinds: np.ndarray, begin: np.ndarray) -> dict[str, np.ndarray]:
    """How many events of each counted kind there are in each group."""
    group = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(kinds)))
    counts = np.bincount(group * len(KINDS) + kinds, minlength=len(begin) * len(KINDS))
    table = counts.reshape(len(begin), len(KINDS))
    return {name: table[:, KINDS.index(kind)] for name, kind in _OF_KIND.items()}
