"""A version's code and processes on this machine: a copy of the code, and workers that run it.

The code is copied, so that what is edited afterwards changes no version that is there already. What
a version needs is told by its own code, in a process of its own: `podstream versions describe`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streams.cli.local.programs import version_programs
from streams.cli.local.supervise import Program
from streams.operations.core.versions import VersionError, VersionStage, stages_of
from topology.model import Graph
from topology.settings import Settings, home_of_environment

PACKAGES = ("schemas", "topology", "streams", "jobs", "dashboard")
"""The folders that are Podstream's code."""

ROOT = Path(__file__).parents[3]
_COMMAND = ("-m", "streams.cli.main")
_FRAME = " │╭╰╮╯─"
"""What errors of the command line are drawn in."""

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


@dataclass(frozen=True)
class Code:
    """A copy of code that is of no version yet: where it lies, whence it came, and its SHA-256."""

    folder: Path
    source: str
    digest: str


@dataclass(frozen=True)
class Description:
    """What a version's own code says of it."""

    database: str
    stages: tuple[VersionStage, ...]
    programs: tuple[Program, ...]


def folder_of(home: Path, name: str) -> Path:
    """Where the code of a version lies in a home."""
    return home / "versions" / name / "code"


def take_code(home: Path, wanted: str | None) -> Code:
    """Copy the code of a folder, or of a revision of the repository that this code is of; without
    either, this code as it is now. VersionError if there is no such thing."""
    into = home / "versions" / "incoming"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    folder = ROOT if wanted is None else Path(wanted).expanduser().absolute()
    if folder.is_dir():
        if missing := [name for name in PACKAGES[:3] if not (folder / name).is_dir()]:
            raise VersionError(f"{folder} is no copy of Podstream: it has no {missing[0]}/.")
        for name in PACKAGES:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, into / name, ignore=_LEFT_OUT)
        source = str(folder)
    else:
        source = _extract(str(wanted), into)
    return Code(into, source, _digest(into))


def _extract(revision: str, into: Path) -> str:
    """Copy the code of a revision, and give its full name."""

    def git(*arguments: str) -> bytes:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True)  # noqa: S607
        except FileNotFoundError:
            raise VersionError(f"{revision} is no folder, and there is no git to ask.") from None
        if done.returncode:
            raise VersionError(
                f"{revision} is neither a folder nor a revision: {done.stderr.decode().strip()}"
            )
        return done.stdout

    found = git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    commit = found.decode().strip()
    packed = git("archive", "--format=tar", commit, *PACKAGES)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(into, filter="data")
    return f"revision {commit[:12]}"


def _digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(_files(folder)):
        sha.update(f"{path.relative_to(folder)}\0".encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def keep(home: Path, code: Code, name: str) -> Path:
    """Let the copy be the code of a version; gives where it lies now."""
    folder = folder_of(home, name)
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.parent.mkdir(parents=True)
    return code.folder.rename(folder)


def drop_code(home: Path, name: str) -> None:
    """Remove the code of a version from this machine."""
    shutil.rmtree(folder_of(home, name).parent, ignore_errors=True)


# -- asking the code of a version ----------------------------------------------------------------


def run_in(folder: Path, name: str, *arguments: str) -> str:
    """What the command `podstream` of a version's code prints. VersionError if it fails."""
    # a home that is relative, such as the default, is so to our folder and not to that of the code
    home = str(home_of_environment())
    own = {"PYTHONPATH": str(folder), "PODSTREAM_VERSION": name, "PODSTREAM_HOME": home}
    environment = {**os.environ, **own}
    done = subprocess.run(
        [sys.executable, *_COMMAND, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        framed = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = [text for line in framed if (text := line.strip(_FRAME))]
        raise VersionError(
            f"`podstream {' '.join(arguments)}` of {folder} failed: {said[-1] if said else ''}"
        )
    return done.stdout


def describe(settings: Settings, graph: Graph) -> dict[str, Any]:
    """What this very code has to say of the version that it is started for, as JSON data."""
    return {
        "version": settings.podstream_version,
        "database": settings.mongodb_database,
        "stages": [asdict(stage) for stage in stages_of(graph)],
        "programs": [
            {**asdict(program), "directory": str(program.directory)}
            for program in version_programs(settings, graph)
        ],
    }


def ask(folder: Path, name: str) -> Description:
    """What a version's code says of it. VersionError for code that knows no versions: it would
    write what is live."""
    try:
        told = json.loads(run_in(folder, name, "versions", "describe"))
    except VersionError as error:
        raise VersionError(f"The code cannot run beside what is live: {error}") from None
    if told["version"] != name:
        raise VersionError(f"The code takes itself for {told['version'] or 'v1'}, not {name}.")
    return Description(
        told["database"],
        tuple(
            VersionStage(one["name"], one["group"], tuple(one["consumes"]))
            for one in told["stages"]
        ),
        tuple(
            Program(
                name=one["name"],
                argv=tuple(one["argv"]),
                directory=Path(one["directory"]),
                environment=one["environment"],
                stop_wait_s=one["stop_wait_s"],
                signal_group=one["signal_group"],
            )
            for one in told["programs"]
        ),
    )
