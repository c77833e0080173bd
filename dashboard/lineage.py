"""The declared graph as Graphviz text, and as rows for a table. Derived from topology/ alone."""

from __future__ import annotations

import polars as pl

from topology.model import Graph, Stage

RUNNER_COLOURS = {
    "faust": "#4f46e5",
    "confluent": "#7c3aed",
    "spark": "#d97706",
    "streamlit": "#0d9488",
}


def lineage_dot(graph: Graph) -> str:
    """Stages, the topics between them and the stores, left to right.

    Solid edges: a stage consumes or writes. Dashed: every worker of it reads the whole topic.
    """
    lines = [
        "digraph podstream {",
        'rankdir=LR; bgcolor="transparent"; nodesep=0.18; ranksep=0.55;',
        'node [fontname="Helvetica", fontsize=13, margin="0.12,0.06", height=0.32];',
        'edge [color="#94a3b8", arrowsize=0.6];',
    ]
    for stage in graph.stages.values():
        colour = RUNNER_COLOURS[stage.runner]
        lines.append(
            f'"stage:{stage.name}" [label="{stage.name}", tooltip="{stage.doc}", shape=box, '
            f'style="filled,rounded", fillcolor="{colour}", color="{colour}", fontcolor="white"];'
        )
    touched = {name for stage in graph.stages.values() for name in _topics(stage)}
    for name in sorted(touched):
        lines.append(
            f'"topic:{name}" [label="{name}", tooltip="{_quoted(graph.topics[name].doc)}", '
            'shape=box, style="filled", fillcolor="#e2e8f0", color="#94a3b8", '
            'fontcolor="#1e2235"];'
        )
    for kind, fill, names in (
        ("mongo", "#d1fae5", graph.collections),
        ("delta", "#fef3c7", graph.delta_tables),
    ):
        for name in names:
            lines.append(
                f'"{kind}:{name}" [label="{name}", tooltip="{kind}", shape=cylinder, '
                f'style="filled", fillcolor="{fill}", color="#94a3b8", fontcolor="#1e2235"];'
            )
    for stage in graph.stages.values():
        lines.extend(_edges(graph, stage))
    return "\n".join([*lines, "}"])


def stage_rows(graph: Graph) -> pl.DataFrame:
    """One row a stage: name, runner, worker, what it reads and writes, what it does."""
    return pl.DataFrame(
        [
            {
                "stage": stage.name,
                "runner": stage.runner,
                "worker": stage.worker,
                "reads": [*stage.consumes, *stage.broadcast, *stage.reads],
                "writes": [*stage.produces, *stage.writes],
                "doc": stage.doc,
            }
            for stage in graph.stages.values()
        ]
    )


def topic_rows(graph: Graph) -> pl.DataFrame:
    """One row a topic, dead-letter topics and changelogs included."""
    return pl.DataFrame(
        [
            {
                "topic": topic.name,
                "schema": topic.schema,
                "format": topic.format,
                "partitions": topic.partitions,
                "cleanup": topic.cleanup,
                "key": topic.key,
                "doc": topic.doc,
            }
            for topic in sorted(graph.topics.values(), key=lambda topic: topic.name)
        ]
    )


def store_rows(graph: Graph) -> pl.DataFrame:
    """One row a MongoDB collection or Delta table."""
    stores = [
        *(("MongoDB", c.name, c.key, c.doc) for c in graph.collections.values()),
        *(("Delta", t.name, ", ".join(t.key), t.doc) for t in graph.delta_tables.values()),
    ]
    return pl.DataFrame(stores, schema=["store", "name", "key", "doc"], orient="row")


def _topics(stage: Stage) -> tuple[str, ...]:
    return stage.consumes + stage.broadcast + stage.produces


def _edges(graph: Graph, stage: Stage) -> list[str]:
    node = f'"stage:{stage.name}"'
    kinds = ["delta"] if stage.runner == "spark" else ["mongo", "delta"]
    edges = [f'"topic:{name}" -> {node};' for name in stage.consumes]
    edges += [f'"topic:{name}" -> {node} [style=dashed];' for name in stage.broadcast]
    edges += [f'{node} -> "topic:{name}";' for name in stage.produces]
    for kind in kinds:
        stores = graph.delta_tables if kind == "delta" else graph.collections
        edges += [f'"{kind}:{name}" -> {node};' for name in stage.reads if name in stores]
    # a name may be both a collection and a table: Spark writes tables, the others collections
    written = "delta" if stage.runner == "spark" else "mongo"
    edges += [f'{node} -> "{written}:{name}";' for name in stage.writes]
    return edges


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
