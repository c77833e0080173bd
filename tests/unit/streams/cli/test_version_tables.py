"""What a person is shown of two versions: which tables agree, and what differs most."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import polars as pl
from rich.console import Console

from schemas import columnar
from schemas.metrics import WINDOW_METRICS
from streams.cli.version_tables import diff_tables
from streams.operations.core.version_diff import TABLES, Span, TableDiff, plain
from streams.operations.version_diff import VersionDiff

MINUTE = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
WINDOWS = TABLES[0]


def rows(*streams: int) -> pl.DataFrame:
    counts = dict.fromkeys(WINDOW_METRICS, 0)
    place = {"bucket": MINUTE, "source_partition": 0, "offset": 1}
    made = [
        {"episode_id": f"pi:{n}", **place, **counts, "streams": number}
        for n, number in enumerate(streams)
    ]
    return plain(pl.DataFrame(made, schema=columnar.columns("engagement_window")))


def shown(a: pl.DataFrame, b: pl.DataFrame) -> str:
    table = TableDiff(WINDOWS.name)
    table.add(WINDOWS, a, b, Span({}, {0: 9}))
    console = Console(file=io.StringIO(), width=200)
    for one in diff_tables(VersionDiff("v1", "v2", {0: 9}, [table])):
        console.print(one)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_tables_that_agree_show_their_digest() -> None:
    told = shown(rows(1, 2), rows(1, 2))
    assert "agree" in told
    assert "largest differences" not in told


def test_what_differs_is_shown_by_metric_and_by_key() -> None:
    told = shown(rows(1, 2, 3), rows(1, 7))
    assert "DIFFER" in told
    assert "+2" in told  # 8 streams, and 6
    assert "pi:1, 2026-01-31 10:00:00+00:00, 0" in told
    assert "streams 2" in told
    assert "streams 7" in told
    assert "no row" in told
