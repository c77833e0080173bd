"""Stage `write_delta`: every fact topic into its Delta table, exactly once.

Few streaming queries, since what costs is a commit, not a row: one for Arrow topics (thousands of
rows a message), one for Avro topics (one row a message), and a slow one for facts that are settled
anyway. A micro-batch is decoded once, by Spark's Python workers, and then dispatched by table; a
table without new rows gets no commit.

`foreachBatch` runs a batch again after a crash. Every table that counts or appends therefore
keeps the source offsets with its rows: at the start the highest offset of each source partition
is read from the table itself, and what is at or below it is a repeat. Data and progress are one
Delta commit, so this holds for a kill -9 at any moment, for batches that come again cut anew, and
for a lost checkpoint. (A `txnAppId` would only cover a batch repeated with the same checkpoint.)
It asks that a table has one writer, which `jobs.fencing` sees to, and that a listener's events are
all in one partition of `user-events`, which `batch_events` sees to.

Before a micro-batch is written, rows of listeners who are forgotten go (`jobs.forgetting`). Every
query follows `forgotten-listeners`, so that this happens also where nothing else comes.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import pyarrow as pa
from delta.tables import DeltaTable as Delta
from deltalake import DeltaTable as DeltaLog
from deltalake import Schema as DeltaSchema
from pydantic import SecretStr
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructField, StructType

from jobs.applied import read_applied
from jobs.core.daily import daily_update, sum_daily
from jobs.core.decoding import Decode, decode_batches, output_schema
from jobs.core.facts import FACTS, Facts
from jobs.fencing import WriterEpoch, bind
from jobs.forgetting import TOPIC as FORGOTTEN
from jobs.forgetting import ForgettingTable, ForgottenListeners
from jobs.kafka_source import Launch, checkpoint, read_topics
from jobs.maintenance import TABLE_PROPERTIES, Maintenance
from jobs.output import Output
from streams.kafka.clients import topic_id
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.operations.replay import History
from topology.graph import UndeclaredError, build_graph
from topology.model import DeltaTable, Graph, Stage
from topology.settings import Settings, get_settings
from topology.topics.events import USER_EVENT_BATCHES

log = logging.getLogger(__name__)

STAGE = "write_delta"

FEW_ROWS = 5_000
"""So many rows are appended from the driver, by delta-rs: Spark takes several jobs for a commit, of
which the rows are the least."""

MOST_DAYS_NAMED = 40
"""An import of years is written by a range of days: naming them all would take longer to plan."""


@dataclass(frozen=True, slots=True)
class Query:
    """A streaming query over the topics of one format and pace.

    ``messages`` are the most in a micro-batch, and ``every`` the time between two of them, in
    trigger intervals. A batch of events holds one row where few come and 20,000 in an import, so
    the limit is a compromise: a backlog of small batches has to shrink, and one of large ones to
    fit.
    """

    name: str
    format: str
    pace: str
    messages: int
    every: int = 1

    def topics(self, graph: Graph) -> list[str]:
        """The fact topics of this format and pace."""
        return [
            topic
            for topic, facts in FACTS.items()
            if (graph.topics[topic].format, facts.pace) == (self.format, self.pace)
        ]


QUERIES = (
    Query("batches", "arrow", "live", messages=1_000),
    Query("records", "avro", "live", messages=20_000),
    Query("settled", "arrow", "settled", messages=10_000, every=6),
)


def histories(settings: Settings, graph: Graph) -> dict[str, History]:
    """Where what each fact topic becomes is kept."""
    stage = graph.stages[STAGE]
    return {
        topic: History(
            table_path(settings, FACTS[topic].table), checkpoint(settings, stage, query.name)
        )
        for query in QUERIES
        for topic in query.topics(graph)
    }


def create_tables(graph: Graph, settings: Settings) -> None:
    """Create the Delta tables that the topology declares, where they are missing.

    A table that an older version created gets the columns that it lacks; its rows have null in
    them. By delta-rs: Spark takes seconds for each.
    """
    for table in graph.delta_tables.values():
        path = table_path(settings, table.name)
        schema = DeltaSchema.from_json(row_type(table).json())
        if DeltaLog.is_deltatable(path):
            _bring_up_to_date(DeltaLog(path), schema)
            continue
        DeltaLog.create(
            path,
            schema,
            mode="ignore",
            partition_by=list(table.partition_by),
            name=table.name,
            description=table.doc,
            configuration=TABLE_PROPERTIES,
        )


def _bring_up_to_date(table: DeltaLog, schema: DeltaSchema) -> None:
    properties = table.metadata().configuration
    if any(properties.get(name) != value for name, value in TABLE_PROPERTIES.items()):
        table.alter.set_table_properties(TABLE_PROPERTIES)
    known = {field.name for field in table.schema().fields}
    if missing := [field for field in schema.fields if field.name not in known]:
        table.alter.add_columns(missing)
        log.info("%s gains %s", table.metadata().name, [field.name for field in missing])


def parse_type(ddl: str) -> StructType:
    """Columns from their DDL, such as ``day date, heard_ms long``; Spark's ParseException
    otherwise."""
    return cast(StructType, StructType.fromDDL(ddl))


def row_type(table: DeltaTable) -> StructType:
    """The declared columns as Spark's type, which is also how Delta writes a schema down."""
    fields = [
        StructField(
            column.name,
            parse_type(f"x {column.type}").fields[0].dataType,
            column.nullable,
            {"comment": column.doc},
        )
        for column in table.columns
    ]
    return StructType(fields)


