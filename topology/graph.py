"""The declared graph, and what derives from it: dead-letter topics, logs of state, edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from schemas.codec import subject_of
from topology.model import MEGABYTE, Graph, RawTopic, Stage, Table, Topic, resolved
from topology.settings import Settings, get_settings
from topology.stages import STAGES
from topology.stores import COLLECTIONS, DELTA_TABLES
from topology.topics import TOPICS
from topology.versions import own_name, prefix

STATE_SEGMENT_BYTES = 64 * MEGABYTE
"""Small enough that truncating the log of a state frees disk soon."""

STATE_MESSAGE_BYTES = 16 * MEGABYTE
"""Twice the records that states are cut into."""

STATE_SUFFIXES = ("-changelog", "-state")
"""Of the topics behind tables."""


class UndeclaredError(RuntimeError):
    """A stage touched something that the topology does not give it."""


def build_graph(event_partitions: int, version: str = "") -> Graph:
    """The graph for a number of event partitions, with every derived topic in it.

    Of a version beside the first it has the stages that are versioned, under names of its own, and
    the topics that they touch.
    """
    stages = {
        stage.name: replace(
            stage, tables=tuple(resolved(table, event_partitions) for table in stage.tables)
        )
        for stage in STAGES
    }
    topics = {topic.name: resolved(topic, event_partitions) for topic in TOPICS}
    names: dict[str, str] = {}
    if version:
        stages = {name: stage for name, stage in stages.items() if stage.versioned}
        made = [n for stage in stages.values() for n in stage.produces if not topics[n].shared]
        names = {name: own_name(name, version) for name in made}
        stages = {name: _beside(stage, version, names) for name, stage in stages.items()}
        topics = _touched(topics, stages.values(), names)
    consumed = {name for stage in stages.values() for name in stage.consumes}
    for name in sorted(consumed):
        dead = dead_letter_topic(topics[name], version)
        topics[dead.name] = dead
    for stage in stages.values():
        for table in stage.tables:
            state = state_topic(stage, table)
            topics[state.name] = state
    return Graph(
        topics=topics,
        collections={collection.name: collection for collection in COLLECTIONS},
        delta_tables={} if version else {table.name: table for table in DELTA_TABLES},
        stages=stages,
        version=version,
        names=names,
    )


def _beside(stage: Stage, version: str, names: Mapping[str, str]) -> Stage:
    """A stage as a version has it. It hands nothing over, and writes nothing that is shared: what
    is read by all versions is written to once, by the first."""

    def named(topics: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in topics)

    return replace(
        stage,
        consumes=named(stage.consumes),
        broadcast=named(stage.broadcast),
        produces=tuple(names[name] for name in stage.produces if name in names),
        hands_over=(),
        table_version=version,
    )


def _touched(
    topics: Mapping[str, Topic], stages: Iterable[Stage], names: Mapping[str, str]
) -> dict[str, Topic]:
    """The topics that these stages read and write, by the names that they have for them."""
    called = {names.get(name, name): topic for name, topic in topics.items()}
    edges = {name for stage in stages for name in stage.consumes + stage.broadcast + stage.produces}
    return {name: replace(topic, name=name) for name, topic in called.items() if name in edges}


def graph_of(settings: Settings) -> Graph:
    """The graph of these settings."""
    return build_graph(settings.event_partitions, settings.podstream_version)


@lru_cache(maxsize=1)
def get_graph() -> Graph:
    """The graph of this process's settings."""
    return graph_of(get_settings())


def declared_subjects(graph: Graph) -> dict[str, str]:
    """Subject -> schema name, for every Avro topic that the graph's version reads or writes."""
    return {
        subject_of(topic.name): topic.schema
        for topic in graph.topics.values()
        if topic.format == "avro" and topic.schema
    }


def dead_letter_name(topic: str, version: str = "") -> str:
    """The name of the topic that takes the records of ``topic`` that no stage can use.

    Each version has one of its own, also of what all of them read.
    """
    return f"{own_name(topic, version)}.dlq"


def dead_letter_topic(topic: Topic, version: str = "") -> Topic:
    """Where the records of ``topic`` go that no stage can use: original bytes, key and headers."""
    return RawTopic(
        dead_letter_name(topic.name, version),
        f"Records of `{topic.name}` that could not be used, with the reason in the headers.",
        key="as in the source",
        partitions=1,
        max_message_bytes=max(topic.max_message_bytes, 1_048_588) + 65_536,
    )


def app_id(stage: Stage) -> str:
    """The consumer group of a stage, which is also its Faust application id.

    A new version is a new group with new state.
    """
    return f"{prefix(stage.table_version)}{stage.name}-v{stage.version}"


def changelog_name(stage: Stage, table: str) -> str:
    """The topic of a table of form `log`, and the one that Faust kept a keyed table in."""
    return f"{app_id(stage)}-{table}-changelog"


def state_topic(stage: Stage, table: Table) -> Topic:
    """The log behind a table, which its stage truncates.

    Keyed tables were Faust's once, on compacted topics; their logs have names of their own, so
    that they can be read once from there.
    """
    keyed = f"{app_id(stage)}-{table.name}-state"
    return RawTopic(
        keyed if table.form == "keyed" else changelog_name(stage, table.name),
        f"State of `{stage.name}`: {table.doc}",
        key="none; headers tell a change from the whole",
        partitions=table.partitions,
        max_message_bytes=STATE_MESSAGE_BYTES,
        segment_bytes=STATE_SEGMENT_BYTES,
    )


def check_reads(stage: Stage, topic: str) -> None:
    """Raise UndeclaredError unless ``stage`` may read ``topic``."""
    if topic not in stage.consumes + stage.broadcast:
        raise UndeclaredError(
            f"Stage {stage.name} reads topic {topic!r}, which topology/stages does not give it: "
            f"add it to `consumes` or `broadcast` of the stage."
        )


def check_writes(stage: Stage, topic: str) -> None:
    """Raise UndeclaredError unless ``stage`` may write ``topic``, or a dead letter of what it
    consumes or produces."""
    touched = stage.consumes + stage.produces
    own_dead = {dead_letter_name(name, stage.table_version) for name in touched}
    if topic not in stage.produces + stage.hands_over and topic not in own_dead:
        raise UndeclaredError(
            f"Stage {stage.name} writes topic {topic!r}, which topology/stages does not give "
            f"it: add it to `produces` of the stage."
        )


def is_on(stage: Stage, settings: Settings) -> bool:
    """Whether the settings let a stage run that has a switch."""
    return not stage.switch or bool(getattr(settings, stage.switch))


def workers(stages: Iterable[Stage]) -> dict[str, list[Stage]]:
    """The processes of a deployment: worker name -> the stages it runs, in declared order."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.worker, []).append(stage)
    return groups
