"""What differs between two versions of a table: pure, over pieces that hold a part of the keys.

Both sides have counted every event before the same offsets. A key is *moving* if a row of it, on
either side, counts events from there on: it is left out, since the two are elsewhere in the log. So
is what one side's topic holds no more. All other keys are compared exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from schemas.metrics import ADDITIVE_METRICS, DAY_METRICS, LISTENING_METRICS, WINDOW_METRICS
from streams.operations.core.digest import combined, digest
from topology.model import Topic
from topology.topics import engagement

LARGEST = 10
PARTITION = "source_partition"
_CUT, _FIRST = "_cut", "_first"


@dataclass(frozen=True)
class ComparedTable:
    """How the rows of a topic are compared.

    ``key`` with the source partition identifies a row; of several the one with the highest
    ``offset`` counts, unless they ``add`` up. ``values`` are compared; ``metrics``, which are among
    them, are summed up as well. What is told ``late`` is sent some seconds after it was counted.
    """

    topic: Topic
    key: tuple[str, ...]
    metrics: tuple[str, ...]
    values: tuple[str, ...] = ()
    offset: str = "offset"
    add: bool = False
    late: bool = False

    @property
    def name(self) -> str:
        """What it is called: its topic, as the first version has it."""
        return self.topic.name

    @property
    def compared(self) -> tuple[str, ...]:
        """Every column that has to be equal."""
        return (*self.metrics, *self.values)

    @property
    def full_key(self) -> list[str]:
        """The columns that identify a row."""
        return [*self.key, PARTITION]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (*self.full_key, self.offset, *self.compared)


TABLES = (
    ComparedTable(engagement.ENGAGEMENT_WINDOWS, ("episode_id", "bucket"), WINDOW_METRICS),
    ComparedTable(engagement.ENGAGEMENT_TOTALS, ("bucket",), ADDITIVE_METRICS, late=True),
    ComparedTable(engagement.EPISODE_DAYS, ("episode_id", "day"), DAY_METRICS, late=True),
    ComparedTable(
        engagement.EPISODE_RETENTION, ("episode_id", "day", "minute"), ("listeners",), late=True
    ),
    ComparedTable(engagement.AUDIENCE_DAYS, ("kind", "scope", "day"), ("listeners",)),
    ComparedTable(
        engagement.LISTENING_SESSIONS,
        ("user_id", "started_at"),
        ("events", "plays", "completes", "heard_ms"),
        ("ended_at",),
    ),
    ComparedTable(engagement.LISTENING_STREAKS, ("user_id",), ("days",), ("day",)),
    ComparedTable(
        engagement.USER_EPISODE_DAILY,
        ("user_id", "episode_id", "day"),
        LISTENING_METRICS,
        offset="last_offset",
        add=True,
    ),
)
"""Every table whose rows say up to which event they count. Rolling windows, rankings and anomalies
follow from these."""


def plain(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with columns that both sides spell alike, whatever their schemas."""
    return rows.with_columns(
        [
            pl.col(name).cast(pl.String if isinstance(dtype, pl.Enum) else pl.Int64)
            for name, dtype in rows.schema.items()
            if isinstance(dtype, pl.Enum) or dtype.is_integer()
        ]
    )


def newest(table: ComparedTable, rows: pl.DataFrame) -> pl.DataFrame:
    """One row a key: the one with the highest offset, the last of equals; or their sum."""
    if table.add:
        return rows.group_by(table.full_key).agg(
            pl.col(table.offset).max(), *(pl.col(name).sum() for name in table.metrics)
        )
    return rows.sort(table.offset, maintain_order=True).unique(
        table.full_key, keep="last", maintain_order=True
    )


