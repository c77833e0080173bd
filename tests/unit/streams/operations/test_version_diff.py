"""Rows that are too many for memory go to files, and come back the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from schemas.metrics import WINDOW_METRICS
from streams.operations.core.version_diff import TABLES, newest, plain
from streams.operations.version_diff import BUCKETS, Spill

WINDOWS = TABLES[0]
START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)


def rows(first: int, number: int) -> pl.DataFrame:
    """So many rows of some episodes, each newer than those before."""
    places = range(first, first + number)
    return plain(
        pl.DataFrame(
            {
                "episode_id": [f"pi:{n % 7}" for n in places],
                "bucket": [START + timedelta(minutes=n % 60) for n in places],
                "source_partition": [n % 3 for n in places],
                "offset": list(places),
                **{name: list(places) for name in WINDOW_METRICS},
            }
        )
    ).select(WINDOWS.columns)


@pytest.mark.parametrize("in_memory", [50, 100_000])
def test_the_newest_rows_come_back_whole(tmp_path: Path, in_memory: int) -> None:
    spill, written = Spill(WINDOWS, tmp_path, in_memory), []
    for first in range(0, 2_000, 40):
        written.append(rows(first, 40))
        spill.put(written[-1])
    spill.put(rows(0, 0))
    assert bool(list(tmp_path.iterdir())) == (in_memory < 1_000)
    parts = [spill.bucket(number) for number in range(BUCKETS)]
    found = pl.concat([newest(WINDOWS, part) for part in parts if part.width])
    expected = newest(WINDOWS, pl.concat(written))
    assert_frame_equal(found.sort(WINDOWS.full_key), expected.sort(WINDOWS.full_key))
