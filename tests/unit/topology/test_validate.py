from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from streams.cli.commands.graph import module_exists
from topology.graph import build_graph
from topology.model import Collection, Graph, Stage, Topic
from topology.validate import duplicates, validate

GRAPH = build_graph(4)


def problems(graph: Graph) -> list[str]:
    return validate(graph, module_exists=lambda _: True)


def with_stage(name: str, **changes: object) -> Graph:
    stage = replace(GRAPH.stages[name], **changes)  # type: ignore[arg-type]
    return replace(GRAPH, stages={**GRAPH.stages, name: stage})


def with_topic(name: str, **changes: object) -> Graph:
    topic = replace(GRAPH.topics[name], **changes)  # type: ignore[arg-type]
    return replace(GRAPH, topics={**GRAPH.topics, name: topic})


def plus_topic(topic: Topic) -> Graph:
    return replace(GRAPH, topics={**GRAPH.topics, topic.name: topic})


def plus_stage(stage: Stage) -> Graph:
    return replace(GRAPH, stages={**GRAPH.stages, stage.name: stage})


def test_the_declared_graph_is_sound() -> None:
    assert validate(GRAPH, module_exists=module_exists) == []


@pytest.mark.parametrize("partitions", [1, 2, 64])
def test_it_is_sound_for_any_number_of_partitions(partitions: int) -> None:
    assert problems(build_graph(partitions)) == []


CASES: dict[str, tuple[Callable[[], Graph], str]] = {
    "unknown input": (
        lambda: with_stage("rank_trending", consumes=("nothing",)),
        "stage rank_trending reads topic 'nothing', which is not declared",
    ),
    "unknown switch": (
        lambda: with_stage("transcribe_audio", switch="nothing"),
        "stage transcribe_audio is switched by nothing, which is no setting",
    ),
    "unknown output": (
        lambda: with_stage("rank_trending", produces=("nothing",)),
        "stage rank_trending produces topic 'nothing', which is not declared",
    ),
    "nobody produces it": (
        lambda: with_stage("discover_episodes", produces=()),
        "stage download_episodes reads topic episode-ids, which no stage produces",
    ),
    "orphan": (
        lambda: plus_topic(Topic("lost", "d", key="k", format="raw")),
        "topic lost is an orphan: no stage reads or writes it",
    ),
    "illegal name": (
        lambda: plus_topic(Topic("a topic", "d", key="k", format="raw")),
        "topic 'a topic' is no legal Kafka name",
    ),
    "names that collide in metrics": (
        lambda: plus_topic(Topic("user-events_dlq", "d", key="k", format="raw")),
        "topic user-events_dlq differs from another one only by '.' and '_'",
    ),
    "no such schema": (
        lambda: with_topic("episode-ids", schema="nothing"),
        "topic episode-ids names schema nothing, which has no file",
    ),
    "no schema at all": (
        lambda: with_topic("episode-ids", schema=None),
        "topic episode-ids is avro and names no schema",
    ),
    "nested arrow": (
        lambda: with_topic("engagement-windows", schema="recommendation"),
        "topic engagement-windows is arrow, and schema recommendation is not flat",
    ),
    "table partitions": (
        lambda: with_topic("user-event-batches", partitions=5),
        "table engagement_state of track_engagement has 4 partitions and its source "
        "user-event-batches has 5",
    ),
    "not co-partitioned": (
        lambda: with_stage("recommend", consumes=("user-event-batches", "episode-metadata")),
        "stage recommend keeps tables, so its topics need equal partitions: "
        "user-event-batches 4, episode-metadata 2",
    ),
    "unknown store": (
        lambda: with_stage("dashboard", reads=("nothing",)),
        "stage dashboard touches store 'nothing', which is not declared",
    ),
    "nobody writes it": (
        lambda: with_stage("write_delta", writes=("episodes",)),
        "Delta table user_vs_episode_daily is read, and no stage writes it",
    ),
    "two Delta writers": (
        lambda: with_stage("train_als", writes=("episodes",)),
        "Delta table episodes has 2 writers",
    ),
    "loop": (
        lambda: with_stage("rank_trending", produces=("engagement-windows",)),
        "stage rank_trending consumes what it produces",
    ),
    "no dead letters": (
        lambda: replace(
            GRAPH, topics={k: v for k, v in GRAPH.topics.items() if k != "user-events.dlq"}
        ),
        "topic user-events is consumed by batch_events and has no dead-letter topic",
    ),
    "mixed worker": (
        lambda: with_stage("batch_events", worker="track"),
        "worker track mixes runners confluent, faust",
    ),
    "module named otherwise": (
        lambda: with_stage("batch_events", entry_point="streams.batcher"),
        "stage batch_events lives in streams.batcher",
    ),
    "bad collection name": (
        lambda: replace(
            GRAPH, collections={**GRAPH.collections, "A$": Collection("A$", "d", key="k")}
        ),
        "collection 'A$' is no snake_case name",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fault_is_told_in_a_sentence(case: str) -> None:
    make, sentence = CASES[case]
    assert any(sentence in problem for problem in problems(make())), problems(make())


def test_a_missing_module_is_told() -> None:
    missing = "streams.recommendation.recommend"
    found = validate(GRAPH, module_exists=lambda name: name != missing)
    assert found == [f"stage recommend names entry point {missing}, which does not exist"]


def test_names_declared_twice() -> None:
    assert duplicates("topic", ["a", "b", "a"]) == ["topic a is declared 2 times"]
