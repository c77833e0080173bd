"""Makes a version of the tables beside the live one, and has it follow the log."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from schemas.registry import RestRegistry, TopicRegistry
from streams.cli.local.supervise import Supervisor
from streams.cli.local.versions import (
    Code,
    Description,
    ask,
    drop_code,
    folder_of,
    keep,
    run_in,
    take_code,
)
from streams.cli.progress import step
from streams.operations.core.versions import Version
from streams.operations.versions import (
    VersionLog,
    begin_batches,
    remove_tables,
    wait_until_counted,
)
from topology.settings import Settings


def rebuild(
    settings: Settings,
    registry: TopicRegistry | RestRegistry,
    wanted: str | None,
    console: Console,
    *,
    anew: bool = False,
) -> Version:
    """Make a version of this code, or go on with the one there is of it; return once it has counted
    every event that was in the log. It goes on following the log.

    ``wanted``: a folder or a revision; None is the code that is running. ``anew``: make another one
    although there is one of this code. VersionError if it cannot be made, or stands still.
    """
    log, home = VersionLog(settings, registry), settings.podstream_home
    with step(console, "Taking the code"):
        code = take_code(home, wanted)
    versions = log.read()
    known = None if anew else versions.of_code(code.digest)
    name = known.name if known else versions.next_name()
    folder = _placed(home, code, name, known)
    described = ask(folder, name)
    if known is None:
        version = Version(
            name,
            code.source,
            code.digest,
            datetime.now(UTC),
            described.database,
            described.stages,
        )
        # Before there is anything: what is there can be retired, however far this comes.
        log.write(version)
    else:
        version = known
        console.print(f"{name} is of this code: going on with it.", highlight=False)
    with step(console, f"Making the topics, schemas and indexes of {name}"):
        run_in(folder, name, "topology", "apply")
        begin_batches(settings, name)
    _start(home, version, described, console)
    with step(console, f"Counting every event anew for {name}") as current:
        wait_until_counted(settings, version, current.tell)
    return version


def _placed(home: Path, code: Code, name: str, known: Version | None) -> Path:
    """Where the code of the version lies: what a run before put there stays."""
    folder = folder_of(home, name)
    if known is None or not folder.is_dir():
        return keep(home, code, name)
    shutil.rmtree(code.folder)
    return folder


def _start(home: Path, version: Version, described: Description, console: Console) -> None:
    """Start the processes of a version, or say how where no supervisor runs."""
    supervisor = Supervisor(home)
    if not supervisor.running():
        console.print(
            f"No instance runs here: start the workers of {version.name} as those of the first "
            f"version, with its code and PODSTREAM_VERSION={version.name}.",
            highlight=False,
        )
        return
    names = [program.name for program in described.programs]
    with step(console, f"Starting {', '.join(names)}"):
        supervisor.add(version.name, described.programs)
        supervisor.start(names)


def retire(
    settings: Settings, registry: TopicRegistry | RestRegistry, name: str, console: Console
) -> None:
    """Stop a version and remove all that is its own. VersionError if it has to stay, or if workers
    of it run elsewhere. Cut off, the same call does the rest."""
    log, home = VersionLog(settings, registry), settings.podstream_home
    retired = log.read().retired(name)
    supervisor = Supervisor(home)
    with step(console, f"Stopping {name}"):
        supervisor.remove(name)
    with step(console, f"Removing what {name} has made") as current:
        current.tell(", ".join(remove_tables(settings, retired)))
    log.write(retired)
    drop_code(home, name)
