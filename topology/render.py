"""What is declared as Markdown: `docs/generated/`, and files of `docker/`. Deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from schemas import files
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from topology.acls import grants
from topology.graph import STATE_SUFFIXES, build_graph, declared_subjects, workers
from topology.model import MEGABYTE, Graph, Stage, Topic
from topology.monitoring import render as monitoring
from topology.settings import PORT_OFFSETS, Settings
from topology.validate import DELTA, MONGO, store_of

ROOT = Path(__file__).parent.parent
FOLDER = "docs/generated"
_NOTICE = "<!-- Made by `podstream topology render`; edit the declaration, not this page. -->\n"
_DEFAULT_PARTITIONS = Settings.model_fields["event_partitions"].default
_SHAPES = {
    "faust": ("[", "]"),
    "confluent": ("[", "]"),
    "spark": ("[[", "]]"),
    "streamlit": (">", "]"),
    "uvicorn": (">", "]"),
}
_STORE_IDS = {DELTA: "delta", MONGO: "mongo"}
_STORE_LABELS = {DELTA: "Delta", MONGO: "MongoDB"}


def pages() -> dict[str, str]:
    """File name -> content of every generated page, for the default settings."""
    return {
        "topology.md": topology_page(build_graph(_DEFAULT_PARTITIONS)),
        "settings.md": settings_page(),
        "schemas.md": schemas_page(build_graph(_DEFAULT_PARTITIONS)),
        "access.md": access_page(build_graph(_DEFAULT_PARTITIONS)),
        "monitoring.md": monitoring_page(),
    }


def files_made() -> dict[str, str]:
    """Path below the project's folder -> content of everything that is made of declarations."""
    return {
        **{f"{FOLDER}/{name}": text for name, text in pages().items()},
        "docker/grafana/podstream.json": monitoring.dashboard(),
        "docker/prometheus/alerts.yaml": monitoring.rules(),
    }


def stale(root: Path = ROOT) -> list[str]:
    """Those of the files that are missing or say something else, as `files_made` names them."""
    return [
        name
        for name, text in files_made().items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text
    ]


def write(root: Path = ROOT) -> list[str]:
    """Write every file; give their names."""
    made = files_made()
    for name, text in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return list(made)


# -- the graph -------------------------------------------------------------------------------


def mermaid(graph: Graph) -> str:
    """The flow as a Mermaid diagram: stages, topics and stores; broadcasts are dotted.

    Dead-letter topics and logs of state are left out: every consumed topic has the one, every table
    the other.
    """
    lines = ["flowchart LR"]
    shown = _shown_topics(graph)
    for name in shown:
        lines.append(f"  {_id('t', name)}([{name}])")
    for stage in graph.stages.values():
        left, right = _SHAPES[stage.runner]
        lines.append(f"  {_id('s', stage.name)}{left}{stage.name}{right}:::{stage.runner}")
    stores = {
        store_of(graph, stage, name)
        for stage in graph.stages.values()
        for name in stage.reads + stage.writes
    }
    for kind, name in sorted(stores):
        lines.append(f"  {_id(_STORE_IDS[kind], name)}[({_STORE_LABELS[kind]} {name})]")
    for stage in graph.stages.values():
        node = _id("s", stage.name)
        lines += [f"  {_id('t', topic)} --> {node}" for topic in stage.consumes]
        lines += [f"  {_id('t', topic)} -.-> {node}" for topic in stage.broadcast]
        lines += [f"  {node} --> {_id('t', topic)}" for topic in stage.produces]
        lines += [f"  {_store_id(graph, stage, name)} --> {node}" for name in stage.reads]
        lines += [f"  {node} --> {_store_id(graph, stage, name)}" for name in stage.writes]
    lines.append("  classDef faust fill:#dbeafe,stroke:#1d4ed8,color:#111")
    lines.append("  classDef confluent fill:#dcfce7,stroke:#15803d,color:#111")
    lines.append("  classDef spark fill:#ffedd5,stroke:#c2410c,color:#111")
    lines.append("  classDef streamlit fill:#f3e8ff,stroke:#7e22ce,color:#111")
    lines.append("  classDef uvicorn fill:#fce7f3,stroke:#be185d,color:#111")
    return "\n".join(lines) + "\n"


