"""Tables stay as large as their rows, and nothing of them is lost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.maintenance import TABLE_PROPERTIES, Maintenance, maintain

FIRST = pl.DataFrame({"day": ["a", "b"], "n": [1, 2]}).to_arrow()


def written(path: Path, commits: int) -> DeltaTable:
    for number in range(commits):
        rows = pl.DataFrame({"day": ["a", "b"], "n": [number, number]}).to_arrow()
        write_deltalake(
            str(path),
            rows,
            mode="append",
            partition_by=["day"],
            configuration=TABLE_PROPERTIES,
        )
    return DeltaTable(str(path))


def numbers(path: Path) -> list[int]:
    return sorted(pl.DataFrame(DeltaTable(str(path)).to_pyarrow_table())["n"].to_list())


def files(path: Path) -> list[Path]:
    return list(path.rglob("*.parquet"))


def aged(path: Path, hours: float) -> None:
    """As if everything in the table had been written that long ago."""
    at = time.time() - hours * 3600
    for file in path.rglob("*"):
        os.utime(file, (at, at))


def test_small_files_become_one_a_partition_and_the_rows_stay(tmp_path: Path) -> None:
    table = written(tmp_path, 10)
    before = numbers(tmp_path)
    assert len(table.file_uris()) == 20
    maintain(str(tmp_path), 1)
    assert len(DeltaTable(str(tmp_path)).file_uris()) == 2
    assert numbers(tmp_path) == before
    assert all(Path(uri).exists() for uri in table.file_uris()), "who has opened it still reads it"


def test_what_is_not_live_leaves_the_disk_once_nobody_reads_it(tmp_path: Path) -> None:
    written(tmp_path, 10)
    before = numbers(tmp_path)
    maintain(str(tmp_path), 0)
    assert len([file for file in files(tmp_path) if "_delta_log" not in str(file)]) == 2
    assert numbers(tmp_path) == before


def test_a_file_that_no_log_names_is_found(tmp_path: Path) -> None:
    table = written(tmp_path, 2)
    orphan = tmp_path / "day=a" / "part-of-a-killed-commit.parquet"
    orphan.write_bytes(Path(table.file_uris()[0]).read_bytes())
    aged(tmp_path, 3)
    maintain(str(tmp_path), 1)
    assert orphan.exists()
    maintain(str(tmp_path), 1, everything=True)
    assert not orphan.exists()


def test_old_entries_of_the_log_leave_too(tmp_path: Path) -> None:
    written(tmp_path, 10)
    aged(tmp_path, 3)
    maintain(str(tmp_path), 1)
    entries = sorted(file.name for file in (tmp_path / "_delta_log").glob("*.json"))
    assert len(entries) < 5
    assert numbers(tmp_path) == sorted([*range(10), *range(10)])


def test_it_is_done_after_so_many_commits(tmp_path: Path) -> None:
    written(tmp_path, 3)
    plan = Maintenance(every_commits=4)
    for _ in range(3):
        plan.committed(str(tmp_path))
    assert len(DeltaTable(str(tmp_path)).file_uris()) == 6
    plan.committed(str(tmp_path))
    assert len(DeltaTable(str(tmp_path)).file_uris()) == 2


def test_a_failure_costs_disk_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Maintenance(every_commits=1).committed(str(tmp_path / "none"))
    assert "was not maintained" in caplog.text
