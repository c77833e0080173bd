"""What the dashboard asks the Delta tables, against small ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake

from dashboard import history
from topology.graph import UndeclaredError

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def write(
    root: Path, name: str, rows: list[dict[str, Any]], partition_by: list[str] | None = None
) -> None:
    write_deltalake(
        str(root / name), pl.DataFrame(rows).to_arrow(), partition_by=partition_by, mode="append"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    daily = [
        ("u1", "demo:1", date(2026, 1, 30), 2, 1, 5_400_000),
        ("u1", "demo:2", date(2026, 1, 31), 1, 0, 1_800_000),
        ("u2", "demo:2", date(2026, 1, 31), 4, 2, 900_000),
        ("u3", "demo:3", date(2026, 1, 31), 0, 0, 0),
    ]
    names = ("user_id", "episode_id", "day", "plays", "completes", "heard_ms")
    write(tmp_path, "user_vs_episode_daily", [dict(zip(names, r, strict=True)) for r in daily])
    write(tmp_path, "episodes", [{"episode_id": "demo:2", "title": "Moss"}])
    write(
        tmp_path,
        "transcripts",
        [
            {"episode_id": "demo:1", "status": "ok", "words": 4, "text": "so it goes on"},
            {"episode_id": "demo:2", "status": "none", "words": 0, "text": ""},
        ],
    )
    events = [
        {
            "source_partition": 0,
            "source_offset": number,
            "user_id": f"u{number % 2}",
            "episode_id": "demo:1",
            "kind": "play" if number % 3 == 0 else "impression",
            "occurred_at": NOON - timedelta(minutes=number),
            "heard_ms": 0,
            "position_ms": 0,
            "surface": None,
            "rank": number,
            "event_date": (NOON - timedelta(minutes=number)).date(),
        }
        for number in range(0, 1500, 5)
    ]
    typed = pl.DataFrame(events, schema_overrides={"surface": pl.String})
    write_deltalake(str(tmp_path / "user_events"), typed.to_arrow(), partition_by=["event_date"])
    return tmp_path


def test_tables_not_written_yet_are_left_out(tmp_path: Path) -> None:
    opened = history.open_history(str(tmp_path), history.delta_names())
    assert opened.tables == frozenset()
    sizes = history.table_sizes(str(tmp_path))
    assert sizes["table"].to_list() == history.delta_names()
    assert sizes["rows"].null_count() == len(sizes)
    assert history.plays_and_transcripts(opened, ["demo:1"]).rows() == [
        ("demo:1", None, None, None, None)
    ]


def test_nothing_is_read_that_the_topology_does_not_give(tmp_path: Path) -> None:
    with pytest.raises(UndeclaredError, match="secrets"):
        history.open_history(str(tmp_path), ["secrets"])


def test_days_listeners_and_episodes(root: Path) -> None:
    opened = history.open_history(str(root), ["user_vs_episode_daily", "episodes"])
    assert history.plays_per_day(opened).rows() == [
        (date(2026, 1, 30), 2, 1, 1.5),
        (date(2026, 1, 31), 5, 2, 0.75),
    ]
    since = history.last_days(opened, 2)
    assert since == date(2026, 1, 30)
    assert history.top_listeners(opened, since, 2).rows() == [
        ("u1", 3, 1, 2.0, 2),
        ("u2", 4, 2, 0.25, 1),
    ]
    today = history.last_days(opened, 1)
    assert today == date(2026, 1, 31)
    assert history.top_listeners(opened, today, 1).rows() == [("u1", 1, 0, 0.5, 1)]
    top = history.top_episodes(opened, since)
    assert top.select("title", "plays", "listeners").rows() == [
        ("Moss", 5, 2),
        ("demo:1", 2, 1),
        ("demo:3", 0, 0),
    ]


def test_titles_are_the_ids_before_there_are_episodes(root: Path) -> None:
    opened = history.open_history(str(root), ["user_vs_episode_daily"])
    assert history.top_episodes(opened, date(2026, 1, 1), 1)["title"].to_list() == ["demo:2"]


def test_last_minutes_are_counted_from_the_newest_event(root: Path) -> None:
    opened = history.open_history(str(root), ["user_events"])
    assert history.newest_event(opened) == NOON
    since = NOON - timedelta(minutes=15)
    assert history.recent_events(opened, since)["rank"].to_list() == [0, 5, 10]
    assert history.events_by_kind(opened, since).rows() == [("impression", 2, 2), ("play", 1, 1)]
    day = history.recent_events(opened, NOON - timedelta(days=1), limit=1000)
    assert len(day) == 24 * 60 / 5, "the window crosses midnight, thus two partitions"


def test_episodes_get_their_plays_and_transcripts(root: Path) -> None:
    opened = history.open_history(str(root), ["transcripts", "user_vs_episode_daily"])
    assert history.plays_and_transcripts(opened, ["demo:2", "demo:1", "gone"]).rows() == [
        ("demo:2", 5, 0.75, "none", 0),
        ("demo:1", 2, 1.5, "ok", 4),
        ("gone", None, None, None, None),
    ]
    newest = history.plays_and_transcripts(opened, ["demo:2", "demo:1"], days=1)
    assert newest["plays"].to_list() == [5, None]
    assert history.transcript_counts(opened).rows() == [("none", 1, 0), ("ok", 1, 4)]
    assert history.transcript_of(opened, "demo:1") == ("so it goes on", ())
    assert history.transcript_of(opened, "demo:2") == (None, ())
    assert history.transcript_of(opened, "gone") == (None, ())


def test_notes_on_a_transcript_are_told(tmp_path: Path) -> None:
    rows = [
        {"episode_id": "demo:1", "status": "ok", "words": 1, "text": "so", "notes": ["a", "b"]},
        {"episode_id": "demo:2", "status": "none", "words": 0, "text": "", "notes": None},
    ]
    write(tmp_path, "transcripts", rows)
    opened = history.open_history(str(tmp_path), ("transcripts",))
    assert history.transcript_of(opened, "demo:1") == ("so", ("a", "b"))
    assert history.transcript_of(opened, "demo:2") == (None, ())


def test_sizes_count_rows_of_every_version(root: Path) -> None:
    write(root, "episodes", [{"episode_id": "demo:9", "title": "More"}])
    sizes = history.table_sizes(str(root)).filter(pl.col("table") == "episodes")
    assert sizes.select("rows", "files", "version").rows() == [(2, 2, 1)]
    assert sizes["bytes"][0] > 0


def test_online_figures_are_means_over_partitions_and_drift_is_where_it_began(
    tmp_path: Path,
) -> None:
    rows = [
        {
            "model": model,
            "generation": f"partition-{partition}",
            "metric": metric,
            "value": value,
            "at": NOON + timedelta(minutes=minute, seconds=partition),
        }
        for model, partition, metric, minute, value in [
            ("blend", 0, "auc", 0, 0.6),
            ("blend", 1, "auc", 0, 0.8),
            ("blend", 0, "drift", 0, 0.0),
            ("blend", 0, "drift", 1, 1.0),
            ("blend", 0, "drift", 2, 1.0),
            ("blend", 0, "log_loss", 2, 0.5),
            ("blend", 0, "auc", -3000, 0.1),
            ("als", 0, "auc", 1, 0.2),
        ]
    ]
    write(tmp_path, "model_metrics", rows)
    opened = history.open_history(str(tmp_path), ["model_metrics"])
    found = history.online_metrics(opened)
    assert found.select("metric", "value").rows() == [
        ("auc", pytest.approx(0.7)),
        ("drift", 1.0),
        ("log_loss", 0.5),
    ]
    assert found["at"][1] == NOON + timedelta(minutes=1)
