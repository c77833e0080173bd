"""Adding daily increments up: pure DataFrame -> DataFrame."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from topology.model import DeltaTable

EARLIEST, LATEST = "first_at", "last_at"
POSITION = ("applied_offset", "source_partition")
"""Ordered as they are compared: the row that was counted last."""


def amounts(table: DeltaTable) -> list[str]:
    """The columns that add up."""
    others = {*table.key, EARLIEST, LATEST, *POSITION}
    return [column.name for column in table.columns if column.name not in others]


def sum_daily(increments: DataFrame, table: DeltaTable) -> DataFrame:
    """One row a key: amounts summed, the earliest and latest event, the last source offset."""
    last = F.max(F.struct(*POSITION)).alias("last")
    totals = increments.groupBy(*table.key).agg(
        *(F.sum(name).alias(name) for name in amounts(table)),
        F.min(EARLIEST).alias(EARLIEST),
        F.max(LATEST).alias(LATEST),
        last,
    )
    return totals.select(
        *(
            f"last.{column.name}" if column.name in POSITION else column.name
            for column in table.columns
        )
    )


def daily_update(table: DeltaTable) -> dict[str, str | Column]:
    """What MERGE sets in a row ``t`` that exists already, from increments ``s``."""
    return {
        **{name: f"t.`{name}` + s.`{name}`" for name in amounts(table)},
        EARLIEST: f"least(t.{EARLIEST}, s.{EARLIEST})",
        LATEST: f"greatest(t.{LATEST}, s.{LATEST})",
        **{name: f"s.{name}" for name in POSITION},
    }