class Repeats:
    """Drops what was sent again of rows that add up: whole messages, by their last offset."""

    def __init__(self, table: ComparedTable):
        self._table = table
        self._reached: dict[int, int] = {}

    def drop(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of one message that were not there before."""
        if not self._table.add or rows.is_empty():
            return rows
        partition = int(rows[PARTITION][0])
        fresh = rows.filter(pl.col(self._table.offset) > self._reached.get(partition, -1))
        if fresh.height:
            self._reached[partition] = int(fresh[self._table.offset].max())  # type: ignore[arg-type]
        return fresh


@dataclass(frozen=True)
class Span:
    """The source offsets, by partition, between which rows may be compared: those that either side
    holds no more are below ``first``, and events from ``cut`` on may not be counted by both."""

    first: Mapping[int, int]
    cut: Mapping[int, int]

    def outside(self, table: ComparedTable, rows: pl.DataFrame) -> pl.DataFrame:
        """The keys of rows that may not be compared."""
        bounds = pl.DataFrame(
            [(p, self.first.get(p, 0), cut) for p, cut in self.cut.items()],
            schema={PARTITION: pl.Int64, _FIRST: pl.Int64, _CUT: pl.Int64},
            orient="row",
        )
        offset = pl.col(table.offset)
        return (
            rows.join(bounds, on=PARTITION, how="left")
            .filter((offset >= pl.col(_CUT).fill_null(0)) | (offset < pl.col(_FIRST).fill_null(0)))
            .select(table.full_key)
        )


@dataclass(frozen=True)
class LargestDifference:
    """A key that differs, with both sides' values; None where a side has no row."""

    key: dict[str, Any]
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    size: int
    """The largest difference among its metrics."""


@dataclass
class TableDiff:
    """One table on both sides, as far as it was looked at."""

    table: str
    rows_a: int = 0
    rows_b: int = 0
    only_a: int = 0
    only_b: int = 0
    changed: int = 0
    """Keys that both have, with other values."""
    moving: int = 0
    """Keys that were left out."""
    sums: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Metric -> its sum on both sides."""
    largest: list[LargestDifference] = field(default_factory=list)
    _digests_a: list[str] = field(default_factory=list)
    _digests_b: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether any key is not the same on both sides."""
        return bool(self.only_a or self.only_b or self.changed)

    @property
    def digests(self) -> tuple[str, str]:
        """SHA-256 of the compared rows of both sides."""
        return combined(self._digests_a), combined(self._digests_b)

    def changed_metrics(self) -> list[str]:
        """The metrics whose sums differ."""
        return [name for name, (a, b) in self.sums.items() if a != b]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON data; times in ISO 8601."""
        digest_a, digest_b = self.digests
        return {
            "table": self.table,
            "differs": self.differs,
            "digest_a": digest_a,
            "digest_b": digest_b,
            "rows_a": self.rows_a,
            "rows_b": self.rows_b,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "changed": self.changed,
            "moving": self.moving,
            "sums": {name: {"a": a, "b": b} for name, (a, b) in self.sums.items()},
            "largest": [
                {"key": _spoken(one.key), "a": _spoken(one.a), "b": _spoken(one.b)}
                for one in self.largest
            ],
        }

    def add(self, table: ComparedTable, a: pl.DataFrame, b: pl.DataFrame, span: Span) -> None:
        """Take in the rows of some keys: all that both sides have of them."""
        a, b = newest(table, a), newest(table, b)
        outside = pl.concat([span.outside(table, a), span.outside(table, b)]).unique()
        self.moving += outside.height
        columns = [*table.full_key, *table.compared]
        a, b = (
            side.join(outside, on=table.full_key, how="anti").select(columns) for side in (a, b)
        )
        self.rows_a += a.height
        self.rows_b += b.height
        self._digests_a.append(digest(a))
        self._digests_b.append(digest(b))
        for name in table.metrics:
            before = self.sums.get(name, (0, 0))
            self.sums[name] = (before[0] + int(a[name].sum()), before[1] + int(b[name].sum()))
        if self._digests_a[-1] != self._digests_b[-1]:
            self._compare(table, a, b)

    def _compare(self, table: ComparedTable, a: pl.DataFrame, b: pl.DataFrame) -> None:
        both = a.with_columns(_a=True).join(
            b.with_columns(_b=True), on=table.full_key, how="full", suffix="_b", coalesce=True
        )
        same = pl.all_horizontal(pl.col(n).eq_missing(pl.col(f"{n}_b")) for n in table.compared)
        has_a, has_b = pl.col("_a").is_not_null(), pl.col("_b").is_not_null()
        sizes = [
            (pl.col(n).fill_null(0) - pl.col(f"{n}_b").fill_null(0)).abs() for n in table.metrics
        ]
        different = both.filter(~(same & has_a & has_b)).with_columns(
            _size=pl.max_horizontal(sizes)
        )
        self.only_a += different.filter(~has_b).height
        self.only_b += different.filter(~has_a).height
        self.changed += different.filter(has_a & has_b).height
        order = ["_size", *table.full_key]
        top = different.sort(order, descending=[True, *(False for _ in table.full_key)])
        for row in top.head(LARGEST).iter_rows(named=True):
            key = {name: row[name] for name in table.full_key}
            ours = {n: row[n] for n in table.compared} if row["_a"] else None
            theirs = {n: row[f"{n}_b"] for n in table.compared} if row["_b"] else None
            self.largest.append(LargestDifference(key, ours, theirs, row["_size"]))
        self.largest.sort(key=lambda one: -one.size)
        del self.largest[LARGEST:]


def _spoken(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Values as JSON has them."""
    if values is None:
        return None
    return {name: v.isoformat() if hasattr(v, "isoformat") else v for name, v in values.items()}


def bucket_of(table: ComparedTable, rows: pl.DataFrame, buckets: int) -> pl.Series:
    """Which of so many parts of the keys each row belongs to: the same on both sides."""
    return rows.select(table.full_key).hash_rows(seed=7) % buckets
