"""Topics as Spark streams."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streams.operations.checkpoints import Offsets
from topology.access import java_client
from topology.graph import app_id, check_reads
from topology.model import Stage
from topology.settings import Settings

Launch = Callable[[], StreamingQuery]
"""Starts a query, from its checkpoint; may be called again once the query has ended."""


def read_topics(
    spark: SparkSession, settings: Settings, stage: Stage, topics: Sequence[str], limit: int
) -> DataFrame:
    """The records of topics, from the first offset, at most ``limit`` in a micro-batch.

    Columns as Spark's Kafka source names them. Raises UndeclaredError for a topic that the stage
    does not consume. A gap left by compaction is fine; offsets that are gone end the query: nothing
    takes them away before `jobs.housekeeping` has said that they were read.
    """
    for topic in topics:
        check_reads(stage, topic)
    # options of the source, not of the session: those are on the JVM's command line and its page
    secured = {f"kafka.{name}": value for name, value in java_client(settings).items()}
    return (
        spark.readStream.format("kafka")
        .options(**secured)
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
        .option("groupIdPrefix", app_id(stage))
        .option("subscribe", ",".join(topics))
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", limit)
        .load()
    )


def checkpoint(settings: Settings, stage: Stage, query: str = "") -> str:
    """Where a query of a stage keeps its progress; `podstream status` reads the lag there."""
    folder = f"{settings.checkpoint_root.rstrip('/')}/{stage.name}"
    return f"{folder}/{query}" if query else folder


def failed_to_report(query: StreamingQuery) -> bool:
    """Whether a query has ended by a fault of Spark 4.1's Kafka source, and may be launched again.

    After a kill, the source trips over the figures of the micro-batch it repeats: it subtracts
    from latest offsets that it has not asked for yet. The batch is written and committed by then.
    """
    text = str(query.exception())
    return "IterableOps.map" in text and "Option.get()" in text


def reached(queries: Iterable[StreamingQuery]) -> dict[str, Offsets]:
    """Stage -> topic -> partition -> the offset below which its query reads nothing again.

    A query is named by its stage, with what sets it apart after a point.
    """
    found: dict[str, Offsets] = {}
    for query in queries:
        # A progress is reported once its micro-batch is in the query's own log of commits.
        progress = query.lastProgress
        for source in progress.sources if progress is not None else ():
            # pyspark hands the source's JSON on in Python's notation
            for topic, partitions in (ast.literal_eval(source.endOffset) or {}).items():
                stage = found.setdefault(query.name.partition(".")[0], {})
                stage[topic] = {int(number): offset for number, offset in partitions.items()}
    return found
