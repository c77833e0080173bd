"""What the dashboard asks MongoDB: pure functions of a database, every answer a polars frame.

Nothing here writes. Times are UTC. PyMongoError where the server fails. The aggregations keep to
``$match``, ``$group``, ``$sort`` and ``$limit``, which the embedded server and every MongoDB
answer alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from pymongo.collection import Collection
from pymongo.database import Database

from schemas.metrics import ADDITIVE_METRICS
from topology.graph import UndeclaredError, get_graph

MINUTE = timedelta(minutes=1)
Types = dict[str, pl.DataType | type[pl.DataType]]

UTC_TYPE = pl.Datetime("ms", "UTC")
_COUNT_TYPES: Types = dict.fromkeys(ADDITIVE_METRICS, pl.Int64)
_METRIC_TYPES: Types = {
    "model": pl.String,
    "generation": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "at": UTC_TYPE,
}
_ITEM_TYPES: Types = {
    "place": pl.Int64,
    "episode_id": pl.String,
    "title": pl.String,
    "show": pl.String,
    "score": pl.Float64,
    "als": pl.Float64,
    "content": pl.Float64,
    "trending": pl.Float64,
    "reason": pl.String,
}
_TITLE_TYPES: Types = {"episode_id": pl.String, "title": pl.String, "show": pl.String}
_EPISODE_TYPES: Types = {
    "episode_id": pl.String,
    "title": pl.String,
    "show": pl.String,
    "categories": pl.List(pl.String),
    "language": pl.String,
    "published_at": UTC_TYPE,
    "duration_s": pl.Int64,
    "description": pl.String,
    "notes": pl.List(pl.String),
}


@dataclass(frozen=True)
class Window:
    """The span ``start <= bucket < end``; ``historic`` where it ends at the newest event."""

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
class Recommendation:
    """A listener's list: ``items`` best first, with the parts of each score."""

    user_id: str
    generation: str
    updated_at: datetime | None
    caused_by: str
    items: pl.DataFrame


def collection(database: Database[dict[str, Any]], name: str) -> Collection[dict[str, Any]]:
    """A collection that the topology lets the dashboard read. Raises UndeclaredError."""
    graph = get_graph()
    if name not in graph.stages["dashboard"].reads or name not in graph.collections:
        raise UndeclaredError(
            f"The dashboard reads collection {name!r}, which topology/stages does not give it."
        )
    return database[name]


def newest_bucket(database: Database[dict[str, Any]]) -> datetime | None:
    """The newest minute that holds an event, in event time."""
    windows = collection(database, "engagement_windows")
    for document in windows.find({}, {"bucket": 1}).sort("bucket", -1).limit(1):
        return in_utc(document["bucket"])
    return None


def newest_update(database: Database[dict[str, Any]]) -> datetime | None:
    """When the newest event that has reached a recommendation was logged (the broker's clock)."""
    lists = collection(database, "final_recommendations")
    for document in lists.find({}, {"updated_at": 1}).sort("updated_at", -1).limit(1):
        return in_utc(document.get("updated_at"))
    return None


def rolling_window(
    database: Database[dict[str, Any]], minutes: int, now: datetime
) -> Window | None:
    """The last ``minutes``, the current one included; None where there are no events at all.

    Where nothing happened in them (history was imported, or the events stopped), the window ends
    with the newest event instead.
    """
    end = now.replace(second=0, microsecond=0) + MINUTE
    live = Window(end - minutes * MINUTE, end, historic=False)
    if collection(database, "engagement_windows").find_one(_within(live), {"_id": 1}):
        return live
    newest = newest_bucket(database)
    if newest is None:
        return None
    end = newest + MINUTE
    return Window(end - minutes * MINUTE, end, historic=True)


