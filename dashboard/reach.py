"""Reach: distinct listeners of shows and categories over several finished days."""

from __future__ import annotations

import polars as pl

from dashboard.history import History
from streams.engagement.core.reach import reach

SCHEMA = {
    "kind": pl.String,
    "scope": pl.String,
    "title": pl.String,
    "listeners": pl.Int64,
    "least": pl.Int64,
    "most": pl.Int64,
    "days": pl.Int64,
}


def reach_table(history: History, days: int) -> pl.DataFrame:
    """Distinct listeners over the newest ``days`` finished days, most first; columns of SCHEMA.

    Everything together comes first. ``least`` and ``most`` bound the estimate 95 times of 100;
    ``days`` is on how many days anybody listened. A show goes by its title where it is known.
    """
    rows = history.connection.execute(
        """
        SELECT kind, scope, list(sketch), count(DISTINCT day) FROM audience_daily
        WHERE kind <> 'episode' AND day > (SELECT max(day) FROM audience_daily) - ?
        GROUP BY kind, scope
        """,
        [days],
    ).fetchall()
    titles: dict[str, str] = {}
    if history.has("episodes"):
        titles = dict(
            history.connection.execute(
                "SELECT show_id, any_value(show_title) FROM episodes GROUP BY show_id"
            ).fetchall()
        )
    found = []
    for kind, scope, sketches, counted in rows:
        united = reach(sketches)
        title = "Everything" if kind == "all" else titles.get(scope, scope)
        found.append((kind, scope, title, united.listeners, united.least, united.most, counted))
    table = pl.DataFrame(found, schema=SCHEMA, orient="row")
    return table.sort(
        pl.col("kind") != "all", "listeners", "title", descending=[False, True, False]
    )
