"""Stage `write_delta`: every fact topic into its Delta table, exactly once.

Two streaming queries, one for the Arrow topics (thousands of rows a message) and one for the Avro
topics (one row a message). A micro-batch is decoded once, by Spark's Python workers, and then
dispatched by table; a table without new rows gets no commit.

`foreachBatch` runs a batch again after a crash. Every table that counts or appends therefore
keeps the source offsets with its rows: at the start the highest offset of each source partition
is read from the table itself, and what is at or below it is a repeat. Data and progress are one
Delta commit, so this holds for a kill -9 at any moment, for batches that come again cut anew, and
for a lost checkpoint. (A `txnAppId` would only cover a batch repeated with the same checkpoint.)
It asks that a table has one writer, and that a listener's events are all in one partition of
`user-events`, which is keyed by listener.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache

import pyarrow as pa
from delta.tables import DeltaTable as Delta
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.streaming import StreamingQuery

from jobs.core.daily import daily_update, sum_daily
from jobs.core.decoding import Decode, decode_batches, output_schema
from jobs.core.facts import FACTS, Facts
from jobs.kafka_source import checkpoint, read_topics
from jobs.output import Output
from schemas.registry import open_registry
from streams.wire import Wire
from topology.graph import UndeclaredError, build_graph
from topology.model import DeltaTable, Graph, Stage
from topology.settings import Settings

log = logging.getLogger(__name__)

STAGE = "write_delta"
QUERIES = {"arrow": ("batches", 256), "avro": ("records", 20_000)}
"""Topic format -> name of the query, and its messages in a micro-batch."""

_TABLE_PROPERTIES = {
    "delta.enableDeletionVectors": "false",  # delta-rs cannot read them
    "delta.columnMapping.mode": "none",  # nor these
    "delta.checkpointInterval": "50",
    "delta.autoOptimize.autoCompact": "true",  # one small file a commit adds up
}


def create_tables(spark: SparkSession, graph: Graph, settings: Settings) -> None:
    """Create the Delta tables that the topology declares, where they are missing."""
    for table in graph.delta_tables.values():
        path = table_path(settings, table.name)
        builder = Delta.createIfNotExists(spark).location(path).comment(table.doc)
        for column in table.columns:
            builder = builder.addColumn(
                column.name, column.type, nullable=column.nullable, comment=column.doc
            )
        for name, value in _TABLE_PROPERTIES.items():
            builder = builder.property(name, value)
        if table.partition_by:
            builder = builder.partitionedBy(*table.partition_by)
        builder.execute()


def table_path(settings: Settings, table: str) -> str:
    return f"{settings.delta_root.rstrip('/')}/{table}"


def check_edges(stage: Stage) -> None:
    """Raise UndeclaredError unless the stage's edges are those of `jobs.core.facts`."""
    tables = {facts.table for facts in FACTS.values()}
    if set(stage.consumes) != set(FACTS) or set(stage.writes) != tables:
        raise UndeclaredError(
            f"Stage {stage.name} turns {sorted(FACTS)} into {sorted(tables)}: "
            "topology/stages.py says otherwise."
        )


