"""A version beside the first shares no name with it but those of what both read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from topology.acls import OPERATOR, grants
from topology.graph import app_id, build_graph, dead_letter_name
from topology.plan import CreateTopic, LeaveAlone, Observed, ObservedTopic, RegisterSchema, plan
from topology.settings import Settings
from topology.topics.engagement import ENGAGEMENT_WINDOWS
from topology.topics.events import FORGET_REQUESTS, FORGOTTEN_LISTENERS, USER_EVENTS
from topology.topics.ingest import EPISODE_METADATA
from topology.validate import validate
from topology.versions import number, own_name, setting, shown, version_of

FIRST, SECOND = build_graph(4), build_graph(4, "v2")


def test_what_a_version_writes_is_its_own() -> None:
    written = {name for stage in SECOND.stages.values() for name in stage.produces}
    assert written
    assert not written & FIRST.topics.keys()
    assert written <= SECOND.own_topics().keys()
    assert not SECOND.own_topics().keys() & FIRST.topics.keys()
    groups = {app_id(stage) for stage in SECOND.stages.values()}
    assert not groups & {app_id(stage) for stage in FIRST.stages.values()}
    assert "podstream-v2-track_engagement-v2" in groups
    assert "podstream-v2-track_engagement-v2-engagement_state-changelog" in SECOND.topics


def test_what_it_reads_of_others_has_one_name() -> None:
    batching = SECOND.stages["batch_events"]
    assert batching.consumes == (USER_EVENTS.name, FORGET_REQUESTS.name)
    assert FORGOTTEN_LISTENERS.name in batching.broadcast
    assert batching.produces == ("podstream-v2-user-event-batches",)
    assert EPISODE_METADATA.name in SECOND.stages["track_engagement"].broadcast
    assert SECOND.topic(EPISODE_METADATA) is EPISODE_METADATA
    windows = SECOND.topic(ENGAGEMENT_WINDOWS)
    assert windows.name == "podstream-v2-engagement-windows"
    assert windows.schema == ENGAGEMENT_WINDOWS.schema
    assert FIRST.topic(ENGAGEMENT_WINDOWS) is ENGAGEMENT_WINDOWS


def test_it_puts_aside_for_itself_and_hands_nothing_over() -> None:
    dead = dead_letter_name(USER_EVENTS.name, "v2")
    assert dead == "podstream-v2-user-events.dlq"
    assert dead in SECOND.own_topics()
    assert dead_letter_name(own_name("episode-days", "v2"), "v2") in SECOND.topics
    assert FIRST.stages["batch_events"].hands_over == (USER_EVENTS.name,)
    assert not any(stage.hands_over for stage in SECOND.stages.values())


def test_its_graph_is_sound_but_for_what_others_make() -> None:
    problems = validate(SECOND, module_exists=lambda _: True)
    sources = SECOND.topics.keys() - SECOND.own_topics().keys()
    assert [p for p in problems if not any(f"topic {name}," in p for name in sources)] == []


def test_a_plan_makes_what_is_its_own_and_leaves_the_rest_unmentioned() -> None:
    there = Observed(
        topics={
            "user-events": ObservedTopic(4, {}),
            "podstream-v2-gone": ObservedTopic(1, {}),
            "podstream-v3-episode-days": ObservedTopic(4, {}),
        }
    )
    actions = plan(SECOND, there)
    made = {action.topic for action in actions if isinstance(action, CreateTopic)}
    assert made == SECOND.own_topics().keys()
    subjects = {action.subject for action in actions if isinstance(action, RegisterSchema)}
    assert subjects
    assert all(subject.startswith("podstream-v2-") for subject in subjects)
    left = [action.topic for action in actions if isinstance(action, LeaveAlone)]
    assert left == ["podstream-v2-gone"]
    firsts = plan(FIRST, there)
    assert not [a for a in firsts if isinstance(a, LeaveAlone)]


def test_users_of_a_version_may_not_touch_what_the_first_has_made() -> None:
    users = [grant for grant in grants(SECOND) if grant.user != OPERATOR]
    firsts = {name for stage in FIRST.stages.values() if stage.versioned for name in stage.produces}
    written = {g.name for g in users if {"Write", "Delete"} & set(g.operations)}
    assert not written & (firsts | {USER_EVENTS.name})
    purging = {g.name for g in users if g.operations == ("Delete",)}
    assert "podstream-v2-user-event-batches" in purging


def test_stores_of_a_version_lie_beside(tmp_path: Path) -> None:
    first = Settings(podstream_home=tmp_path)
    second = Settings(podstream_home=tmp_path, podstream_version="v2")
    assert (first.mongodb_database, second.mongodb_database) == ("podstream", "podstream-v2")
    assert second.delta_root == f"{first.delta_root}-v2"
    assert second.checkpoint_root == f"{first.checkpoint_root}-v2"
    with pytest.raises(ValidationError):
        Settings(podstream_home=tmp_path, podstream_version="v1")


def test_names_are_told_apart() -> None:
    assert [setting("v1"), setting("v12")] == ["", "v12"]
    assert [shown(""), shown("v12")] == ["v1", "v12"]
    assert [number(""), number("v12")] == [1, 12]
    assert version_of(own_name("episode-days", "v12")) == "v12"
    assert version_of("podstream-detect_anomalies-v2-anomaly_models-changelog") == ""
    for bad in ("", "v0", "2", "v1-x", "V2"):
        with pytest.raises(ValueError, match="is no version"):
            setting(bad)
