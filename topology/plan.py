"""What must change so that a cluster holds what the graph declares: a pure difference.

Nothing here deletes, and what cannot be changed without moving keys or breaking readers comes out
as a refusal with a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas import files
from schemas.codec import subject_of
from schemas.compatibility import transitive_problems
from topology.graph import declared_subjects
from topology.model import Graph, Index, Topic
from topology.versions import version_of

MAX_REPLICATION = 3


@dataclass(frozen=True)
class ObservedTopic:
    """A topic as the broker has it; ``config`` holds at least the declared settings."""

    partitions: int
    config: dict[str, str]


@dataclass(frozen=True)
class Observed:
    """A cluster as it is: brokers, topics, registered schemas, index names of collections.

    ``subjects`` maps a subject to its schema texts by version.
    """

    brokers: int = 1
    topics: dict[str, ObservedTopic] = field(default_factory=dict)
    subjects: dict[str, dict[int, str]] = field(default_factory=dict)
    indexes: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class CreateTopic:
    """A declared topic that the broker lacks."""

    topic: str
    partitions: int
    replication: int
    config: dict[str, str]

    def sentence(self) -> str:
        """What would be done, in words."""
        return f"create topic {self.topic} with {self.partitions} partitions"


@dataclass(frozen=True)
class AlterConfig:
    """Settings of a topic that are not as declared; ``was`` has the broker's, None where it has its
    default."""

    topic: str
    changes: dict[str, str]
    was: dict[str, str | None]

    def sentence(self) -> str:
        """What would be done, in words."""
        moves = (f"{key} {self.was[key]} -> {value}" for key, value in self.changes.items())
        return f"set {self.topic}: {', '.join(moves)}"


@dataclass(frozen=True)
class RegisterSchema:
    """A version of a schema that the registry lacks; ``text`` is its JSON."""

    subject: str
    version: int
    text: str

    def sentence(self) -> str:
        """What would be done, in words."""
        return f"register version {self.version} of {self.subject}"


@dataclass(frozen=True)
class CreateIndex:
    """A declared index that a MongoDB collection lacks."""

    collection: str
    index: Index

    def sentence(self) -> str:
        """What would be done, in words."""
        return f"create index {self.index.name} on {self.collection}"


@dataclass(frozen=True)
class LeaveAlone:
    """A topic that the graph does not know: it is somebody else's, or of an older version."""

    topic: str

    def sentence(self) -> str:
        """What would be left, in words."""
        return f"leave topic {self.topic} alone: it is not in the topology"


@dataclass(frozen=True)
class Refuse:
    """Something that must not be done silently; nothing of the plan is applied."""

    subject: str
    reason: str

    def sentence(self) -> str:
        """What stands in the way, in words."""
        return f"refuse {self.subject}: {self.reason}"


Action = CreateTopic | AlterConfig | RegisterSchema | CreateIndex | LeaveAlone | Refuse


def plan(graph: Graph, observed: Observed) -> list[Action]:
    """The actions that make ``observed`` hold ``graph``, in the order to apply them."""
    return [
        *_plan_topics(graph, observed),
        *_plan_schemas(graph, observed),
        *_plan_indexes(graph, observed),
    ]


def changes(actions: Sequence[Action]) -> list[Action]:
    """The actions that change something."""
    return [action for action in actions if not isinstance(action, LeaveAlone | Refuse)]


def refusals(actions: Sequence[Action]) -> list[Refuse]:
    """What stands in the way of the whole plan."""
    return [action for action in actions if isinstance(action, Refuse)]


def as_json(actions: Sequence[Action]) -> list[dict[str, Any]]:
    """The actions as JSON data; schema texts are left out."""
    described = []
    for action in actions:
        fields = asdict(action)
        fields.pop("text", None)
        described.append({"action": type(action).__name__, **fields})
    data: list[dict[str, Any]] = json.loads(json.dumps(described))
    return data


def _plan_topics(graph: Graph, observed: Observed) -> Iterator[Action]:
    for name, topic in sorted(graph.own_topics().items()):
        there = observed.topics.get(name)
        if there is None:
            replication = min(MAX_REPLICATION, observed.brokers)
            yield CreateTopic(name, topic.partitions, replication, topic.config())
            continue
        if there.partitions != topic.partitions:
            yield _refuse_partitions(topic, there.partitions)
        drifted = {
            key: value
            for key, value in sorted(topic.config().items())
            if there.config.get(key) != value
        }
        if drifted:
            yield AlterConfig(name, drifted, {key: there.config.get(key) for key in drifted})
    for name in sorted(observed.topics.keys() - graph.topics.keys()):
        if version_of(name) == graph.version and not name.startswith("__"):  # the broker's own
            yield LeaveAlone(name)


def _refuse_partitions(topic: Topic, partitions: int) -> Refuse:
    """Every topic is keyed, or its partition number owns state: neither survives a new count."""
    return Refuse(
        topic.name,
        f"it has {partitions} partitions and the topology wants {topic.partitions}; a different "
        f"count would put keys ({topic.key}) and the state that hangs on them elsewhere. Keep "
        f"EVENT_PARTITIONS as it was, or import into a new cluster.",
    )


def _plan_schemas(graph: Graph, observed: Observed) -> Iterator[Action]:
    own = {subject_of(topic) for topic in graph.own_topics()}
    for subject, name in sorted(declared_subjects(graph).items()):
        if subject not in own:
            continue
        registered = dict(observed.subjects.get(subject, {}))
        for file_version in files.versions(name):
            schema = files.load(name, file_version)
            known = [json.loads(text) for _, text in sorted(registered.items())]
            if schema in known:
                continue
            problems = transitive_problems(schema, known)
            if problems:
                yield Refuse(
                    subject,
                    f"{name}.v{file_version}.avsc cannot read what is in the log: "
                    + "; ".join(problems),
                )
                break
            version = max(registered, default=0) + 1
            text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
            registered[version] = text
            yield RegisterSchema(subject, version, text)


def _plan_indexes(graph: Graph, observed: Observed) -> Iterator[Action]:
    for name, collection in sorted(graph.collections.items()):
        for index in collection.indexes:
            if index.name not in observed.indexes.get(name, frozenset()):
                yield CreateIndex(name, index)
