"""Measures a running instance: processes and their memory, each stage's lag, each store's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from streams.cli.hosts import HostStatus, source_hosts
from streams.cli.local.supervise import Supervisor
from streams.cli.log_view import TIMEOUT_S, DeadLetters, LogView
from streams.monitoring.instruments import memory_bytes
from streams.operations import disk
from streams.operations.arrivals import Arrivals, measure_arrivals
from streams.operations.checkpoints import Offsets, checkpoints
from streams.recommendation.core.listing import refused_lately, serving
from streams.serving.mongo import models
from streams.serving.mongo.failures import failing
from topology.graph import app_id, build_graph, is_on
from topology.model import Graph, Stage
from topology.settings import Settings
from topology.topics.events import USER_EVENTS
from topology.topics.recommendation import MODEL_GENERATIONS

if TYPE_CHECKING:
    from deltalake import DeltaTable

EPISODES, TRANSCRIPTS = "episodes", "transcripts"
"""The collection and the Delta table whose records have notes."""
COUNTING_STAGE = "track_engagement"
MOST_TABLES = 100


@dataclass(frozen=True)
class ProcessStatus:
    """A process of the instance: its name, what the supervisor says of it, and its resident memory
    in bytes."""

    name: str
    pid: int
    state: str
    rss_bytes: int


@dataclass(frozen=True)
class StageLag:
    """``lag``: records of its source topics, over all partitions, that wait for a stage; None where
    its progress lies where only Spark can read it."""

    name: str
    lag: int | None


@dataclass(frozen=True)
class StoreRows:
    """``kind`` is ``mongodb`` or ``delta``: two stores may share a name."""

    name: str
    rows: int
    kind: str


@dataclass(frozen=True)
class Noted:
    """Records with notes on how they were read; ``transcripts`` is None where it was not asked."""

    episodes: int
    transcripts: int | None


@dataclass(frozen=True)
class StageFailure:
    """A stage that fails while others of its process go on; ``retry_at`` in ISO 8601, UTC."""

    stage: str
    attempts: int
    error: str
    retry_at: str


@dataclass(frozen=True)
class ModelStatus:
    """A generation of the recommendation model that serves, or is refused; ``because`` says why."""

    generation: str
    state: str
    because: str


@dataclass
class Status:
    """What `podstream status --json` prints."""

    processes: list[ProcessStatus] = field(default_factory=list)
    stages: list[StageLag] = field(default_factory=list)
    stores: list[StoreRows] = field(default_factory=list)
    dead_letters: list[DeadLetters] = field(default_factory=list)
    late_events: int = 0
    """Events that came too late for the live tables; history has them."""
    arrivals: Arrivals = field(default_factory=Arrivals)
    noted: Noted = field(default_factory=lambda: Noted(0, None))
    failures: list[StageFailure] = field(default_factory=list)
    """Stages whose latest attempt failed, and which try again."""
    models: list[ModelStatus] = field(default_factory=list)
    """The generation that lists are made with, and those newer ones that are refused."""
    hosts: list[HostStatus] = field(default_factory=list)
    """Hosts that episodes come from, in trouble or used lately."""
    disk: dict[str, Any] = field(default_factory=dict)
    """What `streams.operations.disk.DiskStatus` holds."""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON data, for `podstream status --json`."""
        return asdict(self)


def measure(settings: Settings, *, delta: bool = True) -> Status:
    """Measure the instance. ``delta=False`` leaves Delta's row counts out, which cost most.

    Raises KafkaException and PyMongoError where a service does not answer.
    """
    graph = running_graph(settings)
    log = LogView(settings.kafka_bootstrap_servers, graph)
    return Status(
        processes=process_status(settings),
        stages=stage_lags(log, settings),
        stores=[*mongo_rows(settings, graph), *(delta_rows(settings, graph) if delta else ())],
        dead_letters=log.dead_letters(),
        late_events=late_events(settings),
        arrivals=measure_arrivals(settings, TIMEOUT_S),
        noted=Noted(noted_episodes(settings), noted_transcripts(settings) if delta else None),
        failures=stage_failures(settings),
        models=model_status(settings),
        hosts=source_hosts(settings, graph),
        disk=disk.measure(settings).as_dict(),
    )


