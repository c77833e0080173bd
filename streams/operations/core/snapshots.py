"""What a snapshot of an instance is: its manifest, and which files of an instance belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import PurePosixPath

import msgspec

from topology.versions import beside

FORMAT = 1
MANIFEST = "manifest.json"
FILES = "files"
"""Folder of a snapshot, beside its manifest, that holds the files under their paths."""

KAFKA, MONGO, DELTA, CHECKPOINTS, VERSIONS, HOME = (
    "kafka",
    "mongo",
    "delta",
    "checkpoints",
    "versions",
    "home",
)
"""Parts of a snapshot, the first folder of each path. Those of a version beside the first are
`delta-v2`, `checkpoints-v2` and so on."""

DEMO_BEGAN = "demo_started_at"

_DIGITS = 20
"""Of the offset that the names of a Kafka segment's files begin with."""
_INDEXES = (".index", ".timeindex", ".txnindex")


class SnapshotError(RuntimeError):
    """A snapshot cannot be taken or restored; the message says what to do."""


class SnapshotFile(msgspec.Struct, frozen=True):
    """A file: its path below `files`, bytes, hexadecimal SHA-256, and Unix nanoseconds of its last
    change."""

    path: str
    size: int
    sha256: str
    modified_ns: int


class Manifest(msgspec.Struct, frozen=True):
    """What a snapshot says of itself."""

    format: int
    podstream: str
    """Version of the release that took it."""
    taken_at: datetime
    frozen_ms: int
    """How long the processes stood still for it; 0 if none ran."""
    settings: dict[str, int | str]
    """Those that what is in it was made with: it means nothing with others."""
    versions: list[str]
    """The versions beside the first, such as `v2`."""
    files: list[SnapshotFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class _Format(msgspec.Struct):
    format: int
    podstream: str


def encode(manifest: Manifest) -> bytes:
    """The manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode(text: bytes) -> Manifest:
    """The manifest in such bytes. SnapshotError if they are none, or of a format that is not known
    here, or if a path in it leads anywhere else than into a part of an instance."""
    try:
        said = msgspec.json.decode(text, type=_Format)
        if said.format != FORMAT:
            raise SnapshotError(
                f"The snapshot has format {said.format}, and this release reads format {FORMAT}: "
                f"restore it with release {said.podstream}, which took it."
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"{MANIFEST} is no snapshot's manifest: {error}.") from None
    _check_paths(manifest)
    return manifest


def parts(versions: Iterable[str]) -> set[str]:
    """The parts of a snapshot of an instance with such versions beside the first."""
    others = {beside(part, name) for part in (DELTA, CHECKPOINTS) for name in versions}
    return {KAFKA, MONGO, DELTA, CHECKPOINTS, VERSIONS, HOME} | others


def _check_paths(manifest: Manifest) -> None:
    known, seen = parts(manifest.versions), set[str]()
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if (
            path.is_absolute()
            or ".." in path.parts
            or len(path.parts) < 2
            or path.parts[0] not in known
            or str(path) != file.path
            or file.path in seen
        ):
            raise SnapshotError(f"{MANIFEST} names a file that no snapshot has: {file.path!r}.")
        seen.add(file.path)


def differing(taken: Mapping[str, int | str], here: Mapping[str, int | str]) -> str | None:
    """A sentence that says what to set, if settings here are not those of a snapshot."""
    others = {name: value for name, value in taken.items() if here.get(name) != value}
    if not others:
        return None
    shown = " ".join(f"{name.upper()}={value}" for name, value in sorted(others.items()))
    return (
        "What is in the snapshot was made with other settings than those here: set "
        f"{shown} for the restore and for every later start."
    )


def kept(part: str, folder: PurePosixPath, names: Iterable[str]) -> list[str]:
    """Which of the names in a folder of a part belong to a snapshot, in order.

    Left out is what its owner makes anew or throws away at its next start.
    """
    names = sorted(names)
    if part == KAFKA:
        return _kept_of_kafka(names)
    if part == MONGO:
        return []  # the database is read, not copied
    if part == HOME:
        return [name for name in names if name == DEMO_BEGAN]
    if part == VERSIONS and folder == PurePosixPath():
        return [name for name in names if name != "incoming"]
    return names


def _kept_of_kafka(names: list[str]) -> list[str]:
    """Not the lock, what is on its way out, or the indexes of the segment that is written.

    A broker allocates those at full length, writes to them in place, and makes them anew where they
    are missing. Everything else is appended to, or replaced whole under its name.
    """
    logs = [name for name in names if name.endswith(".log")]
    active = max((name[:_DIGITS] for name in logs), default="")
    written = {f"{active}{ending}" for ending in _INDEXES}
    return [
        name
        for name in names
        if name != ".lock" and name not in written and not name.endswith((".deleted", ".cleaned"))
    ]
