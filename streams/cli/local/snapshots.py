"""Takes a snapshot of an instance while it runs, and makes an instance of a snapshot."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console

from streams.cli.local.claims import CLAIM, RESTORING, check_home, names_of, starting
from streams.cli.local.freezing import Freeze, FreezeError, frozen
from streams.cli.local.mongo import DATA_FILE
from streams.cli.local.programs import BROKER, MONGO, embedded_services
from streams.cli.local.supervise import Supervisor
from streams.cli.local.versions import ask, folder_of
from streams.cli.progress import Step, step
from streams.operations.capture import Capture, check_room, digest, places, read, share, write
from streams.operations.core import snapshots
from streams.operations.core.snapshots import (
    FILES,
    MANIFEST,
    Manifest,
    SnapshotError,
    SnapshotFile,
)
from streams.operations.core.versions import VersionError
from streams.operations.pinned_database import PinnedDatabase
from topology import versions as versioning
from topology.settings import Settings

FIXED = ("event_partitions", "allowed_lateness_s", "dedup_window", "mongodb_database")
"""Settings that what is in the log and in state was made with."""

ATTEMPTS = 5
PAUSE_S = 1.0
"""Before the next attempt to hold everything still."""

_LOWEST_PRIORITY = 19


def _fixed(settings: Settings) -> dict[str, int | str]:
    return {name: getattr(settings, name) for name in FIXED}


def _check_embedded(settings: Settings) -> None:
    if set(embedded_services(settings)) != {BROKER, MONGO}:
        raise SnapshotError(
            "A snapshot is of an instance with a broker and a MongoDB of its own, and "
            "KAFKA_BOOTSTRAP_SERVERS or MONGODB_URI names others: those have ways of their own."
        )


# -- taking one ----------------------------------------------------------------------------------


def take(settings: Settings, target: Path, console: Console) -> Manifest:
    """Write a snapshot of the instance, which may run, into a new folder.

    SnapshotError, FreezeError or ClaimError if that cannot be; there is no such folder then.
    """
    _check_embedded(settings)
    target, home = target.expanduser().absolute(), settings.podstream_home
    if target.exists():
        raise SnapshotError(f"{target} exists: choose another place for the snapshot.")
    beside = _versions(home)
    folders = places(settings, beside)
    copied = (folder for part, folder in folders.items() if part != snapshots.HOME)
    if any(map(target.is_relative_to, copied)):
        raise SnapshotError(f"{target} is among what is to be copied: choose another place.")
    if not folders[snapshots.KAFKA].is_dir():
        raise SnapshotError(f"There is no instance in {home} to take a snapshot of.")
    with ExitStack() as held:
        held.enter_context(starting(home))
        capture = Capture(folders, left_out=(CLAIM,))
        held.callback(capture.close)
        database = _database(home)
        if database is not None:
            held.callback(database.close)
        with step(console, "Looking at what there is"):
            _, wanted = capture.look()
            check_room(target, wanted + _size(home / "mongo"), settings)
        with step(console, "Holding every process still") as current:
            freeze = _take_at_one_moment(home, capture, database, current)
        at, broker = datetime.now(UTC), _process(freeze, BROKER)
        console.print(
            f"  {len(freeze.processes)} processes stood still for {freeze.seconds * 1000:.0f} ms",
            highlight=False,
        )
        with _whole_or_not_at_all(target) as folder:
            psutil.Process().nice(_LOWEST_PRIORITY)  # from here on nobody waits for us
            with step(console, f"Writing {target}") as current:
                files = capture.copy(folder / FILES, current.tell)
                if database is not None:
                    files.append(_copy(database, folder / FILES, current))
                os.sync()
            _check_same_broker(broker)
            manifest = Manifest(
                format=snapshots.FORMAT,
                podstream=version("podstream"),
                taken_at=at,
                frozen_ms=round(freeze.seconds * 1000),
                settings=_fixed(settings),
                versions=beside,
                files=files,
            )
            (folder / MANIFEST).write_bytes(snapshots.encode(manifest))
    return manifest


def _versions(home: Path) -> list[str]:
    """The versions beside the first whose code lies in a home."""
    folders = [path.parent.name for path in (home / "versions").glob("*/code")]
    return sorted(name for name in folders if re.match(versioning.PATTERN, name))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def _database(home: Path) -> PinnedDatabase | None:
    path = home / "mongo" / DATA_FILE
    return PinnedDatabase(path) if path.is_file() else None


def _take_at_one_moment(
    home: Path, capture: Capture, database: PinnedDatabase | None, current: Step
) -> Freeze:
    """Capture everything while nothing runs; again if that took too long, or if the server of
    MongoDB was held just when nobody else may look at its file."""
    attempt = 1
    while True:
        try:
            with frozen(home) as freeze:
                capture.take()
                if database is not None:
                    database.pin()
            return freeze
        except (FreezeError, sqlite3.OperationalError) as error:
            if attempt == ATTEMPTS:
                raise FreezeError(
                    f"There was no moment to take a snapshot of, in {ATTEMPTS} attempts: {error}"
                ) from error
            current.tell(f"attempt {attempt}: {error}")
            attempt += 1
            time.sleep(PAUSE_S)


@contextmanager
def _whole_or_not_at_all(target: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``target`` at the end and is removed after an error."""
    partial = target.with_name(f"{target.name}.incomplete-snapshot")
    shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
    partial.mkdir(parents=True, mode=0o700)
    try:
        yield partial
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _copy(database: PinnedDatabase, into: Path, current: Step) -> SnapshotFile:
    path = into / snapshots.MONGO / DATA_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    database.copy(
        path, lambda left, total: current.tell(f"documents, {left} of {total} pages left")
    )
    state = path.stat()
    name = f"{snapshots.MONGO}/{DATA_FILE}"
    return SnapshotFile(name, state.st_size, digest(path), state.st_mtime_ns)