def topology_page(graph: Graph) -> str:
    """The diagram, and tables of stages, topics, state and stores."""
    edges = [topic for stage in graph.stages.values() for topic in stage.consumes]
    dead = sum(name.endswith(".dlq") for name in graph.topics)
    stages = _table(
        ("stage", "worker", "runner", "consumes", "reads whole", "produces", "what it does"),
        (
            (
                f"`{stage.name}`" + (" (demo)" if stage.demo_only else ""),
                stage.worker,
                stage.runner,
                _codes(stage.consumes),
                _codes(stage.broadcast),
                _codes(stage.produces),
                stage.doc,
            )
            for stage in graph.stages.values()
        ),
    )
    topics = _table(
        ("topic", "key", "value", "partitions", "kept", "largest", "what it holds"),
        (_topic_row(graph.topics[name]) for name in _shown_topics(graph)),
    )
    tables = _table(
        ("table", "stage", "key", "value", "partitions", "what it holds"),
        (
            (f"`{t.name}`", f"`{stage.name}`", t.key, t.value, str(t.partitions), t.doc)
            for stage in graph.stages.values()
            for t in stage.tables
        ),
    )
    collections = _table(
        ("collection", "`_id`", "indexes", "written by", "what it holds"),
        (
            (
                f"`{c.name}`",
                c.key,
                _codes(index.name for index in c.indexes),
                _codes(
                    stage.name
                    for stage in graph.stages.values()
                    if c.name in stage.writes and store_of(graph, stage, c.name)[0] == MONGO
                ),
                c.doc,
            )
            for c in graph.collections.values()
        ),
    )
    delta = "\n".join(
        f"### `{table.name}`\n\n{table.doc} A row is identified by {_codes(table.key)}"
        + (f"; partitioned by {_codes(table.partition_by)}" if table.partition_by else "")
        + ".\n\n"
        + _table(
            ("column", "type", "meaning"),
            ((f"`{c.name}`", c.type, c.doc) for c in table.columns),
        )
        for table in graph.delta_tables.values()
    )
    groups = "\n".join(
        f"- **{worker}**: {_codes(stage.name for stage in stages_)}"
        for worker, stages_ in workers(graph.stages.values()).items()
    )
    return (
        f"{_NOTICE}\n# Topology\n\n"
        f"{len(graph.stages)} stages, {len(_shown_topics(graph))} topics, {len(edges)} consumed "
        f"edges; beside them {dead} dead-letter topics (`<topic>.dlq`, one for each consumed "
        f"topic) and one log of state for each table. A dotted arrow is reference data that every "
        f"worker of a stage reads whole.\n\n"
        f"```mermaid\n{mermaid(graph)}```\n\n"
        f"## Stages\n\n{stages}\n## Workers\n\n{groups}\n\n## Topics\n\n{topics}\n"
        f"## State\n\n{tables}\n## MongoDB collections\n\n{collections}\n## Delta tables\n\n{delta}"
    )


def _kept(topic: Topic) -> str:
    if topic.cleanup == "compact":
        return "newest per key"
    if topic.purge_after_ms is not None:
        return f"until read, and {_duration(topic.purge_after_ms)}"
    return "for ever" if topic.retention_ms < 0 else _duration(topic.retention_ms)


def _duration(ms: int) -> str:
    for unit, size in (("day", DAY_MS), ("hour", HOUR_MS), ("minute", MINUTE_MS)):
        if ms >= size and ms % size == 0:
            return f"{ms // size} {unit}{'s' if ms > size else ''}"
    return f"{ms} ms"


def _topic_row(topic: Topic) -> tuple[str, ...]:
    value = f"{topic.format}: `{topic.schema}`" if topic.schema else topic.format
    largest = f"{topic.max_message_bytes / MEGABYTE:.0f} MiB"
    return (
        f"`{topic.name}`",
        topic.key,
        value,
        str(topic.partitions),
        _kept(topic),
        largest,
        topic.doc,
    )


def _shown_topics(graph: Graph) -> list[str]:
    return [
        name
        for name in graph.topics
        if not name.endswith((".dlq", *STATE_SUFFIXES)) and not name.startswith("_")
    ]


def _store_id(graph: Graph, stage: Stage, name: str) -> str:
    kind, _ = store_of(graph, stage, name)
    return _id(_STORE_IDS[kind], name)


def _id(kind: str, name: str) -> str:
    """A Mermaid node id; topics and stores may share a name."""
    return f"{kind}_{name.replace('-', '_').replace('.', '_')}"


# -- settings and schemas --------------------------------------------------------------------


