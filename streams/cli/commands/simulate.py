"""`podstream simulate`: simulated listeners, as many and as busy as you like."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("simulate")(simulate)


def simulate(
    listeners: Annotated[int, typer.Option(min=1, help="How many listeners there are.")] = 200,
    rate: Annotated[float, typer.Option(min=0.1, help="Events a second, all together.")] = 40.0,
    seed: Annotated[int, typer.Option(help="What tastes and decisions are drawn from.")] = 1,
    seconds: Annotated[
        float | None, typer.Option(min=1.0, help="Stop after that long; else at Ctrl-C.")
    ] = None,
) -> None:
    """Simulate listeners against the running instance, and say how good what they see is."""
    import signal
    import threading

    from rich.console import Console

    from streams.demo.simulate_listeners import simulate as run
    from topology.graph import get_graph
    from topology.settings import get_settings

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    console = Console(highlight=False)
    with console.status(f"{listeners} listeners, {rate:g} events/s; Ctrl-C stops them"):
        truth = run(
            get_settings(),
            get_graph(),
            listeners=listeners,
            rate=rate,
            seed=seed,
            seconds=seconds,
            stop=stop,
            report=console.print,
        )
    console.print(truth.line())
    console.print(truth.verdict())
