"""Every question of the dashboard's pages, over a million minutes in MongoDB and long Delta tables.

The embedded server is filled with documents of `engagement_windows`, two days of
`engagement_totals` and the documents that pages show; the Delta tables `user_events`,
`user_vs_episode_daily` and `engagement_minutes` with so many rows each, spread over `--days`. Then
each question is asked as a page asks it, without its caches: milliseconds, median and 95th
percentile, the first time apart; and the tick of the Live page, which is all that it asks at once.
Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import machine
import numpy as np
import polars as pl
from deltalake import write_deltalake
from embedded_mongo import server_memory
from pymongo import MongoClient
from pymongo.database import Database

from dashboard import catalogue, history, live_tables, queries, timeline, totals
from schemas.metrics import ADDITIVE_METRICS, ROLLING_METRICS, WINDOW_METRICS
from streams.cli.local.mongo import running_mongo
from streams.serving.core.total_documents import MINUTE_KEYS, hour_id
from topology.apply import create_index
from topology.graph import build_graph

EPISODES, LISTENERS, PARTITIONS = 20_000, 50_000, 4
BATCH, CHUNK = 5_000, 1_000_000
END = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
BIG = ("user_events", "user_vs_episode_daily", "engagement_minutes")

Documents = Database[dict[str, Any]]
Ask = Callable[[], object]


def main() -> None:
    """Fill, ask and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=100, help="that the rows of Delta lie in")
    parser.add_argument("--rounds", type=int, default=20, help="times that each query is asked")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pages-") as folder:
        home, delta = Path(folder), str(Path(folder) / "delta")
        with running_mongo(home) as uri, MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
            database = client["pages"]
            _fill_mongo(database, options.documents)
            _fill_delta(Path(delta), options.rows, options.days)
            asked = {n: _times(ask, options.rounds) for n, ask in _asked(database, delta).items()}
            memory = server_memory(uri)
    figures = {
        "documents": options.documents,
        "rows_of_delta": dict.fromkeys(BIG, options.rows),
        "days": options.days,
        "worst_p95_ms": max(times["p95"] for times in asked.values()),
        "live_tick_p95_ms": asked["Live: a tick"]["p95"],
        "server_rss_mib": round(memory / 2**20),
        "ms": asked,
    }
    machine.report("pages", figures)


def _asked(database: Documents, delta: str) -> dict[str, Ask]:
    """What pages ask, each as a page does."""
    opened = history.open_history

    def tick(minutes: int) -> None:
        window = totals.Window(END - minutes * MINUTE, END, historic=False)
        totals.newest_minute(database)
        totals.counts_over_time(database, window.at_least(5), 1 if minutes <= 60 else 10)
        queries.newest_update(database)
        live_tables.rolling(database, "episode", minutes)
        live_tables.trending(database)
        live_tables.anomalies(database)
        live_tables.late_events(database, PARTITIONS)

    def week() -> None:
        start = END - timedelta(days=7)
        served = totals.served(database, timeline.served_from(END), END)
        timeline.hours(opened(delta, timeline.TABLES), served, start, END)

    def days() -> None:
        history.plays_per_day(opened(delta, ["user_vs_episode_daily"]))

    def top(count: int) -> None:
        asked = opened(delta, ["user_vs_episode_daily", "episodes"])
        since = history.last_days(asked, count) or END.date()
        history.top_listeners(asked, since)
        history.top_episodes(asked, since)

    def recent(minutes: int) -> None:
        asked = opened(delta, ["user_events"])
        since = (history.newest_event(asked) or END) - minutes * MINUTE
        history.events_by_kind(asked, since)
        history.recent_events(asked, since)

    def search(text: str) -> None:
        found = catalogue.catalogue(
            database, opened(delta, catalogue.TABLES), catalogue.Search(text)
        )
        asked = opened(delta, ["user_vs_episode_daily"])
        history.plays_and_transcripts(asked, found["episode_id"].to_list())

    return {
        "Live: a tick": lambda: tick(15),
        "Live: a tick of 24 h": lambda: tick(24 * 60),
        "Live: choices": lambda: live_tables.trending_choices(database),
        "Recommendations: listeners": lambda: queries.listeners(database),
        "Recommendations: a list": lambda: queries.recommendation(database, "listener-00007"),
        "Models: figures": lambda: queries.model_metrics(database),
        "Episodes: newest, with plays": lambda: search(""),
        "Episodes: a search, with plays": lambda: search("title 1234"),
        "Episodes: categories": lambda: catalogue.categories(database, opened(delta, ["episodes"])),
        "Episodes: days of one": lambda: live_tables.episode_days(database, _episode(7)),
        "History: plays by day": days,
        "History: a week by the hour": week,
        "History: top of 7 days": lambda: top(7),
        "History: top of 28 days": lambda: top(28),
        "History: last 15 minutes": lambda: recent(15),
        "History: last 24 hours": lambda: recent(24 * 60),
        "History: sizes": lambda: history.table_sizes(delta),
    }


