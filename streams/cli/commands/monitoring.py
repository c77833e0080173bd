"""`podstream exporter`: what is measured of a whole instance, for Prometheus."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(exporter)


def exporter(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Where to answer; 0: METRICS_PORT.")
    ] = 0,
) -> None:
    """Tell Prometheus what `podstream status` shows, each time that it asks."""
    from streams.cli.exporter import run
    from streams.monitoring.logs import set_up_logs
    from topology.settings import get_settings

    settings = get_settings()
    if not (answered := port or settings.metrics_port):
        raise typer.BadParameter("say --port, or set METRICS_PORT")
    set_up_logs(settings, "exporter")
    try:
        run(settings.model_copy(update={"metrics_port": answered}))
    except OSError as error:
        typer.echo(f"Port {answered} cannot be used: {error.strerror}.", err=True)
        raise typer.Exit(1) from None
