"""The declared graph as Graphviz text, and as rows for a table. Derived from topology/ alone."""

from __future__ import annotations

import polars as pl

from topology.model import Graph, Stage

RUNNER_COLOURS = {
    "faust": "#4f46e5",
    "confluent": "#7c3aed",
    "spark": "#d97706",
    "streamlit": "#0d9488",
    "uvicorn": "#0369a1",
}

FONT_SIZE = 9
"""What Streamlit's style sheet makes of every label; the nodes must be laid out for it."""


def lineage_dot(graph: Graph) -> str:
    """Stages, the topics between them and the stores, left to right.

    Solid edges: a stage consumes or writes. Dashed: every worker of it reads the whole topic.
    """
    lines = [
        "digraph podstream {",
        'rankdir=LR; bgcolor="transparent"; nodesep=0.1; ranksep=0.22;',
        f'node [fontname="Helvetica", fontsize={FONT_SIZE}, margin="0.08,0.04", height=0.22];',
        'edge [color="#94a3b8", arrowsize=0.45];',
    ]
    for stage in graph.stages.values():
        colour = RUNNER_COLOURS[stage.runner]
        label, tooltip = _wrapped(stage.name, "_"), _quoted(stage.doc)
        lines.append(
            f'"stage:{stage.name}" [label="{label}", tooltip="{tooltip}", shape=box, '
            f'style="filled,rounded", fillcolor="{colour}", color="{colour}", fontcolor="white"];'
        )
    touched = {name for stage in graph.stages.values() for name in _topics(stage)}
    for name in sorted(touched):
        label, tooltip = _wrapped(name, "-"), _quoted(graph.topics[name].doc)
        lines.append(
            f'"topic:{name}" [label="{label}", tooltip="{tooltip}", shape=box, '
            'style="filled", fillcolor="#e2e8f0", color="#94a3b8", '
            'fontcolor="#1e2235"];'
        )
    for store, label, fill, names in (
        ("mongo", "MongoDB", "#d1fae5", graph.collections),
        ("delta", "Delta Lake", "#fef3c7", graph.delta_tables),
    ):
        listed = "\\l".join(names)
        lines.append(
            f'"store:{store}" [label="{label}\\n\\n{listed}\\l", shape=cylinder, style=filled, '
            f'fillcolor="{fill}", color="#94a3b8", fontcolor="#1e2235"];'
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
    edges = [f'"topic:{name}" -> {node};' for name in stage.consumes]
    # reference data does not say what comes after what
    edges += [
        f'"topic:{name}" -> {node} [style=dashed, constraint=false];' for name in stage.broadcast
    ]
    edges += [f'{node} -> "topic:{name}";' for name in stage.produces]
    edges += [f'"store:{store}" -> {node};' for store in _stores(graph, stage, stage.reads)]
    edges += [f'{node} -> "store:{store}";' for store in _stores(graph, stage, stage.writes)]
    return edges


def _stores(graph: Graph, stage: Stage, names: tuple[str, ...]) -> list[str]:
    """Which stores the names mean: Spark touches tables only, Faust and HTTP collections only.

    A name may be both a collection and a table.
    """
    alone = {"spark": ["delta"], "faust": ["mongo"], "uvicorn": ["mongo"]}
    kinds = alone.get(stage.runner, ["mongo", "delta"])
    held: dict[str, set[str]] = {"mongo": {*graph.collections}, "delta": {*graph.delta_tables}}
    return [kind for kind in kinds if any(name in held[kind] for name in names)]


def _wrapped(name: str, separator: str) -> str:
    """A name on two lines, broken at the separator nearest to its middle, for narrow nodes."""
    breaks = [place for place, letter in enumerate(name) if letter == separator and place]
    if not breaks:
        return name
    middle = min(breaks, key=lambda place: abs(place - len(name) / 2))
    return f"{name[: middle + 1]}\\n{name[middle + 1 :]}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
