"""Who may do what on the brokers, as far as the graph says."""

from __future__ import annotations

import shlex

from topology.acls import OPERATOR, Grant, commands, grants
from topology.graph import app_id, build_graph

GRAPH = build_graph(2)


def may(user: str, operation: str, kind: str = "topic") -> set[str]:
    return {
        one.name
        for one in grants(GRAPH)
        if one.user == user and one.resource == kind and operation in one.operations
    }


def test_a_stage_may_write_what_it_produces_and_its_dead_letters_only() -> None:
    stage = GRAPH.stages["rank_trending"]
    own = f"podstream-rank_trending-v{stage.version}-"
    dead = {f"{name}.dlq" for name in (*stage.consumes, *stage.produces)}
    assert may(stage.name, "Write") == {*stage.produces, *dead, own}
    assert may(stage.name, "Read") == {*stage.consumes, *stage.broadcast, "_schemas", own}
    assert may(stage.name, "Delete") == {own}
    assert may(stage.name, "Create") == may(stage.name, "AlterConfigs") == set()


def test_no_stage_may_use_anothers_group() -> None:
    groups = [
        (one.user, one.name)
        for one in grants(GRAPH)
        if one.resource == "group" and one.name != "podstream-reader" and one.user != OPERATOR
        if "Read" in one.operations
    ]
    assert all(name.startswith("podstream-") for _, name in groups)
    assert len({name for _, name in groups}) == len(groups)


def test_state_names_of_no_two_stages_begin_alike() -> None:
    prefixes = {one.name for one in grants(GRAPH) if one.prefixed and one.user != OPERATOR}
    states = [name for name in GRAPH.topics if name.startswith("podstream-")]
    for state in states:
        assert sum(state.startswith(prefix) for prefix in prefixes) == 1, state


def test_the_spark_application_is_one_user() -> None:
    spark = {stage.worker for stage in GRAPH.stages.values() if stage.runner == "spark"}
    users = {one.user for one in grants(GRAPH)}
    assert len(spark) == 1
    assert spark < users
    assert not {stage.name for stage in GRAPH.stages.values() if stage.runner == "spark"} & users


def test_workers_have_what_their_stages_have() -> None:
    stages, workers = grants(GRAPH), grants(GRAPH, by_worker=True)
    named = {stage.name: stage.worker for stage in GRAPH.stages.values()}
    assert {
        (named.get(one.user, one.user), one.resource, one.operations, one.name) for one in stages
    } == {(one.user, one.resource, one.operations, one.name) for one in workers}


def test_a_command_says_what_is_allowed_in_words_of_the_shell() -> None:
    (line,) = commands(
        [
            Grant("me", "topic", ("Read", "Write"), "a"),
            Grant("me", "topic", ("Read", "Write"), "b c"),
        ]
    )
    assert shlex.split(line)[5:] == [
        *("--add", "--allow-principal", "User:me", "--operation", "Read", "--operation", "Write"),
        *("--topic", "a", "--topic", "b c"),
    ]


def test_spark_alone_purges_and_sees_how_far_the_readers_are() -> None:
    deleting = {
        (one.user, one.name)
        for one in grants(GRAPH)
        if one.resource == "topic" and one.operations == ("Delete",)
    }
    purged = {name for name, topic in GRAPH.topics.items() if topic.purge_after_ms is not None}
    assert deleting == {("spark", name) for name in purged}
    seen = {one.name for one in grants(GRAPH) if one.user == "spark" and one.resource == "group"}
    readers = [stage for stage in GRAPH.stages.values() if purged.intersection(stage.consumes)]
    assert {app_id(stage) for stage in readers} <= seen
