"""The `engagement_totals` documents: an hour's minutes, their source partitions added up.

As in `core.day_documents`, several workers write a document, each the parts of its own source
partitions, and each minute's sums as far as it has seen the others' parts; each reads again what
it wrote until the sums are those of all the parts that are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from schemas.metrics import ADDITIVE_METRICS
from streams.serving.core.documents import Document

MINUTE_KEYS = tuple(f"{minute:02}" for minute in range(60))
"""The names of an hour's minutes in a document."""

TotalPart = dict[str, int]
"""What a source partition says of a minute: `offset` and ADDITIVE_METRICS."""

HourParts = Mapping[str, Mapping[str, TotalPart]]
"""Source partition -> minute of the hour -> its part."""


def hour_id(at: datetime) -> str:
    """The ``_id`` of the UTC hour that a time is in, such as ``2026-01-31T12Z``."""
    return f"{at:%Y-%m-%dT%H}Z"


def total_parts(rows: pl.DataFrame) -> dict[datetime, dict[str, dict[str, TotalPart]]]:
    """The newest part of each minute and source partition by hour, of rows of
    `engagement_total`."""
    newest = rows.sort("offset").unique(
        ["bucket", "source_partition"], keep="last", maintain_order=True
    )
    found: dict[datetime, dict[str, dict[str, TotalPart]]] = {}
    for row in newest.iter_rows(named=True):
        at: datetime = row["bucket"]
        hour = found.setdefault(at.replace(minute=0), {})
        minutes = hour.setdefault(str(row["source_partition"]), {})
        minutes[MINUTE_KEYS[at.minute]] = {
            name: row[name] for name in ("offset", *ADDITIVE_METRICS)
        }
    return found


def total_changes(
    stored: Mapping[str, Document], told: Mapping[datetime, HourParts]
) -> dict[str, Document]:
    """The fields to set, by ``_id``, so that the documents hold these parts of `total_parts`.

    ``stored`` are the documents as they are, by ``_id``. Empty once they hold everything: a part
    whose offset is not above the stored one is a repeat.
    """
    changes = {}
    for hour, parts in told.items():
        key = hour_id(hour)
        if fields := _fields(stored.get(key, {}), parts):
            changes[key] = {"hour": hour, **fields}
    return changes


def _fields(known: Document, told: HourParts) -> Document:
    before: HourParts = known.get("parts", {})
    newer = {
        place: {
            minute: part
            for minute, part in minutes.items()
            if part["offset"] > before.get(place, {}).get(minute, {"offset": -1})["offset"]
        }
        for place, minutes in told.items()
    }
    fields: dict[str, Any] = {}
    for place, minutes in newer.items():
        fields |= {f"parts.{place}.{minute}": part for minute, part in minutes.items()}
        first = min((*before.get(place, {}), *minutes), default=None)
        if first is not None and known.get("first", {}).get(place) != int(first):
            fields[f"first.{place}"] = int(first)
    for minute in {minute for minutes in told.values() for minute in minutes}:
        sums = _sums(minute, before, newer)
        if known.get("minutes", {}).get(minute) != sums:
            fields[f"minutes.{minute}"] = sums
    return fields


def _sums(minute: str, before: HourParts, newer: HourParts) -> dict[str, int]:
    places = {*before, *newer}
    parts = [
        newer.get(place, {}).get(minute) or before.get(place, {}).get(minute) for place in places
    ]
    return {name: sum(part[name] for part in parts if part) for name in ADDITIVE_METRICS}