def running_graph(settings: Settings) -> Graph:
    """The graph without the stages that are switched off."""
    graph = build_graph(settings.event_partitions)
    stages = {name: stage for name, stage in graph.stages.items() if is_on(stage, settings)}
    return replace(graph, stages=stages)


# -- processes -----------------------------------------------------------------------------------


def process_status(settings: Settings) -> list[ProcessStatus]:
    """Every supervised process; none where no supervisor runs (a cluster has its own)."""
    supervisor = Supervisor(settings.podstream_home)
    if not supervisor.running():
        return []
    return [
        ProcessStatus(p.name, p.pid, p.state, memory_bytes(p.pid) if p.pid else 0)
        for p in supervisor.processes()
    ]


# -- lag -----------------------------------------------------------------------------------------


def stage_lags(log: LogView, settings: Settings) -> list[StageLag]:
    """How many records wait for each stage of the graph."""
    stages = log.graph.stages.values()
    with ThreadPoolExecutor(4) as pool:
        lags = pool.map(lambda stage: stage_lag(stage, log, settings), stages)
        return [StageLag(stage.name, lag) for stage, lag in zip(stages, lags, strict=True)]


def stage_lag(stage: Stage, log: LogView, settings: Settings) -> int | None:
    """How many records wait for a stage; 0 for one that consumes nothing.

    None if Spark's checkpoints cannot be read from here.
    """
    if stage.runner == "spark":
        if not stage.consumes:
            return _training_lag(stage, log, settings)
        others = [s.name for s in log.graph.stages.values() if s.runner == "spark" and s != stage]
        progress = checkpoints(settings.checkpoint_root)
        if progress is None:
            return None
        done = spark_progress(stage, others, progress)
        return log.lag(stage.consumes, done)
    return log.lag(stage.consumes, log.committed(app_id(stage), stage.consumes))


def _training_lag(stage: Stage, log: LogView, settings: Settings) -> int:
    """Events that the newest published model has not seen."""
    from schemas.codec import RecordCodec
    from streams.kafka.registry import open_registry

    topic = next((name for name in stage.produces if name == MODEL_GENERATIONS.name), None)
    value = log.last_value(topic) if topic else None
    done: Offsets = {}
    if topic and value is not None:
        schema = log.graph.topics[topic].schema
        record = RecordCodec(topic, str(schema), open_registry(settings)).decode(value)
        done[USER_EVENTS.name] = {
            seen["source_partition"]: seen["offset"] + 1 for seen in record["offsets"]
        }
    return log.lag([USER_EVENTS.name], done)


def spark_progress(stage: Stage, others: list[str], queries: Mapping[str, Offsets]) -> Offsets:
    """How far a Spark stage is: of each topic, the slowest of the queries that are its own.

    A query belongs to the stage whose name begins one of its path's parts, else to any.
    """

    def belongs_to(name: str, stage_name: str) -> bool:
        return any(part.startswith(stage_name) for part in PurePosixPath(name).parts)

    slowest: Offsets = {}
    for name, offsets in queries.items():
        if any(belongs_to(name, other) for other in others):
            continue
        for topic, partitions in offsets.items():
            known = slowest.setdefault(topic, dict(partitions))
            for partition, offset in partitions.items():
                known[partition] = min(known.get(partition, offset), offset)
    return {topic: done for topic, done in slowest.items() if topic in stage.consumes}


# -- stores --------------------------------------------------------------------------------------


