"""`podstream import` and `podstream produce`: data from outside into the topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.operations.reports import Report

ExistingFile = Annotated[
    Path,
    typer.Argument(exists=True, dir_okay=False, help="CSV, JSON lines or Parquet, or its .gz."),
]


class MovieLens(StrEnum):
    """The data sets that `import movielens` knows."""

    ML_100K = "ml-100k"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Import episodes, events and feeds to follow.")
    group.command("episodes")(import_episodes)
    group.command("events")(import_events)
    group.command("opml")(import_opml)
    group.command("movielens")(import_movielens)
    app.add_typer(group, name="import")
    app.command("produce")(produce)


def import_episodes(file: ExistingFile) -> None:
    """Import episodes: columns episode_id, title, and optionally show_id, show_title, description,
    categories, language, published_at, duration_s, explicit, enclosure_url, transcript_text."""
    from streams.operations.importing import import_episodes as run
    from topology.graph import get_graph
    from topology.settings import get_settings

    with _sentences(), _progress(f"Importing {file.name}") as advance:
        report = run(file, get_settings(), get_graph(), _refuse, advance)
    _finish(report)


def import_events(file: ExistingFile) -> None:
    """Import listener events: columns user_id, episode_id, kind, occurred_at (a time), and
    optionally event_id, heard_ms, position_ms, session_id, surface, rank, arm, user_agent,
    generation. Without an event_id, rows that are equal in every column count once.

    A file counts once, however often it is imported: a run that was killed goes on where it was.
    """
    from streams.operations.event_import import import_events as run
    from streams.runtime.without_pandas import keep_pandas_out
    from topology.settings import get_settings

    keep_pandas_out()  # a second of the start
    with _sentences(), _progress(f"Importing {file.name}") as advance:
        report = run(file, get_settings(), _refuse, advance)
    _tell_known(report, file.name)
    if report.finished_at is None:
        _finish(report)


def import_opml(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An OPML file.")],
) -> None:
    """Follow the feeds that an OPML file lists, as any podcast app exports one."""
    from streams.operations.importing import import_opml as run
    from topology.graph import get_graph
    from topology.settings import get_settings

    def refuse(place: int, reason: str) -> None:
        typer.echo(f"feed {place}: {reason}", err=True)

    with _sentences():
        report = run(file, get_settings(), get_graph(), refuse)
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    new = report.delivered.total()
    typer.echo(f"{new:,} new feeds are followed from now on, {report.known:,} were already")
    if report.refused:
        typer.echo(f"{report.refused:,} feeds refused", err=True)
    if not new + report.known:
        typer.echo(f"{file.name} lists no feed that could be followed.", err=True)
        raise typer.Exit(1)


def import_movielens(dataset: MovieLens) -> None:
    """Replay MovieLens as episodes and listener events, in the order of time."""
    from streams.operations.importing import import_movielens as run
    from topology.graph import get_graph
    from topology.settings import get_settings

    with _sentences(), _progress(f"Importing MovieLens {dataset}") as advance:
        report = run(get_settings(), get_graph(), advance)
    _tell_known(report, f"MovieLens {dataset}")
    _finish(report)


def produce(
    topic: Annotated[str, typer.Argument(help="A topic of Avro records.")],
    key: Annotated[
        str | None, typer.Option(help="Field that is the message key; else the declared one.")
    ] = None,
) -> None:
    """Send JSON lines from standard input, each checked against the topic's schema.

    Times are ISO 8601 or milliseconds since 1970, bytes base64. Ends with 1 if a line was refused.
    """
    import sys

    from schemas import files
    from streams.operations.importing import key_fields, produce_lines
    from topology.graph import get_graph
    from topology.settings import get_settings

    graph = get_graph()
    declared = graph.topics.get(topic)
    if declared is None or declared.format != "avro" or declared.schema is None:
        names = [one.name for one in graph.topics.values() if one.format == "avro"]
        raise typer.BadParameter(
            f"{topic} is no topic of Avro records; those are {', '.join(names)}"
        )
    try:
        fields = (key,) if key else key_fields(declared)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    known = [one["name"] for one in files.load(declared.schema)["fields"]]
    if not set(fields) <= set(known):
        raise typer.BadParameter(f"{key} is no field of {topic}; those are {', '.join(known)}")
    with _sentences():
        report = produce_lines(sys.stdin.buffer, declared, fields, get_settings(), graph, _refuse)
    typer.echo(f"{report.delivered.total()} records sent to {topic}", err=True)
    if report.refused:
        typer.echo(f"{report.refused} lines refused", err=True)
        raise typer.Exit(1)


def _refuse(line: int, reason: str) -> None:
    typer.echo(f"line {line}: {reason}", err=True)


def _tell_known(report: Report, name: str) -> None:
    if report.finished_at is not None:
        typer.echo(
            f"{name} was imported already ({report.known:,} events, "
            f"{report.finished_at:%Y-%m-%d %H:%M} UTC): no event was added."
        )
    elif report.begun_after:
        typer.echo(f"Went on after line {report.begun_after:,}: {report.known:,} events were there")


def _finish(report: Report) -> None:
    for topic, count in sorted(report.delivered.items()):
        typer.echo(f"{count:,} records sent to {topic}")
    if report.refused:
        typer.echo(f"{report.refused:,} rows refused", err=True)
    if not report.delivered.total() + report.known:
        typer.echo("Nothing was imported.", err=True)
        raise typer.Exit(1)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error; gives what moves it, from 0 to 1."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)


@contextmanager
def _sentences() -> Iterator[None]:
    """What a user can mend ends the command with a sentence instead of a traceback."""
    from confluent_kafka import KafkaException

    from streams.operations.reports import ImportFailedError
    from streams.operations.table_source import FileError

    try:
        yield
    except (ImportFailedError, FileError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except KafkaException as error:
        typer.echo(f"The broker does not answer ({error}). `podstream up` starts it.", err=True)
        raise typer.Exit(1) from error