class TableWriter:
    """Writes micro-batches of one query; knows how far each of its tables has got."""

    def __init__(self, spark: SparkSession, settings: Settings, graph: Graph, topics: list[str]):
        self._settings = settings
        self._graph = graph
        self._facts = {topic: FACTS[topic] for topic in topics}
        self._output = Output(settings, graph, graph.stages[STAGE])
        self._schemas = {
            facts.table: to_arrow_schema(
                spark.read.format("delta").load(table_path(settings, facts.table)).schema
            )
            for facts in self._facts.values()
        }
        self._applied = {
            facts.table: self._read_applied(spark, facts)
            for facts in self._facts.values()
            if facts.source is not None
        }

    def _read_applied(self, spark: SparkSession, facts: Facts) -> dict[int, int]:
        """Source partition -> highest source offset that a table holds."""
        table = spark.read.format("delta").load(table_path(self._settings, facts.table))
        partition, offset = facts.source or ("", "")
        key = F.col(partition) if partition in table.columns else F.lit(0)
        rows = table.groupBy(key.alias("p")).agg(F.max(offset).alias("o")).collect()
        return {row["p"]: row["o"] for row in rows}

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write one micro-batch; `foreachBatch` may call again with what it had before."""
        decoded = self._decode(batch).persist()
        try:
            summary = (
                decoded.groupBy("topic", "source_partition")
                .agg(
                    F.count("*").alias("rows"),
                    F.count("error").alias("errors"),
                    F.max("source_offset").alias("last"),
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
                self._write(fresh, facts, table, rows)
                for row in mine:
                    if row["last"] is not None:
                        self._applied[table.name][row["source_partition"]] = row["last"]
                log.info("%s: %d rows (batch %d)", table.name, rows, batch_id)
        finally:
            decoded.unpersist()

    def _decode(self, batch: DataFrame) -> DataFrame:
        schemas, applied = self._schemas, {name: dict(v) for name, v in self._applied.items()}
        servers = self._settings.kafka_bootstrap_servers
        registry_url = self._settings.schema_registry_url
        partitions = self._settings.event_partitions

        def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return decode_batches(
                batches, wire_decoder(servers, registry_url, partitions), schemas, applied
            )

        # a message may have megabytes: few of them at a time in a Python worker
        batch.sparkSession.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "500")
        batch.sparkSession.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", "16m")
        output = from_arrow_schema(output_schema(schemas))
        return batch.select("topic", "partition", "offset", "value").mapInArrow(run, output)

    def _write(self, decoded: DataFrame, facts: Facts, table: DeltaTable, rows: int) -> None:
        path = table_path(self._settings, table.name)
        row = decoded.select(f"{table.name}.*")
        if facts.mode == "append":
            tasks = row.coalesce(1)
            if table.partition_by and rows > 10_000:  # one task a day, not a file a task and day
                tasks = row.repartition(*table.partition_by)
            tasks.write.format("delta").mode("append").save(path)
            return
        target = Delta.forPath(decoded.sparkSession, path).alias("t")
        if facts.mode == "upsert":
            newest = (
                decoded.groupBy(*(f"{table.name}.{name}" for name in table.key))
                .agg(F.max_by(table.name, "offset").alias("newest"))
                .select("newest.*")
            )
            merge = target.merge(newest.alias("s"), same_key(table))
            merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
        else:
            merge = target.merge(sum_daily(row, table).alias("s"), same_key(table))
            merge.whenMatchedUpdate(set=daily_update(table)).whenNotMatchedInsertAll().execute()


def same_key(table: DeltaTable) -> str:
    return " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)


@lru_cache(maxsize=1)
def wire_decoder(bootstrap_servers: str, registry_url: str, event_partitions: int) -> Decode:
    """The decoder of a Python worker, kept for as long as the worker lives."""
    settings = Settings.model_validate(
        {"kafka_bootstrap_servers": bootstrap_servers, "schema_registry_url": registry_url}
    )
    return Wire(build_graph(event_partitions), open_registry(settings)).decode


def start(spark: SparkSession, settings: Settings, graph: Graph) -> list[StreamingQuery]:
    """Create missing tables and start the stage's queries."""
    stage = graph.stages[STAGE]
    check_edges(stage)
    create_tables(spark, graph, settings)
    queries = []
    for form, (name, limit) in QUERIES.items():
        topics = [topic for topic in stage.consumes if graph.topics[topic].format == form]
        writer = TableWriter(spark, settings, graph, topics)
        queries.append(
            read_topics(spark, settings, stage, topics, limit)
            .writeStream.queryName(f"{STAGE}.{name}")
            .foreachBatch(writer)
            .option("checkpointLocation", checkpoint(settings, stage, name))
            .trigger(processingTime=f"{settings.delta_trigger_s} seconds")
            .start()
        )
    return queries
