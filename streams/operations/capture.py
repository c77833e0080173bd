"""An instance's files as they are at one moment, copied while their owners go on writing.

What is taken at the moment costs little: a small file is read, a large one opened. All that is
large in an instance is appended to, or replaced by another file under its name, so an open file
and its length at the moment are what it was then, also when its name is gone.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from streams.operations.core.snapshots import (
    CHECKPOINTS,
    DELTA,
    HOME,
    KAFKA,
    MONGO,
    VERSIONS,
    SnapshotError,
    SnapshotFile,
    kept,
)
from streams.operations.disk import existing
from topology.places import local_folder
from topology.settings import Settings
from topology.versions import beside

SMALL = 16_384
"""Files up to so many bytes are read at once."""

SPARE_FILES = 64
"""Open files that the process needs besides."""

_CHUNK = 1 << 20

Tell = Callable[[str], None]


def places(settings: Settings, versions: Iterable[str]) -> dict[str, Path]:
    """Part of a snapshot -> its folder in this instance. SnapshotError if one is in no folder."""
    home = settings.podstream_home
    found = {
        KAFKA: home / "kafka" / "data",
        MONGO: home / "mongo",
        VERSIONS: home / "versions",
        HOME: home,
    }
    roots = {DELTA: settings.delta_root, CHECKPOINTS: settings.checkpoint_root}
    for part, root in roots.items():
        folder = local_folder(root)
        if folder is None:
            raise SnapshotError(
                f"{part} lies in {root}, which cannot be held still together with the log: "
                "a snapshot is of an instance whose tables are in folders of this machine."
            )
        for name in ("", *versions):
            found[beside(part, name)] = Path(beside(str(folder), name))
    return found


class Captured(NamedTuple):
    """A file at the moment: its path in a snapshot, and its bytes or the open file of it."""

    path: str
    size: int
    modified_ns: int
    content: bytes | int


class Capture:
    """The files of some parts; `take` them while nobody writes, then copy them at leisure."""

    def __init__(self, places: Mapping[str, Path], left_out: Iterable[str] = ()) -> None:
        self._places = dict(places)
        self._left_out = frozenset(left_out)
        self._files: list[Captured] = []

    def look(self) -> tuple[int, int]:
        """How many files there are now and their bytes; allow this process to open them all.

        SnapshotError if it may not.
        """
        sizes = []
        for path, _ in self._walk():
            with suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        large = sum(size > SMALL for size in sizes)
        allow_open_files(large + large // 4 + SPARE_FILES)
        return len(sizes), sum(sizes)

    def take(self) -> None:
        """Hold every file as it is now, in the place of what was taken before."""
        self.close()
        for path, name in self._walk():
            with suppress(FileNotFoundError):
                self._files.append(_captured(path, name))

    def _walk(self) -> Iterator[tuple[Path, str]]:
        for part, place in sorted(self._places.items()):
            pending = [PurePosixPath()]
            while pending:
                folder = pending.pop()
                try:
                    with os.scandir(place / folder) as entries:
                        found = {entry.name: entry for entry in entries}
                except (FileNotFoundError, NotADirectoryError):
                    continue
                for name in kept(part, folder, found.keys() - self._left_out):
                    if found[name].is_dir(follow_symlinks=False):
                        pending.append(folder / name)
                    elif found[name].is_file():
                        yield Path(found[name].path), f"{part}/{folder / name}"

    @property
    def size(self) -> int:
        """Bytes of all files that were taken."""
        return sum(file.size for file in self._files)

    def copy(self, into: Path, tell: Tell) -> list[SnapshotFile]:
        """Write what was taken below a folder. SnapshotError if a file was cut since."""
        copied, done, total = [], 0, self.size
        for file in self._files:
            target = into / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            sha256 = write(_chunks(file), target)
            copied.append(SnapshotFile(file.path, file.size, sha256, file.modified_ns))
            done += file.size
            tell(share(done, total))
        return copied

    def close(self) -> None:
        """Let go of all files."""
        for file in self._files:
            if isinstance(file.content, int):
                os.close(file.content)
        self._files = []


def _captured(path: Path, name: str) -> Captured:
    descriptor = os.open(path, os.O_RDONLY)
    state = os.fstat(descriptor)
    if state.st_size > SMALL:
        return Captured(name, state.st_size, state.st_mtime_ns, descriptor)
    with os.fdopen(descriptor, "rb") as file:
        return Captured(name, state.st_size, state.st_mtime_ns, file.read(state.st_size))


def _chunks(file: Captured) -> Iterator[bytes]:
    if isinstance(file.content, bytes):
        yield file.content
        return
    done = 0
    while done < file.size:
        chunk = os.pread(file.content, min(_CHUNK, file.size - done), done)
        if not chunk:
            raise SnapshotError(
                f"{file.path} was cut while it was copied: take the snapshot again."
            )
        done += len(chunk)
        yield chunk


def write(chunks: Iterable[bytes], target: Path) -> str:
    """Write a new file; its hexadecimal SHA-256."""
    sha256 = hashlib.sha256()
    with target.open("xb") as file:
        for chunk in chunks:
            sha256.update(chunk)
            file.write(chunk)
    return sha256.hexdigest()


def digest(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> Iterator[bytes]:
    """The bytes of a file, some at a time."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def share(done: int, total: int) -> str:
    """How many of so many bytes are done, in words."""
    return f"{done / 2**20:,.0f} of {total / 2**20:,.0f} MiB"


def allow_open_files(wanted: int) -> None:
    """Allow this process so many open files. SnapshotError if the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise SnapshotError(
            f"The snapshot has to hold {wanted:,} files open, and this user may open {hard:,}: "
            f"raise that with `ulimit -Hn {wanted}`."
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_room(folder: Path, wanted: int, settings: Settings) -> None:
    """Raise SnapshotError if so many bytes have no room; the home's disk keeps its reserve."""
    there = existing(folder)
    home = settings.podstream_home
    shared = home.exists() and there.stat().st_dev == home.stat().st_dev
    reserve = settings.disk_reserve if shared else 0
    free = shutil.disk_usage(there).free
    if free < wanted + reserve:
        raise SnapshotError(
            f"{wanted / 2**30:.1f} GiB are to be written to {folder}, which has "
            f"{free / 2**30:.1f} GiB left"
            + (f", {reserve / 2**30:.1f} of them DISK_RESERVE" if reserve else "")
            + ": free some, or choose another place."
        )
