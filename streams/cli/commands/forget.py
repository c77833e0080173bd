"""`podstream forget`: ask that a listener be forgotten."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(forget)


def forget(user: Annotated[str, typer.Argument(help="A listener's user_id.")]) -> None:
    """Forget a listener: what was done up to now leaves state, lists and history.

    The request takes its place in the log; what is done after it counts again. docs/forgetting.md
    says what leaves within what time, and what the log keeps until when.
    """
    from confluent_kafka import KafkaException

    from streams.events.forgetting import ForgetRequests
    from streams.kafka.clients import DeliveryError
    from topology.settings import get_settings

    try:
        ForgetRequests(get_settings()).ask(user)
    except ValueError as error:
        typer.echo(f"Nobody can have this id: {error}.", err=True)
        raise typer.Exit(2) from error
    except (DeliveryError, KafkaException) as error:
        typer.echo(f"The broker did not take the request ({error}): nothing is asked.", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"Asked: {user} is forgotten as soon as batch_events has read this far.")
