"""What a tick costs at once and at a hundred times the history: it should be the same.

A tick is what is done again and again: folding increments into the daily table, the look for a
training, how far a table has got (at a start), maintenance of a table, taking over a listener's
list. Each is timed over a table of `--days` days and over one of a hundred times as many, both with
the same small news; printed are medians in milliseconds and their ratio, as JSON. No broker is
needed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import polars as pl
from delta.tables import DeltaTable as Delta
from deltalake import DeltaTable as DeltaLog
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from jobs.applied import read_applied
from jobs.maintenance import maintain
from jobs.session import build_session
from jobs.train_als import count_new
from jobs.write_delta import create_tables, fold_daily, table_path
from streams.kafka.message import Message
from streams.recommendation.learn_blend import ShownLists
from topology.graph import build_graph
from topology.settings import Settings

TABLE = "user_vs_episode_daily"
SOURCE = ("source_partition", "applied_offset")
PARTITIONS = 4
ROWS_A_DAY = 2_000
NEWS = 40
TIMES = 100
START = dt.date(2020, 1, 1)


def main() -> None:
    """Measure both histories in turn and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--days", type=int, default=3, help="of the shorter history")
    parser.add_argument("--rounds", type=int, default=7, help="times that each tick is done")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ticks-") as folder:
        settings = Settings(podstream_home=Path(folder), event_partitions=PARTITIONS)
        spark = build_session(settings)
        found = {
            days: ticks(spark, settings, days, options.rounds)
            for days in (options.days, options.days * TIMES)
        }
        spark.stop()
    short, long = found.values()
    figures = {
        name: {
            "ms": short[name],
            "ms_long": long[name],
            "ratio": round(long[name] / short[name], 2),
        }
        for name in short
    }
    machine.report("ticks", {"days": list(found), "rows_a_day": ROWS_A_DAY, "ticks": figures})


def rows(day: dt.date, first: int, count: int) -> pl.DataFrame:
    """Rows of the daily table of one day, whose offsets begin at ``first``."""
    numbers = np.arange(count)
    at = dt.datetime.combine(day, dt.time(12), dt.UTC)
    counts = dict.fromkeys(("impressions", "clicks", "plays", "completes", "likes", "dislikes"), 1)
    return pl.DataFrame(
        {
            "user_id": [f"listener-{n % 200}" for n in numbers],
            "episode_id": [f"episode-{n // 200}" for n in numbers],
            "day": day,
            **counts,
            "heard_ms": 60_000,
            "duration_ms": 600_000,
            "share": 0.1,
            "first_at": at,
            "last_at": at,
            "source_partition": numbers % PARTITIONS,
            "applied_offset": first + numbers,
        },
        schema_overrides={"source_partition": pl.Int32},
    )


def history(settings: Settings, days: int) -> tuple[str, Callable[[], pl.DataFrame]]:
    """A daily table of so many days, and what gives news of its last day."""
    table = build_graph(PARTITIONS).delta_tables[TABLE]
    create_tables(build_graph(PARTITIONS), settings)
    path = table_path(settings, TABLE)
    types = pl.DataFrame(pl.from_arrow(DeltaLog(path).to_pyarrow_table())).schema
    everything = pl.concat(
        rows(START + dt.timedelta(days=n), n * ROWS_A_DAY, ROWS_A_DAY) for n in range(days)
    )
    ordered = everything.select(column.name for column in table.columns).cast(dict(types))
    write_deltalake(path, ordered.to_arrow(), mode="append")
    offset = [days * ROWS_A_DAY]

    def news() -> pl.DataFrame:
        offset[0] += NEWS
        return rows(START + dt.timedelta(days=days - 1), offset[0], NEWS)

    return path, news


def ticks(spark: SparkSession, settings: Settings, days: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of each tick over a history of so many days."""
    print(f"{days} days", file=sys.stderr)
    here = settings.model_copy(update={"delta_root": str(settings.podstream_home / f"{days}")})
    path, news = history(here, days)
    table = build_graph(PARTITIONS).delta_tables[TABLE]
    last = START + dt.timedelta(days=days - 1)

    def fold() -> None:
        increments = spark.createDataFrame(news().drop("share").to_arrow())
        fold_daily(Delta.forPath(spark, path).alias("t"), increments, table, [last])

    seen = dict.fromkeys(range(PARTITIONS), days * ROWS_A_DAY - 1)

    def look() -> None:
        daily = spark.read.format("delta").load(path)
        if not count_new(daily, seen, PARTITIONS):
            raise AssertionError("the news is not seen")

    lists = ShownLists(lambda _: {}, most=days * 100)
    shown = [Message("recommendations", 0, n, f"u{n}".encode(), b"x" * 4000) for n in range(300)]
    for number in range(days * 100):
        lists.put(Message("recommendations", 0, 0, f"old{number}".encode(), b""))

    def take_lists() -> None:
        for message in shown:
            lists.put(message)

    steps: dict[str, Callable[[], Any]] = {
        "fold_daily": fold,
        "look_for_training": look,
        "read_applied": lambda: read_applied(path, SOURCE),
        "maintain": lambda: maintain(path, 1),
        "take_lists": take_lists,
    }
    return {name: median_ms(step, rounds) for name, step in steps.items()}


def median_ms(step: Callable[[], Any], rounds: int) -> float:
    """The median of so many times, after two that warm up."""
    times = []
    for number in range(rounds + 2):
        started = time.perf_counter()
        step()
        if number >= 2:
            times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    main()
