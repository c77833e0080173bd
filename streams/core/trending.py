"""Trending: engagement that fades with event time.

The score of an episode is the sum over its recent minutes b of

    (plays + 2 · completes) · 2^(-(at - b) / 30 min)

where ``at`` is the newest minute seen: a completed play says more than a started one, and half an
hour halves both. What is older than six hours has faded to 1/4096 and is left out. The rankings
of different partitions have different ``at``; since all of them fade alike, a reader brings them
to the newest one by a factor.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import polars as pl
from polars.interchange import CompatLevel

from streams.core.engagement import MINUTE_MS

COMPLETE_WEIGHT = 2
HALF_LIFE_MS = 30 * MINUTE_MS
HORIZON_MS = 6 * 60 * MINUTE_MS
PLACES = 50
ALL = "all"
_DIGITS = 6
_PLACE = ("episode_id", "score", "plays")

_ROWS = pl.Schema(
    {
        "episode_id": pl.String(),
        "source_partition": pl.Int32(),
        "offset": pl.Int64(),
        "plays": pl.Int64(),
        "completes": pl.Int64(),
    }
)
_SUMMARY = pl.Schema(
    {"episode_id": pl.String(), "bucket": pl.Int64(), "weight": pl.Int64(), "plays": pl.Int64()}
)

Part = tuple[str, int]
"""An episode and the source partition that counted it."""

Seen = tuple[int, int, int]
"""The offset of a count, plays and completes."""

Bucket = Mapping[Part, Seen]
"""What one minute holds."""

Place = dict[str, Any]
"""`episode_id`, `score` and `plays`."""


def category_scope(category: str) -> str:
    return f"category:{category}"


def bucket_to_bytes(bucket: Bucket) -> bytes:
    """An Arrow IPC stream, a row for each part."""
    rows = [(*part, *seen) for part, seen in bucket.items()]
    buffer = BytesIO()
    pl.DataFrame(rows, schema=_ROWS, orient="row").write_ipc_stream(
        buffer, compat_level=CompatLevel.oldest()
    )
    return buffer.getvalue()


def bucket_from_bytes(value: bytes) -> dict[Part, Seen]:
    rows = pl.read_ipc_stream(BytesIO(value)).select(_ROWS.names()).iter_rows()
    return {(episode_id, source): tuple(seen) for episode_id, source, *seen in rows}


def newest(windows: pl.DataFrame, before: int, log_ms: int) -> int:
    """The newest minute, in milliseconds, of rows that the log has at ``log_ms``.

    Minutes that are still to come when they are logged come from clocks that are fast; they do
    not move ours, or one of them would make everything else old. A log without times (0) says
    nothing about that.
    """
    buckets = windows["bucket"].dt.epoch("ms").to_list()
    return max(before, *(bucket for bucket in buckets if not 0 < log_ms < bucket), before)


def apply(buckets: Mapping[int, Bucket], windows: pl.DataFrame) -> dict[int, dict[Part, Seen]]:
    """The minutes that rows of `engagement_window` change; of a part the highest offset wins."""
    changed: dict[int, dict[Part, Seen]] = {}
    rows = windows.select(
        pl.col("bucket").dt.epoch("ms"), *(name for name in _ROWS.names())
    ).iter_rows()
    for bucket, episode_id, source, offset, plays, completes in rows:
        now = changed.get(bucket, buckets.get(bucket, {}))
        part = (episode_id, source)
        if part in now and now[part][0] >= offset:
            continue
        if bucket not in changed:
            changed[bucket] = dict(now)
        changed[bucket][part] = (offset, plays, completes)
    return changed


def summary(bucket: int, parts: Bucket) -> pl.DataFrame:
    """What a minute adds to the scores of `scores`: its source partitions added up."""
    totals: dict[str, tuple[int, int]] = {}
    for (episode_id, _), (_, plays, completes) in parts.items():
        weight, played = totals.get(episode_id, (0, 0))
        totals[episode_id] = (weight + plays + COMPLETE_WEIGHT * completes, played + plays)
    rows = [(episode_id, bucket, *total) for episode_id, total in totals.items() if total[0]]
    return pl.DataFrame(rows, schema=_SUMMARY, orient="row")


def scores(summaries: Iterable[pl.DataFrame], at: int) -> dict[str, tuple[float, int]]:
    """Episode -> score and plays, over the summed up minutes within the horizon of ``at``."""
    minutes = pl.concat([pl.DataFrame(schema=_SUMMARY), *summaries])
    age = (at - pl.col("bucket")).clip(lower_bound=0)
    fade = pl.lit(0.5).pow(age / HALF_LIFE_MS)
    totals = (
        minutes.filter(pl.col("bucket") > at - HORIZON_MS)
        .group_by("episode_id")
        .agg((pl.col("weight") * fade).sum().round(_DIGITS), pl.col("plays").sum())
    )
    return {episode_id: (score, plays) for episode_id, score, plays in totals.iter_rows()}


def rankings(
    scored: Mapping[str, tuple[float, int]], categories: Mapping[str, Sequence[str]]
) -> dict[str, list[Place]]:
    """The best places of every scope that has any: all episodes, and those of each category."""
    scopes: dict[str, list[str]] = defaultdict(list)
    for episode_id in scored:
        scopes[ALL].append(episode_id)
        for category in categories.get(episode_id, ()):
            scopes[category_scope(category)].append(episode_id)
    return {
        scope: [
            {
                "episode_id": episode_id,
                "score": scored[episode_id][0],
                "plays": scored[episode_id][1],
            }
            for episode_id in heapq.nsmallest(PLACES, episode_ids, key=lambda e: (-scored[e][0], e))
        ]
        for scope, episode_ids in scopes.items()
    }


def merge_scopes(records: Iterable[Mapping[str, Any]]) -> list[Place]:
    """One ranking, best first, of the newest record that each partition has for a scope.

    Every record is a `trending` as decoded; the scores are those of the newest `at` among them.
    """
    newest_of: dict[int, Mapping[str, Any]] = {}
    for record in records:
        known = newest_of.get(record["source_partition"])
        if known is None or record["at"] >= known["at"]:
            newest_of[record["source_partition"]] = record
    if not newest_of:
        return []
    at = max(record["at"] for record in newest_of.values())
    merged: dict[str, Place] = {}
    for episode_id, score, plays in _faded(newest_of.values(), at):
        place = merged.setdefault(episode_id, {"episode_id": episode_id, "score": 0.0, "plays": 0})
        place["score"] += score
        place["plays"] += plays
    return sorted(merged.values(), key=lambda place: (-place["score"], place["episode_id"]))


def _faded(records: Iterable[Mapping[str, Any]], at: datetime) -> Iterator[tuple[str, float, int]]:
    half_life = timedelta(milliseconds=HALF_LIFE_MS)
    for record in records:
        fade = 0.5 ** ((at - record["at"]) / half_life)
        for place in record["episodes"]:
            yield place["episode_id"], place["score"] * fade, place["plays"]
