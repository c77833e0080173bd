"""Whether the declared graph makes sense: pure checks, each complaint a sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import fastavro

from schemas import columnar, files
from schemas.compatibility import transitive_problems
from topology.graph import STATE_SUFFIXES, dead_letter_name
from topology.model import Graph, Stage
from topology.settings import Settings
from topology.topics import operations
from topology.topics.events import FORGET_REQUESTS, USER_EVENTS
from topology.topics.ingest import FEEDS

PUBLIC_INPUTS = frozenset({FEEDS.name, USER_EVENTS.name, FORGET_REQUESTS.name})
"""Topics that the world writes to; a stage may do so as well."""

OPERATOR_TOPICS = frozenset(topic.name for topic in operations.TOPICS)
"""Topics that `podstream rebuild`, `podstream dlq` and `podstream topology apply` write."""

DELTA, MONGO = "Delta table", "collection"

_LEGAL_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_LEGAL_STORE = re.compile(r"[a-z][a-z0-9_]*")


def duplicates(kind: str, names: Iterable[str]) -> list[str]:
    """A sentence for each name that is declared more than once."""
    return [
        f"{kind} {name} is declared {times} times"
        for name, times in Counter(names).items()
        if times > 1
    ]


def validate(graph: Graph, *, module_exists: Callable[[str], bool]) -> list[str]:
    """Everything that is wrong with ``graph``; [] if it is sound.

    ``module_exists`` says whether an entry point (`package.module` or a file) is there: that is
    the only question put to the world outside.
    """
    return [
        *_topic_problems(graph),
        *_schema_problems(graph),
        *_store_problems(graph),
        *_edge_problems(graph),
        *_state_problems(graph),
        *_entry_problems(graph, module_exists),
    ]


def store_of(graph: Graph, stage: Stage, name: str) -> tuple[str, str]:
    """(kind, name) of a store that a stage touches: both kinds may have one of that name.

    Spark stages work on Delta; the others on MongoDB, and on Delta where only that has the name.
    """
    is_delta = stage.runner == "spark" or name not in graph.collections
    return (DELTA if is_delta else MONGO), name


def _topic_problems(graph: Graph) -> Iterator[str]:
    clashes = Counter(name.replace(".", "_") for name in graph.topics)
    for name, topic in graph.topics.items():
        if not _LEGAL_TOPIC.fullmatch(name) or name in (".", ".."):
            yield f"topic {name!r} is no legal Kafka name: letters, digits, '.', '_', '-' only"
        if clashes[name.replace(".", "_")] > 1:
            yield f"topic {name} differs from another one only by '.' and '_': metrics collide"
        if topic.partitions < 1:
            yield f"topic {name} has {topic.partitions} partitions"
        if not topic.doc or not topic.key:
            yield f"topic {name} does not say what it holds and what its key is"
        if topic.format in ("avro", "arrow") and not topic.schema:
            yield f"topic {name} is {topic.format} and names no schema"


def _schema_problems(graph: Graph) -> Iterator[str]:
    for name, topic in graph.topics.items():
        if topic.schema is None:
            continue
        try:
            files.parsed(topic.schema)
        except KeyError:
            yield f"topic {name} names schema {topic.schema}, which has no file in schemas/"
            continue
        except (ValueError, fastavro.schema.SchemaParseException) as error:
            yield f"schema {topic.schema} of topic {name} does not parse: {error}"
            continue
        yield from _version_problems(topic.schema)
        if topic.format == "arrow":
            try:
                columnar.columns(topic.schema)
            except (KeyError, ValueError, TypeError):
                yield f"topic {name} is arrow, and schema {topic.schema} is not flat"


def _version_problems(name: str) -> Iterator[str]:
    """What keeps a version of a record from reading all that the versions before it wrote."""
    versions = files.versions(name)
    schemas = [files.load(name, version) for version in versions]
    for number, version in enumerate(versions):
        for problem in transitive_problems(schemas[number], schemas[:number]):
            yield f"{name}.v{version}.avsc cannot read what versions before it wrote: {problem}"


def _store_problems(graph: Graph) -> Iterator[str]:
    for name, collection in graph.collections.items():
        if not _LEGAL_STORE.fullmatch(name):
            yield f"collection {name!r} is no snake_case name"
        yield from duplicates(f"index of {name}", (index.name for index in collection.indexes))
    for name, table in graph.delta_tables.items():
        columns = [column.name for column in table.columns]
        yield from duplicates(f"column of {name}", columns)
        for column in (*table.key, *table.partition_by):
            if column not in columns:
                yield f"Delta table {name} is keyed or partitioned by {column}, which it lacks"


def _edge_problems(graph: Graph) -> Iterator[str]:
    produced = {topic for stage in graph.stages.values() for topic in stage.produces}
    read = {topic for stage in graph.stages.values() for topic in stage.consumes + stage.broadcast}
    if graph.version:
        produced |= {name for name, topic in graph.topics.items() if topic.shared}
    known_stores = {*graph.collections, *graph.delta_tables}
    for name, stage in graph.stages.items():
        for topic in stage.consumes + stage.broadcast:
            if topic not in graph.topics:
                yield f"stage {name} reads topic {topic!r}, which is not declared"
            elif topic not in produced | PUBLIC_INPUTS | OPERATOR_TOPICS:
                yield f"stage {name} reads topic {topic}, which no stage produces"
        for topic in stage.produces:
            if topic not in graph.topics:
                yield f"stage {name} produces topic {topic!r}, which is not declared"
        for topic in stage.consumes:
            if topic in graph.topics and dead_letter_name(topic, graph.version) not in graph.topics:
                yield f"topic {topic} is consumed by {name} and has no dead-letter topic"
        yield from duplicates(f"topic of {name}", stage.consumes + stage.broadcast)
        for store in stage.reads + stage.writes:
            if store not in known_stores:
                yield f"stage {name} touches store {store!r}, which is not declared"
        for topic in set(stage.hands_over) - set(stage.consumes):
            yield f"stage {name} hands records of {topic} over, which it does not consume"
        if set(stage.consumes) & set(stage.produces):
            yield f"stage {name} consumes what it produces: an endless loop"
    used = produced | read | OPERATOR_TOPICS
    derived = {dead_letter_name(topic, graph.version) for topic in read}
    for topic, declared in graph.topics.items():
        is_state = declared.name.endswith(STATE_SUFFIXES)
        if topic not in used | derived and not is_state:
            yield f"topic {topic} is an orphan: no stage reads or writes it"
    stages = graph.stages.values()
    writes = Counter(store_of(graph, stage, store) for stage in stages for store in stage.writes)
    reads = {store_of(graph, stage, store) for stage in stages for store in stage.reads}
    for kind, store in sorted(reads - writes.keys()):
        yield f"{kind} {store} is read, and no stage writes it"
    for (kind, store), times in sorted(writes.items()):
        if kind == DELTA and times > 1:
            yield f"{kind} {store} has {times} writers: one process must own it"


def _state_problems(graph: Graph) -> Iterator[str]:
    for name, stage in graph.stages.items():
        if not stage.tables:
            continue
        if not stage.consumes:
            yield f"stage {name} keeps tables and consumes nothing that could own them"
            continue
        counts = {t: graph.topics[t].partitions for t in stage.consumes if t in graph.topics}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{topic} {number}" for topic, number in counts.items())
            yield f"stage {name} keeps tables, so its topics need equal partitions: {listed}"
        source = counts.get(stage.consumes[0])
        for table in stage.tables:
            if source is not None and table.partitions != source:
                yield (
                    f"table {table.name} of {name} has {table.partitions} partitions and its "
                    f"source {stage.consumes[0]} has {source}: a partition could not have its state"
                )


def _entry_problems(graph: Graph, module_exists: Callable[[str], bool]) -> Iterator[str]:
    runners: dict[str, set[str]] = {}
    for name, stage in graph.stages.items():
        if not _LEGAL_STORE.fullmatch(name):
            yield f"stage {name!r} is no snake_case name"
        if not module_exists(stage.entry_point):
            yield f"stage {name} names entry point {stage.entry_point}, which does not exist"
        elif _base(stage) != name and stage.runner not in ("streamlit",):
            yield f"stage {name} lives in {stage.entry_point}: a stage's module has its name"
        if stage.switch and Settings.model_fields.get(stage.switch) is None:
            yield f"stage {name} is switched by {stage.switch}, which is no setting"
        runners.setdefault(stage.worker, set()).add(stage.runner)
    for worker, kinds in runners.items():
        if len(kinds) > 1:
            yield f"worker {worker} mixes runners {', '.join(sorted(kinds))}: one process has one"


def _base(stage: Stage) -> str:
    return stage.entry_point.rpartition(".")[2]
