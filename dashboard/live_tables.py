"""What the dashboard asks about episodes, shows and categories: the analytics that MongoDB serves.

As in `dashboard.queries`: pure functions of a database, nothing is written, times are UTC,
PyMongoError where the server fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from pymongo.database import Database

from dashboard.queries import UTC_TYPE, Types, collection, in_utc, with_titles
from schemas.metrics import DAY_METRICS, ROLLING_METRICS
from streams.engagement.core.trending import (
    ALL,
    both_scope,
    category_of,
    category_scope,
    language_of,
    language_scope,
)

COUNTING_STAGE = "track_engagement"

MOST_SCOPES = 2_000
"""So many rankings are looked at for their categories and languages."""

_ROLLING_TYPES: Types = {
    "scope": pl.String,
    "title": pl.String,
    "show": pl.String,
    **dict.fromkeys(ROLLING_METRICS, pl.Int64),
}
_TRENDING_TYPES: Types = {
    "place": pl.Int64,
    "episode_id": pl.String,
    "score": pl.Float64,
    "plays": pl.Int64,
    "recent": pl.Int64,
    "usual": pl.Float64,
    "rise": pl.Float64,
    "at": UTC_TYPE,
}
_ANOMALY_TYPES: Types = {
    "at": UTC_TYPE,
    "episode_id": pl.String,
    "direction": pl.String,
    "plays": pl.Int64,
    "expected": pl.Float64,
    "score": pl.Float64,
}
_DAY_TYPES: Types = {
    "day": pl.Date,
    "final": pl.Boolean,
    **dict.fromkeys(DAY_METRICS, pl.Int64),
    "retention": pl.List(pl.Int64),
}


@dataclass(frozen=True)
class Rolling:
    """A rolling window: the newest minute in it, and what each scope did, most listeners first.

    ``active`` is how many scopes there are; ``scopes`` has the first of them.
    """

    at: datetime
    active: int
    scopes: pl.DataFrame


@dataclass(frozen=True)
class Late:
    """Events that were applied to the live tables, and how many of them came too late for them."""

    late: int
    events: int


def rolling(database: Database[dict[str, Any]], kind: str, minutes: int) -> Rolling | None:
    """The window of every scope of a kind; None before the first one is written.

    ``scopes`` has ``scope``, ``title`` (the scope where none is known), ``show`` (episodes only)
    and ROLLING_METRICS.
    """
    document = collection(database, "rolling_windows").find_one({"_id": f"{kind}|{minutes}"})
    at = in_utc(document.get("at")) if document else None
    if document is None or at is None:
        return None
    scopes = pl.DataFrame(document["scopes"], schema=_ROLLING_TYPES).with_columns(
        title=pl.when(pl.col("title") == "").then("scope").otherwise("title")
    )
    return Rolling(at, document.get("active", len(scopes)), scopes)


def scope_name(category: str | None, language: str | None) -> str:
    """The scope of a category and a language, either of which may be any."""
    if category and language:
        return both_scope(category, language)
    if category:
        return category_scope(category)
    return language_scope(language) if language else ALL


def trending_choices(database: Database[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The categories and the languages that have a ranking, by name."""
    ranked = collection(database, "trending_episodes").find({"ranked": True}, {"_id": 1})
    names = [document["_id"] for document in ranked.limit(MOST_SCOPES)]
    # a scope of two parts has both of them as scopes of their own
    categories, languages = map(category_of, names), map(language_of, names)
    return sorted(filter(None, categories)), sorted(filter(None, languages))


def trending(database: Database[dict[str, Any]], scope: str = ALL, limit: int = 12) -> pl.DataFrame:
    """The ranking of a scope, best first: ``place``, ``title``, ``show``, ``score``, ``plays``,
    ``recent``, ``usual`` and ``rise``.
    """
    document = collection(database, "trending_episodes").find_one({"_id": scope}) or {}
    rows = [
        {"recent": 0, "usual": 0.0, "rise": 1.0, **episode, "place": place}
        for place, episode in enumerate(document.get("episodes", [])[:limit], start=1)
    ]
    ranked = pl.DataFrame(rows, schema=_TRENDING_TYPES)
    return with_titles(database, ranked.with_columns(at=pl.lit(in_utc(document.get("at")))))


def anomalies(database: Database[dict[str, Any]], limit: int = 12) -> pl.DataFrame:
    """The newest unusual five minutes: ``at``, ``title``, ``show``, ``direction`` (`rise` or
    `fall`), ``plays``, ``expected`` plays, and ``score`` in standard deviations.
    """
    found = collection(database, "episode_anomalies").find().sort("at", -1).limit(limit)
    rows = [{**document, "at": in_utc(document["at"])} for document in found]
    return with_titles(database, pl.DataFrame(rows, schema=_ANOMALY_TYPES))


def late_events(database: Database[dict[str, Any]], partitions: int) -> Late:
    """What came too late for the live tables, over all source partitions."""
    ids = [f"{COUNTING_STAGE}|{number}" for number in range(partitions)]
    found = list(collection(database, "table_progress").find({"_id": {"$in": ids}}))
    return Late(
        late=sum(document["late"] for document in found),
        events=sum(document["events"] for document in found),
    )


def episode_days(
    database: Database[dict[str, Any]], episode_id: str, days: int = 30
) -> pl.DataFrame:
    """The newest ``days`` of an episode, oldest first: ``day``, DAY_METRICS, ``final``, and
    ``retention``, the listeners of each minute of the episode.
    """
    found = (
        collection(database, "episode_days").find({"episode_id": episode_id}).sort("day", -1)
    ).limit(days)
    nothing = {**dict.fromkeys(DAY_METRICS, 0), "final": False, "retention": []}
    rows = [{**nothing, **document, "day": document["day"].date()} for document in found]
    return pl.DataFrame(rows, schema=_DAY_TYPES).sort("day")


def without_gaps(days: pl.DataFrame, least: int = 7) -> pl.DataFrame:
    """The same days and ``least`` days up to the last one, with zeros where nothing happened."""
    if days.is_empty():
        return days
    first, last = days["day"][0], days["day"][-1]
    start = min(first, last - timedelta(days=least - 1))
    every = pl.select(day=pl.date_range(start, last, timedelta(days=1)))
    return every.join(days, on="day", how="left", maintain_order="left").with_columns(
        pl.col(DAY_METRICS).fill_null(0)
    )


def why(recent: int, usual: float, rise: float) -> str:
    """Why an episode is trending, in words."""
    listeners = f"{recent:,} new listener{'' if recent == 1 else 's'} in the last hour"
    if usual == 0:
        return f"{listeners}, none in the day before"
    return f"{listeners}, {rise:,.1f} times its usual"
