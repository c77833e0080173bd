"""`podstream rebuild|replay`: live tables out of the log anew, beside the old ones or instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.kafka.log_reader import SilentLogError
    from streams.operations.rebuild import RebuildResult


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(rebuild)
    app.command()(replay)


def rebuild(
    code: Annotated[
        str | None,
        typer.Option(help="Revision, or folder, of the code; without it, the code that runs."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--new", help="Another version, though there is one of this code.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Make no version: count what is served anew by its own code, compare."
        ),
    ] = False,
    drop_kept: Annotated[
        bool, typer.Option("--drop-kept", help="Remove what earlier checks kept beside.")
    ] = False,
) -> None:
    """Make every table anew from the log, by this code or another: a version beside the live one.

    It counts at full speed, then follows the log. Cut off, the same command goes on.
    `podstream versions diff` compares it, `podstream versions promote` serves it.
    """
    if check or drop_kept:
        if code is not None or anew:
            raise typer.BadParameter("--check and --drop-kept are about what is served")
        _check(count=check, drop_kept=drop_kept)
        return
    from rich.console import Console

    from streams.cli.commands.versions import errors_as_sentences, opened
    from streams.cli.local.rebuilding import rebuild as run
    from streams.kafka.registry import open_registry

    with errors_as_sentences():
        settings, log = opened()
        made = run(settings, open_registry(settings), code, Console(stderr=True), anew=anew)
        served = log.read().pointer.version
    typer.echo(
        f"{made.name} has counted every event and follows the log, of {made.code}. "
        f"`podstream versions diff {served} {made.name}` compares it with what is served."
    )


def _check(*, count: bool, drop_kept: bool) -> None:
    """Count three tables anew in this process and compare; exit 1, and nothing live is touched, if
    they differ."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from streams.operations.rebuild import Rebuilder, RebuildError, drop_kept_generations
    from topology.settings import get_settings

    settings = get_settings()
    if drop_kept:
        for name in drop_kept_generations(settings):
            typer.echo(f"dropped {name}")
    if not count:
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("replaying events", total=None)
        rebuilder = Rebuilder(
            settings,
            say=bar.console.print,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        try:
            result = rebuilder.run()
        except (RebuildError, SilentLogError) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None
        finally:
            rebuilder.close()
    _report(result)
    if not result.promoted:
        raise typer.Exit(1)


def _report(result: RebuildResult) -> None:
    rate = result.events / max(result.seconds, 1e-9)
    typer.echo(
        f"{result.events} events counted ({result.refused} refused, {result.repeats} repeats, "
        f"{result.moved} handed over) "
        f"in {result.seconds:.1f} s: {rate:,.0f} events/s"
    )
    for comparison in result.comparisons:
        verdict = "agree" if comparison.agrees else "DIFFER"
        typer.echo(f"{comparison.table}: {comparison.rows} rows, digests {verdict}")
        typer.echo(f"  rebuilt {comparison.rebuilt_digest}")
        typer.echo(f"  live    {comparison.live_digest}")
        for difference in comparison.differences:
            key = ", ".join(str(value) for value in difference.key.values())
            typer.echo(f"  {key}: rebuilt {difference.rebuilt}, live {difference.live}")
    if result.promoted:
        typer.echo(
            f"Generation {result.generation} is served; the one before it is kept in "
            f"{result.beside} (`podstream rebuild --drop-kept` removes it)."
        )
    else:
        typer.echo(
            f"Generation {result.generation} is not promoted: it lies in {result.beside}, and "
            f"the live tables are as they were."
        )


def replay(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages that are to forget all they have counted.")
    ] = None,
    checkpoints_removed: Annotated[
        bool,
        typer.Option(
            "--checkpoints-removed",
            help="The checkpoints that the command cannot reach are gone.",
        ),
    ] = False,
) -> None:
    """Send every event through again; the stages named begin from nothing, the others skip it.

    What the named stages have made goes: topics are purged and Delta tables emptied. Only the
    broker may run: `podstream up --only broker --detach` before, `podstream up` after. A command
    that was cut off is given again.
    """
    from confluent_kafka import KafkaException

    from jobs.write_delta import histories
    from streams.cli.local.claims import ClaimError, claim_delta_root
    from streams.cli.local.supervise import ALIVE, Supervisor
    from streams.kafka.clients import DeliveryError, PartitionsError
    from streams.kafka.registry import open_registry
    from streams.operations.replay import ReplayError
    from streams.operations.replay import replay as run
    from topology.graph import get_graph
    from topology.settings import get_settings

    settings, graph = get_settings(), get_graph()
    supervisor = Supervisor(settings.podstream_home)
    if supervisor.running():  # Spark's queries have no consumer groups that would tell
        queries = {stage.worker for stage in graph.stages.values() if stage.runner == "spark"}
        for process in supervisor.processes():
            if process.name in queries and process.state in ALIVE:
                typer.echo(f"{process.name} is running: stop all but the broker first.", err=True)
                raise typer.Exit(1)
    try:
        claim_delta_root(settings.delta_root, settings.podstream_home)
        events = run(
            settings,
            graph,
            open_registry(settings),
            stages or (),
            histories(settings, graph),
            checkpoints_removed=checkpoints_removed,
            say=typer.echo,
        )
    except (ReplayError, ClaimError, PartitionsError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyError as error:  # a broker without topics
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None
    except (KafkaException, DeliveryError, TimeoutError, OSError) as error:
        typer.echo(f"cut off: {error or type(error).__name__}; run the command again", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{events} events come again once batch_events runs.")
