"""`podstream versions`: the versions of the tables: list, compare, promote, take back, retire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.operations.core.versions import Version, Versions
    from streams.operations.versions import VersionLog
    from topology.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        help="Versions of the tables beside each other: compare, promote, take back.",
        no_args_is_help=True,
    )
    group.command("list")(list_versions)
    group.command("diff")(diff)
    group.command("promote")(promote)
    group.command("rollback")(rollback)
    group.command("retire")(retire)
    group.command("describe", hidden=True)(describe)
    app.add_typer(group, name="versions")


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """End the command with a sentence, and exit code 1, where a version cannot be had so."""
    from confluent_kafka import KafkaException
    from pymongo.errors import PyMongoError

    from streams.cli.local.supervise import SupervisorError
    from streams.kafka.clients import DeliveryError
    from streams.operations.core.versions import VersionError
    from topology.apply import RefusedError

    try:
        yield
    except KeyError as error:  # a broker without topics
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None
    except (
        VersionError,
        SupervisorError,
        RefusedError,
        DeliveryError,
        KafkaException,
        PyMongoError,
        ValueError,
    ) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def opened() -> tuple[Settings, VersionLog]:
    """The settings of the instance, and what the log says of versions.

    VersionError in a process of a version beside the first.
    """
    from streams.kafka.registry import open_registry
    from streams.operations.core.versions import VersionError
    from streams.operations.versions import VersionLog
    from topology.settings import get_settings

    settings = get_settings()
    if settings.podstream_version:
        raise VersionError("PODSTREAM_VERSION is set: versions are ruled from the first one.")
    return settings, VersionLog(settings, open_registry(settings))


def list_versions(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every version: which is served, of what code, and how far behind the log."""
    from rich.console import Console
    from rich.table import Table

    with errors_as_sentences():
        settings, log = opened()
        versions = log.read()
        rows = [_row(settings, versions, version) for version in versions.kept()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("version", "served", "behind", "database", "made", "code")
    for row in rows:
        table.add_row(
            row["version"],
            "served" if row["served"] else "before" if row["before"] else "",
            f"{row['behind']:,}",
            row["database"],
            (row["created_at"] or "")[:19],
            row["code"],
        )
    Console().print(table)


def _row(settings: Settings, versions: Versions, version: Version) -> dict[str, Any]:
    from streams.operations.versions import Progress

    with Progress(settings, version) as progress:
        stages = progress.behind()
    return {
        "version": version.name,
        "served": version.name == versions.pointer.version,
        "before": version.name == versions.pointer.before,
        "behind": sum(stages.values()),
        "stages": stages,
        "database": version.database,
        "created_at": version.created_at.isoformat() if version.created_at else None,
        "code": version.code,
        "digest": version.digest,
    }


def diff(
    a: Annotated[str, typer.Argument(help="A version, such as the one served.")],
    b: Annotated[str, typer.Argument(help="The version to compare it with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare all tables of two versions at equal offsets; exit code 1 if any differs.

    What events change meanwhile is left out, and counted as moving.
    """
    from rich.console import Console

    from streams.cli.progress import step
    from streams.cli.version_tables import diff_tables
    from streams.kafka.registry import open_registry
    from streams.operations.version_diff import diff as run

    console = Console(stderr=True)
    with errors_as_sentences():
        settings, log = opened()
        versions = log.read()
        ours, theirs = versions.get(a), versions.get(b)
        with step(console, f"Comparing {a} and {b}") as current:
            found = run(settings, open_registry(settings), ours, theirs, current.tell)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        for table in diff_tables(found):
            Console().print(table)
    if found.differs:
        raise typer.Exit(1)


def promote(
    version: Annotated[str, typer.Argument(help="The version that readers are to see.")],
) -> None:
    """Serve another version: dashboard and API show it from the next question on.

    Waits until it has counted every event that is in the log now.
    """
    from datetime import UTC, datetime

    from rich.console import Console

    from streams.cli.progress import step
    from streams.operations.versions import promote as point
    from streams.operations.versions import wait_until_counted

    console = Console(stderr=True)
    with errors_as_sentences():
        settings, log = opened()
        versions = log.read()
        versions.promoted(version, datetime.now(UTC))
        with step(console, f"Waiting until {version} has counted all there is") as current:
            wait_until_counted(settings, versions.get(version), current.tell)
        point(settings, log, versions.promoted(version, datetime.now(UTC)))
    typer.echo(
        f"{version} is served. `podstream versions rollback` serves {versions.pointer.version} "
        "again."
    )


def rollback() -> None:
    """Serve the version that was served before, at once."""
    from datetime import UTC, datetime

    from streams.operations.versions import Progress
    from streams.operations.versions import promote as point

    with errors_as_sentences():
        settings, log = opened()
        versions = log.read()
        pointer = versions.rolled_back(datetime.now(UTC))
        point(settings, log, pointer)
        with Progress(settings, versions.get(pointer.version)) as progress:
            behind = sum(progress.behind().values())
    typer.echo(f"{pointer.version} is served, {behind:,} records behind the log.")


def retire(
    version: Annotated[str, typer.Argument(help="The version that is to go.")],
) -> None:
    """Stop a version and remove its topics, groups, database and code. Not the one served."""
    from rich.console import Console

    from streams.cli.local.rebuilding import retire as run
    from streams.kafka.registry import open_registry

    with errors_as_sentences():
        settings, _ = opened()
        run(settings, open_registry(settings), version, Console(stderr=True))
    typer.echo(f"{version} is gone.")


def describe() -> None:
    """Print, as JSON, what this code needs as the version that PODSTREAM_VERSION names."""
    from streams.cli.local.versions import describe as tell
    from topology.graph import graph_of
    from topology.settings import get_settings

    settings = get_settings()
    typer.echo(json.dumps(tell(settings, graph_of(settings))))
