"""The lineage drawing says what the topology says."""

from __future__ import annotations

import re

from dashboard import lineage
from topology.graph import build_graph

GRAPH = build_graph(4)


def test_every_edge_of_every_stage_is_drawn_once() -> None:
    edges = re.findall(r'^"(.+)" -> "(.+)"( \[.*\])?;$', lineage.lineage_dot(GRAPH), re.MULTILINE)
    drawn = [(start, end) for start, end, _ in edges]
    assert len(drawn) == len(set(drawn))
    between_topics = {
        *((f"topic:{t}", f"stage:{s.name}") for s in GRAPH.stages.values() for t in s.consumes),
        *((f"topic:{t}", f"stage:{s.name}") for s in GRAPH.stages.values() for t in s.broadcast),
        *((f"stage:{s.name}", f"topic:{t}") for s in GRAPH.stages.values() for t in s.produces),
    }
    stores = {
        ("stage:write_delta", "store:delta"),
        ("store:delta", "stage:train_als"),
        ("stage:serve_mongo", "store:mongo"),
        ("store:mongo", "stage:read_api"),
        ("store:mongo", "stage:dashboard"),
        ("store:delta", "stage:dashboard"),
    }
    assert set(drawn) == between_topics | stores


def test_stores_list_what_they_hold() -> None:
    dot = lineage.lineage_dot(GRAPH)
    for name in (*GRAPH.collections, *GRAPH.delta_tables):
        assert name in dot


def test_tables_have_a_row_for_everything() -> None:
    assert set(lineage.stage_rows(GRAPH)["stage"]) == set(GRAPH.stages)
    assert set(lineage.topic_rows(GRAPH)["topic"]) == set(GRAPH.topics)
    assert len(lineage.store_rows(GRAPH)) == len(GRAPH.collections) + len(GRAPH.delta_tables)
