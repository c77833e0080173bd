"""How long an episode keeps its listeners, minute by minute."""

from __future__ import annotations

import polars as pl

DROP_OFFS = 3
LEAST_SHARE = 0.02
"""Of the listeners: fewer leave by any minute."""


def retention_curve(days: pl.DataFrame) -> pl.DataFrame:
    """``minute`` (0 is the first), ``listeners`` and ``share`` over all of ``days``.

    ``days`` has ``downloads`` and ``retention``, the listeners of each minute. A listener of two
    days counts twice, as in downloads; ``share`` is of those who heard any of the episode, 0 to 1.
    """
    listeners = (
        days.select(listeners="retention", minute=pl.int_ranges(0, pl.col("retention").list.len()))
        .explode("listeners", "minute")
        .drop_nulls()
        .group_by("minute")
        .agg(pl.col("listeners").sum())
        .sort("minute")
    )
    heard_any = max(int(days["downloads"].sum()), listeners["listeners"].max() or 0)
    return listeners.with_columns(share=pl.col("listeners") / heard_any)


def drop_offs(curve: pl.DataFrame, count: int = DROP_OFFS) -> pl.DataFrame:
    """The minutes before which the most listeners left, at most ``count``, in order.

    ``curve`` as from `retention_curve`. ``lost`` listeners of the minute before ``minute`` did not
    hear it; ``share`` is their part of everybody, ``left`` the part that goes on. Of equal falls
    the earlier one counts.
    """
    falls = curve.select(
        "minute",
        lost=pl.col("listeners").shift(1) - pl.col("listeners"),
        share=pl.col("share").shift(1) - pl.col("share"),
        left="share",
    ).filter(pl.col("share") >= LEAST_SHARE)
    largest = falls.sort("lost", "minute", descending=[True, False]).head(count)
    return largest.sort("minute")
