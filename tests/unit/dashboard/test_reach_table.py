"""Reach over days and partitions, from a Delta table."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from dashboard.history import open_history
from dashboard.reach import reach_table
from streams.engagement.core.reach import sketch


def day(kind: str, scope: str, number: int, partition: int, *listeners: str) -> dict[str, object]:
    return {
        "kind": kind,
        "scope": scope,
        "day": date(2026, 1, number),
        "source_partition": partition,
        "listeners": len(listeners),
        "sketch": sketch(listeners),
    }


@pytest.fixture
def delta_root(tmp_path: Path) -> str:
    rows = [
        day("show", "pi:s1", 1, 0, "old"),
        day("show", "pi:s1", 6, 0, "ada", "bob"),
        day("show", "pi:s1", 7, 0, "ada"),
        day("show", "pi:s1", 7, 1, "cy"),
        day("category", "Arts", 7, 0, "ada"),
        day("episode", "pi:1", 7, 0, "ada"),
        day("all", "", 7, 0, "ada"),
    ]
    write_deltalake(str(tmp_path / "audience_daily"), pl.DataFrame(rows).to_arrow())
    shows = [{"show_id": "pi:s1", "show_title": "Tides", "episode_id": "pi:1", "title": "One"}]
    write_deltalake(str(tmp_path / "episodes"), pl.DataFrame(shows).to_arrow())
    return str(tmp_path)


def test_days_and_partitions_unite(delta_root: str) -> None:
    opened = open_history(delta_root, ("audience_daily", "episodes"))
    week = reach_table(opened, 3).select("title", "listeners", "least", "days").rows()
    assert week == [("Everything", 1, 1, 1), ("Tides", 3, 3, 2), ("Arts", 1, 1, 1)]
    month = reach_table(opened, 30)
    assert month.filter(pl.col("title") == "Tides")["listeners"].item() == 4


def test_shows_without_a_title_go_by_their_id(delta_root: str) -> None:
    opened = open_history(delta_root, ("audience_daily",))
    assert "pi:s1" in reach_table(opened, 3)["title"].to_list()
