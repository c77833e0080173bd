"""`podstream snapshot|restore`: an instance as it is at one moment, and one made of that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

PRIVATE = 0o077
"""Mask of the files that are written: they are for nobody else, as those of an instance are."""


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(snapshot)
    app.command()(restore)


def snapshot(
    path: Annotated[Path, typer.Argument(help="New folder for the snapshot, on any disk.")],
) -> None:
    """Write the whole instance as it is at one moment into a folder, while it runs."""
    from rich.console import Console

    from streams.cli.local.instance import settings_of_home, stop_signals
    from streams.cli.local.snapshots import take

    console = Console()
    os.umask(PRIVATE)
    with _errors_as_sentences(), stop_signals():
        manifest = take(settings_of_home(), path, console)
    console.print(
        f"{path} holds {len(manifest.files):,} files of {manifest.size / 2**20:,.0f} MiB. "
        "`podstream restore` makes an instance of it in an empty PODSTREAM_HOME.",
        highlight=False,
        markup=False,
    )


def restore(
    path: Annotated[Path, typer.Argument(help="Folder of a snapshot.")],
) -> None:
    """Make an instance of a snapshot in PODSTREAM_HOME, which has to be empty; start nothing."""
    from rich.console import Console

    from streams.cli.local.instance import settings_of_home, stop_signals
    from streams.cli.local.snapshots import restore as make_instance

    console = Console()
    os.umask(PRIVATE)
    with _errors_as_sentences(), stop_signals():
        settings = settings_of_home()
        manifest = make_instance(settings, path, console)
    console.print(
        f"{settings.podstream_home} is as it was at {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC. "
        "`podstream up` goes on from there.",
        highlight=False,
        markup=False,
    )


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    """Errors that a user can mend end the command with their message instead of a traceback."""
    from streams.cli.local.claims import ClaimError
    from streams.cli.local.freezing import FreezeError
    from streams.cli.local.supervise import SupervisorError
    from streams.operations.core.snapshots import SnapshotError

    try:
        yield
    except (SnapshotError, FreezeError, ClaimError, SupervisorError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
        raise typer.Exit(130) from None
