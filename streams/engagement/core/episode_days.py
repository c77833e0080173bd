"""Days of episodes: downloads, streams, time heard, and how far into it they are heard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl

from schemas.metrics import DAY_METRICS
from streams.engagement.core.engagement import (
    COUNTS,
    COVERED_MINUTES,
    DAY_MINUTES,
    Engagement,
    episode_of,
    time_of,
)
from streams.state.arrays import starts

_SUMS = tuple(name for name in DAY_METRICS if name in COUNTS)
_CHUNK_EPISODES = 2_000
"""Episodes whose curves are made at once: what is unpacked for them is some megabytes."""

_DAY_BITS = 20


def _mine(state: Engagement, days: np.ndarray, final: bool) -> tuple[np.ndarray, ...]:
    """Masks over days, minutes not in them yet, and listeners: what is asked for.

    Final rows are those of ``days``; the others those of active episodes and any other day.
    """
    episodes, heard_days = state.heard_keys()
    open_minutes = time_of(state.minutes) > state.closed
    parts = (
        (episode_of(state.days), time_of(state.days)),
        (episode_of(state.minutes), time_of(state.minutes) // DAY_MINUTES),
        (episodes, heard_days),
    )
    masks = [
        np.isin(day, days) if final else state.active[episode] & ~np.isin(day, days)
        for episode, day in parts
    ]
    return masks[0], masks[1] & open_minutes, masks[2]


def day_rows(state: Engagement, partition: int, days: np.ndarray, final: bool) -> pl.DataFrame:
    """Rows of `episode_day`: the finished ``days``, or what has changed in the other days."""
    in_days, in_minutes, in_heard = _mine(state, days, final)
    episodes, heard_days = state.heard_keys()
    day_keys = _key(episode_of(state.days), time_of(state.days))[in_days]
    minute_days = time_of(state.minutes) // DAY_MINUTES
    minute_keys = _key(episode_of(state.minutes), minute_days)[in_minutes]
    heard_keys = _key(episodes, heard_days)[in_heard]
    keys = np.unique(np.concatenate((day_keys, minute_keys)))
    sums = np.zeros((len(keys), len(COUNTS)), np.int64)
    heard_ms = np.zeros(len(keys), np.int64)
    offset = np.full(len(keys), -1, np.int64)
    for table, chosen, of in (
        (state.days, in_days, day_keys),
        (state.minutes, in_minutes, minute_keys),
    ):
        place = np.searchsorted(keys, of)
        np.add.at(sums, place, table["counts"][chosen].astype(np.int64))
        np.add.at(heard_ms, place, table["heard_ms"][chosen])
        np.maximum.at(offset, place, table["offset"][chosen])
    downloads = np.bincount(np.searchsorted(keys, heard_keys), minlength=len(keys))
    return pl.DataFrame(
        {
            "episode_id": state.episodes.of(keys >> _DAY_BITS),
            "day": _dates(keys),
            "source_partition": np.full(len(keys), partition, np.int32),
            "offset": offset,
            "final": np.full(len(keys), final),
            **{name: sums[:, COUNTS.index(name)] for name in _SUMS},
            "heard_ms": heard_ms,
            "downloads": downloads,
        },
        schema_overrides={"episode_id": pl.String},
    )


def retention_rows(
    state: Engagement, partition: int, days: np.ndarray, final: bool
) -> Iterator[pl.DataFrame]:
    """Rows of `episode_retention`, some episodes at a time; which ones as in `day_rows`."""
    (slots,) = np.nonzero(_mine(state, days, final)[2])
    keys = _key(*state.heard_keys())[slots]
    order = np.argsort(keys, kind="stable")
    slots, keys = slots[order], keys[order]
    bounds = np.append(np.flatnonzero(starts(keys)), len(keys))
    for start, end in pairwise([*range(0, len(bounds) - 1, _CHUNK_EPISODES), len(bounds) - 1]):
        rows = slice(bounds[start], bounds[end])
        row, minute = _covered(state.heard["cover"][slots[rows]])
        # A number for each episode's day and minute: how often it is there is what counts.
        cells = (np.cumsum(starts(keys[rows])) - 1)[row] * COVERED_MINUTES + minute
        cells, listeners = np.unique(cells, return_counts=True)
        of = keys[bounds[start + cells // COVERED_MINUTES]]
        yield pl.DataFrame(
            {
                "episode_id": state.episodes.of(of >> _DAY_BITS),
                "day": _dates(of),
                "minute": (cells % COVERED_MINUTES).astype(np.int32),
                "source_partition": np.full(len(of), partition, np.int32),
                "offset": np.full(len(of), state.applied, np.int64),
                "final": np.full(len(of), final),
                "listeners": listeners,
            },
            schema_overrides={"episode_id": pl.String},
        )


def _covered(cover: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bits that are set: row and minute of each.

    Most listeners hear a few minutes that follow each other: only bytes that have a bit are
    unpacked.
    """
    octets = np.ascontiguousarray(cover).view(np.uint8)
    row, octet = np.nonzero(octets)
    bits = np.unpackbits(octets[row, octet][:, None], axis=1, bitorder="little")
    which, bit = np.nonzero(bits)
    return row[which], 8 * octet[which] + bit


def _key(episodes: np.ndarray, days: np.ndarray) -> np.ndarray:
    keys: np.ndarray = (episodes << _DAY_BITS) | days
    return keys


def _dates(keys: np.ndarray) -> pl.Series:
    return pl.Series((keys & ((1 << _DAY_BITS) - 1)).astype(np.int32)).cast(pl.Date)
