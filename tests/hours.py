"""Minutes as `serve_mongo` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.database import Database

from schemas.metrics import ADDITIVE_METRICS
from streams.serving.core.total_documents import MINUTE_KEYS, hour_id


def put_minute(
    database: Database[dict[str, Any]], at: datetime, plays: int, partition: int = 0
) -> None:
    """Set so many plays, and what goes with them, of a source partition in a minute."""
    counts = {
        **dict.fromkeys(ADDITIVE_METRICS, plays),
        "impressions": 10 * plays,
        "heard_ms": 60_000 * plays,
    }
    put_counts(database, at, counts, partition)


def put_counts(
    database: Database[dict[str, Any]],
    at: datetime,
    counts: Mapping[str, int],
    partition: int = 0,
) -> None:
    """Set what a source partition counted in a minute; sums follow. Minutes come in order."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    minute = MINUTE_KEYS[at.minute]
    hours = database["engagement_totals"]
    known = hours.find_one({"_id": hour_id(hour)}) or {}
    parts = known.get("parts", {})
    parts.setdefault(str(partition), {})[minute] = {"offset": 1, **counts}
    sums = {
        name: sum(part[minute][name] for part in parts.values() if minute in part)
        for name in counts
    }
    first = {**known.get("first", {})}
    first.setdefault(str(partition), at.minute)
    hours.replace_one(
        {"_id": hour_id(hour)},
        {
            "_id": hour_id(hour),
            "hour": hour,
            "minutes": {**known.get("minutes", {}), minute: sums},
            "first": first,
            "parts": parts,
        },
        upsert=True,
    )
