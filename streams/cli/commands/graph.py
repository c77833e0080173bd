"""`podstream topology validate|plan|apply|acls|render`: the declared graph and the cluster."""

from __future__ import annotations

import json
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_ROOT = Path(__file__).parents[3]


class By(StrEnum):
    """Whom a user of the brokers stands for."""

    STAGE = "stage"
    WORKER = "worker"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        help="The declared graph: check it, compare and correct a cluster, render it.",
        no_args_is_help=True,
    )
    group.command("validate")(validate)
    group.command("plan")(plan)
    group.command("apply")(apply)
    group.command("acls")(acls)
    group.command("render")(render)
    app.add_typer(group, name="topology")


def module_exists(entry_point: str) -> bool:
    """Whether an entry point is there: a file of the project, or a module, which is not run."""
    if "/" in entry_point:
        return (_ROOT / entry_point).is_file()
    try:
        return find_spec(entry_point) is not None
    except ModuleNotFoundError:
        return False


def validate() -> None:
    """Check the declared graph; exit 1 with a sentence for each problem."""
    from topology.graph import get_graph
    from topology.stages import STAGES
    from topology.stores import COLLECTIONS, DELTA_TABLES
    from topology.topics import TOPICS
    from topology.validate import duplicates
    from topology.validate import validate as check

    problems = [
        *duplicates("stage", (stage.name for stage in STAGES)),
        *duplicates("topic", (topic.name for topic in TOPICS)),
        *duplicates("collection", (collection.name for collection in COLLECTIONS)),
        *duplicates("Delta table", (table.name for table in DELTA_TABLES)),
        *check(get_graph(), module_exists=module_exists),
    ]
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    graph = get_graph()
    typer.echo(f"The topology is sound: {len(graph.stages)} stages, {len(graph.topics)} topics.")


def plan(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show what `apply` would do; exit 1 if something is refused."""
    from streams.kafka.registry import open_registry
    from topology.apply import observe
    from topology.graph import get_graph
    from topology.plan import LeaveAlone, changes, refusals
    from topology.plan import as_json as to_json
    from topology.plan import plan as compare
    from topology.settings import get_settings

    settings, graph = get_settings(), get_graph()
    actions = compare(graph, observe(settings, graph, open_registry(settings)))
    if as_json:
        typer.echo(json.dumps(to_json(actions), indent=2))
    else:
        for action in actions:
            typer.echo(action.sentence())
        left = sum(isinstance(action, LeaveAlone) for action in actions)
        typer.echo(f"{len(changes(actions))} to change, {left} left alone.")
    if refusals(actions):
        raise typer.Exit(1)


def apply() -> None:
    """Create and correct topics, register schemas, create indexes. Deletes nothing."""
    from streams.kafka.registry import open_registry
    from topology.apply import RefusedError, apply_topology
    from topology.settings import get_settings

    try:
        done = apply_topology(get_settings(), open_registry(get_settings()))
    except RefusedError as error:
        typer.echo(f"Nothing was changed.\n{error}", err=True)
        raise typer.Exit(1) from None
    for action in done:
        typer.echo(action.sentence())
    typer.echo(f"{len(done)} changed." if done else "Nothing to change.")


def acls(
    by: Annotated[
        By, typer.Option(help="A user for each stage, or for each worker process.")
    ] = By.STAGE,
) -> None:
    """Print what each user may do on the brokers, as `kafka-acls` commands."""
    from topology.acls import commands, grants
    from topology.graph import get_graph

    for line in commands(grants(get_graph(), by_worker=by is By.WORKER)):
        typer.echo(line)


def render(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a page is stale.")
    ] = False,
) -> None:
    """Write what is made of declarations: `docs/generated/`, dashboard and alerts in `docker/`."""
    from topology.render import stale, write

    if not check:
        for name in write():
            typer.echo(name)
        return
    if names := stale():
        typer.echo(f"Stale: {', '.join(names)}. Run `podstream topology render`.", err=True)
        raise typer.Exit(1)
    typer.echo("What is generated is fresh.")
