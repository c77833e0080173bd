"""What a table holds is known from its newest files, and the others are left unread."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from jobs.applied import read_applied

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SOURCE = ("source_partition", "source_offset")


def write(path: Path, **columns: Any) -> None:
    frame = pl.DataFrame(columns)
    if "source_partition" in frame.columns:
        frame = frame.cast({"source_partition": pl.Int32})
    write_deltalake(str(path), frame.to_arrow(), mode="append")


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), min_size=1, max_size=4),
        min_size=1,
        max_size=8,
    )
)
def test_it_is_the_highest_offset_of_each_partition(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[int, int]]]
) -> None:
    path = tmp_path_factory.mktemp("applied")
    expected: dict[int, int] = {}
    for rows in files:
        partitions, offsets = zip(*rows, strict=True)
        write(path, source_partition=partitions, source_offset=offsets)
        for partition, offset in rows:
            expected[partition] = max(expected.get(partition, -1), offset)
    assert read_applied(str(path), SOURCE) == expected


def test_a_time_serves_as_an_offset(tmp_path: Path) -> None:
    for hour in range(8):
        at = [START + dt.timedelta(hours=hour, minutes=n) for n in (1, 2)]
        write(tmp_path, source_partition=[0, 1], bucket=at)
    applied = read_applied(str(tmp_path), ("source_partition", "bucket"))
    last = int((START + dt.timedelta(hours=7)).timestamp() * 1000)
    assert applied == {0: last + 60_000, 1: last + 120_000}


def test_a_table_without_the_partition_has_one(tmp_path: Path) -> None:
    for number in range(7):
        write(tmp_path, source_offset=[number, number + 100])
    assert read_applied(str(tmp_path), SOURCE) == {0: 106}


def test_old_files_are_not_read(tmp_path: Path) -> None:
    for number in range(50):
        write(tmp_path, source_partition=[0, 1], source_offset=[number * 10, number * 10 + 1])
    actions = pa.table(DeltaTable(str(tmp_path)).get_add_actions(flatten=True)).to_pylist()
    for action in sorted(actions, key=lambda one: one["max.source_offset"])[:40]:
        (tmp_path / action["path"]).unlink()
    assert read_applied(str(tmp_path), SOURCE) == {0: 490, 1: 491}


def test_a_partition_that_rests_is_found_in_an_old_file(tmp_path: Path) -> None:
    write(tmp_path, source_partition=[2], source_offset=[7])
    for number in range(1, 20):
        write(tmp_path, source_partition=[0, 5], source_offset=[number * 10, number * 10])
    assert read_applied(str(tmp_path), SOURCE) == {0: 190, 2: 7, 5: 190}