@contextmanager
def _database(settings: Settings) -> Iterator[Any]:
    from pymongo import MongoClient

    client: MongoClient[dict[str, Any]] = MongoClient(
        settings.mongodb_uri.get_secret_value(),
        # On a busy machine the first answer takes some seconds.
        serverSelectionTimeoutMS=int(TIMEOUT_S * 1000),
    )
    with client:
        yield client[settings.mongodb_database]


def mongo_rows(settings: Settings, graph: Graph) -> list[StoreRows]:
    """How many documents every declared collection holds. PyMongoError where MongoDB fails."""
    with _database(settings) as database:
        return [
            StoreRows(name, database[name].estimated_document_count(), "mongodb")
            for name in graph.collections
        ]


def counting_progress(settings: Settings) -> list[dict[str, Any]]:
    """How far the live tables have got with each source partition (`table_progress`).

    PyMongoError where MongoDB fails.
    """
    with _database(settings) as database:
        ids = [f"{COUNTING_STAGE}|{number}" for number in range(settings.event_partitions)]
        return list(database["table_progress"].find({"_id": {"$in": ids}}))


def late_events(settings: Settings) -> int:
    """How many events came too late for the live tables. PyMongoError where MongoDB fails."""
    return sum(document["late"] for document in counting_progress(settings))


def table_generations(settings: Settings) -> dict[str, int]:
    """Table -> the generation that is served. PyMongoError where MongoDB fails."""
    with _database(settings) as database:
        found = database["table_generations"].find().sort("_id", 1).limit(MOST_TABLES)
        return {document["table"]: document["generation"] for document in found}


def stage_failures(settings: Settings) -> list[StageFailure]:
    """The stages that have failed since they last succeeded. PyMongoError where MongoDB fails."""
    with _database(settings) as database:
        return [
            StageFailure(
                found["stage"],
                found["attempts"],
                found["error"] or "an attempt is under way",
                found["retry_at"].replace(tzinfo=UTC).isoformat(timespec="seconds"),
            )
            for found in failing(database["stage_failures"])
        ]


def model_status(settings: Settings) -> list[ModelStatus]:
    """Which generation serves, and which newer ones are refused. PyMongoError where MongoDB
    fails."""
    with _database(settings) as database:
        found = models.generations(database.__getitem__, settings.als_kept)
    told = [*refused_lately(found), *filter(None, [serving(found)])]
    return [ModelStatus(one.generation, one.state, one.because) for one in told]


def noted_episodes(settings: Settings) -> int:
    """How many episodes have notes on how they were read. PyMongoError where MongoDB fails."""
    with _database(settings) as database:
        return int(database[EPISODES].count_documents({"note_count": {"$gt": 0}}))


def noted_transcripts(settings: Settings) -> int:
    """How many transcripts have notes on how they were read, by the Delta table."""
    if (table := _delta_table(settings, TRANSCRIPTS)) is None:
        return 0
    rows = table.to_pyarrow_dataset()
    if "notes" not in rows.schema.names:  # nothing was written since there are notes
        return 0
    batches = rows.to_batches(columns=["notes"])
    lengths = (pc.sum(pc.greater(pc.list_value_length(batch["notes"]), 0)) for batch in batches)
    return sum(int(length.as_py() or 0) for length in lengths)


def delta_rows(settings: Settings, graph: Graph) -> list[StoreRows]:
    """How many rows every declared Delta table holds; 0 for one not written yet."""

    def count(name: str) -> int:
        table = _delta_table(settings, name)
        # From the log's statistics, else from the files' footers.
        return 0 if table is None else table.count()

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(count, graph.delta_tables))
    rows = zip(graph.delta_tables, counts, strict=True)
    return [StoreRows(name, number, "delta") for name, number in rows]


def _delta_table(settings: Settings, name: str) -> DeltaTable | None:
    """A table of the lake; None as long as nothing has been written to it."""
    from deltalake import DeltaTable

    uri = f"{settings.delta_root.rstrip('/')}/{name}"
    return DeltaTable(uri) if DeltaTable.is_deltatable(uri) else None
