"""What MongoDB holds: documents made of the log's records, and window counts merged into them.

Every function is pure. A document that several source partitions contribute to keeps each
contribution under ``parts``, by source partition, beside the merged values that readers want: the
writer can thus be restarted at any record, and records may come again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import polars as pl

from schemas.metrics import WINDOW_METRICS
from streams.engagement.core.trending import merge_scopes

Document = dict[str, Any]
TopicRecord = Mapping[str, Any]

_WINDOW_KEY = ("episode_id", "bucket", "source_partition")


def recommendation_document(record: TopicRecord) -> Document:
    """`final_recommendations`: the list of one listener, best first."""
    return {
        "_id": record["user_id"],
        "items": [
            {
                "episode_id": item["episode_id"],
                "title": item["title"],
                "show": item["show"],
                "score": item["score"],
                "parts": {
                    name: item["parts"][name] for name in ("als", "content", "trending", "ranked")
                },
                "reason": item["reason"],
            }
            for item in record["items"]
        ],
        "generation": record["generation"],
        "updated_at": record["updated_at"],
        "caused_by": record["caused_by"],
    }


def episode_document(record: TopicRecord) -> Document:
    """`episodes`: the record as it is, and how many notes it has: an index finds by that."""
    notes = record.get("notes") or ()
    return {"_id": record["episode_id"], **record, "note_count": len(notes)}


def neighbours_document(record: TopicRecord) -> Document:
    """`episode_neighbours`: the episodes nearest to one, nearest first."""
    return {
        "_id": record["episode_id"],
        "model": record["model"],
        "neighbours": [
            {"episode_id": near["episode_id"], "score": near["score"]}
            for near in record["neighbours"]
        ],
    }


def metric_document(record: TopicRecord) -> Document:
    """`model_metrics`: the newest value of a model's, generation's and metric's figure."""
    return {"_id": f"{record['model']}|{record['generation']}|{record['metric']}", **record}


def generation_document(record: TopicRecord) -> Document:
    """`model_generations` and `generation_refusals`: what is said of a generation."""
    return {"_id": record["generation"], **record}


def choice_document(record: TopicRecord) -> Document:
    """`served_generation`: which generation of a model was chosen to serve."""
    return {"_id": record["model"], **record}


def failure_document(record: TopicRecord) -> Document:
    """`stage_failures`: what a stage has tried in vain since it last succeeded."""
    return {"_id": record["stage"], **record}


def table_generation_document(record: TopicRecord) -> Document:
    """`table_generations`: which generation of a table is being served."""
    return {"_id": record["table"], **record}


def served_version_document(record: TopicRecord) -> Document:
    """`served_version`: which version of the tables readers are to look at."""
    return {"_id": record["tables"], **record}


def anomaly_document(record: TopicRecord) -> Document:
    """`episode_anomalies`: an episode's unusual five minutes."""
    return {"_id": minute_id(record["episode_id"], record["at"]), **record}


def progress_document(record: TopicRecord) -> Document:
    """`table_progress`: how far a stage has got with a source partition."""
    return {"_id": f"{record['stage']}|{record['source_partition']}", **record}


def newest(documents: Iterable[Document]) -> list[Document]:
    """The last document of each ``_id``, in the order in which the ids came first."""
    return list({document["_id"]: document for document in documents}.values())


def minute_id(episode_id: str, at: datetime) -> str:
    """The ``_id`` of an episode's UTC minute, such as ``pi:1|2026-01-31T12:05Z``."""
    return f"{episode_id}|{at.replace(tzinfo=None).isoformat(timespec='minutes')}Z"


def newest_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The row of the highest offset for each episode, minute and source partition.

    ``rows`` has the columns of `engagement_window`; so has the result, and a column ``_id``.
    """
    return (
        rows.sort("offset")
        .unique(_WINDOW_KEY, keep="last", maintain_order=True)
        .with_columns(
            _id=pl.col("episode_id") + "|" + pl.col("bucket").dt.strftime("%Y-%m-%dT%H:%MZ")
        )
    )


def merge_windows(stored: Mapping[str, Document], rows: pl.DataFrame) -> list[Document]:
    """The `engagement_windows` documents that ``rows`` change.

    ``rows`` come from `newest_rows`: each is the whole count of its source partition so far.
    ``stored`` are the documents as they are, by ``_id``; they are left untouched. A row whose
    offset is not above the stored one of its source partition is a repeat and changes nothing.
    """
    changed: dict[str, Document] = {}
    for row in rows.iter_rows(named=True):
        key = row["_id"]
        known = changed.get(key) or stored.get(key)
        parts = dict(known["parts"]) if known else {}
        place = str(row["source_partition"])
        if place in parts and parts[place]["offset"] >= row["offset"]:
            continue
        parts[place] = {"offset": row["offset"], **{name: row[name] for name in WINDOW_METRICS}}
        changed[key] = {
            "_id": key,
            "episode_id": row["episode_id"],
            "bucket": row["bucket"],
            # a part that was stored by an earlier release has fewer counts
            **{name: sum(part.get(name, 0) for part in parts.values()) for name in WINDOW_METRICS},
            "parts": parts,
        }
    return list(changed.values())


def merge_trending(
    stored: Mapping[str, Document], records: Iterable[TopicRecord]
) -> list[Document]:
    """The `trending_episodes` documents that ``records`` change: one merged ranking a scope.

    ``stored`` are the documents as they are, by scope; they are left untouched. ``records`` are in
    the order of the log: the last one of a source partition counts.
    """
    parts: dict[str, dict[str, TopicRecord]] = {}
    for record in records:
        scope = record["scope"]
        if scope not in parts:
            parts[scope] = dict(stored[scope]["parts"]) if scope in stored else {}
        parts[scope][str(record["source_partition"])] = dict(record)
    merged = {scope: merge_scopes(of_scope.values()) for scope, of_scope in parts.items()}
    return [
        {
            "_id": scope,
            "scope": scope,
            "at": max(part["at"] for part in of_scope.values()),
            "ranked": bool(merged[scope]),
            "episodes": merged[scope],
            "parts": of_scope,
        }
        for scope, of_scope in parts.items()
    ]


def with_titles(document: Document, episodes: Mapping[str, Document]) -> Document:
    """A trending document whose places carry title and show; empty where none is known yet."""
    nothing = {"title": "", "show_title": ""}
    places = [
        {
            **place,
            "title": episodes.get(place["episode_id"], nothing)["title"],
            "show": episodes.get(place["episode_id"], nothing)["show_title"],
        }
        for place in document["episodes"]
    ]
    return {**document, "episodes": places}
