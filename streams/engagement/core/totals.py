"""Rows of `engagement_total`: minutes of one source partition, all episodes added up."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl

from schemas import columnar
from schemas.metrics import ADDITIVE_METRICS
from schemas.units import MINUTE_MS
from streams.engagement.core.engagement import COUNTS, Engagement, time_of


def total_rows(state: Engagement, partition: int, minutes: Collection[int]) -> pl.DataFrame:
    """The totals so far of these minutes (since 1970), ascending; those the state lacks are left
    out.

    The offset is the newest of the minute's episodes, so that equal offsets mean equal totals.
    """
    times = time_of(state.minutes)
    slots = np.flatnonzero(np.isin(times, np.fromiter(minutes, np.int64, len(minutes))))
    told, place = np.unique(times[slots], return_inverse=True)
    offset = np.full(len(told), -1, np.int64)
    np.maximum.at(offset, place, state.minutes["offset"][slots])
    columns: dict[str, np.ndarray] = {
        "bucket": told * MINUTE_MS,
        "source_partition": np.full(len(told), partition),
        "offset": offset,
    }
    for name in ADDITIVE_METRICS:
        columns[name] = np.zeros(len(told), np.int64)
        np.add.at(columns[name], place, _counts(state, name)[slots])
    return columnar.frame_of(columns, "engagement_total")


def _counts(state: Engagement, name: str) -> np.ndarray:
    if name == "heard_ms":
        return state.minutes["heard_ms"]
    return state.minutes["counts"][:, COUNTS.index(name)]