def _process(freeze: Freeze, name: str) -> psutil.Process | None:
    return next((one for one in freeze.processes if names_of([one]) == [name]), None)


def _check_same_broker(broker: psutil.Process | None) -> None:
    """Raise SnapshotError if it has ended since: at its next start it may cut its files."""
    if broker is not None and not broker.is_running():
        raise SnapshotError(
            "The broker ended while its files were copied, and may have cut them: take the "
            "snapshot again."
        )


# -- making an instance of one -------------------------------------------------------------------


def restore(settings: Settings, source: Path, console: Console) -> Manifest:
    """Write what a snapshot holds into the empty home of these settings.

    Nothing is written before every file of the snapshot is as it was when it was taken. Cut off, it
    is given again. SnapshotError or ClaimError if it cannot be.
    """
    _check_embedded(settings)
    home = settings.podstream_home
    check_home(home)
    source = source.expanduser().absolute()
    manifest = _manifest(source)
    if said := snapshots.differing(manifest.settings, _fixed(settings)):
        raise SnapshotError(said)
    folders = places(settings, manifest.versions)
    _check_empty(home, folders)
    with starting(home):
        check_room(home, manifest.size, settings)
        with step(console, f"Checking {source}") as current:
            _check_files(source / FILES, manifest, current)
        marker = home / RESTORING
        marker.touch(mode=0o600)
        with step(console, f"Writing {home}") as current:
            _clear(home, folders)
            _place(source / FILES, manifest, folders, current)
            os.sync()
        marker.unlink()
        _add_versions(home, manifest.versions, console)
    return manifest


def _manifest(source: Path) -> Manifest:
    try:
        return snapshots.decode((source / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise SnapshotError(f"There is no snapshot in {source}: it has no {MANIFEST}.") from None


def _check_empty(home: Path, folders: dict[str, Path]) -> None:
    if (home / RESTORING).exists():
        return
    used = [home, *(folder for folder in folders.values() if not folder.is_relative_to(home))]
    for folder in used:
        # of a home, the folder of who works in it
        if folder.is_dir() and {path.name for path in folder.iterdir()} - {"run"}:
            raise SnapshotError(
                f"{folder} is not empty: restore into another place, such as a new PODSTREAM_HOME."
            )


def _clear(home: Path, folders: dict[str, Path]) -> None:
    """Remove what a restore that was cut off has left."""
    for part, folder in folders.items():
        if part != snapshots.HOME:
            shutil.rmtree(folder, ignore_errors=True)
    (home / snapshots.DEMO_BEGAN).unlink(missing_ok=True)


def _check_files(folder: Path, manifest: Manifest, current: Step) -> None:
    done = 0
    for file in manifest.files:
        path = folder / file.path
        if path.is_symlink() or not path.is_file():
            raise SnapshotError(f"The snapshot is not whole: {path} is missing.")
        if path.stat().st_size != file.size or digest(path) != file.sha256:
            raise SnapshotError(f"The snapshot is damaged: {path} is not what was written then.")
        done += file.size
        current.tell(share(done, manifest.size))


def _place(folder: Path, manifest: Manifest, folders: dict[str, Path], current: Step) -> None:
    done = 0
    for file in manifest.files:
        part, _, path = file.path.partition("/")
        target = folders[part] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if write(read(folder / file.path), target) != file.sha256:
            raise SnapshotError(f"{folder / file.path} changed while it was read.")
        # Delta's and Kafka's retention go by it
        os.utime(target, ns=(file.modified_ns, file.modified_ns))
        done += file.size
        current.tell(share(done, manifest.size))


def _add_versions(home: Path, names: list[str], console: Console) -> None:
    """Have the processes of versions beside the first, under the paths of this home."""
    for name in names:
        try:
            Supervisor(home).add(name, ask(folder_of(home, name), name).programs)
        except VersionError as error:
            console.print(
                f"The processes of {name} are not among those of this instance: {error}",
                highlight=False,
                markup=False,
            )
