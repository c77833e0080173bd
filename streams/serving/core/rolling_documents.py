"""The `rolling_windows` documents: what the source partitions say of the last minutes, added up.

Each source partition says it of its own listeners, in one message that replaces the one before.
Listeners of two partitions are never the same, so distinct listeners add up like any count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import polars as pl
from polars.interchange import CompatLevel

from schemas import columnar
from schemas.metrics import ROLLING_METRICS
from streams.engagement.core.rolling import WINDOWS
from streams.serving.core.documents import Document

KINDS = ("episode", "show", "category")
MOST_SCOPES = 1_000
"""So many scopes are kept in a document, those with the most listeners."""

_ROWS = pl.DataFrame(schema=columnar.columns("rolling_window")).cast({"kind": pl.String})

Names = Mapping[str, Mapping[str, Any]]
"""Episode or show id -> a document with its `title` and `show_title`."""


@dataclass(frozen=True)
class Rolling:
    """The newest minute that any partition tells of, and the best scopes of every window.

    ``windows`` is by kind and minutes; its frames have `scope` and ROLLING_METRICS, those with
    the most listeners first. ``active`` says how many scopes there are, listed or not.
    """

    at: datetime | None
    windows: Mapping[tuple[str, int], pl.DataFrame]
    active: Mapping[tuple[str, int], int]

    def scopes(self, kind: str) -> set[str]:
        """Every scope of a kind that is in one of the windows."""
        return {
            scope
            for (of, _), rows in self.windows.items()
            if of == kind
            for scope in rows["scope"].to_list()
        }


def pack(rows: pl.DataFrame) -> bytes:
    """Rows as bytes to be stored."""
    buffer = BytesIO()
    rows.write_ipc_stream(buffer, compression="zstd", compat_level=CompatLevel.oldest())
    return buffer.getvalue()


def unpack(value: bytes) -> pl.DataFrame:
    """The rows that were packed; an earlier release's may lack columns, which are then 0."""
    return columnar.from_message(value, "rolling_window")


def add_up(parts: Iterable[pl.DataFrame]) -> Rolling:
    """Sum the newest rows of `rolling_window` of each source partition.

    A partition that is a whole window behind the newest one has nothing in that window.
    """
    rows = pl.concat([_ROWS, *(part.cast({"kind": pl.String}) for part in parts)])
    at = rows["at"].max()
    summed = (
        rows.filter(pl.col("at") > pl.col("at").max() - pl.duration(minutes=pl.col("minutes")))
        .group_by("kind", "minutes", "scope")
        .agg(pl.col(ROLLING_METRICS).sum())
        .sort("listeners", "plays", "heard_ms", "scope", descending=[True, True, True, False])
    )
    groups = summed.partition_by("kind", "minutes", as_dict=True, include_key=False)
    nothing = summed.clear().drop("kind", "minutes")
    windows = {
        (kind, minutes): groups.get((kind, minutes), nothing)
        for kind in KINDS
        for minutes in WINDOWS
    }
    return Rolling(
        at,  # type: ignore[arg-type]
        {key: scopes.head(MOST_SCOPES) for key, scopes in windows.items()},
        {key: scopes.height for key, scopes in windows.items()},
    )


def rolling_documents(rolling: Rolling, episodes: Names, shows: Names) -> list[Document]:
    """The documents of all kinds and windows. What has no known title has an empty one."""
    return [
        {
            "_id": f"{kind}|{minutes}",
            "kind": kind,
            "minutes": minutes,
            "at": rolling.at,
            "active": rolling.active[kind, minutes],
            "scopes": [
                {**_named(kind, row["scope"], episodes, shows), **row}
                for row in rows.iter_rows(named=True)
            ],
        }
        for (kind, minutes), rows in rolling.windows.items()
    ]


def _named(kind: str, scope: str, episodes: Names, shows: Names) -> dict[str, str]:
    if kind == "category":
        return {"title": scope}
    if kind == "show":
        return {"title": shows.get(scope, {}).get("show_title", "")}
    known = episodes.get(scope, {})
    return {"title": known.get("title", ""), "show": known.get("show_title", "")}
