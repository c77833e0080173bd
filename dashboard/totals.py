"""The counts of each minute over all episodes, as MongoDB serves them: one document an hour.

As in `dashboard.queries`: pure functions of a database, nothing is written, times are UTC,
PyMongoError where the server fails. Hours are asked by `_id`, at most MOST_HOURS at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from pymongo.database import Database

from dashboard.queries import UTC_TYPE, Types, collection
from schemas.metrics import ADDITIVE_METRICS
from streams.serving.core.total_documents import hour_id

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MOST_HOURS = 49
"""Two days, the hour that both share included: what reaches back further is asked of Delta."""

COUNT_TYPES: Types = dict.fromkeys(ADDITIVE_METRICS, pl.Int64)

TOTALS = "engagement_totals"


@dataclass(frozen=True)
class Window:
    """The span ``start <= minute < end``; ``historic`` where it ends at the newest event."""

    start: datetime
    end: datetime
    historic: bool

    @property
    def minutes(self) -> int:
        """The length of the window."""
        return round((self.end - self.start) / MINUTE)

    def at_least(self, minutes: int) -> Window:
        """The same, or a longer window with the same end."""
        return replace(self, start=min(self.start, self.end - minutes * MINUTE))


@dataclass(frozen=True)
class Served:
    """Minutes in which anything happened: ``at`` and ADDITIVE_METRICS, oldest first.

    ``first`` is the first minute among them that each source partition told of.
    """

    minutes: pl.DataFrame
    first: Mapping[int, datetime]


def newest_minute(database: Database[dict[str, Any]]) -> datetime | None:
    """The newest minute that holds an event, in event time."""
    hours = collection(database, TOTALS).find({}, {"minutes": 1}).sort("_id", -1).limit(1)
    for document in hours:
        return _hour(document["_id"]) + MINUTE * max(int(minute) for minute in document["minutes"])
    return None


def served(database: Database[dict[str, Any]], start: datetime, end: datetime) -> Served:
    """The minutes of ``start <= at < end`` that MongoDB has; ValueError for more than MOST_HOURS.

    Minutes of the hour of ``start`` that are before it tell in ``first`` as well.
    """
    opening = start.replace(minute=0, second=0, microsecond=0)
    hours = -(-(end - opening) // HOUR)
    if hours > MOST_HOURS:
        raise ValueError(f"{hours} hours are more than {MOST_HOURS}")
    ids = [hour_id(opening + number * HOUR) for number in range(hours)]
    found = collection(database, TOTALS).find({"_id": {"$in": ids}}, {"minutes": 1, "first": 1})
    rows: list[dict[str, Any]] = []
    first: dict[int, datetime] = {}
    for document in sorted(found, key=lambda document: str(document["_id"])):
        hour = _hour(document["_id"])
        for place, minute in document.get("first", {}).items():
            first.setdefault(int(place), hour + minute * MINUTE)
        for minute, counts in document.get("minutes", {}).items():
            rows.append({**counts, "at": hour + int(minute) * MINUTE})
    minutes = pl.DataFrame(rows, schema={"at": UTC_TYPE, **COUNT_TYPES}).fill_null(0)
    within = pl.col("at").is_between(_time(start), _time(end), closed="left")
    return Served(minutes.filter(within).sort("at"), first)


def rolling_window(
    database: Database[dict[str, Any]], minutes: int, now: datetime
) -> Window | None:
    """The last ``minutes``, the current one included; None where there are no events at all.

    Where nothing happened in them (history was imported, or the events stopped), the window ends
    with the newest event instead.
    """
    end = now.replace(second=0, microsecond=0) + MINUTE
    live = Window(end - minutes * MINUTE, end, historic=False)
    newest = newest_minute(database)
    if newest is None:
        return None
    if live.start <= newest < live.end:
        return live
    # A listener's clock may be ahead: what it tells of is not all there is.
    if newest >= live.end and not served(database, live.start, live.end).minutes.is_empty():
        return live
    return Window(newest + MINUTE - minutes * MINUTE, newest + MINUTE, historic=True)


def counts_over_time(
    database: Database[dict[str, Any]], window: Window, every_minutes: int = 1
) -> pl.DataFrame:
    """``at`` and sums per ``every_minutes`` of the window, oldest first, zeros included."""
    every = timedelta(minutes=every_minutes)
    start = window.end - every * -(-window.minutes // every_minutes)
    return filled(served(database, window.start, window.end).minutes, start, window.end, every)


def filled(counts: pl.DataFrame, start: datetime, end: datetime, every: timedelta) -> pl.DataFrame:
    """Counts as in `Served.minutes` summed by spans from ``start`` on, zeros included."""
    spans = pl.select(
        at=pl.datetime_range(_time(start), _time(end), every, closed="left", time_unit="ms")
    ).with_columns(pl.col("at").cast(UTC_TYPE))
    step = round(every / MINUTE)
    elapsed = (pl.col("at") - _time(start)).dt.total_minutes()
    placed = counts.with_columns(at=_time(start) + pl.duration(minutes=elapsed // step * step))
    summed = placed.group_by("at").agg(pl.col(ADDITIVE_METRICS).sum())
    return spans.join(
        summed.with_columns(pl.col("at").cast(UTC_TYPE)), on="at", how="left", maintain_order="left"
    ).with_columns(pl.col(ADDITIVE_METRICS).fill_null(0))


def _hour(key: str) -> datetime:
    return datetime.strptime(key, "%Y-%m-%dT%HZ").replace(tzinfo=UTC)


def _time(at: datetime) -> pl.Expr:
    return pl.lit(at, dtype=UTC_TYPE)