def table_path(settings: Settings, table: str) -> str:
    """Where a Delta table lies: a folder, or an address in an object store."""
    return f"{settings.delta_root.rstrip('/')}/{table}"


def check_edges(stage: Stage) -> None:
    """Raise UndeclaredError unless the stage's edges are those of `jobs.core.facts`."""
    tables = {facts.table for facts in FACTS.values()}
    if set(stage.consumes) != set(FACTS) or set(stage.writes) != tables:
        raise UndeclaredError(
            f"Stage {stage.name} turns {sorted(FACTS)} into {sorted(tables)}: "
            "topology/stages says otherwise."
        )


class TableWriter:
    """Writes micro-batches of one query; knows how far each of its tables has got."""

    def __init__(self, settings: Settings, graph: Graph, topics: list[str]):
        self._settings = settings
        self._graph = graph
        self._facts = {topic: FACTS[topic] for topic in topics}
        self._output = Output(settings, graph, graph.stages[STAGE])
        self._maintenance = Maintenance()
        tables = [facts.table for facts in self._facts.values()]
        self._days = [
            F.collect_set(f"{name}.day").alias(f"days_{name}")
            for name in tables
            if any(column.name == "day" for column in graph.delta_tables[name].columns)
        ]
        self._schemas = {
            name: to_arrow_schema(row_type(graph.delta_tables[name])) for name in tables
        }
        # Taken over before it is read how far they are: nobody else adds to it from here on.
        self._epochs = {name: WriterEpoch(table_path(settings, name)) for name in tables}
        self._applied = {
            facts.table: read_applied(table_path(settings, facts.table), facts.source)
            for facts in self._facts.values()
            if facts.source is not None
        }
        self._forgotten = ForgottenListeners(settings, graph.stages[STAGE])
        partitions = graph.topics[FORGOTTEN].partitions
        self._forgetting = [
            ForgettingTable(
                table_path(settings, facts.table),
                facts.made_from,
                self._epochs[facts.table],
                partitions,
            )
            for facts in self._facts.values()
            if facts.made_from is not None
        ]

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write one micro-batch; `foreachBatch` may call again with what it had before."""
        self._forget()
        decoded = self._decode(batch.where(F.col("topic") != FORGOTTEN)).persist()
        try:
            summary = (
                decoded.groupBy("topic", "source_partition")
                .agg(
                    F.count("*").alias("rows"),
                    F.count("error").alias("errors"),
                    F.max("source_offset").alias("last"),
                    *self._days,
                )
                .collect()
            )
            if any(row["errors"] for row in summary):
                bad = decoded.where("error is not null")
                self._output.dead_letters(
                    bad.select("topic", "partition", "offset", "error").collect()
                )
            for topic, facts in self._facts.items():
                mine = [row for row in summary if row["topic"] == topic]
                rows = sum(row["rows"] - row["errors"] for row in mine)
                if not rows:
                    continue
                table = self._graph.delta_tables[facts.table]
                fresh = decoded.where((F.col("topic") == topic) & F.col("error").isNull())
                days = {day for row in mine for day in row.asDict().get(f"days_{table.name}", ())}
                self._write(fresh, facts, table, rows, days)
                self._maintenance.committed(table_path(self._settings, table.name))
                for row in mine:
                    if row["last"] is not None:
                        self._applied[table.name][row["source_partition"]] = row["last"]
                log.info("%s: %d rows (batch %d)", table.name, rows, batch_id)
        finally:
            decoded.unpersist()

    def _forget(self) -> None:
        """Remove what is forgotten by now: nothing in the micro-batch is made of later events
        without the log having said before whose earlier ones count no more."""
        self._forgotten.read()
        for table in self._forgetting:
            for _ in range(table.forget(self._forgotten.known)):
                self._maintenance.committed(table.path)

    def _decode(self, batch: DataFrame) -> DataFrame:
        forgotten = self._forgotten.known.up_to
        schemas, applied = self._schemas, {name: dict(v) for name, v in self._applied.items()}
        servers = self._settings.kafka_bootstrap_servers
        registry_url = self._settings.schema_registry_url.get_secret_value()
        partitions = self._settings.event_partitions

        def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            decode = wire_decoder(servers, registry_url, partitions)
            return decode_batches(batches, decode, schemas, applied, forgotten)

        # a message may have megabytes: few of them at a time in a Python worker
        batch.sparkSession.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "500")
        batch.sparkSession.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", "16m")
        output = from_arrow_schema(output_schema(schemas))
        return batch.select("topic", "partition", "offset", "key", "value").mapInArrow(run, output)

    def _write(
        self,
        decoded: DataFrame,
        facts: Facts,
        table: DeltaTable,
        rows: int,
        days: Collection[dt.date],
    ) -> None:
        path = table_path(self._settings, table.name)
        row = decoded.select(f"{table.name}.*")
        epoch = self._epochs[table.name]
        if facts.mode == "append" and rows <= FEW_ROWS:
            epoch.append(row.toArrow())
            return
        with epoch.by_spark(decoded.sparkSession):
            if facts.mode == "append":
                tasks = row.coalesce(1)
                if table.partition_by and rows > 10_000:  # a task a day, not a file a task and day
                    tasks = row.repartition(*table.partition_by)
                tasks.write.format("delta").mode("append").save(path)
            else:
                self._merge(decoded, row, facts, table, days)

    def _merge(
        self,
        decoded: DataFrame,
        row: DataFrame,
        facts: Facts,
        table: DeltaTable,
        days: Collection[dt.date],
    ) -> None:
        path = table_path(self._settings, table.name)
        target = Delta.forPath(decoded.sparkSession, path).alias("t")
        if facts.mode == "upsert":
            newest = (
                decoded.groupBy(*(f"{table.name}.{name}" for name in table.key))
                .agg(
                    F.max_by(table.name, "offset").alias("newest"),
                    F.max_by(F.coalesce("deleted", F.lit(False)), "offset").alias("deleted"),
                )
                .select("newest.*", "deleted")
            )
            merge = target.merge(newest.alias("s"), same_key(table)).whenMatchedDelete("s.deleted")
            merge.whenMatchedUpdateAll().whenNotMatchedInsertAll("NOT s.deleted").execute()
        elif facts.mode == "insert":
            first = row.dropDuplicates(list(table.key)).alias("s")
            merge = target.merge(first, f"{same_key(table)} AND {same_days(days)}")
            merge.whenNotMatchedInsertAll().execute()
        else:
            fold_daily(target, row, table, days)


def fold_daily(
    target: Delta, increments: DataFrame, table: DeltaTable, days: Collection[dt.date]
) -> None:
    """Add increments of these days to the daily table, whose alias is ``t``."""
    same_row = f"{same_key(table)} AND {same_days(days)}"
    merge = target.merge(sum_daily(increments, table).alias("s"), same_row)
    merge.whenMatchedUpdate(set=daily_update(table)).whenNotMatchedInsertAll().execute()


def same_key(table: DeltaTable) -> str:
    """The SQL condition that rows of the target ``t`` and the source ``s`` have the same key."""
    return " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)


def same_days(days: Collection[dt.date]) -> str:
    """The condition that keeps MERGE from reading the files of all other days."""
    if len(days) <= MOST_DAYS_NAMED:
        named = ", ".join(f"DATE'{day}'" for day in sorted(days))
        return f"t.day IN ({named})"
    return f"t.day BETWEEN DATE'{min(days)}' AND DATE'{max(days)}'"


@lru_cache(maxsize=1)
def wire_decoder(bootstrap_servers: str, registry_url: str, event_partitions: int) -> Decode:
    """The decoder of a Python worker, kept for as long as the worker lives.

    The worker has its credentials from its own environment, as every process has.
    """
    settings = get_settings().model_copy(
        update={
            "kafka_bootstrap_servers": bootstrap_servers,
            "schema_registry_url": SecretStr(registry_url),
        }
    )
    return Wire(build_graph(event_partitions), open_registry(settings)).decode


def start(spark: SparkSession, settings: Settings, graph: Graph) -> list[Launch]:
    """Create missing tables and give the stage's queries, ready to be launched."""
    stage = graph.stages[STAGE]
    check_edges(stage)
    create_tables(graph, settings)
    log_id = topic_id(settings.kafka_bootstrap_servers, USER_EVENT_BATCHES.name)
    for table in graph.delta_tables:
        bind(table_path(settings, table), log_id)
    launches: list[Launch] = []
    for query in QUERIES:
        topics = query.topics(graph)
        seconds = query.every * settings.delta_trigger_s
        stream = (
            read_topics(spark, settings, stage, [*topics, FORGOTTEN], query.messages)
            .writeStream.queryName(f"{STAGE}.{query.name}")
            .foreachBatch(TableWriter(settings, graph, topics))
            .option("checkpointLocation", checkpoint(settings, stage, query.name))
            .trigger(processingTime=f"{seconds} seconds")
        )
        launches.append(stream.start)
    return launches
