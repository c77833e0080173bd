"""Who may run where: one `up` at a time in a home, one instance for the tables of a Delta root, and
no processes left that a killed supervisor was to look after.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from rich.console import Console

from streams.cli.local.programs import BROKER, MONGO
from streams.cli.local.supervise import socket_path
from streams.cli.progress import step
from topology.places import local_folder

STOP_S = 20.0
CLAIM = "_podstream_home"
"""File in a Delta root that says which home writes it. A name that begins so is none of a table's
files for Spark or Delta."""

RESTORING = "restoring"
"""File in a home for as long as it does not hold all of the snapshot that is restored into it."""

_SERVICES = {BROKER, MONGO}
"""The other processes need them until they have stopped."""

_ODD = re.compile(r"[^A-Za-z0-9 ._/+@=~-]")


class ClaimError(RuntimeError):
    """Another instance is in the way, or the home cannot be one; the message says what to do."""


def check_home(home: Path) -> None:
    """Raise ClaimError if the path cannot stand in the configuration of the services.

    Kafka's list of folders ends at commas and its files are Latin-1, the supervisor takes what is
    behind ` #` or ` ;` for a comment, and Spark reads paths as URIs.
    """
    if odd := sorted(set(_ODD.findall(str(home)))):
        raise ClaimError(
            f"{home} cannot be an instance's home: Kafka, Spark or the supervisor would misread "
            f"{' '.join(odd)} in it. Choose another PODSTREAM_HOME, of ASCII letters, digits, "
            "blanks and . _ - + @ = ~ only."
        )


@contextmanager
def starting(home: Path) -> Iterator[None]:
    """A block that one process at a time is in; ClaimError if another one is.

    The lock is the open file's: it ends with the process, however that ends.
    """
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClaimError(
                f"Another `podstream up` is starting the instance in {home}, or a snapshot of it "
                "is taken or restored: wait for that, or choose another PODSTREAM_HOME."
            ) from None
        yield


def check_restored(home: Path) -> None:
    """Raise ClaimError if a restore into the home was cut off."""
    if (home / RESTORING).exists():
        raise ClaimError(
            f"A restore into {home} was cut off, so part of the instance is missing: give the same "
            "`podstream restore` again, or remove the home."
        )


def claim_delta_root(root: str, home: Path) -> str | None:
    """Note that this home writes the tables there; a sentence where that cannot be noted.

    Tables of two logs in one place would each pass for the other's, offsets and all: ClaimError if
    another home writes there. An object store is Spark's to reach: only it has the store's client
    and credentials, and few stores let one of two writers of the same file lose.
    """
    folder = local_folder(root)
    if folder is None:
        return (
            f"DELTA_ROOT={root} is no folder, so nothing notes that it is this instance's: "
            "see to it that no other one writes there."
        )
    if folder.is_relative_to(home):
        return None
    claim = folder / CLAIM
    if claim.is_file():
        owner = claim.read_text()
        if owner != str(home):
            raise ClaimError(
                f"The Delta tables in {root} are those of the instance in {owner}: choose another "
                f"DELTA_ROOT. If that instance is no more, remove {root} to begin anew."
            )
        return None
    folder.mkdir(parents=True, exist_ok=True)
    claim.write_text(str(home))
    return None


def orphans(home: Path) -> list[psutil.Process]:
    """The processes that a supervisor of this home started: call it when none runs.

    supervisord tells what it starts where it listens, and that is handed on to their children.
    """
    supervisor = f"unix://{socket_path(home)}"
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.uids().real == os.getuid() and process.pid != os.getpid()
            if mine and process.environ().get("SUPERVISOR_SERVER_URL") == supervisor:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def names_of(processes: Sequence[psutil.Process]) -> list[str]:
    """The programs that processes belong to, each once."""
    names = set()
    for process in processes:
        try:
            names.add(process.environ()["SUPERVISOR_PROCESS_NAME"])
        except (psutil.NoSuchProcess, psutil.AccessDenied, KeyError):
            continue
    return sorted(names)


def stop_orphans(home: Path, console: Console) -> list[str]:
    """End what a killed supervisor has left, the services last, and say so; its programs."""
    left = orphans(home)
    if not left:
        return []
    names = names_of(left)
    with step(console, "Stopping what a killed supervisor has left"):
        services = [one for one in left if set(names_of([one])) & _SERVICES]
        for some in ([one for one in left if one not in services], services):
            _end(some)
        _end(orphans(home))  # what they have started meanwhile
    console.print(f"The supervisor had been killed; it left {', '.join(names)}, now stopped.")
    return names


def _end(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=STOP_S)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=STOP_S)
