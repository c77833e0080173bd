from __future__ import annotations

from dataclasses import replace

import pytest

from topology.graph import (
    UndeclaredError,
    app_id,
    build_graph,
    changelog_name,
    check_reads,
    check_writes,
    dead_letter_name,
    is_on,
    state_topic,
    workers,
)
from topology.settings import Settings

GRAPH = build_graph(3)


def test_every_consumed_topic_has_a_dead_letter_topic_that_holds_its_largest_message() -> None:
    for stage in GRAPH.stages.values():
        for topic in stage.consumes:
            dead = GRAPH.topics[dead_letter_name(topic)]
            assert dead.max_message_bytes > GRAPH.topics[topic].max_message_bytes
            assert dead.format == "raw"


def test_nothing_that_spark_reads_expires_unread() -> None:
    for stage in GRAPH.stages.values():
        for name in (*stage.consumes, *stage.broadcast) if stage.runner == "spark" else ():
            topic = GRAPH.topics[name]
            assert topic.cleanup == "compact" or topic.config()["retention.ms"] == "-1", name


def test_every_table_has_a_log_with_its_partitions() -> None:
    tables = [(stage, table) for stage in GRAPH.stages.values() for table in stage.tables]
    assert {table.form for _, table in tables} == {"keyed", "log"}
    for stage, table in tables:
        state = GRAPH.topics[state_topic(stage, table).name]
        assert state.partitions == table.partitions
        config = state.config()
        # only its stage truncates it, which frees whole segments
        assert config["cleanup.policy"] == "delete"
        assert config["retention.ms"] == "-1"
        assert int(config["segment.bytes"]) >= state.max_message_bytes


def test_the_log_of_a_keyed_table_is_not_the_changelog_that_faust_wrote() -> None:
    stage = GRAPH.stages["recommend"]
    before = "podstream-recommend-v1-listeners-changelog"
    assert changelog_name(stage, "listeners") == before
    assert before not in GRAPH.topics
    assert state_topic(stage, stage.tables[0]).name == "podstream-recommend-v1-listeners-state"
    tracking = GRAPH.stages["track_engagement"]
    kept = state_topic(tracking, tracking.tables[0]).name
    assert kept == "podstream-track_engagement-v2-engagement_state-changelog"


def test_event_path_has_the_partitions_asked_for() -> None:
    assert GRAPH.topics["user-events"].partitions == 3
    assert GRAPH.topics["user-event-batches"].partitions == 3


def test_a_version_is_a_group_of_its_own() -> None:
    stage = GRAPH.stages["recommend"]
    following = replace(stage, version=stage.version + 1)
    assert app_id(stage) != app_id(following)
    assert changelog_name(following, "listeners").startswith(app_id(following))


def test_a_stage_may_touch_what_is_declared_and_nothing_else() -> None:
    stage = GRAPH.stages["track_engagement"]
    check_reads(stage, "user-event-batches")
    check_writes(stage, "engagement-windows")
    check_writes(stage, "user-event-batches.dlq")
    with pytest.raises(UndeclaredError, match="reads topic 'recommendations'"):
        check_reads(stage, "recommendations")
    with pytest.raises(UndeclaredError, match="writes topic 'user-events'"):
        check_writes(stage, "user-events")
    with pytest.raises(UndeclaredError, match="dlq"):
        check_writes(stage, "recommendations.dlq")


def test_workers_hold_every_stage_once() -> None:
    groups = workers(GRAPH.stages.values())
    assert sorted(s.name for stages in groups.values() for s in stages) == sorted(GRAPH.stages)


def test_a_stage_with_a_switch_runs_only_where_it_is_on() -> None:
    stages = build_graph(2).stages
    for on in (True, False):
        settings = Settings(transcribe_audio=on)
        assert is_on(stages["transcribe_audio"], settings) == on
        assert is_on(stages["fetch_transcripts"], settings)
