"""Who heard how much of what, per UTC day: the amounts that one batch of events adds."""

from __future__ import annotations

import polars as pl

from streams.core.engagement import COUNT_EXPRESSIONS

_PROGRESS_BYTES = 8


def added_by(events: pl.DataFrame, applied: int) -> pl.DataFrame | None:
    """Rows of `user_episode_daily` for the events above offset ``applied``; None if there are none.

    All rows carry the offset range of the events counted. A reader that has applied a range skips
    it when it comes again, so the rows of one batch must not be mixed with those of another.
    """
    new = events.filter(pl.col("offset") > applied)
    if new.is_empty():
        return None
    return new.group_by(
        "user_id", "episode_id", pl.col("occurred_at").dt.date().alias("day"), maintain_order=True
    ).agg(
        pl.lit(new["partition"][0], pl.Int32).alias("source_partition"),
        pl.lit(new["offset"].min(), pl.Int64).alias("first_offset"),
        pl.lit(new["offset"].max(), pl.Int64).alias("last_offset"),
        *COUNT_EXPRESSIONS,
        (pl.col("kind") == "like").sum().cast(pl.Int64).alias("likes"),
        (pl.col("kind") == "dislike").sum().cast(pl.Int64).alias("dislikes"),
        pl.col("occurred_at").min().alias("first_at"),
        pl.col("occurred_at").max().alias("last_at"),
    )


def progress_to_bytes(applied: int) -> bytes:
    """An applied offset as the table `listening_progress` keeps it."""
    return applied.to_bytes(_PROGRESS_BYTES, "big")


def progress_from_bytes(value: bytes | None) -> int:
    """The offset that was kept; -1 if nothing was applied yet."""
    return -1 if value is None else int.from_bytes(value, "big")