def _times(ask: Ask, rounds: int) -> dict[str, float]:
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    median, p95 = (float(np.quantile(taken[1:], share)) for share in (0.5, 0.95))
    return {"first": round(taken[0], 1), "median": round(median, 1), "p95": round(p95, 1)}


# -- MongoDB -------------------------------------------------------------------------------------


def _fill_mongo(database: Documents, documents: int) -> None:
    for name, declared in build_graph(PARTITIONS).collections.items():
        for index in declared.indexes:
            create_index(database, name, index)
    counts = {**dict.fromkeys(WINDOW_METRICS, 3), "heard_ms": 700_000}
    parts = {str(part): {"offset": 1, **counts} for part in range(PARTITIONS)}
    minutes = 48 * 60
    per_minute = max(1, documents // minutes)

    def window(number: int) -> dict[str, Any]:
        at, episode = END - (number // per_minute + 1) * MINUTE, _episode(number % per_minute)
        key = f"{episode}|{at:%Y-%m-%dT%H:%MZ}"
        return {"_id": key, "episode_id": episode, "bucket": at, **counts, "parts": parts}

    def hour(number: int) -> dict[str, Any]:
        at = END - (number + 1) * HOUR
        sums = dict.fromkeys(ADDITIVE_METRICS, 12 * per_minute)
        part = {minute: {"offset": 1, **sums} for minute in MINUTE_KEYS}
        return {
            "_id": hour_id(at),
            "hour": at,
            "minutes": dict.fromkeys(MINUTE_KEYS, sums),
            "first": {str(place): 0 for place in range(PARTITIONS)},
            "parts": {str(place): part for place in range(PARTITIONS)},
        }

    rolled = {**dict.fromkeys(ROLLING_METRICS, 9), "title": "A title", "show": "A show"}
    scopes = [{"scope": _episode(number), **rolled} for number in range(1_000)]
    places = [
        {"episode_id": _episode(n), "score": 9.0, "plays": 3, "recent": 1, "usual": 2.0, "rise": 1}
        for n in range(50)
    ]
    item = {"title": "A title", "show": "A show", "score": 0.5, "reason": "new"}
    items = [
        {**item, "episode_id": _episode(n), "parts": {"als": 0.5, "content": 0.5, "trending": 0.1}}
        for n in range(50)
    ]
    _insert(database, "engagement_windows", documents, window)
    _insert(database, "engagement_totals", 48, hour)
    _insert(
        database,
        "rolling_windows",
        2,
        lambda n: {
            "_id": f"episode|{(15, 1440)[n]}",
            "at": END - MINUTE,
            "active": EPISODES,
            "scopes": scopes,
        },
    )
    _insert(
        database,
        "trending_episodes",
        200,
        lambda n: {
            "_id": f"category:{n}" if n else "all",
            "at": END,
            "ranked": True,
            "episodes": places,
            "parts": {str(place): {"episodes": places} for place in range(PARTITIONS)},
        },
    )
    _insert(
        database,
        "episode_anomalies",
        1_000,
        lambda n: {
            "_id": f"{_episode(n)}|{n}",
            "episode_id": _episode(n),
            "at": END - n * MINUTE,
            "direction": "rise",
            "plays": 9,
            "expected": 1.0,
            "score": 5.0,
        },
    )
    _insert(
        database,
        "table_progress",
        PARTITIONS,
        lambda n: {"_id": f"track_engagement|{n}", "late": 1, "events": 9},
    )
    _insert(
        database,
        "final_recommendations",
        LISTENERS,
        lambda n: {
            "_id": f"listener-{n:05}",
            "items": items,
            "generation": "g",
            "updated_at": END - timedelta(seconds=n),
            "caused_by": "e",
        },
    )
    _insert(
        database,
        "model_metrics",
        20_000,
        lambda n: {
            "_id": f"als|{n // 8}|{n % 8}",
            "model": "als",
            "generation": str(n // 8),
            "metric": str(n % 8),
            "value": 0.5,
            "at": END - timedelta(seconds=n),
        },
    )
    _insert(
        database,
        "episodes",
        EPISODES,
        lambda n: {
            "_id": _episode(n),
            "title": f"A title {n}",
            "show_title": "A show",
            "show_id": str(n % 900),
            "categories": [str(n % 30)],
            "published_at": END - n * MINUTE,
            "description": "About something. " * 20,
        },
    )
    _insert(
        database,
        "episode_days",
        200 * 56,
        lambda n: {
            "_id": f"{_episode(n // 56)}|{n % 56}",
            "episode_id": _episode(n // 56),
            "day": END - timedelta(days=n % 56),
            "retention": [9] * 60,
        },
    )


def _insert(
    database: Documents, name: str, count: int, make: Callable[[int], dict[str, Any]]
) -> None:
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        database[name].insert_many([make(number) for number in numbers], ordered=False)
        if start % (20 * BATCH) == 0:
            print(f"{start:,} of {name} …", file=sys.stderr)


def _episode(number: int) -> str:
    return f"pi:{number:08}"


# -- Delta ---------------------------------------------------------------------------------------


def _fill_delta(root: Path, rows: int, days: int) -> None:
    """The long tables, some days at a time, oldest first, as they come; and the catalogue."""
    generator = np.random.default_rng(1)
    episodes = pl.Series([_episode(number) for number in range(EPISODES)])
    listeners = pl.Series([f"listener-{number:05}" for number in range(LISTENERS)])
    kinds = pl.Series(["impression", "click", "play", "progress", "complete"])
    for chunk in range(-(-rows // CHUNK)):
        print(f"{chunk * CHUNK:,} rows of Delta …", file=sys.stderr)
        count = min(CHUNK, rows - chunk * CHUNK)
        seconds = np.sort(generator.integers(0, days * 86_400 * CHUNK // rows, count))
        seconds += chunk * days * 86_400 * CHUNK // rows
        at = np.datetime64(END.replace(tzinfo=None)) - np.timedelta64(days, "D") + seconds
        plays = generator.integers(0, 3, count)
        user = _popular(generator, LISTENERS, count)
        base = pl.DataFrame(
            {
                "episode_id": episodes.gather(_popular(generator, EPISODES, count)),
                "source_partition": pl.Series(user % PARTITIONS, dtype=pl.Int32),
                "plays": plays,
                "completes": plays // 2,
                "heard_ms": plays * 600_000,
                "at": pl.Series(at.astype("datetime64[us]")).dt.replace_time_zone("UTC"),
            }
        ).with_columns(event_date=pl.col("at").dt.date(), user_id=listeners.gather(user))
        tables = {
            "user_vs_episode_daily": base.drop("at").rename({"event_date": "day"}),
            "user_events": base.select(
                "source_partition",
                "user_id",
                "episode_id",
                "heard_ms",
                "event_date",
                source_offset=pl.int_range(pl.len()) + chunk * CHUNK,
                kind=kinds.gather(generator.integers(0, len(kinds), count)),
                occurred_at="at",
                position_ms="heard_ms",
                surface=pl.lit("home"),
                rank=pl.lit(1),
            ),
            "engagement_minutes": base.drop("user_id", "at").with_columns(
                bucket=base["at"].dt.truncate("1m"),
                impressions=pl.col("plays") * 4,
                clicks="plays",
                streams="plays",
            ),
        }
        for name, frame in tables.items():
            parted = ["event_date"] if "event_date" in frame.columns else None
            write_deltalake(str(root / name), frame.to_arrow(), mode="append", partition_by=parted)
    known = pl.DataFrame({"episode_id": episodes}).with_row_index("n")
    write_deltalake(
        str(root / "episodes"),
        known.select(
            "episode_id",
            title=pl.format("A title {}", "n"),
            show_title=pl.lit("A show"),
            categories=pl.concat_list((pl.col("n") % 30).cast(pl.String)),
            published_at=pl.lit(END) - pl.duration(minutes="n"),
        ).to_arrow(),
    )


def _popular(generator: np.random.Generator, among: int, count: int) -> np.ndarray:
    """Numbers of whom a few are chosen often."""
    return (among * generator.random(count) ** 2).astype(np.int64)


if __name__ == "__main__":
    main()
