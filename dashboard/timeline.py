"""What happened over days, hour by hour: MongoDB's newest hours joined to Delta's older ones.

Both hold the same minutes for a while, and Delta gets them later, once they are final. So the two
meet minute by minute, for each source partition on its own: from the first minute that it told
MongoDB of, MongoDB counts it, and before that Delta does. No minute is missing and none counts
twice, wherever either store begins or ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

from dashboard.history import History, ask
from dashboard.queries import UTC_TYPE
from dashboard.totals import HOUR, MOST_HOURS, Served
from schemas.metrics import ADDITIVE_METRICS

TABLES = ("engagement_minutes",)


def served_from(end: datetime) -> datetime:
    """The first hour that MongoDB is asked for, of a span that ends at ``end``."""
    ending = end.replace(minute=0, second=0, microsecond=0)
    return ending - (MOST_HOURS - 1) * HOUR


def hours(history: History, served: Served, start: datetime, end: datetime) -> pl.DataFrame:
    """``at`` and ADDITIVE_METRICS of each hour of ``start <= at < end`` in which anything happened.

    ``start`` begins an hour. ``served``: what MongoDB has from `served_from` on, or from ``start``
    if that is later.
    """
    parts = [_by_hour(served.minutes)]
    if history.has("engagement_minutes"):
        parts.append(_older(history, served.first, start, end))
    joined = pl.concat(parts).group_by("at").agg(pl.col(ADDITIVE_METRICS).sum())
    return joined.sort("at")


def _older(
    history: History, first: Mapping[int, datetime], start: datetime, end: datetime
) -> pl.DataFrame:
    """Hours of Delta, each source partition up to the minute that MongoDB's begin with."""
    seams = pl.DataFrame(
        [(place, min(at, end)) for place, at in first.items()],
        schema={"source_partition": pl.Int32, "seam": UTC_TYPE},
        orient="row",
    )
    history.connection.register("seams", seams.to_arrow())
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in ADDITIVE_METRICS)
    found = ask(
        history,
        f"""
        SELECT date_trunc('hour', bucket) AS "at", {sums}
        FROM engagement_minutes LEFT JOIN seams USING (source_partition)
        WHERE event_date BETWEEN ? AND ? AND bucket >= ? AND bucket < coalesce(seam, ?)
        GROUP BY ALL
        """,  # noqa: S608  names of ours
        [start.date(), (end - timedelta(microseconds=1)).date(), start, end],
    )
    return found.cast({"at": UTC_TYPE}).select("at", *ADDITIVE_METRICS)


def _by_hour(minutes: pl.DataFrame) -> pl.DataFrame:
    return (
        minutes.with_columns(pl.col("at").dt.truncate("1h"))
        .group_by("at")
        .agg(pl.col(ADDITIVE_METRICS).sum())
        .cast({"at": UTC_TYPE})
    )
