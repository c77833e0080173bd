"""What Delta holds of the live tables and of events, as parts of source partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from schemas.metrics import EVENT_SUMS, LISTENING_METRICS, WINDOW_METRICS
from streams.operations.core.verification import Day, Event, Heard, Minute, Part
from topology.settings import Settings
from topology.stores import DELTA_TABLES

EPISODE_DAY_METRICS = tuple(
    column.name
    for table in DELTA_TABLES
    if table.name == "episode_daily"
    for column in table.columns
    if column.type == "bigint"
)


class HistoryParts:
    """Reads Delta tables by the days that they are divided by."""

    def __init__(self, settings: Settings):
        self._root = settings.delta_root.rstrip("/")

    def _table(self, name: str) -> ds.Dataset | None:
        uri = f"{self._root}/{name}"
        return DeltaTable(uri).to_pyarrow_dataset() if DeltaTable.is_deltatable(uri) else None

    def minutes_of(
        self, start: datetime, end: datetime
    ) -> tuple[dict[Minute, dict[str, int]], dict[int, datetime]]:
        """The finished minutes of a stretch of time within a UTC day, and the newest one there is
        of each source partition from that day on."""
        if (table := self._table("engagement_minutes")) is None:
            return {}, {}
        later = pc.field("event_date") >= start.date()
        newest = _newest(table, later, "bucket")
        rows = table.to_table(
            filter=(pc.field("event_date") == start.date())
            & (pc.field("bucket") >= start)
            & (pc.field("bucket") < end)
        )
        return {
            Minute(row["episode_id"], _utc(row["bucket"]), row["source_partition"]): {
                name: row[name] or 0 for name in WINDOW_METRICS
            }
            for row in rows.to_pylist()
        }, {partition: _utc(at) for partition, at in newest.items()}

    def days_of(
        self, episodes: Sequence[str], day: date
    ) -> tuple[dict[Day, dict[str, int]], dict[int, date]]:
        """A finished UTC day of some episodes, and the newest day there is of each partition."""
        if (table := self._table("episode_daily")) is None:
            return {}, {}
        newest = _newest(table, pc.field("day") >= day, "day")
        rows = table.to_table(filter=_of(episodes, "day", day))
        return {
            Day(row["episode_id"], row["day"], row["source_partition"]): {
                name: row[name] for name in EPISODE_DAY_METRICS
            }
            for row in rows.to_pylist()
        }, newest

    def listening_of(
        self, episodes: Sequence[str], day: date
    ) -> tuple[dict[Heard, tuple[int, Part]], dict[int, int]]:
        """Who heard how much of some episodes on a UTC day, with the source partition of each, and
        how far each source partition has counted for certain."""
        if (table := self._table("user_vs_episode_daily")) is None:
            return {}, {}
        counted = _newest(table, pc.field("day") >= day, "applied_offset")
        rows = table.to_table(
            columns=[
                "user_id",
                "episode_id",
                "source_partition",
                "applied_offset",
                *LISTENING_METRICS,
            ],
            filter=_of(episodes, "day", day),
        )
        return {
            Heard(row["user_id"], row["episode_id"], day): (
                row["source_partition"],
                Part(row["applied_offset"], {name: row[name] for name in EVENT_SUMS}),
            )
            for row in rows.to_pylist()
        }, counted

    def events_of(
        self, episodes: Sequence[str], day: date
    ) -> tuple[Iterator[Event], dict[int, int]]:
        """The events of some episodes that occurred on a UTC day, and how far each source partition
        reaches for certain."""
        if (table := self._table("user_events")) is None:
            return iter(()), {}
        there = _newest(table, pc.field("event_date") >= day, "source_offset")
        batches = table.to_batches(
            columns=[
                "user_id",
                "episode_id",
                "source_partition",
                "source_offset",
                "kind",
                "heard_ms",
            ],
            filter=_of(episodes, "event_date", day),
        )
        events = (
            Event(
                Heard(row["user_id"], row["episode_id"], day),
                row["source_partition"],
                row["source_offset"],
                row["kind"],
                row["heard_ms"] or 0,
            )
            for batch in batches
            for row in batch.to_pylist()
        )
        return events, there


def _of(episodes: Sequence[str], column: str, day: date) -> pc.Expression:
    """The rows of some episodes on a UTC day, which stands in a column."""
    return (pc.field(column) == day) & pc.field("episode_id").isin(list(episodes))


def _newest(table: ds.Dataset, which: pc.Expression, column: str) -> dict[int, Any]:
    """The highest value of a column by source partition."""
    found: dict[int, Any] = {}
    for batch in table.to_batches(columns=["source_partition", column], filter=which):
        for partition in pc.unique(batch["source_partition"]).to_pylist():
            mine = batch.filter(pc.equal(batch["source_partition"], partition))
            highest = pc.max(mine[column]).as_py()
            if highest is not None:
                found[partition] = max(found.get(partition, highest), highest)
    return found


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
