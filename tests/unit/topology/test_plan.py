from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import files
from topology.graph import build_graph, declared_subjects
from topology.model import Collection, Graph, Index, Topic
from topology.plan import (
    AlterConfig,
    CreateTopic,
    LeaveAlone,
    Observed,
    ObservedTopic,
    Refuse,
    RegisterSchema,
    as_json,
    changes,
    plan,
    refusals,
)

GOLDEN = Path(__file__).with_name("plan.json")

SMALL = Graph(
    topics={
        topic.name: topic
        for topic in (
            Topic("new", "d", key="user_id", schema="episode_anomaly", partitions=2),
            Topic("drifted", "d", key="user_id", format="raw", cleanup="compact"),
            Topic("grown", "d", key="user_id", format="raw", partitions=8),
            Topic("good", "d", key="user_id", format="raw"),
        )
    },
    collections={
        "served": Collection(
            "served", "d", key="k", indexes=(Index((("a", 1),)), Index((("b", -1),), 60))
        )
    },
)
CLUSTER = Observed(
    brokers=5,
    topics={
        "drifted": ObservedTopic(
            1,
            {
                **SMALL.topics["drifted"].config(),
                "cleanup.policy": "delete",
                "flush.messages": "1",
            },
        ),
        "grown": ObservedTopic(4, SMALL.topics["grown"].config()),
        "good": ObservedTopic(1, SMALL.topics["good"].config()),
        "theirs": ObservedTopic(1, {}),
        "__consumer_offsets": ObservedTopic(50, {}),
    },
    indexes={"served": frozenset({"_id_", "a_1"})},
)


def applied(graph: Graph) -> Observed:
    """A cluster that holds everything."""
    return Observed(
        topics={
            name: ObservedTopic(topic.partitions, topic.config())
            for name, topic in graph.topics.items()
        },
        subjects={
            subject: {v: json.dumps(files.load(name, v)) for v in files.versions(name)}
            for subject, name in declared_subjects(graph).items()
        },
        indexes={
            name: frozenset(index.name for index in collection.indexes)
            for name, collection in graph.collections.items()
        },
    )


def test_plan_of_a_small_graph_is_the_golden_one() -> None:
    found = as_json(plan(SMALL, CLUSTER))
    assert found == json.loads(GOLDEN.read_text()), json.dumps(found, indent=2)


def test_an_empty_cluster_gets_everything() -> None:
    graph = build_graph(4)
    actions = plan(graph, Observed())
    assert {a.topic for a in actions if isinstance(a, CreateTopic)} == graph.topics.keys()
    assert all(a.replication == 1 for a in actions if isinstance(a, CreateTopic))
    assert {a.subject for a in actions if isinstance(a, RegisterSchema)} == (
        declared_subjects(graph).keys()
    )
    assert changes(actions) == actions


def test_an_applied_cluster_needs_nothing() -> None:
    graph = build_graph(4)
    assert plan(graph, applied(graph)) == []


def test_other_partitions_are_refused_with_a_sentence() -> None:
    actions = plan(build_graph(8), applied(build_graph(4)))
    sentences = [action.sentence() for action in refusals(actions)]
    assert any("user-events: it has 4 partitions and the topology wants 8" in s for s in sentences)


def test_topics_come_before_the_schemas_that_are_written_into_one() -> None:
    kinds = [type(action).__name__ for action in plan(build_graph(1), Observed())]
    assert kinds.index("RegisterSchema") > max(i for i, k in enumerate(kinds) if k == "CreateTopic")


@pytest.mark.parametrize(
    ("registered", "kind"),
    [
        ({"type": "record", "name": "episode_anomaly", "fields": []}, Refuse),
        (files.load("episode_anomaly"), None),
    ],
)
def test_a_schema_that_cannot_read_the_log_is_refused(
    registered: dict[str, Any], kind: type | None
) -> None:
    observed = Observed(
        topics={"new": ObservedTopic(2, SMALL.topics["new"].config())},
        subjects={"new-value": {3: json.dumps(registered)}},
    )
    graph = Graph(topics={"new": SMALL.topics["new"]})
    assert [type(action) for action in plan(graph, observed)] == ([kind] if kind else [])


def test_a_compatible_change_becomes_the_next_version() -> None:
    old = files.load("episode_anomaly")
    older = {**old, "fields": [*old["fields"], {"name": "gone", "type": "string"}]}
    observed = Observed(
        topics={"new": ObservedTopic(2, SMALL.topics["new"].config())},
        subjects={"new-value": {3: json.dumps(older)}},
    )
    (action,) = plan(Graph(topics={"new": SMALL.topics["new"]}), observed)
    assert isinstance(action, RegisterSchema)
    assert (action.version, json.loads(action.text)) == (4, old)


def test_sentences_name_what_they_are_about() -> None:
    for action in plan(SMALL, CLUSTER):
        subject = getattr(action, "topic", None) or getattr(action, "subject", None) or "served"
        assert subject in action.sentence()
    alter = AlterConfig("t", {"a": "2"}, {"a": "1"})
    assert alter.sentence() == "set t: a 1 -> 2"
    assert changes([LeaveAlone("x"), alter]) == [alter]