def settings_page() -> str:
    """Every environment variable: name, type, default, meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        shown = f"`{default}`" if str(default) else "empty"
        variable = (field.alias or name).upper()
        rows.append((f"`{variable}`", _type_name(field.annotation), shown, field.description or ""))
    ports = _table(
        ("service", "port"),
        (
            (name.replace("_", " "), f"`PODSTREAM_PORT_BASE` + {offset}")
            for name, offset in PORT_OFFSETS.items()
        ),
    )
    return (
        f"{_NOTICE}\n# Settings\n\nRead from the environment, then from "
        f"`$PODSTREAM_HOME/instance.env`, which a running instance writes.\n\n"
        f"{_table(('variable', 'type', 'default', 'meaning'), rows)}\n"
        f"## Ports of the embedded services\n\nAll on the loopback interface; Faust workers count "
        f"up from the last one.\n\n{ports}"
    )


def access_page(graph: Graph) -> str:
    """What each user may do on the brokers."""
    rows = [
        (
            f"`{grant.user}`",
            ", ".join(grant.operations),
            f"{grant.resource} `{grant.name}{'*' if grant.prefixed else ''}`",
        )
        for grant in grants(graph)
    ]
    return (
        f"{_NOTICE}\n# Who may do what on the brokers\n\nA user for each stage, one for the Spark "
        "application, and `operator` for the commands of `podstream`. Everything else is denied. "
        "`podstream topology acls` prints the same as commands.\n\n"
        f"{_table(('user', 'may', 'on'), rows)}"
    )


def monitoring_page() -> str:
    """Every metric and every alert."""
    header = ("metric", "kind", "labels", "unit", "alerts", "meaning")
    metrics = "\n".join(
        f"### {subject}\n\n{_table(header, monitoring.metrics_table(some))}"
        for subject, some in monitoring.subjects().items()
    )
    alerts = _table(
        ("alert", "severity", "when", "for", "says", "what to do"), monitoring.alerts_table()
    )
    return (
        f"{_NOTICE}\n# Metrics and alerts\n\nHow to scrape them: [monitoring](../monitoring.md). "
        "Each process tells Prometheus's own metrics of processes besides.\n\n"
        f"## Metrics\n\n{metrics}\n## Alerts\n\n{alerts}"
    )


def schemas_page(graph: Graph) -> str:
    """Every record with its fields, and the topics that carry it."""
    subjects = declared_subjects(graph)
    parts = []
    for name in files.names():
        schema = files.load(name)
        carried = [t.name for t in graph.topics.values() if t.schema == name]
        registered = [subject for subject, schema_name in subjects.items() if schema_name == name]
        version = files.versions(name)[-1]
        where = f"Carried by {_codes(carried)}" if carried else "Kept inside a table"
        if registered:
            where += f"; registered as {_codes(registered)}"
        parts.append(
            f"## `{name}` v{version}\n\n{schema.get('doc', '')} {where}.\n\n"
            + _table(("field", "type", "default", "meaning"), _field_rows(schema, ""))
        )
    return f"{_NOTICE}\n# Schemas\n\n" + "\n".join(parts)


def _field_rows(record: dict[str, Any], prefix: str) -> Iterable[tuple[str, ...]]:
    for field in record["fields"]:
        place = f"{prefix}{field['name']}"
        default = f"`{_plain(field['default'])}`" if "default" in field else ""
        yield (f"`{place}`", _avro_type(field["type"]), default, field.get("doc", ""))
        inner, suffix = _inner_record(field["type"])
        if inner is not None:
            yield from _field_rows(inner, f"{place}{suffix}.")


def _inner_record(avro: Any) -> tuple[dict[str, Any] | None, str]:
    if isinstance(avro, list):
        found = [_inner_record(branch) for branch in avro]
        return next(((r, s) for r, s in found if r is not None), (None, ""))
    if isinstance(avro, dict):
        if avro["type"] == "record":
            return avro, ""
        if avro["type"] == "array":
            inner, suffix = _inner_record(avro["items"])
            return inner, f"[]{suffix}"
        if avro["type"] == "map":
            inner, suffix = _inner_record(avro["values"])
            return inner, f"{{}}{suffix}"
    return None, ""


def _avro_type(avro: Any) -> str:
    if isinstance(avro, list):
        return " or ".join(_avro_type(branch) for branch in avro)
    if isinstance(avro, str):
        return avro
    match avro["type"]:
        case "array":
            return f"array of {_avro_type(avro['items'])}"
        case "map":
            return f"map of {_avro_type(avro['values'])}"
        case "enum":
            return f"enum: {', '.join(avro['symbols'])}"
        case "record":
            return f"record {avro['name']}"
    return avro.get("logicalType") or _avro_type(avro["type"])


def _plain(default: Any) -> str:
    names: dict[Any, str] = {None: "null", True: "true", False: "false", "": '""'}
    return names.get(default, str(default)) if not isinstance(default, list | dict) else "[]"


def _type_name(annotation: Any) -> str:
    if annotation is SecretStr:
        return "secret"
    if getattr(annotation, "__origin__", None) is tuple:
        return "list"
    name: str = annotation.__name__
    return {"str": "text", "Path": "path"}.get(name, name)


# -- Markdown --------------------------------------------------------------------------------


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
