"""Adding daily increments up: pure DataFrame -> DataFrame."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from topology.model import DeltaTable

EARLIEST, LATEST = "first_at", "last_at"
LENGTH, SHARE, HEARD = "duration_ms", "share", "heard_ms"
POSITION = ("applied_offset", "source_partition")
"""Ordered as they are compared: the row that was counted last."""


def amounts(table: DeltaTable) -> list[str]:
    """The columns of a table whose values add up: all but keys, times, lengths and positions."""
    others = {*table.key, EARLIEST, LATEST, LENGTH, SHARE, *POSITION}
    return [column.name for column in table.columns if column.name not in others]


def share(heard: str, length: str) -> str:
    """SQL for the share of an episode that was heard, 0 to 1; null if its length is 0.

    ``heard`` and ``length`` are SQL expressions in one unit of time.
    """
    return f"CASE WHEN {length} > 0 THEN least(1.0D, ({heard}) / {length}) END"


def sum_daily(increments: DataFrame, table: DeltaTable) -> DataFrame:
    """The increments of a micro-batch as one row a key, in the columns of ``table``.

    Amounts are summed; the earliest and latest event and the last source position are kept.
    """
    last = F.max(F.struct(*POSITION)).alias("last")
    totals = increments.groupBy(*table.key).agg(
        *(F.sum(name).alias(name) for name in amounts(table)),
        F.max(LENGTH).alias(LENGTH),
        F.min(EARLIEST).alias(EARLIEST),
        F.max(LATEST).alias(LATEST),
        last,
    )
    made = {SHARE: share(HEARD, LENGTH), **{name: f"last.{name}" for name in POSITION}}
    return totals.selectExpr(
        *(f"{made.get(column.name, column.name)} AS {column.name}" for column in table.columns)
    )


def daily_update(table: DeltaTable) -> dict[str, str | Column]:
    """Column -> what MERGE sets in a row ``t`` that is there, from a row ``s`` of increments."""
    # A row of a table that did not have the column yet has null: `greatest` leaves nulls out.
    length = f"greatest(t.{LENGTH}, s.{LENGTH})"
    return {
        **{name: f"t.`{name}` + s.`{name}`" for name in amounts(table)},
        LENGTH: length,
        SHARE: share(f"t.{HEARD} + s.{HEARD}", length),
        EARLIEST: f"least(t.{EARLIEST}, s.{EARLIEST})",
        LATEST: f"greatest(t.{LATEST}, s.{LATEST})",
        **{name: f"s.{name}" for name in POSITION},
    }
