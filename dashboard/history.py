"""What the dashboard asks the Delta tables: DuckDB over their Parquet files.

Nothing is copied or written. duckdb.Error where a query fails. Questions about long tables are
bound to days, by the columns that files are partitioned by or have statistics of; sums by day are
small enough to be asked of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import NamedTuple

import duckdb
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from topology.graph import UndeclaredError, get_graph

_SUMS = (
    "sum(plays)::BIGINT AS plays, sum(completes)::BIGINT AS completes, "
    "sum(heard_ms) / 3600000.0 AS hours"
)
"""Of rows of `user_vs_episode_daily`."""


@dataclass(frozen=True)
class History:
    """An in-memory DuckDB with one view for each Delta table that exists; ``tables`` names them."""

    connection: duckdb.DuckDBPyConnection
    tables: frozenset[str]

    def has(self, *names: str) -> bool:
        """Whether all of these Delta tables have been written to."""
        return self.tables.issuperset(names)


def delta_names() -> list[str]:
    """The Delta tables that the topology lets the dashboard read."""
    graph = get_graph()
    return [name for name in graph.delta_tables if name in graph.stages["dashboard"].reads]


def open_history(delta_root: str, names: Iterable[str]) -> History:
    """Views over the newest version of each named table; tables not written yet are left out.

    Raises UndeclaredError for a table that is not the dashboard's to read, DeltaError where a
    table is there and cannot be read.
    """
    allowed = delta_names()
    connection = _engine().cursor()
    # event times are shown and grouped in UTC, whatever the machine's zone
    connection.execute("SET TimeZone = 'UTC'")
    found = set()
    for name in names:
        if name not in allowed:
            raise UndeclaredError(
                f"The dashboard reads Delta table {name!r}, which topology/stages does not give it."
            )
        try:
            table = DeltaTable(table_uri(delta_root, name))
        except TableNotFoundError:
            continue
        _show(connection, name, table)
        found.add(name)
    return History(connection, frozenset(found))


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """The DuckDB of this process: it remembers the footers of files, which never change."""
    engine = duckdb.connect()
    engine.execute("SET GLOBAL parquet_metadata_cache = true")
    return engine


def _show(connection: duckdb.DuckDBPyConnection, name: str, table: DeltaTable) -> None:
    """Make a view of a table.

    DuckDB reads the files of a folder itself, several times as fast as through Arrow. It has no
    way into an object store without a download, and none to a table without files.
    """
    files = table.file_uris()
    if not files or "://" in files[0]:
        connection.register(name, table.to_pyarrow_dataset())
        return
    declared = {column.name: column.type for column in get_graph().delta_tables[name].columns}
    partitions = table.metadata().partition_columns
    types = ", ".join(f"{column}: {declared[column]}" for column in partitions)
    hive = f"hive_partitioning = true, hive_types = {{{types}}}" if types else ""
    options = ", ".join(filter(None, ("union_by_name = true", hive or "hive_partitioning = false")))
    listed = ", ".join("'{}'".format(file.replace("'", "''")) for file in files)
    read = f"read_parquet([{listed}], {options})"
    connection.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {read}")  # noqa: S608  names of ours


def table_uri(delta_root: str, name: str) -> str:
    """Where a table lies under a folder or an object-store prefix."""
    return f"{delta_root.rstrip('/')}/{name}"


def table_sizes(delta_root: str) -> pl.DataFrame:
    """One row a declared table: ``table``, ``rows``, ``files``, ``bytes``, ``version``, ``doc``.

    A table not written yet has nulls.
    """
    graph = get_graph()
    rows = []
    for name in delta_names():
        row: dict[str, object] = {"table": name, "doc": graph.delta_tables[name].doc}
        try:
            table = DeltaTable(table_uri(delta_root, name))
        except TableNotFoundError:
            rows.append(row)
            continue
        files = pl.DataFrame(table.get_add_actions(flatten=True))
        counted = "num_records" in files.columns and not files["num_records"].null_count()
        row.update(
            rows=files["num_records"].sum() if counted else table.to_pyarrow_dataset().count_rows(),
            files=len(files),
            bytes=files["size_bytes"].sum(),
            version=table.version(),
        )
        rows.append(row)
    return pl.DataFrame(
        rows,
        schema={
            "table": pl.String,
            "rows": pl.Int64,
            "files": pl.Int64,
            "bytes": pl.Int64,
            "version": pl.Int64,
            "doc": pl.String,
        },
    )


def plays_per_day(history: History) -> pl.DataFrame:
    """``day``, ``plays``, ``completes`` and ``hours``, oldest first."""
    return ask(
        history,
        f"SELECT day, {_SUMS} FROM user_vs_episode_daily GROUP BY day ORDER BY day",  # noqa: S608
    )


def last_days(history: History, days: int) -> date | None:
    """The first of the newest ``days`` UTC days of listening; None before there is any."""
    newest: date | None = ask(history, "SELECT max(day) AS day FROM user_vs_episode_daily")["day"][
        0
    ]
    return None if newest is None else newest - timedelta(days=days - 1)


def top_listeners(history: History, since: date, limit: int = 12) -> pl.DataFrame:
    """``user_id``, ``plays``, ``completes``, ``hours``, ``episodes`` of who heard the most from a
    day on."""
    order = "hours DESC, plays DESC, user_id"
    return _top(history, "user_id", ("episode_id", "episodes"), order, since, limit)


def top_episodes(history: History, since: date, limit: int = 12) -> pl.DataFrame:
    """``episode_id``, ``title``, ``plays``, ``completes``, ``hours``, ``listeners``, by plays from
    a day on."""
    order = "plays DESC, hours DESC, episode_id"
    ranked = _top(history, "episode_id", ("user_id", "listeners"), order, since, limit)
    if not history.has("episodes"):
        return ranked.with_columns(title=pl.col("episode_id"))
    known = ask(
        history,
        "SELECT episode_id, title FROM episodes WHERE episode_id IN (SELECT unnest(?))",
        [ranked["episode_id"].to_list()],
    )
    return ranked.join(known, on="episode_id", how="left", maintain_order="left").with_columns(
        title=pl.coalesce("title", "episode_id")
    )


def _top(
    history: History, key: str, told_apart: tuple[str, str], order: str, since: date, limit: int
) -> pl.DataFrame:
    """The sums of the first ``limit`` of a key from a day on, in an order.

    ``told_apart`` is what is counted of each as well, by a column, and how that is called. Only of
    the few that are first: telling apart takes much longer than adding up.
    """
    column, named = told_apart
    return ask(
        history,
        f"""
        WITH top AS (
            SELECT {key}, {_SUMS} FROM user_vs_episode_daily WHERE day >= ? GROUP BY {key}
            ORDER BY {order} LIMIT ?
        ), heard AS (
            SELECT {key}, count(DISTINCT {column}) FILTER (plays > 0) AS {named}
            FROM user_vs_episode_daily WHERE day >= ? AND {key} IN (SELECT {key} FROM top)
            GROUP BY {key}
        )
        SELECT {key}, plays, completes, hours, {named} FROM top JOIN heard USING ({key})
        ORDER BY {order}
        """,  # noqa: S608  names of ours
        [since, limit, since],
    )


def newest_event(history: History) -> datetime | None:
    """When the newest event occurred."""
    newest: datetime | None = ask(
        history,
        "SELECT max(occurred_at) AS newest FROM user_events "
        "WHERE event_date = (SELECT max(event_date) FROM user_events)",
    )["newest"][0]
    return newest


def events_by_kind(history: History, since: datetime) -> pl.DataFrame:
    """``kind``, ``events`` and ``listeners`` of the events that occurred after ``since``."""
    return ask(
        history,
        """
        SELECT kind, count(*) AS events, count(DISTINCT user_id) AS listeners FROM user_events
        WHERE event_date >= ?::DATE AND occurred_at > ? GROUP BY kind ORDER BY events DESC, kind
        """,
        [since.date(), since],
    )


def recent_events(history: History, since: datetime, limit: int = 500) -> pl.DataFrame:
    """The events that occurred after ``since``, newest first, at most ``limit``."""
    return ask(
        history,
        """
        SELECT occurred_at, kind, user_id, episode_id, heard_ms, position_ms, surface, rank
        FROM user_events WHERE event_date >= ?::DATE AND occurred_at > ?
        ORDER BY occurred_at DESC, source_partition, source_offset DESC LIMIT ?
        """,
        [since.date(), since, limit],
    )


def online_metrics(history: History) -> pl.DataFrame:
    """``metric``, ``at``, ``value`` of the blend over the newest day, oldest first.

    ``auc`` and ``log_loss`` are means over the source partitions by the minute; a row ``drift``
    stands where a partition's flag went up.
    """
    return ask(
        history,
        """
        WITH newest AS (
            SELECT max("at") AS "at" FROM model_metrics WHERE model = 'blend'
        ), blend AS (
            -- an hour more, for what a flag was before
            SELECT generation, metric, value, "at" FROM model_metrics
            WHERE model = 'blend' AND "at" > (SELECT "at" FROM newest) - INTERVAL 25 HOURS
        ), flags AS (
            SELECT "at", value,
                   lag(value, 1, 0) OVER (PARTITION BY generation ORDER BY "at") AS before
            FROM blend WHERE metric = 'drift'
        ), figures AS (
            SELECT metric, date_trunc('minute', "at") AS "at", avg(value) AS value
            FROM blend WHERE metric IN ('auc', 'log_loss') GROUP BY ALL
            UNION ALL
            SELECT 'drift', "at", value FROM flags WHERE value > 0 AND before = 0
        )
        SELECT metric, "at", value FROM figures
        WHERE "at" > (SELECT "at" FROM newest) - INTERVAL 1 DAY ORDER BY "at", metric
        """,
    )


def plays_and_transcripts(history: History, episode_ids: list[str], days: int = 28) -> pl.DataFrame:
    """``episode_id``, ``plays`` and ``hours`` of the newest ``days`` days of listening, ``status``
    and ``words`` of the transcript.

    One row an episode asked for; null where the tables say nothing about it.
    """
    answer = pl.DataFrame({"episode_id": episode_ids}, schema={"episode_id": pl.String})
    plays = pl.DataFrame(schema={"episode_id": pl.String, "plays": pl.Int64, "hours": pl.Float64})
    transcripts = pl.DataFrame(
        schema={"episode_id": pl.String, "status": pl.String, "words": pl.Int32}
    )
    heard = history.has("user_vs_episode_daily")
    if heard and (since := last_days(history, days)) is not None:
        plays = ask(
            history,
            """
            SELECT episode_id, sum(plays)::BIGINT AS plays, sum(heard_ms) / 3600000.0 AS hours
            FROM user_vs_episode_daily WHERE day >= ? AND episode_id IN (SELECT unnest(?))
            GROUP BY episode_id
            """,
            [since, episode_ids],
        )
    if history.has("transcripts"):
        transcripts = ask(
            history,
            "SELECT episode_id, status, words FROM transcripts "
            "WHERE episode_id IN (SELECT unnest(?))",
            [episode_ids],
        )
    return answer.join(plays, on="episode_id", how="left", maintain_order="left").join(
        transcripts, on="episode_id", how="left", maintain_order="left"
    )


def transcript_counts(history: History) -> pl.DataFrame:
    """``status``, ``episodes`` and ``words`` over all transcripts."""
    return ask(
        history,
        "SELECT status, count(*) AS episodes, coalesce(sum(words), 0)::BIGINT AS words "
        "FROM transcripts GROUP BY status ORDER BY status",
    )


class Transcript(NamedTuple):
    """What was said in an episode, None if that is not known; and how it was read."""

    text: str | None = None
    notes: tuple[str, ...] = ()


def transcript_of(history: History, episode_id: str) -> Transcript:
    """The transcript of an episode; empty without one."""
    rows = ask(history, "SELECT * FROM transcripts WHERE episode_id = ?", [episode_id])
    if rows.is_empty():
        return Transcript()
    row = rows.row(0, named=True)
    # A table that was written before there were notes has no such column.
    return Transcript(row["text"] or None, tuple(row.get("notes") or ()))


def ask(history: History, query: str, parameters: list[object] | None = None) -> pl.DataFrame:
    """The answer to a query of DuckDB over the views; ``?`` in it stands for the parameters."""
    answer = history.connection.sql(query, params=parameters or []).to_arrow_table()
    return pl.DataFrame(answer)
