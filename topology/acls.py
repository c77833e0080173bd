"""What each process may do on the brokers, derived from the graph: Kafka's access control lists.

A stage has a user of its name; stages that run in one process may share a user of the worker's
name, and the Spark stages, which are one application, always do. `operator` is whoever runs
`podstream topology apply`, `status`, `dlq`, `import` and `rebuild`. Describing a topic or a group
is implied by reading or writing it, and an idempotent producer needs no more than to write.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schemas.registry import SCHEMAS_TOPIC
from topology.graph import app_id, dead_letter_name
from topology.model import Graph, Stage
from topology.versions import prefix

OPERATOR = "operator"
READERS = "podstream-reader"
"""The group of consumers that assign partitions by hand and commit nothing."""


@dataclass(frozen=True, order=True)
class Grant:
    """One user, what it may do, and on what. ``prefixed``: on all whose names begin so."""

    user: str
    resource: Literal["group", "topic"]
    operations: tuple[str, ...]
    name: str
    prefixed: bool = False


def grants(graph: Graph, *, by_worker: bool = False) -> list[Grant]:
    """Everything that is allowed, each once, in order of users."""
    found = {
        grant
        for stage in graph.stages.values()
        if stage.runner != "streamlit"
        for grant in _stage_grants(graph, stage, _user(stage, by_worker))
    }
    return sorted(found | _purging_grants(graph, by_worker) | _operator_grants(graph))


def _user(stage: Stage, by_worker: bool) -> str:
    return stage.worker if by_worker or stage.runner == "spark" else stage.name


def _stage_grants(graph: Graph, stage: Stage, user: str) -> set[Grant]:
    version = stage.table_version
    dead = tuple(dead_letter_name(topic, version) for topic in stage.consumes)
    read = {*stage.consumes, *stage.broadcast, SCHEMAS_TOPIC}
    if stage.runner == "confluent" and stage.consumes:
        # its state is what it wrote: it reads on from there
        read |= {*stage.produces, *stage.hands_over, *dead}
    found = {Grant(user, "topic", ("Read",), name) for name in read}
    # what its topics do not take, too
    letters = {dead_letter_name(topic, version) for topic in stage.produces}
    too_large = graph.topics.keys() & letters
    written = (*stage.produces, *stage.hands_over, *dead, *too_large)
    found |= {Grant(user, "topic", ("Write",), name) for name in written}
    found.add(Grant(user, "group", ("Read",), READERS))
    # a Spark query reads in groups of its own, whose names begin so
    spark = stage.runner == "spark"
    if stage.consumes:
        found.add(Grant(user, "group", ("Read",), app_id(stage), prefixed=spark))
    if stage.tables:
        operations = ("Delete", "Read", "Write")  # records before a snapshot are deleted
        found.add(Grant(user, "topic", operations, f"{app_id(stage)}-", prefixed=True))
    return found


def _purging_grants(graph: Graph, by_worker: bool) -> set[Grant]:
    """The Spark application deletes what every reader has committed: it looks at their groups.

    Of a version beside the first, which has none, `batch_events` does.
    """
    own = graph.own_topics()
    purged = {name for name, topic in own.items() if topic.purge_after_ms is not None}
    stages = [stage for stage in graph.stages.values() if purged.intersection(stage.consumes)]
    purging = "confluent" if graph.version else "spark"
    users = {_user(stage, by_worker) for stage in graph.stages.values() if stage.runner == purging}
    return {
        grant
        for user in users
        for grant in (
            *(Grant(user, "topic", ("Delete",), name) for name in purged),
            *(Grant(user, "group", ("Describe",), app_id(stage)) for stage in stages),
        )
    }


def _operator_grants(graph: Graph) -> set[Grant]:
    everything = (
        "Alter",
        "AlterConfigs",
        "Create",
        "Delete",
        "Describe",
        "DescribeConfigs",
        "Read",
        "Write",
    )
    own = prefix("")  # what any version has as well
    names = {name for name in graph.topics if not name.startswith(own)} | {SCHEMAS_TOPIC}
    found = {Grant(OPERATOR, "topic", everything, name) for name in names}
    found.add(Grant(OPERATOR, "topic", everything, own, prefixed=True))
    found.add(Grant(OPERATOR, "group", ("Delete", "Describe", "Read"), own, prefixed=True))
    return found


def commands(allowed: Iterable[Grant]) -> list[str]:
    """The grants as `kafka-acls` commands, one for those that differ in their names alone."""
    together: dict[tuple[str, str, tuple[str, ...], bool], list[str]] = {}
    for one in allowed:
        kind = (one.user, one.resource, one.operations, one.prefixed)
        together.setdefault(kind, []).append(one.name)
    lines = []
    for (user, resource, operations, prefixed), names in together.items():
        words = ["--add", "--allow-principal", f"User:{user}"]
        for operation in operations:
            words += ["--operation", operation]
        for name in names:
            words += [f"--{resource}", name]
        if prefixed:
            words += ["--resource-pattern-type", "prefixed"]
        lines.append(
            'kafka-acls --bootstrap-server "$KAFKA_BOOTSTRAP_SERVERS" '
            f"--command-config admin.properties {shlex.join(words)}"
        )
    return lines
