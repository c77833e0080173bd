"""`podstream model`: generations of the recommendation model: list, promote, take back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from streams.recommendation.core.listing import ListedGeneration
    from streams.recommendation.generation_log import GenerationLog


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        help="Generations of the recommendation model: list, promote, take back.",
        no_args_is_help=True,
    )
    group.command("list")(list_generations)
    group.command("promote")(promote)
    group.command("rollback")(rollback)
    app.add_typer(group, name="model")


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    """End the command with a sentence, and exit code 1, where the broker fails or a generation
    cannot serve."""
    from confluent_kafka import KafkaException

    from streams.kafka.clients import DeliveryError
    from streams.recommendation.core.listing import ChoiceError

    try:
        yield
    except KeyError as error:  # a broker without topics
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None
    except (ChoiceError, DeliveryError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KafkaException as error:
        typer.echo(f"The broker does not answer ({error}). `podstream up` starts it.", err=True)
        raise typer.Exit(1) from error


def _opened() -> GenerationLog:
    from streams.kafka.registry import open_registry
    from streams.recommendation.generation_log import GenerationLog
    from topology.settings import get_settings

    settings = get_settings()
    return GenerationLog(settings, open_registry(settings))


def list_generations(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, of all of them.")] = False,
    count: Annotated[int, typer.Option(min=1, help="Generations in the table.")] = 20,
) -> None:
    """Show the generations, newest first: of how much, what they are worth, and their state.

    A generation is serving, kept (it could serve), refused, or past. nDCG@10 is on listening that
    the training did not see, with its standard error, beside that of recommending the most popular.
    """
    with _errors_as_sentences():
        found = _opened().read()
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in found], ensure_ascii=False, indent=2))
        return
    if not found:
        typer.echo("No generation yet: the first is trained once enough was listened to.")
        return
    from rich.console import Console

    listed = shown(found, count)
    Console().print(table_of(listed))
    for one in listed:
        if one.because:
            typer.echo(f"{one.generation} is {one.state}: {one.because}")
    if len(found) > count:
        typer.echo(f"… and {len(found) - count:,} older ones (--count).")


def promote(
    generation: Annotated[
        str, typer.Argument(help="A generation that is kept, or `latest`: always the newest.")
    ],
) -> None:
    """Have lists made with a generation, whatever is trained after it, until another is chosen.

    Every worker follows at once, and makes the lists of all listeners anew in the background.
    """
    from streams.recommendation.core.listing import promoted

    _choose(lambda found, at: promoted(found, generation, at))


def rollback() -> None:
    """Have lists made with the generation that is kept from before the one in service.

    It stays so until another is chosen: `podstream model promote latest` undoes it.
    """
    from streams.recommendation.core.listing import rolled_back

    _choose(rolled_back)


def _choose(make: Callable[[list[ListedGeneration], datetime], dict[str, Any]]) -> None:
    """Write the record of a choice, made of what there is, and say what it means."""
    with _errors_as_sentences():
        log = _opened()
        record = make(log.read(), datetime.now(UTC))
        log.choose(record)
    before = f", in place of {record['before']}" if record["before"] else ""
    if record["generation"]:
        typer.echo(
            f"Generation {record['generation']} serves from now on{before}. Newer trainings wait "
            "for `podstream model promote latest`."
        )
    else:
        typer.echo(f"The newest generation that is not refused serves from now on{before}.")


def shown(found: Sequence[ListedGeneration], count: int) -> list[ListedGeneration]:
    """The newest ``count`` generations, and older ones that serve or could."""
    return [
        one for place, one in enumerate(found) if place < count or one.state in ("serving", "kept")
    ]


def table_of(found: Sequence[ListedGeneration]) -> Table:
    """Generations for the terminal."""
    from rich.table import Table

    table = Table()
    for name in ("generation", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("listeners", "episodes", "pairs", "nDCG@10", "popularity"):
        table.add_column(name, justify="right")
    for one in found:
        error = f" ± {one.error:.4f}" if one.error is not None else ""
        table.add_row(
            one.generation,
            one.state,
            f"{one.users:,}",
            f"{one.items:,}",
            f"{one.interactions:,}",
            "n/a" if one.ndcg_at_10 is None else f"{one.ndcg_at_10:.4f}{error}",
            "n/a" if one.popularity is None else f"{one.popularity:.4f}",
        )
    return table
