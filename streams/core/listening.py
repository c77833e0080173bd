"""Who heard how much of what, per UTC day: the amounts that one batch of events adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from polars.interchange import CompatLevel

from schemas import columnar
from streams.core.event_rows import KINDS
from topology.model import DAY_MS

_OF_KIND = {
    "impressions": "impression",
    "clicks": "click",
    "plays": "play",
    "completes": "complete",
    "likes": "like",
    "dislikes": "dislike",
}
_DAILY = columnar.columns("user_episode_daily")


def added_by(events: pl.DataFrame, applied: int) -> pl.DataFrame | None:
    """Rows of `user_episode_daily` for the events above offset ``applied``; None if there are none.

    All rows carry the offset range of the events counted. A reader that has applied a range skips
    it when it comes again, so the rows of one batch must not be mixed with those of another.
    """
    if (events["offset"] <= applied).any():
        events = events.filter(pl.col("offset") > applied)
    if events.is_empty():
        return None
    occurred = events["occurred_at"].to_physical().to_numpy()
    days = occurred // DAY_MS
    order, begin = _groups(_codes(events["user_id"]), _codes(events["episode_id"]), days)
    first = order[begin]
    occurred = occurred[order]
    offsets = events["offset"].to_numpy()
    rows = len(begin)
    columns: dict[str, Any] = {
        "user_id": events["user_id"][first],
        "episode_id": events["episode_id"][first],
        "day": days[first],
        "source_partition": np.full(rows, events["partition"][0]),
        "first_offset": np.full(rows, offsets.min()),
        "last_offset": np.full(rows, offsets.max()),
        **_count_kinds(events["kind"].to_physical().to_numpy()[order], begin),
        "heard_ms": np.add.reduceat(events["heard_ms"].to_numpy()[order], begin),
        "first_at": np.minimum.reduceat(occurred, begin),
        "last_at": np.maximum.reduceat(occurred, begin),
        "duration_ms": np.maximum.reduceat(_lengths(events["duration_ms"])[order], begin),
    }
    # Series by series: a frame of arrays takes polars longer than all the counting of a few rows.
    return pl.DataFrame([_series(name, columns[name]) for name in _DAILY])


def _series(name: str, values: Any) -> pl.Series:
    dtype = _DAILY[name]
    series = pl.Series(name, values)
    return series.cast(pl.Int32).cast(dtype) if dtype == pl.Date else series.cast(dtype)


def _lengths(durations: pl.Series) -> np.ndarray:
    """Milliseconds; 0 where the player told none."""
    if durations.null_count() == len(durations):
        return np.zeros(len(durations), np.int64)
    return durations.fill_null(0).to_numpy()


def _codes(strings: pl.Series) -> np.ndarray:
    """A number for each string, by first appearance: sorting numbers is 10 times as fast."""
    return (
        strings.to_arrow(compat_level=CompatLevel.oldest()).dictionary_encode().indices.to_numpy()
    ).astype(np.int64)


def _groups(users: np.ndarray, episodes: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, ...]:
    """The order that brings rows with the same user, episode and day together, and where each
    such group begins in it."""
    days = days - days.min()
    key = (users * (episodes.max() + 1) + episodes) * (days.max() + 1) + days
    order = np.argsort(key, kind="stable")
    key = key[order]
    return order, np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))


def _count_kinds(kinds: np.ndarray, begin: np.ndarray) -> dict[str, np.ndarray]:
    """How many events of each counted kind there are in each group."""
    group = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(kinds)))
    counts = np.bincount(group * len(KINDS) + kinds, minlength=len(begin) * len(KINDS))
    table = counts.reshape(len(begin), len(KINDS))
    return {name: table[:, KINDS.index(kind)] for name, kind in _OF_KIND.items()}
