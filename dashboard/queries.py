"""What the dashboard asks MongoDB: pure functions of a database, every answer a polars frame.

Nothing here writes. Times are UTC. PyMongoError where the server fails. Documents are asked for by
``_id``, or by a declared index with a limit: no answer costs what ever happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import polars as pl
from pymongo.collection import Collection
from pymongo.database import Database

from streams.recommendation.core.listing import ListedGeneration
from streams.serving.mongo.failures import failing
from streams.serving.mongo.models import generations
from topology.graph import UndeclaredError, get_graph
from topology.settings import get_settings

Types = dict[str, pl.DataType | type[pl.DataType]]

UTC_TYPE = pl.Datetime("ms", "UTC")
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
    "ranked": pl.Float64,
    "reason": pl.String,
}
_TITLE_TYPES: Types = {"episode_id": pl.String, "title": pl.String, "show": pl.String}


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


def newest_update(database: Database[dict[str, Any]]) -> datetime | None:
    """When the newest event that has reached a recommendation was logged (the broker's clock)."""
    lists = collection(database, "final_recommendations")
    for document in lists.find({}, {"updated_at": 1}).sort("updated_at", -1).limit(1):
        return in_utc(document.get("updated_at"))
    return None


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


def model_generations(database: Database[dict[str, Any]]) -> list[ListedGeneration]:
    """The latest trainings of the recommendation model, newest first."""
    return generations(partial(collection, database), get_settings().als_kept)


def stage_failures(database: Database[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stages whose latest attempt failed, by name: stage, attempts, error, retry_at in UTC."""
    return [
        {**document, "retry_at": in_utc(document["retry_at"])}
        for document in failing(collection(database, "stage_failures"))
    ]


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


def titles(database: Database[dict[str, Any]], episode_ids: list[str]) -> pl.DataFrame:
    """``episode_id``, ``title`` and ``show`` of the episodes that the catalogue knows."""
    if not episode_ids:
        return pl.DataFrame(schema=_TITLE_TYPES)
    found = collection(database, "episodes").find(
        {"_id": {"$in": episode_ids}}, {"title": 1, "show_title": 1}
    )
    rows = [
        {"episode_id": d["_id"], "title": d.get("title"), "show": d.get("show_title")}
        for d in found
    ]
    return pl.DataFrame(rows, schema=_TITLE_TYPES)


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
