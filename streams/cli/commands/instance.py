"""`podstream up|down|status|env|doctor`: the instance of a home."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (up, down, status, env, doctor, mongo_shell):
        app.command()(command)


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    """Errors that a user can mend end the command with their message instead of a traceback."""
    from confluent_kafka import KafkaException
    from pymongo.errors import PyMongoError

    from jobs.spark_jars import JarsError
    from streams.cli.local.broker import BrokerError
    from streams.cli.local.claims import ClaimError
    from streams.cli.local.instance import InstanceError
    from streams.cli.local.supervise import SupervisorError
    from topology.access import mongo_refusal
    from topology.java import JavaError

    try:
        yield
    except (BrokerError, JarsError, JavaError, SupervisorError, InstanceError, ClaimError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except (KafkaException, PyMongoError) as error:
        if mongo_refusal(error) is not None:
            raise
        typer.echo(f"A service does not answer ({error}). `podstream up` starts them.", err=True)
        raise typer.Exit(1) from error


def up(
    demo: Annotated[bool, typer.Option("--demo", help="Add the demo index and listeners.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return, keep running.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Start only this process; may be repeated.")
    ] = None,
    ports: Annotated[
        str | None, typer.Option(help="First port, or `auto` for a free range.")
    ] = None,
    demo_timeout: Annotated[
        float, typer.Option(help="Longest wait for the demo's recommendations, in seconds.")
    ] = 300.0,
) -> None:
    """Start the services and all stages; stay until Ctrl-C stops them."""
    from rich.console import Console

    from streams.cli.local.instance import settings_of_home
    from streams.cli.local.instance import up as bring_up

    if ports is not None and ports != "auto" and not ports.isdigit():
        raise typer.BadParameter("--ports is a number or `auto`")
    with _errors_as_sentences():
        settings = settings_of_home(ports)
        bring_up(settings, demo, detach, Console(), tuple(only or ()), demo_timeout)


def down() -> None:
    """Stop every process of the instance cleanly."""
    from rich.console import Console

    from streams.cli.local.instance import settings_of_home, stop

    with _errors_as_sentences():
        settings = settings_of_home()
        if not stop(settings, Console()):
            typer.echo(f"Nothing runs in {settings.podstream_home}.")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show processes and their memory, each stage's lag, each store's rows, disk, dead letters."""
    from streams.cli.local.instance import check_running
    from streams.cli.status import measure
    from topology.settings import get_settings

    settings = get_settings()
    with _errors_as_sentences():
        check_running(settings)
        measured = measure(settings)
    if as_json:
        typer.echo(json.dumps(measured.as_dict(), indent=2))
        return
    from rich.console import Console

    from streams.cli.showcase import (
        failure_lines,
        late_line,
        model_lines,
        noted_line,
        status_tables,
    )
    from streams.operations.arrivals import arrivals_line
    from streams.operations.disk import shortage

    console = Console()
    for table in status_tables(measured):
        console.print(table)
    said = (late_line(measured), arrivals_line(measured.arrivals), noted_line(measured))
    for line in filter(None, (*said, shortage(settings))):
        console.print(line)
    for line in (*model_lines(measured), *failure_lines(measured)):
        console.print(line, markup=False)


def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the instance's addresses as `export` lines: eval "$(podstream env)"."""
    from streams.cli.local.instance import environment
    from topology.settings import get_settings

    shown = environment(get_settings())
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    for key, value in shown.items():
        typer.echo(f"export {key}={shlex.quote(value)}")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check Java, ports, memory and disk, and say what to do; exit code 1 if something must be."""
    from dataclasses import asdict

    from streams.cli.doctor import examine
    from streams.cli.local.instance import settings_of_home

    findings = examine(settings_of_home())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        marks = {"ok": "✓", "warning": "!", "error": "✗"}
        for one in findings:
            typer.echo(f"{marks[one.level]} {one.subject}: {one.found}")
            if one.advice:
                typer.echo(f"    {one.advice}")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def mongo_shell() -> None:
    """Open a Python shell with the instance's database as `db`."""
    import code

    from pymongo import MongoClient

    from topology.settings import get_settings

    settings = get_settings()
    with _errors_as_sentences():
        client: MongoClient[dict[str, Any]] = MongoClient(
            settings.mongodb_uri.get_secret_value(), serverSelectionTimeoutMS=5000
        )
        client.admin.command("ping")
    db = client[settings.mongodb_database]
    names = ", ".join(sorted(db.list_collection_names()))
    banner = (
        f"`db` is MongoDB's {db.name!r} ({names}).\n"
        "For example: db.final_recommendations.find_one()"
    )
    with client:
        code.interact(banner=banner, local={"db": db, "client": client}, exitmsg="")
