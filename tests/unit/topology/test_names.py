"""The names that a cluster already holds: a running instance goes on only if none of them moves."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from topology.graph import app_id, build_graph, changelog_name
from topology.model import EVENT_PATH, AvroTopic, Table, resolved
from topology.stages import STAGES
from topology.tables import COPIES, LISTENERS
from topology.topics import TOPICS

GOLDEN = json.loads((Path(__file__).parent / "names.json").read_text(encoding="utf-8"))


def test_consumer_groups_are_what_they_were() -> None:
    assert [app_id(stage) for stage in build_graph(12).stages.values()] == GOLDEN["groups"]


def test_topics_logs_of_state_and_dead_letters_are_what_they_were() -> None:
    topics = build_graph(12).topics
    assert {name: topics[name].partitions for name in sorted(topics)} == GOLDEN["topics"]


def test_keyed_tables_are_found_where_faust_kept_them() -> None:
    kept = {
        changelog_name(stage, table.name): table.partitions
        for stage in build_graph(12).stages.values()
        for table in stage.tables
        if table.form == "keyed"
    }
    assert kept.items() >= GOLDEN["faust_changelogs"].items()


@pytest.mark.parametrize("partitions", [1, 3, 12])
def test_the_event_path_is_resolved_in_topics_and_tables(partitions: int) -> None:
    graph = build_graph(partitions)
    assert all(topic.partitions >= 1 for topic in graph.topics.values())
    tables = {table.name: table for stage in graph.stages.values() for table in stage.tables}
    assert tables[LISTENERS.name].partitions == partitions
    assert tables[COPIES.name].partitions == 2


def test_a_topic_stays_of_its_kind_when_it_is_resolved() -> None:
    topic = resolved(AvroTopic("a", "d", key="k", partitions=EVENT_PATH), 5)
    assert isinstance(topic, AvroTopic)
    assert topic.partitions == 5
    assert resolved(AvroTopic("a", "d", key="k", partitions=5), 7).partitions == 5


def test_every_declared_table_has_one_stage() -> None:
    import topology.tables as declared

    known = [value for value in vars(declared).values() if isinstance(value, Table)]
    owned = [table for stage in STAGES for table in stage.tables]
    assert sorted(table.name for table in known) == sorted(table.name for table in owned)


def test_a_topic_is_spelt_once_in_the_declaration() -> None:
    names = {topic.name for topic in TOPICS}
    spelt = [
        node.value
        for path in Path("topology").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names and "-" in node.value
    ]
    assert sorted(spelt) == sorted(name for name in names if "-" in name)