def counts_over_time(
    database: Database[dict[str, Any]], window: Window, every_minutes: int = 1
) -> pl.DataFrame:
    """``at`` and sums per ``every_minutes`` of the window, oldest first, zeros included."""
    rows = collection(database, "engagement_windows").aggregate(
        [{"$match": _within(window)}, {"$group": {"_id": "$bucket", **_SUMS}}]
    )
    counted = pl.DataFrame(
        [{**row, "at": in_utc(row["_id"])} for row in rows], schema={"at": UTC_TYPE, **_COUNT_TYPES}
    )
    every = timedelta(minutes=every_minutes)
    start = window.end - every * -(-window.minutes // every_minutes)
    spans = pl.select(
        at=pl.datetime_range(start, window.end, every, closed="left", time_unit="ms")
    ).with_columns(pl.col("at").cast(UTC_TYPE))
    elapsed = (pl.col("at") - pl.lit(start, dtype=UTC_TYPE)).dt.total_minutes()
    counted = counted.with_columns(
        at=pl.lit(start, dtype=UTC_TYPE)
        + pl.duration(minutes=elapsed // every_minutes * every_minutes)
    )
    summed = counted.group_by("at").agg(pl.col(ADDITIVE_METRICS).sum())
    return spans.join(summed, on="at", how="left").with_columns(
        pl.col(ADDITIVE_METRICS).fill_null(0)
    )


def active_episodes(database: Database[dict[str, Any]], window: Window) -> int:
    """How many episodes something happened to within the window."""
    rows = collection(database, "engagement_windows").aggregate(
        [
            {"$match": _within(window)},
            {"$group": {"_id": "$episode_id"}},
            {"$group": {"_id": None, "episodes": {"$sum": 1}}},
        ]
    )
    return int(next(iter(rows), {"episodes": 0})["episodes"])


def listeners(database: Database[dict[str, Any]], limit: int = 200) -> pl.DataFrame:
    """Whose lists changed last: ``user_id`` and ``updated_at``, newest first."""
    lists = collection(database, "final_recommendations")
    found = lists.find({}, {"updated_at": 1}).sort("updated_at", -1).limit(limit)
    rows = [{"user_id": d["_id"], "updated_at": in_utc(d.get("updated_at"))} for d in found]
    return pl.DataFrame(rows, schema={"user_id": pl.String, "updated_at": UTC_TYPE})


def recommendation(database: Database[dict[str, Any]], user_id: str) -> Recommendation | None:
    """The list of a listener, or None for a listener without one."""
    document = collection(database, "final_recommendations").find_one({"_id": user_id})
    if document is None:
        return None
    rows = [
        {**item, **item.get("parts", {}), "place": place}
        for place, item in enumerate(document.get("items", []), start=1)
    ]
    return Recommendation(
        user_id=user_id,
        generation=document.get("generation") or "",
        updated_at=in_utc(document.get("updated_at")),
        caused_by=document.get("caused_by") or "",
        items=pl.DataFrame(rows, schema=_ITEM_TYPES),
    )


def model_metrics(database: Database[dict[str, Any]], limit: int = 5000) -> pl.DataFrame:
    """The newest ``limit`` figures, oldest first: model, generation, metric, value, at."""
    found = collection(database, "model_metrics").find().sort("at", -1).limit(limit)
    rows = [{**document, "at": in_utc(document.get("at"))} for document in found]
    return pl.DataFrame(rows, schema=_METRIC_TYPES).sort("at", "model", "metric")


def online_figures(metrics: pl.DataFrame) -> dict[str, float]:
    """What the blend does now: ``auc`` and ``log_loss`` over the source partitions, each counted
    by its ``samples``; ``partitions``, and how many of them are ``drifting``.

    ``metrics`` as from ``model_metrics``. A figure that nobody reports is left out.
    """
    blend = metrics.filter(pl.col("model") == "blend").unique(
        ["generation", "metric"], keep="last", maintain_order=True
    )
    if blend.is_empty():
        return {}
    wide = blend.pivot("metric", index="generation", values="value")
    found = {"partitions": float(len(wide))}
    if "drift" in wide.columns:
        found["drifting"] = float(wide.filter(pl.col("drift") > 0).height)
    if "samples" in wide.columns:
        found["samples"] = float(wide["samples"].sum())
        for name in {"auc", "log_loss"} & {*wide.columns}:
            known = wide.filter(pl.col(name).is_not_null() & (pl.col("samples") > 0))
            if len(known):
                mean = (pl.col(name) * pl.col("samples")).sum() / pl.col("samples").sum()
                found[name] = float(known.select(mean).item())
    return found


def episode_count(database: Database[dict[str, Any]]) -> int:
    """How many episodes the catalogue holds."""
    return collection(database, "episodes").estimated_document_count()


def categories(database: Database[dict[str, Any]]) -> list[str]:
    """The categories of the catalogue, by name."""
    return sorted(name for name in collection(database, "episodes").distinct("categories") if name)


def catalogue(
    database: Database[dict[str, Any]],
    text: str = "",
    category: str | None = None,
    limit: int = 300,
    among: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Episodes whose title, show or id contains ``text``, newest first, at most ``limit``.

    The whole id of an episode finds that one alone. ``among``: none but these ids.
    """
    wanted: dict[str, Any] = {}
    if text := text.strip():
        pattern = {"$regex": re.escape(text), "$options": "i"}
        wanted["$or"] = [{name: pattern} for name in ("title", "show_title", "_id")]
        if collection(database, "episodes").find_one({"_id": text}, {"_id": 1}):
            wanted = {"$or": [{"_id": text}]}
    if category:
        wanted["categories"] = category
    if among is not None:
        wanted["_id"] = {"$in": among}
    found = collection(database, "episodes").find(wanted).sort("published_at", -1).limit(limit)
    rows = [
        {
            **document,
            "episode_id": document["_id"],
            "show": document.get("show_title"),
            "published_at": in_utc(document.get("published_at")),
        }
        for document in found
    ]
    return pl.DataFrame(rows, schema=_EPISODE_TYPES)


def titles(database: Database[dict[str, Any]], episode_ids: list[str]) -> pl.DataFrame:
    """``episode_id``, ``title`` and ``show`` of the episodes that the catalogue knows."""
    found = collection(database, "episodes").find(
        {"_id": {"$in": episode_ids}}, {"title": 1, "show_title": 1}
    )
    rows = [
        {"episode_id": d["_id"], "title": d.get("title"), "show": d.get("show_title")}
        for d in found
    ]
    return pl.DataFrame(rows, schema=_TITLE_TYPES)


_SUMS = {name: {"$sum": f"${name}"} for name in ADDITIVE_METRICS}


def _within(window: Window) -> dict[str, Any]:
    return {"bucket": {"$gte": window.start, "$lt": window.end}}


def with_titles(database: Database[dict[str, Any]], frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with ``title`` and ``show``; an episode not downloaded yet goes by its id."""
    known = titles(database, frame["episode_id"].unique().to_list())
    return frame.join(known, on="episode_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("title", "episode_id").alias("title")
    )


def in_utc(value: datetime | None) -> datetime | None:
    """A BSON date, which a client that is not tz_aware gives without its zone."""
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
