"""The worked example of docs/live-tables.md: what it says is what the stages say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from streams.engagement.core.trending import merge_scopes
from streams.runtime.in_memory import MemoryLog, MemoryRuntime
from streams.serving.core.rolling_documents import add_up
from topology.graph import build_graph
from topology.settings import Settings

NOON = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000)
LENGTH_MS = 30 * 60_000
CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
COUNTS = ["impressions", "clicks", "plays", "completes", "heard_ms", "streams", "engaged"]

EVENTS = (
    # seconds after noon at which it arrives, listener, kind, seconds heard, place, seconds late
    (0, "anna", "impression", 0, 0, 0),
    (10, "anna", "click", 0, 0, 0),
    (12, "anna", "play", 0, 0, 0),
    (72, "anna", "progress", 60, 60, 0),
    (300, "ben", "play", 0, 0, 0),
    (345, "ben", "progress", 45, 45, 0),
    (350, "ben", "pause", 5, 50, 0),
    (360, "crawler", "play", 0, 0, 0),
    (370, "ben", "progress", 30, 80, 970),
    (732, "anna", "progress", 660, 720, 0),
    (2700, "anna", "play", 0, 720, 0),
    (2790, "anna", "progress", 90, 810, 0),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> MemoryLog:
    home: Path = tmp_path_factory.mktemp("example")
    settings = Settings(podstream_home=home, event_partitions=2, _env_file=None)
    runtime = MemoryRuntime(build_graph(2), settings)
    for stage in ("batch_events", "track_engagement", "track_listening", "rank_trending"):
        runtime.start(stage)
    for number, (second, listener, kind, heard, place, late) in enumerate(EVENTS):
        runtime.clock.set(NOON / 1000 + second)
        event = {
            "event_id": str(number),
            "user_id": listener,
            "episode_id": "tide",
            "kind": kind,
            "occurred_at": runtime.log.now_ms - late * 1000,
            "heard_ms": heard * 1000,
            "position_ms": place * 1000,
            "user_agent": CRAWLER if listener == "crawler" else "AntennaPod/3.4.0",
            "duration_ms": LENGTH_MS,
        }
        runtime.log.append("user-events", event, key=listener)
        runtime.run()
    return runtime.log


def newest(log: MemoryLog, topic: str, *key: str) -> pl.DataFrame:
    """The newest row of each key and source partition."""
    rows = pl.concat(log.decoded(topic)).sort("offset")
    found: pl.DataFrame = rows.unique([*key, "source_partition"], keep="last", maintain_order=True)
    return found


def test_the_day(log: MemoryLog) -> None:
    days = newest(log, "episode-days", "episode_id", "day").sum()
    assert days.select(*COUNTS, "downloads").rows() == [(1, 1, 4, 0, 860_000, 2, 1, 2)]


def test_the_minutes_have_their_listeners(log: MemoryLog) -> None:
    rows = newest(log, "engagement-windows", "episode_id", "bucket")
    minutes = rows.group_by("bucket").agg(pl.col("listeners", "new_listeners").sum()).sort("bucket")
    told = {f"{row[0]:%H:%M}": row[1:] for row in minutes.rows()}
    assert told == {
        "12:00": (1, 1),
        "12:01": (1, 0),
        "12:05": (1, 1),
        "12:06": (0, 0),
        "12:12": (1, 0),
        "12:45": (1, 0),
        "12:46": (1, 0),
    }


def test_the_rolling_windows(log: MemoryLog) -> None:
    newest_of = {m.partition: m.value for m in log.records("rolling-windows")}
    parts = [log.wire.decode("rolling-windows", value) for value in newest_of.values()]
    rolling = add_up(parts)
    assert f"{rolling.at:%H:%M}" == "12:46"
    told = {
        minutes: rolling.windows["episode", minutes].select(
            "plays", "streams", "listeners", "engaged"
        )
        for minutes in (1, 15, 60)
    }
    assert told[1].rows() == [(0, 1, 1, 0)]
    assert told[15].rows() == [(1, 1, 1, 0)]
    assert told[60].rows() == [(4, 2, 2, 1)]


def test_the_retention_curve(log: MemoryLog) -> None:
    rows = newest(log, "episode-retention", "episode_id", "day", "minute")
    curve = rows.group_by("minute").agg(pl.col("listeners").sum()).sort("minute")
    assert curve.rows() == [(0, 2), *((minute, 1) for minute in range(1, 14))]


def test_the_late_event(log: MemoryLog) -> None:
    (late,) = log.decoded("late-events")[-1:]
    assert late["user_id"].to_list() == ["ben"]
    progress = {
        (record["stage"], record["source_partition"]): record
        for record in log.decoded("table-progress")
    }
    counted = [r for (stage, _), r in progress.items() if stage == "track_engagement"]
    assert sum(record["late"] for record in counted) == 1
    assert sum(record["events"] for record in counted) == len(EVENTS)
    daily = pl.concat(log.decoded("user-episode-daily"))
    heard = daily.group_by("user_id").agg(pl.col("heard_ms").sum()).sort("user_id")
    assert heard.rows() == [("anna", 810_000), ("ben", 80_000), ("crawler", 0)]


def test_the_trend(log: MemoryLog) -> None:
    (place,) = merge_scopes(r for r in log.decoded("trending-episodes") if r["scope"] == "all")
    assert place["score"] == pytest.approx(2 ** (-46 / 30) + 2 ** (-41 / 30), abs=1e-5)
    assert (place["recent"], place["usual"], place["rise"]) == (2, 0.0, 3.0)


def test_the_streaks(log: MemoryLog) -> None:
    streaks = pl.concat(log.decoded("listening-streaks")).unique(["user_id", "day"])
    assert streaks.select("user_id", "days").sort("user_id").rows() == [("anna", 1), ("ben", 1)]
